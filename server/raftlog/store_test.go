package raftlog

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

var (
	_ raft.LogStore          = (*boltStore)(nil)
	_ raft.StableStore       = (*boltStore)(nil)
	_ raft.MonotonicLogStore = (*diskLogs)(nil)
	_ replacer               = (*boltStore)(nil)
)

func openTestStore(t testing.TB) *boltStore {
	t.Helper()
	path := filepath.Join(t.TempDir(), "raft.db")
	if err := makeStore(path); err != nil {
		t.Fatal(err)
	}
	s, err := openStore(path, make(map[string]bool))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// someEntries returns n entries of all types, starting at the index.
func someEntries(from uint64, n int, term uint64, size int) []*raft.Log {
	var list []*raft.Log
	for i := range n {
		e := &raft.Log{Index: from + uint64(i), Term: term, Type: raft.LogType(i % 6), AppendedAt: time.Unix(7, int64(i))}
		e.Data = bytes.Repeat([]byte{byte(e.Index), byte(term)}, size/2)
		switch i % 4 {
		case 1:
			e.Data, e.AppendedAt = nil, time.Time{}
		case 2:
			e.Extensions = []byte("of the leader's")
		}
		list = append(list, e)
	}
	return list
}

// has expects exactly these entries in the store.
func has(t testing.TB, s raft.LogStore, want []*raft.Log) {
	t.Helper()
	first, last, err := bounds(s)
	if len(want) == 0 {
		if first != 0 || last != 0 || err != nil {
			t.Errorf("there are entries %d to %d (%v), want none", first, last, err)
		}
		return
	}
	if first != want[0].Index || last != want[len(want)-1].Index {
		t.Errorf("there are entries %d to %d, want %d to %d", first, last, want[0].Index, want[len(want)-1].Index)
	}
	for _, w := range want {
		var e raft.Log
		if err := s.GetLog(w.Index, &e); err != nil {
			t.Errorf("entry %d: %v", w.Index, err)
		}
		if e.Index != w.Index || e.Term != w.Term || e.Type != w.Type || !bytes.Equal(e.Data, w.Data) ||
			!bytes.Equal(e.Extensions, w.Extensions) || !e.AppendedAt.Equal(w.AppendedAt) {
			t.Errorf("entry %d is %+v, want %+v", w.Index, e, *w)
		}
	}
	for _, index := range []uint64{0, want[0].Index - 1, last + 1} {
		if err := s.GetLog(index, new(raft.Log)); err != raft.ErrLogNotFound {
			t.Errorf("entry %d: %v", index, err)
		}
	}
}

func TestEntriesAreKept(t *testing.T) {
	s := openTestStore(t)
	has(t, s, nil)
	want := someEntries(1, 400, 3, 200)
	if err := s.StoreLogs(want); err != nil {
		t.Fatal(err)
	}
	has(t, s, want)
	if err := s.DeleteRange(1, 150); err != nil {
		t.Fatal(err)
	}
	has(t, s, want[150:])
	if err := s.DeleteRange(301, 400); err != nil {
		t.Fatal(err)
	}
	has(t, s, want[150:300])
	other := someEntries(1000, 30, 4, 20)
	if err := s.Replace(other); err != nil {
		t.Fatal(err)
	}
	has(t, s, other)
	more := someEntries(1030, 1, 4, 1<<20)
	if err := s.StoreLog(more[0]); err != nil {
		t.Fatal(err)
	}
	want = append(other, more...)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.StoreLogs(more); !errors.Is(err, bolterrors.ErrDatabaseNotOpen) {
		t.Errorf("a closed store: %v", err)
	}
	facts, err := CheckLog(t.Context(), LogCheck{Path: s.path, SnapshotIndex: 999, SnapshotTerm: 1}, nil)
	if err == nil {
		t.Errorf("entries that this binary can't read are taken: %+v", facts)
	}
	if err := s.open(); err != nil {
		t.Fatal(err)
	}
	has(t, s, want)
	if s.FreeBytes() < 50<<10 {
		t.Errorf("%d bytes are free after most was deleted", s.FreeBytes())
	}
}

// The store writes what raft-boltdb writes and reads, except for the seal at the end of
// each value.
func TestStoreMatchesRaftBoltDB(t *testing.T) {
	s := openTestStore(t)
	want := someEntries(1, 12, 3, 50)
	if err := errors.Join(s.StoreLogs(want), s.Set([]byte("LastVoteCand"), []byte("me")), s.SetUint64([]byte("CurrentTerm"), 5),
		s.Close()); err != nil {
		t.Fatal(err)
	}
	var stored, replaced [][]byte
	values := func() (all [][]byte) {
		db, err := bbolt.Open(s.path, 0o600, boltOptions())
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		err = db.View(func(tx *bbolt.Tx) error {
			return tx.Bucket(logsBucket).ForEach(func(k, v []byte) error {
				all = append(all, bytes.Clone(k), bytes.Clone(v))
				return nil
			})
		})
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	stored = values()
	if err := errors.Join(s.open(), s.Replace(want), s.Close()); err != nil {
		t.Fatal(err)
	}
	replaced = values()
	if !slices.EqualFunc(stored, replaced, bytes.Equal) {
		t.Error("entries are encoded in another way when they replace others")
	}
	b, err := raftboltdb.New(StoreOptions(s.path))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for _, w := range want {
		var e raft.Log
		if err := b.GetLog(w.Index, &e); err != nil || !bytes.Equal(e.Data, w.Data) || len(e.Extensions) != len(w.Extensions)+sealSize {
			t.Errorf("raft-boltdb reads %+v, %v", e, err)
		}
	}
	if v, err := b.Get([]byte("LastVoteCand")); err != nil || !bytes.HasPrefix(v, []byte("me")) || len(v) != 2+valueSealSize {
		t.Errorf("raft-boltdb reads %q, %v", v, err)
	}
}

func TestStableValuesAreKept(t *testing.T) {
	s := openTestStore(t)
	for _, missing := range []func() error{
		func() error { _, err := s.Get([]byte("LastVoteCand")); return err },
		func() error { _, err := s.GetUint64([]byte("CurrentTerm")); return err },
	} {
		if err := missing(); err == nil || err.Error() != "not found" { // raft matches this text
			t.Errorf("a value that was never set: %v", err)
		}
	}
	for term := range uint64(3) {
		if err := s.SetUint64([]byte("CurrentTerm"), term); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(s.Set([]byte("LastVoteCand"), []byte("s1")), s.Set([]byte("empty"), nil)); err != nil {
		t.Fatal(err)
	}
	if term, err := s.GetUint64([]byte("CurrentTerm")); term != 2 || err != nil {
		t.Errorf("term %d, %v", term, err)
	}
	if vote, err := s.Get([]byte("LastVoteCand")); string(vote) != "s1" || err != nil {
		t.Errorf("vote %q, %v", vote, err)
	}
	if _, err := s.GetUint64([]byte("LastVoteCand")); err == nil {
		t.Error("a vote is read as a number")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	facts, err := CheckLog(t.Context(), LogCheck{Path: s.path}, nil)
	if err != nil || len(facts.Values) != 3 || string(facts.Values["LastVoteCand"]) != "s1" {
		t.Errorf("%+v, %v", facts, err)
	}
}

func FuzzSeal(f *testing.F) {
	f.Add(uint64(1), uint64(2), byte(0), []byte("data"), []byte("ext"), int64(7), uint16(3), byte(1))
	f.Add(uint64(math.MaxUint64), uint64(0), byte(5), []byte(nil), []byte(nil), int64(math.MinInt64), uint16(0), byte(128))
	f.Fuzz(func(t *testing.T, index, term uint64, kind byte, data, extensions []byte, at int64, place uint16, change byte) {
		e := &raft.Log{Index: index, Term: term, Type: raft.LogType(kind), Data: data, Extensions: extensions, AppendedAt: time.Unix(at, 0)}
		sealed := sealEntry(e)
		got := *sealed
		if err := unsealEntry(&got); err != nil || !bytes.Equal(got.Extensions, extensions) || !bytes.Equal(got.Data, data) {
			t.Errorf("%+v, %v", got, err)
		}
		if change == 0 {
			return
		}
		for _, b := range [][]byte{sealed.Data, sealed.Extensions} {
			if len(b) == 0 {
				continue
			}
			was := b[int(place)%len(b)]
			b[int(place)%len(b)] ^= change
			got := *sealed
			if unsealEntry(&got) == nil {
				t.Error("a flipped byte is not noticed")
			}
			b[int(place)%len(b)] = was
		}
	})
}

// Only failed page writes may be retried. This asks bbolt itself, so a version with
// other log messages is noticed.
func TestOnlyFailedPageWritesAreRetryable(t *testing.T) {
	s := openTestStore(t)
	want := someEntries(1, 3, 1, 20)
	if err := s.StoreLogs(want); err != nil {
		t.Fatal(err)
	}
	var failed *notWritten
	var unsynced *notSynced
	// The descriptor of this file is replaced by a read-only one, so bbolt can write no
	// page.
	refuse := func(what func(file *os.File) (undo func())) error {
		t.Helper()
		var opened *os.File
		o := s.options()
		o.OpenFile = func(path string, flags int, mode os.FileMode) (f *os.File, err error) {
			opened, err = os.OpenFile(path, flags, mode)
			return opened, err
		}
		db, err := bbolt.Open(s.path, 0o600, o)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		undo := what(opened)
		defer undo()
		return s.failures.of(func() error {
			return db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(logsBucket).Put([]byte("12345678"), []byte("x")) })
		})
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	err := refuse(func(file *os.File) func() {
		readOnly, err := os.Open(s.path)
		if err != nil {
			t.Fatal(err)
		}
		kept, err := syscall.Dup(int(file.Fd()))
		if err := errors.Join(err, syscall.Dup3(int(readOnly.Fd()), int(file.Fd()), syscall.O_CLOEXEC), readOnly.Close()); err != nil {
			t.Fatal(err)
		}
		return func() {
			if err := errors.Join(syscall.Dup3(kept, int(file.Fd()), syscall.O_CLOEXEC), syscall.Close(kept)); err != nil {
				t.Error(err)
			}
		}
	})
	if !errors.As(err, &failed) || !errors.Is(err, syscall.EBADF) {
		t.Errorf("a page that can't be written: %T %v", err, err)
	}
	if err := s.open(); err != nil {
		t.Fatal(err)
	}
	has(t, s, want)
	page := &os.PathError{Op: "write", Path: s.path, Err: syscall.ENOSPC}
	for _, tc := range []struct {
		name   string
		logged []any
		err    error
	}{
		{"fdatasync", []any{"linux", "amd64", syscall.EIO}, syscall.EIO},
		{"fdatasync of a thin volume", []any{"linux", "amd64", syscall.ENOSPC}, syscall.ENOSPC},
		{"meta page", []any{uint64(1), 4096, page}, page},
		{"growing", []any{"linux", "amd64", 1, 2, syscall.ENOSPC}, fmt.Errorf("file sync error: %s", syscall.ENOSPC)},
		{"nothing said", nil, page},
		{"another failure", []any{int64(8192), &os.PathError{Op: "write", Err: syscall.EIO}}, page},
	} {
		err := s.failures.of(func() error {
			s.failures.Errorf("whatever", tc.logged...)
			return tc.err
		})
		if !errors.As(err, &unsynced) || !errors.Is(err, tc.err) {
			t.Errorf("%s: %T %v", tc.name, err, err)
		}
	}
}
