package history

import (
	"sync"
	"time"
)

// writeGap measures the longest time without a successful write.
type writeGap struct {
	mu      sync.Mutex    // guards what follows
	last    time.Time     // the last successful write, or reset
	recent  time.Duration // the longest gap since the last take
	longest time.Duration // the longest gap ever
}

// wrote records a successful write.
func (g *writeGap) wrote(now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.extend(now)
	g.last = now
}

// extend includes the gap that lasts until now. The caller holds mu.
func (g *writeGap) extend(now time.Time) {
	g.recent = max(g.recent, now.Sub(g.last))
	g.longest = max(g.longest, g.recent)
}

// take returns the longest gap since the last take, including the current one.
func (g *writeGap) take(now time.Time) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.extend(now)
	recent := g.recent
	g.recent = 0
	return recent
}

// reset starts the current gap at now.
func (g *writeGap) reset(now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.last = now
}

// ever returns the longest gap.
func (g *writeGap) ever() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.longest
}
