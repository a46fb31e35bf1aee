package raftlog

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/stackforge/magnum/server/state"
)

// removalStore calls a function before all entries are deleted, as they are after a
// snapshot was restored or installed. The function's error fails the deletion.
type removalStore struct {
	*boltStore

	mu     sync.Mutex
	before func() error // nil does nothing
}

func (s *removalStore) on(f func() error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = f
}

func (s *removalStore) DeleteRange(min, max uint64) error {
	s.mu.Lock()
	f := s.before
	s.mu.Unlock()
	if first, last, err := bounds(s); err == nil && f != nil && min <= first && max >= last {
		if err := f(); err != nil {
			return err
		}
	}
	return s.boltStore.DeleteRange(min, max)
}

// withRemovals makes a log use a removalStore.
func withRemovals(c Config) (Config, *removalStore) {
	s := new(removalStore)
	c.WrapLogStore = func(l raft.LogStore) raft.LogStore { s.boltStore = l.(*boltStore); return s }
	return c, s
}

// killed fails a store's next removal. It returns the directory to which the files at
// that moment are copied, as a kill would leave them.
func (s *removalStore) killed(t testing.TB, dir string) (left string) {
	left = filepath.Join(t.TempDir(), "killed")
	s.on(func() error {
		s.on(nil)
		if err := os.CopyFS(left, os.DirFS(dir)); err != nil {
			return err
		}
		return errDisk
	})
	return left
}

