package agent

import (
	"cmp"
	"fmt"
	"time"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/podplan"
	"github.com/stackforge/magnum/structs"
)

// This file has what a task of a part of a pod knows of attempts. Each attempt is a
// container of its own, whose process is started once: the engine tells whether that has
// happened.

// role returns what the part is in its pod.
func (t *task) role() podplan.Role {
	switch {
	case t.unit.ref.Part == structs.PodInfra:
		return podplan.Infra
	case t.want.Pod != nil && t.want.Pod.Spec != nil:
		for i := range t.want.Pod.Spec.InitContainers {
			if t.want.Pod.Spec.InitContainers[i].Name == t.unit.ref.Part {
				return podplan.Init
			}
		}
	}
	return podplan.Main
}

// container returns the container of the manifest; nil for an infra container, and if the
// manifest is unknown.
func (t *task) container() *structs.PodContainer {
	if t.want.Pod == nil || t.want.Pod.Spec == nil {
		return nil
	}
	return containerOf(t.want.Pod.Spec, t.unit.ref.Part)
}

// image returns the image that the manifest names.
func (t *task) image() string {
	if t.want.Spec == nil {
		return ""
	}
	return t.want.Spec.Image
}

// adoptAttempt takes over what the engine has of the part. If the newest container is of an
// earlier attempt than the current one, it becomes prev.
func (t *task) adoptAttempt(now time.Time) error {
	rec := t.rec
	if t.cur != nil && t.cur.Attempt < rec.Attempt {
		t.prev, t.cur = t.cur, nil
	}
	c := t.cur
	switch {
	case c != nil:
		t.adoptContainer(&rec)
	case rec.Created && !rec.Began:
		rec.Created, rec.EngineID = false, "" // removed before it was started: it is created again
	case rec.Created && rec.Ended == nil:
		code := unknownCode
		rec.Ended = &structs.PartState{State: structs.PartTerminated, Reason: structs.ReasonGone, ExitCode: &code, FinishedAt: now.UTC(),
			Message: "its container was removed from the host, not by magnum"}
	}
	if rec == t.rec {
		return nil
	}
	t.rec = rec
	return t.save()
}

// unknownCode is the exit code of a process whose end nobody has seen, as in Kubernetes.
const unknownCode = killedExit

// adoptContainer takes over the container of the current attempt, or of a newer one than a
// journal that is damaged or lost knows.
func (t *task) adoptContainer(rec *record) {
	c := t.cur
	if c.Attempt > rec.Attempt {
		rec.attemptRecord = attemptRecord{Attempt: c.Attempt, Image: t.image(), Since: rec.Since, Expired: rec.Expired,
			Before: rec.Before + rec.Again}
		if t.prev != nil {
			rec.Previous, rec.Last = t.prev.EngineID, endOf(t.prev)
		}
	}
	rec.Created, rec.EngineID = true, c.EngineID
	rec.Infra = cmp.Or(c.Infra, rec.Infra)
	rec.Lease = t.want.Spec != nil && t.want.Spec.Exclusive == structs.ExclusiveLease
	if !t.known && t.want.Observed > rec.Generation {
		// The journal was lost; what was reported to the servers is still true.
		rec.Generation = min(t.want.Observed, t.want.Generation)
	}
	if c.StartedAt.IsZero() {
		return
	}
	if rec.Began = true; rec.Since.IsZero() && t.role() == podplan.Infra {
		rec.Since = c.StartedAt
	}
	if !rec.Run.IsZero() && !c.StartedAt.Equal(rec.Run) {
		startedAgain(rec, c)
	}
	rec.Run = c.StartedAt
	switch {
	case c.Live():
		rec.Ended = nil // somebody may have started it again
	case rec.Ended == nil || !rec.Ended.FinishedAt.Equal(c.FinishedAt),
		outOfMemory(c) && rec.Ended.Reason != structs.ReasonOOMKilled: // the engine tells of it after the end
		rec.Ended = endOf(c)
	}
}

// startedAgain takes note of a process that somebody else has started again, as docker restart
// does: it is a restart, although the attempt is the same.
func startedAgain(rec *record, c *backend.Container) {
	last := rec.Ended
	if last == nil { // nobody has seen that
		code := unknownCode
		last = &structs.PartState{State: structs.PartTerminated, Reason: structs.ReasonGone, ExitCode: &code, StartedAt: rec.Run,
			Message: "its process was restarted on its host, not by magnum"}
		if c.FinishedAt.After(rec.Run) && !c.FinishedAt.After(c.StartedAt) {
			last.FinishedAt = c.FinishedAt
		}
	}
	rec.Last, rec.Again = last, rec.Again+1
	rec.Hooked, rec.Up, rec.Ready = false, false, false
}

