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

// Restore replaces the state of all servers; only the leader can. prepare is called
// once, while nothing is decided and nothing is proposed. It returns a complete
// snapshot stream of size bytes, whose state has exactly the given index; that index is
// above floor and above all earlier ones. The library panics on a stream that it can't
// read. If prepare fails, its error is returned and nothing has changed.
//
// The function that Run calls as lead ends before and is called again afterwards, so no
// entry that was decided on the old state is applied to the new one.
//
// Restore returns once a majority has the new state. Errors: CodeUnavailable, after
// which nothing has changed; CodeNoLeader, after which the outcome is unknown if
// started is true.
func (l *Log) Restore(ctx context.Context, floor uint64, prepare func(index uint64) (size int64, stream io.Reader,
	err error)) (started bool, err error) {
	if !l.IsLeader() {
		return false, noLeader("restore a snapshot", raft.ErrNotLeader)
	}
	defer l.leadLock.interrupt()()
	l.proposing.Lock()
	defer l.proposing.Unlock()
	// Everything committed must be applied first: otherwise the library could apply
	// some of it to the new state.
	if err := l.Barrier(ctx); err != nil {
		return false, err
	}
	index := max(l.raft.LastIndex(), floor) + 1
	size, stream, err := prepare(index)
	if err != nil {
		return false, err
	}
	// The library gives the snapshot an index above all entries and above this one, so
	// later entries are above the index of the state.
	meta := &raft.SnapshotMeta{Version: raft.SnapshotVersionMax, Index: index, Size: size}
	// The library reads the stream to its end even if ctx ends.
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

// leadLock excludes lead and a restore from each other.
type leadLock struct {
	slot chan struct{} // capacity 1; whoever has filled it holds the lock

	mu      sync.Mutex         // guards what follows
	waiting int                // restores that wait for the lock or hold it
	end     context.CancelFunc // ends the lead that holds the lock; nil if none does
}

// interrupt ends a running lead and keeps the next one from starting until done is
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

// acquire waits for the lock on behalf of lead. leading ends with ctx, or when a
// restore interrupts. The caller must release the lock with done. The error is that of
// ctx.
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
