package bootstrap

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/server/memberfile"
	"github.com/stackforge/magnum/server/raftlog"
	"github.com/stackforge/magnum/structs"
)

// server is the grants of a server in a directory of its own, which may be restarted.
type server struct {
	*Grants
	peer structs.PeerVoter
}

func (s *server) restart(t testing.TB, dir string) {
	t.Helper()
	file, err := memberfile.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	s.Grants = NewGrants(file, func() raftlog.Peer { return raftlog.Peer{ID: s.peer.ID, Addr: s.peer.RaftAddr} }, hclog.NewNullLogger())
}

func newServer(t testing.TB, addr string) (*server, string) {
	t.Helper()
	s, dir := &server{peer: structs.PeerVoter{ID: structs.NewID(), RaftAddr: addr}}, t.TempDir()
	s.restart(t, dir)
	return s, dir
}

func TestGrantIsGivenOnceAndKept(t *testing.T) {
	f, dir := newServer(t, "192.0.2.1:9512")
	voters := []structs.PeerVoter{f.peer, {ID: structs.NewID(), RaftAddr: "192.0.2.2:9512"}}
	first := structs.PeerGrant{ClusterID: structs.NewID(), Voters: voters}
	other := structs.PeerGrant{ClusterID: structs.NewID(), Voters: voters}
	for name, g := range map[string]structs.PeerGrant{
		"cluster_id": {ClusterID: "x", Voters: voters},
		"voters":     {ClusterID: structs.NewID(), Voters: voters[1:]},
		"192.0.2.1":  {ClusterID: structs.NewID(), Voters: []structs.PeerVoter{{ID: f.peer.ID, RaftAddr: "192.0.2.9:9512"}}},
	} {
		if err := f.Grant(g); structs.CodeOf(err) != structs.CodeInvalid || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for range 2 {
		for range 2 { // the answer may have been lost
			if err := f.Grant(first); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.Grant(other); structs.CodeOf(err) != structs.CodeConflict || !strings.Contains(err.Error(), first.ClusterID) {
			t.Errorf("a second cluster: %v", err)
		}
		if _, ok, err := f.propose(voters); ok || err != nil {
			t.Errorf("a server whose part is given asks for a cluster itself: %v, %v", ok, err)
		}
		if err := f.Keep(other.ClusterID); structs.CodeOf(err) != structs.CodeConflict {
			t.Errorf("it joins another than its part is given to: %v", err)
		}
		if f.waits() == "" || f.Begun() != "" {
			t.Errorf("waits %q, begun %q", f.waits(), f.Begun())
		}
		f.restart(t, dir)
	}
	// Only the cluster that has it can give it back.
	if err := f.Grant(structs.PeerGrant{ClusterID: other.ClusterID, Abandoned: true}); err != nil {
		t.Error(err)
	}
	if err := f.Grant(other); structs.CodeOf(err) != structs.CodeConflict {
		t.Errorf("another cluster's end has freed the part: %v", err)
	}
	if err := f.Grant(structs.PeerGrant{ClusterID: first.ClusterID, Abandoned: true}); err != nil {
		t.Error(err)
	}
	f.restart(t, dir)
	if err := f.Grant(other); err != nil {
		t.Errorf("the part is free, and not given: %v", err)
	}
	if err := f.Keep(other.ClusterID); err != nil {
		t.Fatal(err)
	}
	f.restart(t, dir)
	if err := f.Grant(first); structs.CodeOf(err) != structs.CodeConflict || !strings.Contains(err.Error(), other.ClusterID) {
		t.Errorf("a server of a cluster: %v", err)
	}
}

func TestAskingGoesOnAfterARestart(t *testing.T) {
	f, dir := newServer(t, "192.0.2.1:9512")
	voters := []structs.PeerVoter{f.peer}
	if _, ok, err := f.propose(nil); ok || err != nil {
		t.Errorf("it asks though it sees nobody: %v", err)
	}
	g, ok, err := f.propose(voters)
	if !ok || err != nil {
		t.Fatal(ok, err)
	}
	f.restart(t, dir)
	if again, ok, err := f.propose(nil); !ok || err != nil || again.ClusterID != g.ClusterID || !slices.Equal(again.Voters, voters) {
		t.Errorf("after a restart it asks for %+v, %v, %v", again, ok, err)
	}
	if f.Begun() != g.ClusterID {
		t.Errorf("begun is %q", f.Begun())
	}
	// Nobody else can free the part of the one that makes the cluster.
	if err := f.Grant(structs.PeerGrant{ClusterID: g.ClusterID, Abandoned: true}); err != nil || f.Begun() != g.ClusterID {
		t.Errorf("%v, begun %q", err, f.Begun())
	}
	if err := f.abandon(); err != nil {
		t.Fatal(err)
	}
	f.restart(t, dir)
	if f.Begun() != "" || !slices.Contains(f.file.Now().Abandoned, g.ClusterID) {
		t.Errorf("given up: begun %q, told of %v", f.Begun(), f.file.Now().Abandoned)
	}
	if next, ok, err := f.propose(voters); !ok || err != nil || next.ClusterID == g.ClusterID {
		t.Errorf("it asks for %+v, %v, %v", next, ok, err)
	}
}

// TestAtMostOneClusterIsMade has servers that see different sets of others ask
// each other at random, with questions, answers and withdrawals lost, and late
// ones repeated, and with restarts. Each asks a majority, so no two clusters may
// be made, however it goes.
func TestAtMostOneClusterIsMade(t *testing.T) {
	made := 0
	for round := range 60 {
		seed := rand.Uint64()
		random := rand.New(rand.NewPCG(seed, 0))
		const count, voters = 5, 3
		members, dirs := make([]*server, count), make([]string, count)
		at := make(map[string]*server)
		for i := range members {
			members[i], dirs[i] = newServer(t, "192.0.2."+string(rune('1'+i))+":9512")
			at[members[i].peer.ID] = members[i]
		}
		clusters := make(map[string]bool)
		var late []structs.PeerGrant // withdrawals that are under way
		var joins []func()           // of voters whose leader has not called yet
		for range 200 {
			i := random.IntN(count)
			f := members[i]
			switch random.IntN(8) {
			case 3:
				if len(joins) > 0 {
					joins[0]()
					joins = joins[1:]
				}
				continue
			case 0:
				f.restart(t, dirs[i])
				continue
			case 1:
				if id := f.Begun(); id != "" && !clusters[id] {
					if err := f.abandon(); err != nil {
						t.Fatal(err)
					}
					late = append(late, structs.PeerGrant{ClusterID: id, Abandoned: true})
				}
				continue
			case 2:
				if len(late) > 0 {
					_ = f.Grant(late[random.IntN(len(late))]) // whatever it says
				}
				continue
			}
			sees := []structs.PeerVoter{f.peer}
			for _, n := range random.Perm(count) {
				if n != i && len(sees) < voters {
					sees = append(sees, members[n].peer)
				}
			}
			g, ok, err := f.propose(sees)
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				continue
			}
			all := true
			for _, v := range g.Voters {
				if v.ID == f.peer.ID {
					continue
				}
				if random.IntN(4) == 0 { // the question is lost
					all = false
					continue
				}
				if at[v.ID].Grant(g) != nil || random.IntN(6) == 0 { // or the answer
					all = false
				}
			}
			if all {
				clusters[g.ClusterID] = true
				if err := f.Keep(g.ClusterID); err != nil {
					t.Fatalf("seed %d: the maker can't join its own cluster: %v", seed, err)
				}
				for _, v := range g.Voters {
					joins = append(joins, func() {
						if err := at[v.ID].Keep(g.ClusterID); err != nil {
							t.Errorf("seed %d: a voter refuses the cluster that it has given its part to: %v", seed, err)
						}
					})
				}
			}
		}
		if len(clusters) > 1 {
			t.Fatalf("round %d, seed %d: %d clusters were made", round, seed, len(clusters))
		}
		made += len(clusters)
	}
	if made == 0 {
		t.Error("no round has made a cluster: this test says nothing")
	}
}