// With a monotonic store the library deletes the entries before a snapshot.
func TestLogIsMonotonic(t *testing.T) {
	for _, wrap := range []func(raft.LogStore) raft.LogStore{nil,
		func(s raft.LogStore) raft.LogStore { return &brokenStore{LogStore: s} }} {
		c := testConfig(t, t.TempDir())
		c.WrapLogStore = wrap
		l := mustOpen(t, c)
		if m, ok := l.files.logs.(raft.MonotonicLogStore); !ok || !m.IsMonotonic() {
			t.Error("the library would leave gaps")
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestKillBetweenRestoreAndRemoval: the leader has the snapshot and still the entries
// before it. It is the same if their removal fails and the server continues.
func TestKillBetweenRestoreAndRemoval(t *testing.T) {
	c, store := withRemovals(testConfig(t, t.TempDir()))
	m := start(t, c)
	for n := range 10 {
		m.put(n + 1)
	}
	left := store.killed(t, c.DataDir)
	if err := m.restore(3); err != nil {
		t.Fatal(err)
	}
	restored := m.config.Store.Snapshot()
	if facts, err := CheckLog(t.Context(), LogCheck{Path: filepath.Join(left, "raft", "raft.db")}, nil); err != nil ||
		facts.Last >= restored.Index() {
		t.Fatalf("the log that was left: %+v, %v", facts, err)
	}
	b := start(t, testConfig(t, left))
	if got := b.config.Store.Snapshot(); got.Index() != restored.Index() || got.Hash() != restored.Hash() {
		t.Errorf("after a kill the state is %d/%016x, want %d/%016x", got.Index(), got.Hash(), restored.Index(), restored.Hash())
	}
	b.put(50)
	for _, m := range []*member{b, m} {
		m.put(51)
		first, err := m.files.logs.FirstIndex()
		if err != nil || first <= restored.Index() {
			t.Errorf("the log begins at %d (%v), the restored state is of %d", first, err, restored.Index())
		}
		m.stop()
		again := start(t, testConfig(t, m.config.DataDir))
		sameState(t, again.config.Store, m.config.Store)
	}
}

// TestKillBetweenInstallAndRemoval is the same on a follower.
func TestKillBetweenInstallAndRemoval(t *testing.T) {
	var stores []*removalStore
	c := startThreeServersWith(t, func(conf *Config) {
		conf.HeartbeatTimeout, conf.LeaderLease = time.Second, time.Second // put needs one leader throughout
		conf.TrailingLogs = 1
		var s *removalStore
		*conf, s = withRemovals(*conf)
		stores = append(stores, s)
	})
	at := c.leader(0, 1, 2)
	leader, lags := c.members[at], (at+1)%3
	for n := range 5 {
		leader.put(n)
	}
	c.awaitSameState(leader)
	c.connect(false, lags)
	for n := range 20 {
		leader.put(10 + n)
	}
	if err := leader.Snapshot(); err != nil {
		t.Fatal(err)
	}
	left := stores[lags].killed(t, c.members[lags].config.DataDir)
	c.connect(true, lags)
	leader = c.members[c.leader(0, 1, 2)]
	leader.put(50)
	c.awaitSameState(leader)
	for _, m := range []*removalStore{stores[lags]} {
		if first, err := m.FirstIndex(); err != nil || first < 20 {
			t.Errorf("the log begins at %d (%v)", first, err)
		}
	}
	c.members[lags].stop()
	conf := c.members[lags].config
	conf.DataDir, conf.Moved, conf.Store, conf.WrapLogStore = left, true, state.New(), nil
	c.members[lags] = run(t, mustOpen(t, conf), idle)
	c.connect(true, 0, 1, 2)
	leader = c.members[c.leader(0, 1, 2)]
	leader.put(51)
	c.awaitSameState(leader)
	c.members[lags].stop()
	conf.Store = state.New()
	if err := mustOpen(t, conf).Close(); err != nil {
		t.Error(err)
	}
}

// Entries of another leader that reach an installed snapshot's index, or beyond, belong
// to another history.
func TestEntriesOfOtherHistoryAreDeleted(t *testing.T) {
	c, m := writtenDir(t, 10, true)
	meta := newestMeta(t, c)
	rewrite(t, c, func([]*raft.Log) (list []*raft.Log) {
		for index := meta.Index - 3; index <= meta.Index+9; index++ {
			list = append(list, &raft.Log{Index: index, Term: meta.Term - 1, Type: raft.LogNoop})
		}
		return list
	})
	b := start(t, c)
	if b.config.Store.Snapshot().Node(nodeChange(5).ID) == nil || b.config.Store.Index() > m.config.Store.Index() {
		t.Errorf("the state is of %d", b.config.Store.Index())
	}
	b.put(60)
	if first, err := b.files.logs.FirstIndex(); err != nil || first != meta.Index+1 {
		t.Errorf("the log begins at %d (%v), the snapshot is of %d", first, err, meta.Index)
	}
	b.stop()
	start(t, testConfig(t, c.DataDir)).put(61)
}

func newestMeta(t testing.TB, c Config) raft.SnapshotMeta {
	t.Helper()
	files, err := raft.NewFileSnapshotStore(c.dir(), retainSnapshots, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	list, err := files.List()
	if err != nil || len(list) == 0 {
		t.Fatal(list, err)
	}
	return *list[0]
}

// Entries are stored without a gap, and without earlier entries behind them.
func TestStoreLeavesNoGapOrLaterEntries(t *testing.T) {
	l := mustOpen(t, testConfig(t, t.TempDir()))
	defer l.Close()
	disk := &diskLogs{LogStore: l.files.store, files: l.files}
	store := func(list []*raft.Log) {
		t.Helper()
		if err := disk.StoreLogs(list); err != nil {
			t.Fatal(err)
		}
	}
	for _, list := range [][]*raft.Log{{{Index: 1}, {Index: 3}}, {{Index: 2}, {Index: 1}}, {{Index: 0}}, {{Index: 7}}} {
		if err := disk.StoreLogs(list); err == nil {
			t.Errorf("entries %d... were taken", list[0].Index)
		}
	}
	has(t, l.files.store, nil)
	store(someEntries(1, 10, 1, 20))
	if err := disk.StoreLogs(someEntries(12, 1, 1, 20)); err == nil || !strings.Contains(err.Error(), "entry 12 can't follow on entry 10") {
		t.Errorf("a gap that no snapshot fills: %v", err)
	}
	has(t, l.files.store, someEntries(1, 10, 1, 20))
	// Replaced entries don't come back.
	other := someEntries(6, 2, 2, 30)
	store(other)
	has(t, l.files.store, append(someEntries(1, 10, 1, 20)[:5], other...))
	if stored := l.files.stored.reaches(); stored != 7 {
		t.Errorf("%d are stored", stored)
	}
	store(someEntries(1, 3, 3, 20))
	has(t, l.files.store, someEntries(1, 3, 3, 20))
	// A snapshot with a higher index fills a gap.
	sink, err := l.files.snapshots.Create(1, 20, 3, raft.Configuration{Servers: []raft.Server{{ID: "a", Address: "a"}}}, 1, l.transport)
	if err := errors.Join(err, sink.Close()); err != nil {
		t.Fatal(err)
	}
	store(someEntries(21, 4, 3, 20))
	has(t, l.files.store, someEntries(21, 4, 3, 20))
	if err := disk.StoreLogs(nil); err != nil {
		t.Error(err)
	}
	// A snapshot of the log's last entry replaces the log, if the log's removal has
	// failed.
	wrapped := &removalStore{boltStore: l.files.store}
	disk.LogStore = wrapped
	wrapped.on(func() error { wrapped.on(nil); return errDisk })
	if err := disk.DeleteRange(21, 24); err == nil {
		t.Error("the removal has not failed")
	}
	store(someEntries(21, 1, 4, 20))
	has(t, l.files.store, someEntries(21, 1, 4, 20))
}
