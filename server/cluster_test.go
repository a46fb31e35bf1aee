package server

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/internal/freeport"
	"github.com/stackforge/magnum/server/admission"
	"github.com/stackforge/magnum/server/dispatch"
	"github.com/stackforge/magnum/server/raftlog"
	"github.com/stackforge/magnum/server/servertest/history"
	"github.com/stackforge/magnum/structs"
)

// threeServers is a cluster in this process, on loopback, with real disks and the
// default timeouts. A member keeps its directory and its ports when it restarts.
type threeServers struct {
	t testing.TB

	mu      sync.Mutex // guards members against loads; only the test itself changes them
	members []*oneOfThree
}

type oneOfThree struct {
	config Config
	slow   atomic.Bool // each write of entries takes slowDisk longer
	short  atomic.Bool // its disk is nearly full
	full   atomic.Bool // entries can't be written to its disk
	packed atomic.Bool // a term or a vote can't be written either

	mu  sync.Mutex // guards srv, which is nil while the server is stopped
	srv *Server
	end func() error
}

// slowDisk is the duration of a write to a slow disk.
const slowDisk = 500 * time.Millisecond

func newThreeServers(t testing.TB, options ...func(*Config)) *threeServers {
	t.Helper()
	c := &threeServers{t: t}
	dirs := []string{t.TempDir(), t.TempDir(), t.TempDir()} // created first, so removed after the servers have ended
	t.Cleanup(func() {
		for _, m := range c.members {
			if err := m.stop(); err != nil {
				t.Errorf("server %s ended with %v", m.config.Name, err)
			}
		}
	})
	var join []string
	for i, dir := range dirs {
		m := newMember("s"+strconv.Itoa(i), dir, join, 3)
		for _, o := range options {
			o(&m.config)
		}
		c.members = append(c.members, m)
		join = append(join, m.first(t))
	}
	c.leader()
	return c
}

// oneLeader is an option for servers that keep their leader on a busy machine, for tests whose
// requests can't be repeated. Another leader is elected after two seconds.
func oneLeader(c *Config) {
	c.tuneRaft = func(r *raftlog.Config) { r.HeartbeatTimeout, r.LeaderLease = 2*time.Second, 2*time.Second }
}

// newMember returns a server that has not been started.
func newMember(name, dir string, join []string, expect int) *oneOfThree {
	m := &oneOfThree{config: Config{
		Name: name, DataDir: dir, HTTPPort: -1, RaftPort: -1, GossipPort: -1, BootstrapExpect: expect,
		Join: join, JoinToken: "join-token-of-the-tests", Logger: hclog.NewNullLogger(),
	}}
	m.config.fault = func(op string) error {
		entries := op == raftlog.FaultLog
		if entries && m.slow.Load() {
			time.Sleep(slowDisk) // simulates the slow disk
		}
		if entries && m.full.Load() || (entries || op == raftlog.FaultState) && m.packed.Load() {
			return syscall.ENOSPC
		}
		return nil
	}
	return m
}

// first starts the server on free ports, which it keeps, and returns its gossip
// address.
func (m *oneOfThree) first(t testing.TB) string {
	t.Helper()
	m.config.HTTPPort, m.config.RaftPort, m.config.GossipPort = freeport.Take(t), freeport.Take(t), freeport.Take(t)
	m.start(t)
	return m.running().gossip.Addr()
}

func (m *oneOfThree) start(t testing.TB) {
	t.Helper()
	srv, err := New(m.config)
	if err != nil {
		t.Errorf("server %s: %v", m.config.Name, err)
		return
	}
	srv.space.free = func(dir string) (int64, error) {
		if m.short.Load() {
			return 1 << 20, nil
		}
		return freeBytes(dir)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- srv.Run(ctx) }()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.srv = srv
	m.end = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
}

// running returns the server, nil while it is stopped.
func (m *oneOfThree) running() *Server {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.srv
}

// stop ends the server as a signal does.
func (m *oneOfThree) stop() error {
	m.mu.Lock()
	srv, end := m.srv, m.end
	m.srv = nil
	m.mu.Unlock()
	if srv == nil {
		return nil
	}
	return end()
}

// die ends the server without transferring leadership, in the middle of a commit.
func (m *oneOfThree) die() error {
	if srv := m.running(); srv != nil {
		srv.raft.Close()
	}
	return m.stop()
}

// patience bounds the wait for events that must happen but have no deadline: the
// machine may be busy.
const patience = 2 * time.Minute

// eventually waits for a condition.
func (c *threeServers) eventually(what string, condition func() bool) {
	c.t.Helper()
	for until := time.Now().Add(patience); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(until) {
			c.t.Fatalf("not in time: %s", what)
		}
	}
}

// leader waits until the running servers agree on a leader that has written the
// cluster's row.
func (c *threeServers) leader() *oneOfThree {
	c.t.Helper()
	var leads *oneOfThree
	c.eventually("the servers agree on a leader", func() bool {
		leads = nil
		agreed := ""
		for _, m := range c.members {
			srv := m.running()
			if srv == nil {
				continue
			}
			id, _ := srv.raft.Leader()
			if id == "" || agreed != "" && id != agreed || srv.store.Snapshot().Cluster() == nil {
				return false
			}
			if agreed = id; id == srv.id && srv.raft.IsLeader() {
				leads = m
			}
		}
		return leads != nil
	})
	return leads
}

