package raftlog

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

const patience = time.Minute

// member is a Log whose Run is running.
type member struct {
	*Log
	t    testing.TB
	stop func() // ends Run and waits for it
}

func testConfig(t testing.TB, dir string) Config {
	logger := hclog.NewNullLogger()
	if testing.Verbose() {
		logger = hclog.New(&hclog.LoggerOptions{Level: hclog.Warn})
	}
	return Config{
		DataDir: dir, ServerID: "11111111-1111-4111-8111-111111111111", Store: state.New(), Logger: logger,
		HeartbeatTimeout: 50 * time.Millisecond, LeaderLease: 50 * time.Millisecond,
	}
}

func mustOpen(t testing.TB, c Config) *Log {
	t.Helper()
	l, err := Open(c)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return l
}

// idle is a lead that does nothing until the leadership ends.
func idle(ctx context.Context, _ uint64) error { <-ctx.Done(); return nil }

// start opens and runs a member, which bootstraps if it is new.
func start(t testing.TB, c Config) *member {
	t.Helper()
	l := mustOpen(t, c)
	if !l.HasState() {
		if err := l.Bootstrap(); err != nil {
			t.Fatalf("bootstrap: %v", err)
		}
	}
	m := run(t, l, idle)
	m.waitLeader()
	return m
}

func run(t testing.TB, l *Log, lead func(context.Context, uint64) error) *member {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx, lead) }()
	var once sync.Once
	m := &member{Log: l, t: t, stop: func() {
		once.Do(func() {
			cancel()
			select {
			case err := <-done:
				if err != nil {
					t.Errorf("run: %v", err)
				}
			case <-time.After(patience):
				t.Error("run did not end")
			}
		})
	}}
	t.Cleanup(m.stop)
	return m
}

func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !f(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never happened: %s", what)
		}
	}
}

// inTime receives from the channel, with a limit: a test of something broken fails with
// a message and doesn't hang until all tests are ended.
func inTime[T any](t testing.TB, what string, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(patience):
		t.Fatalf("never happened: %s", what)
	}
	return v
}

// waitLeader waits until the member leads and has passed a Barrier.
func (m *member) waitLeader() {
	m.t.Helper()
	eventually(m.t, "the server leads", func() bool { return m.IsLeader() && m.Barrier(context.Background()) == nil })
}

func nodeChange(n int) structs.Change {
	id := fmt.Sprintf("00000000-0000-4000-8000-%012d", n)
	return structs.Change{Table: structs.TableNodes, ID: id,
		Row: &structs.Node{Meta: structs.Meta{ID: id, Seq: uint64(n)}, Name: fmt.Sprint("node-", n)}}
}

