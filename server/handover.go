package server

import (
	"context"
	"slices"
	"time"

	"github.com/stackforge/magnum/server/raftlog"
)

// handOverIfDiskFull transfers leadership to a voter with disk space while this
// leader's disk is nearly full. The leader is the server that refuses writes, so
// otherwise the smallest disk would stop the cluster.
func (l *leaderLoops) handOverIfDiskFull(ctx context.Context) error {
	tick := time.NewTicker(spaceTick)
	defer tick.Stop()
	for {
		if l.space.room() != nil {
			if to := l.voterWithSpace(ctx); to != "" {
				l.log.Warn("the disk is nearly full: transferring leadership to a server with space", "server_id", to)
				if err := l.raft.Transfer(ctx, to); err != nil && ctx.Err() == nil {
					l.log.Warn("leadership was not transferred", "server_id", to, "error", err)
				}
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// voterWithSpace returns the voter with disk space whose log is longest, "" if none has
// space.
func (l *leaderLoops) voterWithSpace(ctx context.Context) (to string) {
	peers, err := l.raft.Peers()
	if err != nil {
		return "" // shutting down
	}
	others := slices.DeleteFunc(peers, func(p raftlog.Peer) bool { return !p.Voter || p.ID == l.id })
	var longest uint64
	for id, at := range l.servers.progress(ctx, others) {
		if !at.Short && at.LastIndex >= longest {
			to, longest = id, at.LastIndex
		}
	}
	return to
}