// awaitSameState waits until all servers have applied the same entries, and checks that
// their states are equal.
func (c *threeServers) awaitSameState() {
	c.t.Helper()
	c.eventually("all servers have the same state", func() bool {
		var first uint64
		for i, m := range c.members {
			index := m.running().store.Index()
			if i == 0 {
				first = index
			}
			if index != first || m.running().store.Hash() != c.members[0].running().store.Hash() {
				return false
			}
		}
		return true
	})
}

// TestThreeServersFormCluster: every server serves the same cluster. The cluster
// survives the loss of its leader, and a server that comes back catches up.
func TestThreeServersFormCluster(t *testing.T) {
	t.Parallel()
	c := newThreeServers(t, oneLeader)
	w := history.New(history.Nodes, 1)
	ids := make(map[string]bool)
	for _, m := range c.members {
		ids[m.running().raft.ClusterID()] = true
		id := structs.NewID()
		if got := w.Ask(m.running().URL(), 0, history.Op{Kind: history.Create, ID: id, Value: "a"}); got.Verdict != history.Done {
			t.Errorf("a create through %s: %+v", m.config.Name, got)
		}
		for _, other := range c.members {
			if got := w.Ask(other.running().URL(), 0, history.Op{Kind: history.Read, ID: id}); got.Verdict != history.Done ||
				got.Value != "a" {
				t.Errorf("what was made through %s is %+v through %s", m.config.Name, got, other.config.Name)
			}
		}
	}
	if len(ids) != 1 || ids[""] {
		t.Errorf("the servers belong to clusters %v", ids)
	}
	if open := c.leader().running().gate.Figures().Open; open[admission.Peer] == 0 {
		t.Errorf("the leader has connections of %v, and none of the servers that hand requests on", open)
	}
	for name, end := range map[string]func(*oneOfThree) error{"stop": (*oneOfThree).stop, "die": (*oneOfThree).die} {
		first := c.leader()
		if err := end(first); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		id := structs.NewID()
		through := c.members[0]
		if through == first {
			through = c.members[1]
		}
		// The server holds the request until there is a leader. On a busy machine an
		// election may take longer than that.
		op := history.Op{Kind: history.Create, ID: id, Value: name}
		got := w.Ask(through.running().URL(), 0, op)
		for until := time.Now().Add(patience); got.Verdict == history.Refused && time.Now().Before(until); {
			got = w.Ask(through.running().URL(), 0, op)
		}
		if got.Verdict != history.Done {
			t.Errorf("%s: a create without the old leader: %+v", name, got)
		}
		first.start(t)
		c.leader()
		if got := w.Ask(first.running().URL(), 0, history.Op{Kind: history.Read, ID: id}); got.Verdict != history.Done ||
			got.Value != name {
			t.Errorf("%s: the server that is back says %+v", name, got)
		}
	}
	c.awaitSameState()
}

// TestSlowFollowerDelaysNoWrites: two of three servers are a majority.
func TestSlowFollowerDelaysNoWrites(t *testing.T) {
	t.Parallel()
	c := newThreeServers(t)
	w := history.New(history.Nodes, 1)
	leader := c.leader()
	for _, m := range c.members {
		if m != leader {
			m.slow.Store(true)
			defer m.slow.Store(false)
			break
		}
	}
	// A write that waited for the slow disk would take longer than it. On a busy machine
	// others are slow, too, but not each time.
	const writes = 10
	quick := 0
	for tries := 0; quick < writes; tries++ {
		began := time.Now()
		if got := w.Ask(leader.running().URL(), 0, history.Op{Kind: history.Create, ID: structs.NewID(),
			Value: "a"}); got.Verdict != history.Done {
			t.Errorf("%+v", got)
		}
		if time.Since(began) < slowDisk {
			quick++
		}
		if tries == 10*writes {
			t.Fatalf("%d of %d writes were faster than the slow disk of one server", quick, tries)
		}
	}
}

// TestLeaderlessServerSendsAgentsElsewhere: a server that is cut off from a majority
// tells agents so, even while it stands for election, and serves them again once there
// is a leader.
func TestLeaderlessServerSendsAgentsElsewhere(t *testing.T) {
	c := newThreeServers(t)
	c.awaitSameState()
	left, others := c.members[0], c.members[1:]
	srv := left.running()
	poll := func() structs.Code {
		_, err := srv.dispatch.Work(t.Context(), dispatch.Poll{HostID: structs.NewID()})
		return structs.CodeOf(err)
	}
	if code := poll(); code != structs.CodeUnauthenticated {
		t.Fatalf("a stranger's poll gives %s", code)
	}
	for _, m := range others {
		if err := m.die(); err != nil {
			t.Logf("died: %v", err)
		}
	}
	c.eventually("polls are refused", func() bool { return poll() == structs.CodeUnavailable })
	c.eventually("it says how many are missing", func() bool {
		return strings.Contains(srv.servers.whyLeaderless(), "1 of 3 servers answer")
	})
	for _, m := range others {
		m.start(t)
	}
	c.eventually("polls are served again", func() bool { return poll() == structs.CodeUnauthenticated })
}
