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

// server is the grants of a server with a data directory of its own; it can be restarted.
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
	self := func() raftlog.Peer { return raftlog.Peer{ID: s.peer.ID, Addr: s.peer.RaftAddr} }
	s.Grants = NewGrants(file, self, hclog.NewNullLogger())
}

func newServer(t testing.TB, addr string) (*server, string) {
	t.Helper()
	s, dir := &server{peer: structs.PeerVoter{ID: structs.NewID(), RaftAddr: addr}}, t.TempDir()
	s.restart(t, dir)
	return s, dir
}

func TestGrantGoesToOneClusterUntilReleased(t *testing.T) {
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
			t.Errorf("grant of a second cluster: %v", err)
		}
		if _, ok, err := f.propose(voters); ok || err != nil {
			t.Errorf("a server that has granted a cluster proposes one: %v, %v", ok, err)
		}
		if err := f.RecordCluster(other.ClusterID); structs.CodeOf(err) != structs.CodeConflict {
			t.Errorf("the server joins another cluster than it has granted: %v", err)
		}
		if f.waitReason() == "" || f.Proposed() != "" {
			t.Errorf("reason to wait %q, proposed cluster %q", f.waitReason(), f.Proposed())
		}
		f.restart(t, dir)
	}
	// Only the release of the granted cluster releases the grant.
	if err := f.Grant(structs.PeerGrant{ClusterID: other.ClusterID, Abandoned: true}); err != nil {
		t.Error(err)
	}
	if err := f.Grant(other); structs.CodeOf(err) != structs.CodeConflict {
		t.Errorf("after the release of another cluster: %v, want a conflict", err)
	}
	if err := f.Grant(structs.PeerGrant{ClusterID: first.ClusterID, Abandoned: true}); err != nil {
		t.Error(err)
	}
	f.restart(t, dir)
	if err := f.Grant(other); err != nil {
		t.Errorf("grant after the release: %v", err)
	}
	if err := f.RecordCluster(other.ClusterID); err != nil {
		t.Fatal(err)
	}
	f.restart(t, dir)
	if err := f.Grant(first); structs.CodeOf(err) != structs.CodeConflict || !strings.Contains(err.Error(), other.ClusterID) {
		t.Errorf("grant by a server that belongs to a cluster: %v", err)
	}
}

func TestProposalSurvivesRestart(t *testing.T) {
	f, dir := newServer(t, "192.0.2.1:9512")
	voters := []structs.PeerVoter{f.peer}
	if _, ok, err := f.propose(nil); ok || err != nil {
		t.Errorf("proposed a cluster without voters: %v", err)
	}
	g, ok, err := f.propose(voters)
	if !ok || err != nil {
		t.Fatal(ok, err)
	}
	f.restart(t, dir)
	if again, ok, err := f.propose(nil); !ok || err != nil || again.ClusterID != g.ClusterID || !slices.Equal(again.Voters, voters) {
		t.Errorf("after a restart propose returns %+v, %v, %v", again, ok, err)
	}
	if f.Proposed() != g.ClusterID {
		t.Errorf("proposed cluster %q, want %q", f.Proposed(), g.ClusterID)
	}
	// Other servers can't release the proposer's own grant.
	if err := f.Grant(structs.PeerGrant{ClusterID: g.ClusterID, Abandoned: true}); err != nil || f.Proposed() != g.ClusterID {
		t.Errorf("%v, proposed cluster %q, want %q", err, f.Proposed(), g.ClusterID)
	}
	if err := f.abandon(); err != nil {
		t.Fatal(err)
	}
	f.restart(t, dir)
	if f.Proposed() != "" || !slices.Contains(f.file.Now().Abandoned, g.ClusterID) {
		t.Errorf("after abandon: proposed cluster %q, abandoned %v", f.Proposed(), f.file.Now().Abandoned)
	}
	if next, ok, err := f.propose(voters); !ok || err != nil || next.ClusterID == g.ClusterID {
		t.Errorf("after abandon propose returns %+v, %v, %v", next, ok, err)
	}
}

// TestAtMostOneClusterIsMade simulates servers that see different sets of others and ask
// each other at random. Requests, answers and releases are lost, late releases are
// repeated, and servers restart. Each proposer asks a majority, so at most one cluster may
// be made.
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
		var late []structs.PeerGrant // releases that have not arrived yet
		var joins []func()           // joins of voters that the leader has not contacted yet
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
				if id := f.Proposed(); id != "" && !clusters[id] {
					if err := f.abandon(); err != nil {
						t.Fatal(err)
					}
					late = append(late, structs.PeerGrant{ClusterID: id, Abandoned: true})
				}
				continue
			case 2:
				if len(late) > 0 {
					_ = f.Grant(late[random.IntN(len(late))]) // any answer is fine
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
				if random.IntN(4) == 0 { // the request is lost
					all = false
					continue
				}
				if at[v.ID].Grant(g) != nil || random.IntN(6) == 0 { // the answer is a refusal, or is lost
					all = false
				}
			}
			if all {
				clusters[g.ClusterID] = true
				if err := f.RecordCluster(g.ClusterID); err != nil {
					t.Fatalf("seed %d: the proposer can't join its own cluster: %v", seed, err)
				}
				for _, v := range g.Voters {
					joins = append(joins, func() {
						if err := at[v.ID].RecordCluster(g.ClusterID); err != nil {
							t.Errorf("seed %d: a voter refuses the cluster that it has granted: %v", seed, err)
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
		t.Error("no round has made a cluster, so the test has checked nothing")
	}
}
