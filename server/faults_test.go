package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stackforge/magnum/server/raftlog"
	"github.com/stackforge/magnum/server/servertest/history"
	"github.com/stackforge/magnum/structs"
)

// load is a set of clients that write and read the same few objects through all servers
// until it is ended.
type load struct {
	*history.Workload
	c       *threeServers
	seed    uint64
	stop    context.CancelFunc
	working sync.WaitGroup
	behind  atomic.Pointer[Server] // a server that clients leave out; nil for none
}

// loadClients is the number of clients of a load.
const loadClients = 4

// load starts the clients.
func (c *threeServers) load() *load {
	l := &load{Workload: history.New(history.Nodes, loadClients), c: c, seed: rand.Uint64()}
	c.t.Logf("seed %d", l.seed)
	ctx, stop := context.WithCancel(c.t.Context())
	l.stop = stop
	for client := range loadClients {
		l.working.Go(func() {
			for one := l.client(client); ctx.Err() == nil; time.Sleep(time.Millisecond) { // bounds the load
				one.Step(ctx)
			}
		})
	}
	return l
}

// client returns a client that uses the servers in turn.
func (l *load) client(n int) *history.Client {
	turn := n
	return l.Client(n, l.seed, func(bool) string {
		turn++
		if srv := l.at(turn); srv != nil {
			return srv.URL()
		}
		return ""
	})
}

// at returns one of the servers, nil if it is stopped or excluded.
func (l *load) at(n int) *Server {
	l.c.mu.Lock()
	defer l.c.mu.Unlock()
	srv := l.c.members[n%len(l.c.members)].running()
	if srv == l.behind.Load() {
		return nil
	}
	return srv
}

// awaitProgress waits until the given number of further operations is acknowledged.
func (l *load) awaitProgress(operations int64) {
	l.c.t.Helper()
	from := l.Figures().Acknowledged
	l.c.eventually(fmt.Sprintf("%d operations more are acknowledged", operations),
		func() bool { return l.Figures().Acknowledged >= from+operations })
}

// end ends the load. It checks that everything acknowledged is there, that all servers
// have the same state, and that all answers are consistent.
func (l *load) end() {
	l.c.t.Helper()
	l.stop()
	l.working.Wait()
	l.c.leader()
	l.Finish(l.client(loadClients))
	l.c.awaitSameState()
	for _, v := range l.Violations() {
		l.c.t.Error(v)
	}
	f := l.Figures()
	l.c.t.Logf("%d operations acknowledged, %d of unknown outcome, longest time without a successful write %v", f.Acknowledged, f.Unknown,
		f.Gap.Round(time.Millisecond))
}

// created returns a create operation for a new object.
func created() history.Op { return history.Op{Kind: history.Create, ID: structs.NewID(), Value: "a"} }

// TestSlowLeaderDiskLosesNoWrites: writes wait for the disk, and none is lost.
func TestSlowLeaderDiskLosesNoWrites(t *testing.T) {
	t.Parallel()
	c := newThreeServers(t)
	l := c.load()
	l.awaitProgress(15)
	slow := c.leader()
	slow.slow.Store(true)
	c.eventually("a write has waited for the slow disk", func() bool {
		began := time.Now()
		got := l.Write(slow.running().URL(), created())
		if got.Verdict == history.Done && time.Since(began) >= slowDisk {
			return true
		}
		slow.slow.Store(false) // a busy machine may have an election: another server leads
		slow = c.leader()
		slow.slow.Store(true)
		return false
	})
	l.awaitProgress(15)
	slow.slow.Store(false)
	l.awaitProgress(15)
	l.end()
}

// TestClusterSurvivesFullDiskOfOneServer: the cluster continues without the server, and
// it catches up later.
func TestClusterSurvivesFullDiskOfOneServer(t *testing.T) {
	for name, f := range map[string]fullDisk{
		"leader":           {true, false, false},
		"unaware leader":   {true, true, false},
		"packed leader":    {true, true, true},
		"follower":         {false, false, false},
		"unaware follower": {false, true, false},
		"packed follower":  {false, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const tries = 3
			for try := 1; !f.survived(t); try++ {
				if try == tries { // a busy machine has an election now and then, but not each time
					t.Fatalf("the leader has changed in %d clusters, although its own disk is sound", tries)
				}
			}
		})
	}
}

