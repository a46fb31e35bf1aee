package raftlog

import (
	"fmt"
	"runtime"

	"github.com/hashicorp/raft"
)

// The writes to disk that Config.Fault is asked about. A "done" one is on disk,
// and a failure is of the answer.
const (
	FaultLog       = "log" // entries
	FaultLogDone   = "log done"
	FaultState     = "state" // Raft's term and vote
	FaultStateDone = "state done"
)

// write carries out one write to disk. Its error names where.
func (l *Log) write(path, fault string, do func() error) error {
	err := l.fault(fault)
	if err == nil {
		err = do()
	}
	if err == nil {
		err = l.fault(fault + " done")
	}
	if err != nil {
		return fmt.Errorf("%s can't be written: %w", path, err)
	}
	return nil
}

func (l *Log) fault(op string) error {
	if l.Fault == nil {
		return nil
	}
	return l.Fault(op)
}

// diskLogs is the store of the entries. When it fails, Raft steps down and
// tries to be elected again.
type diskLogs struct {
	raft.LogStore
	log *Log
}

// StoreLog stores one entry.
func (s diskLogs) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// StoreLogs stores entries.
func (s diskLogs) StoreLogs(logs []*raft.Log) error {
	err := s.log.write(s.log.logDir(), FaultLog, func() error { return s.LogStore.StoreLogs(logs) })
	if err == nil && len(logs) > 0 {
		s.log.stored.advance(logs[len(logs)-1].Index)
		err = s.log.member.stored()
	}
	return err
}

// DeleteRange deletes the first or the last entries: those that a snapshot
// holds, or those that the leader doesn't have.
func (s diskLogs) DeleteRange(min, max uint64) error {
	if max < s.log.stored.reaches() {
		return s.LogStore.DeleteRange(min, max)
	}
	newest, err := s.log.snapshots.List()
	if err != nil {
		return fmt.Errorf("%s: %w", s.log.snapshotsDir(), err)
	}
	left := min - 1
	if len(newest) > 0 && newest[0].Index > left {
		left = newest[0].Index
	}
	if err := s.log.stored.retreat(left); err != nil {
		return fmt.Errorf("%s can't be written: %w", s.log.storedFile(), err)
	}
	return s.LogStore.DeleteRange(min, max)
}

// IsMonotonic tells the library that the store takes no gap.
func (diskLogs) IsMonotonic() bool { return true }

// diskState is the store of Raft's term and vote. When it fails, the library
// would panic in a goroutine of its own; instead that goroutine ends, so that
// this server neither votes nor writes any more, and Run returns the error.
type diskState struct {
	raft.StableStore
	log *Log
}

// Set stores a value.
func (s diskState) Set(key, value []byte) error {
	err := s.log.write(s.log.stableFile(), FaultState, func() error { return s.StableStore.Set(key, value) })
	if err == nil {
		err = s.log.member.voted()
	}
	return s.written(err)
}

// SetUint64 stores a number.
func (s diskState) SetUint64(key []byte, value uint64) error {
	err := s.log.write(s.log.stableFile(), FaultState, func() error { return s.StableStore.SetUint64(key, value) })
	if err == nil && (string(key) != keyCurrentTerm || value > 1) { // see forgetBootstrap
		err = s.log.member.voted()
	}
	return s.written(err)
}

func (s diskState) written(err error) error {
	if err != nil && s.log.fail(err) {
		runtime.Goexit()
	}
	return err
}

// fail ends Run with the error. It reports false while the log is opened: the
// library then works in the caller's own goroutine.
func (l *Log) fail(err error) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed == nil {
		l.failed = err
		close(l.broken)
	}
	return !l.starting
}

func (l *Log) setStarting(is bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.starting = is
}

// failure returns what has ended Raft here, nil if nothing has.
func (l *Log) failure() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failed
}
