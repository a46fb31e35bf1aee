package agent

import (
	"cmp"
	"context"
	"errors"

	"github.com/stackforge/magnum/agent/backend"
)

// defaultSignal is sent by a kill that names none.
const defaultSignal = "SIGKILL"

// kill sends the signal of the last kill, unless it was dealt with before. It
// is sent at most once: the journal hears of it first, and what is found there
// is taken for sent. No process that starts later gets it, also not when the
// start was asked for before the kill.
func (p *pass) kill(ctx context.Context) error {
	gen := p.want.KillGeneration
	if gen > p.rec.Generation && (p.rec.Kill == nil || p.rec.Kill.Generation < gen) {
		if err := p.signal(ctx); err != nil {
			return err
		}
	}
	if gen == p.want.Generation && p.rec.Generation < gen && !p.pending() {
		return p.done()
	}
	return nil
}

// signal sends the signal, or notes why it can't be sent.
func (p *pass) signal(ctx context.Context) error {
	signal := cmp.Or(p.want.Signal, defaultSignal)
	p.rec.Kill = &kill{Generation: p.want.KillGeneration, Signal: signal, StartedAt: p.cur.StartedAt}
	if !p.cur.Live() {
		p.rec.Kill.Refused = "signal " + signal + " was not sent: no process of the container ran"
		return p.save()
	}
	if err := p.save(); err != nil {
		return err
	}
	err := p.r.backend.Signal(ctx, p.cur.EngineID, signal)
	switch {
	case err == nil:
		return p.look(ctx)
	case errors.Is(err, backend.ErrNotFound), ctx.Err() != nil:
		_, err = p.failed(err, "")
		return err
	case errors.Is(err, backend.ErrAway):
		p.rec.Kill.Refused = "whether signal " + signal + " has arrived is not known: the engine went away meanwhile"
		return errors.Join(err, p.save())
	}
	p.rec.Kill.Refused = "signal " + signal + " was not sent: " + err.Error()
	if err := p.save(); err != nil {
		return err
	}
	return p.look(ctx)
}

// refused says why the generation under way can't be carried out in full, and
// what else it asks for is done all the same: a signal was not sent, or the
// engine does not give the limits. "" if there is nothing of the kind.
func (p *pass) refused() string {
	if k := p.rec.Kill; k != nil && k.Refused != "" && k.Generation == p.want.Generation && k.Generation == p.want.KillGeneration {
		return k.Refused
	}
	if gen := p.want.LimitGeneration; gen != 0 && gen != p.want.Generation {
		return "" // it was about something else, which is done
	}
	return p.rec.Denied // also from servers that don't tell
}

// partly reports whether the last generation has failed only as far as refused
// says: the rest of it was done.
func (p *pass) partly() bool {
	return p.rec.Reason == p.rec.Denied || p.rec.Kill != nil && p.rec.Reason == p.rec.Kill.Refused
}

// killed reports whether the last run of the process was sent a user's signal.
func (p *pass) killed() bool {
	k := p.rec.Kill
	return k != nil && k.Refused == "" && p.cur != nil && k.StartedAt.Equal(p.cur.StartedAt)
}
