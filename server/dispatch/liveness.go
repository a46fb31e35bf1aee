package dispatch

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// livenessTick is the longest time between two assessments of the hosts.
const livenessTick = 500 * time.Millisecond

// liveness is the leader's work on hosts: it marks silent hosts, acknowledges polls, forces
// drains whose deadline has passed, and ends moves that have had their time.
type liveness struct {
	config     *Config
	heartbeats *heartbeats
}

// lead runs the leader's loops until ctx ends; see Dispatch.Lead.
func (l *liveness) lead(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	l.heartbeats.clearMarking()
	rules := newSilenceRules(max(l.config.HostLostAfter, l.lostAfter()), time.Now())
	g.Go(func() error { return l.monitor(ctx, rules) })
	g.Go(func() error { return l.acknowledgePolls(ctx) })
	return g.Wait()
}

// monitor marks silent hosts suspect and lost, and marks a host ready as soon as a
// heartbeat of it comes.
func (l *liveness) monitor(ctx context.Context, rules *silenceRules) error {
	every := min(livenessTick, l.config.HostLostAfter/8)
	tick := time.NewTicker(every)
	defer tick.Stop()
	agreed := make(chan []string, 1)
	asking, asked := false, time.Time{}
	var asks errgroup.Group
	defer asks.Wait()
	drains, moves := make(drains), make(moves)
	for last := rules.start; ; {
		now := time.Now()
		if stall := now.Sub(last) - every; stall > livenessTick {
			// This process did not run, so it received no heartbeats. The hosts were not
			// silent for that time.
			l.config.Logger.Warn("the leader's process stood still", "duration", stall)
			l.heartbeats.shift(stall)
			rules.start = rules.start.Add(stall)
		}
		last = now
		if rules.lostAfter != l.config.HostLostAfter && now.Sub(rules.start) > rules.lostAfter {
			// All leases of earlier leaders have ended.
			if _, err := conductor.Do(ctx, l.config.Conductor,
				conductor.SetHostLostAfter{HostLostAfter: l.config.HostLostAfter}); err != nil {
				l.config.Logger.Warn("host_lost_after could not be written", "error", err) // the next look tries again
			} else {
				rules.lostAfter = l.config.HostLostAfter
			}
		}
		hosts := l.hosts()
		marks, ask := l.heartbeats.assess(rules, now, hosts)
		l.mark(ctx, marks)
		l.forceDrains(ctx, drains.expired(now, hosts))
		l.endMoves(ctx, moves.expired(now, state.Moving(l.config.Store.Snapshot())))
		if len(ask) > 0 && !asking && now.Sub(asked) >= agreeTime {
			asking, asked = true, now
			asks.Go(func() error {
				if !l.othersAgree(ctx, ask) {
					ask = nil
				}
				agreed <- ask
				return nil
			})
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-l.heartbeats.wake:
		case ids := <-agreed:
			asking = false
			for _, id := range ids {
				rules.agreed[id] = true
			}
		}
	}
}

// lostAfter returns the longest host_lost_after by which an earlier leader may have given
// leases that still run; 0 if there was no earlier leader.
func (l *liveness) lostAfter() time.Duration {
	if c := l.config.Store.Snapshot().Cluster(); c != nil {
		return c.HostLostAfter
	}
	return 0
}

// hosts returns all hosts.
func (l *liveness) hosts() []*structs.Host {
	var hosts []*structs.Host
	for r := range l.config.Store.Snapshot().List(structs.TableHosts, state.AllProjects, 0) {
		hosts = append(hosts, r.(*structs.Host))
	}
	return hosts
}

// mark writes the states. A mark that can't be written is found again by the next
// assessment.
func (l *liveness) mark(ctx context.Context, marks []conductor.HostMark) {
	for len(marks) > 0 {
		n := min(len(marks), structs.MaxChanges/2)
		written, err := conductor.Do(ctx, l.config.Conductor, conductor.MarkHosts{Marks: marks[:n]})
		if err == nil {
			n = written // the entry had no room for the rest
		}
		l.heartbeats.marksWritten(marks[:n], err)
		for _, m := range marks[:n] {
			switch {
			case err != nil:
				l.config.Logger.Warn("host's state could not be written", "host_id", m.ID, "state", m.State, "error", err)
			case m.State == structs.HostReady:
				l.config.Logger.Info("host is back", "host_id", m.ID)
			default:
				l.config.Logger.Warn("host is "+string(m.State), "host_id", m.ID, "reason", m.Reason)
			}
		}
		marks = marks[n:]
	}
}

// othersAgree asks the other servers whether they have not seen the hosts either.
func (l *liveness) othersAgree(ctx context.Context, hostIDs []string) bool {
	if l.config.Agree == nil {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, agreeTime)
	defer cancel()
	return l.config.Agree(ctx, hostIDs)
}
