package server

import (
	"context"
	"time"

	"github.com/stackforge/magnum/server/peer"
	"github.com/stackforge/magnum/server/raftlog"
	"github.com/stackforge/magnum/structs"
)

// replication is the log as the other parts see it. It asks the leader, on whichever
// server it is, for what only the leader can answer.
type replication struct {
	log   *raftlog.Log
	peers *peer.Client // nil on a solo server
	calls sharedCalls  // of the leader's index
}

// IsLeader reports whether this server leads.
func (r *replication) IsLeader() bool { return r.log.IsLeader() }

// Alone reports whether this server is the cluster's only one.
func (r *replication) Alone() bool { return r.log.Alone() }

// Leader returns the leader's ID and address, "" while there is none.
func (r *replication) Leader() (id, addr string) { return r.log.Leader() }

// Changed returns a channel that is closed at the next change of the leader.
func (r *replication) Changed() <-chan struct{} { return r.log.Changed() }

// askAgain is the pause after a leader did not answer.
const askAgain = 50 * time.Millisecond

// ReadIndex returns an index that covers everything committed before the call. It waits
// for a leader until ctx ends. Errors are CodeNoLeader.
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

// leaderIndexWait bounds the leader's answer to LeaderIndex.
const leaderIndexWait = time.Second

// LeaderIndex returns an index that covers everything that any server acknowledged
// before the call, as the leader says. It takes at most a second and waits for no
// election. Errors are CodeNoLeader.
func (r *replication) LeaderIndex(ctx context.Context) (uint64, error) {
	if r.peers == nil || r.IsLeader() {
		return r.log.LeaderIndex(ctx)
	}
	return r.calls.join(ctx, r.askLeaderIndex)
}

// askLeaderIndex asks the leader, and its successor if the leader changes meanwhile.
func (r *replication) askLeaderIndex() (uint64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), leaderIndexWait) // not that of a caller, who may leave before the others
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
