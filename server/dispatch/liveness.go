package dispatch

import (
	"context"
	"fmt"
	"time"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// livenessTick is how often the leader looks for silent hosts.
const livenessTick = 500 * time.Millisecond

// Lead watches the hosts while this server leads: one that was silent for
// HostLostAfter is marked lost. Every host begins with a full grace, because an
// earlier leader may have heard of it a moment ago. It blocks until ctx ends.
func (d *Dispatch) Lead(ctx context.Context) error {
	start := time.Now()
	tick := time.NewTicker(livenessTick)
	defer tick.Stop()
	last := start
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now := time.Now()
		if stall := now.Sub(last) - livenessTick; stall > livenessTick {
			// It was this process that did not run, so it heard nobody. The
			// hosts have not been silent for that time.
			d.Logger.Warn("the leader stood still", "duration", stall)
			d.shift(stall)
			start = start.Add(stall)
		}
		last = now
		for _, lost := range d.silent(now, start) {
			reason := fmt.Sprintf("its agent has not been heard of for %v", d.HostLostAfter)
			_, err := conductor.Do(ctx, d.Conductor, conductor.MarkHost{ID: lost.ID, State: structs.HostLost, Reason: reason})
			if err != nil {
				d.Logger.Warn("host could not be marked lost", "host_id", lost.ID, "error", err)
				continue
			}
			d.Logger.Warn("host is lost", "host_id", lost.ID, "name", lost.Name, "silent", d.HostLostAfter)
		}
	}
}

// shift moves all hosts' last sign of life forward.
func (d *Dispatch) shift(by time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id, t := range d.seen {
		d.seen[id] = t.Add(by)
	}
}

// silent returns the ready hosts that were not heard of for too long.
func (d *Dispatch) silent(now, start time.Time) []*structs.Host {
	hosts := d.Store.Snapshot().List(structs.TableHosts, state.AllProjects, 0)
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []*structs.Host
	for r := range hosts {
		h := r.(*structs.Host)
		seen := d.seen[h.ID]
		if seen.Before(start) {
			seen = start
		}
		if h.State == structs.HostReady && now.Sub(seen) > d.HostLostAfter {
			out = append(out, h)
		}
	}
	return out
}
