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

// Log stands in for the replicated log: it decodes what is proposed and applies
// it, as every replica would.
type Log struct {
	store *state.Store

	Others atomic.Bool // other servers are of the cluster

	mu    sync.Mutex
	index uint64
	fault Fault
}

// Fault is something that goes wrong with proposals.
type Fault int

// The faults.
const (
	None       Fault = iota
	LoseBefore       // leadership is lost, and the entry with it
	LoseAfter        // leadership is lost when the entry is committed
)

// Break has the next proposal fail.
func (l *Log) Break(f Fault) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fault = f
}

// Propose applies the entry.
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

// VerifyLeader always succeeds: there is no other server.
func (l *Log) VerifyLeader(context.Context) error { return nil }

// IsLeader reports true.
func (l *Log) IsLeader() bool { return true }

// Alone returns whether no other server is played.
func (l *Log) Alone() bool { return !l.Others.Load() }

// Leader returns a made-up leader.
func (l *Log) Leader() (id, addr string) { return "server-1", "127.0.0.1:9511" }

// Changed returns a channel that is never closed: the leader stays.
func (l *Log) Changed() <-chan struct{} { return nil }

// LeaderIndex returns the index of the last entry.
func (l *Log) LeaderIndex(ctx context.Context) (uint64, error) { return l.ReadIndex(ctx) }

// ReadIndex returns the index of the last entry.
func (l *Log) ReadIndex(context.Context) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.index, nil
}
