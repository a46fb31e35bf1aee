package raftlog

import (
	"sync"

	"github.com/hashicorp/raft"
)

// broadcast wakes all waiters at the next change.
type broadcast struct {
	mu   sync.Mutex
	next chan struct{}
}

// wait returns a channel that is closed at the next change.
func (b *broadcast) wait() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.next == nil {
		b.next = make(chan struct{})
	}
	return b.next
}

func (b *broadcast) wake() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.next != nil {
		close(b.next)
		b.next = nil
	}
}

// Changed returns a channel that is closed when the leader that this server knows
// changes, or when this server starts or stops leading.
func (l *Log) Changed() <-chan struct{} { return l.changes.wait() }

// observeLeader wakes those who wait for a change of the leader. The observer has no
// channel, which could be full: the library calls the observer's filter for each
// observation.
func (l *Log) observeLeader() {
	l.raft.RegisterObserver(raft.NewObserver(nil, false, func(o *raft.Observation) bool {
		switch o.Data.(type) {
		case raft.LeaderObservation, raft.RaftState:
			l.changes.wake()
		}
		return false
	}))
}
