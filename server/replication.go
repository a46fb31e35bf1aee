package server

import (
	"context"
	"time"

	"github.com/stackforge/magnum/server/peer"
	"github.com/stackforge/magnum/server/raftlog"
	"github.com/stackforge/magnum/structs"
)

// replication is the log as the other parts see it: what only the leader can
// answer is asked of it, wherever it is.
type replication struct {
	*raftlog.Log
	peers *peer.Client // nil: this server stays alone
}

// askAgain is the pause before a leader that did not answer is asked again.
const askAgain = 50 * time.Millisecond

// ReadIndex returns an index that holds all that was committed before the call.
// It waits for a leader until ctx ends. Errors are CodeNoLeader.
func (r *replication) ReadIndex(ctx context.Context) (uint64, error) {
	for {
		changed := r.Changed()
		index, err := r.readIndex(ctx)
		if structs.CodeOf(err) != structs.CodeNoLeader && structs.CodeOf(err) != structs.CodeUnavailable {
			return index, err
		}
		select {
		case <-changed:
		case <-time.After(askAgain):
		case <-ctx.Done():
			return 0, err
		}
	}
}

func (r *replication) readIndex(ctx context.Context) (uint64, error) {
	leader, _ := r.Leader()
	if r.peers == nil || leader == "" || r.IsLeader() {
		return r.Log.ReadIndex(ctx)
	}
	ctx, cancel := peer.WhileLeads(ctx, r, leader)
	defer cancel()
	return r.peers.ReadIndex(ctx, leader)
}