// fullDisk is a case of one server whose disk is full.
type fullDisk struct {
	leader  bool
	unaware bool // no early warning: the writes themselves fail
	packed  bool // writes of terms and votes fail, too
}

// survived fills the disk of one server of a cluster. It returns false if leadership has
// changed although the leader's own disk is sound.
func (f fullDisk) survived(t *testing.T) bool {
	c := newThreeServers(t)
	l := c.load()
	l.awaitProgress(20)
	leads := c.leader()
	m := leads
	for _, other := range c.members {
		if !f.leader && other != leads {
			m = other
		}
	}
	set := m.short.Store
	if f.unaware {
		set = m.full.Store
		if f.packed {
			set = m.packed.Store
		}
		l.behind.Store(m.running()) // it holds each request until the time limit
	}
	restore := func() {
		set(false)
		l.behind.Store(nil)
		l.awaitProgress(20)
		l.end()
	}
	set(true)
	l.awaitProgress(100)
	if f.leader && f.packed { // it knows neither a newer term nor a leader
		c.eventually("another server leads", func() bool {
			return slices.ContainsFunc(c.members, func(o *oneOfThree) bool { return o != m && o.running().raft.IsLeader() })
		})
	} else if f.leader {
		c.eventually("another server leads", func() bool { return c.leader() != m })
	} else if !leads.running().raft.IsLeader() {
		restore()
		return false
	}
	// Also through the server whose disk is full.
	got := l.Ask(m.running().URL(), 0, created())
	switch {
	case !f.leader && !leads.running().raft.IsLeader():
		restore()
		return false
	case !f.unaware && got.Verdict != history.Done:
		t.Errorf("a write through the server whose disk is nearly full: %+v", got)
	case f.leader && f.packed: // it doesn't know the leader
		if got.Verdict == history.Done {
			t.Errorf("a write through the server that can't follow: %+v", got)
		}
	case f.unaware && got.Verdict != history.Unknown:
		t.Errorf("a write through the server that can't follow: %+v", got)
	}
	if f.packed && f.leader {
		c.eventually("the ballast makes room for a term", func() bool {
			_, err := os.Stat(m.running().space.ballast())
			return errors.Is(err, fs.ErrNotExist)
		})
	}
	restore()
	return true
}

// TestWritesRefusedWhenAllDisksNearlyFull: no server can take over leadership, and
// writes are refused with 507 until there is space.
func TestWritesRefusedWhenAllDisksNearlyFull(t *testing.T) {
	t.Parallel()
	c := newThreeServers(t)
	leader := c.leader()
	w := history.New(history.Nodes, 1)
	write := func() history.Outcome {
		return w.Ask(leader.running().URL(), 0, created())
	}
	for _, m := range c.members {
		m.short.Store(true)
	}
	for _, m := range c.members {
		c.eventually("a server knows that its disk is short", func() bool { return m.running().space.room() != nil })
	}
	// A leader that hands over leadership does so at each check. A busy machine may
	// have an election, but not during several checks in each term.
	var terms []uint64
	for stable := false; !stable; {
		leader = c.leader() // leadership may have changed while some disks had space
		term := leader.running().raft.Term()
		terms = append(terms, term)
		refused := 0
		for range 20 { // during several checks of the leader
			got := write()
			if got.Verdict == history.Done {
				t.Fatalf("a write while all disks are full: %+v", got)
			}
			if strings.Contains(got.Said, fmt.Sprint(http.StatusInsufficientStorage)) {
				refused++ // otherwise refused because of an election
			}
			time.Sleep(spaceTick / 10)
		}
		stable = leader.running().raft.Term() == term && c.leader() == leader && refused == 20
		if !stable && len(terms) == 5 {
			t.Fatalf("the terms were %d, and in none 20 writes were refused for want of room: leadership goes around among full disks",
				terms)
		}
	}
	for _, m := range c.members {
		m.short.Store(false)
	}
	c.eventually("writes are taken again", func() bool { return write().Verdict == history.Done })
	c.awaitSameState()
}

