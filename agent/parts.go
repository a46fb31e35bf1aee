package agent

import (
	"cmp"
	"slices"
	"strings"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/structs"
)

// part is one container of a workload.
type part struct {
	name string // "" if it is the workload itself
	spec *structs.ContainerSpec
}

// partsFunc returns the parts of a workload of one kind: at least one, and the same for
// all assignments of an epoch. It makes an assignment without them Unreadable.
type partsFunc func(a *structs.Assignment) []part

// kindsOf returns the kinds of workloads that the agent can run with a backend. Assignments
// of others are Unreadable.
func kindsOf(b any) map[structs.WorkloadKind]partsFunc {
	kinds := map[structs.WorkloadKind]partsFunc{
		structs.WorkloadContainer: func(a *structs.Assignment) []part { return []part{{spec: a.Spec}} },
	}
	if _, ok := b.(backend.Pods); ok {
		kinds[structs.WorkloadPod] = podParts
	}
	return kinds
}

// keyOf returns the key of a unit: all placements of a container share one unit.
func keyOf(ref structs.Ref) structs.Ref {
	ref.Epoch = 0
	return ref
}

// keysOf returns the keys and values of a log line about a placement, followed by more.
func keysOf(ref structs.Ref, more ...any) []any {
	keys := []any{string(ref.Kind) + "_id", ref.ID}
	if ref.Part != "" {
		keys = append(keys, "part", ref.Part)
	}
	return append(keys, more...)
}

// assignLocked takes over an assignment. Each part of the workload gets its own copy of
// it, with the part's spec.
func (r *reconciler) assignLocked(a structs.Assignment) {
	whole := keyOf(a.Ref())
	delete(r.unknown, whole)
	var parts []part
	if of := r.kinds[whole.Kind]; of == nil {
		a.Unreadable = cmp.Or(a.Unreadable, "this agent can't run workloads of kind "+string(whole.Kind))
	} else if whole.Kind == structs.WorkloadContainer || a.Unreadable == "" {
		parts = of(&a)
	}
	// strays are parts that the workload no longer has, or of which nothing is known. They
	// are removed with the workload.
	var strays []*unit
	names := make([]string, 0, len(parts))
	for _, p := range parts {
		names = append(names, p.name)
	}
	for _, u := range r.units.siblings(whole) {
		if slices.Contains(names, u.ref.Part) {
			continue
		}
		if strays = append(strays, u); a.Unreadable != "" || a.Desired == structs.DesiredAbsent {
			parts = append(parts, part{name: u.ref.Part})
		}
	}
	switch {
	case len(parts) > 0:
	case a.Desired == structs.DesiredAbsent && whole.Kind == structs.WorkloadPod && r.pods != nil:
		parts = append(parts, part{name: structs.PodInfra}) // volumes may be left
	default:
		reportUnknownLocked(r, a)
		return
	}
	names = names[:0]
	for _, p := range parts {
		names = append(names, p.name)
	}
	for _, p := range parts {
		ref, mine := whole, a
		ref.Part, mine.Spec = p.name, p.spec
		if p.name != "" {
			mine.EngineID = "" // the servers know one ID for each part at most
		}
		r.wantLocked(r.units.ensure(ref), mine, names)
	}
	for _, u := range strays {
		if !slices.Contains(names, u.ref.Part) && !u.orphan {
			r.orphanLocked(u)
		}
	}
}

// reportUnknownLocked reports a workload whose parts the agent doesn't know, and of which the
// engine has none: that it is gone, or why it can't run. While it is not known what the
// engine has, that waits.
func reportUnknownLocked(r *reconciler, a structs.Assignment) {
	whole := keyOf(a.Ref())
	if !r.verified {
		r.unknown[whole] = a
		return
	}
	if a.Desired != structs.DesiredAbsent {
		reason := "its host can't run it: " + a.Unreadable + "; upgrade the agent, or delete the " + string(whole.Kind)
		r.observer.observe(report{Ref: a.Ref(), Observed: structs.Observed{Status: structs.ContainerError, Reason: reason,
			Generation: a.Generation, Failed: true}}, nil)
		return
	}
	r.observer.observe(report{Ref: a.Ref(), Observed: structs.Observed{Status: structs.ContainerGone, Generation: a.Generation}},
		func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			if len(r.units.siblings(whole)) == 0 { // else something newer is reported
				r.observer.forget(whole)
			}
		})
}

// wantLocked gives a unit its copy of an assignment.
func (r *reconciler) wantLocked(u *unit, a structs.Assignment, names []string) {
	old, orphan := u.want, u.orphan
	u.want, u.orphan, u.names = &a, false, names
	if old != nil && !orphan && old.Epoch == a.Epoch && old.Generation == a.Generation && old.Desired == a.Desired &&
		old.Force == a.Force && old.Unreadable == a.Unreadable {
		return
	}
	u.resetBackoffLocked()
	if u.interrupt != nil {
		u.interrupt(a)
	}
	r.kickLocked(u)
}

// orphanLocked has a unit removed that no assignment names.
func (r *reconciler) orphanLocked(u *unit) {
	a := structs.Assignment{Desired: structs.DesiredAbsent, StopTimeout: structs.DefaultStopTimeout}
	if u.want != nil {
		a = *u.want
		a.Desired, a.Force = structs.DesiredAbsent, false
	}
	for epoch := range u.epochs() {
		a.Epoch = max(a.Epoch, epoch)
	}
	r.log.Warn("container is no longer assigned to the host and is removed", keysOf(u.ref, "epoch", a.Epoch)...)
	u.want, u.orphan = &a, true
	if u.interrupt != nil {
		u.interrupt(a)
	}
	r.kickLocked(u)
}

