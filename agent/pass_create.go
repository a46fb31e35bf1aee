package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/structs"
)

// replace prepares a new placement of a container on this host. The old container is
// removed before the new one is created, because both have the same ports and volumes,
// but not before the new one's image is there. ready is false while the old one stays.
func (p *pass) replace(ctx context.Context) (ready bool, again time.Duration, err error) {
	switch {
	case p.pod != nil:
		return p.pod.oldGone(), 0, nil
	case p.task.want.Desired == structs.DesiredAbsent, p.task.cur != nil, p.task.rec.Created, p.task.want.Spec == nil:
		return true, 0, nil // the new one existed already, or is not desired
	case p.task.want.Spec.Exclusive == structs.ExclusiveLease:
		return true, 0, nil // nothing would guard the old container's lease meanwhile
	}
	if p.task.want.Desired != structs.DesiredRunning && p.task.want.Desired != structs.DesiredPaused && p.task.old.Live() {
		if err := p.stop(ctx, p.task.old); err != nil {
			return false, 0, err
		}
		if p.task.old, err = p.r.backend.Inspect(ctx, p.task.old.EngineID); err != nil {
			return false, 0, err
		}
	}
	if left := p.r.backoffLeft(p.u); left > 0 {
		p.reportStatus()
		return false, left, nil
	}
	err = p.interruptible(ctx, func(next structs.Assignment) bool {
		return next.Desired != structs.DesiredRunning || next.Epoch != p.task.want.Epoch
	}, func(ctx context.Context) error {
		return p.r.backend.FetchImage(ctx, p.task.want.ProjectID, p.task.want.Spec, p.task.credentials(), p.progress())
	})
	if err == nil {
		p.fetched = true
		return true, 0, nil
	}
	again, err = p.notCreated(ctx, err)
	return false, again, err
}

// create creates the container unless it existed before. A container that somebody has
// removed comes back only under a new epoch, which the cluster decides.
func (p *pass) create(ctx context.Context) (again time.Duration, err error) {
	if err := p.r.trusted(); err != nil {
		return 0, err
	}
	if p.task.rec.Created || !p.task.known && p.task.want.Observed > 0 {
		return 0, p.vanished()
	}
	if left := p.r.backoffLeft(p.u); left > 0 {
		return left, nil
	}
	if p.task.want.Spec == nil {
		return 0, fmt.Errorf("assignment of %s has no spec", p.task.ref())
	}
	for _, ref := range p.task.older() {
		p.r.forget(ref)
	}
	return p.make(ctx, p.task.request(p.r.owner))
}

// make creates a container and takes it over.
func (p *pass) make(ctx context.Context, req backend.CreateRequest) (again time.Duration, err error) {
	req.Fetched, req.Avoid = p.fetched, p.r.avoid
	tell(ctx, p.r.services, &req)
	err = p.interruptible(ctx, func(next structs.Assignment) bool {
		return next.Desired == structs.DesiredAbsent || next.Epoch != p.task.want.Epoch
	}, func(ctx context.Context) error {
		var err error
		p.task.cur, err = p.r.backend.Create(ctx, req, p.progress())
		return err
	})
	if err != nil {
		return p.notCreated(ctx, err)
	}
	// At once: until then nothing proves that the container is this one.
	if p.pod != nil {
		err = p.task.adoptAttempt(time.Now())
	} else {
		err = p.task.adopt()
	}
	if err != nil {
		return 0, err
	}
	p.r.mu.Lock()
	p.r.ownLocked(p.u, p.task.cur.Entry, true)
	overtaken := p.u.overtakes(&p.task.want)
	p.r.mu.Unlock()
	if req.Names != nil {
		p.r.services.Prepare(ctx, req.ProjectID)
	}
	if overtaken {
		return 0, errInterrupted // after a long pull the container may not be desired running any more
	}
	return 0, nil
}

// notCreated handles the error of a fetch or a create. An error without an answer of the
// engine ends the pass, any other fails the generation.
func (p *pass) notCreated(ctx context.Context, err error) (again time.Duration, _ error) {
	kept := ""
	if p.pod != nil && p.task.cur != nil {
		kept = "; the old container runs on until then"
	}
	if p.task.old != nil {
		kept = "; the old container is kept until then"
		if p.task.old.Live() {
			kept = "; the old container runs on until then"
		}
	}
	switch {
	case errors.Is(err, errInterrupted), errors.Is(err, backend.ErrAway), errors.Is(err, backend.ErrNoInfra), ctx.Err() != nil:
		return 0, err
	case p.pod != nil && errors.Is(err, backend.ErrStart) && !p.u.isInfra():
		return 0, p.pod.notStarted(err)
	case errors.Is(err, backend.ErrNoImage) && p.pod != nil && p.task.want.Spec.PullPolicy == structs.PullNever:
		p.word = structs.ReasonNeverPull
		return p.failMissingImage(p.task.want.Spec.Image, fmt.Errorf("image %s is not on the host, and imagePullPolicy is Never: load it "+
			"there with image-load, or use IfNotPresent", p.task.want.Spec.Image), kept)
	case errors.Is(err, backend.ErrNoImage):
		p.word = structs.ReasonImagePull
		return p.failMissingImage(p.task.want.Spec.Image, err, kept)
	case errors.Is(err, backend.ErrConfig):
		p.word = structs.ReasonConfigError
		return p.fail(failLimit, failLimit, err.Error()+kept)
	case errors.Is(err, backend.ErrNoNetwork):
		p.r.observer.setNetworksFull(true)
		p.refuses = p.task.old == nil && p.task.rec.Attempt <= 1
		return p.fail(failRetry, failLimit, err.Error())
	case errors.Is(err, backend.ErrNameTaken):
		return p.fail(failRetry, nameLimit, err.Error())
	case errors.Is(err, backend.ErrInvalid):
		return p.fail(failLimit, failLimit, "the engine refuses it: "+err.Error()+kept)
	}
	return p.fail(failRetry, failLimit, "creating it failed: "+err.Error()+kept)
}

// quietRetry is how long a retry runs before its progress is reported. Until then the
// status keeps the reason of the failure: most retries fail like the try before.
const quietRetry = 10 * time.Second

// progress returns a function that reports the progress of a pull.
func (p *pass) progress() func(sentence string) {
	began := time.Now()
	return func(sentence string) {
		switch {
		case p.task.rec.Generation < p.task.want.Generation:
			o := structs.Observed{Status: structs.ContainerCreating, Reason: sentence, Generation: p.task.rec.Generation}
			if p.task.old != nil {
				o.Memory, o.MilliCPU = p.task.old.Memory, p.task.old.MilliCPU
			}
			p.report(o, nil)
		case time.Since(began) > quietRetry:
			p.report(p.status(sentence), nil)
		}
	}
}

// vanished reports that somebody has removed the container.
func (p *pass) vanished() error {
	const reason = "its container was removed from the host, not by magnum"
	if !p.task.known {
		p.task.rec.Generation = min(p.task.want.Observed, p.task.want.Generation)
	}
	if !p.task.known || p.task.rec.Generation < p.task.want.Generation {
		p.task.rec.Created, p.task.rec.Intent = true, nil
		p.task.rec.Failed = p.task.rec.Generation < p.task.want.Generation
		p.task.rec.Generation, p.task.rec.Reason = p.task.want.Generation, reason
		if err := p.task.save(); err != nil {
			return err
		}
	}
	p.report(structs.Observed{Status: structs.ContainerGone, Reason: reason, Generation: p.task.rec.Generation, Failed: p.task.rec.Failed,
		RestartCount: p.task.rec.Restarts}, nil)
	return nil
}
