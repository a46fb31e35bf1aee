package raftlog

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/stackforge/magnum/structs"
)

// round is one question to the voters whether this server still leads. It
// answers all who arrived before it began.
type round struct {
	done  chan struct{} // closed once index and err are set
	index uint64
	err   error
}

// rounds lets callers share rounds.
type rounds struct {
	mu      sync.Mutex
	next    *round // the one that who arrives now may join; nil if nobody waits
	running bool
}

// ReadIndex returns an index such that a reader whose state has reached it sees
// every write that was acknowledged before the call, by any server. Errors are
// CodeNoLeader.
//
// It is the index of this server's own state, taken once the leadership's first
// Barrier has passed and before the voters are asked whether this server still
// leads. A caller joins only a round that begins after its call.
func (l *Log) ReadIndex(ctx context.Context) (uint64, error) {
	r, err := l.join()
	if err != nil {
		return 0, noLeader("serve a consistent read", err)
	}
	select {
	case <-r.done:
		return r.index, r.err
	case <-ctx.Done():
		return 0, noLeader("serve a consistent read", ctx.Err())
	}
}

// leaderIndexWait bounds a LeaderIndex that has to ask the voters.
const leaderIndexWait = time.Second

// LeaderIndex returns an index such that a reader whose state has reached it sees
// every write that any server acknowledged before the call. It takes at most a
// second. Errors are CodeNoLeader.
//
// It asks nobody while the lease lasts: for LeaderLease after a majority of the
// voters was sent what it has followed in this term, none of them helps to elect
// another leader, because each waits longer than that for this one. ReadIndex
// trusts no clock at all.
func (l *Log) LeaderIndex(ctx context.Context) (uint64, error) {
	term := l.Term()
	if !l.IsLeader() {
		return 0, structs.Errorf(structs.CodeNoLeader, "this server is not the leader")
	}
	if l.barrier.Load() == term && l.leased(term) {
		return l.config.Store.Index(), nil
	}
	ctx, cancel := context.WithTimeout(ctx, leaderIndexWait)
	defer cancel()
	return l.ReadIndex(ctx)
}

// lease is how long no other server can have been elected since a term began.
type lease struct {
	term  uint64
	until time.Time
}

// leased reports whether this server certainly still leads in the term.
func (l *Log) leased(term uint64) bool {
	now := time.Now()
	if known := l.lease.Load(); known != nil && known.term == term && now.Before(known.until) {
		return true
	}
	conf := l.raft.GetConfiguration()
	if conf.Error() != nil {
		return false
	}
	at, _ := l.witness.followedAt(raft.ServerID(l.config.ServerID), conf.Configuration().Servers, term, now)
	until := at.Add(l.config.LeaderLease)
	if !now.Before(until) {
		return false
	}
	l.lease.Store(&lease{term, until})
	return true
}

// VerifyLeader returns nil if this server was the leader at some moment after
// the call began. Errors are CodeNoLeader.
func (l *Log) VerifyLeader(ctx context.Context) error {
	_, err := l.ReadIndex(ctx)
	return err
}

// join returns the round that begins next, and sees to it that it begins.
func (l *Log) join() (*round, error) {
	l.mu.Lock()
	if l.closing {
		l.mu.Unlock()
		return nil, errClosed
	}
	l.calls.Add(1) // for the goroutine, or given back below
	l.mu.Unlock()

	l.rounds.mu.Lock()
	defer l.rounds.mu.Unlock()
	if l.rounds.next == nil {
		l.rounds.next = &round{done: make(chan struct{})}
	}
	if l.rounds.running {
		l.calls.Done()
	} else {
		l.rounds.running = true
		go l.runRounds()
	}
	return l.rounds.next, nil
}

// runRounds runs rounds until nobody waits for one.
func (l *Log) runRounds() {
	defer l.calls.Done()
	for {
		l.rounds.mu.Lock()
		r := l.rounds.next
		l.rounds.next = nil
		if r == nil {
			l.rounds.running = false
			l.rounds.mu.Unlock()
			return
		}
		l.rounds.mu.Unlock()
		if r.index, r.err = l.readIndex(); r.err != nil {
			r.err = noLeader("serve a consistent read", r.err)
		}
		close(r.done)
	}
}

// readIndex is one round. The term must not change in it: between two terms of
// this server another one may have led, and its writes may be missing here.
func (l *Log) readIndex() (uint64, error) {
	term := l.Term()
	if l.barrier.Load() != term {
		if err := l.raft.Barrier(enqueueTimeout).Error(); err != nil {
			return 0, err
		}
		l.barrier.Store(term) // checked below; a later term's Barrier implies an earlier's
	}
	index := l.config.Store.Index()
	if err := l.verify(term); err != nil {
		return 0, err
	}
	if now := l.Term(); now != term {
		return 0, structs.Errorf(structs.CodeNoLeader, "the term changed: %w", fmt.Errorf("%d became %d", term, now))
	}
	return index, nil
}
