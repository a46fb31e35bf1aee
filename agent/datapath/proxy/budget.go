package proxy

import (
	"fmt"
	"sync"
	"time"
)

// problemShown is for how long after the last refusal a problem says so.
const problemShown = time.Minute

// budget shares a number of connections, or of flows, among projects. Half of them is
// promised: each project has the same part of it. The other half is for who needs more: a
// project may take of it at most as much as is left of it after that, so that there is
// always something left for others. A service has at most half of all.
type budget struct {
	mu       sync.Mutex
	most     int // in sum
	projects int // among which the promised half is divided; at least 1
	used     int
	extra    int // used beyond what is promised
	byOwner  map[string]*usage
	now      func() time.Time
}

// usage is what a project, or a service, has.
type usage struct {
	used    int
	refused int       // since the process started
	last    time.Time // of the last refusal
}

func newBudget(most int) *budget {
	return &budget{most: most, projects: 1, byOwner: map[string]*usage{}, now: time.Now}
}

// setProjects says among how many projects the promised half is divided, and forgets those
// that are gone and have nothing.
func (b *budget) setProjects(n int, exists func(owner string) bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.projects = max(n, 1)
	b.extra = 0
	for owner, u := range b.byOwner {
		if u.used == 0 && !exists(owner) {
			delete(b.byOwner, owner)
		}
	}
	for owner, u := range b.byOwner {
		if isProject(owner) {
			b.extra += max(0, u.used-b.promised())
		}
	}
}

// The accounts of projects and of services.
func projectAccount(id string) string { return "p" + id }
func serviceAccount(id string) string { return "s" + id }
func isProject(owner string) bool     { return owner[0] == 'p' }

func (b *budget) promised() int { return b.most / 2 / b.projects }

// acquire takes one for a service. It returns false, and counts it, if the service or the
// project has its share.
func (b *budget) acquire(project, service string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	p, s := b.of(projectAccount(project)), b.of(serviceAccount(service))
	over := p.used - b.promised() // beyond the promise
	switch {
	case s.used >= max(b.most/2, 1), b.used >= b.most, over >= 0 && over >= b.most/2-b.extra:
		s.refused++
		s.last = b.now()
		return false
	}
	if over >= 0 {
		b.extra++
	}
	p.used++
	s.used++
	b.used++
	return true
}

// release gives one back.
func (b *budget) release(project, service string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p, s := b.of(projectAccount(project)), b.of(serviceAccount(service))
	if p.used > b.promised() {
		b.extra = max(0, b.extra-1)
	}
	p.used--
	s.used--
	b.used--
}

// refusals returns what was refused for a service, as a sentence; "" if nothing was
// recently. The kind is that of what is counted, in the plural.
func (b *budget) refusals(service, kind string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.byOwner[serviceAccount(service)]
	if s == nil || s.refused == 0 || b.now().Sub(s.last) > problemShown {
		return ""
	}
	return fmt.Sprintf("%d %s were refused on this host: the project has its share of the %d that the host can carry, "+
		"or the service has half of them; have fewer at a time, or raise the limit of open files of the agent", s.refused, kind, b.most)
}

func (b *budget) of(owner string) *usage {
	u := b.byOwner[owner]
	if u == nil {
		u = &usage{}
		b.byOwner[owner] = u
	}
	return u
}
