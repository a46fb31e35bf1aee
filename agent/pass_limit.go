package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stackforge/magnum/agent/backend"
)

// limitRetry is the pause before limits that the engine has refused are tried again: the
// process may need less memory by then.
const limitRetry = time.Minute

// limit gives the container the limits of its spec, without a restart. If the engine
// refuses, the generation has failed, but the rest of it is carried out.
func (p *pass) limit(ctx context.Context) error {
	if p.task.want.Spec == nil {
		return nil
	}
	limits := backend.LimitsOf(p.task.want.Spec)
	if p.task.cur.Limits == limits {
		return p.task.deny("")
	}
	err := p.r.backend.Update(ctx, p.task.cur.EngineID, limits)
	switch {
	case err == nil:
		if err := p.task.deny(""); err != nil {
			return err
		}
		return p.look(ctx)
	case errors.Is(err, backend.ErrNotFound), errors.Is(err, backend.ErrAway), ctx.Err() != nil:
		_, err = p.actionFailed(err, "")
		return err
	}
	return p.task.deny(fmt.Sprintf("changing its memory or cpu failed, so it still has %s; this is tried again every minute: %s",
		limitsText(p.task.cur.Limits), err))
}

// limitsText describes limits for users.
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
