package operator

import (
	"errors"
	"net/http"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/peer"
	"github.com/stackforge/magnum/server/rest/web"
	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/structs"
)

// mediaSnapshot is the media type of snapshot files.
const mediaSnapshot = "application/octet-stream"

// snapshots saves the state as a snapshot file, and restores it.
type snapshots struct {
	most    int64     // limit of a file, in bytes
	peers   web.Peers // nil: there are no other servers
	cluster interface{ IsLeader() bool }
	log     hclog.Logger
}

func (s snapshots) routes() []*web.Route {
	return []*web.Route{
		{Method: http.MethodGet, Path: "/operator/snapshot", Action: identity.OperatorSave, Handle: s.save, Args: web.Consistency,
			Summary: "The replicated state as a snapshot file, secrets included",
			Gives:   []wire.Answer{{Status: http.StatusOK, Media: mediaSnapshot}}},
		{Method: http.MethodPut, Path: "/operator/snapshot", Action: identity.OperatorRestore, Handle: s.restore,
			Args: []wire.Arg{{Name: "keep_cluster_id", Kind: wire.ArgBool,
				Doc: "Keep this cluster's own id instead of the snapshot's."}},
			Summary: "Replace the replicated state by that of a snapshot file", TakesMedia: mediaSnapshot, Streams: true,
			Gives: web.OK(structs.RestoredBody{})},
	}
}

// save answers with the present state.
func (s snapshots) save(q *web.Request) error {
	if err := q.Service.Await(q.Context(), &q.Call); err != nil {
		return err
	}
	op, err := q.Service.Operators().Servers()
	if err != nil {
		return err
	}
	snap := q.Service.Snapshot()
	if snap.Cluster() == nil {
		return structs.Errorf(structs.CodeUnavailable, "this server has no state yet: try again in a second")
	}
	q.W.Index, q.W.Parked = snap.Index(), true
	h := q.W.Header()
	h.Set("Content-Type", mediaSnapshot)
	h.Set("Cache-Control", "no-store")
	q.W.WriteHeader(http.StatusOK)
	if err := op.Save(q.W, snap); err != nil {
		// The response has begun, so only its being cut off shows the failure.
		s.log.Warn("snapshot could not be sent", "request_id", q.W.RequestID, "error", err)
		panic(http.ErrAbortHandler)
	}
	return nil
}

// restore has the leader replace the state by that of the body. Another server relays the
// whole request to the leader while it comes in, once.
func (s snapshots) restore(q *web.Request) error {
	op, err := q.Service.Operators().Servers()
	if err != nil {
		return q.CloseOnError(err)
	}
	if q.R.ContentLength > s.most {
		return q.CloseOnError(s.errTooLarge())
	}
	leader := q.Service.Operators().AwaitLeader(q.Context(), func(id string) bool { return id != "" })
	switch {
	case s.cluster.IsLeader():
	case leader == "":
		return q.CloseOnError(structs.Errorf(structs.CodeNoLeader, "nothing was restored: %w", q.Service.Leaderless()))
	case q.Call.Forwarded || s.peers == nil:
		return q.CloseOnError(structs.Errorf(structs.CodeNoLeader,
			"there is no leader at the moment, and nothing was restored: try again in a second"))
	default:
		r := q.R.Clone(q.Context())
		r.Header.Set(peer.HeaderPeer, op.PeerSecret())
		return s.peers.Relay(q.W, r, leader)
	}
	q.W.Parked = true
	restored, err := op.Restore(q.Context(), http.MaxBytesReader(q.W, q.R.Body, s.most), q.Query.Bool("keep_cluster_id", false))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return q.CloseOnError(s.errTooLarge())
	case err != nil:
		return q.CloseOnError(err)
	}
	return q.JSON(http.StatusOK, restored)
}

func (s snapshots) errTooLarge() error {
	return structs.Errorf(structs.CodeTooLarge, "the snapshot is larger than %d bytes", s.most)
}
