package limits

import (
	"context"
	"sync"
	"time"

	"github.com/stackforge/magnum/internal/pause"
)

const (
	// promptRefusals is how many requests a second of a project may be refused at once, and
	// twice as many after a pause. The others are refused after refusalTime.
	promptRefusals = 50
	refusalTime    = 250 * time.Millisecond
	// maxWaiting and maxAllWaiting bound the refusals of a project, and of all, that wait.
	// Further ones are answered at once.
	maxWaiting    = 256
	maxAllWaiting = 2048
)

// pacer delays refusals, so that clients which send again as soon as they are refused take
// little of the processor from others.
type pacer struct {
	prompt *table[string] // refusals that are answered at once, by project; nil: all are

	mu      sync.Mutex
	all     int
	waiting map[string]int // by project
}

// Slow waits before a refusal of Request is answered, if the project has had many of them. It
// returns earlier if ctx ends.
func (l *Limits) Slow(ctx context.Context, project string) {
	if l == nil {
		return
	}
	p := &l.paced
	if _, ok := p.prompt.take(project); ok || !p.enter(project) {
		return
	}
	defer p.leave(project)
	_ = pause.For(ctx, refusalTime) // a client that has left needs no answer
}

// enter reports whether one more refusal of the project may wait, and counts it.
func (p *pacer) enter(project string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.all >= maxAllWaiting || p.waiting[project] >= maxWaiting {
		return false
	}
	p.all++
	p.waiting[project]++
	return true
}

func (p *pacer) leave(project string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all--
	if p.waiting[project]--; p.waiting[project] == 0 {
		delete(p.waiting, project)
	}
}
