package agent

import (
	"context"
	"time"

	"github.com/stackforge/magnum/structs"
)

// This file finds the containers of pods for sessions.

// addressed returns the unit that a session's reference means, nil if there is none. That
// of a pod as a whole means its first container, init containers excepted.
func (us *units) addressed(ref structs.Ref) *unit {
	if ref.Kind == structs.WorkloadPod && ref.Part == "" {
		for _, u := range us.siblings(ref) {
			if u.want != nil && u.want.Pod != nil && u.want.Pod.Spec != nil && len(u.want.Pod.Spec.Containers) > 0 {
				ref.Part = u.want.Pod.Spec.Containers[0].Name
				break
			}
		}
	}
	return us.of(ref)
}

// previous returns the engine's ID of the attempt whose state is reported as the last; ""
// if the engine doesn't have it. rec is the record of the unit's placement.
func (u *unit) previous(rec record) string {
	have := u.have[rec.Epoch]
	if have != "" && have == rec.EngineID && u.shown.state.State == structs.PartWaiting && u.shown.last.State == structs.PartTerminated {
		return have // it has ended, and is about to be replaced
	}
	if _, there := u.claims[rec.Previous]; there || have != "" && have == rec.Previous {
		return rec.Previous
	}
	return ""
}

// nextAttempt waits until a container of a pod whose process has ended is followed by
// another one, and returns the engine's ID of that. "": there will be none, or ctx has
// ended.
func (r *reconciler) nextAttempt(ctx context.Context, ref structs.Ref, engineID string) string {
	tick := time.NewTicker(againPause)
	defer tick.Stop()
	for {
		r.mu.Lock()
		u := r.units.addressed(ref)
		over := u == nil || u.want == nil || u.want.Epoch != ref.Epoch || u.want.Desired == structs.DesiredAbsent ||
			u.reported.epoch == ref.Epoch && u.shown.state.State == structs.PartTerminated
		next := ""
		if u != nil {
			next = u.have[ref.Epoch]
		}
		r.mu.Unlock()
		switch {
		case next != "" && next != engineID:
			return next
		case over:
			return ""
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ""
		}
	}
}
