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

// Config configures a Bootstrap. All fields but Expect are required.
type Config struct {
	Grants   *Grants
	Verifier Verifier
	Log      raftLog
	Gossip   interface {
		Changed() <-chan struct{}
		Servers() []gossip.Member
	}
	Expect int // number of servers of a new cluster; below 2 another server adds this one to its cluster
	Logger hclog.Logger
}

// Bootstrap makes a cluster of a server that has none, or waits until the server is added
// to one.
type Bootstrap struct {
	conf Config
	log  hclog.Logger
}

// New returns a Bootstrap. The caller calls Run.
func New(c Config) *Bootstrap { return &Bootstrap{conf: c, log: c.Logger} }

const (
	retryInterval = 300 * time.Millisecond // minimum time between two attempts, plus jitter
	grantTimeout  = 10 * time.Second       // without all answers a proposed cluster is abandoned after that
)

// Fresh reports whether a server belongs to no cluster yet.
func Fresh(l raftLog) bool {
	peers, err := l.Peers()
	return err == nil && len(peers) == 0 && l.ClusterID() == ""
}

// Run makes a cluster, or waits until this server is added to one. It returns when this
// server belongs to a cluster, or when ctx ends.
func (b *Bootstrap) Run(ctx context.Context) error {
	began := time.Time{} // when this process first proposed the current cluster; zero if there is none
	lastReason := ""
	for ctx.Err() == nil {
		changed := b.conf.Gossip.Changed()
		if !Fresh(b.conf.Log) {
			return nil
		}
		voters, reason := b.voters()
		reason = cmp.Or(b.conf.Grants.waitReason(), reason)
		if reason != lastReason && reason != "" {
			b.log.Info("waiting for a cluster", "reason", reason)
		}
		lastReason = reason
		g, ok, err := b.conf.Grants.propose(voters)
		if err != nil {
			return fmt.Errorf("bootstrap: %w", err)
		}
		if ok {
			if began.IsZero() {
				began = time.Now()
			}
			made, err := b.attempt(ctx, g, began)
			if made || err != nil {
				return err
			}
			if b.conf.Grants.Proposed() == "" {
				began = time.Time{}
			}
		}
		select {
		case <-changed:
		case <-time.After(retryInterval + rand.N(retryInterval)):
		case <-ctx.Done():
		}
	}
	return nil
}

// voters returns the voters of a new cluster if this server is to propose it, which is the
// one with the lowest ID. Otherwise it returns the reason to wait.
func (b *Bootstrap) voters() (voters []structs.PeerVoter, reason string) {
	if b.conf.Expect < 2 {
		return nil, "another server has to add this one to its cluster: -join it, or set -bootstrap-expect"
	}
	for _, m := range b.conf.Gossip.Servers() {
		switch {
		case m.State != gossip.StateAlive:
			continue
		case !m.Fresh || m.ClusterID != "":
			return nil, fmt.Sprintf("server %s belongs to a cluster, which will add this one", m.Name)
		case m.Expect != b.conf.Expect:
			if m.Expect != 0 {
				b.log.Warn("a server expects another number of servers: give all the same -bootstrap-expect",
					"name", m.Name, "expect", m.Expect)
			}
			continue
		}
		voters = append(voters, structs.PeerVoter{ID: m.ID, RaftAddr: m.RaftAddr})
	}
	if len(voters) < b.conf.Expect {
		return nil, fmt.Sprintf("%d of %d servers found", len(voters), b.conf.Expect)
	}
	slices.SortFunc(voters, func(a, b structs.PeerVoter) int { return strings.Compare(a.ID, b.ID) })
	if voters[0].ID != b.conf.Log.Self().ID {
		return nil, fmt.Sprintf("server %s bootstraps the cluster", voters[0].ID)
	}
	return voters[:b.conf.Expect], ""
}

// attempt asks all voters for their grants and bootstraps the cluster if all have given
// it. It abandons the cluster if a voter refuses, or does not answer within grantTimeout
// after began.
func (b *Bootstrap) attempt(ctx context.Context, g structs.PeerGrant, began time.Time) (made bool, err error) {
	for _, id := range b.conf.Grants.file.Now().Abandoned {
		// The next attempt tells a voter that did not answer.
		_ = b.askAll(ctx, structs.PeerGrant{ClusterID: id, Voters: g.Voters, Abandoned: true})
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
		b.log.Info("bootstrapping a cluster", "cluster_id", g.ClusterID, "servers", len(peers))
		b.conf.Log.SetProposed(g.ClusterID)
		if err := b.conf.Log.Bootstrap(peers...); err != nil {
			return false, err
		}
		return true, b.conf.Log.Join(g.ClusterID)
	case structs.CodeOf(err) != structs.CodeNoLeader || time.Since(began) > grantTimeout:
		b.log.Warn("a proposed cluster is abandoned, trying again with another", "cluster_id", g.ClusterID, "error", err)
		if err := b.conf.Grants.abandon(); err != nil {
			return false, fmt.Errorf("bootstrap: %w", err)
		}
		_ = b.askAll(ctx, structs.PeerGrant{ClusterID: g.ClusterID, Voters: g.Voters, Abandoned: true}) // later attempts repeat it
	}
	return false, nil
}

// askAll sends a grant or its release to all voters but this server, concurrently, and
// returns the first error. Before a grant each voter is verified.
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
