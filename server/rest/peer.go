package rest

import (
	"net/http"

	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/peer"
	"github.com/stackforge/magnum/structs"
)

// peerCalls answers what servers ask of each other. Its routes aren't in the document:
// they belong to one version of the servers.
type peerCalls struct{ member member }

func (p peerCalls) routes() []*route {
	post := func(path string, action identity.Action, handle func(*request) error) *route {
		return &route{method: http.MethodPost, path: "/peer/" + path, action: action, handle: handle, takes: struct{}{}}
	}
	return []*route{
		post("read-index", identity.PeerCall, p.readIndex),
		post("heard", identity.PeerCall, p.heard),
		post("silent", identity.PeerCall, p.silent),
		post("offers", identity.PeerCall, p.offer),
		post("progress", identity.PeerCall, p.progress),
		// They are asked before there is a secret: identity tells no more than gossip
		// does, and of a grant the member looks at the proof.
		post("identity", identity.Public, p.identity),
		post("grant", identity.Public, p.grant),
	}
}

func (p peerCalls) readIndex(q *request) error {
	var body structs.PeerReadIndex
	if err := q.decodeLenient(&body); err != nil {
		return err
	}
	ask := p.member.ReadIndex
	if body.Leased {
		ask = p.member.LeaderIndex
	}
	index, err := ask(q.ctx())
	if err != nil {
		return err
	}
	return q.json(http.StatusOK, structs.PeerIndex{Index: index})
}

func (p peerCalls) heard(q *request) error {
	var body structs.PeerHeard
	if err := q.decodeLenient(&body); err != nil {
		return err
	}
	acknowledged, err := p.member.Heard(q.ctx(), body.Hosts)
	if err != nil {
		return err
	}
	return q.json(http.StatusOK, acknowledged)
}

func (p peerCalls) silent(q *request) error {
	var body structs.PeerSilent
	if err := q.decodeLenient(&body); err != nil {
		return err
	}
	return q.json(http.StatusOK, structs.PeerSilent{Hosts: p.member.Silent(body.Hosts)})
}

func (p peerCalls) offer(q *request) error {
	var body structs.PeerOffer
	if err := q.decodeLenient(&body); err != nil {
		return err
	}
	p.member.Offer(body.HostID, body.Offer)
	return q.json(http.StatusOK, struct{}{})
}

func (p peerCalls) progress(q *request) error { return q.json(http.StatusOK, p.member.Progress()) }

func (p peerCalls) identity(q *request) error {
	if err := q.fromServer(); err != nil {
		return err
	}
	var body structs.PeerChallenge
	if err := q.decodeLenient(&body); err != nil {
		return err
	}
	if n := len(body.Nonce); n < structs.MinNonce || n > structs.MaxNonce {
		return structs.Errorf(structs.CodeInvalid, "nonce: %d characters are not in %d..%d", n, structs.MinNonce, structs.MaxNonce)
	}
	return q.json(http.StatusOK, p.member.Identity(body.Nonce))
}

func (p peerCalls) grant(q *request) error {
	if err := q.fromServer(); err != nil {
		return err
	}
	var body structs.PeerGrant
	if err := q.decodeLenient(&body); err != nil {
		return err
	}
	if err := p.member.Grant(q.r.Header.Get(peer.HeaderProof), body); err != nil {
		return err
	}
	return q.json(http.StatusOK, struct{}{})
}
