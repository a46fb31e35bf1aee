package server

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"

	"github.com/stackforge/magnum/atomicfile"
	"github.com/stackforge/magnum/gossip"
	"github.com/stackforge/magnum/server/raftlog"
	"github.com/stackforge/magnum/structs"
)

// founding makes one cluster out of servers that have none yet, however their
// views of each other differ. A server that sees enough others asks all of them
// for their part in a cluster with an id that it has minted. Each gives it to
// one cluster at a time and keeps that on disk before it answers; the asker
// makes the cluster only once it has the parts of all its voters. So two
// clusters would need a server that has given its part to both.
//
// Only the asker can make its cluster. Once it has given it up, durably, it
// tells the others that their parts are free.
type founding struct {
	dir    *dataDir
	self   func() raftlog.Peer
	expect int
	log    hclog.Logger

	mu        sync.Mutex
	clusterID string // that this server belongs to, "" while it is none's
	state     foundingState
}

// foundingState is what is on disk.
type foundingState struct {
	// Given is the cluster that this server has given its part to; nil if none.
	Given *structs.PeerGrant `json:"given,omitempty"`
	// Asks is set if it is this server that makes it.
	Asks bool `json:"asks,omitempty"`
	// GivenUp are the ids of clusters that this server will never make.
	GivenUp []string `json:"given_up,omitempty"`
}

// The files of a founding.
const (
	fileClusterID = "cluster-id"
	fileFounding  = "founding"
)

// maxGivenUp is how many of the clusters given up are told of.
const maxGivenUp = 16

