package raftlog

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/stackforge/magnum/structs"
)

// round asks the voters once whether this server still leads. Its result holds for
// every caller who arrived before it began.
type round struct {
	done  chan struct{} // closed once index and err are set
	index uint64
	err   error
}

// rounds lets callers share rounds.
type rounds struct {
	mu      sync.Mutex
	next    *round // not begun yet, so new callers join it; nil if nobody waits
	running bool
}

// reads answers, for readers, which index they need and whether this server still
// leads. It is the part of Log that asks the voters.
type reads struct {
	log     *Log
	rounds  rounds
	barrier atomic.Uint64 // the newest term in which this server has passed a Barrier
	lease   atomic.Pointer[lease]
}

// ReadIndex returns an index such that a reader whose state has reached it sees every
// write that any server acknowledged before the call. Errors are CodeNoLeader.
//
// The index is that of this server's own state. It is taken after the first Barrier of
// the leadership and before the voters are asked whether this server still leads. A
// caller joins only a round that begins after its call.
func (l *Log) ReadIndex(ctx context.Context) (uint64, error) {
	r, err := l.reads.join()
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

// LeaderIndex returns an index such that a reader whose state has reached it sees every
// write that any server acknowledged before the call. It takes at most a second. Errors
// are CodeNoLeader.
//
// While the leader's lease lasts it asks nobody. The lease lasts for LeaderLease after
// a majority of the voters was sent a request that it acknowledged in this term: none
// of these voters helps to elect another leader, because each waits longer than that
// for this one. ReadIndex, in contrast, relies on no clock.
func (l *Log) LeaderIndex(ctx context.Context) (uint64, error) {
	term := l.Term()
	if !l.IsLeader() {
		return 0, structs.Errorf(structs.CodeNoLeader, "this server is not the leader")
	}
	if l.reads.barrier.Load() == term && l.reads.leaseLasts(term) {
		return l.config.Store.Index(), nil
	}
	ctx, cancel := context.WithTimeout(ctx, leaderIndexWait)
	defer cancel()
	return l.ReadIndex(ctx)
}

// lease is the time until which no other server can have been elected since the term
// began.
type lease struct {
	term  uint64
	until time.Time
}

// leaseLasts reports whether the leader's lease lasts in the term.
func (r *reads) leaseLasts(term uint64) bool {
	now := time.Now()
	if known := r.lease.Load(); known != nil && known.term == term && now.Before(known.until) {
		return true
	}
	conf := r.log.raft.GetConfiguration()
	if conf.Error() != nil {
		return false
	}
	at, _ := r.log.acks.MajorityAckedAt(raft.ServerID(r.log.config.ServerID), conf.Configuration().Servers, term, now)
	until := at.Add(r.log.config.LeaderLease)
	if !now.Before(until) {
		return false
	}
	r.lease.Store(&lease{term, until})
	return true
}

// VerifyLeader returns nil if this server was the leader at some moment after
// the call began. Errors are CodeNoLeader.
func (l *Log) VerifyLeader(ctx context.Context) error {
	_, err := l.ReadIndex(ctx)
	return err
}

// join returns the next round, and starts it if no round is running.
func (r *reads) join() (*round, error) {
	r.log.mu.Lock()
	if r.log.closing {
		r.log.mu.Unlock()
		return nil, errClosed
	}
	r.log.calls.Add(1) // for the goroutine, or undone below
	r.log.mu.Unlock()

	r.rounds.mu.Lock()
	defer r.rounds.mu.Unlock()
	if r.rounds.next == nil {
		r.rounds.next = &round{done: make(chan struct{})}
	}
	if r.rounds.running {
		r.log.calls.Done()
	} else {
		r.rounds.running = true
		go r.runRounds()
	}
	return r.rounds.next, nil
}

// runRounds runs rounds until nobody waits for one.
func (r *reads) runRounds() {
	defer r.log.calls.Done()
	for {
		r.rounds.mu.Lock()
		begins := r.rounds.next
		r.rounds.next = nil
		if begins == nil {
			r.rounds.running = false
			r.rounds.mu.Unlock()
			return
		}
		r.rounds.mu.Unlock()
		if begins.index, begins.err = r.readIndex(); begins.err != nil {
			begins.err = noLeader("serve a consistent read", begins.err)
		}
		close(begins.done)
	}
}

// readIndex runs one round. The term must not change during the round: between two
// terms of this server another one may have led, whose writes may be missing here.
func (r *reads) readIndex() (uint64, error) {
	term := r.log.Term()
	if r.barrier.Load() != term {
		if err := r.log.raft.Barrier(enqueueTimeout).Error(); err != nil {
			return 0, err
		}
		r.barrier.Store(term) // checked below; a later term's Barrier implies an earlier's
	}
	index := r.log.config.Store.Index()
	if err := r.verify(term); err != nil {
		return 0, err
	}
	if now := r.log.Term(); now != term {
		return 0, structs.Errorf(structs.CodeNoLeader, "the term changed: %w", fmt.Errorf("%d became %d", term, now))
	}
	return index, nil
}

// verifyTick is how often a wait for acknowledgements checks whether this server still
// leads.
const verifyTick = 20 * time.Millisecond

// verify returns nil if this server led in the term at some moment after the
// call began.
func (r *reads) verify(term uint64) error {
	began := time.Now()
	// VerifyLeader also sends a heartbeat to each voter at once.
	if err := r.log.raft.VerifyLeader().Error(); err != nil {
		return err
	}
	tick := time.NewTicker(verifyTick)
	defer tick.Stop()
	for {
		conf := r.log.raft.GetConfiguration()
		if err := conf.Error(); err != nil {
			return err
		}
		at, changed := r.log.acks.MajorityAckedAt(raft.ServerID(r.log.config.ServerID), conf.Configuration().Servers, term, time.Now())
		switch {
		case !at.Before(began):
			return nil
		case r.log.Term() != term || !r.log.IsLeader(): // without answers the library steps down within the lease
			return raft.ErrLeadershipLost
		}
		select {
		case <-changed:
		case <-tick.C:
		case <-r.log.files.disk.broken:
			return r.log.files.disk.failure()
		}
	}
}
