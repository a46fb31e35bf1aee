package agent

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/stackforge/magnum/internal/pause"
)

// backoff paces tries of something that fails: full jitter below a limit that doubles.
// The zero value has made no try.
type backoff struct {
	min, max time.Duration
	tries    int
}

// next returns the pause before the next try.
func (b *backoff) next() time.Duration {
	limit := b.max
	if b.tries < 30 && b.min<<b.tries < b.max {
		limit = b.min << b.tries
	}
	b.tries++
	return rand.N(limit) + 1
}

// reset is called when a try has succeeded.
func (b *backoff) reset() { b.tries = 0 }

// wait pauses before the next try, for at least least. ctx's error if ctx ends first.
func (b *backoff) wait(ctx context.Context, least time.Duration) error {
	return pause.For(ctx, max(least, b.next()))
}

// doubled returns base, doubled for each try after the first, up to limit. It has no
// jitter: a status names the pause.
func doubled(base, limit time.Duration, tries int) time.Duration {
	if tries > 30 || base<<tries > limit {
		return limit
	}
	return base << tries
}
