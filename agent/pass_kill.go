package agent

import (
	"cmp"
	"context"
	"errors"

	"github.com/stackforge/magnum/agent/backend"
)

// defaultSignal is the signal of a kill that names none.
const defaultSignal = "SIGKILL"

// kill sends the signal of the last kill, unless that was done before. It is sent at most
// once: the journal gets its record first, and a recorded signal counts as sent. A
// process that starts later doesn't get it, even if its start was asked for before the
// kill.
func (p *pass) kill(ctx context.Context) error {
	gen := p.task.want.KillGeneration
	if gen > p.task.rec.Generation && (p.task.rec.Kill == nil || p.task.rec.Kill.Generation < gen) {
		if err := p.signal(ctx); err != nil {
			return err
		}
	}
	if gen == p.task.want.Generation && p.task.rec.Generation < gen && !p.task.pending() {
		return p.recordSuccess()
	}
	return nil
}

// signal sends the signal, or records why it can't be sent.
func (p *pass) signal(ctx context.Context) error {
	signal := cmp.Or(p.task.want.Signal, defaultSignal)
	p.task.rec.Kill = &kill{Generation: p.task.want.KillGeneration, Signal: signal, StartedAt: p.task.cur.StartedAt}
	if !p.task.cur.Live() {
		p.task.rec.Kill.Refused = "signal " + signal + " was not sent: no process of the container ran"
		return p.task.save()
	}
	if err := p.task.save(); err != nil {
		return err
	}
	err := p.r.backend.Signal(ctx, p.task.cur.EngineID, signal)
	switch {
	case err == nil:
		return p.look(ctx)
	case errors.Is(err, backend.ErrNotFound), ctx.Err() != nil:
		_, err = p.actionFailed(err, "")
		return err
	case errors.Is(err, backend.ErrAway):
		p.task.rec.Kill.Refused = "whether signal " + signal + " has arrived is not known: the engine went away meanwhile"
		return errors.Join(err, p.task.save())
	}
	p.task.rec.Kill.Refused = "signal " + signal + " was not sent: " + err.Error()
	if err := p.task.save(); err != nil {
		return err
	}
	return p.look(ctx)
}
