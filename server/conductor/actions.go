package conductor

import (
	"slices"

	"github.com/stackforge/magnum/server/conductor/scratch"
	"github.com/stackforge/magnum/structs"
)

// noteAction records that the caller has acted on a workload. was is the workload before
// the action. generation is the one that carries it out, 0 if no host takes part. The
// action replaces those that are still pending.
func noteAction(t *scratch.Tx, caller structs.Caller, action string, was structs.Workload, generation uint64) {
	var next structs.Actions
	if old := scratch.Row[structs.Actions](t, was.Ref().BesideID()); old != nil {
		next = *old
		next.List = slices.Clone(old.List)
	} else {
		// The creation has no row of its own until the first action.
		next.Meta = t.Meta(structs.Caller{ProjectID: was.Base().ProjectID, UserID: was.Base().UserID}, was.Ref().BesideID())
		next.List = []structs.ActionRecord{structs.CreationOf(was)}
	}
	done := structs.ActionRecord{
		Action: action, UserID: caller.UserID, RequestID: caller.RequestID, StartedAt: t.Now, Generation: generation,
		Result: structs.ActionPending,
	}
	if generation == 0 {
		done.FinishedAt, done.Result = t.Now, structs.ActionSucceeded
	} else {
		for i := range next.List {
			if r := &next.List[i]; r.Result == structs.ActionPending {
				r.FinishedAt, r.Result = t.Now, structs.ActionReplaced
			}
		}
	}
	if next.List = append(next.List, done); len(next.List) > structs.MaxActions {
		next.List = next.List[len(next.List)-structs.MaxActions:]
	}
	t.Put(&next)
}

// alreadyDone reports whether this very request has already been carried out on the
// container. A server retries a request of unknown outcome, and a second execution would
// undo what others have done since.
func alreadyDone(t *scratch.Tx, caller structs.Caller, c *structs.Container) bool {
	done := scratch.Row[structs.Actions](t, c.ID)
	return done != nil && caller.RequestID != "" && slices.ContainsFunc(done.List,
		func(r structs.ActionRecord) bool { return r.RequestID == caller.RequestID })
}

// endActions records the results of the actions that the workload's host has completed.
func endActions(t *scratch.Tx, w structs.Workload) {
	old, seen := scratch.Row[structs.Actions](t, w.Ref().BesideID()), w.Seen()
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
		r.FinishedAt, r.Result = t.Now, structs.ActionSucceeded
		if seen.Failed && r.Generation == seen.Generation {
			r.Result, r.Message = structs.ActionFailed, seen.Reason
		}
	}
	t.Put(&next)
}

func ends(seen *structs.Seen, r *structs.ActionRecord) bool {
	return r.Result == structs.ActionPending && r.Generation <= seen.Generation
}
