package history

import (
	"sync"
	"time"
)

// gap measures times without a change that succeeded.
type gap struct {
	mu     sync.Mutex // guards all
	last   time.Time
	since  time.Duration // the longest since take
	longer time.Duration // the longest ever
}

// wrote says that a change has succeeded.
func (g *gap) wrote(now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.note(now)
	g.last = now
}

func (g *gap) note(now time.Time) {
	g.since = max(g.since, now.Sub(g.last))
	g.longer = max(g.longer, g.since)
}

// take returns the longest time since it was last called.
func (g *gap) take(now time.Time) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.note(now)
	longest := g.since
	g.since = 0
	return longest
}

// reset has the time run from now on.
func (g *gap) reset(now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.last = now
}

func (g *gap) ever() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.longer
}
