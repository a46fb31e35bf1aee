package server

import (
	"context"
	"slices"
	"time"

	"github.com/stackforge/magnum/server/raftlog"
)

// handOverIfDiskFull hands leadership over while this leader's disk is nearly full, to a
// server that has room: the leader is the one that refuses writes for want of
// it, so that without this the smallest disk would stop the cluster.
func (l *leaderLoops) handOverIfDiskFull(ctx context.Context) error {
	tick := time.NewTicker(spaceTick)
	defer tick.Stop()
	for {
		if l.space.room() != nil {
			if to := l.voterWithSpace(ctx); to != "" {
				l.log.Warn("the disk is nearly full: leadership is handed over to a server that has room", "server_id", to)
				if err := l.raft.Transfer(ctx, to); err != nil && ctx.Err() == nil {
					l.log.Warn("leadership was not handed over", "server_id", to, "error", err)
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

// voterWithSpace returns the voter with room whose log is longest, "" if nobody has room.
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
