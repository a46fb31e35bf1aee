package agent

import (
	"errors"
	"fmt"
	"time"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/structs"
)

// Pauses between tries of what has failed and may heal, doubled up to a limit.
const (
	imageRetry = 30 * time.Second // an image that can't be fetched
	failRetry  = 5 * time.Second  // a taken port or name, a refused start
	failLimit  = 5 * time.Minute
	nameLimit  = time.Minute
)

// done notes that the generation has been carried out, but for what was
// refused.
func (p *pass) done() error {
	p.r.calm(p.u)
	refused := p.task.refused()
	failed := refused != ""
	if p.task.rec.Generation == p.task.want.Generation && p.task.rec.Failed == failed && p.task.rec.Reason == refused && p.task.rec.Intent == nil {
		return nil
	}
	p.task.rec.Generation, p.task.rec.Failed, p.task.rec.Reason, p.task.rec.Intent = p.task.want.Generation, failed, refused, nil
	return p.task.save()
}

// settle notes that all is as it was asked for, and tells what is seen.
func (p *pass) settle() error {
	if err := p.done(); err != nil {
		return err
	}
	p.tell()
	return nil
}

// fail notes that the generation has been given up, which users hear at once;
// it is tried again after the pause that is returned, in case it heals.
func (p *pass) fail(base, limit time.Duration, reason string) (time.Duration, error) {
	again := p.holdFor(base, limit, reason)
	// What was never made has nothing to stop: that is done, whatever else fails.
	failed := p.task.cur != nil || p.task.want.Desired != structs.DesiredStopped
	if p.task.rec.Generation != p.task.want.Generation || p.task.rec.Failed != failed || p.task.rec.Reason != reason {
		p.task.rec.Generation, p.task.rec.Failed, p.task.rec.Reason = p.task.want.Generation, failed, reason
		if err := p.task.save(); err != nil {
			return 0, err
		}
	}
	p.tell()
	return again, nil
}

// lack is fail for an image that can't be had. When one of its name comes to
// the engine, it is tried again at once.
func (p *pass) lack(image string, err error, kept string) (time.Duration, error) {
	p.r.mu.Lock()
	p.u.lacks = image
	next := doubled(imageRetry, failLimit, p.u.tries)
	p.r.mu.Unlock()
	return p.fail(imageRetry, failLimit, fmt.Sprintf("%s; it is tried again in %s, or start it to try at once%s", err, next, kept))
}

// failed sorts an error of an action: what is no answer ends the pass, the
// rest gives the generation up.
func (p *pass) failed(err error, doing string) (time.Duration, error) {
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

// holdFor leaves alone what has failed, longer each time.
func (p *pass) holdFor(base, limit time.Duration, reason string) time.Duration {
	p.r.mu.Lock()
	defer p.r.mu.Unlock()
	d := doubled(base, limit, p.u.tries)
	if p.u.overtakes(&p.task.want) {
		return d // what has been asked for meanwhile is tried at once
	}
	p.u.tries++
	p.u.hold, p.u.reason = time.Now().Add(d), reason
	return d
}
