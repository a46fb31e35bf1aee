package autopilot

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	library "github.com/hashicorp/raft-autopilot"

	"github.com/stackforge/magnum/structs"
)

// fakeLog is a log with a membership.
type fakeLog struct {
	peers   []Peer
	removed chan string
	refuse  error // error of each removal
}

func (l *fakeLog) Peers() ([]Peer, error) { return l.peers, nil }
func (l *fakeLog) Progress() structs.PeerProgress {
	return structs.PeerProgress{LastIndex: 7, LastTerm: 2}
}

func (l *fakeLog) RemovePeer(_ context.Context, id string) error {
	l.removed <- id
	return l.refuse
}

func viewOf(log *fakeLog, s Config) *application {
	return (*application)(&Loop{ServerID: "a", Log: log, Config: s, Logger: hclog.NewNullLogger()})
}

// TestKnownServersAreThoseOfTheMembership: candidates say which servers have failed,
// but add no servers and change no addresses.
func TestKnownServersAreThoseOfTheMembership(t *testing.T) {
	log := &fakeLog{peers: []Peer{{ID: "a", Addr: "a:1"}, {ID: "b", Addr: "b:1"}, {ID: "c", Addr: "c:1"}}}
	got := viewOf(log, Config{Candidates: func() []Candidate {
		return []Candidate{{Peer: Peer{ID: "b", Addr: "elsewhere:1"}, Name: "bert", Failed: true},
			{Peer: Peer{ID: "stranger", Addr: "d:1"}}}
	}}).KnownServers()
	for id, want := range map[raft.ServerID]struct {
		name   string
		status library.NodeStatus
		leader bool
	}{
		"a": {"a", library.NodeAlive, true},
		"b": {"bert", library.NodeFailed, false},
		"c": {"c", library.NodeAlive, false},
	} {
		s := got[id]
		if s == nil || s.Name != want.name || s.NodeStatus != want.status || s.IsLeader != want.leader ||
			string(s.Address) != string(id)+":1" {
			t.Errorf("%s is %+v, want %+v", id, s, want)
		}
	}
	if len(got) != 3 {
		t.Errorf("%d servers are known, want 3", len(got))
	}
}

// TestStatsAreOfThoseThatAnswer: this server's progress comes from its own log, and a
// server that doesn't answer has no stats.
func TestStatsAreOfThoseThatAnswer(t *testing.T) {
	s := Config{Progress: func(_ context.Context, id string) (structs.PeerProgress, error) {
		if id == "c" {
			return structs.PeerProgress{}, errors.New("no answer")
		}
		return structs.PeerProgress{LastIndex: 5, LastTerm: 1, Contact: time.Second}, nil
	}}
	got := viewOf(new(fakeLog), s).FetchServerStats(t.Context(), map[raft.ServerID]*library.Server{"a": nil, "b": nil, "c": nil})
	if a, b := got["a"], got["b"]; len(got) != 2 || a == nil || a.LastIndex != 7 || a.LastTerm != 2 || b == nil || b.LastIndex != 5 ||
		b.LastContact != time.Second {
		t.Errorf("stats are %+v", got)
	}
}

// TestRemovedIsCalledAfterRemoval: Removed is called after the removal of a failed
// server, and not if the removal failed.
func TestRemovedIsCalledAfterRemoval(t *testing.T) {
	for _, refuse := range []error{nil, errors.New("no leader")} {
		synctest.Test(t, func(t *testing.T) {
			log := &fakeLog{removed: make(chan string, 1), refuse: refuse}
			var told []string
			viewOf(log, Config{Removed: func(id string) { told = append(told, id) }}).RemoveFailedServer(&library.Server{ID: "b"})
			synctest.Wait()
			if id := <-log.removed; id != "b" {
				t.Errorf("%s was taken out", id)
			}
			if (len(told) == 1) != (refuse == nil) {
				t.Errorf("with %v: told of %v", refuse, told)
			}
		})
	}
}
