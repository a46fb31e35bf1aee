package raftlog

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/stackforge/magnum/structs"
)

// restoreTimeout bounds the library's part of a restore.
const restoreTimeout = 10 * time.Minute

// Restore replaces the state of all servers; only the leader can. prepare is
// called once, while nothing is decided and nothing is in flight: it returns a
// whole snapshot stream of size bytes whose state is of exactly the index, which
// is above all there have been, and above the floor. The library panics on a stream that can't be
// read. An error of prepare is returned, and nothing has changed.
//
// What lead runs ends before, and begins again after. An entry that was decided
// on the old state is never applied to the new one.
//
// It returns once a majority has the new state. Errors: CodeUnavailable, and
// nothing has changed; CodeNoLeader, after which the outcome is unknown if
// started is true.
func (l *Log) Restore(ctx context.Context, floor uint64, prepare func(index uint64) (size int64, stream io.Reader, err error)) (started bool, err error) {
	if !l.IsLeader() {
		return false, noLeader("restore a snapshot", raft.ErrNotLeader)
	}
	defer l.leadLock.interrupt()()
	l.proposing.Lock()
	defer l.proposing.Unlock()
	// All that is committed is applied: else the library could apply some of it
	// on the new state.
	if err := l.Barrier(ctx); err != nil {
		return false, err
	}
	index := max(l.raft.LastIndex(), floor) + 1
	size, stream, err := prepare(index)
	if err != nil {
		return false, err
	}
	// The library gives the snapshot an index behind all entries and behind this
	// one, so that later entries are above that of the state.
	meta := &raft.SnapshotMeta{Version: raft.SnapshotVersionMax, Index: index, Size: size}
	// It isn't left alone with the stream when ctx ends.
	err = l.call(context.WithoutCancel(ctx), func() error { return l.raft.Restore(meta, stream, restoreTimeout) })
	switch {
	case err == nil:
		return true, nil
	case l.config.Store.Index() < index && (errors.Is(err, raft.ErrNotLeader) || errors.Is(err, errClosed)):
		return false, noLeader("restore a snapshot", err)
	case l.config.Store.Index() < index && !errors.Is(err, raft.ErrLeadershipLost) && !errors.Is(err, raft.ErrRaftShutdown):
		return false, structs.Errorf(structs.CodeUnavailable, "the snapshot could not be restored: %w", err)
	}
	return true, noLeader("restore a snapshot", err)
}

// leadLock lets what lead runs and a restore take turns.
type leadLock struct {
	slot chan struct{} // has one slot: who has filled it has the turn

	mu      sync.Mutex         // guards what follows
	waiting int                // restores that want the turn
	end     context.CancelFunc // of the lead that has the turn; nil if none has
}

// interrupt ends what lead runs, and keeps it from beginning until done is
// called.
func (t *leadLock) interrupt() (done func()) {
	t.mu.Lock()
	t.waiting++
	if t.end != nil {
		t.end()
	}
	t.mu.Unlock()
	t.slot <- struct{}{}
	return func() {
		t.mu.Lock()
		t.waiting--
		t.mu.Unlock()
		<-t.slot
	}
}

// acquire waits for the turn of what lead runs. leading ends with ctx, or when a restore
// interrupts; the caller gives the turn back with done. The error is that of ctx.
func (t *leadLock) acquire(ctx context.Context) (leading context.Context, done func(), err error) {
	select {
	case t.slot <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	leading, cancel := context.WithCancel(ctx)
	t.mu.Lock()
	t.end = cancel
	if t.waiting > 0 {
		cancel()
	}
	t.mu.Unlock()
	return leading, func() {
		t.mu.Lock()
		t.end = nil
		t.mu.Unlock()
		cancel()
		<-t.slot
	}, nil
}
