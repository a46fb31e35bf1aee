package rest

import (
	"crypto/subtle"
	"net/http"

	"github.com/stackforge/magnum/server/admission"
	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/peer"
	"github.com/stackforge/magnum/structs"
)

// peerRoutes are what servers ask of each other. They aren't in the document:
// they belong to one version of the servers.
func peerRoutes() []*route {
	post := func(path string, action identity.Action, handle func(*request) error) *route {
		return &route{method: http.MethodPost, path: "/peer/" + path, action: action, handle: handle, takes: struct{}{}}
	}
	return []*route{
		post("read-index", identity.PeerCall, peerReadIndex),
		post("heard", identity.PeerCall, peerHeard),
		post("silent", identity.PeerCall, peerSilent),
		post("offers", identity.PeerCall, peerOffer),
		post("progress", identity.PeerCall, peerProgress),
		// They are asked before there is a secret: identity tells no more than gossip
		// does, and of a grant the member looks at the proof.
		post("identity", identity.Public, peerIdentity),
		post("grant", identity.Public, peerGrant),
	}
}

// admitPeer finds out whether another server makes the request: for itself, or
// for a client of its own. Whoever else pretends to is refused.
func (q *request) admitPeer() error {
	proof := q.r.Header.Get(peer.HeaderPeer)
	if proof == "" {
		return nil
	}
	if err := q.fromServer(); err != nil {
		return err
	}
	secret := q.Member.Secret()
	if secret == "" {
		return structs.Errorf(structs.CodeNoLeader, "this server has no state yet")
	}
	if subtle.ConstantTimeCompare([]byte(proof), []byte(secret)) != 1 {
		return structs.Errorf(structs.CodeForbidden, "only servers of this cluster may ask that")
	}
	q.forwarded = true
	if id := q.r.Header.Get(peer.HeaderAsked); id != "" {
		q.w.requestID = id
	}
	return q.prove(admission.Peer, "")
}

// fromServer refuses a call of other servers that is none's, as far as TLS can
// tell, or that is meant for another one. Who has the secret is looked at by the
// caller: with TLS it alone is not enough, for it is in snapshots and on disks.
func (q *request) fromServer() error {
	switch {
	case q.Member == nil:
		return structs.Errorf(structs.CodeForbidden, "this server has no others beside it")
	case !q.Member.FromServer(q.r.TLS):
		return structs.Errorf(structs.CodeForbidden, "only a server may ask that: one with a certificate of this CA for servers")
	}
	q.w.Header().Set(peer.HeaderServer, q.Member.ID())
	if meant := q.r.Header.Get(peer.HeaderServer); meant != "" && meant != q.Member.ID() {
		return structs.Errorf(structs.CodeNoLeader, "this is server %s, not %.64s", q.Member.ID(), meant)
	}
	return nil
}

func peerReadIndex(q *request) error {
	var body structs.PeerReadIndex
	if err := q.decodeAgent(&body); err != nil {
		return err
	}
	ask := q.Member.ReadIndex
	if body.Leased {
		ask = q.Member.LeaderIndex
	}
	index, err := ask(q.r.Context())
	if err != nil {
		return err
	}
	return q.json(http.StatusOK, structs.PeerIndex{Index: index})
}

func peerHeard(q *request) error {
	var body structs.PeerHeard
	if err := q.decodeAgent(&body); err != nil {
		return err
	}
	acknowledged, err := q.Member.Heard(q.r.Context(), body.Hosts)
	if err != nil {
		return err
	}
	return q.json(http.StatusOK, acknowledged)
}

func peerSilent(q *request) error {
	var body structs.PeerSilent
	if err := q.decodeAgent(&body); err != nil {
		return err
	}
	return q.json(http.StatusOK, structs.PeerSilent{Hosts: q.Member.Silent(body.Hosts)})
}

func peerOffer(q *request) error {
	var body structs.PeerOffer
	if err := q.decodeAgent(&body); err != nil {
		return err
	}
	q.Member.Offer(body.HostID, body.Offer)
	return q.json(http.StatusOK, struct{}{})
}

func peerProgress(q *request) error { return q.json(http.StatusOK, q.Member.Progress()) }

func peerIdentity(q *request) error {
	if err := q.fromServer(); err != nil {
		return err
	}
	var body structs.PeerChallenge
	if err := q.decodeAgent(&body); err != nil {
		return err
	}
	if n := len(body.Nonce); n < structs.MinNonce || n > structs.MaxNonce {
		return structs.Errorf(structs.CodeInvalid, "nonce: %d characters are not in %d..%d", n, structs.MinNonce, structs.MaxNonce)
	}
	return q.json(http.StatusOK, q.Member.Identity(body.Nonce))
}

func peerGrant(q *request) error {
	if err := q.fromServer(); err != nil {
		return err
	}
	var body structs.PeerGrant
	if err := q.decodeAgent(&body); err != nil {
		return err
	}
	if err := q.Member.Grant(q.r.Header.Get(peer.HeaderProof), body); err != nil {
		return err
	}
	return q.json(http.StatusOK, struct{}{})
}
