package raftlog

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/stackforge/magnum/server/raftlog/transport"
	"github.com/stackforge/magnum/structs"
)

// brokenStore is a log store whose writes can be made to fail or wait.
type brokenStore struct {
	raft.LogStore
	fails atomic.Bool
	waits atomic.Pointer[chan struct{}] // writes wait until it is closed
}

var errDisk = errors.New("disk is broken")

func (s *brokenStore) StoreLogs(logs []*raft.Log) error {
	if gate := s.waits.Load(); gate != nil {
		<-*gate
	}
	if s.fails.Load() {
		return errDisk
	}
	return s.LogStore.StoreLogs(logs)
}

func (s *brokenStore) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

func startBroken(t *testing.T, lead func(context.Context, uint64) error) (*member, *brokenStore) {
	disk := new(brokenStore)
	c := testConfig(t, t.TempDir())
	c.WrapLogStore = func(s raft.LogStore) raft.LogStore { disk.LogStore = s; return disk }
	l := mustOpen(t, c)
	if err := l.Bootstrap(); err != nil {
		t.Fatal(err)
	}
	return run(t, l, lead), disk
}

func TestFailedWriteEndsLeadership(t *testing.T) {
	began, ended := make(chan uint64, 100), make(chan uint64, 100)
	m, disk := startBroken(t, func(ctx context.Context, term uint64) error {
		began <- term
		<-ctx.Done()
		ended <- term
		return nil
	})
	first := <-began
	m.put(1)
	before := m.config.Store.Snapshot()
	disk.fails.Store(true)
	_, err := m.Propose(context.Background(), encode(t, m.Term(), before.Index(), nodeChange(2)))
	if structs.CodeOf(err) != structs.CodeNoLeader {
		t.Errorf("propose on a broken disk: %v", err)
	}
	if term := <-ended; term != first {
		t.Errorf("term %d ended, want %d", term, first)
	}
	if m.config.Store.Snapshot() != before {
		t.Error("an entry that is not on disk was applied")
	}
	disk.fails.Store(false)
	second := <-began
	if second <= first {
		t.Errorf("term %d began after term %d", second, first)
	}
	// An entry decided in the first term is rejected now.
	if _, err := m.Propose(context.Background(), encode(t, first, m.config.Store.Index(), nodeChange(2))); !errors.Is(err, ErrStale) {
		t.Errorf("an entry of an earlier term: %v", err)
	}
	m.put(2)
}

func TestProposeWaitsForSlowDisk(t *testing.T) {
	m, disk := startBroken(t, idle)
	m.waitLeader()
	gate := make(chan struct{})
	disk.waits.Store(&gate)
	done := make(chan error, 1)
	data := encode(t, m.Term(), m.config.Store.Index(), nodeChange(1))
	go func() {
		_, err := m.Propose(context.Background(), data)
		done <- err
	}()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err := m.Propose(ctx, encode(t, 0, 0)); structs.CodeOf(err) != structs.CodeNoLeader || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a proposal whose context ended: %v", err)
	}
	select {
	case err := <-done:
		t.Errorf("answered (%v) before the entry was on disk", err)
	default:
	}
	if m.config.Store.Snapshot().Node(nodeChange(1).ID) != nil {
		t.Error("applied before it was on disk")
	}
	disk.waits.Store(nil)
	close(gate)
	if err := <-done; err != nil {
		t.Errorf("the proposal failed: %v", err)
	}
}

func TestReadIndexSeesAcknowledgedWrites(t *testing.T) {
	m := start(t, testConfig(t, t.TempDir()))
	ctx, cancel := context.WithTimeout(context.Background(), patience) // otherwise a read that is never confirmed hangs
	defer cancel()
	var wg sync.WaitGroup
	for n := range 20 {
		index := m.put(n + 1)
		for range 8 {
			wg.Go(func() {
				read, err := m.ReadIndex(ctx)
				if err != nil || read < index {
					t.Errorf("read index %d after %d was acknowledged: %v", read, index, err)
				}
			})
		}
		wg.Wait()
	}
	if err := m.VerifyLeader(ctx); err != nil {
		t.Error(err)
	}
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := m.ReadIndex(canceled); err != nil && structs.CodeOf(err) != structs.CodeNoLeader {
		t.Errorf("with an ended context: %v", err)
	}
}

