package servertest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// Log is a fake of the Raft log. It decodes and applies each proposed entry at once, as
// every replica does.
type Log struct {
	store *state.Store

	Others atomic.Bool // pretend that the cluster has other servers

	mu    sync.Mutex
	index uint64
	fault Fault
}

// Fault is a failure of a proposal.
type Fault int

// The faults.
const (
	None       Fault = iota
	LoseBefore       // leadership is lost before the entry is committed
	LoseAfter        // leadership is lost after the entry is committed
)

// Break makes the next proposal fail.
func (l *Log) Break(f Fault) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fault = f
}

// Propose applies the entry and returns its index.
func (l *Log) Propose(_ context.Context, data []byte) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fault := l.fault
	l.fault = None
	if fault == LoseBefore {
		return 0, errors.New("leadership lost")
	}
	if len(data) > structs.MaxEntry {
		return 0, fmt.Errorf("an entry of %d bytes is larger than %d", len(data), structs.MaxEntry)
	}
	entry, err := state.DecodeEntry(data)
	if err != nil {
		return 0, err
	}
	if entry.Prev != l.index {
		return 0, fmt.Errorf("entry was decided at index %d, the log is at %d", entry.Prev, l.index)
	}
	l.index++
	if err := l.store.Apply(l.index, entry.Changes); err != nil {
		return 0, err
	}
	if fault == LoseAfter {
		return 0, errors.New("leadership lost")
	}
	return l.index, nil
}

// VerifyLeader always succeeds.
func (l *Log) VerifyLeader(context.Context) error { return nil }

// IsLeader returns true.
func (l *Log) IsLeader() bool { return true }

// Alone reports whether Others is unset.
func (l *Log) Alone() bool { return !l.Others.Load() }

// Leader returns a made-up leader.
func (l *Log) Leader() (id, addr string) { return "server-1", "127.0.0.1:9511" }

// Changed returns nil: the leader never changes.
func (l *Log) Changed() <-chan struct{} { return nil }

// LeaderIndex returns the index of the last entry.
func (l *Log) LeaderIndex(ctx context.Context) (uint64, error) { return l.ReadIndex(ctx) }

// ReadIndex returns the index of the last entry.
func (l *Log) ReadIndex(context.Context) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.index, nil
}
