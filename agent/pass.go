package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/structs"
)

// errInterrupted ends a pass whose assignment has been overtaken.
var errInterrupted = errors.New("overtaken by a newer assignment")

// Pauses between tries of what has failed and may heal, doubled up to a limit.
const (
	imageRetry   = 30 * time.Second // an image that its registry doesn't have
	failRetry    = 5 * time.Second  // a taken port or name, a refused start
	failLimit    = 5 * time.Minute
	nameLimit    = time.Minute
	restartPause = 500 * time.Millisecond // before an ended process is started by its restart policy
	restartLimit = time.Minute
	restartCalm  = 10 * time.Second // a process that ran so long has not failed at once
	removingWait = time.Second      // before looking again at what somebody else is removing
)

// pass is one look at a unit and what it leads to. It runs without the
// reconciler's lock and belongs to one goroutine.
type pass struct {
	r    *reconciler
	u    *unit
	want structs.Assignment // zero if nobody has asked for the container

	rec   record // of want's placement
	known bool   // rec was in the journal
	cur   *backend.Container
}

// run looks and acts. again says when to look once more although nothing
// changes; an error, that the pass could not be finished.
func (p *pass) run(ctx context.Context) (again time.Duration, err error) {
	all, err := p.inspect(ctx)
	if err != nil {
		return 0, err
	}
	if p.want.ContainerID == "" {
		if len(all) > 0 {
			p.r.needFull()
		}
		return 0, nil
	}
	for epoch, c := range all {
		switch {
		case epoch < p.want.Epoch:
			// The cluster has placed it anew: what is left of the old
			// placement goes before the new one comes.
			if err := p.remove(ctx, c, p.want.Force); err != nil {
				return 0, err
			}
			p.r.forget(c.Ref)
		case epoch > p.want.Epoch:
			p.r.log.Error("the engine has a newer container than the cluster knows of; it is left alone",
				"container_id", p.u.id, "epoch", epoch, "assigned_epoch", p.want.Epoch)
			return 0, nil
		}
	}
	p.cur = all[p.want.Epoch]
	p.rec, p.known = p.r.journal.record(p.ref())
	switch {
	case p.want.Desired == structs.DesiredAbsent:
		return p.absent(ctx)
	case p.cur == nil:
		if again, err := p.create(ctx); err != nil || p.cur == nil {
			return again, err
		}
	case p.cur.State == backend.StateRemoving:
		return removingWait, nil
	}
	if err := p.adopt(); err != nil {
		return 0, err
	}
	return p.act(ctx)
}

func (p *pass) ref() backend.Ref {
	return backend.Ref{ContainerID: p.want.ContainerID, Epoch: p.want.Epoch}
}

// pending reports whether the last action asked for is still to be done.
func (p *pass) pending() bool {
	return p.rec.Generation < p.want.Generation || p.rec.Failed
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
	p.u.tries++
	p.u.hold, p.u.reason = time.Now().Add(d), reason
	return d
}

// calm ends all holding: something has succeeded.
func (p *pass) calm() {
	p.r.mu.Lock()
	defer p.r.mu.Unlock()
	p.u.tries, p.u.hold, p.u.reason = 0, time.Time{}, ""
}

// inspect looks at all placements that are known to be on the engine, and
// forgets those that aren't.
func (p *pass) inspect(ctx context.Context) (map[uint64]*backend.Container, error) {
	p.r.mu.Lock()
	have := maps.Clone(p.u.have)
	p.r.mu.Unlock()
	all := make(map[uint64]*backend.Container, len(have))
	for epoch, id := range have {
		c, err := p.r.backend.Inspect(ctx, id)
		switch {
		case errors.Is(err, backend.ErrNotFound):
			p.drop(epoch, id)
		case err != nil:
			return nil, err
		default:
			all[epoch] = c
		}
	}
	return all, nil
}

// drop notes that the engine no longer has a placement.
func (p *pass) drop(epoch uint64, engineID string) {
	p.r.mu.Lock()
	defer p.r.mu.Unlock()
	if p.u.have[epoch] == engineID {
		delete(p.u.have, epoch)
	}
}