func encode(t testing.TB, term, prev uint64, changes ...structs.Change) []byte {
	t.Helper()
	b, err := state.EncodeEntry(&structs.Entry{Schema: structs.SchemaVersion, Term: term, Prev: prev, Changes: changes})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// put proposes a row, decided on the current state.
func (m *member) put(n int) uint64 {
	m.t.Helper()
	index, err := m.Propose(context.Background(), encode(m.t, m.Term(), m.config.Store.Index(), nodeChange(n)))
	if err != nil {
		m.t.Fatalf("propose: %v", err)
	}
	return index
}

func sameState(t testing.TB, got, want *state.Store) {
	t.Helper()
	g, w := got.Snapshot(), want.Snapshot()
	if g.Index() != w.Index() || g.Hash() != w.Hash() {
		t.Errorf("state is %d/%016x, want %d/%016x", g.Index(), g.Hash(), w.Index(), w.Hash())
	}
}

func TestRestartKeepsState(t *testing.T) {
	dir := t.TempDir()
	a := start(t, testConfig(t, dir))
	for n := range 20 {
		a.put(n + 1)
	}
	a.stop()
	b := start(t, testConfig(t, dir))
	if !b.HasState() {
		t.Error("a server with a log says it has no state")
	}
	sameState(t, b.config.Store, a.config.Store)
	b.put(21)
}

// A copy of a running server's files is what kill -9 leaves.
func TestKillKeepsState(t *testing.T) {
	dir := t.TempDir()
	a := start(t, testConfig(t, dir))
	for n := range 20 {
		a.put(n + 1)
	}
	left := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(left, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	b := start(t, testConfig(t, left))
	sameState(t, b.config.Store, a.config.Store)
}

func TestSnapshotAndReplayAgree(t *testing.T) {
	dir := t.TempDir()
	c := testConfig(t, dir)
	c.TrailingLogs = 1
	a := start(t, c)
	for n := range 20 {
		a.put(n + 1)
	}
	replayed, at20 := filepath.Join(t.TempDir(), "replayed"), a.config.Store.Snapshot()
	if err := os.CopyFS(replayed, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := a.Snapshot(); err != nil {
		t.Fatalf("snapshot: %v", err)
	}
	if first, err := a.files.logs.FirstIndex(); err != nil || first < 15 {
		t.Errorf("the log still begins at %d (%v)", first, err)
	}
	if err := a.Snapshot(); err != nil {
		t.Errorf("a snapshot with nothing new: %v", err)
	}
	a.put(21)
	a.stop()
	b := start(t, testConfig(t, dir))
	sameState(t, b.config.Store, a.config.Store)

	r := start(t, testConfig(t, replayed))
	if snap := r.config.Store.Snapshot(); snap.Index() != at20.Index() || snap.Hash() != at20.Hash() {
		t.Errorf("the replay ends at %d/%016x, the snapshot was taken at %d/%016x", snap.Index(), snap.Hash(), at20.Index(), at20.Hash())
	}
}

func TestStaleEntryIsRejected(t *testing.T) {
	m := start(t, testConfig(t, t.TempDir()))
	ctx := context.Background()
	m.put(1)
	before := m.config.Store.Snapshot()
	for name, data := range map[string][]byte{
		"term": encode(t, m.Term()-1, before.Index(), nodeChange(2)),
		"prev": encode(t, m.Term(), before.Index()-1, nodeChange(2)),
	} {
		if _, err := m.Propose(ctx, data); !errors.Is(err, ErrStale) {
			t.Errorf("%s: %v, want ErrStale", name, err)
		}
	}
	if _, err := m.Propose(ctx, encode(t, m.Term(), before.Index(), nodeChange(1))); structs.CodeOf(err) != structs.CodeConflict {
		t.Errorf("an existing row was created again: %v", err)
	}
	if after := m.config.Store.Snapshot(); after != before {
		t.Errorf("a rejected entry moved the state from %d to %d", before.Index(), after.Index())
	}
	m.put(2) // the server continues
}

func TestFSMPanicsAtUndecodableEntry(t *testing.T) {
	f := &fsm{store: state.New(), announcer: newAnnouncer()}
	defer func() {
		if p := recover(); p == nil || !strings.Contains(fmt.Sprint(p), "entry 7") {
			t.Errorf("panicked with %v", p)
		}
	}()
	f.Apply(&raft.Log{Index: 7, Term: 1, Data: []byte("poison")})
}

func TestLeadIsCalledAgainWhileLeadershipLasts(t *testing.T) {
	l := mustOpen(t, testConfig(t, t.TempDir()))
	if err := l.Bootstrap(); err != nil {
		t.Fatal(err)
	}
	calls := make(chan uint64, 3)
	run(t, l, func(ctx context.Context, term uint64) error {
		if l.reads.barrier.Load() != term {
			t.Errorf("lead began without a Barrier in term %d", term)
		}
		calls <- term
		if len(calls) < cap(calls) {
			return errors.New("failed")
		}
		return idle(ctx, term)
	})
	eventually(t, "lead was called three times", func() bool { return len(calls) == cap(calls) })
	if a, b, c := <-calls, <-calls, <-calls; a == 0 || a != b || b != c {
		t.Errorf("terms %d %d %d", a, b, c)
	}
}

func TestClosedLogRefuses(t *testing.T) {
	m := start(t, testConfig(t, t.TempDir()))
	m.stop()
	ctx := context.Background()
	if _, err := m.Propose(ctx, encode(t, 1, 1)); structs.CodeOf(err) != structs.CodeNoLeader {
		t.Errorf("propose: %v", err)
	}
	if _, err := m.ReadIndex(ctx); structs.CodeOf(err) != structs.CodeNoLeader {
		t.Errorf("read index: %v", err)
	}
	if err := m.Barrier(ctx); structs.CodeOf(err) != structs.CodeNoLeader {
		t.Errorf("barrier: %v", err)
	}
	if err := m.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
}

func TestOpenRefusesConfig(t *testing.T) {
	used := state.New()
	if err := used.Apply(1, nil); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Config){
		"data directory": func(c *Config) { c.DataDir = "" },
		"server ID":      func(c *Config) { c.ServerID = "" },
		"no store":       func(c *Config) { c.Store = nil },
		"not empty":      func(c *Config) { c.Store = used },
		"Timeout":        func(c *Config) { c.HeartbeatTimeout = time.Millisecond },
		"listen":         func(c *Config) { c.BindAddr = "127.0.0.1:notaport" },
		"advertise":      func(c *Config) { c.BindAddr, c.Advertise = "127.0.0.1:0", "nowhere:notaport" },
	} {
		c := testConfig(t, t.TempDir())
		change(&c)
		if l, err := Open(c); err == nil || !strings.Contains(err.Error(), name) {
			if l != nil {
				l.Close()
			}
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSecondOpenOfOneDirIsRefused(t *testing.T) {
	dir := t.TempDir()
	start(t, testConfig(t, dir))
	if _, err := Open(testConfig(t, dir)); err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("opened a log that is in use: %v", err)
	}
}

// If the disk has no space for a term or a vote, reserved space is freed, and the write
// is retried until it succeeds. The log ends only when it is closed.
func TestTermOnFullDiskIsRetried(t *testing.T) {
	var full, kept atomic.Bool
	c := testConfig(t, t.TempDir())
	c.Fault = func(op string) error {
		if op == FaultState && full.Load() {
			return syscall.ENOSPC
		}
		return nil
	}
	c.MakeRoom = func() bool {
		if !kept.Swap(false) {
			return false
		}
		full.Store(false)
		return true
	}
	m := start(t, c)
	m.put(1)
	write := func() chan error {
		done := make(chan error, 1)
		go func() { done <- diskState{m.files.store, m.files}.Set([]byte(keyLastVoteCand), []byte("somebody")) }()
		return done
	}
	kept.Store(true)
	full.Store(true)
	if err := <-write(); err != nil || kept.Load() {
		t.Errorf("%v; the room that was kept is still there: %v", err, kept.Load())
	}
	full.Store(true) // and no space is reserved any more
	waiting := write()
	select {
	case err := <-waiting:
		t.Fatalf("written on a full disk: %v", err)
	case <-time.After(10 * minWriteRetry):
	}
	full.Store(false)
	if err := <-waiting; err != nil {
		t.Error(err)
	}
	m.put(2)
}
