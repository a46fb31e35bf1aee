package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/podplan"
	"github.com/stackforge/magnum/structs"
)

// This file carries out the plan of a pod, a pass for each part. Passes see the other
// parts as those have published themselves, and are kicked when that changes.

// published is what a part of a pod has published of itself.
type published struct {
	epoch   uint64
	part    podplan.Part
	expired bool // of an infra container: see podplan.Pod
}

// podPass is what a pass over a part of a pod has beside that of a container.
type podPass struct {
	pass    *pass
	r       *reconciler
	u       *unit
	task    *task // the pass's
	looked  bool  // the task is known, so that the part can be described
	step    podplan.Decision
	expired bool // the pod has run for as long as it may
}

func newPodPass(p *pass) *podPass { return &podPass{pass: p, r: p.r, u: p.u, task: &p.task} }

// isPod reports whether the unit is a part of a pod.
func (u *unit) isPod() bool { return u.ref.Kind == structs.WorkloadPod }

// isInfra reports whether the unit is the infra container of a pod.
func (u *unit) isInfra() bool { return u.isPod() && u.ref.Part == structs.PodInfra }

// run does with a part of a pod what the plan says, step by step.
func (p *podPass) run(ctx context.Context) (again time.Duration, err error) {
	switch {
	case p.task.want.Desired == structs.DesiredAbsent:
		if pod, i := p.publish(); pod.Decide(i, time.Now()).Step != podplan.Remove {
			return 0, nil
		}
		return p.pass.absent(ctx)
	case p.task.cur != nil && p.task.cur.State == backend.StateRemoving:
		return removingWait, nil
	case p.task.cur == nil:
		if err := p.r.trusted(); err != nil {
			return 0, err
		}
	}
	defer p.publish()
	if err := p.endEarlier(ctx, p.pass.past[p.task.want.Epoch]...); err != nil {
		return 0, err
	}
	for more := true; more && err == nil; {
		if err := p.task.adoptAttempt(time.Now()); err != nil {
			return 0, err
		}
		if prev := p.task.prev; prev != nil { // the newest container, while that of the current attempt is not created
			if err := p.endEarlier(ctx, prev); err != nil {
				return 0, err
			}
		}
		if lapsed, again, err := p.lapse(ctx); lapsed {
			return again, err
		}
		pod, i := p.publish()
		p.step, p.expired = pod.Decide(i, time.Now()), pod.Expired
		more, again, err = p.take(ctx, &pod)
	}
	return again, err
}

// endEarlier kills the containers of earlier attempts that somebody else has started again.
func (p *podPass) endEarlier(ctx context.Context, earlier ...*backend.Container) error {
	for _, c := range earlier {
		if !c.Live() {
			continue
		}
		if err := p.r.backend.Kill(ctx, c.EngineID); err != nil && !errors.Is(err, backend.ErrNotFound) {
			return err
		}
		c.State = backend.StateExited
	}
	return nil
}

// publish tells the other parts of the pod what this part is now, and returns what is known
// of the pod, and the part's place in it.
func (p *podPass) publish() (pod podplan.Pod, i int) {
	p.r.mu.Lock()
	defer p.r.mu.Unlock()
	now := published{p.task.want.Epoch, p.task.planned(), p.task.rec.Expired}
	now.part.Left = p.u.epochs()[p.task.want.Epoch] // a claim may have become a copy
	now.part.Sick = cmp.Or(p.u.checks.failure(p.task.cur), p.task.cutOff())
	if !now.part.Live {
		p.endChecksLocked()
	}
	was := p.u.published
	if was != now {
		p.u.published = now
		p.kickPartsLocked(was, now)
	}
	return p.podLocked()
}

