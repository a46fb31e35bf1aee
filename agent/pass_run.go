package agent

import (
	"context"
	"errors"
	"time"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/structs"
)

// Pauses before an ended process is started by its restart policy.
const (
	restartPause = 500 * time.Millisecond // doubled for each quick end
	restartLimit = time.Minute
	restartCalm  = 10 * time.Second // a process that ran so long has not failed at once
)

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
	case p.cur.State == backend.StatePaused && p.starting():
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
	case p.starting():
		if err := p.intend(); err != nil {
			return 0, err
		}
		return p.start(ctx)
	case p.interrupted():
		return p.resume(ctx)
	case p.restarts():
		if p.rec.Generation < p.want.Generation {
			if err := p.done(); err != nil { // it asked for no start: the policy's pause is nothing to wait for
				return 0, err
			}
		}
		return p.restart(ctx)
	}
	return 0, p.settle()
}

// restarts reports whether the agent starts the process again that has ended by
// itself.
func (p *pass) restarts() bool {
	if p.want.Spec == nil {
		return false
	}
	policy := p.want.Spec.RestartPolicy
	if policy.Always() || p.want.Spec.Exclusive == structs.ExclusiveNo {
		return policy.Always() // on-failure is the engine's
	}
	return policy.Name == structs.RestartOnFailure && p.cur.State == backend.StateExited && p.cur.ExitCode != 0 && !p.killed() &&
		(policy.MaxRetries == 0 || p.rec.Tries < policy.MaxRetries)
}

// start starts the process for the generation under way.
func (p *pass) start(ctx context.Context) (time.Duration, error) {
	p.rec.Tries, p.rec.Lapsed = 0, nil
	if err := p.r.backend.Start(ctx, p.cur.EngineID); err != nil {
		return p.failed(err, "starting it failed: ")
	}
	if err := p.look(ctx); err != nil {
		return 0, err
	}
	return 0, p.settle()
}

// restart starts a process that has ended although its restart policy says
// otherwise. The engine does that itself unless somebody has stopped or killed the
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
		p.report(p.status(p.ended()+"; its restart policy will start it again"), nil)
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
	p.rec.Tries++
	if err := p.save(); err != nil {
		return 0, err
	}
	if err := p.look(ctx); err != nil {
		return 0, err
	}
	p.tell()
	return 0, nil
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
