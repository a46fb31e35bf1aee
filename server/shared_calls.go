package server

import (
	"context"
	"sync"

	"github.com/stackforge/magnum/structs"
)

// sharedCalls lets callers share calls of one kind. One call runs at a time. A caller
// gets the result of a call that began after the caller arrived; an earlier call's
// result may be too old for it.
type sharedCalls struct {
	mu   sync.Mutex
	next *sharedCall   // not begun yet, so new callers join it; nil if nobody waits
	turn chan struct{} // holds a value while a call runs; created by the first caller
}

// sharedCall is one call. One of its callers makes it.
type sharedCall struct {
	done  chan struct{} // closed once index and err are set
	index uint64
	err   error
}

// join returns the result of a call that begins after join was called. The call doesn't
// take ctx: it must bound itself and continues when a caller's ctx has ended. Errors
// are those of call, and CodeNoLeader if ctx ends.
func (a *sharedCalls) join(ctx context.Context, call func() (uint64, error)) (uint64, error) {
	a.mu.Lock()
	if a.turn == nil {
		a.turn = make(chan struct{}, 1)
	}
	if a.next == nil {
		a.next = &sharedCall{done: make(chan struct{})}
	}
	joined, turn := a.next, a.turn
	a.mu.Unlock()
	select {
	case turn <- struct{}{}:
		a.mu.Lock()
		first := a.next == joined // otherwise another caller has made the call
		if first {
			a.next = nil
		}
		a.mu.Unlock()
		if first {
			joined.index, joined.err = call()
			close(joined.done)
		}
		<-turn
	case <-joined.done:
	case <-ctx.Done():
		return 0, structs.Errorf(structs.CodeNoLeader, "the leader's index did not come in time: %w", ctx.Err())
	}
	return joined.index, joined.err
}
