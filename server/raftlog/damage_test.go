package raftlog

import (
	"bytes"
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

	"github.com/stackforge/magnum/server/raftlog/wal"
	"github.com/stackforge/magnum/structs"
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

// segment returns the one file that holds the log, and where its last record
// ends: zeros follow.
func segment(t testing.TB, c Config) (path string, whole []byte, end int) {
	t.Helper()
	path = onlyFile(t, filepath.Join(c.logDir(), "*"))
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return path, whole, len(bytes.TrimRight(whole, "\x00"))
}

// rewrite replaces the entries of the log.
func rewrite(t testing.TB, c Config, change func([]*raft.Log) []*raft.Log) {
	t.Helper()
	l, err := wal.Open(c.logDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	first, last, err := bounds(l)
	if err != nil {
		t.Fatal(err)
	}
	var entries []*raft.Log
	for index := first; index <= last; index++ {
		var e raft.Log
		if err := l.GetLog(index, &e); err != nil {
			t.Fatal(err)
		}
		entries = append(entries, &e)
	}
	if err := errors.Join(l.Close(), os.RemoveAll(c.logDir())); err != nil {
		t.Fatal(err)
	}
	if l, err = wal.Open(c.logDir(), nil); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(l.StoreLogs(change(entries)), l.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestLostWritesAreNoticed(t *testing.T) {
	old, _ := writtenDir(t, 3, false)
	before := filepath.Join(t.TempDir(), "before")
	if err := os.CopyFS(before, os.DirFS(old.logDir())); err != nil {
		t.Fatal(err)
	}
	m := start(t, testConfig(t, old.DataDir))
	for n := range 5 {
		m.put(10 + n)
	}
	m.stop()
	// The disk forgets what it said it had synced.
	if err := errors.Join(os.RemoveAll(old.logDir()), os.CopyFS(old.logDir(), os.DirFS(before))); err != nil {
		t.Fatal(err)
	}
	refused(t, testConfig(t, old.DataDir), old.logDir(), "was stored", old.storedFile())

	edit(t, old.storedFile(), func(b []byte) []byte { b[3] ^= 1; return b })
	refused(t, testConfig(t, old.DataDir), old.storedFile(), "damaged")

	// What an operator can do who accepts the loss; and what power failures leave.
	for _, content := range [][]byte{nil, make([]byte, storedSize), {1, 2}} {
		edit(t, old.storedFile(), func([]byte) []byte { return content })
		l := mustOpen(t, testConfig(t, old.DataDir))
		if l.stored.reaches() != 0 {
			t.Errorf("%v was read as index %d", content, l.stored.reaches())
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestStoredIndexIsKept(t *testing.T) {
	for _, snapshot := range []bool{false, true} {
		c, m := writtenDir(t, 6, snapshot)
		l := mustOpen(t, c)
		last, err := l.logs.LastIndex()
		if stored := l.stored.reaches(); err != nil || stored != last || stored < m.Store.Index() {
			t.Errorf("stored %d, last entry %d (%v), state of %d", stored, last, err, m.Store.Index())
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// Entries that the leader does not have are deleted, and what is left is whole.
func TestDeletedEntriesAreNotMissed(t *testing.T) {
	c, _ := writtenDir(t, 10, false)
	l := mustOpen(t, c)
	_, last, err := bounds(l.logs)
	if err := errors.Join(err, l.logs.DeleteRange(last-2, last), l.Close()); err != nil {
		t.Fatal(err)
	}
	l = mustOpen(t, testConfig(t, c.DataDir))
	if stored := l.stored.reaches(); stored != last-3 {
		t.Errorf("%d are stored, want %d", stored, last-3)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// All entries are in the snapshot: without it, nothing would be left.
func TestSnapshotWithoutEntriesIsMissed(t *testing.T) {
	c, _ := writtenDir(t, 10, true)
	m := start(t, testConfig(t, c.DataDir))
	if err := m.Snapshot(); err != nil {
		t.Fatal(err)
	}
	first, last, err := bounds(m.logs)
	newest, listErr := m.snapshots.List()
	if err := errors.Join(err, listErr, m.logs.DeleteRange(first, last)); err != nil {
		t.Fatal(err)
	}
	if stored := m.stored.reaches(); stored != newest[0].Index {
		t.Errorf("%d are stored, the snapshot is of %d", stored, newest[0].Index)
	}
	m.stop()
	l := mustOpen(t, testConfig(t, c.DataDir))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.RemoveAll(c.snapshotsDir()), os.Mkdir(c.snapshotsDir(), 0o700)); err != nil {
		t.Fatal(err)
	}
	refused(t, testConfig(t, c.DataDir), c.logDir(), c.snapshotsDir(), "was stored")
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
			if c.edit != nil && c.file == metaFile {
				refused(t, conf, filepath.Dir(path), "damaged")
				if err := os.Remove(filepath.Join(filepath.Dir(path), metaSum)); err != nil { // an earlier magnum wrote none
					t.Fatal(err)
				}
			}
			refused(t, conf, filepath.Dir(path), c.says)
		})
	}
}

// Nothing but its checksum would tell a flipped byte in what a snapshot says of
// the servers: it would be read as another configuration.
func TestFlippedByteOfASnapshotsMeta(t *testing.T) {
	c, _ := writtenDir(t, 10, true)
	for _, name := range []string{metaFile, metaSum} {
		path := onlyFile(t, filepath.Join(c.snapshotsDir(), "*", name))
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for at := range whole {
			edit(t, path, func(b []byte) []byte { b[at] ^= 1 << (at % 8); return b })
			refused(t, testConfig(t, c.DataDir), path, "damaged")
			if err := os.WriteFile(path, whole, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := mustOpen(t, testConfig(t, c.DataDir)).Close(); err != nil {
		t.Fatal(err)
	}
}

// A snapshot of an earlier magnum, or one that was just finished when the process
// ended, gets its checksum when it is opened.
func TestSnapshotWithoutChecksum(t *testing.T) {
	c, m := writtenDir(t, 10, true)
	path := onlyFile(t, filepath.Join(c.snapshotsDir(), "*", metaSum))
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	again := start(t, c)
	sameState(t, again.Store, m.Store)
	again.stop()
	edit(t, filepath.Join(filepath.Dir(path), metaFile), func(b []byte) []byte { return bytes.Replace(b, []byte("Index"), []byte("Jndex"), 1) })
	refused(t, testConfig(t, c.DataDir), path[:len(path)-len(metaSum)], "damaged")
}

// The process was ended while it removed an older snapshot: that is no damage.
func TestHalfRemovedOlderSnapshot(t *testing.T) {
	c, m := writtenDir(t, 10, true)
	// The term is 2, or more on a busy machine, which may need another election.
	term, _, _ := strings.Cut(filepath.Base(onlyFile(t, filepath.Join(c.snapshotsDir(), "*"))), "-")
	for _, name := range []string{"1-3-1", term + "-9-99999"} { // index 10 is newer, though not by its letters
		if err := os.Mkdir(filepath.Join(c.snapshotsDir(), name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	again := start(t, c)
	sameState(t, again.Store, m.Store)
	again.stop()
	newer := filepath.Join(c.snapshotsDir(), term+"-100-1")
	if err := os.Mkdir(newer, 0o700); err != nil {
		t.Fatal(err)
	}
	refused(t, testConfig(t, c.DataDir), newer)
}

// A whole snapshot that a later version has written is refused for what it is.
func TestSnapshotOfLaterSchemaIsRefused(t *testing.T) {
	c := testConfig(t, t.TempDir())
	m := start(t, c)
	cluster := &structs.Cluster{Meta: structs.Meta{ID: structs.ClusterRowID, Seq: 1}, Schema: structs.SchemaVersion + 1}
	raise := encode(t, m.Term(), m.Store.Index(), structs.Change{Table: structs.TableCluster, ID: cluster.ID, Row: cluster})
	if _, err := m.Propose(t.Context(), raise); err != nil {
		t.Fatal(err)
	}
	if err := m.Snapshot(); err != nil {
		t.Fatal(err)
	}
	m.stop()
	refused(t, testConfig(t, c.DataDir), onlyFile(t, filepath.Join(c.snapshotsDir(), "*")),
		"not of this version", fmt.Sprintf("it is of schema %d", structs.SchemaVersion+1), "a newer one")
	_, err := Open(testConfig(t, c.DataDir))
	if err != nil && strings.Contains(err.Error(), "damaged") {
		t.Errorf("%v: nothing is", err)
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
	rewrite(t, c, func(entries []*raft.Log) []*raft.Log { return entries[5:] })
	if err := os.RemoveAll(onlyFile(t, filepath.Join(c.snapshotsDir(), "*"))); err != nil {
		t.Fatal(err)
	}
	refused(t, c, c.logDir(), c.snapshotsDir(), "begins at entry 6")
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
	path, whole, end := segment(t, c)
	for _, size := range []int{0, 1, 19, 20, 100, 4096, 8192, end / 3, end - 1} {
		if err := os.WriteFile(path, whole[:size], 0o600); err != nil {
			t.Fatal(err)
		}
		refused(t, testConfig(t, c.DataDir), c.logDir(), "was stored")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	refused(t, testConfig(t, c.DataDir), c.logDir(), "was stored")
	// The zeros that are written ahead hold nothing.
	if err := os.WriteFile(path, whole[:end], 0o600); err != nil {
		t.Fatal(err)
	}
	if err := mustOpen(t, testConfig(t, c.DataDir)).Close(); err != nil {
		t.Fatal(err)
	}
}

// Wherever a byte of the log file is flipped: it is noticed, or it was none
// that matters. Never does the process end, and never is state lost.
func TestFlippedByteOfTheLogFile(t *testing.T) {
	c, _ := writtenDir(t, 40, false)
	l := mustOpen(t, c)
	want := entriesOf(t, l.logs)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	path, whole, end := segment(t, c)
	step, noticed := max(end/300, 1), 0
	if testing.Short() {
		step *= 10
	}
	for at := 0; at < end+step; at += step {
		b := append([]byte(nil), whole...)
		b[at] ^= 1 << (at % 8)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := Open(testConfig(t, c.DataDir))
		if err != nil {
			noticed++
			if !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), unreadable) {
				t.Errorf("byte %d: %q does not name the file, or comes from a panic", at, err)
			}
			continue
		}
		if at < end {
			t.Errorf("byte %d of %d is not noticed", at, end)
		}
		if got := entriesOf(t, l.logs); !slices.Equal(got, want) {
			t.Errorf("byte %d: not noticed, and entries differ", at)
		}
		if err := l.Close(); err != nil {
			t.Errorf("byte %d: %v", at, err)
		}
	}
	if noticed == 0 {
		t.Error("no flipped byte was noticed")
	}
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

// What has the right checksum and is wrong all the same.
func TestWrongEntryIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func([]*raft.Log) []*raft.Log
		says   string
	}{
		"other version": {func(list []*raft.Log) []*raft.Log {
			list[4] = &raft.Log{Index: 5, Term: 2, Type: raft.LogCommand, Data: []byte{0, 9, 0, 0, 0, 0}}
			return list
		}, "entry 5: entry of schema 9"},
		"begin": {func(list []*raft.Log) []*raft.Log { return list[1:] }, "begins at entry 2"},
		"end":   {func(list []*raft.Log) []*raft.Log { return list[:len(list)-1] }, "was stored"},
		"unknown term": {func(list []*raft.Log) []*raft.Log {
			list[len(list)-1].Term = 99
			return list
		}, "knows only of term"},
		"older term": {func(list []*raft.Log) []*raft.Log {
			list[5].Term = 1
			return list
		}, "entry 6 is of term 1, and the one before it of term 2"},
	} {
		t.Run(name, func(t *testing.T) {
			conf, _ := writtenDir(t, 10, false)
			rewrite(t, conf, c.change)
			words := []string{conf.logDir(), c.says}
			if name == "unknown term" {
				words[0] = conf.stableFile()
			}
			refused(t, conf, words...)
		})
	}
}

// A server that has lost its term and its vote could vote twice.
func TestDamagedTermIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		content func([]byte) []byte
		says    string
	}{
		"gone":    {nil, "knows only of term 0"},
		"empty":   {func([]byte) []byte { return nil }, "damaged"},
		"flipped": {func(b []byte) []byte { b[len(b)/2] ^= 1; return b }, "damaged"},
		"others":  {func([]byte) []byte { return []byte(`{"values":{},"crc32c":0}`) }, "knows only of term 0"},
	} {
		for _, snapshot := range []bool{false, true} {
			conf, _ := writtenDir(t, 10, snapshot)
			if c.content == nil {
				if err := os.Remove(conf.stableFile()); err != nil {
					t.Fatal(err)
				}
			} else {
				edit(t, conf.stableFile(), c.content)
			}
			t.Run(name, func(t *testing.T) { refused(t, conf, conf.stableFile(), c.says) })
		}
	}
}

// An earlier magnum kept its log otherwise.
func TestEarlierLogIsRefused(t *testing.T) {
	c := testConfig(t, t.TempDir())
	old := filepath.Join(c.dir(), "log.db")
	if err := errors.Join(os.MkdirAll(c.dir(), 0o700), os.WriteFile(old, []byte("bolt"), 0o600)); err != nil {
		t.Fatal(err)
	}
	refused(t, c, old, "operator snapshot save")
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
