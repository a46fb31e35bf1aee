package agent

import (
	"context"
	"errors"
	"time"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/structs"
)

// absent removes the container, and reports that until a server has taken it.
func (p *pass) absent(ctx context.Context) (time.Duration, error) {
	var err error
	switch {
	case p.task.cur != nil:
		err = p.remove(ctx, p.task.cur, p.task.want.Force)
	case p.pod != nil: // the volumes may be left, because the agent was killed or that failed
		err = p.pod.dropVolumes(ctx, p.task.ref())
	}
	if err != nil {
		if !errors.Is(err, errInterrupted) && !errors.Is(err, backend.ErrAway) && ctx.Err() == nil {
			p.report(p.status("removing it failed, and is tried again: "+err.Error()), nil)
		}
		return 0, err
	}
	ref := p.task.ref()
	p.r.mu.Lock()
	orphan := p.u.orphan
	p.r.mu.Unlock()
	if orphan {
		p.r.removed(ref)
		return 0, nil
	}
	p.report(structs.Observed{Status: structs.ContainerGone, Generation: p.task.want.Generation}, func() { p.r.removed(ref) })
	return 0, nil
}

// remove ends the process and removes the container, with those of earlier attempts.
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
	if err != nil {
		return err
	}
	p.drop(c.Epoch, c.EngineID)
	if p.task.cur == c {
		p.task.cur = nil
	}
	if p.pod != nil {
		return p.pod.removeRest(ctx, c)
	}
	return nil
}

// stop asks the process to end and waits. A later stop or delete interrupts the call,
// because its timeout may be shorter. Any other assignment waits: the engine would still
// kill the process at the end of this stop.
func (p *pass) stop(ctx context.Context, c *backend.Container) error {
	if c.State == backend.StatePaused {
		if err := p.r.backend.Unpause(ctx, c.EngineID); err != nil {
			return err
		}
	}
	return p.interruptible(ctx, func(next structs.Assignment) bool {
		return next.Desired == structs.DesiredAbsent || next.Desired == structs.DesiredStopped
	}, func(ctx context.Context) error {
		return p.r.exclusive.whileLeased(ctx, p.u, c, func(ctx context.Context) error {
			timeout := time.Duration(p.task.want.StopTimeout) * time.Second
			if p.pod != nil {
				timeout = p.pod.beforeStop(ctx, c, timeout)
			}
			return p.r.backend.Stop(ctx, c.EngineID, timeout)
		})
	})
}

// keepStopped stops a running process, even if somebody else has started it: the user
// asked for a stop, and the start may be the late call of an agent that was killed.
func (p *pass) keepStopped(ctx context.Context) (time.Duration, error) {
	if p.task.cur.Live() {
		if err := p.task.halts(); err != nil {
			return 0, err
		}
		if err := p.stop(ctx, p.task.cur); err != nil {
			return p.actionFailed(err, "stopping it failed: ")
		}
		if err := p.look(ctx); err != nil {
			return 0, err
		}
	}
	return 0, p.complete()
}
