package agent

import (
	"context"
	"errors"
	"time"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/structs"
)

// errInterrupted ends a pass that a newer assignment has overtaken.
var errInterrupted = errors.New("overtaken by a newer assignment")

// removingWait is the pause before a container that somebody else is removing is
// inspected again.
const removingWait = time.Second

// pass is one look at a unit, and the actions that follow. It runs without the
// reconciler's lock and belongs to one goroutine.
type pass struct {
	r       *reconciler
	u       *unit
	task    task // the unit's desired placement
	fetched bool // the image has been fetched in this pass
	refuses bool // the host can't run the container: see structs.ContainerReport
	// past are the containers of earlier attempts, by epoch, the newest first. Only parts of
	// pods have any.
	past map[uint64][]*backend.Container
	pod  *podPass // of a part of a pod, else nil
	word string   // of a part of a pod: why the pass fails, one of the structs.Reason constants
}

// run looks and acts. again is when the next pass is due although nothing changes; 0 for
// never. An error says that the pass could not be finished.
func (p *pass) run(ctx context.Context) (again time.Duration, err error) {
	all, err := p.inspect(ctx)
	if err != nil {
		return 0, err
	}
	held, err := p.inQuarantine(ctx, all)
	if held || !p.task.assigned || p.task.want.Unreadable != "" {
		p.u.endChecks(&p.r.mu)
	}
	switch {
	case err != nil:
		return 0, err
	case held && !p.task.assigned:
		return 0, nil
	case held:
		p.task.cur = all[p.task.want.Epoch]
		p.task.rec, p.task.known = p.r.journal.record(p.task.ref())
		return p.fail(failLimit, failLimit, "the host has a container with this uuid, of another history of the cluster, in quarantine "+
			"and leaves it alone until an operator decides with host-adopt")
	}
	if again, err := p.r.exclusive.endLapsed(ctx, p.u, &p.task.want, all, func(c *backend.Container) bool {
		return p.task.assigned && c.Epoch == p.task.want.Epoch && p.task.keeps()
	}); again > 0 || err != nil {
		return again, err
	}
	if !p.task.assigned {
		if len(all) > 0 {
			p.r.needFull()
		}
		return 0, nil
	}
	for epoch, c := range all {
		switch {
		case epoch < p.task.want.Epoch:
			if p.task.old == nil || epoch > p.task.old.Epoch {
				p.task.old = c
			}
		case epoch > p.task.want.Epoch:
			p.u.endChecks(&p.r.mu)
			p.r.log.Error("the engine has a newer container than the cluster knows of; it is left alone",
				keysOf(p.u.ref, "epoch", epoch, "assigned_epoch", p.task.want.Epoch)...)
			return 0, nil
		}
	}
	p.task.cur = all[p.task.want.Epoch]
	p.task.rec, p.task.known = p.r.journal.record(p.task.ref())
	p.task.known = p.task.known && !p.task.rec.lost()
	if p.pod != nil {
		p.pod.looked = true
	}
	if past := p.past[p.task.want.Epoch]; len(past) > 0 {
		p.task.prev = past[0]
	}
	if p.task.want.Unreadable != "" && p.task.want.Desired != structs.DesiredAbsent {
		return p.unreadable(ctx)
	}
	if p.task.old != nil {
		if ready, again, err := p.replace(ctx); !ready {
			return again, err
		}
		for epoch, c := range all {
			if epoch == p.task.want.Epoch {
				continue
			}
			if err := p.remove(ctx, c, p.task.want.Force); err != nil {
				return 0, err
			}
			p.r.forget(c.Ref)
		}
		p.task.old = nil
	}
	switch {
	case p.pod != nil:
		return p.pod.run(ctx)
	case p.task.want.Desired == structs.DesiredAbsent:
		return p.absent(ctx)
	case p.task.cur == nil:
		if again, err := p.create(ctx); err != nil || p.task.cur == nil {
			return again, err
		}
	case p.task.cur.State == backend.StateRemoving:
		return removingWait, nil
	}
	if err := p.task.adopt(); err != nil {
		return 0, err
	}
	return p.act(ctx)
}

