package web

import (
	"crypto/subtle"
	"strconv"

	"github.com/stackforge/magnum/server/admission"
	"github.com/stackforge/magnum/server/peer"
	"github.com/stackforge/magnum/structs"
)

// admitPeer checks whether another server made the request, for itself or for a client.
// It refuses a request that wrongly claims so. Errors: CodeForbidden, CodeNoLeader, and
// those of Prove.
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
	if retry := q.R.Header.Get(peer.HeaderRetryAfterUnknown); retry != "" {
		q.Call.RetryAfterUnknown = true
		q.Call.SinceIndex, _ = strconv.ParseUint(retry, 10, 64) // 0 means unknown
	}
	if id := q.R.Header.Get(peer.HeaderAsked); id != "" {
		q.W.RequestID, q.Call.RequestID = id, id
	}
	return q.Prove(admission.Peer, "")
}

// FromServer refuses a request that, by its TLS certificate, is not from a server, or
// that is meant for another server. Its caller checks the peer secret. With TLS the
// secret alone is not enough, because it is in snapshots and on disks. Errors:
// CodeForbidden, CodeNoLeader.
func (q *Request) FromServer() error {
	switch {
	case q.server.config.Member == nil:
		return structs.Errorf(structs.CodeForbidden, "this server is the only one and takes no requests of other servers")
	case !q.server.config.Member.FromServer(q.R.TLS):
		return structs.Errorf(structs.CodeForbidden, "only a server may ask this: use a server's certificate of this CA")
	}
	q.W.Header().Set(peer.HeaderServer, q.server.config.Member.ID())
	if meant := q.R.Header.Get(peer.HeaderServer); meant != "" && meant != q.server.config.Member.ID() {
		return structs.Errorf(structs.CodeNoLeader, "this is server %s, not %.64s", q.server.config.Member.ID(), meant)
	}
	return nil
}