// kickPartsLocked kicks the parts for which a change of this one matters.
func (p *podPass) kickPartsLocked(was, now published) {
	a, b := &was.part, &now.part
	fresh := was.epoch != now.epoch || !a.Known
	if !fresh && was.expired == now.expired && a.Left == b.Left && a.Live == b.Live && a.Started == b.Started && a.Halted == b.Halted &&
		a.ExitCode == b.ExitCode && (b.Role != podplan.Infra || a.ID == b.ID) {
		return
	}
	for _, sibling := range p.r.units.siblings(p.u.ref) {
		if sibling == p.u || b.Role == podplan.Main && !fresh && !sibling.isInfra() {
			continue
		}
		if b.Role == podplan.Infra && !fresh {
			sibling.resetBackoffLocked() // it may have failed for want of the infra container
		}
		if now.expired && !was.expired && sibling.interrupt != nil && sibling.want != nil {
			over := *sibling.want
			over.Desired = structs.DesiredAbsent
			sibling.interrupt(over) // no image needs to be waited for any more
		}
		p.r.kickLocked(sibling)
	}
}

// podLocked returns what is known of the pod, and the part's place in it.
func (p *podPass) podLocked() (pod podplan.Pod, i int) {
	want := &p.task.want
	names := slices.Clone(p.u.names)
	for _, sibling := range p.r.units.siblings(p.u.ref) {
		if want.Desired == structs.DesiredAbsent && !slices.Contains(names, sibling.ref.Part) {
			names = append(names, sibling.ref.Part)
		}
	}
	pod.Desired = want.Desired
	if want.Pod != nil && want.Pod.Spec != nil {
		pod.Restart = want.Pod.Spec.RestartPolicy
	}
	for _, name := range names {
		ref := p.u.ref
		ref.Part = name
		part := podplan.Part{Name: name}
		if s := p.r.units.of(ref); s != nil {
			if s.published.epoch == want.Epoch {
				part = s.published.part
			}
			part.Left = s.epochs()[want.Epoch]
			pod.Expired = pod.Expired || s.published.epoch == want.Epoch && s.published.expired
		}
		pod.Parts = append(pod.Parts, part)
	}
	return pod, slices.Index(names, p.u.ref.Part)
}

// take carries out the step that the plan asks for. more: the plan is to be asked again.
func (p *podPass) take(ctx context.Context, pod *podplan.Pod) (more bool, again time.Duration, err error) {
	p.r.mu.Lock()
	overtaken := p.u.want == nil || p.u.overtakes(&p.task.want)
	p.r.mu.Unlock()
	if overtaken {
		return false, 0, errInterrupted
	}
	if p.u.isInfra() {
		if expired, err := p.expire(pod); expired || err != nil {
			return expired, 0, err
		}
	}
	switch p.step.Step {
	case podplan.Wait:
		if p.step.Reason == structs.ReasonCrashLoop { // it has been started, which is all that was asked for
			if err := p.pass.recordSuccess(); err != nil {
				return false, 0, err
			}
		}
		p.pass.reportStatus()
		return false, p.step.After, nil
	case podplan.Create, podplan.Start, podplan.Renew:
		return p.start(ctx, &pod.Parts[0])
	case podplan.End:
		return p.end(ctx)
	case podplan.Keep:
		return false, p.deadline(), p.keep(&pod.Parts[0])
	case podplan.Rest:
		return false, 0, p.pass.complete()
	}
	return false, 0, nil
}

