package agent

import (
	"context"
	"errors"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/lease"
	"github.com/stackforge/magnum/structs"
)

// pollState returns the state of the host now.
func (r *reconciler) pollState() pollState {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := pollState{State: r.lease.State()}
	for _, u := range r.units {
		if u.want == nil || u.want.Desired == structs.DesiredAbsent {
			continue
		}
		if u.want.Unreadable != "" {
			at.needsLease = true // for all that is known
		}
		if u.want.Spec == nil {
			continue
		}
		switch u.want.Spec.Exclusive {
		case structs.ExclusiveYes:
			at.needsConfirmation = at.needsConfirmation || !at.Confirmed
		case structs.ExclusiveLease:
			at.needsLease = true
			at.needsConfirmation = at.needsConfirmation || at.Held && !at.HeldConfirmed
		}
	}
	return at
}

// kickExclusive has all exclusive containers looked at: they may or may not run any
// more.
func (r *reconciler) kickExclusive() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.kickExclusiveLocked()
}

func (r *reconciler) kickExclusiveLocked() {
	for _, u := range r.units {
		if u.exclusive() {
			r.kickLocked(u)
		}
	}
}

// exclusive reports whether the unit is wanted as an exclusive container, or may
// be.
func (u *unit) exclusive() bool {
	return u.want != nil && (u.want.Unreadable != "" || u.want.Spec != nil && u.want.Spec.Exclusive != structs.ExclusiveNo)
}

// unconfirm is called when the engine has been away: what ran there may have
// been placed elsewhere meanwhile.
func (r *reconciler) unconfirm() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.met = false
	if lost := r.lease.Unconfirm(); !lost || r.nudge == nil {
		return
	}
	for _, u := range r.units {
		if u.exclusive() { // nobody else waits for it, and a poll that is cut off may have had a session's offer in its answer
			r.nudge()
			return
		}
	}
}

// newGuard returns what watches over the lease of an earlier life of the agent.
func newGuard(b lease.Engine, owner backend.Owner, j *journal, file *lease.File, log hclog.Logger) *lease.Guard {
	retry := backoff{min: 200 * time.Millisecond, max: 2 * time.Second}
	return &lease.Guard{
		Engine: b, Owner: owner, File: file, Log: log,
		Needs: func(e backend.Entry) bool {
			rec, _ := j.record(e.Ref)
			return rec.Lease && rec.owns(e)
		},
		Revoke: func(c *backend.Container) (fresh bool, err error) {
			rec, _ := j.record(c.Ref)
			log.Warn("no server was reached in time: the lease has ended, and the container stops", keysOf(rec.Ref)...)
			if rec.Lapsed != nil && rec.Lapsed.StartedAt.Equal(c.StartedAt) {
				return false, nil
			}
			rec.Lapsed = &intent{Generation: rec.Generation, StartedAt: c.StartedAt}
			return true, j.put(rec)
		},
		Retry: func(ctx context.Context) error { return retry.wait(ctx, 0) },
	}
}

// guard keeps an exclusive container from running where it may not. held says
// that the pass ends with it.
func (p *pass) guard(ctx context.Context) (held bool, again time.Duration, err error) {
	starts := p.want.Desired == structs.DesiredRunning || p.want.Desired == structs.DesiredPaused
	if p.want.Spec == nil || p.want.Spec.Exclusive == structs.ExclusiveNo || !starts {
		return false, 0, nil
	}
	run, start := p.r.lease.May(p.want.Spec.Exclusive)
	reboot := p.want.Desired == structs.DesiredRunning && p.rec.Generation < p.want.RebootGeneration
	switch {
	case p.cur.Live() && !run:
		again, err = p.expire(ctx)
		return true, again, err
	case p.cur.Live() && !reboot, start:
		return false, 0, nil
	}
	p.wait()
	return true, 0, nil
}

// wait tells that the container may not be started yet. What can start it has
// it looked at again.
func (p *pass) wait() {
	reason := "it is exclusive: it is started once the servers have confirmed that it belongs on this host"
	if p.rec.Lapsed != nil {
		reason = "it was stopped because its host could not reach the servers in time; it goes on here or elsewhere once they are reached"
	}
	if p.rec.Generation == 0 {
		p.report(structs.Observed{Status: structs.ContainerCreating, Reason: reason}, nil)
		return
	}
	p.report(p.status(reason), nil)
}

// expire ends the process because the lease has ended: it is asked to end, and
// killed soon after, so that it has ended before the servers may place the
// container anew.
func (p *pass) expire(ctx context.Context) (time.Duration, error) {
	if p.rec.Lapsed == nil || !p.rec.Lapsed.StartedAt.Equal(p.cur.StartedAt) {
		p.rec.Lapsed = &intent{Generation: p.want.Generation, StartedAt: p.cur.StartedAt}
		if err := p.save(); err != nil {
			return 0, err
		}
		grace := min(p.r.lease.Grace(), time.Duration(p.want.StopTimeout)*time.Second)
		p.r.mu.Lock()
		p.u.ending = time.Now().Add(grace)
		p.r.mu.Unlock()
		if grace > 0 && p.cur.State == backend.StateRunning && p.r.backend.Signal(ctx, p.cur.EngineID, "SIGTERM") == nil {
			return grace, nil
		}
	}
	p.r.mu.Lock()
	left := time.Until(p.u.ending)
	p.r.mu.Unlock()
	if left > 0 && p.cur.State == backend.StateRunning {
		return left, nil
	}
	if err := p.r.backend.Kill(ctx, p.cur.EngineID); err != nil && !errors.Is(err, backend.ErrNotFound) {
		return 0, err
	}
	if err := p.look(ctx); err != nil {
		return 0, err
	}
	p.wait()
	return 0, nil
}

// interrupted reports whether the process was ended by the agent because the
// lease had ended, and has not run since.
func (p *pass) interrupted() bool {
	return p.rec.Lapsed != nil && p.rec.Lapsed.StartedAt.Equal(p.cur.StartedAt) && !p.cur.Live()
}

// resume starts a process again that the end of a lease has ended. Whether it
// has happened shows in the time of the start, as with an intent.
func (p *pass) resume(ctx context.Context) (time.Duration, error) {
	if err := p.r.backend.Start(ctx, p.cur.EngineID); err != nil {
		return p.failed(err, "starting it again failed: ")
	}
	p.rec.Restarts, p.rec.Lapsed = p.rec.Restarts+1, nil
	if err := p.save(); err != nil {
		return 0, err
	}
	if err := p.look(ctx); err != nil {
		return 0, err
	}
	return 0, p.settle()
}
