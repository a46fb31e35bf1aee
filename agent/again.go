package agent

import (
	"context"
	"errors"
	"time"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/structs"
)

// againPause is the pause between two looks for a process that is to run again.
const againPause = 100 * time.Millisecond

// runsAgain waits until a container whose process has ended runs again, and returns true
// then. A user may have asked for that, as in a reboot, or the restart policy does. A
// container of a pod never does: each restart is another container.
// false: the process has ended for good, or ctx has.
func (r *reconciler) runsAgain(ctx context.Context, ref structs.Ref) bool {
	tick := time.NewTicker(againPause)
	defer tick.Stop()
	for {
		runs, comes := r.comesAgain(ctx, ref)
		if runs || !comes {
			return runs
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
	}
}

// comesAgain reports whether the container runs, and if not, whether it is to be started.
func (r *reconciler) comesAgain(ctx context.Context, ref structs.Ref) (runs, comes bool) {
	r.mu.Lock()
	u := r.units.of(ref)
	if u == nil || u.isPod() || u.want == nil || u.want.Epoch != ref.Epoch || u.have[ref.Epoch] == "" {
		r.mu.Unlock()
		return false, false
	}
	t, engineID := &task{journal: r.journal, unit: u, want: *u.want, assigned: true}, u.have[ref.Epoch]
	r.mu.Unlock()
	if t.want.Desired != structs.DesiredRunning {
		return false, false
	}
	// Read before the container is inspected: a start in between shows in one of the two.
	t.rec, _ = r.journal.record(ref)
	var err error
	t.cur, err = r.backend.Inspect(ctx, engineID)
	switch {
	case errors.Is(err, backend.ErrAway):
		return false, true
	case err != nil:
		return false, false
	case t.cur.Live():
		return true, true
	}
	// A refused start is tried again, too, but may never succeed: the log ends there.
	return false, t.rec.Generation < t.want.Generation && t.starting() || t.interrupted() || t.restarts() && !t.rec.Failed
}
