package datapath

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Memory is given back once after the start, a change, and work; not while work goes on, and
// not because giving back has taken time.
func TestMemoryIsGivenBackAfterWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var used, freed atomic.Int64
		changed := make(chan struct{}, 1)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			memory{
				used: func() time.Duration { return time.Duration(used.Load()) },
				free: func() { freed.Add(1); used.Add(int64(time.Second)) },
			}.watch(ctx, changed)
		}()
		// pass lets seconds pass in each of which the process works for a while.
		pass := func(seconds int, work time.Duration) {
			for range seconds {
				used.Add(int64(work))
				<-time.After(time.Second)
				synctest.Wait()
			}
		}
		for _, step := range []struct {
			what    string
			do      func()
			seconds int
			work    time.Duration // in each second
			want    int64         // times
		}{
			{"after the start", func() {}, 60, 0, 1},
			{"without work", func() {}, 600, 5 * time.Millisecond, 0},
			{"after a change", func() { changed <- struct{}{} }, 60, 0, 1},
			{"during work", func() {}, 60, 100 * time.Millisecond, 0},
			{"after a change during work", func() { changed <- struct{}{} }, 60, 100 * time.Millisecond, 1},
			{"after work", func() {}, 60, 0, 1},
			{"after short work", func() { used.Add(int64(50 * time.Millisecond)) }, 60, 0, 1},
		} {
			freed.Store(0)
			step.do()
			pass(step.seconds, step.work)
			if n := freed.Load(); n != step.want {
				t.Errorf("%s, memory was given back %d times, want %d", step.what, n, step.want)
			}
		}
		cancel()
		<-ended
	})
}
