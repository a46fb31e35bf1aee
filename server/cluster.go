package server

import (
	"context"
	"path/filepath"
	"slices"
	"time"

	"github.com/stackforge/magnum/internal/gossip"
	"github.com/stackforge/magnum/server/bootstrap"
	"github.com/stackforge/magnum/server/dispatch"
	"github.com/stackforge/magnum/server/raftlog"
	"github.com/stackforge/magnum/structs"
)

// openGossip opens the gossip port.
func (s *Server) openGossip() (err error) {
	s.gossip, err = gossip.New(gossip.Config{
		Node: s.node(), Bind: s.config.Bind, Port: s.config.GossipPort, Advertise: s.config.Advertise, Cluster: s.config.Cluster, Key: s.gossipKey,
		Join: s.config.Join, KnownFile: filepath.Join(s.config.DataDir, "known-servers"), Logger: s.config.Logger,
	})
	return err
}

// node is what this server tells of itself.
func (s *Server) node() gossip.Node {
	n := gossip.Node{
		ID: s.id, Name: s.config.Name, Role: gossip.RoleServer, ClusterID: s.raft.ClusterID(), HTTPAddr: s.URL(), RaftAddr: s.raft.Self().Addr,
		Fresh: bootstrap.Fresh(s.raft), Schema: structs.SchemaVersion, Version: s.config.Version,
	}
	if n.Fresh {
		n.Expect = s.config.BootstrapExpect
	}
	return n
}

// clusterParts are the parts of Run that only a server with others beside it
// has.
func (s *Server) clusterParts() map[string]func(context.Context) error {
	if s.config.Solo {
		return nil
	}
	join := bootstrap.New(bootstrap.Config{
		Grants: s.grants, Verifier: s.verifier(), Log: s.raft, Gossip: s.gossip, Expect: s.config.BootstrapExpect, Logger: s.log,
	})
	return map[string]func(context.Context) error{
		"gossip":    s.gossip.Run,
		"bootstrap": join.Run,
		"announce":  s.announce,
		"relay":     func(ctx context.Context) error { return s.relay.Run(ctx, s.dispatch) },
	}
}

// announceTick is how often it is looked whether this server has become another.
const announceTick = 500 * time.Millisecond

// announceRepeat is after how many ticks news are told once more, twice: each is a few
// datagrams, which may be lost, and the next full exchange is half a minute away.
const announceRepeat = 4

// tell tells the others when this server has joined a cluster.
func (s *Server) announce(ctx context.Context) error {
	tick := time.NewTicker(announceTick)
	defer tick.Stop()
	told, again := gossip.Node{}, 0
	for {
		now := s.node()
		if now != told {
			again = 2*announceRepeat + 1
		}
		if now != told || again == announceRepeat || again == 1 {
			if err := s.gossip.Update(func(n *gossip.Node) { *n = now }); err != nil {
				return err
			}
			told = now
		}
		again = max(0, again-1)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// newRelay returns what exchanges with other servers what each knows of hosts.
func (s *Server) newRelay() *dispatch.Relay {
	return dispatch.NewRelay(dispatch.RelayConfig{
		ServerID: s.id, Peers: s.peers, Cluster: s.raft, Voters: s.servers.voters, Others: func() []string { return ids(s.servers.others()) }, Agents: s.servers.agents,
		Removed: func() bool { return slices.Contains(s.servers.removed(), s.id) }, HostLostAfter: s.config.HostLostAfter, DataDir: s.config.DataDir, Logger: s.log,
	})
}

func ids(members []gossip.Member) (ids []string) {
	for _, m := range members {
		ids = append(ids, m.ID)
	}
	return ids
}

// membershipConfig is what the leader decides about servers from.
func (s *Server) membershipConfig() raftlog.MembershipConfig {
	return raftlog.MembershipConfig{
		Candidates: s.servers.candidates,
		Verify:     func(ctx context.Context, c raftlog.Candidate) error { return s.verifier().Verify(ctx, c.ID, c.Addr) },
		MinVoters:  max(3, s.config.BootstrapExpect),
		Removed:    s.gossip.Forget,
		Progress:   s.peers.Progress,
	}
}
