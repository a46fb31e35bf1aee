package agent

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/lease"
	"github.com/stackforge/magnum/structs"
)

// exclusives decides which exclusive containers may run and start on this host, and ends
// the processes of the others.
type exclusives struct {
	lease   *lease.Lease // has its own lock, which is taken while mu is held
	engine  lease.Engine
	journal *journal
	nudge   func() // ends the poll in progress, so that the next one asks for a confirmed answer; may be nil

	mu       *sync.Mutex // the reconciler's; guards what follows
	units    *units
	answered bool // an answer was taken: until then the lease.Guard ends what has no lease
}

// pollState returns the current state of the host.
func (x *exclusives) pollState() pollState {
	x.mu.Lock()
	defer x.mu.Unlock()
	at := pollState{State: x.lease.State()}
	for _, u := range x.units.all {
		if u.leased {
			// it runs, even if no answer has named it or it is to be removed
			at.needsLease = true
			at.needsConfirmation = at.needsConfirmation || at.Held && !at.HeldConfirmed
		}
		if u.want == nil || u.want.Desired == structs.DesiredAbsent {
			continue
		}
		if u.want.Unreadable != "" {
			at.needsLease = true // it may need one
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

// unconfirmLocked begins a new round of the lease.
func (x *exclusives) unconfirmLocked() {
	if lost := x.lease.Unconfirm(); !lost || x.nudge == nil {
		return
	}
	for _, u := range x.units.all {
		if u.exclusive() { // a poll that is cut off may lose a session's offer, so only exclusive containers justify that
			x.nudge()
			return
		}
	}
}

// end ends the process of a container because the lease has ended. The process is asked
// to end, and killed soon after: it must have ended before the servers may place the
// container again. again says how long the process still has; 0: it has ended.
func (x *exclusives) end(ctx context.Context, u *unit, want *structs.Assignment, c *backend.Container, rec *record) (again time.Duration,
	err error) {
	if rec.Lapsed == nil || !rec.Lapsed.StartedAt.Equal(c.StartedAt) {
		rec.Lease, rec.Lapsed = true, &intent{Generation: want.Generation, StartedAt: c.StartedAt}
		if err := x.journal.put(*rec); err != nil {
			return 0, err
		}
		grace := min(x.lease.Grace(), time.Duration(want.StopTimeout)*time.Second)
		x.mu.Lock()
		u.ending = time.Now().Add(grace)
		x.mu.Unlock()
		if grace > 0 && c.State == backend.StateRunning && x.engine.Signal(ctx, c.EngineID, "SIGTERM") == nil {
			return grace, nil
		}
	}
	x.mu.Lock()
	left := time.Until(u.ending)
	x.mu.Unlock()
	if left > 0 && c.State == backend.StateRunning {
		return left, nil
	}
	if err := x.engine.Kill(ctx, c.EngineID); err != nil && !errors.Is(err, backend.ErrNotFound) {
		return 0, err
	}
	return 0, nil
}

// endLapsed ends the containers that need a lease, have none, and are not desired
// running: unknown ones, other epochs, and those to be stopped or removed, whose own stop
// timeout may be too long. It leaves alone those for which guarded holds, because their
// pass ends them. again or an error ends the pass.
func (x *exclusives) endLapsed(ctx context.Context, u *unit, want *structs.Assignment, all map[uint64]*backend.Container,
	guarded func(*backend.Container) bool) (again time.Duration, err error) {
	var live []*backend.Container
	for _, c := range all {
		if c.Live() && x.journal.needsLease(c.Entry) {
			live = append(live, c)
		}
	}
	x.mu.Lock()
	u.leased = len(live) > 0
	answered := x.answered
	x.mu.Unlock()
	if run, _ := x.lease.May(structs.ExclusiveLease); run || !answered {
		return 0, nil
	}
	ended := false
	for _, c := range live {
		if guarded(c) {
			continue
		}
		rec, _ := x.journal.record(c.Ref)
		left, err := x.end(ctx, u, want, c, &rec)
		if err != nil {
			return 0, err
		}
		again, ended = max(again, left), ended || left == 0
	}
	if ended {
		x.mu.Lock()
		u.dirty = true
		x.mu.Unlock()
		return 0, errInterrupted // all was read before the process ended
	}
	return again, nil
}

// whileLeased makes a call that ends a container and may take long. If the container
// needs a lease, the call is cancelled once the lease has ended, and the next pass ends
// the process in the time that is left.
func (x *exclusives) whileLeased(ctx context.Context, u *unit, c *backend.Container, call func(context.Context) error) error {
	if !x.journal.needsLease(c.Entry) {
		return call(ctx)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	x.mu.Lock()
	if run, _ := x.lease.May(structs.ExclusiveLease); run {
		u.unlease = func() {
			if run, _ := x.lease.May(structs.ExclusiveLease); !run {
				cancel(errInterrupted)
			}
		}
	} // else the call ends a process that has no lease
	x.mu.Unlock()
	err := call(ctx)
	x.mu.Lock()
	u.unlease = nil
	x.mu.Unlock()
	if err != nil && context.Cause(ctx) == errInterrupted {
		return errInterrupted
	}
	return err
}

// kickExclusive kicks all exclusive containers, desired or not: whether they may run has
// changed.
func (r *reconciler) kickExclusive() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.kickExclusiveLocked()
}

func (r *reconciler) kickExclusiveLocked() {
	for _, u := range r.units.all {
		if u.exclusive() || u.leased {
			r.kickLocked(u)
		}
		if u.unlease != nil {
			u.unlease()
		}
	}
}

// unconfirm is called when the engine is away: what ran on it may have been placed
// elsewhere meanwhile.
func (r *reconciler) unconfirm() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.verified = false
	r.exclusive.unconfirmLocked()
}

// guarded is the part of a backend that the guard needs.
type guarded interface {
	lease.Engine
	List(ctx context.Context, owner backend.Owner) ([]backend.Entry, error)
	Owners(ctx context.Context) ([]backend.Owner, error)
}

// newGuard returns the guard of an earlier instance's lease. owner.ClusterID is "" if the
// journal doesn't know the cluster.
func newGuard(b guarded, owner backend.Owner, j *journal, file *lease.File, log hclog.Logger) *lease.Guard {
	retry := backoff{min: 200 * time.Millisecond, max: 2 * time.Second}
	return &lease.Guard{
		Engine: b, File: file, Log: log,
		List: func(ctx context.Context) ([]backend.Entry, error) { return leasedEntries(ctx, b, owner, j) },
		Revoke: func(c *backend.Container) (fresh bool, err error) {
			rec, _ := j.record(c.Ref)
			log.Warn("no server was reached in time: the lease has ended, and the container stops", keysOf(c.Ref)...)
			if rec.Lapsed != nil && rec.Lapsed.StartedAt.Equal(c.StartedAt) {
				return false, nil
			}
			rec.Lease, rec.Lapsed = true, &intent{Generation: rec.Generation, StartedAt: c.StartedAt}
			return true, j.put(rec)
		},
		Retry: func(ctx context.Context) error { return retry.wait(ctx, 0) },
	}
}

// leasedEntries lists the host's containers that run only under a lease. If the journal
// doesn't know the cluster, the containers' labels name it; the host is known from the
// data directory.
func leasedEntries(ctx context.Context, b guarded, owner backend.Owner, j *journal) ([]backend.Entry, error) {
	owners := []backend.Owner{owner}
	if owner.ClusterID == "" {
		all, err := b.Owners(ctx)
		if err != nil {
			return nil, err
		}
		owners = slices.DeleteFunc(all, func(o backend.Owner) bool { return o.HostID != owner.HostID })
	}
	var entries []backend.Entry
	for _, o := range owners {
		list, err := b.List(ctx, o)
		if err != nil {
			return nil, err
		}
		entries = append(entries, list...)
	}
	// The oldest container of a placement is magnum's, unless the journal names another.
	slices.SortFunc(entries, func(a, b backend.Entry) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.EngineID, b.EngineID))
	})
	type one struct {
		structs.Ref
		attempt uint64
	}
	found := make(map[one]bool)
	return slices.DeleteFunc(entries, func(e backend.Entry) bool {
		rec, _ := j.record(e.Ref)
		if found[one{e.Ref, e.Attempt}] || !rec.owns(e) {
			return true
		}
		found[one{e.Ref, e.Attempt}] = true
		return !j.needsLease(e)
	}), nil
}

