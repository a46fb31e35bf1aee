package web

import (
	"crypto/subtle"
	"strconv"

	"github.com/stackforge/magnum/server/admission"
	"github.com/stackforge/magnum/server/peer"
	"github.com/stackforge/magnum/structs"
)

// admitPeer finds out whether another server makes the request: for itself, or
// for a client of its own. Whoever else pretends to is refused.
func (q *Request) admitPeer() error {
	proof := q.R.Header.Get(peer.HeaderPeer)
	if proof == "" {
		return nil
	}
	if err := q.FromServer(); err != nil {
		return err
	}
	secret := q.server.config.Member.Secret()
	if secret == "" {
		return structs.Errorf(structs.CodeNoLeader, "this server has no state yet")
	}
	if subtle.ConstantTimeCompare([]byte(proof), []byte(secret)) != 1 {
		return structs.Errorf(structs.CodeForbidden, "only servers of this cluster may ask that")
	}
	q.Call.Forwarded, q.Call.Seed = true, q.R.Header.Get(peer.HeaderSeed)
	if unsure := q.R.Header.Get(peer.HeaderRetryAfterUnknown); unsure != "" {
		q.Call.RetryAfterUnknown = true
		q.Call.SinceIndex, _ = strconv.ParseUint(unsure, 10, 64) // 0 knows nothing
	}
	if id := q.R.Header.Get(peer.HeaderAsked); id != "" {
		q.W.RequestID, q.Call.RequestID = id, id
	}
	return q.Prove(admission.Peer, "")
}

// FromServer refuses a call of other servers that is none's, as far as TLS can
// tell, or that is meant for another one. Who has the secret is looked at by the
// caller: with TLS it alone is not enough, for it is in snapshots and on disks.
func (q *Request) FromServer() error {
	switch {
	case q.server.config.Member == nil:
		return structs.Errorf(structs.CodeForbidden, "this server has no others beside it")
	case !q.server.config.Member.FromServer(q.R.TLS):
		return structs.Errorf(structs.CodeForbidden, "only a server may ask that: one with a certificate of this CA for servers")
	}
	q.W.Header().Set(peer.HeaderServer, q.server.config.Member.ID())
	if meant := q.R.Header.Get(peer.HeaderServer); meant != "" && meant != q.server.config.Member.ID() {
		return structs.Errorf(structs.CodeNoLeader, "this is server %s, not %.64s", q.server.config.Member.ID(), meant)
	}
	return nil
}
