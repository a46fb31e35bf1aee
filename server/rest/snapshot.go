package rest

import (
	"errors"
	"net/http"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/peer"
	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/structs"
)

// mediaSnapshot is the type of snapshot files.
const mediaSnapshot = "application/octet-stream"

// snapshots answers with the state as a file, and takes such files.
type snapshots struct {
	most    int64 // bytes of a file
	peers   peers // nil: there are no other servers
	cluster interface{ IsLeader() bool }
	log     hclog.Logger
}

func (s snapshots) routes() []*route {
	return []*route{
		{method: http.MethodGet, path: "/operator/snapshot", action: identity.OperatorSave, handle: s.save, args: consistency, summary: "The replicated state as a snapshot file, secrets included",
			gives: []wire.Answer{{Status: http.StatusOK, Media: mediaSnapshot}}},
		{method: http.MethodPut, path: "/operator/snapshot", action: identity.OperatorRestore, handle: s.restore,
			args:    []wire.Arg{{Name: "keep_cluster_id", Kind: wire.ArgBool, Doc: "Keep this cluster's own id instead of the snapshot's."}},
			summary: "Replace the replicated state by that of a snapshot file", takesMedia: mediaSnapshot, streams: true, gives: ok(structs.RestoredBody{})},
	}
}

// save answers with the state of this moment.
func (s snapshots) save(q *request) error {
	if err := q.service.Await(q.ctx(), &q.call); err != nil {
		return err
	}
	op, err := q.service.Operators.Servers()
	if err != nil {
		return err
	}
	snap := q.service.Snapshot()
	if snap.Cluster() == nil {
		return structs.Errorf(structs.CodeUnavailable, "this server has no state yet: try again in a second")
	}
	q.w.index, q.w.parked = snap.Index(), true
	h := q.w.Header()
	h.Set("Content-Type", mediaSnapshot)
	h.Set("Cache-Control", "no-store")
	q.w.WriteHeader(http.StatusOK)
	if err := op.Save(q.w, snap); err != nil {
		// The answer has begun: that it is cut off is how the client can tell.
		s.log.Warn("a snapshot could not be sent", "request_id", q.w.requestID, "error", err)
		panic(http.ErrAbortHandler)
	}
	return nil
}

// restore has the leader replace the state by that of the body. Another
// server hands the whole request on as it comes, once.
func (s snapshots) restore(q *request) error {
	op, err := q.service.Operators.Servers()
	if err != nil {
		return q.unread(err)
	}
	if q.r.ContentLength > s.most {
		return q.unread(s.errTooLarge())
	}
	leader := q.service.Operators.AwaitLeader(q.ctx(), func(id string) bool { return id != "" })
	switch {
	case s.cluster.IsLeader():
	case leader == "":
		return q.unread(structs.Errorf(structs.CodeNoLeader, "nothing was restored, for %w", q.service.Leaderless()))
	case q.call.Forwarded || s.peers == nil:
		return q.unread(structs.Errorf(structs.CodeNoLeader, "there is no leader at the moment, and nothing was restored: try again in a second"))
	default:
		r := q.r.Clone(q.ctx())
		r.Header.Set(peer.HeaderPeer, op.PeerSecret())
		return s.peers.Relay(q.w, r, leader)
	}
	q.w.parked = true
	restored, err := op.Restore(q.ctx(), http.MaxBytesReader(q.w, q.r.Body, s.most), q.query.Bool("keep_cluster_id", false))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return q.unread(s.errTooLarge())
	case err != nil:
		return q.unread(err)
	}
	return q.json(http.StatusOK, restored)
}

func (s snapshots) errTooLarge() error {
	return structs.Errorf(structs.CodeTooLarge, "the snapshot is larger than %d bytes", s.most)
}
