package datapath

import (
	"context"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stackforge/magnum/internal/textpages"
)

const (
	lookEvery = 2 * time.Second // at the processor time
	// littleWork is the processor time between two looks of a process that counts as idle.
	littleWork = 20 * time.Millisecond
	freeAfter  = 5 * time.Second // since the last change, or work, memory is given back
)

// memory gives memory back when the work that took it is over: a Config is large and seldom
// changes, and a burst of connections leaves a heap, stacks and pages of the program's file.
// The runtime gives back the heap above its goal only, and nothing without a collection,
// which an idle process doesn't make for two minutes.
type memory struct {
	used func() time.Duration // processor time of the process
	free func()
}

// keepSmall gives memory back until the context ends: after the start, a change, and work.
func keepSmall(ctx context.Context, changed <-chan struct{}) {
	memory{processorTime, func() {
		debug.FreeOSMemory()
		textpages.Release()
	}}.watch(ctx, changed)
}

func (m memory) watch(ctx context.Context, changed <-chan struct{}) {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	change := time.NewTimer(freeAfter) // since the last one, or since the start
	defer change.Stop()
	work := time.NewTimer(freeAfter) // since the last look at which there was some
	work.Stop()
	defer work.Stop()
	before := m.used()
	free := func() {
		m.free()
		before = m.used() // giving back is no work after which to do it again
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
			change.Reset(freeAfter)
		case <-look.C:
			now := m.used()
			if now-before > littleWork {
				work.Reset(freeAfter)
			}
			before = now
		case <-change.C: // what it took isn't for the connections, which may go on working
			free()
		case <-work.C:
			free()
		}
	}
}

// processorTime returns the processor time that the process has used.
func processorTime() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
