package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/structs"
)

// replace makes ready for a container that the cluster has placed anew here: what
// is left of the old placement goes before the new one comes, for both have the
// same ports and volumes, but only once the new one's image is there. ready is
// false as long as the old one stays.
func (p *pass) replace(ctx context.Context) (ready bool, again time.Duration, err error) {
	switch {
	case p.want.Desired == structs.DesiredAbsent, p.cur != nil, p.rec.Created, p.want.Spec == nil:
		return true, 0, nil // the new one was there already, or is not wanted
	case p.want.Spec.Exclusive == structs.ExclusiveLease:
		return true, 0, nil // nobody would watch over the old one's lease
	}
	if p.want.Desired != structs.DesiredRunning && p.want.Desired != structs.DesiredPaused && p.old.Live() {
		if err := p.stop(ctx, p.old); err != nil {
			return false, 0, err
		}
		if p.old, err = p.r.backend.Inspect(ctx, p.old.EngineID); err != nil {
			return false, 0, err
		}
	}
	if left := p.held(); left > 0 {
		p.tell()
		return false, left, nil
	}
	err = p.interruptible(ctx, func(next structs.Assignment) bool {
		return next.Desired != structs.DesiredRunning || next.Epoch != p.want.Epoch
	}, func(ctx context.Context) error {
		return p.r.backend.FetchImage(ctx, p.want.Spec, p.want.Registry, p.progress())
	})
	if err == nil {
		p.fetched = true
		return true, 0, nil
	}
	again, err = p.notCreated(ctx, err)
	return false, again, err
}

// create makes the container unless it was there before: what somebody has
// removed comes back only under a new epoch, which the cluster decides.
func (p *pass) create(ctx context.Context) (again time.Duration, err error) {
	if err := p.r.trusted(); err != nil {
		return 0, err
	}
	if p.rec.Created || !p.known && p.want.Observed > 0 {
		return 0, p.vanished()
	}
	if left := p.held(); left > 0 {
		return left, nil
	}
	if p.want.Spec == nil {
		return 0, fmt.Errorf("assignment of %s has no spec", p.ref())
	}
	p.forgetOlder()
	req := backend.CreateRequest{Owner: p.r.owner, Ref: p.ref(), ProjectID: p.want.ProjectID, Name: p.want.Name, Spec: p.want.Spec, Registry: p.want.Registry, Fetched: p.fetched}
	req.Avoid = p.r.avoid
	err = p.interruptible(ctx, func(next structs.Assignment) bool {
		return next.Desired == structs.DesiredAbsent || next.Epoch != p.want.Epoch
	}, func(ctx context.Context) error {
		var err error
		p.cur, err = p.r.backend.Create(ctx, req, p.progress())
		return err
	})
	if err != nil {
		return p.notCreated(ctx, err)
	}
	// At once: until then nothing proves that the container is this one.
	if err := p.adopt(); err != nil {
		return 0, err
	}
	p.r.mu.Lock()
	p.r.ownLocked(p.u, p.cur.Entry)
	overtaken := p.overtakenLocked()
	p.r.mu.Unlock()
	if overtaken {
		return 0, errInterrupted // a pull takes long: it may not be wanted running any more
	}
	return 0, nil
}

// notCreated sorts an error of a fetch or a create: what is no answer ends the
// pass, the rest gives the generation up.
func (p *pass) notCreated(ctx context.Context, err error) (again time.Duration, _ error) {
	kept := ""
	if p.old != nil {
		kept = "; what it was before is kept until then"
		if p.old.Live() {
			kept = "; what it was before runs on until then"
		}
	}
	switch {
	case errors.Is(err, errInterrupted), errors.Is(err, backend.ErrAway), ctx.Err() != nil:
		return 0, err
	case errors.Is(err, backend.ErrNoImage):
		return p.lack(p.want.Spec.Image, err, kept)
	case errors.Is(err, backend.ErrNoNetwork):
		p.r.observer.networks(true)
		p.refuses = p.old == nil
		return p.fail(failRetry, failLimit, err.Error())
	case errors.Is(err, backend.ErrNameTaken):
		return p.fail(failRetry, nameLimit, err.Error())
	case errors.Is(err, backend.ErrInvalid):
		return p.fail(failLimit, failLimit, "the engine refuses it: "+err.Error()+kept)
	}
	return p.fail(failRetry, failLimit, "creating it failed: "+err.Error()+kept)
}

// quietRetry is how long a try of what was given up stays untold: the reason
// is to be read, and most such tries fail like the last one.
const quietRetry = 10 * time.Second

// progress returns what tells of a pull.
func (p *pass) progress() func(sentence string) {
	began := time.Now()
	return func(sentence string) {
		switch {
		case p.rec.Generation < p.want.Generation:
			o := structs.Observed{Status: structs.ContainerCreating, Reason: sentence, Generation: p.rec.Generation}
			if p.old != nil {
				o.Memory, o.MilliCPU = p.old.Memory, p.old.MilliCPU
			}
			p.report(o, nil)
		case time.Since(began) > quietRetry:
			p.report(p.status(sentence), nil)
		}
	}
}

// forgetOlder drops the records of the container's earlier placements.
func (p *pass) forgetOlder() {
	for _, ref := range p.r.journal.refs() {
		if keyOf(ref) == p.u.ref && ref.Epoch < p.want.Epoch {
			p.r.forget(ref)
		}
	}
}

// vanished tells that somebody has removed the container.
func (p *pass) vanished() error {
	const reason = "its container was removed from the host, not by magnum"
	if !p.known {
		p.rec.Generation = min(p.want.Observed, p.want.Generation)
	}
	if !p.known || p.rec.Generation < p.want.Generation {
		p.rec.Created, p.rec.Intent = true, nil
		p.rec.Failed = p.rec.Generation < p.want.Generation
		p.rec.Generation, p.rec.Reason = p.want.Generation, reason
		if err := p.save(); err != nil {
			return err
		}
	}
	p.report(structs.Observed{Status: structs.ContainerGone, Reason: reason, Generation: p.rec.Generation, Failed: p.rec.Failed, RestartCount: p.rec.Restarts}, nil)
	return nil
}

// adopt takes the container that is there for the one that is wanted.
func (p *pass) adopt() error {
	changed := false
	if !p.rec.Created {
		p.rec.Created, changed = true, true
	}
	if p.rec.EngineID != p.cur.EngineID {
		p.rec.EngineID, changed = p.cur.EngineID, true
	}
	if lease := p.want.Spec != nil && p.want.Spec.Exclusive == structs.ExclusiveLease; lease != p.rec.Lease {
		p.rec.Lease, changed = lease, true
	}
	if !p.known && p.want.Observed > p.rec.Generation {
		// The journal is lost; what the servers have heard is still true.
		p.rec.Generation, changed = min(p.want.Observed, p.want.Generation), true
	}
	if in := p.rec.Intent; in != nil && !p.cur.StartedAt.Equal(in.StartedAt) {
		// The start has happened, and the agent was gone before it could say so.
		if in.Generation < p.want.Generation || p.want.Desired == structs.DesiredRunning {
			p.rec.Generation = max(p.rec.Generation, in.Generation)
			p.rec.Reason = p.refused()
			p.rec.Failed = p.rec.Reason != ""
		}
		p.rec.Intent, changed = nil, true
	}
	if !changed {
		return nil
	}
	return p.save()
}
