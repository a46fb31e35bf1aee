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

// Lead does what only the leader does with hosts: it watches who is alive, and
// acknowledges the polls of hosts with leases. The cluster's row has to have this
// server's HostLostAfter, or a longer one: conductor.InitCluster sees to that. It
// blocks until ctx ends.
func (d *Dispatch) Lead(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	d.mu.Lock()
	d.leases.marking = make(map[string]bool) // what was under way is in the state now, or never will be
	d.mu.Unlock()
	w := newWatch(max(d.config.HostLostAfter, d.lostAfter()), time.Now())
	g.Go(func() error { return d.watch(ctx, w) })
	g.Go(func() error { return d.acknowledge(ctx) })
	return g.Wait()
}

// watch marks hosts suspect and lost that are silent, and takes back at once
// those that are heard of again.
func (d *Dispatch) watch(ctx context.Context, w *watch) error {
	every := min(livenessTick, d.config.HostLostAfter/8)
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
			d.config.Logger.Warn("the leader stood still", "duration", stall)
			d.shift(stall)
			w.start = w.start.Add(stall)
		}
		last = now
		if w.lostAfter != d.config.HostLostAfter && now.Sub(w.start) > w.lostAfter {
			// All leases of earlier leaders are over.
			if _, err := conductor.Do(ctx, d.config.Conductor, conductor.SetHostLostAfter{HostLostAfter: d.config.HostLostAfter}); err != nil {
				d.config.Logger.Warn("host_lost_after could not be written", "error", err) // the next look tries again
			} else {
				w.lostAfter = d.config.HostLostAfter
			}
		}
		hosts := d.hosts()
		marks, ask := d.assess(w, now, hosts)
		d.mark(ctx, marks)
		d.force(ctx, drains.over(now, hosts))
		if len(ask) > 0 && !asking && now.Sub(asked) >= agreeTime {
			asking, asked = true, now
			asks.Go(func() error {
				if !d.agree(ctx, ask) {
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
		case <-d.wake:
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
func (d *Dispatch) lostAfter() time.Duration {
	if c := d.config.Store.Snapshot().Cluster(); c != nil {
		return c.HostLostAfter
	}
	return 0
}

// hosts returns all hosts.
func (d *Dispatch) hosts() []*structs.Host {
	var hosts []*structs.Host
	for r := range d.config.Store.Snapshot().List(structs.TableHosts, state.AllProjects, 0) {
		hosts = append(hosts, r.(*structs.Host))
	}
	return hosts
}

// assess has the watch look at all hosts. Those that are about to be marked are
// noted in the same instant, so that no poll of theirs is acknowledged before
// the mark is written; see lease.go.
func (d *Dispatch) assess(w *watch, now time.Time, hosts []*structs.Host) (marks []conductor.HostMark, ask []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	marks, ask = w.assess(now, hosts, d.pulses)
	for _, m := range marks {
		if m.State == structs.HostReady {
			continue
		}
		p := d.pulses[m.ID]
		p.found = now
		d.pulses[m.ID] = p
		d.leases.marking[m.ID] = true
	}
	return marks, ask
}

// mark writes the states. What can't be written is found again by the next
// look.
func (d *Dispatch) mark(ctx context.Context, marks []conductor.HostMark) {
	for len(marks) > 0 {
		n := min(len(marks), structs.MaxChanges/2)
		written, err := conductor.Do(ctx, d.config.Conductor, conductor.MarkHosts{Marks: marks[:n]})
		if err == nil {
			n = written // an entry may have had no room for all of them
		}
		d.marked(marks[:n], err)
		for _, m := range marks[:n] {
			switch {
			case err != nil:
				d.config.Logger.Warn("host's state could not be written", "host_id", m.ID, "state", m.State, "error", err)
			case m.State == structs.HostReady:
				d.config.Logger.Info("host is back", "host_id", m.ID)
			default:
				d.config.Logger.Warn("host is "+string(m.State), "host_id", m.ID, "reason", m.Reason)
			}
		}
		marks = marks[n:]
	}
}

// agree asks the other servers whether they, too, have not heard of the hosts.
func (d *Dispatch) agree(ctx context.Context, hostIDs []string) bool {
	if d.config.Agree == nil {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, agreeTime)
	defer cancel()
	return d.config.Agree(ctx, hostIDs)
}

// Silent returns which of the hosts this server has not heard of for
// HostLostAfter: its answer when the leader asks whether it agrees.
func (d *Dispatch) Silent(hostIDs []string) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var silent []string
	for _, id := range hostIDs {
		at := d.pulses[id].at
		if at.Before(d.born) {
			at = d.born // it can't know what was before
		}
		if time.Since(at) > d.config.HostLostAfter {
			silent = append(silent, id)
		}
	}
	return silent
}
