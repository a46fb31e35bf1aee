package agent

import (
	"context"
	"errors"
	"time"

	"github.com/stackforge/magnum/agent/backend"
)

// Pauses before the restart policy starts an ended process.
const (
	restartPause = 500 * time.Millisecond // doubled for each quick end
	restartLimit = time.Minute
	restartReset = 10 * time.Second // a process that ran this long has not ended quickly
)

// keepRunning starts, reboots or unpauses the process.
func (p *pass) keepRunning(ctx context.Context) (time.Duration, error) {
	reboot := p.task.rec.Generation < p.task.want.RebootGeneration && p.task.cur.Live()
	switch {
	case reboot:
		if err := p.task.intend(); err != nil {
			return 0, err
		}
		// A stop and a start, not the engine's restart call: each may be repeated after a
		// crash without harm.
		if err := p.stop(ctx, p.task.cur); err != nil {
			return p.actionFailed(err, "stopping it failed: ")
		}
		return p.start(ctx)
	case p.task.cur.State == backend.StatePaused && p.task.starting():
		if err := p.r.backend.Unpause(ctx, p.task.cur.EngineID); err != nil {
			return p.actionFailed(err, "unpausing it failed: ")
		}
		if err := p.look(ctx); err != nil {
			return 0, err
		}
		return 0, p.complete()
	case p.task.cur.Detached:
		return reconnect(ctx, p)
	case p.task.cur.Live():
		// This includes a container that somebody else has paused: it stays paused.
		return 0, p.complete()
	case p.task.starting():
		if err := p.task.intend(); err != nil {
			return 0, err
		}
		return p.start(ctx)
	case p.task.interrupted():
		return p.resume(ctx)
	case p.task.restarts():
		if p.task.rec.Generation < p.task.want.Generation {
			if err := p.recordSuccess(); err != nil { // no start was asked for, so the action is done before the policy's pause ends
				return 0, err
			}
		}
		return p.restart(ctx)
	}
	return 0, p.complete()
}

// reconnect connects a container to its project's network, from which somebody else has
// disconnected it.
func reconnect(ctx context.Context, p *pass) (time.Duration, error) {
	if left := p.r.backoffLeft(p.u); left > 0 {
		p.reportStatus()
		return left, nil
	}
	const lost = "somebody has disconnected it from the project's network on its host"
	p.report(p.status(lost), nil)
	err := p.r.backend.Reconnect(ctx, p.task.cur.EngineID)
	switch {
	case err == nil:
		if err := p.look(ctx); err != nil {
			return 0, err
		}
		return 0, p.complete()
	case errors.Is(err, backend.ErrAway), errors.Is(err, backend.ErrNotFound), ctx.Err() != nil:
		return p.actionFailed(err, "")
	}
	again := p.delayRetry(failRetry, failLimit, lost+", and connecting it again failed: "+err.Error())
	p.reportStatus()
	return again, nil
}

// start starts the process for the generation in progress.
func (p *pass) start(ctx context.Context) (time.Duration, error) {
	p.task.rec.Tries, p.task.rec.Lapsed = 0, nil
	if err := p.r.backend.Start(ctx, p.task.cur.EngineID); err != nil {
		return p.actionFailed(err, "starting it failed: ")
	}
	if err := p.look(ctx); err != nil {
		return 0, err
	}
	return 0, p.complete()
}

// restart starts an ended process because its restart policy says so. The engine does
// that itself, unless somebody has stopped or killed the container by hand or the engine
// was killed.
func (p *pass) restart(ctx context.Context) (time.Duration, error) {
	if left := p.r.backoffLeft(p.u); left > 0 {
		p.reportStatus()
		return left, nil
	}
	p.r.mu.Lock()
	if p.task.cur.FinishedAt.Sub(p.task.cur.StartedAt) >= restartReset {
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
			return p.actionFailed(err, "")
		}
		again := p.delayRetry(failRetry, failLimit, "starting it again failed: "+err.Error())
		p.reportStatus()
		return again, nil
	}
	p.r.resetBackoff(p.u)
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
	p.reportStatus()
	return 0, nil
}

// pause freezes the process once.
func (p *pass) pause(ctx context.Context) (time.Duration, error) {
	switch {
	case p.task.cur.State == backend.StatePaused:
		return 0, p.complete()
	case !p.task.pending():
		p.reportStatus() // somebody else has unpaused it: it stays unpaused
		return 0, nil
	case p.task.cur.State == backend.StateCreated:
		// This is a new placement of a container that is to be paused.
		if err := p.task.intend(); err != nil {
			return 0, err
		}
		if err := p.r.backend.Start(ctx, p.task.cur.EngineID); err != nil {
			return p.actionFailed(err, "starting it failed: ")
		}
	case p.task.cur.State == backend.StateExited:
		return p.fail(failLimit, failLimit, "it can't be paused: its process does not run; start it first")
	}
	if err := p.r.backend.Pause(ctx, p.task.cur.EngineID); err != nil {
		return p.actionFailed(err, "pausing it failed: ")
	}
	if err := p.look(ctx); err != nil {
		return 0, err
	}
	return 0, p.complete()
}
