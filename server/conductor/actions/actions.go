// Package actions records what callers have done to an object, beside its row: who, for
// which project, by which request, and with which result. The conductor calls it while it
// decides a request. It keeps the last structs.MaxActions of each object.
package actions

import (
	"slices"

	"github.com/stackforge/magnum/server/conductor/scratch"
	"github.com/stackforge/magnum/structs"
)

// Created notes in the row of a new object which request has made it. The row is not
// written yet. Containers, pods, rcs and services note it themselves.
func Created(t *scratch.Tx, caller structs.Caller, row structs.Row) {
	if !extended(t) {
		return
	}
	switch r := row.(type) {
	case *structs.Bay:
		r.Request = caller.RequestID
	case *structs.BayModel:
		r.Request = caller.RequestID
	case *structs.Node:
		r.Request = caller.RequestID
	}
}

// extended reports whether all servers know the actions of all objects.
func extended(t *scratch.Tx) bool { return t.Base.Cluster().SchemaInUse() >= structs.SchemaActions }

// Note records that the caller has acted on an object. was is the object before the
// action. generation is the one that carries it out, 0 if no host takes part. The action
// replaces those that are still pending.
func Note(t *scratch.Tx, caller structs.Caller, action string, was structs.Row, generation uint64) {
	beside := structs.BesideOf(was)
	_, workload := was.(structs.Workload)
	if beside == "" || !workload && !extended(t) {
		return
	}
	var next structs.Actions
	if old := scratch.Row[structs.Actions](t, beside); old != nil {
		next = *old
		next.List = slices.Clone(old.List)
	} else {
		// The creation has no row of its own until the first action.
		next.Meta = t.Meta(structs.Caller{ProjectID: was.Base().ProjectID, UserID: was.Base().UserID}, beside)
		next.List = []structs.ActionRecord{structs.CreationOf(was)}
	}
	done := structs.ActionRecord{
		Action: action, UserID: caller.UserID, RequestID: caller.RequestID, StartedAt: t.Now, Generation: generation,
		Result: structs.ActionPending,
	}
	if extended(t) {
		if caller.ProjectID != was.Base().ProjectID {
			done.ProjectID = caller.ProjectID
		}
		if caller.Service != nil {
			done.ServiceID = caller.Service.UserID
		}
	}
	if generation == 0 {
		if last := next.List[len(next.List)-1]; caller.RequestID != "" && last.RequestID == caller.RequestID && last.Action == action {
			return // a server has repeated the request
		}
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

// Done reports whether this very request has already been carried out on the
// container. A server retries a request of unknown outcome, and a second execution would
// undo what others have done since.
func Done(t *scratch.Tx, caller structs.Caller, c *structs.Container) bool {
	done := scratch.Row[structs.Actions](t, c.ID)
	return done != nil && caller.RequestID != "" && slices.ContainsFunc(done.List,
		func(r structs.ActionRecord) bool { return r.RequestID == caller.RequestID })
}

// End records the results of the actions that the workload's host has completed.
func End(t *scratch.Tx, w structs.Workload) {
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
