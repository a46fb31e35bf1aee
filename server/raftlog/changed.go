package raftlog

import (
	"sync"

	"github.com/hashicorp/raft"
)

// broadcast wakes all who wait for the next change of something.
type broadcast struct {
	mu   sync.Mutex
	next chan struct{}
}

// wait returns a channel that is closed with the next change.
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

// Changed returns a channel that is closed when this server knows another
// leader, or none, or has become or ceased to be it.
func (l *Log) Changed() <-chan struct{} { return l.changes.wait() }

// observeLeader wakes who waits for another leader. The observer has no channel,
// which could be full: the library calls its filter for each observation.
func (l *Log) observeLeader() {
	l.raft.RegisterObserver(raft.NewObserver(nil, false, func(o *raft.Observation) bool {
		switch o.Data.(type) {
		case raft.LeaderObservation, raft.RaftState:
			l.changes.wake()
		}
		return false
	}))
}
