package agent

import (
	"context"
	"errors"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/agent/backend"
)

// leaseGuard ends the processes of containers with a lease when the lease of an
// earlier life of the agent does. It stands in for the reconciler until that
// has its first answer: an agent that was started again while no server can be
// reached knows of nothing but its journal.
type leaseGuard struct {
	backend backend.Runtime
	owner   backend.Owner
	journal *journal
	file    *leaseFile
	log     hclog.Logger
}

// run blocks until all of them have ended, or ctx does.
func (g *leaseGuard) run(ctx context.Context) {
	left, grace, err := g.file.read()
	if err != nil {
		g.log.Warn("lease not read; taken for over", "error", err)
	}
	if pause(ctx, max(0, left)) != nil {
		return
	}
	retry := backoff{min: 200 * time.Millisecond, max: 2 * time.Second}
	for {
		err := g.end(ctx, grace)
		if err == nil || ctx.Err() != nil {
			return
		}
		g.log.Warn("containers whose lease has ended could not be stopped", "error", err)
		if retry.wait(ctx, 0) != nil {
			return
		}
	}
}

// end asks the processes to end, and kills what still runs after the grace.
func (g *leaseGuard) end(ctx context.Context, grace time.Duration) error {
	entries, err := g.backend.List(ctx, g.owner)
	if err != nil {
		return err
	}
	var live []*backend.Container
	for _, e := range entries {
		rec, _ := g.journal.record(e.Ref)
		if !rec.Lease || !rec.owns(e) {
			continue
		}
		c, err := g.backend.Inspect(ctx, e.EngineID)
		switch {
		case errors.Is(err, backend.ErrNotFound):
			continue
		case err != nil:
			return err
		case !c.Live():
			continue
		}
		g.log.Warn("no server was reached in time: the lease has ended, and the container stops", keysOf(rec.Ref)...)
		if rec.Lapsed == nil || !rec.Lapsed.StartedAt.Equal(c.StartedAt) {
			rec.Lapsed = &intent{Generation: rec.Generation, StartedAt: c.StartedAt}
			if err := g.journal.put(rec); err != nil {
				return err
			}
			_ = g.backend.Signal(ctx, e.EngineID, "SIGTERM") // what does not end by it is killed
		}
		live = append(live, c)
	}
	if len(live) == 0 || pause(ctx, grace) != nil {
		return nil
	}
	for _, c := range live {
		if err := g.backend.Kill(ctx, c.EngineID); err != nil && !errors.Is(err, backend.ErrNotFound) {
			return err
		}
	}
	return nil
}
