package raftlog

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/raft"
)

// The writes to disk for which Config.Fault is called. A plain fault comes before the
// write, as one that was rolled back. A "done" fault comes after it, as a failed sync.
const (
	FaultLog       = "log" // entries
	FaultLogDone   = "log done"
	FaultState     = "state" // Raft's term and vote
	FaultStateDone = "state done"
)

// disk writes the log's files and remembers failures.
type disk struct {
	config Config
	relied atomic.Bool   // others may rely on this server, because it has state or Run has begun
	ending chan struct{} // closed by Log.Close

	mu       sync.Mutex    // guards what follows
	starting bool          // Open is under way
	failed   error         // what ended the log; nil while nothing has
	broken   chan struct{} // closed when failed is set
}

// write makes one write to raft.db. Its error names the file. A failed sync ends the
// log: no further write begins.
func (d *disk) write(fault string, do func() error) error {
	if err := d.failure(); err != nil {
		return err
	}
	err := d.fault(fault)
	if err == nil {
		err = do()
	}
	if err == nil && fault != "" {
		if err = d.fault(fault + " done"); err != nil {
			err = &notSynced{err}
		}
	}
	if err == nil {
		return nil
	}
	err = fmt.Errorf("%s can't be written: %w", d.config.storeFile(), err)
	if unsynced := new(notSynced); errors.As(err, &unsynced) {
		d.noteFailedSync(err)
		d.fail(err)
	}
	return err
}

func (d *disk) fault(op string) error {
	if d.config.Fault == nil || op == "" {
		return nil
	}
	return d.config.Fault(op)
}

// diskLogs is the log store. When entries can't be written, a leader steps down and
// stands for election again, and a follower gets the entries from its leader again.
type diskLogs struct {
	raft.LogStore
	files *files

	mu        sync.Mutex
	unremoved bool // a deletion of all entries failed
}

// StoreLog stores one entry.
func (s *diskLogs) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// StoreLogs stores entries with consecutive indexes. It leaves no gap and no entry of
// an earlier leader behind them: entries of the same or a higher index are deleted
// first. If the new entries don't follow the last one, the old ones are deleted in the
// same transaction, provided that a snapshot holds them.
func (s *diskLogs) StoreLogs(logs []*raft.Log) error {
	if len(logs) == 0 {
		return nil
	}
	from := logs[0].Index
	for i, e := range logs {
		if e.Index != from+uint64(i) || from == 0 {
			return fmt.Errorf("entry %d is stored in the place of entry %d", e.Index, from+uint64(i))
		}
	}
	store := func() error { return s.LogStore.StoreLogs(logs) }
	first, last, err := bounds(s.LogStore)
	if err != nil {
		return err
	}
	switch {
	case last == 0 || from > last+1:
	case s.removalFailed():
		if err := s.DeleteRange(first, last); err != nil {
			return err
		}
		last = 0
	case from <= last:
		if err := s.DeleteRange(from, last); err != nil {
			return err
		}
		if last = from - 1; from <= first {
			last = 0
		}
	}
	if from != last+1 {
		held, err := s.files.newestSnapshot()
		switch {
		case err != nil:
			return err
		case from > held+1:
			return fmt.Errorf("entry %d can't follow on entry %d: the newest snapshot is of entry %d", from, last, held)
		case last != 0:
			store = func() error { return replace(s.LogStore, logs) }
		}
	}
	if err := s.files.disk.write(FaultLog, store); err != nil {
		return err
	}
	s.noteRemoval(nil)
	s.files.stored.advance(logs[len(logs)-1].Index)
	return s.files.member.stored()
}

func (s *diskLogs) removalFailed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.unremoved
}

// DeleteRange deletes entries at the beginning, which a snapshot holds, or at the end,
// which the leader doesn't have.
func (s *diskLogs) DeleteRange(min, max uint64) error {
	first, last, err := bounds(s.LogStore)
	if err != nil {
		return err
	}
	err = s.deleteRange(min, max)
	if min <= first && max >= last {
		s.noteRemoval(err)
	}
	return err
}

// noteRemoval records the result of a deletion of all entries.
func (s *diskLogs) noteRemoval(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unremoved = err != nil
}

func (s *diskLogs) deleteRange(min, max uint64) error {
	remove := func() error { return s.LogStore.DeleteRange(min, max) }
	if max < s.files.stored.reaches() {
		return s.files.disk.write("", remove)
	}
	left, err := s.files.newestSnapshot()
	if err != nil {
		return err
	}
	if min > left {
		left = min - 1
	}
	if err := s.files.stored.retreat(left); err != nil {
		return fmt.Errorf("%s can't be written: %w", s.files.config.storedFile(), err)
	}
	return s.files.disk.write("", remove)
}

