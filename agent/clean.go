package agent

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/structs"
)

// cleaner removes what projects have left on a host that their bay has given back. Servers
// repeat an order until the host is clean, so that nothing has to be kept over a restart.
type cleaner struct {
	tenants backend.Tenants // nil if the backend can't
	owner   backend.Owner
	report  func(structs.CleanReport)
	log     hclog.Logger
	wake    chan struct{}

	mu    sync.Mutex
	epoch uint64             // of the order; 0 means none
	stop  context.CancelFunc // ends the cleaning in progress; nil if there is none
	ended chan struct{}      // closed when it has ended
}

func newCleaner(b backend.Backend, owner backend.Owner, report func(structs.CleanReport), log hclog.Logger) *cleaner {
	c := &cleaner{owner: owner, report: report, log: log, wake: make(chan struct{}, 1)}
	c.tenants, _ = b.(backend.Tenants)
	return c
}

// The pause between two attempts to clean the host.
const (
	minCleanPause = time.Second
	maxCleanPause = time.Minute
)

// take takes over what an answer says of cleaning and of projects. It returns once a cleaning
// that isn't wanted any more has ended: its project may be about to use the host again.
func (c *cleaner) take(w *structs.Work) {
	if c.tenants == nil {
		return
	}
	if w.Tenancy != nil {
		c.tenants.SetTenancy(*w.Tenancy)
	}
	epoch := uint64(0)
	if w.Clean != nil {
		epoch = w.Clean.Epoch
	}
	c.mu.Lock()
	if epoch == c.epoch {
		c.mu.Unlock()
		return
	}
	c.epoch = epoch
	stop, ended := c.stop, c.ended
	c.mu.Unlock()
	if stop != nil {
		stop()
		<-ended
	}
	signal(c.wake)
}

// run cleans the host when it is ordered to, until ctx ends, and returns nil.
func (c *cleaner) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.wake:
		}
		cleanCtx, stop := context.WithCancel(ctx)
		c.mu.Lock()
		epoch := c.epoch
		c.stop, c.ended = stop, make(chan struct{})
		c.mu.Unlock()
		if epoch != 0 {
			c.clean(cleanCtx, epoch)
		}
		stop()
		c.mu.Lock()
		close(c.ended)
		c.stop = nil
		c.mu.Unlock()
	}
}

// clean tries until the host is clean, or ctx ends.
func (c *cleaner) clean(ctx context.Context, epoch uint64) {
	c.log.Info("cleaning the host: its bay has given it back", "epoch", epoch)
	retry := backoff{min: minCleanPause, max: maxCleanPause}
	for {
		err := c.tenants.Clean(ctx, c.owner)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			c.log.Info("the host is clean", "epoch", epoch)
			c.report(structs.CleanReport{Epoch: epoch})
			return
		}
		c.log.Warn("the host can't be cleaned; trying again", "epoch", epoch, "error", err)
		c.report(structs.CleanReport{Epoch: epoch, Error: clip(err.Error(), maxPartText)})
		if retry.wait(ctx, 0) != nil {
			return
		}
	}
}
