package conductor

import (
	"slices"

	"github.com/stackforge/magnum/structs"
)

// actionsID returns the ID of the row with the workload's actions.
func actionsID(w structs.Workload) string {
	ref := w.Ref()
	if ref.Kind == structs.WorkloadContainer {
		return ref.ID
	}
	return string(ref.Kind) + "/" + ref.ID
}

// noteAction records that the caller has acted on a workload. was is the workload before
// the action. generation is the one that carries it out, 0 if no host takes part. The
// action replaces those that are still pending.
func noteAction(t *tx, caller structs.Caller, action string, was structs.Workload, generation uint64) {
	var next structs.Actions
	if old := row[structs.Actions](t, actionsID(was)); old != nil {
		next = *old
		next.List = slices.Clone(old.List)
	} else {
		// The creation has no row of its own until the first action.
		next.Meta = t.meta(structs.Caller{ProjectID: was.Base().ProjectID, UserID: was.Base().UserID}, actionsID(was))
		next.List = []structs.ActionRecord{structs.CreationOf(was)}
	}
	done := structs.ActionRecord{
		Action: action, UserID: caller.UserID, RequestID: caller.RequestID, StartedAt: t.now, Generation: generation,
		Result: structs.ActionPending,
	}
	if generation == 0 {
		done.FinishedAt, done.Result = t.now, structs.ActionSucceeded
	} else {
		for i := range next.List {
			if r := &next.List[i]; r.Result == structs.ActionPending {
				r.FinishedAt, r.Result = t.now, structs.ActionReplaced
			}
		}
	}
	if next.List = append(next.List, done); len(next.List) > structs.MaxActions {
		next.List = next.List[len(next.List)-structs.MaxActions:]
	}
	t.put(&next)
}

// alreadyDone reports whether this very request has already been carried out on the
// container. A server retries a request of unknown outcome, and a second execution would
// undo what others have done since.
func alreadyDone(t *tx, caller structs.Caller, c *structs.Container) bool {
	done := row[structs.Actions](t, c.ID)
	return done != nil && caller.RequestID != "" && slices.ContainsFunc(done.List,
		func(r structs.ActionRecord) bool { return r.RequestID == caller.RequestID })
}

// endActions records the results of the actions that the workload's host has completed.
func endActions(t *tx, w structs.Workload) {
	old, seen := row[structs.Actions](t, actionsID(w)), w.Seen()
	if old == nil || !slices.ContainsFunc(old.List, func(r structs.ActionRecord) bool { return ends(&seen, &r) }) {
		return
	}
	next := *old
	next.List = slices.Clone(old.List)
	for i := range next.List {
		r := &next.List[i]
		if !ends(&seen, r) {
			continue
		}
		r.FinishedAt, r.Result = t.now, structs.ActionSucceeded
		if seen.Failed && r.Generation == seen.Generation {
			r.Result, r.Message = structs.ActionFailed, seen.Reason
		}
	}
	t.put(&next)
}

func ends(seen *structs.Seen, r *structs.ActionRecord) bool {
	return r.Result == structs.ActionPending && r.Generation <= seen.Generation
}
