package lease

import (
	"context"
	"errors"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/internal/pause"
)

// Engine is the part of a backend that a Guard needs.
type Engine interface {
	Inspect(ctx context.Context, engineID string) (*backend.Container, error)
	Signal(ctx context.Context, engineID, signal string) error
	Kill(ctx context.Context, engineID string) error
}

// Guard ends the processes of containers that need a lease when the lease of an earlier
// instance of the agent ends. It stands in for the agent's reconciler until the first
// answer: an agent that reaches no server after a restart knows only its journal and its
// engine.
type Guard struct {
	Engine Engine
	File   *File
	// List returns the engine's containers that belong to the host and run only under a
	// lease.
	List func(context.Context) ([]backend.Entry, error)
	// Revoke notes that the lease of a container's run has ended. It is called before the
	// process is asked to end. fresh is false if that was noted before.
	Revoke func(c *backend.Container) (fresh bool, err error)
	Retry  func(context.Context) error // waits before another try; ctx's error
	Log    hclog.Logger
}

// Run blocks until all these processes have ended, or ctx has.
func (g *Guard) Run(ctx context.Context) {
	left, grace, err := g.File.Read()
	if err != nil {
		g.Log.Warn("lease not read: it counts as ended", "error", err)
	}
	if pause.For(ctx, max(0, left)) != nil {
		return
	}
	for {
		err := g.end(ctx, grace)
		if err == nil || ctx.Err() != nil {
			return
		}
		g.Log.Warn("containers whose lease has ended could not be stopped", "error", err)
		if g.Retry(ctx) != nil {
			return
		}
	}
}

// end asks the processes to end, and kills those that still run after grace.
func (g *Guard) end(ctx context.Context, grace time.Duration) error {
	entries, err := g.List(ctx)
	if err != nil {
		return err
	}
	var live []*backend.Container
	for _, e := range entries {
		c, err := g.Engine.Inspect(ctx, e.EngineID)
		switch {
		case errors.Is(err, backend.ErrNotFound):
			continue
		case err != nil:
			return err
		case !c.Live():
			continue
		}
		fresh, err := g.Revoke(c)
		if err != nil {
			return err
		}
		if fresh {
			_ = g.Engine.Signal(ctx, e.EngineID, "SIGTERM") // the kill follows if this fails
		}
		live = append(live, c)
	}
	if len(live) == 0 || pause.For(ctx, grace) != nil {
		return nil
	}
	for _, c := range live {
		if err := g.Engine.Kill(ctx, c.EngineID); err != nil && !errors.Is(err, backend.ErrNotFound) {
			return err
		}
	}
	return nil
}