// endOf returns how the process of a container has ended; nil if it hasn't.
func endOf(c *backend.Container) *structs.PartState {
	if c.Live() || c.StartedAt.IsZero() {
		return nil
	}
	code := c.ExitCode
	s := &structs.PartState{State: structs.PartTerminated, ExitCode: &code, StartedAt: c.StartedAt, FinishedAt: c.FinishedAt}
	switch {
	case outOfMemory(c):
		s.Reason = structs.ReasonOOMKilled
		s.Message = "its process was killed because it needed more than its memory limit; raise resources.limits.memory"
	case code == 0:
		s.Reason = structs.ReasonCompleted
	case code > 128 && code < 128+65:
		s.Reason = structs.ReasonError
		s.Message = fmt.Sprintf("its process was ended by signal %d (exit code %d), not by magnum", code-128, code)
	default:
		s.Reason = structs.ReasonError
		s.Message = fmt.Sprintf("its process has ended with exit code %d; its logs may say why", code)
	}
	return s
}

// ending returns how the current attempt has ended, with why magnum has ended it; nil if it
// hasn't ended.
func (t *task) ending() *structs.PartState {
	if t.rec.Ended == nil {
		return nil
	}
	s := *t.rec.Ended
	lapsed := t.rec.Lapsed != nil && t.rec.Lapsed.StartedAt.Equal(s.StartedAt)
	if (t.rec.Halt != nil || lapsed) && s.Reason == structs.ReasonOOMKilled {
		s.Reason, s.Message = structs.ReasonError, "" // magnum has killed it: the memory was that of a child
	}
	if h := t.rec.Halt; h != nil {
		if h.Why == podplan.EndExpired {
			s.Reason = structs.ReasonDeadline
		}
		s.Message = cmp.Or(h.Message, s.Message)
	}
	if lapsed {
		s.Message = "it was stopped because its host could not reach the servers in time"
	}
	return &s
}

// begin records that the current attempt is about to be created: its container joins the
// infra container. renew: it is the next attempt.
func (t *task) begin(infra string, deaths int, renew bool, now time.Time) error {
	rec := t.rec
	next := attemptRecord{Attempt: max(rec.Attempt, 1), Image: t.image(), Infra: infra, Deaths: deaths,
		Last: rec.Last, Previous: rec.Previous, Since: rec.Since, Expired: rec.Expired, Before: rec.Before + rec.Again}
	if renew {
		next.Attempt++
		if end := t.ending(); end != nil {
			next.Last = end
		}
		next.Previous = ""
		if t.cur != nil {
			next.Previous = t.cur.EngineID
		}
		t.prev, t.cur = t.cur, nil
	}
	if next.Since.IsZero() && t.role() == podplan.Infra {
		next.Since = now.UTC()
	}
	rec.attemptRecord, rec.Created, rec.EngineID, rec.Lapsed = next, false, "", nil
	if rec == t.rec {
		return nil
	}
	t.rec = rec
	return t.save()
}

// halt records why magnum ends the process.
func (t *task) halt(why, message string) error {
	if t.rec.Halt != nil && t.rec.Halt.Why == why {
		return nil
	}
	t.rec.Halt = &halt{Why: why, Message: message}
	return t.save()
}

// cutOff says that an infra container that runs must be ended, because it has lost the network
// of the pod; "" if it hasn't. It would get another address than the pod's containers know, or
// has a network that they haven't joined.
func (t *task) cutOff() string {
	const next = "; the pod's containers are started again in another one"
	switch {
	case t.role() != podplan.Infra || t.cur == nil:
	case t.cur.Detached:
		return "it was ended because somebody has disconnected it from the project's network on its host" + next
	case t.rec.Again > 0:
		return "it was ended because somebody has restarted it on its host, and so has taken its network from the pod" + next
	}
	return ""
}

// planned returns what the plan needs to know of the part.
func (t *task) planned() podplan.Part {
	rec := &t.rec
	x := podplan.Part{
		Name: t.unit.ref.Part, Role: t.role(), Known: true, Image: t.image(),
		Attempt: rec.Attempt, Exists: t.cur != nil, ID: rec.EngineID, Made: rec.Image, Infra: rec.Infra,
		Started: rec.Began && (rec.Ended != nil || t.cur != nil && !t.cur.StartedAt.IsZero()), Deaths: rec.Deaths, Halted: rec.halted(),
	}
	if c := t.cur; c != nil {
		x.Live, x.StartedAt = c.Live(), c.StartedAt
		if len(c.Addresses) > 0 {
			x.Address = c.Addresses[0]
		}
		x.Halted = x.Halted || t.interrupted()
	}
	if e := rec.Ended; e != nil {
		x.ExitCode, x.StartedAt, x.FinishedAt = *cmp.Or(e.ExitCode, new(int)), e.StartedAt, e.FinishedAt
		if e.Reason == structs.ReasonStartError {
			x.StartedAt = x.FinishedAt // it has not run at all
		}
	}
	return x
}
