package agent

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/podplan"
	"github.com/stackforge/magnum/structs"
)

// podShown is what a report has of a part of a pod beside what it has of any part. See
// structs.PartReport.
type podShown struct {
	state, last    structs.PartState
	ready, started bool
	refused        bool // see structs.ContainerReport
	imageID        string
}

// describe completes an observation of a part of a pod. The observation's reason is what
// the pass has to say; "" if only the state tells.
func (p *podPass) describe(o structs.Observed) (structs.Observed, podShown) {
	if !p.looked {
		p.r.mu.Lock()
		defer p.r.mu.Unlock()
		return o, p.u.shown
	}
	t := p.task
	said := o.Reason
	s := podShown{refused: p.pass.refuses}
	if t.rec.Last != nil {
		s.last = *t.rec.Last
	}
	end := t.ending()
	if t.cur != nil {
		s.imageID = t.cur.ImageID
		if end == nil {
			end = endOf(t.cur)
		}
	}
	begun := t.rec.Began || t.rec.Attempt > 1
	o.RestartCount, o.ExitCode = max(int(t.rec.Attempt), 1)-1+t.rec.Before+t.rec.Again, nil
	if o.StartedAt.IsZero() && end != nil {
		o.StartedAt = end.StartedAt
	}
	if p.u.isInfra() && begun {
		o.StartedAt = t.rec.Since
	}
	switch {
	case o.Status == structs.ContainerGone && end != nil:
		s.state = *end
	case o.Status == structs.ContainerGone:
		s.state = neverSeen(structs.ReasonGone, "it was removed with its pod")
	case t.cur == nil && t.want.Desired == structs.DesiredAbsent: // what it leaves is still to be removed
		o.Status = structs.ContainerStopped
		s.state = neverSeen(structs.ReasonGone, said)
	case t.cur != nil && t.cur.Live():
		o.Status = structs.ContainerRunning
		s.state = structs.PartState{State: structs.PartRunning, StartedAt: t.cur.StartedAt, Message: said}
		s.started, s.ready = p.checked()
		if p.step.Step == podplan.End && p.step.Reason == podplan.EndInfra {
			s.ready = false
			said = cmp.Or(said, "it has no network, because the pod's infra container has ended; it is started again in another one")
			s.state.Message = said
		}
		if t.cur.State == backend.StatePaused {
			s.ready = false
			o.Reason = cmp.Or(said, "it was paused on its host by somebody else; unpause it to go on")
			s.state.Message = o.Reason
		} else if o.Reason = cmp.Or(said, p.unready()); s.state.Message == "" {
			s.state.Message = o.Reason
		}
	case p.step.Step == podplan.Rest && !o.Failed:
		o.Status, s.state = structs.ContainerStopped, p.rest(end)
		o.ExitCode, o.FinishedAt, o.Reason = s.state.ExitCode, s.state.FinishedAt, s.state.Message
		if p.u.isInfra() {
			o.Reason = ""
		}
	default:
		if end != nil {
			s.last = *end
		}
		s.state = p.waiting(said, end)
		if s.state.Message != "" && (said != "" || s.state.Reason == structs.ReasonCrashLoop) {
			o.Reason = s.state.Reason + ": " + s.state.Message
		}
		switch {
		case o.Failed:
			o.Status = structs.ContainerError
		case begun:
			o.Status = structs.ContainerRunning // it will be again
		default:
			o.Status = structs.ContainerCreating
		}
	}
	return o, s
}

// neverSeen is the state of a part that is over, and of which no process has been seen to end.
// As in Kubernetes, it has an exit code nevertheless.
func neverSeen(reason, message string) structs.PartState {
	code := unknownCode
	return structs.PartState{State: structs.PartTerminated, Reason: reason, Message: message, ExitCode: &code}
}

// rest returns the state of a part that has ended for good, or will never run.
func (p *podPass) rest(end *structs.PartState) structs.PartState {
	switch {
	case end != nil:
		return *end
	case p.expired:
		s := neverSeen(structs.ReasonDeadline, p.expiry())
		if last := p.task.rec.Last; last != nil { // the attempt that it waited for was never started
			s.ExitCode, s.StartedAt, s.FinishedAt = last.ExitCode, last.StartedAt, last.FinishedAt
		}
		return s
	case p.task.want.Desired != structs.DesiredRunning || p.u.isInfra():
		return structs.PartState{State: structs.PartWaiting, Reason: structs.ReasonCreating}
	case p.step.Reason == structs.ReasonInitializing:
		return structs.PartState{State: structs.PartWaiting, Reason: structs.ReasonInitializing,
			Message: "it is not started, because an init container has failed"}
	}
	// An init container of which only its success is known.
	return structs.PartState{State: structs.PartTerminated, Reason: structs.ReasonCompleted, ExitCode: new(int)}
}

// waiting returns the state of a part that is to run, or to run again.
func (p *podPass) waiting(said string, end *structs.PartState) structs.PartState {
	s := structs.PartState{State: structs.PartWaiting, Reason: structs.ReasonCreating, Message: said}
	p.r.mu.Lock()
	word, tries := p.u.word, p.u.tries
	p.r.mu.Unlock()
	switch {
	case word == structs.ReasonImagePull && tries > 1:
		s.Reason = structs.ReasonImagePullBackOff
	case word != "":
		s.Reason = word
	case p.task.rec.Failed && p.task.rec.Generation == p.task.want.Generation:
		if s.Reason = structs.ReasonCreateError; p.task.cur != nil {
			s.Reason = structs.ReasonRunError
		}
	case said != "":
	case p.step.Step == podplan.Wait && p.step.Reason == structs.ReasonCrashLoop:
		s.Reason = structs.ReasonCrashLoop
		s.Message = fmt.Sprintf("%s; it is started again %s after that", endText(end), p.step.Pause)
	case p.step.Step == podplan.Wait && p.step.Reason == structs.ReasonInitializing:
		s.Reason, s.Message = structs.ReasonInitializing, "it waits for the init containers"
	case p.step.Step == podplan.Wait && !p.u.isInfra():
		s.Message = "it waits for the pod's infra container, which has the network"
	}
	return s
}

// endText says how a process has ended.
func endText(end *structs.PartState) string {
	if end == nil || end.Message == "" {
		return "its process has ended"
	}
	return end.Message
}

// sumUpPod sums up the parts of a pod. Its address, ports and start are those of the infra
// container, which also says whether the host can't run it. A part that is gone while
// others aren't is only the first to be removed.
func (r *report) sumUpPod() {
	seen := slices.Clone(r.parts)
	left := slices.ContainsFunc(seen, func(s seenPart) bool { return s.Status != structs.ContainerGone })
	for i := range seen {
		if left && seen[i].Status == structs.ContainerGone {
			seen[i].Status = structs.ContainerStopped
		}
		if seen[i].name == structs.PodInfra {
			seen[i].name = "infra container"
		}
	}
	r.Observed = whole(seen)
	if r.Status != structs.ContainerStopped {
		r.FinishedAt = time.Time{}
	}
	for i := range r.parts {
		if r.parts[i].name == structs.PodInfra {
			r.StartedAt, r.Refused = r.parts[i].StartedAt, r.parts[i].refused
		}
	}
}
