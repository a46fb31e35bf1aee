// Package pause waits for a time that a context may cut short. Agents pace their
// retries with it. It calls nothing of magnum's.
package pause

import (
	"context"
	"time"
)

// For waits for d, which may be 0 or less. It returns ctx's error if ctx ends first.
func For(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