// openFounding reads what is on disk.
func openFounding(dir *dataDir, expect int, log hclog.Logger) (*founding, error) {
	f := &founding{dir: dir, expect: expect, log: log}
	b, err := os.ReadFile(filepath.Join(dir.path, fileClusterID))
	if err == nil {
		if f.clusterID = strings.TrimSpace(string(b)); !structs.IsID(f.clusterID) {
			return nil, fmt.Errorf("%s does not hold a UUID: restore it from a backup", filepath.Join(dir.path, fileClusterID))
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	path := filepath.Join(dir.path, fileFounding)
	b, err = os.ReadFile(path)
	if err == nil {
		if err := json.Unmarshal(b, &f.state); err != nil {
			return nil, fmt.Errorf("%s can't be read: %w: remove it if no cluster is being made of this server", path, err)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return f, nil
}

// save writes the state. The caller holds mu.
func (f *founding) save(next foundingState) error {
	b, err := json.Marshal(next)
	if err != nil {
		return err
	}
	if err := atomicfile.Replace(filepath.Join(f.dir.path, fileFounding), b); err != nil {
		return err
	}
	f.state = next
	return nil
}

// keep notes the cluster that this server belongs to from now on; raftlog calls
// it. CodeConflict if it has given its part to another one.
func (f *founding) keep(clusterID string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.clusterID == clusterID {
		return nil
	}
	if g := f.state.Given; g != nil && g.ClusterID != clusterID {
		return structs.Errorf(structs.CodeConflict, "this server has given its part to cluster %s, which is being made, not to %s", g.ClusterID, clusterID)
	}
	if err := atomicfile.Replace(filepath.Join(f.dir.path, fileClusterID), []byte(clusterID+"\n")); err != nil {
		return err
	}
	f.clusterID = clusterID
	f.log.Info("this server belongs to a cluster", "cluster_id", clusterID)
	return nil
}

// begun returns the cluster that this server has made, though it was stopped
// before it could note that it belongs to it; "" if there is none.
func (f *founding) begun() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.clusterID == "" && f.state.Asks && f.state.Given != nil {
		return f.state.Given.ClusterID
	}
	return ""
}

// given returns the cluster that this server has given its part to, "" for none.
func (f *founding) given() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.state.Given == nil {
		return ""
	}
	return f.state.Given.ClusterID
}

// granted reports whether this server has given its part to the cluster.
func (f *founding) granted(clusterID string) bool { return clusterID != "" && f.given() == clusterID }

// grant gives this server's part to a cluster, or takes it back. Errors:
// CodeInvalid, CodeConflict for a part that is given.
func (f *founding) grant(g structs.PeerGrant) error {
	if !structs.IsID(g.ClusterID) {
		return structs.Errorf(structs.CodeInvalid, "cluster_id: Expected a uuid but received %.64s.", g.ClusterID)
	}
	self := f.self()
	f.mu.Lock()
	defer f.mu.Unlock()
	given := f.state.Given
	same := given != nil && given.ClusterID == g.ClusterID
	switch {
	case g.Abandoned && same && !f.state.Asks:
		f.log.Info("the part in a cluster is free again: its maker has given it up", "cluster_id", g.ClusterID)
		return f.save(foundingState{GivenUp: f.state.GivenUp})
	case g.Abandoned, f.clusterID == g.ClusterID && f.clusterID != "":
		return nil
	case f.clusterID != "":
		return structs.Errorf(structs.CodeConflict, "this server belongs to cluster %s", f.clusterID)
	case same:
		return nil
	case given != nil:
		return structs.Errorf(structs.CodeConflict, "this server has given its part to cluster %s, which is being made", given.ClusterID)
	case !slices.ContainsFunc(g.Voters, func(v structs.PeerVoter) bool { return v.ID == self.ID && v.RaftAddr == self.Addr }):
		return structs.Errorf(structs.CodeInvalid, "voters: this server, %s at %s, is not among them", self.ID, self.Addr)
	}
	f.log.Info("giving this server's part to a new cluster", "cluster_id", g.ClusterID, "servers", len(g.Voters))
	return f.save(foundingState{Given: &g, GivenUp: f.state.GivenUp})
}

// ask begins the making of a cluster of the voters, or goes on with the one that
// was begun. ok is false if this server's part is another's.
func (f *founding) ask(voters []structs.PeerVoter) (g structs.PeerGrant, ok bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.clusterID != "" || f.state.Given != nil && !f.state.Asks:
		return g, false, nil
	case f.state.Given != nil:
		return *f.state.Given, true, nil
	case len(voters) == 0:
		return g, false, nil
	}
	g = structs.PeerGrant{ClusterID: structs.NewID(), Voters: voters}
	err = f.save(foundingState{Given: &g, Asks: true, GivenUp: f.state.GivenUp})
	return g, err == nil, err
}

// giveUp notes that this server will never make the cluster that it has asked
// for.
func (f *founding) giveUp() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.state.Asks {
		return nil
	}
	up := append(slices.Clone(f.state.GivenUp), f.state.Given.ClusterID)
	return f.save(foundingState{GivenUp: up[max(0, len(up)-maxGivenUp):]})
}

// waits says which other server this one waits for to make the cluster, "" for
// none.
func (f *founding) waits() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.state.Given == nil || f.state.Asks {
		return ""
	}
	return fmt.Sprintf("another server is making cluster %s of this one; should that server be gone for good, stop this one and remove %s",
		f.state.Given.ClusterID, filepath.Join(f.dir.path, fileFounding))
}

func (f *founding) givenUp() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.state.GivenUp)
}

const (
	foundTick    = 300 * time.Millisecond // between two looks at who is there
	foundPatient = 10 * time.Second       // for servers that do not answer, before a cluster is given up
)

// found makes a cluster, or waits to be taken into one; it returns once this
// server belongs to one, or when ctx ends.
func (s *Server) found(ctx context.Context) error {
	began := time.Time{} // when the cluster that is being made was first asked for
	said := ""
	for ctx.Err() == nil {
		changed := s.gossip.Changed()
		if !s.fresh() {
			return nil
		}
		voters, why := s.founders()
		why = cmp.Or(s.founding.waits(), why)
		if why != said && why != "" {
			s.log.Info("waiting for a cluster", "reason", why)
		}
		said = why
		g, ok, err := s.founding.ask(voters)
		if err != nil {
			return fmt.Errorf("bootstrap: %w", err)
		}
		if ok {
			if began.IsZero() {
				began = time.Now()
			}
			made, err := s.make(ctx, g, began)
			if made || err != nil {
				return err
			}
			if s.founding.begun() == "" {
				began = time.Time{}
			}
		}
		select {
		case <-changed:
		case <-time.After(foundTick + rand.N(foundTick)):
		case <-ctx.Done():
		}
	}
	return nil
}

