package raftlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/go-msgpack/v2/codec"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/stackforge/magnum/internal/atomicfile"
)

// The buckets of raft-boltdb, which doesn't export their names.
var (
	logsBucket = []byte("logs") // entries by index, 8 bytes, big endian
	confBucket = []byte("conf") // values of the stable store by key
)

const (
	lockTimeout     = time.Second // wait for the lock of raft.db
	initialMmapSize = 1 << 30     // address space; a growing file beyond it is mapped again, which waits for all readers
)

// StoreOptions are the options with which raft-boltdb opens the file.
func StoreOptions(path string) raftboltdb.Options {
	return raftboltdb.Options{Path: path, BoltOptions: boltOptions(), MsgpackUseNewTimeFormat: true}
}

func boltOptions() *bbolt.Options {
	return &bbolt.Options{Timeout: lockTimeout, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType, InitialMmapSize: initialMmapSize}
}

// boltStore is the log store and the stable store: raft-boltdb on raft.db, with a seal
// on everything stored. A failed write is a *notWritten or a *notSynced.
type boltStore struct {
	path     string
	failures *writeFailures

	writing sync.Mutex   // held by each write transaction
	mu      sync.RWMutex // held for writing while Replace has closed the file
	bolt    *raftboltdb.BoltStore
	keys    map[string]bool // of the stable store
}

// notWritten is a failed write of pages. bbolt has rolled the transaction back, so
// nothing has changed and the write may be retried.
type notWritten struct{ error }

func (e *notWritten) Unwrap() error { return e.error }

// notSynced is any other failure of a commit. What of the commit is on the disk is
// unknown and stays unknown: after a failed sync the kernel may drop what it could not
// write. No transaction may follow.
type notSynced struct{ error }

func (e *notSynced) Unwrap() error { return e.error }

// makeStore creates the file durably. It gets its name once it is complete.
func makeStore(path string) error {
	unfinished := path + newSuffix
	b, err := raftboltdb.New(StoreOptions(unfinished))
	if err == nil {
		err = b.Close()
	}
	if err == nil {
		err = os.Rename(unfinished, path)
	}
	if err == nil {
		err = atomicfile.SyncDir(filepath.Dir(path))
	}
	return err
}

// openStore opens a checked file for writing. keys are the keys of its stable store.
func openStore(path string, keys map[string]bool) (*boltStore, error) {
	s := &boltStore{path: path, failures: new(writeFailures), keys: keys}
	return s, s.open()
}

func (s *boltStore) options() *bbolt.Options {
	o := boltOptions()
	o.Logger = s.failures
	return o
}

func (s *boltStore) open() (err error) {
	o := StoreOptions(s.path)
	o.BoltOptions = s.options()
	s.bolt, err = raftboltdb.New(o)
	if errors.Is(err, bolterrors.ErrTimeout) {
		return fmt.Errorf("%s is in use by another process", s.path)
	}
	if err != nil {
		return fmt.Errorf("%s can't be opened: %w", s.path, err)
	}
	return nil
}

// read runs f, which must only read.
func (s *boltStore) read(f func(*raftboltdb.BoltStore) error) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return f(s.bolt)
}

// write runs f, which makes one transaction, and classifies its error.
func (s *boltStore) write(f func(*raftboltdb.BoltStore) error) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	return s.failures.of(func() error { return s.read(f) })
}

// FirstIndex returns the index of the first entry, 0 if there is none.
func (s *boltStore) FirstIndex() (first uint64, err error) {
	err = s.read(func(b *raftboltdb.BoltStore) error { first, err = b.FirstIndex(); return err })
	return first, err
}

// LastIndex returns the index of the last entry, 0 if there is none.
func (s *boltStore) LastIndex() (last uint64, err error) {
	err = s.read(func(b *raftboltdb.BoltStore) error { last, err = b.LastIndex(); return err })
	return last, err
}

// GetLog reads an entry. A missing entry is raft.ErrLogNotFound; a damaged one is an
// error that names the file.
func (s *boltStore) GetLog(index uint64, entry *raft.Log) error {
	var read raft.Log
	if err := s.read(func(b *raftboltdb.BoltStore) error { return b.GetLog(index, &read) }); err == raft.ErrLogNotFound {
		return err
	} else if err != nil {
		return fmt.Errorf("%s: entry %d: %w", s.path, index, err)
	}
	if err := unsealEntry(&read); err != nil || read.Index != index {
		return fmt.Errorf("%s is damaged: entry %d: %w", s.path, index, errSeal)
	}
	*entry = read
	return nil
}

// StoreLog stores one entry.
func (s *boltStore) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// StoreLogs stores entries in one transaction.
func (s *boltStore) StoreLogs(logs []*raft.Log) error {
	sealed := sealEntries(logs)
	return s.write(func(b *raftboltdb.BoltStore) error { return b.StoreLogs(sealed) })
}

func sealEntries(logs []*raft.Log) []*raft.Log {
	sealed := make([]*raft.Log, len(logs))
	for i, l := range logs {
		sealed[i] = sealEntry(l)
	}
	return sealed
}

// DeleteRange deletes the entries min to max, both included.
func (s *boltStore) DeleteRange(min, max uint64) error {
	return s.write(func(b *raftboltdb.BoltStore) error { return b.DeleteRange(min, max) })
}

// Replace deletes all entries and stores these, in one transaction. raft-boltdb has no
// such call and doesn't expose its file, so it is closed meanwhile.
func (s *boltStore) Replace(logs []*raft.Log) error {
	sealed := sealEntries(logs)
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.bolt.Close(); err != nil {
		return &notSynced{err}
	}
	err := s.failures.of(func() error { return replaceEntries(s.path, s.options(), sealed) })
	if openErr := s.open(); openErr != nil {
		return &notSynced{errors.Join(err, openErr)}
	}
	return err
}