// start creates or starts the container of an attempt, or begins the next attempt.
func (p *podPass) start(ctx context.Context, infra *podplan.Part) (more bool, again time.Duration, err error) {
	if left := p.r.backoffLeft(p.u); left > 0 {
		p.r.mu.Lock()
		p.pass.refuses = p.u.refused && p.u.reported.epoch == p.task.want.Epoch // what has failed is still so
		p.r.mu.Unlock()
		p.pass.reportStatus()
		return false, left, nil
	}
	// As in guard: an answer that confirms the lease may also take the pod away.
	p.r.mu.Lock()
	_, may := p.r.exclusive.lease.May(p.task.want.Spec.Exclusive)
	overtaken := p.u.want == nil || p.u.overtakes(&p.task.want)
	p.r.mu.Unlock()
	switch {
	case p.task.want.Spec.Exclusive == structs.ExclusiveNo:
	case overtaken:
		return false, 0, errInterrupted
	case !may:
		p.pass.reportWaiting()
		return false, 0, nil
	}
	joined := infra.ID
	if p.u.isInfra() {
		joined = ""
	}
	switch p.step.Step {
	case podplan.Create:
		again, err = p.create(ctx, joined, infra.Address)
		return p.task.cur != nil || p.task.rec.Ended != nil, again, err
	case podplan.Start:
		return p.startAttempt(ctx)
	}
	return true, 0, p.renew(ctx, joined)
}

// create creates the container of the current attempt.
func (p *podPass) create(ctx context.Context, infra, address string) (time.Duration, error) {
	if err := p.task.begin(infra, p.task.rec.Deaths, false, time.Now()); err != nil {
		return 0, err
	}
	for _, ref := range p.task.older() {
		if err := p.dropVolumes(ctx, ref); err != nil {
			return 0, err
		}
		p.r.forget(ref)
	}
	req, err := p.request(ctx, address)
	switch {
	case structs.CodeOf(err) == structs.CodeInvalid:
		p.pass.word = structs.ReasonConfigError
		return p.pass.fail(failLimit, failLimit, err.Error())
	case err != nil:
		return 0, err
	}
	if ready, again, err := p.fetch(ctx); !ready {
		return again, err
	}
	defer func() { p.pass.fetched = false }() // for this attempt only
	return p.pass.make(ctx, req)
}

// request returns the request for the container of the current attempt.
func (p *podPass) request(ctx context.Context, address string) (backend.CreateRequest, error) {
	req := p.task.request(p.r.owner)
	pod, c := p.task.want.Pod, p.task.container()
	req.Pod = podPart(pod.Spec, c, p.task.rec.Attempt, p.task.rec.Infra)
	if c == nil {
		return req, nil
	}
	if !pod.Spec.NoServiceLinks {
		req.Variables = p.r.services.Variables(req.ProjectID)
	}
	spec, err := p.r.host.expand(ctx, *req.Spec, &p.task.want, c, address, req.Variables)
	req.Spec = spec
	return req, err
}

// startAttempt starts the process of the current attempt. Each attempt is started once:
// the engine shows whether that has happened. Somebody else may have started the attempt
// before since the pass has looked, as docker restart does.
func (p *podPass) startAttempt(ctx context.Context) (more bool, again time.Duration, err error) {
	if prev := p.task.prev; prev != nil {
		now, err := p.r.backend.Inspect(ctx, prev.EngineID)
		if err == nil {
			err = p.endEarlier(ctx, now)
		}
		if err != nil && !errors.Is(err, backend.ErrNotFound) {
			return false, 0, err
		}
	}
	if !p.task.rec.Began || p.task.rec.Lapsed != nil {
		p.task.rec.Began, p.task.rec.Lapsed = true, nil
		if err := p.task.save(); err != nil {
			return false, 0, err
		}
	}
	if err := p.r.backend.Start(ctx, p.task.cur.EngineID); err != nil {
		if errors.Is(err, backend.ErrNoInfra) {
			return false, 0, err // the infra container's pass finds out
		}
		if errors.Is(err, backend.ErrStart) && !p.u.isInfra() {
			return true, 0, p.notStarted(err)
		}
		p.pass.word = structs.ReasonRunError
		again, err = p.pass.actionFailed(err, "starting it failed: ")
		return false, again, err
	}
	return true, 0, p.pass.look(ctx)
}