// look looks at the container again, after an action.
func (p *pass) look(ctx context.Context) error {
	c, err := p.r.backend.Inspect(ctx, p.cur.EngineID)
	if errors.Is(err, backend.ErrNotFound) {
		// Removed a moment ago: the next pass tells of it.
		p.r.mu.Lock()
		p.u.dirty = true
		p.r.mu.Unlock()
		return errInterrupted
	}
	if err == nil {
		p.cur = c
	}
	return err
}

// save writes the record.
func (p *pass) save() error {
	p.known = true
	return p.r.journal.put(p.rec)
}

// done notes that the generation has been carried out.
func (p *pass) done() error {
	p.calm()
	if p.rec.Generation == p.want.Generation && !p.rec.Failed && p.rec.Intent == nil {
		return nil
	}
	p.rec.Generation, p.rec.Failed, p.rec.Reason, p.rec.Intent = p.want.Generation, false, "", nil
	return p.save()
}

// fail notes that the generation has been given up, which users hear at once;
// it is tried again after the pause that is returned, in case it heals.
func (p *pass) fail(base, limit time.Duration, reason string) (time.Duration, error) {
	again := p.holdFor(base, limit, reason)
	if p.rec.Generation != p.want.Generation || !p.rec.Failed || p.rec.Reason != reason {
		p.rec.Generation, p.rec.Failed, p.rec.Reason = p.want.Generation, true, reason
		if err := p.save(); err != nil {
			return 0, err
		}
	}
	p.tell()
	return again, nil
}

// absent removes the container, and says so until a server has heard it.
func (p *pass) absent(ctx context.Context) (time.Duration, error) {
	if p.cur != nil {
		err := p.remove(ctx, p.cur, p.want.Force)
		if err != nil && !errors.Is(err, errInterrupted) && !errors.Is(err, backend.ErrAway) && ctx.Err() == nil {
			p.report(p.status("removing it failed, and is tried again: "+err.Error()), nil)
		}
		if err != nil {
			return 0, err
		}
		p.cur = nil
	}
	id, epoch := p.want.ContainerID, p.want.Epoch
	p.r.mu.Lock()
	orphan := p.u.orphan
	p.r.mu.Unlock()
	if orphan {
		p.r.removed(id, epoch)
		return 0, nil
	}
	p.report(structs.Observed{Status: structs.ContainerGone, Generation: p.want.Generation}, func() { p.r.removed(id, epoch) })
	return 0, nil
}

// remove ends the process and deletes the container.
func (p *pass) remove(ctx context.Context, c *backend.Container, force bool) error {
	var err error
	switch {
	case !c.Live():
	case force:
		err = p.r.backend.Kill(ctx, c.EngineID)
	default:
		err = p.stop(ctx, c)
	}
	if err == nil || errors.Is(err, backend.ErrNotFound) {
		err = p.r.backend.Remove(ctx, c.EngineID)
	}
	if err == nil {
		p.drop(c.Epoch, c.EngineID)
	}
	return err
}

// stop ends the process in its own time. A stop or delete that comes meanwhile
// overtakes it: its timeout may be shorter. Anything else waits, because the
// engine would still kill the process at the end of this one.
func (p *pass) stop(ctx context.Context, c *backend.Container) error {
	if c.State == backend.StatePaused {
		if err := p.r.backend.Unpause(ctx, c.EngineID); err != nil {
			return err
		}
	}
	return p.interruptible(ctx, func(next structs.Assignment) bool {
		return next.Desired == structs.DesiredAbsent || next.Desired == structs.DesiredStopped
	}, func(ctx context.Context) error {
		return p.r.backend.Stop(ctx, c.EngineID, time.Duration(p.want.StopTimeout)*time.Second)
	})
}

// interruptible makes a call that may take long, and gives it up when an
// assignment comes for which overtakes holds.
func (p *pass) interruptible(ctx context.Context, overtakes func(structs.Assignment) bool, call func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	p.r.mu.Lock()
	p.u.interrupt = func(next structs.Assignment) {
		if overtakes(next) {
			cancel(errInterrupted)
		}
	}
	if p.overtakenLocked() {
		p.u.interrupt(*p.u.want) // it came between the beginning of the pass and now
	}
	p.r.mu.Unlock()
	err := call(ctx)
	p.r.mu.Lock()
	p.u.interrupt = nil
	p.r.mu.Unlock()
	if err != nil && context.Cause(ctx) == errInterrupted {
		return errInterrupted
	}
	return err
}