// IsMonotonic tells the library that the store accepts no gap: the library then deletes
// the entries before a restored or installed snapshot.
func (*diskLogs) IsMonotonic() bool { return true }

// replacer is a store that replaces all its entries in one transaction.
type replacer interface {
	Replace(logs []*raft.Log) error
}

// replace replaces all entries. A store wrapped by a test deletes the old ones in a
// separate transaction.
func replace(s raft.LogStore, logs []*raft.Log) error {
	if r, ok := s.(replacer); ok {
		return r.Replace(logs)
	}
	first, last, err := bounds(s)
	if err == nil {
		err = s.DeleteRange(first, last)
	}
	if err == nil {
		err = s.StoreLogs(logs)
	}
	return err
}

// newestSnapshot returns the index of the newest snapshot, 0 if there is none.
func (fl *files) newestSnapshot() (uint64, error) {
	newest, err := fl.snapshots.List()
	if err != nil {
		return 0, fmt.Errorf("%s: %w", fl.config.snapshotsDir(), err)
	}
	if len(newest) == 0 {
		return 0, nil
	}
	return newest[0].Index, nil
}

// diskState is the store of Raft's term and vote. A failed write is retried while Raft
// waits: a silent server harms nobody. After a permanent failure the library would
// panic in a goroutine of its own. diskState ends that goroutine instead, so that this
// server no longer votes or writes, and Run returns the error.
type diskState struct {
	raft.StableStore
	files *files
}

// Set stores a value.
func (s diskState) Set(key, value []byte) error {
	return s.files.disk.retryUntilWritten(func() error {
		err := s.files.disk.write(FaultState, func() error { return s.StableStore.Set(key, value) })
		if err == nil {
			err = s.files.member.voted()
		}
		return err
	})
}

// SetUint64 stores a number.
func (s diskState) SetUint64(key []byte, value uint64) error {
	return s.files.disk.retryUntilWritten(func() error {
		err := s.files.disk.write(FaultState, func() error { return s.StableStore.SetUint64(key, value) })
		if err == nil && (string(key) != keyCurrentTerm || value > 1) { // see forgetBootstrap
			err = s.files.member.voted()
		}
		return err
	})
}

// minWriteRetry and maxWriteRetry bound the pauses between tries to write a term or a
// vote.
const (
	minWriteRetry = 20 * time.Millisecond
	maxWriteRetry = time.Second
)

// retryUntilWritten calls write until it succeeds. On a full disk it frees reserved
// space. A failed sync ends the caller's goroutine, and so does the end of the log. Any
// failure does so while the log is opened, or before Run if there is no state: whoever
// starts the server then gets the error.
func (d *disk) retryUntilWritten(write func() error) error {
	for pause := minWriteRetry; ; pause = min(2*pause, maxWriteRetry) {
		err := write()
		if err == nil {
			return nil
		}
		made := noRoom(err) && d.config.MakeRoom != nil && d.config.MakeRoom()
		if made {
			if err = write(); err == nil {
				return nil
			}
		}
		if d.failure() != nil || !d.relied.Load() {
			if d.fail(err) {
				runtime.Goexit()
			}
			return err
		}
		if pause == minWriteRetry {
			d.config.Logger.Error("the term or a vote can't be written: this server neither votes nor leads until it can", "error", err)
		}
		select {
		case <-time.After(pause):
		case <-d.ending:
			d.fail(err)
			runtime.Goexit()
		}
	}
}

// noRoom reports whether a write failed because the disk is full.
func noRoom(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// fail ends Run with the error. It returns false while the log is opened: the library
// then runs in the caller's own goroutine, which must not be ended.
func (d *disk) fail(err error) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.failed == nil {
		d.failed = err
		close(d.broken)
	}
	return !d.starting
}

func (d *disk) setStarting(is bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.starting = is
}

// failure returns the error that has ended Raft, nil if none has.
func (d *disk) failure() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.failed
}

// noteFailedSync leaves the error for the next start. If that fails, only a warning is
// lost.
func (d *disk) noteFailedSync(err error) {
	_ = os.WriteFile(d.config.failedSyncFile(), fmt.Appendln(nil, err), 0o600)
}

// forgetFailedSync warns that a sync failed before this start, although nothing is
// missing, and removes the note.
func (fl *files) forgetFailedSync() {
	said, err := os.ReadFile(fl.config.failedSyncFile())
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	fl.config.Logger.Warn("a sync failed before this start, but everything stored is there: check the disk", "path",
		fl.config.storeFile(), "error", string(said))
	_ = os.Remove(fl.config.failedSyncFile())
}