// notStarted records that the attempt has ended, because its process can't be started. As in
// Kubernetes the restart policy decides what follows.
func (p *podPass) notStarted(err error) error {
	p.r.resetBackoff(p.u)
	code := startErrorCode
	p.task.rec.Began, p.task.rec.Lapsed = true, nil
	p.task.rec.Ended = &structs.PartState{State: structs.PartTerminated, Reason: structs.ReasonStartError, ExitCode: &code,
		FinishedAt: time.Now().UTC(), Message: "its process can't be started: " + err.Error()}
	return p.task.save()
}

// startErrorCode is the exit code of a process that could not be started, as in Kubernetes.
const startErrorCode = 128

// renew begins the next attempt. Of the containers of earlier attempts only the newest is
// kept, for its log; those of an infra container and those that were never started have
// none.
func (p *podPass) renew(ctx context.Context, infra string) error {
	started := p.task.rec.Ended != nil
	var gone []*backend.Container
	if prev := p.task.prev; started && prev != nil {
		gone = append(gone, prev)
		p.task.prev = nil
	}
	if started {
		gone = append(gone, p.pass.past[p.task.want.Epoch]...) // has the one before, if it was there
	}
	if c := p.task.cur; c != nil && (!started || p.u.isInfra()) {
		gone = append(gone, c)
		p.task.cur = nil
	}
	for _, c := range gone {
		if err := p.r.backend.Remove(ctx, c.EngineID); err != nil {
			return err
		}
		p.pass.drop(c.Epoch, c.EngineID)
	}
	return p.task.begin(infra, p.step.Deaths, started, time.Now())
}

// end ends the process because the plan says so.
func (p *podPass) end(ctx context.Context) (more bool, again time.Duration, err error) {
	if p.step.Reason == podplan.EndImage { // it runs on until the image is there that the manifest names now
		if left := p.r.backoffLeft(p.u); left > 0 {
			p.pass.reportStatus()
			return false, left, nil
		}
		if ready, again, err := p.fetch(ctx); !ready {
			return false, again, err
		}
	}
	message := map[string]string{
		podplan.EndStopped: "it was stopped with its pod",
		podplan.EndInfra:   "it was ended because the pod's infra container, which has the network, has ended",
		podplan.EndImage:   "it was ended because the manifest names another image",
		podplan.EndOver:    "it was ended because the pod's other containers have ended for good",
	}[p.step.Reason]
	switch p.step.Reason {
	case podplan.EndExpired:
		message = p.expiry()
	case podplan.EndSick:
		message = p.sick()
	}
	if err := p.task.halt(p.step.Reason, message); err != nil {
		return false, 0, err
	}
	if p.step.Reason == podplan.EndInfra {
		p.pass.reportStatus() // it isn't ready while it ends: nothing can reach it
	}
	if err := p.pass.stop(ctx, p.task.cur); err != nil {
		again, err = p.pass.actionFailed(err, "stopping it failed: ")
		return false, again, err
	}
	return true, 0, p.pass.look(ctx)
}

// fetch fetches the image of the current attempt, or of the next one, unless the pass has
// done so. It ends if the pod is not to run any more, is placed again, or is to have another
// image. Other changes of the manifest go on waiting.
func (p *podPass) fetch(ctx context.Context) (ready bool, again time.Duration, err error) {
	if p.pass.fetched {
		return true, 0, nil
	}
	want := &p.task.want
	err = p.pass.interruptible(ctx, func(next structs.Assignment) bool {
		return next.Desired != structs.DesiredRunning || next.Epoch != want.Epoch || next.Unreadable == "" &&
			(next.Spec == nil || next.Spec.Image != want.Spec.Image)
	}, func(ctx context.Context) error {
		return p.r.backend.FetchImage(ctx, p.task.want.ProjectID, want.Spec, p.task.credentials(), p.pass.progress())
	})
	if err == nil {
		p.pass.fetched = true
		return true, 0, nil
	}
	again, err = p.pass.notCreated(ctx, err)
	return false, again, err
}