// overtakenLocked reports whether a newer assignment has come than the pass is
// about. The next pass follows it.
func (p *pass) overtakenLocked() bool {
	now := p.u.want
	return now != nil && (now.Generation != p.want.Generation || now.Epoch != p.want.Epoch || now.Desired != p.want.Desired)
}

// create makes the container unless it was there before: what somebody has
// removed comes back only under a new epoch, which the cluster decides.
func (p *pass) create(ctx context.Context) (again time.Duration, err error) {
	if p.rec.Created || !p.known && p.want.Observed > 0 {
		return 0, p.vanished()
	}
	if left := p.held(); left > 0 {
		return left, nil
	}
	if p.want.Spec == nil {
		return 0, fmt.Errorf("assignment of container %s has no spec", p.want.ContainerID)
	}
	p.forgetOlder()
	req := backend.CreateRequest{Owner: p.r.owner, Ref: p.ref(), ProjectID: p.want.ProjectID, Name: p.want.Name, Spec: p.want.Spec}
	err = p.interruptible(ctx, func(next structs.Assignment) bool {
		return next.Desired == structs.DesiredAbsent || next.Epoch != p.want.Epoch
	}, func(ctx context.Context) error {
		var err error
		p.cur, err = p.r.backend.Create(ctx, req, func(sentence string) {
			p.report(structs.Observed{Status: structs.ContainerCreating, Reason: sentence, Generation: p.rec.Generation}, nil)
		})
		return err
	})
	switch {
	case err == nil:
		p.r.mu.Lock()
		p.u.have[p.want.Epoch] = p.cur.EngineID
		overtaken := p.overtakenLocked()
		p.r.mu.Unlock()
		if overtaken {
			return 0, errInterrupted // a pull takes long: it may not be wanted running any more
		}
		return 0, nil
	case errors.Is(err, errInterrupted), errors.Is(err, backend.ErrAway), ctx.Err() != nil:
		return 0, err
	case errors.Is(err, backend.ErrNoImage):
		return p.fail(imageRetry, failLimit, err.Error())
	case errors.Is(err, backend.ErrNameTaken):
		return p.fail(failRetry, nameLimit, err.Error())
	case errors.Is(err, backend.ErrInvalid):
		return p.fail(failLimit, failLimit, "the engine refuses it: "+err.Error())
	}
	return p.fail(failRetry, failLimit, "creating it failed: "+err.Error())
}