// guard keeps an exclusive container from running where it may not. held says that the
// pass ends with it.
func (p *pass) guard(ctx context.Context) (held bool, again time.Duration, err error) {
	if p.task.want.Spec == nil || p.task.want.Spec.Exclusive == structs.ExclusiveNo || !p.task.keeps() {
		return false, 0, nil
	}
	// Both are read under one lock: an answer that takes the container away may also
	// confirm the lease, and does not confirm the assignment of this pass.
	p.r.mu.Lock()
	run, start := p.r.exclusive.lease.May(p.task.want.Spec.Exclusive)
	overtaken := p.u.want == nil || p.u.overtakes(&p.task.want)
	p.r.mu.Unlock()
	reboot := p.task.want.Desired == structs.DesiredRunning && p.task.rec.Generation < p.task.want.RebootGeneration
	switch {
	case p.task.cur.Live() && !run:
		again, err = p.expire(ctx)
		return true, again, err
	case p.task.cur.Live() && !reboot:
		return false, 0, nil
	case overtaken:
		return true, 0, nil // the next pass follows
	case start:
		return false, 0, nil
	}
	p.reportWaiting()
	return true, 0, nil
}

// reportWaiting reports that the container may not be started yet. A confirmation kicks
// its unit.
func (p *pass) reportWaiting() {
	reason := "it is exclusive: it is started once the servers have confirmed that it belongs on this host"
	if p.task.rec.Lapsed != nil {
		reason = "it was stopped because its host could not reach the servers in time; " +
			"it is started again, here or on another host, once they are reached"
	}
	if p.task.rec.Generation == 0 {
		p.report(structs.Observed{Status: structs.ContainerCreating, Reason: reason}, nil)
		return
	}
	p.report(p.status(reason), nil)
}

// expire ends the process because the lease has ended, and reports that.
func (p *pass) expire(ctx context.Context) (time.Duration, error) {
	if again, err := p.r.exclusive.end(ctx, p.u, &p.task.want, p.task.cur, &p.task.rec); again > 0 || err != nil {
		return again, err
	}
	if err := p.look(ctx); err != nil {
		return 0, err
	}
	p.reportWaiting()
	return 0, nil
}

// resume starts a process again that the agent ended with its lease. As with an intent,
// StartedAt shows whether the start has happened.
func (p *pass) resume(ctx context.Context) (time.Duration, error) {
	if err := p.r.backend.Start(ctx, p.task.cur.EngineID); err != nil {
		return p.actionFailed(err, "starting it again failed: ")
	}
	p.task.rec.Restarts, p.task.rec.Lapsed = p.task.rec.Restarts+1, nil
	if err := p.task.save(); err != nil {
		return 0, err
	}
	if err := p.look(ctx); err != nil {
		return 0, err
	}
	return 0, p.complete()
}
