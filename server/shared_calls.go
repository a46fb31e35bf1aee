package server

import (
	"context"
	"sync"

	"github.com/stackforge/magnum/structs"
)

// sharedCalls lets callers share calls of one kind. One call is under way at a time. A
// caller gets the result of one that began after it came, because an earlier one
// may have been answered before.
type sharedCalls struct {
	mu   sync.Mutex
	next *sharedCall   // whoever comes now may join it; nil if nobody waits
	turn chan struct{} // holds a value while a call is under way; made by the first caller
}

// sharedCall is one call, which one of its callers makes.
type sharedCall struct {
	done  chan struct{} // closed once index and err are set
	index uint64
	err   error
}

// join returns the result of a call that begins after it was called. call has a
// bound of its own: it goes on when the caller's ctx has ended. Errors are call's,
// and CodeNoLeader if ctx ends.
func (a *sharedCalls) join(ctx context.Context, call func() (uint64, error)) (uint64, error) {
	a.mu.Lock()
	if a.turn == nil {
		a.turn = make(chan struct{}, 1)
	}
	if a.next == nil {
		a.next = &sharedCall{done: make(chan struct{})}
	}
	mine, turn := a.next, a.turn
	a.mu.Unlock()
	select {
	case turn <- struct{}{}:
		a.mu.Lock()
		first := a.next == mine // else another of its callers has made the call
		if first {
			a.next = nil
		}
		a.mu.Unlock()
		if first {
			mine.index, mine.err = call()
			close(mine.done)
		}
		<-turn
	case <-mine.done:
	case <-ctx.Done():
		return 0, structs.Errorf(structs.CodeNoLeader, "the leader's index did not come in time: %w", ctx.Err())
	}
	return mine.index, mine.err
}
