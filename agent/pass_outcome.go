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

// pending reports whether an action asked for is still to be done, other than
// a kill that was dealt with and what was refused for good.
func (p *pass) pending() bool {
	gen := p.want.Generation
	if k := p.rec.Kill; k != nil && k.Generation == gen && gen == p.want.KillGeneration {
		gen--
	}
	return p.rec.Generation < gen || p.rec.Failed && !p.partly()
}

// starting reports whether a process that doesn't run, or is paused, is to be
// started or woken: an action since the last one carried out asks for it, or
// the last such try has failed. What a signal or limits came to is no reason.
func (p *pass) starting() bool {
	gen := p.want.StartGeneration
	if gen == 0 { // from servers that don't tell
		return p.pending()
	}
	return p.rec.Generation < gen || p.rec.Failed && !p.partly()
}

// intend writes down that a start is about to come.
func (p *pass) intend() error {
	if in := p.rec.Intent; in != nil && in.Generation == p.want.Generation {
		return nil
	}
	if p.rec.Intent == nil {
		p.rec.Restarts += p.cur.RestartCount // the engine counts anew after a start
	}
	p.rec.Intent = &intent{Generation: p.want.Generation, StartedAt: p.cur.StartedAt}
	return p.save()
}

// save writes the record.
func (p *pass) save() error {
	p.known = true
	return p.r.journal.put(p.rec)
}

// done notes that the generation has been carried out, but for what was
// refused.
func (p *pass) done() error {
	p.calm()
	refused := p.refused()
	failed := refused != ""
	if p.rec.Generation == p.want.Generation && p.rec.Failed == failed && p.rec.Reason == refused && p.rec.Intent == nil {
		return nil
	}
	p.rec.Generation, p.rec.Failed, p.rec.Reason, p.rec.Intent = p.want.Generation, failed, refused, nil
	return p.save()
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
	failed := p.cur != nil || p.want.Desired != structs.DesiredStopped
	if p.rec.Generation != p.want.Generation || p.rec.Failed != failed || p.rec.Reason != reason {
		p.rec.Generation, p.rec.Failed, p.rec.Reason = p.want.Generation, failed, reason
		if err := p.save(); err != nil {
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

// held returns how long what has failed is left alone.
func (p *pass) held() time.Duration {
	p.r.mu.Lock()
	defer p.r.mu.Unlock()
	if p.u.hold.IsZero() {
		return 0
	}
	return max(0, time.Until(p.u.hold))
}

// holdFor leaves alone what has failed, longer each time.
func (p *pass) holdFor(base, limit time.Duration, reason string) time.Duration {
	p.r.mu.Lock()
	defer p.r.mu.Unlock()
	d := doubled(base, limit, p.u.tries)
	if p.overtakenLocked() {
		return d // what has been asked for meanwhile is tried at once
	}
	p.u.tries++
	p.u.hold, p.u.reason = time.Now().Add(d), reason
	return d
}

// calm ends all holding: something has succeeded.
func (p *pass) calm() {
	p.r.mu.Lock()
	defer p.r.mu.Unlock()
	p.u.calmLocked()
}
