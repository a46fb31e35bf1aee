package dispatch

import (
	"context"
	"iter"
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

// readyWithin is how long the earlier placement of a workload that is drained away waits for
// the new one to become ready, once the new one runs and its StartTime is over.
const readyWithin = time.Minute

// moves holds the deadline of each move whose new placement has begun to run and is not ready
// yet, by the reference of that placement. A deadline runs on this leader's own monotonic
// clock, from when the leader first saw the new placement run.
type moves map[structs.Ref]*moveDeadline

type moveDeadline struct {
	at    time.Time
	moves bool // it was among the moving workloads of this look
}

// expired returns the moves whose deadline has passed. moving are all that go on.
func (m moves) expired(now time.Time, moving iter.Seq[structs.Workload]) []structs.Ref {
	var over []structs.Ref
	for w := range moving {
		e := m[w.Ref()]
		if e == nil {
			if w.Seen().Status != structs.ContainerRunning {
				continue // such as one whose image is pulled
			}
			e = &moveDeadline{at: now.Add(w.StartTime() + readyWithin)}
			m[w.Ref()] = e
		}
		e.moves = true
		if !now.Before(e.at) {
			over = append(over, w.Ref())
		}
	}
	for ref, e := range m {
		if !e.moves {
			delete(m, ref)
		}
		e.moves = false
	}
	return over
}

// endMoves ends the moves whose deadline has passed. The next look finds those again that are
// left.
func (l *liveness) endMoves(ctx context.Context, over []structs.Ref) {
	if len(over) == 0 {
		return
	}
	over = over[:min(len(over), structs.MaxChanges)]
	n, err := conductor.Do(ctx, l.config.Conductor, conductor.EndMoves{Refs: over})
	if err != nil {
		l.config.Logger.Warn("moves could not be ended", "error", err)
		return
	}
	for _, ref := range over[:n] {
		l.config.Logger.Info("moved workload is not ready in time: its earlier placement is removed", string(ref.Kind)+"_id", ref.ID,
			"epoch", ref.Epoch)
	}
}
