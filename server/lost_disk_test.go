package server

import (
	"net"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stackforge/magnum/server/servertest/history"
	"github.com/stackforge/magnum/structs"
)

// wipe empties the directory of a stopped server, as if its disk were lost. The server
// joins all members: the first member was started without addresses to join.
func (c *threeServers) wipe(m *oneOfThree) {
	c.t.Helper()
	if err := os.RemoveAll(m.config.DataDir); err != nil {
		c.t.Fatal(err)
	}
	m.config.Join = nil
	for _, other := range c.members {
		m.config.Join = append(m.config.Join, net.JoinHostPort("127.0.0.1", strconv.Itoa(other.config.GossipPort)))
	}
}

// replaceDeadSoon makes a dead server replaceable after a second.
func replaceDeadSoon(c *Config) { c.deadAfter = time.Second }

// halt ends servers at the same time, as a power cut does.
func halt(t *testing.T, members ...*oneOfThree) {
	t.Helper()
	for _, m := range members {
		if err := m.die(); err != nil {
			t.Logf("a server that died: %v", err)
		}
	}
}

// leaderAndOthers returns the leader, and the other members in their order.
func (c *threeServers) leaderAndOthers() (leader *oneOfThree, others []*oneOfThree) {
	leader = c.leader()
	for _, m := range c.members {
		if m != leader {
			others = append(others, m)
		}
	}
	return leader, others
}

// nobodyLeads checks that none of the running servers leads within a few election
// timeouts, and that none accepts a write.
func nobodyLeads(t *testing.T, w *history.Workload, members ...*oneOfThree) {
	t.Helper()
	for until := time.Now().Add(3 * time.Second); time.Now().Before(until); time.Sleep(20 * time.Millisecond) {
		for _, m := range members {
			if id, _ := m.running().raft.Leader(); id != "" {
				t.Fatalf("%s takes %s for the leader", m.config.Name, id)
			}
		}
	}
	for _, m := range members {
		if got := w.Ask(m.running().URL(), 0, history.Op{Kind: history.Create, ID: structs.NewID(),
			Value: "a"}); got.Verdict == history.Done {
			t.Errorf("%s takes a write", m.config.Name)
		}
	}
}

// create creates objects through a server and returns the IDs of those that were
// acknowledged. A create with an unknown outcome, as during an election, is none of them.
func create(t *testing.T, w *history.Workload, m *oneOfThree, n int) (ids []string) {
	t.Helper()
	for until := time.Now().Add(patience); len(ids) < n; {
		id := structs.NewID()
		got := w.Ask(m.running().URL(), 0, history.Op{Kind: history.Create, ID: id, Value: "a"})
		switch unsure := got.Verdict == history.Unknown || got.Verdict == history.Refused; {
		case got.Verdict == history.Done:
			ids = append(ids, id)
		case !unsure || time.Now().After(until):
			t.Fatalf("a create through %s: %+v", m.config.Name, got)
		}
	}
	return ids
}

// has checks that all servers have all objects.
func (c *threeServers) has(w *history.Workload, ids []string) {
	c.t.Helper()
	c.leader() // entries are applied only once there is a leader
	c.awaitSameState()
	for _, m := range c.members {
		for _, id := range ids {
			if got := w.Ask(m.running().URL(), 0, history.Op{Kind: history.Read, ID: id}); got.Verdict != history.Done || got.Value != "a" {
				c.t.Fatalf("%s has lost what was acknowledged: %+v", m.config.Name, got)
			}
		}
	}
}

// TestServerWithLostDiskDoesNotVote: one of three servers misses writes, one loses its
// disk, and the third crashes. The remaining two are no majority, although the one
// without its disk answers at its old address: only the third has the writes, and they
// are back with it.
func TestServerWithLostDiskDoesNotVote(t *testing.T) {
	t.Parallel()
	c := newThreeServers(t, replaceDeadSoon)
	w := history.New(history.Nodes, 1)
	defer w.Close()
	leader, others := c.leaderAndOthers()
	wiped, stale := others[0], others[1]
	before := wiped.running().id
	if err := stale.stop(); err != nil {
		t.Fatal(err)
	}
	ids := create(t, w, leader, 20)
	halt(t, leader, wiped)
	c.wipe(wiped)
	wiped.start(t)
	stale.start(t)
	w.Timeout = time.Second
	nobodyLeads(t, w, wiped, stale)
	if id := wiped.running().id; id == before {
		t.Errorf("the server without its disk still is %s", id)
	}
	leader.start(t)
	w.Timeout = 10 * time.Second
	c.has(w, ids)
	after := create(t, w, stale, 1)
	// The lost server is replaced at its own address.
	c.eventually("the server without its disk votes under its new id", func() bool {
		peers, err := leader.running().raft.Peers()
		voters := 0
		for _, p := range peers {
			if p.ID == before {
				return false
			}
			if p.Voter {
				voters++
			}
		}
		return err == nil && voters == 3
	})
	c.has(w, append(ids, after...))
}

// TestNoLeaderAfterTwoLostDisks: nobody leads without a majority of the voters that
// acknowledged writes, whichever servers answer at their addresses.
func TestNoLeaderAfterTwoLostDisks(t *testing.T) {
	t.Parallel()
	c := newThreeServers(t)
	w := history.New(history.Nodes, 1)
	defer w.Close()
	leader, others := c.leaderAndOthers()
	create(t, w, leader, 3)
	halt(t, others...)
	for _, m := range others {
		c.wipe(m)
		m.start(t)
	}
	w.Timeout = time.Second
	c.eventually("the one that is left has noticed", func() bool { return !leader.running().raft.IsLeader() })
	nobodyLeads(t, w, c.members...)
}

// TestLeaderKilledDuringPromotion: a server that was just promoted, and may not know it
// yet, helps to elect the next leader.
func TestLeaderKilledDuringPromotion(t *testing.T) {
	t.Parallel()
	c := newThreeServers(t, replaceDeadSoon)
	w := history.New(history.Nodes, 1)
	defer w.Close()
	leader, others := c.leaderAndOthers()
	ids := create(t, w, leader, 3)
	halt(t, others[0])
	before := others[0].config.Name
	c.wipe(others[0])
	others[0].start(t)
	newcomer := others[0].running().id
	var newVoter bool
	c.eventually("the newcomer "+before+" is a voter in the leader's configuration", func() bool {
		srv := leader.running()
		if srv == nil || !srv.raft.IsLeader() {
			leader = c.leader()
			return false
		}
		peers, _ := srv.raft.Peers()
		for _, p := range peers {
			newVoter = newVoter || p.ID == newcomer && p.Voter
		}
		return newVoter
	})
	halt(t, leader)
	next := c.leader()
	ids = append(ids, create(t, w, next, 3)...)
	leader.start(t)
	c.leader()
	c.has(w, ids)
}
