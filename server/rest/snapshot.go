package rest

import (
	"errors"
	"net/http"

	"github.com/stackforge/magnum/server/peer"
	"github.com/stackforge/magnum/structs"
)

// mediaSnapshot is the type of snapshot files.
const mediaSnapshot = "application/octet-stream"

// saveSnapshot answers with the state of this moment.
func saveSnapshot(q *request) error {
	if err := q.await(); err != nil {
		return err
	}
	op, err := q.operations()
	if err != nil {
		return err
	}
	snap := q.Store.Snapshot()
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
		q.Logger.Warn("a snapshot could not be sent", "request_id", q.w.requestID, "error", err)
		panic(http.ErrAbortHandler)
	}
	return nil
}

// restoreSnapshot has the leader replace the state by that of the body. Another
// server hands the whole request on as it comes, once.
func restoreSnapshot(q *request) error {
	op, err := q.operations()
	if err != nil {
		return q.unread(err)
	}
	if q.r.ContentLength > q.MaxSnapshot {
		return q.unread(q.errSnapshotTooLarge())
	}
	leader := q.awaitLeader(func(id string) bool { return id != "" })
	switch {
	case q.Cluster.IsLeader():
	case leader == "":
		return q.unread(structs.Errorf(structs.CodeNoLeader, "nothing was restored, for %w", q.errLeaderless()))
	case q.forwarded || q.Peers == nil:
		return q.unread(structs.Errorf(structs.CodeNoLeader, "there is no leader at the moment, and nothing was restored: try again in a second"))
	default:
		r := q.r.Clone(q.r.Context())
		r.Header.Set(peer.HeaderPeer, op.PeerSecret())
		return q.Peers.Relay(q.w, r, leader)
	}
	q.w.parked = true
	restored, err := op.Restore(q.r.Context(), http.MaxBytesReader(q.w, q.r.Body, q.MaxSnapshot), q.query.Bool("keep_cluster_id", false))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return q.unread(q.errSnapshotTooLarge())
	case err != nil:
		return q.unread(err)
	}
	return q.json(http.StatusOK, restored)
}

func (q *request) errSnapshotTooLarge() error {
	return structs.Errorf(structs.CodeTooLarge, "the snapshot is larger than %d bytes", q.MaxSnapshot)
}