// keep leaves a process running, with its hooks and probes.
func (p *podPass) keep(infra *podplan.Part) error {
	if p.task.rec.Halt != nil { // it was to be ended, and that was taken back
		p.task.rec.Halt = nil
		if err := p.task.save(); err != nil {
			return err
		}
	}
	if err := p.check(infra.Address); err != nil {
		return err
	}
	return p.pass.complete()
}

// lapse ends a process that runs without the lease that it needs.
func (p *podPass) lapse(ctx context.Context) (lapsed bool, again time.Duration, err error) {
	t := p.task
	if t.want.Spec == nil || t.want.Spec.Exclusive == structs.ExclusiveNo || !t.keeps() || t.cur == nil || !t.cur.Live() {
		return false, 0, nil
	}
	if run, _ := p.r.exclusive.lease.May(t.want.Spec.Exclusive); run {
		return false, 0, nil
	}
	again, err = p.pass.expire(ctx)
	return true, again, err
}

// expire ends the pod once it has run for as long as it may.
func (p *podPass) expire(pod *podplan.Pod) (expired bool, err error) {
	if left := p.deadline(); left == 0 || left > time.Nanosecond || pod.Over() || p.step.Step == podplan.Hold {
		return false, nil
	}
	p.task.rec.Expired = true
	return true, p.task.save()
}

// expiry says that the pod has run for as long as it may.
func (p *podPass) expiry() string {
	return fmt.Sprintf("the pod was ended, because it has run for %d s, its activeDeadlineSeconds; create it again with more of them, or "+
		"without", p.task.want.Pod.Spec.ActiveDeadline)
}

// deadline returns how long the pod may still run, at least a nanosecond; 0 if there is no
// limit, or if the part isn't the infra container, which keeps the time. A nanosecond
// means that the time is over.
func (p *podPass) deadline() time.Duration {
	limit, since := p.task.want.Pod.Spec.ActiveDeadline, p.task.rec.Since
	if limit == 0 || since.IsZero() || !p.u.isInfra() || p.task.rec.Expired || p.task.want.Desired != structs.DesiredRunning {
		return 0
	}
	return max(time.Until(since.Add(time.Duration(limit)*time.Second)), time.Nanosecond)
}

// others reports whether the part is the infra container and others are left of a
// placement.
func (p *podPass) others(epoch uint64) bool {
	p.r.mu.Lock()
	defer p.r.mu.Unlock()
	return p.u.isInfra() && slices.ContainsFunc(p.r.units.siblings(p.u.ref), func(o *unit) bool {
		return o != p.u && o.epochs()[epoch]
	})
}

// oldGone reports whether the part's containers of earlier placements may be removed: that
// of the infra container once no other part is left of them.
func (p *podPass) oldGone() bool {
	if !p.u.isInfra() {
		return true
	}
	p.r.mu.Lock()
	defer p.r.mu.Unlock()
	for _, sibling := range p.r.units.siblings(p.u.ref) {
		for epoch := range sibling.epochs() {
			if sibling != p.u && epoch < p.task.want.Epoch {
				return false
			}
		}
	}
	return true
}

// removeRest removes what is left of a placement after its newest container: those of
// earlier attempts, and after the infra container the volumes.
func (p *podPass) removeRest(ctx context.Context, c *backend.Container) error {
	p.r.mu.Lock()
	p.endChecksLocked()
	p.r.mu.Unlock()
	for _, old := range p.pass.past[c.Epoch] {
		if err := p.r.backend.Remove(ctx, old.EngineID); err != nil {
			return err
		}
		p.pass.drop(old.Epoch, old.EngineID)
	}
	return p.dropVolumes(ctx, c.Ref)
}

// dropVolumes removes the volumes of a pod's placement with its infra container.
func (p *podPass) dropVolumes(ctx context.Context, of structs.Ref) error {
	if !p.u.isInfra() || p.r.pods == nil {
		return nil
	}
	return p.r.pods.DropVolumes(ctx, p.r.owner, of.Whole())
}