// report is an observation of one placement of a workload.
type report struct {
	structs.Ref // of the whole workload
	structs.Observed
	Refused bool // see structs.ContainerReport
	// parts are the observations that the report sums up, in the order of the workload's
	// parts; nil for a container.
	parts []seenPart
}

// seenPart is an observation of one part of a workload.
type seenPart struct {
	name string
	structs.Observed
	podShown
}

// reportLocked reports a workload of several parts, unless one of them has not been
// observed yet.
func (r *reconciler) reportLocked(u *unit) {
	if u.want == nil || u.orphan {
		return
	}
	all := report{Ref: u.at(u.want.Epoch).Whole(), Refused: true}
	var taken []func()
	for _, name := range u.names {
		ref := u.ref
		ref.Part = name
		seen := seenPart{name: name, Observed: structs.Observed{Status: structs.ContainerCreating}}
		s := r.units.of(ref)
		if u.isPod() {
			seen.state = structs.PartState{State: structs.PartWaiting, Reason: structs.ReasonCreating}
		}
		switch {
		case s != nil && s.reported.epoch == u.want.Epoch:
			seen.Observed, seen.podShown = s.reported.Observed, s.shown
			// Without its infra container nothing of a pod can be created.
			all.Refused = all.Refused && (s.refused || u.isPod() && !s.isInfra() && len(s.epochs()) == 0)
			if s.taken != nil {
				taken = append(taken, s.taken)
			}
		case s == nil && u.want.Desired == structs.DesiredAbsent:
			// A server knows that the part is gone.
			seen.Status, seen.Generation = structs.ContainerGone, u.want.Generation
			taken = append(taken, func() {})
		case u.want.Desired == structs.DesiredAbsent, u.want.Observed > 0, r.journal.generation(s, u.want.Epoch) > 0:
			return // an earlier instance of the agent may have reported the part; its pass comes
		default:
			all.Refused = all.Refused && u.isPod() && name != structs.PodInfra
		}
		all.parts = append(all.parts, seen)
	}
	if u.isPod() {
		all.sumUpPod()
	} else {
		all.Observed = whole(all.parts)
	}
	if all.Status != structs.ContainerGone {
		r.observer.observe(all, nil)
		return
	}
	for _, s := range r.units.siblings(u.ref) {
		if s.epochs()[u.want.Epoch] {
			return // a part that the workload no longer has: its removal kicks the others
		}
	}
	if len(taken) < len(all.parts) {
		r.observer.observe(all, nil)
		return
	}
	r.observer.observe(all, func() {
		for _, f := range taken {
			f()
		}
	})
}

// generation returns the journal's generation of a unit's placement; 0 if u is nil.
func (j *journal) generation(u *unit, epoch uint64) uint64 {
	if u == nil {
		return 0
	}
	rec, _ := j.record(u.at(epoch))
	return rec.Generation
}

// whole sums up the observations of a workload's parts. A generation is carried out, and
// the workload gone, once that holds for each part. The workload runs while any part runs,
// and has the faults of all parts.
func whole(parts []seenPart) structs.Observed {
	all := parts[0].Observed
	all.Status, all.Failed, all.Reason, all.EngineID, all.ExitCode = "", false, "", "", nil
	all.RestartCount, all.Memory, all.MilliCPU, all.Addresses, all.Ports = 0, 0, 0, nil, nil
	var reasons []string
	for _, p := range parts {
		all.Generation = min(all.Generation, p.Generation)
		all.Failed = all.Failed || p.Failed
		all.RestartCount += p.RestartCount
		all.Memory, all.MilliCPU = all.Memory+p.Memory, all.MilliCPU+p.MilliCPU
		all.Addresses, all.Ports = append(all.Addresses, p.Addresses...), append(all.Ports, p.Ports...)
		if p.StartedAt.After(all.StartedAt) {
			all.StartedAt = p.StartedAt
		}
		if p.FinishedAt.After(all.FinishedAt) {
			all.FinishedAt = p.FinishedAt
		}
		if rankOf(healths, p.Health) < rankOf(healths, all.Health) {
			all.Health = p.Health
		}
		status := p.Status
		if status == structs.ContainerGone && slices.ContainsFunc(parts, func(o seenPart) bool { return o.Status != status }) {
			status = structs.ContainerError // one of several is missing
		}
		if rankOf(statuses, status) < rankOf(statuses, all.Status) {
			all.Status = status
		}
		if p.Reason != "" {
			reasons = append(reasons, p.name+": "+p.Reason)
		}
	}
	all.Reason = strings.Join(reasons, "; ")
	return all
}

// The order of precedence: a workload has the first value that any of its parts has.
var (
	statuses = []structs.ContainerStatus{structs.ContainerError, structs.ContainerUnknown, structs.ContainerCreating,
		structs.ContainerRunning, structs.ContainerPaused, structs.ContainerStopped, structs.ContainerGone}
	healths = []string{"unhealthy", "starting", "healthy"}
)

func rankOf[T comparable](words []T, w T) int {
	if i := slices.Index(words, w); i >= 0 {
		return i
	}
	return len(words)
}
