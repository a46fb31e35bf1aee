package agent

import (
	"errors"
	"fmt"
	"time"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/structs"
)

// Pauses before another try of what has failed, doubled up to a limit.
const (
	imageRetry = 30 * time.Second // an image that can't be fetched
	failRetry  = 5 * time.Second  // a taken port or name, a refused start
	failLimit  = 5 * time.Minute
	nameLimit  = time.Minute
)

// recordSuccess records that the generation has been carried out, except for what was
// refused.
func (p *pass) recordSuccess() error {
	p.r.resetBackoff(p.u)
	refused := p.task.refused()
	failed := refused != ""
	if p.task.rec.Generation == p.task.want.Generation && p.task.rec.Failed == failed && p.task.rec.Reason == refused &&
		p.task.rec.Intent == nil {
		return nil
	}
	p.task.rec.Generation, p.task.rec.Failed, p.task.rec.Reason, p.task.rec.Intent = p.task.want.Generation, failed, refused, nil
	return p.task.save()
}

// complete records that the assignment is carried out, and reports the status.
func (p *pass) complete() error {
	if err := p.recordSuccess(); err != nil {
		return err
	}
	p.reportStatus()
	return nil
}

// fail records that the generation has failed, and reports that at once. It returns the
// pause before the next try.
func (p *pass) fail(base, limit time.Duration, reason string) (time.Duration, error) {
	again := p.delayRetry(base, limit, reason)
	// A container that was never created is stopped, whatever else fails.
	failed := p.task.cur != nil || p.task.want.Desired != structs.DesiredStopped
	if p.task.rec.Generation != p.task.want.Generation || p.task.rec.Failed != failed || p.task.rec.Reason != reason {
		p.task.rec.Generation, p.task.rec.Failed, p.task.rec.Reason = p.task.want.Generation, failed, reason
		if err := p.task.save(); err != nil {
			return 0, err
		}
	}
	p.reportStatus()
	return again, nil
}

// failMissingImage fails the generation because its image could not be had. An image
// event with the same name starts the next try at once.
func (p *pass) failMissingImage(image string, err error, kept string) (time.Duration, error) {
	p.r.mu.Lock()
	p.u.missingImage = image
	next := doubled(imageRetry, failLimit, p.u.tries)
	p.r.mu.Unlock()
	atOnce := ", or start it to try at once"
	if p.pod != nil {
		atOnce = "" // nobody starts a pod
	}
	return p.fail(imageRetry, failLimit, fmt.Sprintf("%s; it is tried again in %s%s%s", err, next, atOnce, kept))
}

// actionFailed handles the error of an action. An error without an answer of the engine
// ends the pass, any other fails the generation.
func (p *pass) actionFailed(err error, doing string) (time.Duration, error) {
	switch {
	case errors.Is(err, errInterrupted), errors.Is(err, backend.ErrAway), p.r.ctx.Err() != nil:
		return 0, err
	case errors.Is(err, backend.ErrNotFound):
		p.r.mu.Lock()
		p.u.dirty = true
		p.r.mu.Unlock()
		return 0, errInterrupted
	}
	return p.fail(failRetry, failLimit, doing+err.Error())
}

// delayRetry leaves a failed unit alone, longer after each failure.
func (p *pass) delayRetry(base, limit time.Duration, reason string) time.Duration {
	p.r.mu.Lock()
	defer p.r.mu.Unlock()
	d := doubled(base, limit, p.u.tries)
	if p.u.overtakes(&p.task.want) {
		return d // a newer assignment is tried at once
	}
	p.u.tries++
	p.u.retryAt, p.u.reason, p.u.word = time.Now().Add(d), reason, p.word
	return d
}
