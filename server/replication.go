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
	log   *raftlog.Log
	peers *peer.Client // nil: this server stays alone
	calls sharedCalls  // of the leader's index
}

// IsLeader reports whether this server leads.
func (r *replication) IsLeader() bool { return r.log.IsLeader() }

// Alone reports whether this server is the cluster's only one.
func (r *replication) Alone() bool { return r.log.Alone() }

// Leader returns the leader's ID and address, "" while there is none.
func (r *replication) Leader() (id, addr string) { return r.log.Leader() }

// Changed returns a channel that is closed when there is another leader, or none any
// more.
func (r *replication) Changed() <-chan struct{} { return r.log.Changed() }

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

// leaderIndexWait is how long the leader may take to say its index.
const leaderIndexWait = time.Second

// LeaderIndex returns an index that holds all that any server acknowledged before
// the call, on the leader's word. It takes at most a second, and waits for no
// election. Errors are CodeNoLeader.
func (r *replication) LeaderIndex(ctx context.Context) (uint64, error) {
	if r.peers == nil || r.IsLeader() {
		return r.log.LeaderIndex(ctx)
	}
	return r.calls.join(ctx, r.askLeaderIndex)
}

// askLeaderIndex asks the leader, and its successor if it stops leading meanwhile.
func (r *replication) askLeaderIndex() (uint64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), leaderIndexWait) // whoever asked first may leave
	defer cancel()
	for {
		leader, _ := r.Leader()
		if leader == "" || r.IsLeader() {
			return r.log.LeaderIndex(ctx)
		}
		index, err := r.askLeader(ctx, leader)
		if now, _ := r.Leader(); err == nil || now == leader || ctx.Err() != nil {
			return index, err
		}
	}
}

func (r *replication) askLeader(ctx context.Context, leader string) (uint64, error) {
	ctx, cancel := peer.WhileLeads(ctx, r, leader)
	defer cancel()
	return r.peers.LeaderIndex(ctx, leader)
}

func (r *replication) readIndex(ctx context.Context) (uint64, error) {
	leader, _ := r.Leader()
	if r.peers == nil || leader == "" || r.IsLeader() {
		return r.log.ReadIndex(ctx)
	}
	ctx, cancel := peer.WhileLeads(ctx, r, leader)
	defer cancel()
	return r.peers.ReadIndex(ctx, leader)
}
