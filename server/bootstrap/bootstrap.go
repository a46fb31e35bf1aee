package bootstrap

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"

	"github.com/stackforge/magnum/internal/gossip"
	"github.com/stackforge/magnum/server/raftlog"
	"github.com/stackforge/magnum/structs"
)

// Config says what a server makes a cluster of.
type Config struct {
	Grants   *Grants
	Verifier Verifier
	Log      log
	Gossip   interface {
		Changed() <-chan struct{}
		Servers() []gossip.Member
	}
	Expect int // servers that make up a new cluster; less than 2: another server takes this one in
	Logger hclog.Logger
}

// Bootstrap has a server without a cluster make one, or wait for one.
type Bootstrap struct {
	conf Config
	log  hclog.Logger
}

// New returns a Bootstrap; Run must follow.
func New(c Config) *Bootstrap { return &Bootstrap{conf: c, log: c.Logger} }

const (
	lookTick = 300 * time.Millisecond // between two looks at who is there
	patience = 10 * time.Second       // with servers that do not answer, before a cluster is abandoned
)

// Fresh reports whether a server belongs to no cluster yet.
func Fresh(l log) bool {
	peers, err := l.Peers()
	return err == nil && len(peers) == 0 && l.ClusterID() == ""
}

// Run makes a cluster, or waits to be taken into one; it returns once this server
// belongs to one, or when ctx ends.
func (b *Bootstrap) Run(ctx context.Context) error {
	began := time.Time{} // when the cluster that is being made was first proposed
	said := ""
	for ctx.Err() == nil {
		changed := b.conf.Gossip.Changed()
		if !Fresh(b.conf.Log) {
			return nil
		}
		voters, why := b.voters()
		why = cmp.Or(b.conf.Grants.waits(), why)
		if why != said && why != "" {
			b.log.Info("waiting for a cluster", "reason", why)
		}
		said = why
		g, ok, err := b.conf.Grants.propose(voters)
		if err != nil {
			return fmt.Errorf("bootstrap: %w", err)
		}
		if ok {
			if began.IsZero() {
				began = time.Now()
			}
			made, err := b.make(ctx, g, began)
			if made || err != nil {
				return err
			}
			if b.conf.Grants.Begun() == "" {
				began = time.Time{}
			}
		}
		select {
		case <-changed:
		case <-time.After(lookTick + rand.N(lookTick)):
		case <-ctx.Done():
		}
	}
	return nil
}

// voters returns the servers that a new cluster is to be made of if it is this one
// that shall make it: the one with the lowest id.
func (b *Bootstrap) voters() (voters []structs.PeerVoter, why string) {
	if b.conf.Expect < 2 {
		return nil, "another server has to take this one in: -join it, or say -bootstrap-expect"
	}
	for _, m := range b.conf.Gossip.Servers() {
		switch {
		case m.State != gossip.StateAlive:
			continue
		case !m.Fresh || m.ClusterID != "":
			return nil, fmt.Sprintf("server %s belongs to a cluster, which will take this one in", m.Name)
		case m.Expect != b.conf.Expect:
			if m.Expect != 0 {
				b.log.Warn("a server expects another number of servers: give all the same -bootstrap-expect", "name", m.Name, "expect", m.Expect)
			}
			continue
		}
		voters = append(voters, structs.PeerVoter{ID: m.ID, RaftAddr: m.RaftAddr})
	}
	if len(voters) < b.conf.Expect {
		return nil, fmt.Sprintf("%d of %d servers are there", len(voters), b.conf.Expect)
	}
	slices.SortFunc(voters, func(a, b structs.PeerVoter) int { return strings.Compare(a.ID, b.ID) })
	if voters[0].ID != b.conf.Log.Self().ID {
		return nil, fmt.Sprintf("server %s makes the cluster", voters[0].ID)
	}
	return voters[:b.conf.Expect], ""
}

// make asks all voters for their grants and makes the cluster if all have given it.
// It abandons the cluster if one refuses, or does not answer for too long.
func (b *Bootstrap) make(ctx context.Context, g structs.PeerGrant, began time.Time) (made bool, err error) {
	for _, id := range b.conf.Grants.file.Now().Abandoned {
		_ = b.askAll(ctx, structs.PeerGrant{ClusterID: id, Voters: g.Voters, Abandoned: true}) // who hasn't heard is told the next time
	}
	err = b.askAll(ctx, g)
	switch {
	case ctx.Err() != nil:
		return false, nil
	case err == nil:
		peers := make([]raftlog.Peer, 0, len(g.Voters))
		for _, v := range g.Voters {
			peers = append(peers, raftlog.Peer{ID: v.ID, Addr: v.RaftAddr, Voter: true})
		}
		b.log.Info("making a cluster", "cluster_id", g.ClusterID, "servers", len(peers))
		b.conf.Log.SpeakFor(g.ClusterID)
		if err := b.conf.Log.Bootstrap(peers...); err != nil {
			return false, err
		}
		return true, b.conf.Log.Join(g.ClusterID)
	case structs.CodeOf(err) != structs.CodeNoLeader || time.Since(began) > patience:
		b.log.Warn("a new cluster is given up; another try will be made", "cluster_id", g.ClusterID, "error", err)
		if err := b.conf.Grants.abandon(); err != nil {
			return false, fmt.Errorf("bootstrap: %w", err)
		}
		_ = b.askAll(ctx, structs.PeerGrant{ClusterID: g.ClusterID, Voters: g.Voters, Abandoned: true}) // likewise
	}
	return false, nil
}

// askAll asks all voters but this one, at once.
func (b *Bootstrap) askAll(ctx context.Context, g structs.PeerGrant) error {
	var asking errgroup.Group
	for _, v := range g.Voters {
		if v.ID == b.conf.Log.Self().ID {
			continue
		}
		asking.Go(func() error {
			if !g.Abandoned {
				if err := b.conf.Verifier.Verify(ctx, v.ID, v.RaftAddr); err != nil {
					return err
				}
			}
			return b.conf.Verifier.Peers.Grant(ctx, v.ID, b.conf.Verifier.Proofs.Grant(), g)
		})
	}
	return asking.Wait()
}