// inspect inspects all placements that the unit has on the engine, and drops those that
// the engine doesn't have. It chooses one of several containers of a placement: of a part
// of a pod, the newest attempt.
func (p *pass) inspect(ctx context.Context) (map[uint64]*backend.Container, error) {
	p.r.mu.Lock()
	ids := make(map[string]uint64, len(p.u.have)+len(p.u.claims))
	for id, e := range p.u.claims {
		ids[id] = e.Epoch
	}
	for epoch, id := range p.u.have {
		ids[id] = epoch
	}
	p.r.mu.Unlock()
	found := make(map[uint64][]*backend.Container, len(ids))
	for id, epoch := range ids {
		c, err := p.r.backend.Inspect(ctx, id)
		switch {
		case errors.Is(err, backend.ErrNotFound):
			if err := p.r.trusted(); err != nil {
				return nil, err
			}
			if err := p.r.checkEngine(ctx); err != nil {
				return nil, err
			}
			p.drop(epoch, id)
		case err != nil:
			return nil, err
		default:
			found[epoch] = append(found[epoch], c)
		}
	}
	all := make(map[uint64]*backend.Container, len(found))
	p.past = make(map[uint64][]*backend.Container)
	for epoch, list := range found {
		if mine := p.r.choose(p.u, epoch, list); len(mine) > 0 {
			all[epoch] = mine[0]
			if len(mine) > 1 {
				p.past[epoch] = mine[1:]
			}
		}
	}
	return all, nil
}

// drop notes that the engine no longer has a container.
func (p *pass) drop(epoch uint64, engineID string) {
	p.r.mu.Lock()
	defer p.r.mu.Unlock()
	delete(p.u.claims, engineID)
	for _, sibling := range p.r.units.siblings(p.u.ref) {
		if sibling.isInfra() && sibling != p.u {
			p.r.kickLocked(sibling) // it may have waited for that
		}
	}
	if p.u.have[epoch] == engineID {
		delete(p.u.have, epoch)
		for _, sibling := range p.r.units.siblings(p.u.ref) {
			if sibling.have[epoch] != "" {
				return
			}
		}
		p.r.quarantine.end(p.u.at(epoch), "the engine no longer has it")
	}
}

// look inspects the container again after an action.
func (p *pass) look(ctx context.Context) error {
	c, err := p.r.backend.Inspect(ctx, p.task.cur.EngineID)
	if errors.Is(err, backend.ErrNotFound) {
		// It was removed a moment ago: the next pass reports that.
		p.r.mu.Lock()
		p.u.dirty = true
		p.r.mu.Unlock()
		return errInterrupted
	}
	if err == nil {
		p.task.cur = c
	}
	return err
}

// interruptible makes a call that may take long. It cancels the call when an assignment
// comes for which overtakes holds.
func (p *pass) interruptible(ctx context.Context, overtakes func(structs.Assignment) bool, call func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	p.r.mu.Lock()
	p.u.interrupt = func(next structs.Assignment) {
		if overtakes(next) {
			cancel(errInterrupted)
		}
	}
	if p.u.overtakes(&p.task.want) {
		p.u.interrupt(*p.u.want) // the assignment came after the pass had begun
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

// unreadable fails an assignment that could not be read, but ends a container that may
// not run without a lease.
func (p *pass) unreadable(ctx context.Context) (time.Duration, error) {
	if p.task.cur != nil && p.task.cur.Live() && p.r.journal.needsLease(p.task.cur.Entry) {
		if run, _ := p.r.exclusive.lease.May(structs.ExclusiveLease); !run {
			return p.expire(ctx)
		}
	}
	return p.fail(failLimit, failLimit, "the agent can't read the container's assignment, and leaves the container alone: "+
		p.task.want.Unreadable+"; upgrade the agent, or delete the container")
}

// act makes the container what the assignment says.
func (p *pass) act(ctx context.Context) (time.Duration, error) {
	if p.task.rec.Failed && p.task.rec.Generation == p.task.want.Generation {
		if left := p.r.backoffLeft(p.u); left > 0 {
			p.reportStatus()
			return left, nil
		}
	}
	if err := p.kill(ctx); err != nil {
		return 0, err
	}
	if err := p.limit(ctx); err != nil {
		return 0, err
	}
	again, err := p.reach(ctx)
	if p.task.rec.Denied != "" && again == 0 {
		again = limitRetry
	}
	return again, err
}

// reach brings the process into the desired state.
func (p *pass) reach(ctx context.Context) (time.Duration, error) {
	if held, again, err := p.guard(ctx); held {
		return again, err
	}
	switch p.task.want.Desired {
	case structs.DesiredRunning:
		return p.keepRunning(ctx)
	case structs.DesiredStopped:
		return p.keepStopped(ctx)
	case structs.DesiredPaused:
		return p.pause(ctx)
	}
	return 0, p.complete()
}
