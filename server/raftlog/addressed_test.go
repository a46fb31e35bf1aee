package raftlog

import (
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stackforge/magnum/structs"
)

// TestServerIDsStayOutOfMembershipAndLeader checks that targets with IDs never appear
// in what the library stores and reports about servers: those are plain addresses.
func TestServerIDsStayOutOfMembershipAndLeader(t *testing.T) {
	c := startThreeServers(t)
	n := c.leader(0, 1, 2)
	c.members[n].put(1)
	for _, m := range c.members {
		eventually(t, "it follows the leader", func() bool { id, _ := m.Leader(); return id == c.members[n].config.ServerID })
		if _, addr := m.Leader(); strings.Contains(addr, "@") {
			t.Errorf("the leader's address is %s", addr)
		}
		if vote, err := m.files.store.Get([]byte("LastVoteCand")); err == nil && strings.Contains(string(vote), "@") {
			t.Errorf("it has voted for %s", vote)
		}
		peers, err := m.Peers()
		for _, p := range peers {
			if strings.Contains(p.Addr, "@") || err != nil {
				t.Errorf("a peer is at %s, %v", p.Addr, err)
			}
		}
	}
}

// TestMayVote: a server votes if its newest membership names it or, with an empty log,
// if it has granted.
func TestMayVote(t *testing.T) {
	named := start(t, testConfig(t, t.TempDir()))
	if !named.mayVote() {
		t.Error("a server of the configuration may not vote")
	}
	stranger := &Log{config: Config{ServerID: structs.NewID()}}
	if stranger.mayVote() {
		t.Error("a server that is being opened may vote")
	}
	stranger.voting.Store(named.raft)
	if stranger.mayVote() {
		t.Error("a server that its configuration does not name may vote")
	}
	empty := testConfig(t, t.TempDir())
	empty.ClusterID = clusterA
	var granted atomic.Bool
	empty.Granted = func(id string) bool { return granted.Load() && id == clusterA }
	l := mustOpen(t, empty)
	for _, want := range []bool{false, true} {
		granted.Store(want)
		if l.mayVote() != want {
			t.Errorf("granted %v: it may vote %v", want, l.mayVote())
		}
	}
	run(t, l, idle)
}