// Callers that arrive during a round wait for the next one and share it.
func TestReadersShareTheNextRound(t *testing.T) {
	m, disk := startBroken(t, idle)
	m.waitLeader()
	gate := make(chan struct{})
	disk.waits.Store(&gate)
	m.reads.barrier.Store(0) // so the round needs a Barrier, which waits for the disk
	first, err := m.reads.join()
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the first round began", func() bool {
		m.reads.rounds.mu.Lock()
		defer m.reads.rounds.mu.Unlock()
		return m.reads.rounds.next == nil
	})
	second, err := m.reads.join()
	if err != nil {
		t.Fatal(err)
	}
	third, err := m.reads.join()
	if err != nil {
		t.Fatal(err)
	}
	if second == first || third != second {
		t.Errorf("a reader joined a round that had begun (%v), or did not share the next (%v)", second == first, third != second)
	}
	disk.waits.Store(nil)
	close(gate)
	for _, r := range []*round{first, second} {
		<-r.done
		if r.err != nil || r.index != m.config.Store.Index() {
			t.Errorf("%d, %v", r.index, r.err)
		}
	}
	eventually(t, "the rounds end", func() bool {
		m.reads.rounds.mu.Lock()
		defer m.reads.rounds.mu.Unlock()
		return !m.reads.rounds.running
	})
}

// threeServers is three servers on in-memory transports.
type threeServers struct {
	t          *testing.T
	transports []*raft.InmemTransport
	members    []*member
}

func startThreeServers(t *testing.T) *threeServers {
	return startThreeServersOver(t, func(in *raft.InmemTransport) raft.Transport { return in })
}

// startSteadyServers is startThreeServers for tests whose leader must not change on a
// busy machine.
func startSteadyServers(t *testing.T) *threeServers {
	return startThreeServersWith(t, func(conf *Config) {
		conf.HeartbeatTimeout, conf.LeaderLease = time.Second, time.Second
	})
}

// startThreeServersOver is startThreeServers with something around the transports.
func startThreeServersOver(t *testing.T, around func(*raft.InmemTransport) raft.Transport) *threeServers {
	return startThreeServersWith(t, func(conf *Config) { conf.Transport = around(conf.Transport.(*raft.InmemTransport)) })
}

// startThreeServersWith is startThreeServers with other configurations.
func startThreeServersWith(t *testing.T, change func(*Config)) *threeServers {
	c := &threeServers{t: t}
	var voters []Peer
	for n := range 3 {
		id := fmt.Sprintf("server-%d", n)
		_, transport := raft.NewInmemTransport(raft.ServerAddress(id))
		c.transports = append(c.transports, transport)
		voters = append(voters, Peer{ID: id, Addr: id})
	}
	for n, v := range voters {
		conf := testConfig(t, t.TempDir())
		conf.ServerID, conf.Transport = v.ID, c.transports[n]
		conf.HeartbeatTimeout, conf.LeaderLease = 150*time.Millisecond, 150*time.Millisecond
		change(&conf)
		l := mustOpen(t, conf)
		if err := l.Bootstrap(voters...); err != nil {
			t.Fatal(err)
		}
		c.members = append(c.members, run(t, l, idle))
	}
	c.connect(true, 0, 1, 2)
	return c
}

// connect connects the members with each other, or isolates them.
func (c *threeServers) connect(on bool, members ...int) {
	for _, n := range members {
		for m := range c.transports {
			switch {
			case n == m:
			case on:
				c.transports[n].Connect(c.target(m), c.transports[m])
				c.transports[m].Connect(c.target(n), c.transports[n])
			default:
				c.transports[n].Disconnect(c.target(m))
				c.transports[m].Disconnect(c.target(n))
			}
		}
	}
}

// target is the target of calls to a member. Only the server registered under it
// receives them, so a server with another ID at the same address receives none.
func (c *threeServers) target(n int) raft.ServerAddress {
	return transport.TargetOf(raft.ServerID(c.members[n].config.ServerID), c.transports[n].LocalAddr())
}