// forgetOlder drops the records of the container's earlier placements.
func (p *pass) forgetOlder() {
	for _, ref := range p.r.journal.refs() {
		if ref.ContainerID == p.want.ContainerID && ref.Epoch < p.want.Epoch {
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
	if !p.known && p.want.Observed > p.rec.Generation {
		// The journal is lost; what the servers have heard is still true.
		p.rec.Generation, changed = min(p.want.Observed, p.want.Generation), true
	}
	if in := p.rec.Intent; in != nil && !p.cur.StartedAt.Equal(in.StartedAt) {
		// The start has happened, and the agent was gone before it could say so.
		if in.Generation < p.want.Generation || p.want.Desired == structs.DesiredRunning {
			p.rec.Generation = max(p.rec.Generation, in.Generation)
			p.rec.Failed, p.rec.Reason = false, ""
		}
		p.rec.Intent, changed = nil, true
	}
	if !changed {
		return nil
	}
	return p.save()
}

// act brings the container from what it is to what is wanted.
func (p *pass) act(ctx context.Context) (time.Duration, error) {
	if p.rec.Failed && p.rec.Generation == p.want.Generation {
		if left := p.held(); left > 0 {
			p.tell()
			return left, nil
		}
	}
	switch p.want.Desired {
	case structs.DesiredRunning:
		return p.keepRunning(ctx)
	case structs.DesiredStopped:
		return p.keepStopped(ctx)
	case structs.DesiredPaused:
		return p.pause(ctx)
	}
	return 0, p.settle()
}

// settle notes that all is as it was asked for, and tells what is seen.
func (p *pass) settle() error {
	if err := p.done(); err != nil {
		return err
	}
	p.tell()
	return nil
}

// keepRunning starts, restarts and unpauses.
func (p *pass) keepRunning(ctx context.Context) (time.Duration, error) {
	reboot := p.rec.Generation < p.want.RebootGeneration && p.cur.Live()
	switch {
	case reboot:
		if err := p.intend(); err != nil {
			return 0, err
		}
		// Two calls and no restart of the engine's: each half may be
		// repeated after a crash without harm.
		if err := p.stop(ctx, p.cur); err != nil {
			return p.failed(err, "stopping it failed: ")
		}
		return p.start(ctx)
	case p.cur.State == backend.StatePaused && p.pending():
		if err := p.r.backend.Unpause(ctx, p.cur.EngineID); err != nil {
			return p.failed(err, "unpausing it failed: ")
		}
		if err := p.look(ctx); err != nil {
			return 0, err
		}
		return 0, p.settle()
	case p.cur.Live():
		// Also what somebody else has paused: that is told, not fought.
		return 0, p.settle()
	case p.pending():
		if err := p.intend(); err != nil {
			return 0, err
		}
		return p.start(ctx)
	case p.want.Spec != nil && p.want.Spec.RestartPolicy.Always():
		return p.restart(ctx)
	}
	p.tell()
	return 0, nil
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

// start starts the process for the generation under way.
func (p *pass) start(ctx context.Context) (time.Duration, error) {
	if err := p.r.backend.Start(ctx, p.cur.EngineID); err != nil {
		return p.failed(err, "starting it failed: ")
	}
	if err := p.look(ctx); err != nil {
		return 0, err
	}
	return 0, p.settle()
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

// restart starts a process that has ended although its restart policy says
// always. The engine does that itself unless somebody has stopped or killed the
// container by hand, or the engine was killed.
func (p *pass) restart(ctx context.Context) (time.Duration, error) {
	if left := p.held(); left > 0 {
		p.tell()
		return left, nil
	}
	p.r.mu.Lock()
	if p.cur.FinishedAt.Sub(p.cur.StartedAt) >= restartCalm {
		p.u.deaths = 0
	}
	due := p.cur.FinishedAt.Add(doubled(restartPause, restartLimit, p.u.deaths))
	p.r.mu.Unlock()
	if left := min(time.Until(due), restartLimit); left > 0 {
		p.report(p.status(ended(p.cur)+"; its restart policy will start it again"), nil)
		return left, nil
	}
	restarts := p.cur.RestartCount + 1
	if err := p.r.backend.Start(ctx, p.cur.EngineID); err != nil {
		if errors.Is(err, backend.ErrAway) || errors.Is(err, backend.ErrNotFound) || ctx.Err() != nil {
			return p.failed(err, "")
		}
		again := p.holdFor(failRetry, failLimit, "starting it again failed: "+err.Error())
		p.tell()
		return again, nil
	}
	p.calm()
	p.r.mu.Lock()
	p.u.deaths++
	p.r.mu.Unlock()
	p.rec.Restarts += restarts
	if err := p.save(); err != nil {
		return 0, err
	}
	if err := p.look(ctx); err != nil {
		return 0, err
	}
	p.tell()
	return 0, nil
}

// keepStopped stops what runs, also what somebody else has started: a user has
// said stop, and a start of an agent that was killed may come late.
func (p *pass) keepStopped(ctx context.Context) (time.Duration, error) {
	if p.cur.Live() {
		if err := p.stop(ctx, p.cur); err != nil {
			return p.failed(err, "stopping it failed: ")
		}
		if err := p.look(ctx); err != nil {
			return 0, err
		}
	}
	return 0, p.settle()
}

// pause freezes the process once.
func (p *pass) pause(ctx context.Context) (time.Duration, error) {
	switch {
	case p.cur.State == backend.StatePaused:
		return 0, p.settle()
	case !p.pending():
		p.tell() // somebody else has unpaused it: that is told, not fought
		return 0, nil
	case p.cur.State == backend.StateCreated:
		// A new placement of a container that is to be paused.
		if err := p.intend(); err != nil {
			return 0, err
		}
		if err := p.r.backend.Start(ctx, p.cur.EngineID); err != nil {
			return p.failed(err, "starting it failed: ")
		}
	case p.cur.State == backend.StateExited:
		return p.fail(failLimit, failLimit, "it can't be paused: its process does not run; start it first")
	}
	if err := p.r.backend.Pause(ctx, p.cur.EngineID); err != nil {
		return p.failed(err, "pausing it failed: ")
	}
	if err := p.look(ctx); err != nil {
		return 0, err
	}
	return 0, p.settle()
}