func replaceEntries(path string, o *bbolt.Options, sealed []*raft.Log) error {
	db, err := bbolt.Open(path, 0o600, o)
	if err != nil {
		return err
	}
	defer db.Close()
	return db.Update(func(tx *bbolt.Tx) error {
		if err := tx.DeleteBucket(logsBucket); err != nil {
			return err
		}
		b, err := tx.CreateBucket(logsBucket)
		for _, l := range sealed {
			var value []byte
			if err == nil {
				value, err = encodeLog(l)
			}
			if err == nil {
				err = b.Put(entryKey(l.Index), value)
			}
		}
		return err
	})
}

func entryKey(index uint64) []byte { return binary.BigEndian.AppendUint64(nil, index) }

// encodeLog encodes an entry as raft-boltdb does with MsgpackUseNewTimeFormat.
func encodeLog(l *raft.Log) ([]byte, error) {
	var b bytes.Buffer
	err := codec.NewEncoder(&b, &codec.MsgpackHandle{}).Encode(l)
	return b.Bytes(), err
}

// decodeLog is the inverse of encodeLog.
func decodeLog(b []byte, l *raft.Log) error {
	return codec.NewDecoder(bytes.NewReader(b), &codec.MsgpackHandle{}).Decode(l)
}

// Set stores a value of the stable store.
func (s *boltStore) Set(key, value []byte) error {
	fresh := !s.keys[string(key)]
	if fresh {
		s.keys[string(key)] = true
	}
	if err := s.set(key, value); err != nil {
		if fresh {
			delete(s.keys, string(key))
		}
		return err
	}
	if !fresh {
		return nil
	}
	for other := range s.keys { // their seals hold the number of values
		if other == string(key) {
			continue
		}
		kept, err := s.Get([]byte(other))
		if err == nil {
			err = s.set([]byte(other), kept)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *boltStore) set(key, value []byte) error {
	sealed := sealValue(key, value, len(s.keys))
	return s.write(func(b *raftboltdb.BoltStore) error { return b.Set(key, sealed) })
}

// Get returns a value. A missing key is raftboltdb.ErrKeyNotFound, which the library
// recognizes by its text.
func (s *boltStore) Get(key []byte) (value []byte, err error) {
	var sealed []byte
	if err := s.read(func(b *raftboltdb.BoltStore) error { sealed, err = b.Get(key); return err }); err != nil {
		return nil, err
	}
	if value, _, err = unsealValue(key, sealed); err != nil {
		return nil, fmt.Errorf("%s is damaged: %w", s.path, err)
	}
	return value, nil
}

// SetUint64 stores a number.
func (s *boltStore) SetUint64(key []byte, value uint64) error {
	return s.Set(key, binary.BigEndian.AppendUint64(nil, value))
}

// GetUint64 returns a number.
func (s *boltStore) GetUint64(key []byte) (uint64, error) {
	b, err := s.Get(key)
	if err != nil {
		return 0, err
	}
	if len(b) != 8 {
		return 0, fmt.Errorf("%s: the value %s is not a number", s.path, key)
	}
	return binary.BigEndian.Uint64(b), nil
}

// FreeBytes returns how many bytes can be written before the file grows.
func (s *boltStore) FreeBytes() (free int64) {
	_ = s.read(func(b *raftboltdb.BoltStore) error {
		st := b.Stats()
		free = int64(st.FreePageN+st.PendingPageN) * int64(os.Getpagesize())
		return nil
	})
	return free
}

// Close closes the file.
func (s *boltStore) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bolt == nil {
		return nil
	}
	return s.bolt.Close()
}

// writeFailures is a logger for bbolt, whose log is the only place that says which
// write of a commit failed. It records failed page writes and logs nothing.
type writeFailures struct {
	mu   sync.Mutex
	page error // newest error of writing a page other than a meta page
}

// of runs a transaction and classifies its error.
func (w *writeFailures) of(commit func() error) error {
	w.mu.Lock()
	w.page = nil
	w.mu.Unlock()
	err := commit()
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case err == nil, err == bolterrors.ErrDatabaseNotOpen: // closed, so there was no transaction
		return err
	case w.page != nil && errors.Is(err, w.page):
		return &notWritten{err}
	}
	return &notSynced{err}
}

// Errorf records a failed page write: bbolt passes its offset, an int64, and the same
// error that the commit returns. No other message of bbolt has these types. If that
// changes, an error counts as a failed sync.
func (w *writeFailures) Errorf(_ string, v ...any) {
	if len(v) != 2 {
		return
	}
	_, isOffset := v[0].(int64)
	err, _ := v[1].(error)
	var failed *os.PathError
	if isOffset && errors.As(err, &failed) && failed.Op == "write" {
		w.mu.Lock()
		w.page = err
		w.mu.Unlock()
	}
}

// bbolt returns the errors that these methods would log.
func (*writeFailures) Debug(...any)            {}
func (*writeFailures) Debugf(string, ...any)   {}
func (*writeFailures) Error(...any)            {}
func (*writeFailures) Info(...any)             {}
func (*writeFailures) Infof(string, ...any)    {}
func (*writeFailures) Warning(...any)          {}
func (*writeFailures) Warningf(string, ...any) {}
func (*writeFailures) Fatal(...any)            {}
func (*writeFailures) Fatalf(string, ...any)   {}
func (*writeFailures) Panic(...any)            {}
func (*writeFailures) Panicf(string, ...any)   {}
