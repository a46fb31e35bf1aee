package agent

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/backend/backendtest"
	"github.com/stackforge/magnum/structs"
)

// cleanable is a fake engine that keeps projects apart.
type cleanable struct {
	*backendtest.Fake
	mu      sync.Mutex
	file    string
	tenancy structs.Tenancy
	cleans  int
	fails   int // cleanings that fail yet
	hold    bool
	held    chan struct{} // closed when a held cleaning has begun
	ended   bool          // a held cleaning has ended
}

func (c *cleanable) Remember(file string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.file = file
	return nil
}

func (c *cleanable) SetTenancy(now structs.Tenancy) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tenancy = now
}

func (c *cleanable) Clean(ctx context.Context, _ backend.Owner) error {
	c.mu.Lock()
	c.cleans++
	fail, hold := c.fails > 0, c.hold
	if fail {
		c.fails--
	}
	c.mu.Unlock()
	switch {
	case fail:
		return errors.New("a volume is in use")
	case hold:
		close(c.held)
		<-ctx.Done()
		c.mu.Lock()
		defer c.mu.Unlock()
		c.ended = true
		return ctx.Err()
	}
	return nil
}

func (c *cleanable) ImagesOf(context.Context, string) ([]structs.Image, error) { return nil, nil }

// TestAgentCleansItsHost: it tries until the host is clean, reports each attempt, and says at
// its registration that it can.
func TestAgentCleansItsHost(t *testing.T) {
	s, dir := newFakeServer(t), t.TempDir()
	fake := &cleanable{Fake: fakeEngine("E1"), fails: 1}
	s.change(func() {
		s.clean = &structs.CleanOrder{Epoch: 7}
		s.tenancy = &structs.Tenancy{Separate: true, Shared: true}
	})
	r := runAgent(t, dir, fake, nil, s)
	s.eventually("a clean host", func() bool {
		return len(s.cleaned) == 2 && s.cleaned[0] == structs.CleanReport{Epoch: 7, Error: "a volume is in use"} &&
			s.cleaned[1] == structs.CleanReport{Epoch: 7}
	})
	s.eventually("its registration", func() bool { return s.registers[0].Fingerprint.Cleans })
	r.stop()
	if fake.file != filepath.Join(dir, fileImages) || fake.tenancy != (structs.Tenancy{Separate: true, Shared: true}) || fake.cleans != 2 {
		t.Errorf("the engine is %+v", fake)
	}
	// The next agent gets the order again, as after a crash.
	r = runAgent(t, dir, fake, nil, s)
	s.eventually("another cleaning", func() bool { return len(s.cleaned) == 3 })
	r.stop()
}

// TestCleaningEndsForABay: the agent makes nothing for a bay of the host while it still cleans.
func TestCleaningEndsForABay(t *testing.T) {
	s := newFakeServer(t)
	fake := &cleanable{Fake: fakeEngine("E1"), hold: true, held: make(chan struct{})}
	s.change(func() { s.clean = &structs.CleanOrder{Epoch: 1} })
	r := runAgent(t, t.TempDir(), fake, nil, s)
	<-fake.held
	s.change(func() { s.clean = nil })
	s.assign(want("a", 1, structs.DesiredRunning))
	s.is("a", structs.ContainerRunning)
	r.stop()
	if !fake.ended || len(s.cleaned) != 0 {
		t.Errorf("the cleaning has ended: %v, reports %+v", fake.ended, s.cleaned)
	}
}