// TestLaggingFollowerGetsSnapshot: a server that was away for longer than the log
// reaches back gets a snapshot, while clients write.
func TestLaggingFollowerGetsSnapshot(t *testing.T) {
	t.Parallel()
	c := newThreeServers(t, func(c *Config) {
		c.tuneRaft = func(r *raftlog.Config) {
			r.SnapshotThreshold, r.SnapshotInterval, r.TrailingLogs = 64, 20*time.Millisecond, 8
		}
	})
	l := c.load()
	l.awaitProgress(100)
	leader := c.leader()
	lags := c.members[0]
	if lags == leader {
		lags = c.members[1]
	}
	stopped := lags.running()
	if err := lags.stop(); err != nil {
		t.Fatal(err)
	}
	had := stopped.store.Index()
	c.eventually("the leader no longer has the entries that the follower wants", func() bool {
		f := c.leader().running().raft.Figures()
		return f.SnapshotIndex > had+64
	})
	// It takes no snapshot itself, so its snapshot comes from the leader.
	lags.config.tuneRaft = func(r *raftlog.Config) { r.SnapshotThreshold = 1 << 30 }
	lags.start(t)
	c.eventually("the follower has the leader's snapshot", func() bool { return lags.running().raft.Figures().SnapshotIndex > had })
	l.awaitProgress(100)
	l.end()
	// It restarts with the snapshot.
	if err := lags.stop(); err != nil {
		t.Fatal(err)
	}
	lags.start(t)
	c.leader()
	c.awaitSameState()
}

// voters returns the number of voters, as a server sees it.
func (m *oneOfThree) voters() (n int) {
	srv := m.running()
	if srv == nil {
		return 0
	}
	peers, err := srv.raft.Peers()
	if err != nil {
		return 0
	}
	for _, p := range peers {
		if p.Voter {
			n++
		}
	}
	return n
}

// replace replaces a member by another, for clients and checks.
func (c *threeServers) replace(was, with *oneOfThree) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, m := range c.members {
		if m == was {
			c.members[i] = with
			return
		}
	}
	c.members = append(c.members, with)
}

// TestServersComeAndGoUnderLoad: one server is added, a dead one is removed because
// another has replaced it, and one loses its disk and comes back empty.
func TestServersComeAndGoUnderLoad(t *testing.T) {
	t.Parallel()
	c := newThreeServers(t, func(c *Config) { c.deadAfter = time.Second })
	var join []string
	for _, m := range c.members {
		join = append(join, m.running().gossip.Addr())
	}
	dirs := []string{filepath.Join(t.TempDir(), "s3"), filepath.Join(t.TempDir(), "s4")}
	l := c.load()
	l.awaitProgress(20)

	added := newMember("s3", dirs[0], join, 0)
	added.config.deadAfter = time.Second
	t.Cleanup(func() { _ = added.stop() })
	added.first(t)
	for _, m := range c.members {
		c.eventually("the new server votes", func() bool { return m.voters() == 4 })
	}
	dead := c.leader()
	c.replace(dead, added)
	if err := dead.die(); err != nil {
		t.Logf("a server that died: %v", err)
	}
	for _, m := range c.members {
		c.eventually("the dead server is removed", func() bool { return m.voters() == 3 })
	}
	l.awaitProgress(50)

	// The dead server's machine comes back with the same flags and ports, and an empty
	// disk.
	again := newMember(dead.config.Name, dirs[1], join, 3)
	again.config.HTTPPort, again.config.RaftPort = dead.config.HTTPPort, dead.config.RaftPort
	again.config.GossipPort = dead.config.GossipPort
	again.config.deadAfter = time.Second
	t.Cleanup(func() { _ = again.stop() })
	again.start(t)
	c.eventually("the server that came back empty votes", func() bool { return again.voters() == 4 })
	c.replace(nil, again)
	l.awaitProgress(50)
	l.end()
	if was, is := c.members[0].running().raft.ClusterID(), again.running().raft.ClusterID(); was != is {
		t.Errorf("it belongs to cluster %s, the others to %s", is, was)
	}
}
