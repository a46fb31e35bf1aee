package limits

import (
	"context"
	"runtime/debug"
	"time"

	"github.com/stackforge/magnum/internal/pause"
)

const (
	// peakBytes is how many bytes in flight make a peak, after which memory is given back.
	peakBytes = 32 << 20
	// settle is how long after a peak memory is given back: requests may still end, and
	// another peak may follow.
	settle = 5 * time.Second
	// freeEvery is the minimum time between two times that memory is given back, which
	// costs a garbage collection.
	freeEvery = time.Minute
)

func freeMemory() { debug.FreeOSMemory() }

// peakOver notes the end of a peak. It is called with the lock of a pool.
func (l *Limits) peakOver(peak int64) {
	if peak < peakBytes {
		return
	}
	select {
	case l.freeing <- struct{}{}:
	default:
	}
}

// Run gives memory back to the system after a peak of bytes in flight, at most once a
// minute. Go does so by itself, but late, and keeps the garbage of a peak until new garbage
// of the same size has come. Run ends with ctx.
func (l *Limits) Run(ctx context.Context) error {
	for {
		select {
		case <-l.freeing:
		case <-ctx.Done():
			return nil
		}
		if pause.For(ctx, settle) != nil {
			return nil
		}
		l.free()
		if pause.For(ctx, freeEvery-settle) != nil {
			return nil
		}
	}
}
