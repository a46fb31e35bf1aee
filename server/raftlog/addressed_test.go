package raftlog

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/stackforge/magnum/structs"
)

// TestVotesThatAreNotOurs: a server that may not vote refuses votes and pre-votes,
// without a word to the library, and takes everything else.
func TestVotesThatAreNotOurs(t *testing.T) {
	_, in := raft.NewInmemTransport("target")
	_, from := raft.NewInmemTransport("from")
	from.Connect(targetOf("us", "target"), in)
	var may atomic.Bool
	under, caller := newAddressed(in, may.Load), newAddressed(from, may.Load)
	defer under.Close()
	defer caller.Close()
	answered := make(chan any, 10)
	ended := make(chan struct{})
	defer func() { <-ended }()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		defer close(ended)
		for {
			select {
			case call := <-under.Consumer():
				answered <- call.Command
				switch call.Command.(type) {
				case *raft.RequestVoteRequest:
					call.Respond(&raft.RequestVoteResponse{Granted: true}, nil)
				case *raft.RequestPreVoteRequest:
					call.Respond(&raft.RequestPreVoteResponse{Granted: true}, nil)
				case *raft.AppendEntriesRequest:
					call.Respond(&raft.AppendEntriesResponse{Success: true}, nil)
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	for _, want := range []bool{false, true} {
		may.Store(want)
		var vote raft.RequestVoteResponse
		if err := caller.RequestVote("us", "target", &raft.RequestVoteRequest{Term: 7}, &vote); err != nil || vote.Granted != want || vote.Term != 7 && !want {
			t.Errorf("may vote %v: %+v, %v", want, vote, err)
		}
		var pre raft.RequestPreVoteResponse
		if err := caller.RequestPreVote("us", "target", &raft.RequestPreVoteRequest{Term: 7}, &pre); err != nil || pre.Granted != want || pre.Term != 7 && !want {
			t.Errorf("may vote %v: %+v, %v", want, pre, err)
		}
		var appended raft.AppendEntriesResponse
		if err := caller.AppendEntries("us", "target", &raft.AppendEntriesRequest{Term: 7}, &appended); err != nil || !appended.Success {
			t.Errorf("may vote %v: %+v, %v", want, appended, err)
		}
	}
	if n := len(answered); n != 4 {
		t.Errorf("the library has heard of %d calls, want 4", n)
	}
	if err := caller.AppendEntries("them", "target", &raft.AppendEntriesRequest{}, &raft.AppendEntriesResponse{}); err == nil {
		t.Error("a call of another server at the address is answered")
	}
}

// TestIDsStayInTargets: what the library keeps and tells of servers are addresses.
func TestIDsStayInTargets(t *testing.T) {
	c := startTrio(t)
	n := c.leader(0, 1, 2)
	c.members[n].put(1)
	for _, m := range c.members {
		eventually(t, "it follows the leader", func() bool { id, _ := m.Leader(); return id == c.members[n].config.ServerID })
		if _, addr := m.Leader(); strings.Contains(addr, "@") {
			t.Errorf("the leader's address is %s", addr)
		}
		if vote, err := m.store.Get([]byte("LastVoteCand")); err == nil && strings.Contains(string(vote), "@") {
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

// TestMayVote: a server votes if its newest configuration names it, or with an
// empty log if it has granted its part.
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
