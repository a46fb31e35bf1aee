package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stackforge/magnum/agent/backend"
)

// limitRetry is the pause before limits that the engine has refused are tried
// again: a process may need less memory by then.
const limitRetry = time.Minute

// limit gives the container the limits of its spec, without a restart. If the
// engine refuses, the generation has failed, but the rest of it is done.
func (p *pass) limit(ctx context.Context) error {
	if p.want.Spec == nil {
		return nil
	}
	limits := backend.LimitsOf(p.want.Spec)
	if p.cur.Limits == limits {
		return p.deny("")
	}
	err := p.r.backend.Update(ctx, p.cur.EngineID, limits)
	switch {
	case err == nil:
		if err := p.deny(""); err != nil {
			return err
		}
		return p.look(ctx)
	case errors.Is(err, backend.ErrNotFound), errors.Is(err, backend.ErrAway), ctx.Err() != nil:
		_, err = p.failed(err, "")
		return err
	}
	return p.deny(fmt.Sprintf("changing its memory or cpu failed, so it still has %s; this is tried again every minute: %s", limitsText(p.cur.Limits), err))
}

// limitsText names limits for people.
func limitsText(l backend.Limits) string {
	memory, cores := "no memory limit", "no cpu limit"
	if l.Memory > 0 {
		memory = fmt.Sprintf("%d bytes of memory", l.Memory)
	}
	if l.MilliCPU > 0 {
		cores = fmt.Sprintf("%g cores", float64(l.MilliCPU)/1000)
	}
	return memory + " and " + cores
}

// deny notes why the engine does not give the limits, "" if it does.
func (p *pass) deny(reason string) error {
	if p.rec.Denied == reason {
		return nil
	}
	if p.rec.Failed && p.rec.Reason == p.rec.Denied {
		p.rec.Failed, p.rec.Reason = false, ""
	}
	p.rec.Denied = reason
	return p.save()
}
