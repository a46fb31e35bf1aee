package raftlog

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"github.com/stackforge/magnum/server/memberfile"
	"github.com/stackforge/magnum/structs"
)

// writtenDir returns the data directory of a server that was stopped after n entries,
// and the server. With snapshot it took a snapshot after the first half.
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

// refused opens the log and expects an error that contains all the words.
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

// editStore changes raft.db directly with bbolt.
func editStore(t testing.TB, c Config, change func(*bbolt.Tx) error) {
	t.Helper()
	db, err := bbolt.Open(c.storeFile(), 0o600, boltOptions())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(change), db.Close()); err != nil {
		t.Fatal(err)
	}
}

// rewrite replaces the entries of the log.
func rewrite(t testing.TB, c Config, change func([]*raft.Log) []*raft.Log) {
	t.Helper()
	l, err := openStore(c.storeFile(), nil)
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
	if err := errors.Join(l.Replace(change(entries)), l.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestLogShorterThanStoredIndexIsRefused(t *testing.T) {
	old, _ := writtenDir(t, 3, false)
	before, err := os.ReadFile(old.storeFile())
	if err != nil {
		t.Fatal(err)
	}
	m := start(t, testConfig(t, old.DataDir))
	for n := range 5 {
		m.put(10 + n)
	}
	m.stop()
	// The disk loses writes that it claimed to have synced.
	if err := os.WriteFile(old.storeFile(), before, 0o600); err != nil {
		t.Fatal(err)
	}
	refused(t, testConfig(t, old.DataDir), old.storeFile(), "was stored", old.storedFile())

	whole, err := os.ReadFile(old.storedFile())
	if err != nil {
		t.Fatal(err)
	}
	for at := range whole {
		for what, content := range map[string][]byte{
			"flipped": append(append(bytes.Clone(whole[:at]), whole[at]^1<<(at%8)), whole[at+1:]...),
			"cut":     whole[:at],
			"longer":  append(bytes.Clone(whole), whole[:at+1]...),
			"zeros":   make([]byte, storedSize),
		} {
			if len(content) == 0 {
				continue
			}
			edit(t, old.storedFile(), func([]byte) []byte { return content })
			t.Run(what, func(t *testing.T) { refused(t, testConfig(t, old.DataDir), old.storedFile(), "damaged") })
		}
	}

	// An operator can accept the loss.
	edit(t, old.storedFile(), func([]byte) []byte { return nil })
	l := mustOpen(t, testConfig(t, old.DataDir))
	if l.files.stored.reaches() != 0 {
		t.Errorf("an empty file was read as index %d", l.files.stored.reaches())
	}
	if info, err := os.Stat(old.storedFile()); err != nil || info.Size() != storedSize {
		t.Errorf("it does not get its size at once: %v, %v", info, err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

func TestStoredIndexIsKept(t *testing.T) {
	for _, snapshot := range []bool{false, true} {
		c, m := writtenDir(t, 6, snapshot)
		l := mustOpen(t, c)
		last, err := l.files.logs.LastIndex()
		if stored := l.files.stored.reaches(); err != nil || stored != last || stored < m.config.Store.Index() {
			t.Errorf("stored %d, last entry %d (%v), state of %d", stored, last, err, m.config.Store.Index())
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// Entries that the leader doesn't have are deleted, and stored is lowered.
func TestDeletedEntriesAreNotMissed(t *testing.T) {
	c, _ := writtenDir(t, 10, false)
	l := mustOpen(t, c)
	_, last, err := bounds(l.files.logs)
	if err := errors.Join(err, l.files.logs.DeleteRange(last-2, last), l.Close()); err != nil {
		t.Fatal(err)
	}
	l = mustOpen(t, testConfig(t, c.DataDir))
	if stored := l.files.stored.reaches(); stored != last-3 {
		t.Errorf("%d are stored, want %d", stored, last-3)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// All entries are in the snapshot. Without it nothing is left.
func TestLostSnapshotWithoutEntriesIsRefused(t *testing.T) {
	c, _ := writtenDir(t, 10, true)
	m := start(t, testConfig(t, c.DataDir))
	if err := m.Snapshot(); err != nil {
		t.Fatal(err)
	}
	first, last, err := bounds(m.files.logs)
	newest, listErr := m.files.snapshots.List()
	if err := errors.Join(err, listErr, m.files.logs.DeleteRange(first, last)); err != nil {
		t.Fatal(err)
	}
	if stored := m.files.stored.reaches(); stored != newest[0].Index {
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
	refused(t, testConfig(t, c.DataDir), c.storeFile(), c.snapshotsDir(), "was stored")
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
				if err := os.Remove(filepath.Join(filepath.Dir(path), metaSum)); err != nil { // earlier versions wrote none
					t.Fatal(err)
				}
			}
			refused(t, conf, filepath.Dir(path), c.says)
		})
	}
}

// Only the checksum reveals a flipped byte in a snapshot's metadata: it would be read
// as another membership.
func TestFlippedByteInSnapshotMetaIsRefused(t *testing.T) {
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

// A snapshot of an earlier version, or one after whose end the process was killed, gets
// its checksum when it is opened.
func TestMissingMetaChecksumIsAdded(t *testing.T) {
	c, m := writtenDir(t, 10, true)
	path := onlyFile(t, filepath.Join(c.snapshotsDir(), "*", metaSum))
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	again := start(t, c)
	sameState(t, again.config.Store, m.config.Store)
	again.stop()
	edit(t, filepath.Join(filepath.Dir(path), metaFile), func(b []byte) []byte {
		return bytes.Replace(b, []byte("Index"), []byte("Jndex"), 1)
	})
	refused(t, testConfig(t, c.DataDir), path[:len(path)-len(metaSum)], "damaged")
}

// A kill while an older snapshot is removed is no damage.
func TestHalfRemovedOlderSnapshotIsIgnored(t *testing.T) {
	c, m := writtenDir(t, 10, true)
	// The term may exceed 2 on a busy machine, which may need another election.
	term, _, _ := strings.Cut(filepath.Base(onlyFile(t, filepath.Join(c.snapshotsDir(), "*"))), "-")
	for _, name := range []string{"1-3-1", term + "-9-99999"} { // index 10 is newer, although not alphabetically
		if err := os.Mkdir(filepath.Join(c.snapshotsDir(), name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	again := start(t, c)
	sameState(t, again.config.Store, m.config.Store)
	again.stop()
	newer := filepath.Join(c.snapshotsDir(), term+"-100-1")
	if err := os.Mkdir(newer, 0o700); err != nil {
		t.Fatal(err)
	}
	refused(t, testConfig(t, c.DataDir), newer)
}

// An intact snapshot of a later schema is refused for its schema, not as damaged.
func TestSnapshotOfLaterSchemaIsRefused(t *testing.T) {
	c := testConfig(t, t.TempDir())
	m := start(t, c)
	cluster := &structs.Cluster{Meta: structs.Meta{ID: structs.ClusterRowID, Seq: 1}, Schema: structs.SchemaVersion + 1}
	raise := encode(t, m.Term(), m.config.Store.Index(), structs.Change{Table: structs.TableCluster, ID: cluster.ID, Row: cluster})
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

// An older snapshot must not be used instead of a damaged one, although the library
// would use it.
func TestOlderSnapshotDoesNotReplaceDamagedOne(t *testing.T) {
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
	newest, err := m.files.snapshots.List()
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
	refused(t, c, c.storeFile(), c.snapshotsDir(), "begins at entry")
}

// An unfinished snapshot is left by a crash; it is no damage.
func TestUnfinishedSnapshotIsIgnored(t *testing.T) {
	c, m := writtenDir(t, 10, true)
	if err := os.Mkdir(filepath.Join(c.snapshotsDir(), "2-99-1.tmp"), 0o700); err != nil {
		t.Fatal(err)
	}
	again := start(t, c)
	sameState(t, again.config.Store, m.config.Store)
}

func TestCutLogFileIsRefused(t *testing.T) {
	c, _ := writtenDir(t, 200, false)
	whole, err := os.ReadFile(c.storeFile())
	if err != nil {
		t.Fatal(err)
	}
	meta, err := readMeta(bytes.NewReader(whole), int64(len(whole)))
	if err != nil {
		t.Fatal(err)
	}
	used := int(meta.pages) * int(meta.pageSize)
	for _, size := range []int{0, 1, 19, 100, 4096, 8192, used / 3, used / 2, used - 4096, used - 1} {
		if err := os.WriteFile(c.storeFile(), whole[:size], 0o600); err != nil {
			t.Fatal(err)
		}
		refused(t, testConfig(t, c.DataDir), c.storeFile(), "damaged", "cut off after")
	}
	if err := os.Remove(c.storeFile()); err != nil {
		t.Fatal(err)
	}
	refused(t, testConfig(t, c.DataDir), c.storeFile(), "is gone")
	for _, instead := range []func() error{
		func() error { return os.Mkdir(c.storeFile(), 0o700) },
		func() error { return unix.Mkfifo(c.storeFile(), 0o600) }, // opening it would block for ever
	} {
		if err := instead(); err != nil {
			t.Fatal(err)
		}
		refused(t, testConfig(t, c.DataDir), c.storeFile(), "is not a file")
		if err := os.Remove(c.storeFile()); err != nil {
			t.Fatal(err)
		}
	}
	// Bytes after the pages in use have no meaning.
	if err := os.WriteFile(c.storeFile(), whole[:used], 0o600); err != nil {
		t.Fatal(err)
	}
	if err := mustOpen(t, testConfig(t, c.DataDir)).Close(); err != nil {
		t.Fatal(err)
	}
}

// TestKeysOutOfOrderAreFoundBeforeBboltReadsThem: bbolt panics at such a file while a
// goroutine of its own reads on, which faults once the file is closed.
func TestKeysOutOfOrderAreFoundBeforeBboltReadsThem(t *testing.T) {
	path := filepath.Join(t.TempDir(), "raft.db")
	if err := makeStore(path); err != nil {
		t.Fatal(err)
	}
	store, err := openStore(path, nil)
	if err == nil {
		err = errors.Join(store.StoreLogs(someEntries(1, 500, 1, 20)), store.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	meta, err := readMeta(bytes.NewReader(whole), int64(len(whole)))
	if err != nil {
		t.Fatal(err)
	}
	walk := func(b []byte) (*pageWalk, error) {
		w := &pageWalk{boltMeta: meta, data: b, seen: make([]uint64, meta.pages/64+1), progress: func(int64) {}}
		return w, w.page(meta.root, 0, nil, nil)
	}
	used, err := walk(whole)
	if err != nil {
		t.Fatalf("a whole file: %v", err)
	}
	leaves, unbounded := 0, 0
	for page := range meta.pages {
		b := bytes.Clone(whole)
		at := b[page*uint64(meta.pageSize):]
		flags, count := binary.NativeEndian.Uint16(at[8:]), int(binary.NativeEndian.Uint16(at[10:]))
		if used.seen[page/64]&(1<<(page%64)) == 0 || flags != leafFlag || count < 3 {
			continue // it holds no entries
		}
		leaves++
		first, _, _ := element(at, flags, 0)
		second, _, _ := element(at, flags, 1)
		last, _, _ := element(at, flags, count-1)
		was := bytes.Clone(second)
		copy(second, first)
		if _, err := walk(b); err == nil || !strings.Contains(err.Error(), "not in order") {
			t.Errorf("page %d has a key twice: %v", page, err)
		}
		copy(first, was)
		if _, err := walk(b); err == nil || !strings.Contains(err.Error(), "not in order") {
			t.Errorf("the first two keys of page %d are swapped: %v", page, err)
		}
		copy(first, second)
		copy(second, was)
		last[0] = 0xff
		if _, err := walk(b); err == nil {
			unbounded++
		}
	}
	if leaves < 3 || unbounded != 1 {
		t.Errorf("of %d pages of entries %d may end with a key that is above those of the next one", leaves, unbounded-1)
	}
}

// Any flipped bit of the log file is either noticed or has no meaning. It never ends
// the process, and nothing is lost.
func TestFlippedBitInLogFileLosesNothing(t *testing.T) {
	t.Parallel()
	c, _ := writtenDir(t, 40, false)
	l := mustOpen(t, c)
	want := entriesOf(t, l.files.logs)
	values := valuesOf(t, l.files.store)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(c.storeFile())
	if err != nil {
		t.Fatal(err)
	}
	meta, err := readMeta(bytes.NewReader(whole), int64(len(whole)))
	if err != nil {
		t.Fatal(err)
	}
	var places []int
	for page := range int(meta.pages) { // the headers of pages and elements, and some of the rest
		from := page * int(meta.pageSize)
		for at := 0; at < 80; at += 3 {
			places = append(places, from+at)
		}
		for at := 80; at < int(meta.pageSize); at += 211 {
			places = append(places, from+at)
		}
	}
	if testing.Short() || raceDetector {
		places = slices.DeleteFunc(places, func(int) bool { return rand.IntN(8) != 0 })
	}
	noticed := 0
	for n, at := range places {
		conf := byChild(testConfig(t, c.DataDir))                          // in this process, bbolt may fault in a goroutine of its own
		conf.HeartbeatTimeout, conf.LeaderLease = time.Minute, time.Minute // an election would write another term
		b := bytes.Clone(whole)
		b[at] ^= 1 << (n % 8)
		if err := os.WriteFile(c.storeFile(), b, 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := Open(conf)
		if err != nil {
			noticed++
			if !strings.Contains(err.Error(), c.storeFile()+" is damaged") &&
				!strings.Contains(err.Error(), c.storeFile()+" ends with entry") {
				t.Errorf("byte %d: %q does not name the file", at, err)
			}
			continue
		}
		if got := entriesOf(t, l.files.logs); !slices.Equal(got, want) {
			t.Errorf("byte %d: not noticed, and entries differ", at)
		}
		if got := valuesOf(t, l.files.store); got != values {
			t.Errorf("byte %d: not noticed, and term and vote are %v, not %v", at, got, values)
		}
		if err := l.Close(); err != nil {
			t.Errorf("byte %d: %v", at, err)
		}
	}
	t.Logf("%d of %d flips were noticed", noticed, len(places))
	if noticed < len(places)/8 {
		t.Errorf("only %d of %d flips were noticed", noticed, len(places))
	}
}

// stableValues are the values of the stable store.
type stableValues struct {
	term, voteTerm uint64
	candidate      string
}

// valuesOf returns the values of the stable store.
func valuesOf(t testing.TB, s *boltStore) (v stableValues) {
	t.Helper()
	term, err := s.GetUint64([]byte(keyCurrentTerm))
	voteTerm, err2 := s.GetUint64([]byte(keyLastVoteTerm))
	candidate, err3 := s.Get([]byte(keyLastVoteCand))
	if err := errors.Join(err, err2, err3); err != nil {
		t.Errorf("reading term and vote: %v", err)
	}
	return stableValues{term, voteTerm, string(candidate)}
}

// A flipped bit in any value or entry is noticed: they have seals, and bbolt's meta
// pages have checksums.
func TestFlippedBitInValueIsRefused(t *testing.T) {
	t.Parallel()
	c, _ := writtenDir(t, 10, false)
	type place struct{ bucket, key, value []byte }
	var places []place
	editStore(t, c, func(tx *bbolt.Tx) error {
		for _, bucket := range [][]byte{logsBucket, confBucket} {
			err := tx.Bucket(bucket).ForEach(func(k, v []byte) error {
				places = append(places, place{bucket, bytes.Clone(k), bytes.Clone(v)})
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	for _, p := range places {
		for at := range p.value {
			flipped := bytes.Clone(p.value)
			flipped[at] ^= 1 << (at % 8)
			editStore(t, c, func(tx *bbolt.Tx) error { return tx.Bucket(p.bucket).Put(p.key, flipped) })
			if _, err := CheckLog(t.Context(), LogCheck{Path: c.storeFile()}, nil); err == nil {
				// The name of an empty field may be anything.
				var was, is raft.Log
				if bytes.Equal(p.bucket, confBucket) || decodeLog(p.value, &was) != nil || decodeLog(flipped, &is) != nil ||
					!reflect.DeepEqual(was, is) {
					t.Errorf("%s %x: byte %d of %d is not noticed", p.bucket, p.key, at, len(p.value))
				}
			}
		}
		editStore(t, c, func(tx *bbolt.Tx) error { return tx.Bucket(p.bucket).Put(p.key, p.value) })
	}
}

// An old or invalid meta page is refused, although bbolt would use the other one's
// state.
func TestStaleOrDamagedMetaPageIsRefused(t *testing.T) {
	c, _ := writtenDir(t, 3, false)
	page := os.Getpagesize()
	before, err := os.ReadFile(c.storeFile())
	if err != nil {
		t.Fatal(err)
	}
	m := start(t, testConfig(t, c.DataDir))
	m.put(4)
	m.put(5)
	m.stop()
	whole, err := os.ReadFile(c.storeFile())
	if err != nil {
		t.Fatal(err)
	}
	for n := range 2 {
		at := n * page
		for what, content := range map[string][]byte{"of transactions": before[at : at+page],
			"does not have its checksum": make([]byte, page)} {
			b := bytes.Clone(whole)
			copy(b[at:], content)
			if err := os.WriteFile(c.storeFile(), b, 0o600); err != nil {
				t.Fatal(err)
			}
			refused(t, testConfig(t, c.DataDir), c.storeFile(), "damaged", what)
		}
	}
}

// The seals of the other values reveal the loss of a whole value.
func TestLostVoteValueIsRefused(t *testing.T) {
	for _, key := range []string{keyCurrentTerm, keyLastVoteTerm, keyLastVoteCand} {
		c, _ := writtenDir(t, 2, false)
		editStore(t, c, func(tx *bbolt.Tx) error { return tx.Bucket(confBucket).Delete([]byte(key)) })
		refused(t, c, c.storeFile(), "damaged", "1 of the 3 values")
	}
}

// entriesOf returns the relevant fields of each entry.
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

// Entries can have the right checksum and still be wrong.
func TestWrongEntryIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func([]*raft.Log) []*raft.Log
		says   string
	}{
		"other version": {func(list []*raft.Log) []*raft.Log {
			list[4] = &raft.Log{Index: 5, Term: list[4].Term, Type: raft.LogCommand, Data: []byte{0, 9, 0, 0, 0, 0}}
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
		}, "entry 6 is of term 1, and the one before it of term "},
	} {
		t.Run(name, func(t *testing.T) {
			conf, _ := writtenDir(t, 10, false)
			rewrite(t, conf, c.change)
			refused(t, conf, conf.storeFile(), c.says)
		})
	}
}

// A server that has lost its term and its vote could vote twice.
func TestLostTermIsRefused(t *testing.T) {
	for name, record := range map[string]bool{"with the record": true, "without": false} {
		for _, snapshot := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				conf, _ := writtenDir(t, 10, snapshot)
				editStore(t, conf, func(tx *bbolt.Tx) error {
					if err := tx.DeleteBucket(confBucket); err != nil {
						return err
					}
					_, err := tx.CreateBucket(confBucket)
					return err
				})
				if !record {
					if err := os.Remove(memberfile.Path(conf.DataDir)); err != nil {
						t.Fatal(err)
					}
				}
				refused(t, conf, conf.storeFile(), "knows only of term 0")
			})
		}
	}
	conf, _ := writtenDir(t, 2, false)
	editStore(t, conf, func(tx *bbolt.Tx) error { return tx.DeleteBucket(confBucket) })
	refused(t, conf, conf.storeFile(), "damaged")
}

// Logs in the formats of earlier versions are refused.
func TestEarlierLogIsRefused(t *testing.T) {
	for _, name := range []string{"log.db", "stable.json", "log/00000000000000000001.log"} {
		c := testConfig(t, t.TempDir())
		old := filepath.Join(c.dir(), name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(old), 0o700), os.WriteFile(old, []byte("MAGNUML1"), 0o600)); err != nil {
			t.Fatal(err)
		}
		refused(t, c, filepath.Join(c.dir(), strings.Split(name, "/")[0]), "operator snapshot save", "operator snapshot restore")
		if _, err := os.Stat(c.storeFile()); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: beside the earlier log one of this version is made: %v", name, err)
		}
	}
}

// A server that was stopped between a snapshot and its next entry starts from the
// snapshot.
func TestStartFromSnapshotWithoutEntries(t *testing.T) {
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
	sameState(t, l.config.Store, m.config.Store) // although there is no leader yet
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.ReadIndex(context.Background()); err == nil {
		t.Error("a closed log serves reads")
	}
}
