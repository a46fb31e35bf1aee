package raftlog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
)

// writtenDir returns the data directory of a server that was stopped after n
// entries, the last snapshot being taken after the first half, and its state.
func writtenDir(t testing.TB, n int, snapshot bool) (Config, *member) {
	t.Helper()
	c := testConfig(t, t.TempDir())
	c.TrailingLogs = 1
	m := start(t, c)
	for i := range n {
		m.put(i + 1)
		if snapshot && i == n/2 {
			if err := m.Snapshot(); err != nil {
				t.Fatal(err)
			}
		}
	}
	m.stop()
	return testConfig(t, c.DataDir), m
}

// refused opens the log and wants an error that holds all the words.
func refused(t testing.TB, c Config, words ...string) {
	t.Helper()
	l, err := Open(c)
	if err == nil {
		l.Close()
		t.Errorf("opened; want an error about %q", words)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q does not say %q", err, w)
		}
	}
}

func edit(t testing.TB, path string, f func([]byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, f(b), 0o600); err != nil {
		t.Fatal(err)
	}
}

func onlyFile(t testing.TB, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) != 1 {
		t.Fatalf("%s: %v, %v", pattern, found, err)
	}
	return found[0]
}

func TestLostWritesAreNoticed(t *testing.T) {
	old, _ := writtenDir(t, 3, false)
	before, err := os.ReadFile(old.logFile())
	if err != nil {
		t.Fatal(err)
	}
	m := start(t, testConfig(t, old.DataDir))
	for n := range 5 {
		m.put(10 + n)
	}
	m.stop()
	// The disk forgets what it said it had synced.
	edit(t, old.logFile(), func([]byte) []byte { return before })
	refused(t, testConfig(t, old.DataDir), old.logFile(), "was acknowledged", old.ackFile())

	edit(t, old.ackFile(), func(b []byte) []byte { b[3] ^= 1; return b })
	refused(t, testConfig(t, old.DataDir), old.ackFile(), "damaged")

	// What an operator can do who accepts the loss; and what power failures leave.
	for _, content := range [][]byte{nil, make([]byte, ackSize), {1, 2}} {
		edit(t, old.ackFile(), func([]byte) []byte { return content })
		l := mustOpen(t, testConfig(t, old.DataDir))
		if l.acked.last != 0 {
			t.Errorf("%v was read as index %d", content, l.acked.last)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestAcknowledgedIndexIsKept(t *testing.T) {
	c, m := writtenDir(t, 5, false)
	a, err := openAckFile(c.ackFile())
	if err != nil {
		t.Fatal(err)
	}
	defer a.close()
	if a.last != m.Store.Index() {
		t.Errorf("acknowledged %d, last entry %d", a.last, m.Store.Index())
	}
}

func TestDamagedSnapshotIsRefused(t *testing.T) {
	flip := func(b []byte) []byte { b[len(b)/2] ^= 4; return b }
	meta := func(change func(map[string]any)) func([]byte) []byte {
		return func(b []byte) []byte {
			var m map[string]any
			if err := json.Unmarshal(b, &m); err != nil {
				t.Fatal(err)
			}
			change(m)
			b, err := json.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
	}
	for name, c := range map[string]struct {
		file string
		edit func([]byte) []byte
		says string
	}{
		"flipped":       {"state.bin", flip, "CRC mismatch"},
		"cut":           {"state.bin", func(b []byte) []byte { return b[:len(b)-9] }, "CRC mismatch"},
		"meta cut":      {"meta.json", func(b []byte) []byte { return b[:9] }, "damaged"},
		"meta version":  {"meta.json", meta(func(m map[string]any) { m["Version"] = 7 }), "version 7"},
		"meta index":    {"meta.json", meta(func(m map[string]any) { m["Index"] = 99 }), "index 99"},
		"meta name":     {"meta.json", meta(func(m map[string]any) { m["ID"] = "2-99-7" }), "2-99-7"},
		"meta checksum": {"meta.json", meta(func(m map[string]any) { m["CRC"] = "AAAAAAAAAAA=" }), "CRC mismatch"},
		"no meta":       {"meta.json", nil, "meta.json"},
		"no state":      {"state.bin", nil, "state.bin"},
	} {
		t.Run(name, func(t *testing.T) {
			conf, _ := writtenDir(t, 10, true)
			path := onlyFile(t, filepath.Join(conf.snapshotsDir(), "*", c.file))
			if c.edit == nil {
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
			} else {
				edit(t, path, c.edit)
			}
			refused(t, conf, filepath.Dir(path), c.says)
		})
	}
}

// An older snapshot is no substitute, though the library would take it.
func TestOlderSnapshotIsNotTaken(t *testing.T) {
	c := testConfig(t, t.TempDir())
	m := start(t, c)
	for n := range 6 {
		m.put(n + 1)
		if n%3 == 2 {
			if err := m.Snapshot(); err != nil {
				t.Fatal(err)
			}
		}
	}
	newest, err := m.snapshots.List()
	if err != nil || len(newest) != 2 {
		t.Fatalf("%v, %v", newest, err)
	}
	m.stop()
	path := filepath.Join(c.snapshotsDir(), newest[0].ID, "state.bin")
	edit(t, path, func(b []byte) []byte { b[20] ^= 1; return b })
	refused(t, testConfig(t, c.DataDir), newest[0].ID)
}

func TestLogWithoutItsSnapshotIsRefused(t *testing.T) {
	c, _ := writtenDir(t, 10, true)
	if err := os.RemoveAll(onlyFile(t, filepath.Join(c.snapshotsDir(), "*"))); err != nil {
		t.Fatal(err)
	}
	refused(t, c, c.logFile(), c.snapshotsDir(), "begins at entry")
}

// An unfinished snapshot is what a crash leaves; it is no damage.
func TestUnfinishedSnapshotIsIgnored(t *testing.T) {
	c, m := writtenDir(t, 10, true)
	if err := os.Mkdir(filepath.Join(c.snapshotsDir(), "2-99-1.tmp"), 0o700); err != nil {
		t.Fatal(err)
	}
	again := start(t, c)
	sameState(t, again.Store, m.Store)
}

func TestCutLogFileIsRefused(t *testing.T) {
	c, _ := writtenDir(t, 200, false)
	whole, err := os.ReadFile(c.logFile())
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{1, 100, 4096, 8192, len(whole) / 3} {
		if err := os.WriteFile(c.logFile(), whole[:size], 0o600); err != nil {
			t.Fatal(err)
		}
		refused(t, testConfig(t, c.DataDir), c.logFile(), "damaged")
	}
	// An empty file is a new one to bbolt, but not to the side file.
	if err := os.Truncate(c.logFile(), 0); err != nil {
		t.Fatal(err)
	}
	refused(t, testConfig(t, c.DataDir), c.logFile(), "was acknowledged")
}

// Wherever a byte of the log file is flipped: it is noticed, or it was none
// that matters. Never does the process end, and never is state lost.
func TestFlippedByteOfTheLogFile(t *testing.T) {
	c, _ := writtenDir(t, 40, false)
	whole, err := os.ReadFile(c.logFile())
	if err != nil {
		t.Fatal(err)
	}
	l := mustOpen(t, c)
	want := entriesOf(t, l.logs)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	step, noticed := len(whole)/300, 0
	if testing.Short() {
		step *= 10
	}
	for at := 0; at < len(whole); at += step {
		b := append([]byte(nil), whole...)
		b[at] ^= 1 << (at % 8)
		if err := os.WriteFile(c.logFile(), b, 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := Open(testConfig(t, c.DataDir))
		if err != nil {
			noticed++
			if !strings.Contains(err.Error(), c.logFile()) || strings.Contains(err.Error(), unreadable) {
				t.Errorf("byte %d: %q does not name the file, or comes from a panic", at, err)
			}
			continue
		}
		if got := entriesOf(t, l.logs); !slices.Equal(got, want) {
			t.Errorf("byte %d (%q): not noticed, and entries differ", at, whole[max(0, at-8):min(len(whole), at+8)])
		}
		if err := l.Close(); err != nil {
			t.Errorf("byte %d: %v", at, err)
		}
	}
	if noticed == 0 {
		t.Error("no flipped byte was noticed")
	}
	t.Logf("%d of %d noticed", noticed, len(whole)/step+1)
}

// entriesOf returns what counts of each entry.
func entriesOf(t testing.TB, logs raft.LogStore) []string {
	t.Helper()
	last, err := logs.LastIndex()
	if err != nil {
		t.Fatal(err)
	}
	var entries []string
	for index := uint64(1); index <= last; index++ {
		var l raft.Log
		if err := logs.GetLog(index, &l); err != nil {
			t.Errorf("entry %d: %v", index, err)
		}
		entries = append(entries, fmt.Sprintf("%d %d %v %q", l.Index, l.Term, l.Type, l.Data))
	}
	return entries
}

func FuzzCheckBoltFile(f *testing.F) {
	c, _ := writtenDir(f, 3, false)
	whole, err := os.ReadFile(c.logFile())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint32(16384+10), []byte{0}, uint32(0))
	f.Add(uint32(8), []byte{1, 2, 3}, uint32(4096))
	path := filepath.Join(f.TempDir(), "log.db")
	f.Fuzz(func(t *testing.T, at uint32, change []byte, cut uint32) {
		b := append([]byte(nil), whole...)
		copy(b[int(at)%len(b):], change)
		b = b[:len(b)-int(cut)%len(b)]
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := checkBoltFile(path); err != nil && !strings.Contains(err.Error(), path) {
			t.Errorf("%q does not name the file", err)
		}
	})
}

func TestDamagedEntryIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(sealedStore) error
		says   string
	}{
		"term": {func(s sealedStore) error {
			var l raft.Log
			err := s.BoltStore.GetLog(5, &l) // with its checksum
			l.Term++
			return errors.Join(err, s.BoltStore.StoreLog(&l))
		}, "entry 5 is damaged"},
		"no checksum": {func(s sealedStore) error {
			return s.BoltStore.StoreLog(&raft.Log{Index: 5, Term: 2, Type: raft.LogNoop})
		}, "entry 5 is damaged"},
		"other version": {func(s sealedStore) error {
			return s.StoreLog(&raft.Log{Index: 5, Term: 2, Type: raft.LogCommand, Data: []byte{0, 9, 0, 0, 0, 0}})
		}, "entry 5: entry of schema 9"},
		"begin": {func(s sealedStore) error { return s.DeleteRange(1, 1) }, "begins at entry 2"},
		"unknown term": {func(s sealedStore) error {
			last, err := s.LastIndex()
			return errors.Join(err, s.StoreLog(&raft.Log{Index: last + 1, Term: 99, Type: raft.LogNoop}))
		}, "knows only of term"},
		"current term": {func(s sealedStore) error { return s.BoltStore.SetUint64([]byte("CurrentTerm"), 7) }, "CurrentTerm is damaged"},
		"short term":   {func(s sealedStore) error { return s.Set([]byte("CurrentTerm"), []byte("x")) }, "it is no number"},
		"vote":         {func(s sealedStore) error { return s.BoltStore.Set([]byte("LastVoteCand"), []byte("nobody")) }, "LastVoteCand is damaged"},
		"gap":          {func(s sealedStore) error { return s.DeleteRange(5, 5) }, "no entry 5"},
	} {
		t.Run(name, func(t *testing.T) {
			conf, _ := writtenDir(t, 10, false)
			l := mustOpen(t, conf)
			if err := errors.Join(c.damage(l.bolt), l.Close()); err != nil {
				t.Fatal(err)
			}
			refused(t, testConfig(t, conf.DataDir), conf.logFile(), c.says)
		})
	}
}

// A server that was stopped between a snapshot and its next entry begins at the
// snapshot.
func TestSnapshotAlone(t *testing.T) {
	c := testConfig(t, t.TempDir())
	c.TrailingLogs = 1
	m := start(t, c)
	m.put(1)
	m.put(2)
	if err := m.Snapshot(); err != nil {
		t.Fatal(err)
	}
	m.stop()
	l := mustOpen(t, testConfig(t, c.DataDir))
	sameState(t, l.Store, m.Store) // before there is a leader
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.ReadIndex(context.Background()); err == nil {
		t.Error("a closed log serves reads")
	}
}
