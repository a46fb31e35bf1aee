package raftlog

import (
	"context"
	"errors"
	"time"

	"github.com/hashicorp/raft"

	"github.com/stackforge/magnum/structs"
)

// enqueueTimeout bounds how long the library may take to accept a call. It takes longer
// only if its disk hangs.
const enqueueTimeout = 5 * time.Second

// Propose appends data to the log and returns its index once a majority has it on disk
// and this server has applied it.
//
// An entry that was rejected when it was applied gives ErrStale or the store's
// CodeConflict: it is in the log and has changed nothing. Every other error, also after
// ctx has ended, is CodeNoLeader and leaves the outcome unknown: the entry may be
// carried out now, by a later leader, or never.
//
// Data of more than structs.MaxEntry bytes is CodeTooLarge and not proposed: sending it
// could take followers longer than they wait for a leader. Larger entries already in a
// log are applied.
func (l *Log) Propose(ctx context.Context, data []byte) (index uint64, err error) {
	if len(data) > structs.MaxEntry {
		return 0, structs.Errorf(structs.CodeTooLarge, "an entry of %d bytes is larger than %d", len(data), structs.MaxEntry)
	}
	var future raft.ApplyFuture
	l.proposing.RLock() // before the goroutine, so that no entry is proposed after Restore has the lock
	err = l.call(ctx, func() error {
		defer l.proposing.RUnlock()
		f := l.raft.Apply(data, enqueueTimeout)
		err := f.Error()
		future = f
		return err
	})
	if err == errClosed {
		l.proposing.RUnlock() // call did not run the function
	}
	if err != nil {
		return 0, noLeader("commit an entry", err)
	}
	if refusal, ok := future.Response().(error); ok {
		return 0, refusal
	}
	return future.Index(), nil
}

// Barrier returns once this server, as the leader, has applied everything committed
// before. Errors are CodeNoLeader.
func (l *Log) Barrier(ctx context.Context) error {
	term := l.Term()
	err := l.call(ctx, func() error { return l.raft.Barrier(enqueueTimeout).Error() })
	if err != nil {
		return noLeader("wait for earlier entries", err)
	}
	if l.Term() == term {
		l.reads.barrier.Store(term)
	}
	return nil
}

// noLeader is the error of a call that only a leader can answer.
func noLeader(what string, err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return structs.Errorf(structs.CodeNoLeader, "no leader could %s in time: %w", what, err)
	}
	return structs.Errorf(structs.CodeNoLeader, "this server is not, or no longer, the leader that could %s: %w", what, err)
}