// leader waits for the member, among those given, that answers as the leader.
func (c *threeServers) leader(among ...int) int {
	c.t.Helper()
	found := -1
	eventually(c.t, "there is a leader", func() bool {
		for _, n := range among {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			_, err := c.members[n].ReadIndex(ctx)
			cancel()
			if err == nil {
				found = n
				return true
			}
		}
		return false
	})
	return found
}

func TestThreeServersSurviveLossOfLeader(t *testing.T) {
	c := startThreeServers(t)
	first := c.leader(0, 1, 2)
	for n := range 10 {
		c.members[first].put(n + 1)
	}
	others := []int{(first + 1) % 3, (first + 2) % 3}
	deposed := c.members[first]
	stale := encode(t, deposed.Term(), deposed.config.Store.Index(), nodeChange(99))

	c.connect(false, first)
	second := c.leader(others...)
	c.members[second].put(11)
	if _, err := deposed.ReadIndex(context.Background()); structs.CodeOf(err) != structs.CodeNoLeader {
		t.Errorf("a deposed leader serves a consistent read: %v", err)
	}
	if _, err := deposed.Propose(context.Background(), stale); structs.CodeOf(err) != structs.CodeNoLeader {
		t.Errorf("a deposed leader commits: %v", err)
	}
	c.connect(true, first)
	want := c.members[second].config.Store
	for _, m := range c.members {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		if err := m.config.Store.WaitIndex(ctx, want.Index()); err != nil {
			t.Fatalf("%s stays behind: %v", m.config.ServerID, err)
		}
		cancel()
		sameState(t, m.config.Store, want)
		if m.config.Store.Snapshot().Node(nodeChange(99).ID) != nil {
			t.Error("an entry of the deposed leader was carried out")
		}
	}
	if id, _ := c.members[second].Leader(); id != c.members[second].config.ServerID {
		t.Errorf("the leader is %q", id)
	}

	// A clean stop transfers leadership.
	now := c.leader(0, 1, 2)
	for i, m := range c.members {
		f := m.Figures()
		if f.Leader != (i == now) || f.Peers != 2 || f.LastContact < 0 || f.LastContact > time.Minute || f.Leader && f.LastContact != 0 {
			t.Errorf("figures of server %d, server %d leading: %+v", i, now, f)
		}
	}
	if c.members[now].Alone() {
		t.Error("one of three is alone")
	}
	c.members[now].stop()
	third := c.leader((now+1)%3, (now+2)%3)
	c.members[third].put(12)
}

func TestReplicationOverTCP(t *testing.T) {
	c := testConfig(t, t.TempDir())
	c.BindAddr = "127.0.0.1:0"
	m := start(t, c)
	m.put(1)
	if _, addr := m.Leader(); addr == "" || addr == c.BindAddr {
		t.Errorf("the leader's address is %q", addr)
	}
	if !m.Alone() {
		t.Error("it is not alone")
	}
	if m.Stats()["state"] != "Leader" {
		t.Errorf("stats: %v", m.Stats())
	}
	if err := m.Snapshot(); err != nil {
		t.Fatal(err)
	}
	f := m.Figures()
	if !f.Leader || f.Term != m.Term() || f.LastIndex < m.config.Store.Index() || f.CommitIndex < m.config.Store.Index() ||
		f.AppliedIndex < m.config.Store.Index() ||
		f.SnapshotIndex != m.config.Store.Index() || f.Peers != 0 || f.LastContact != 0 {
		t.Errorf("figures %+v at index %d", f, m.config.Store.Index())
	}
	if n := m.Behind(); n != 0 {
		t.Errorf("%d entries behind after all was applied", n)
	}
}

func BenchmarkPropose(b *testing.B) {
	for _, size := range []int{1, 100} {
		b.Run(fmt.Sprintf("changes=%d", size), func(b *testing.B) {
			m := start(b, testConfig(b, b.TempDir()))
			next := 0
			b.ResetTimer()
			for range b.N {
				var changes []structs.Change
				for range size {
					next++
					changes = append(changes, nodeChange(next))
				}
				if _, err := m.Propose(context.Background(), encode(b, m.Term(), m.config.Store.Index(), changes...)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkReadIndex(b *testing.B) {
	m := start(b, testConfig(b, b.TempDir()))
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := m.ReadIndex(context.Background()); err != nil {
				b.Error(err)
			}
		}
	})
}
