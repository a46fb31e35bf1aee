package agent

import (
	"context"
	"errors"
	"time"

	"github.com/stackforge/magnum/agent/backend"
)

// Pauses before an ended process is started by its restart policy.
const (
	restartPause = 500 * time.Millisecond // doubled for each quick end
	restartLimit = time.Minute
	restartCalm  = 10 * time.Second // a process that ran so long has not failed at once
)

// keepRunning starts, restarts and unpauses.
func (p *pass) keepRunning(ctx context.Context) (time.Duration, error) {
	reboot := p.task.rec.Generation < p.task.want.RebootGeneration && p.task.cur.Live()
	switch {
	case reboot:
		if err := p.task.intend(); err != nil {
			return 0, err
		}
		// Two calls and no restart of the engine's: each half may be
		// repeated after a crash without harm.
		if err := p.stop(ctx, p.task.cur); err != nil {
			return p.failed(err, "stopping it failed: ")
		}
		return p.start(ctx)
	case p.task.cur.State == backend.StatePaused && p.task.starting():
		if err := p.r.backend.Unpause(ctx, p.task.cur.EngineID); err != nil {
			return p.failed(err, "unpausing it failed: ")
		}
		if err := p.look(ctx); err != nil {
			return 0, err
		}
		return 0, p.settle()
	case p.task.cur.Live():
		// Also what somebody else has paused: that is told, not fought.
		return 0, p.settle()
	case p.task.starting():
		if err := p.task.intend(); err != nil {
			return 0, err
		}
		return p.start(ctx)
	case p.task.interrupted():
		return p.resume(ctx)
	case p.task.restarts():
		if p.task.rec.Generation < p.task.want.Generation {
			if err := p.done(); err != nil { // it asked for no start: the policy's pause is nothing to wait for
				return 0, err
			}
		}
		return p.restart(ctx)
	}
	return 0, p.settle()
}

// start starts the process for the generation under way.
func (p *pass) start(ctx context.Context) (time.Duration, error) {
	p.task.rec.Tries, p.task.rec.Lapsed = 0, nil
	if err := p.r.backend.Start(ctx, p.task.cur.EngineID); err != nil {
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
	if left := p.r.held(p.u); left > 0 {
		p.tell()
		return left, nil
	}
	p.r.mu.Lock()
	if p.task.cur.FinishedAt.Sub(p.task.cur.StartedAt) >= restartCalm {
		p.u.deaths = 0
	}
	due := p.task.cur.FinishedAt.Add(doubled(restartPause, restartLimit, p.u.deaths))
	p.r.mu.Unlock()
	if left := min(time.Until(due), restartLimit); left > 0 {
		p.report(p.status(p.task.ended()+"; its restart policy will start it again"), nil)
		return left, nil
	}
	restarts := p.task.cur.RestartCount + 1
	if err := p.r.backend.Start(ctx, p.task.cur.EngineID); err != nil {
		if errors.Is(err, backend.ErrAway) || errors.Is(err, backend.ErrNotFound) || ctx.Err() != nil {
			return p.failed(err, "")
		}
		again := p.holdFor(failRetry, failLimit, "starting it again failed: "+err.Error())
		p.tell()
		return again, nil
	}
	p.r.calm(p.u)
	p.r.mu.Lock()
	p.u.deaths++
	p.r.mu.Unlock()
	p.task.rec.Restarts += restarts
	p.task.rec.Tries++
	if err := p.task.save(); err != nil {
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
	case p.task.cur.State == backend.StatePaused:
		return 0, p.settle()
	case !p.task.pending():
		p.tell() // somebody else has unpaused it: that is told, not fought
		return 0, nil
	case p.task.cur.State == backend.StateCreated:
		// A new placement of a container that is to be paused.
		if err := p.task.intend(); err != nil {
			return 0, err
		}
		if err := p.r.backend.Start(ctx, p.task.cur.EngineID); err != nil {
			return p.failed(err, "starting it failed: ")
		}
	case p.task.cur.State == backend.StateExited:
		return p.fail(failLimit, failLimit, "it can't be paused: its process does not run; start it first")
	}
	if err := p.r.backend.Pause(ctx, p.task.cur.EngineID); err != nil {
		return p.failed(err, "pausing it failed: ")
	}
	if err := p.look(ctx); err != nil {
		return 0, err
	}
	return 0, p.settle()
}
