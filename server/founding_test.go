package server

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/server/raftlog"
	"github.com/stackforge/magnum/structs"
)

// founder is a founding in a directory of its own, which may be restarted.
type founder struct {
	*founding
	peer structs.PeerVoter
}

func (f *founder) restart(t testing.TB, dir string) {
	t.Helper()
	opened, err := openFounding(&dataDir{path: dir}, 3, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	opened.self = func() raftlog.Peer { return raftlog.Peer{ID: f.peer.ID, Addr: f.peer.RaftAddr} }
	f.founding = opened
}

func newFounder(t testing.TB, addr string) (*founder, string) {
	t.Helper()
	f, dir := &founder{peer: structs.PeerVoter{ID: structs.NewID(), RaftAddr: addr}}, t.TempDir()
	f.restart(t, dir)
	return f, dir
}

func TestPartIsGivenOnceAndKept(t *testing.T) {
	f, dir := newFounder(t, "192.0.2.1:9512")
	voters := []structs.PeerVoter{f.peer, {ID: structs.NewID(), RaftAddr: "192.0.2.2:9512"}}
	first := structs.PeerGrant{ClusterID: structs.NewID(), Voters: voters}
	other := structs.PeerGrant{ClusterID: structs.NewID(), Voters: voters}
	for name, g := range map[string]structs.PeerGrant{
		"cluster_id": {ClusterID: "x", Voters: voters},
		"voters":     {ClusterID: structs.NewID(), Voters: voters[1:]},
		"192.0.2.1":  {ClusterID: structs.NewID(), Voters: []structs.PeerVoter{{ID: f.peer.ID, RaftAddr: "192.0.2.9:9512"}}},
	} {
		if err := f.grant(g); structs.CodeOf(err) != structs.CodeInvalid || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for range 2 {
		for range 2 { // the answer may have been lost
			if err := f.grant(first); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.grant(other); structs.CodeOf(err) != structs.CodeConflict || !strings.Contains(err.Error(), first.ClusterID) {
			t.Errorf("a second cluster: %v", err)
		}
		if _, ok, err := f.ask(voters); ok || err != nil {
			t.Errorf("a server whose part is given asks for a cluster itself: %v, %v", ok, err)
		}
		if err := f.keep(other.ClusterID); structs.CodeOf(err) != structs.CodeConflict {
			t.Errorf("it joins another than its part is given to: %v", err)
		}
		if f.waits() == "" || f.begun() != "" {
			t.Errorf("waits %q, begun %q", f.waits(), f.begun())
		}
		f.restart(t, dir)
	}
	// Only the cluster that has it can give it back.
	if err := f.grant(structs.PeerGrant{ClusterID: other.ClusterID, Abandoned: true}); err != nil {
		t.Error(err)
	}
	if err := f.grant(other); structs.CodeOf(err) != structs.CodeConflict {
		t.Errorf("another cluster's end has freed the part: %v", err)
	}
	if err := f.grant(structs.PeerGrant{ClusterID: first.ClusterID, Abandoned: true}); err != nil {
		t.Error(err)
	}
	f.restart(t, dir)
	if err := f.grant(other); err != nil {
		t.Errorf("the part is free, and not given: %v", err)
	}
	if err := f.keep(other.ClusterID); err != nil {
		t.Fatal(err)
	}
	f.restart(t, dir)
	if err := f.grant(first); structs.CodeOf(err) != structs.CodeConflict || !strings.Contains(err.Error(), other.ClusterID) {
		t.Errorf("a server of a cluster: %v", err)
	}
}

func TestAskingGoesOnAfterARestart(t *testing.T) {
	f, dir := newFounder(t, "192.0.2.1:9512")
	voters := []structs.PeerVoter{f.peer}
	if _, ok, err := f.ask(nil); ok || err != nil {
		t.Errorf("it asks though it sees nobody: %v", err)
	}
	g, ok, err := f.ask(voters)
	if !ok || err != nil {
		t.Fatal(ok, err)
	}
	f.restart(t, dir)
	if again, ok, err := f.ask(nil); !ok || err != nil || again.ClusterID != g.ClusterID || !slices.Equal(again.Voters, voters) {
		t.Errorf("after a restart it asks for %+v, %v, %v", again, ok, err)
	}
	if f.begun() != g.ClusterID {
		t.Errorf("begun is %q", f.begun())
	}
	// Nobody else can free the part of the one that makes the cluster.
	if err := f.grant(structs.PeerGrant{ClusterID: g.ClusterID, Abandoned: true}); err != nil || f.begun() != g.ClusterID {
		t.Errorf("%v, begun %q", err, f.begun())
	}
	if err := f.giveUp(); err != nil {
		t.Fatal(err)
	}
	f.restart(t, dir)
	if f.begun() != "" || !slices.Contains(f.givenUp(), g.ClusterID) {
		t.Errorf("given up: begun %q, told of %v", f.begun(), f.givenUp())
	}
	if next, ok, err := f.ask(voters); !ok || err != nil || next.ClusterID == g.ClusterID {
		t.Errorf("it asks for %+v, %v, %v", next, ok, err)
	}
}

func TestDamagedFoundingIsRefused(t *testing.T) {
	for file, content := range map[string]string{fileFounding: "{", fileClusterID: "not a UUID"} {
		dir := t.TempDir()
		path := filepath.Join(dir, file)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := openFounding(&dataDir{path: dir}, 3, hclog.NewNullLogger()); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", file, err)
		}
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
		const servers, voters = 5, 3
		founders, dirs := make([]*founder, servers), make([]string, servers)
		at := make(map[string]*founder)
		for i := range founders {
			founders[i], dirs[i] = newFounder(t, "192.0.2."+string(rune('1'+i))+":9512")
			at[founders[i].peer.ID] = founders[i]
		}
		clusters := make(map[string]bool)
		var late []structs.PeerGrant // withdrawals that are under way
		var joins []func()           // of voters whose leader has not called yet
		for range 200 {
			i := random.IntN(servers)
			f := founders[i]
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
				if id := f.begun(); id != "" && !clusters[id] {
					if err := f.giveUp(); err != nil {
						t.Fatal(err)
					}
					late = append(late, structs.PeerGrant{ClusterID: id, Abandoned: true})
				}
				continue
			case 2:
				if len(late) > 0 {
					_ = f.grant(late[random.IntN(len(late))]) // whatever it says
				}
				continue
			}
			sees := []structs.PeerVoter{f.peer}
			for _, n := range random.Perm(servers) {
				if n != i && len(sees) < voters {
					sees = append(sees, founders[n].peer)
				}
			}
			g, ok, err := f.ask(sees)
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
				if at[v.ID].grant(g) != nil || random.IntN(6) == 0 { // or the answer
					all = false
				}
			}
			if all {
				clusters[g.ClusterID] = true
				if err := f.keep(g.ClusterID); err != nil {
					t.Fatalf("seed %d: the maker can't join its own cluster: %v", seed, err)
				}
				for _, v := range g.Voters {
					joins = append(joins, func() {
						if err := at[v.ID].keep(g.ClusterID); err != nil {
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
