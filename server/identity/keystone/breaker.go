package keystone

import (
	"math/rand/v2"
	"sync"
	"time"
)

// Pauses between calls to a Keystone that is away.
const (
	firstPause = 200 * time.Millisecond
	maxPause   = 3 * time.Second
)

// breaker keeps calls from a Keystone that is away. After a failure nobody calls for a
// pause, which grows; then one call tries.
type breaker struct {
	mu       sync.Mutex // guards what follows
	failures int        // in a row
	until    time.Time  // end of the pause
	trying   bool       // the one call after the pause is on its way
}

// allow reports whether a call may be made now; else it returns how long to wait. A call
// that was allowed must be followed by report.
func (b *breaker) allow(now time.Time) (wait time.Duration, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.failures == 0:
		return 0, true
	case now.Before(b.until):
		return b.until.Sub(now), false
	case b.trying:
		return time.Second, false
	}
	b.trying = true
	return 0, true
}

// skip says that a call that was allowed isn't made.
func (b *breaker) skip() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.trying = false
}

// report notes the end of a call. changed is true if Keystone went away or came back with
// it.
func (b *breaker) report(now time.Time, failed bool) (changed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.trying = false
	if !failed {
		changed = b.failures > 0
		b.failures = 0
		return changed
	}
	if b.failures > 0 && now.Before(b.until) {
		return false // a call from before the pause
	}
	b.failures++
	pause := min(firstPause<<min(b.failures-1, 10), maxPause)
	b.until = now.Add(pause - rand.N(pause/4)) // jitter: several servers ask the same Keystone
	return b.failures == 1
}