// founders returns the servers that a new cluster is to be made of if it is this
// one that shall make it: the one with the lowest id.
func (s *Server) founders() (voters []structs.PeerVoter, why string) {
	if s.BootstrapExpect < 2 {
		return nil, "another server has to take this one in: -join it, or say -bootstrap-expect"
	}
	for _, m := range s.gossip.Servers() {
		switch {
		case m.State != gossip.StateAlive:
			continue
		case !m.Fresh || m.ClusterID != "":
			return nil, fmt.Sprintf("server %s belongs to a cluster, which will take this one in", m.Name)
		case m.Expect != s.BootstrapExpect:
			if m.Expect != 0 {
				s.log.Warn("a server expects another number of servers: give all the same -bootstrap-expect", "name", m.Name, "expect", m.Expect)
			}
			continue
		}
		voters = append(voters, structs.PeerVoter{ID: m.ID, RaftAddr: m.RaftAddr})
	}
	if len(voters) < s.BootstrapExpect {
		return nil, fmt.Sprintf("%d of %d servers are there", len(voters), s.BootstrapExpect)
	}
	slices.SortFunc(voters, func(a, b structs.PeerVoter) int { return strings.Compare(a.ID, b.ID) })
	if voters[0].ID != s.id {
		return nil, fmt.Sprintf("server %s makes the cluster", voters[0].ID)
	}
	return voters[:s.BootstrapExpect], ""
}

// make asks all voters for their part and makes the cluster if all have given
// it. It gives the cluster up if one refuses, or does not answer for too long.
func (s *Server) make(ctx context.Context, g structs.PeerGrant, began time.Time) (made bool, err error) {
	for _, id := range s.founding.givenUp() {
		s.askAll(ctx, g.Voters, structs.PeerGrant{ClusterID: id, Voters: g.Voters, Abandoned: true})
	}
	err = s.askAll(ctx, g.Voters, g)
	switch {
	case ctx.Err() != nil:
		return false, nil
	case err == nil:
		peers := make([]raftlog.Peer, 0, len(g.Voters))
		for _, v := range g.Voters {
			peers = append(peers, raftlog.Peer{ID: v.ID, Addr: v.RaftAddr, Voter: true})
		}
		s.log.Info("making a cluster", "cluster_id", g.ClusterID, "servers", len(peers))
		s.raft.SpeakFor(g.ClusterID)
		if err := s.raft.Bootstrap(peers...); err != nil {
			return false, err
		}
		return true, s.raft.Join(g.ClusterID)
	case structs.CodeOf(err) != structs.CodeNoLeader || time.Since(began) > foundPatient:
		s.log.Warn("a new cluster is given up; another try will be made", "cluster_id", g.ClusterID, "error", err)
		if err := s.founding.giveUp(); err != nil {
			return false, fmt.Errorf("bootstrap: %w", err)
		}
		s.askAll(ctx, g.Voters, structs.PeerGrant{ClusterID: g.ClusterID, Voters: g.Voters, Abandoned: true})
	}
	return false, nil
}

// askAll asks all voters but this one, at once.
func (s *Server) askAll(ctx context.Context, voters []structs.PeerVoter, g structs.PeerGrant) error {
	var asking errgroup.Group
	for _, v := range voters {
		if v.ID == s.id {
			continue
		}
		asking.Go(func() error {
			if !g.Abandoned {
				if err := s.vouch(ctx, v.ID, v.RaftAddr); err != nil {
					return err
				}
			}
			return s.peers.Grant(ctx, v.ID, s.grantProof(), g)
		})
	}
	return asking.Wait()
}
