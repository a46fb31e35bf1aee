package dispatch

import (
	"context"
	"time"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/structs"
)

// drains holds the deadline of each drain, by host. A deadline runs on this leader's own
// monotonic clock, from when the leader first saw the drain.
type drains map[string]drainDeadline

type drainDeadline struct {
	until time.Time // Host.DrainUntil, which identifies the drain
	at    time.Time // the deadline
}

// expired returns the drains whose deadline has passed.
func (d drains) expired(now time.Time, hosts []*structs.Host) []conductor.ForceDrain {
	var out []conductor.ForceDrain
	waits := make(map[string]bool)
	for _, h := range hosts {
		if !h.Draining || h.DrainForce || h.DrainTimeout == 0 {
			continue
		}
		waits[h.ID] = true
		e, known := d[h.ID]
		if !known || !e.until.Equal(h.DrainUntil) {
			e = drainDeadline{until: h.DrainUntil, at: now.Add(h.DrainTimeout)}
			d[h.ID] = e
		}
		if !now.Before(e.at) {
			out = append(out, conductor.ForceDrain{ID: h.ID, Until: h.DrainUntil})
		}
	}
	for id := range d {
		if !waits[id] {
			delete(d, id)
		}
	}
	return out
}

// forceDrains forces the drains whose deadline has passed.
func (l *liveness) forceDrains(ctx context.Context, over []conductor.ForceDrain) {
	for _, f := range over {
		if _, err := conductor.Do(ctx, l.config.Conductor, f); err != nil {
			l.config.Logger.Warn("drain could not be forced", "host_id", f.ID, "error", err)
			continue
		}
		l.config.Logger.Info("drain's deadline has passed: remaining workloads are stopped", "host_id", f.ID)
	}
}
