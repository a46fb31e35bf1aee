package dispatch

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// livenessTick is how often the leader looks for silent hosts, at most.
const livenessTick = 500 * time.Millisecond

// liveness does what only the leader does with hosts: it marks those that are silent,
// acknowledges polls, and ends the patience of drains.
type liveness struct {
	config     *Config
	heartbeats *heartbeats
}

// lead does all of it until ctx ends; see Dispatch.Lead.
func (l *liveness) lead(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	l.heartbeats.forgetMarking()
	w := newWatch(max(l.config.HostLostAfter, l.lostAfter()), time.Now())
	g.Go(func() error { return l.watch(ctx, w) })
	g.Go(func() error { return l.acknowledgePolls(ctx) })
	return g.Wait()
}

// watch marks hosts suspect and lost that are silent, and takes back at once
// those that are heard of again.
func (l *liveness) watch(ctx context.Context, w *watch) error {
	every := min(livenessTick, l.config.HostLostAfter/8)
	tick := time.NewTicker(every)
	defer tick.Stop()
	agreed := make(chan []string, 1)
	asking, asked := false, time.Time{}
	var asks errgroup.Group
	defer asks.Wait()
	drains := make(drains)
	for last := w.start; ; {
		now := time.Now()
		if stall := now.Sub(last) - every; stall > livenessTick {
			// It was this process that did not run, so it heard nobody. The
			// hosts have not been silent for that time.
			l.config.Logger.Warn("the leader stood still", "duration", stall)
			l.heartbeats.shift(stall)
			w.start = w.start.Add(stall)
		}
		last = now
		if w.lostAfter != l.config.HostLostAfter && now.Sub(w.start) > w.lostAfter {
			// All leases of earlier leaders are over.
			if _, err := conductor.Do(ctx, l.config.Conductor, conductor.SetHostLostAfter{HostLostAfter: l.config.HostLostAfter}); err != nil {
				l.config.Logger.Warn("host_lost_after could not be written", "error", err) // the next look tries again
			} else {
				w.lostAfter = l.config.HostLostAfter
			}
		}
		hosts := l.hosts()
		marks, ask := l.heartbeats.assess(w, now, hosts)
		l.mark(ctx, marks)
		l.force(ctx, drains.over(now, hosts))
		if len(ask) > 0 && !asking && now.Sub(asked) >= agreeTime {
			asking, asked = true, now
			asks.Go(func() error {
				if !l.agree(ctx, ask) {
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
				w.agreed[id] = true
			}
		}
	}
}

// lostAfter returns the longest silence by which an earlier leader may have
// reckoned leases that last, 0 if there was none.
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

// mark writes the states. What can't be written is found again by the next
// look.
func (l *liveness) mark(ctx context.Context, marks []conductor.HostMark) {
	for len(marks) > 0 {
		n := min(len(marks), structs.MaxChanges/2)
		written, err := conductor.Do(ctx, l.config.Conductor, conductor.MarkHosts{Marks: marks[:n]})
		if err == nil {
			n = written // an entry may have had no room for all of them
		}
		l.heartbeats.marked(marks[:n], err)
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

// agree asks the other servers whether they, too, have not heard of the hosts.
func (l *liveness) agree(ctx context.Context, hostIDs []string) bool {
	if l.config.Agree == nil {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, agreeTime)
	defer cancel()
	return l.config.Agree(ctx, hostIDs)
}
