package agent

import (
	"context"
	"errors"
	"time"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/structs"
)

// standing is what the agent knows of its right to run exclusive containers.
// The reconciler's mu guards it. DESIGN.md has the rules and why they hold.
type standing struct {
	nudge func() // ends the poll under way, so that the next one asks for proof; may be nil

	round   uint64 // raised whenever proof is lost: an answer to an earlier poll proves nothing
	proven  bool   // a confirmed full answer, asked for in this round, has said what is to run here
	leased  bool   // there is a lease now
	sworn   bool   // and a full answer that was asked for under it proves that what has a lease is still ours
	broken  bool   // the lease has ended since sworn was last true: what runs has no right to, even if there is another lease by now
	until   time.Time
	grace   time.Duration // between asking a process to end when the lease does, and killing it
	lapse   *time.Timer   // fires at until
	file    *leaseFile    // where until is kept; nil for nowhere
	keeping bool          // it is being written
}

// stance is how the host stands when a poll is sent.
type stance struct {
	round  uint64
	leases bool // there are containers that need a lease
	leased bool // and it has one
	proof  bool // a confirmed full answer is wanted
}

// stance returns how the host stands now.
func (r *reconciler) stance() stance {
	r.mu.Lock()
	defer r.mu.Unlock()
	in := stance{round: r.round, leased: r.leased}
	for _, u := range r.units {
		if u.want == nil || u.want.Desired == structs.DesiredAbsent {
			continue
		}
		if u.want.Unreadable != "" {
			in.leases = true // for all that is known
		}
		if u.want.Spec == nil {
			continue
		}
		switch u.want.Spec.Exclusive {
		case structs.ExclusiveYes:
			in.proof = in.proof || !r.proven
		case structs.ExclusiveLease:
			in.leases = true
			in.proof = in.proof || r.leased && !r.sworn
		}
	}
	return in
}

// proveLocked takes a confirmed full answer to a poll that was sent in the
// stance.
func (r *reconciler) proveLocked(in stance) {
	if in.round != r.round {
		return
	}
	proven, sworn := true, r.sworn || in.leased && r.leased
	if proven == r.proven && sworn == r.sworn {
		return
	}
	r.proven, r.sworn, r.broken = proven, sworn, r.broken && !sworn
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

// unprove is called when the engine has been away: what ran there may have
// been placed elsewhere meanwhile.
func (r *reconciler) unprove() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.round++
	r.met = false
	lost := r.proven || r.sworn
	r.proven, r.sworn = false, false
	if !lost || r.nudge == nil {
		return
	}
	for _, u := range r.units {
		if u.exclusive() { // nobody else waits for it, and a poll that is cut off may have had a session's offer in its answer
			r.nudge()
			return
		}
	}
}

// renew takes a longer lease. grace is what a process has between being asked
// to end at its end and being killed.
func (r *reconciler) renew(until time.Time, grace time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.renewLocked(until, grace)
}

func (r *reconciler) renewLocked(until time.Time, grace time.Duration) {
	left := time.Until(until)
	if !until.After(r.until) || left <= 0 {
		return
	}
	r.lapseLocked() // this may come before the timer of the last one, which has ended all the same
	r.until, r.grace, r.leased = until, grace, true
	if r.lapse == nil {
		r.lapse = time.AfterFunc(left, r.lapsed)
	} else {
		r.lapse.Reset(left)
	}
	r.keepLocked()
}

// keepLocked has the lease written. Nobody waits for that, for the disk may take
// its time, and the lease ends meanwhile: one that isn't written is as good as none
// for the agent's next life.
func (r *reconciler) keepLocked() {
	if r.file == nil || r.keeping || !r.running {
		return
	}
	r.keeping = true
	r.work.Go(func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		for written := (time.Time{}); written != r.until; {
			until, grace := r.until, r.grace
			r.mu.Unlock()
			err := r.file.write(time.Until(until), grace)
			r.mu.Lock()
			if written = until; err != nil {
				r.log.Warn("lease not written: after a restart of the agent its containers stop", "error", err)
			}
		}
		r.keeping = false
	})
}

// lapsed ends the lease, unless it was renewed in time.
func (r *reconciler) lapsed() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lapseLocked()
}

func (r *reconciler) lapseLocked() {
	if !r.leased || time.Until(r.until) > 0 {
		return
	}
	r.leased, r.sworn, r.broken = false, false, true
	r.round++
	r.log.Warn("the servers could not be reached in time: the lease has ended, and what needs it stops")
	r.kickExclusiveLocked()
}

// keepLease takes over the lease of an earlier life of the agent.
func (r *reconciler) keepLease(f *leaseFile) error {
	left, grace, err := f.read()
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.file = f
	r.renewLocked(time.Now().Add(left), grace)
	return nil
}

// startMargin is the part of a lease that has to be left for a start: the
// engine may take its time.
const startMargin = time.Second

// may reports whether a container may go on running here, and whether it may
// be started.
func (r *reconciler) may(kind structs.Exclusive) (run, start bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch kind {
	case structs.ExclusiveNo:
		return true, true
	case structs.ExclusiveYes:
		return true, r.proven
	}
	leased := r.leased && time.Until(r.until) > 0
	return leased && !r.broken, leased && r.proven && r.sworn && time.Until(r.until) > startMargin/4
}

// guard keeps an exclusive container from running where it may not. held says
// that the pass ends with it.
func (p *pass) guard(ctx context.Context) (held bool, again time.Duration, err error) {
	starts := p.want.Desired == structs.DesiredRunning || p.want.Desired == structs.DesiredPaused
	if p.want.Spec == nil || p.want.Spec.Exclusive == structs.ExclusiveNo || !starts {
		return false, 0, nil
	}
	run, start := p.r.may(p.want.Spec.Exclusive)
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
		p.r.mu.Lock()
		grace := min(p.r.grace, time.Duration(p.want.StopTimeout)*time.Second)
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
