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
)

// openGossip opens the gossip port.
func (s *Server) openGossip() (err error) {
	s.gossip, err = gossip.New(gossip.Config{
		Node: s.node(), Bind: s.config.Bind, Port: s.config.GossipPort, Advertise: s.config.Advertise, Cluster: s.config.Cluster,
		Key:  s.gossipKey,
		Join: s.config.Join, KnownFile: filepath.Join(s.config.DataDir, "known-servers"), Logger: s.config.Logger,
	})
	return err
}

// node returns what this server announces about itself.
func (s *Server) node() gossip.Node {
	n := gossip.Node{
		ID: s.id, Name: s.config.Name, Role: gossip.RoleServer, ClusterID: s.raft.ClusterID(), HTTPAddr: s.URL(),
		RaftAddr: s.raft.Self().Addr,
		Fresh:    bootstrap.Fresh(s.raft), Schema: s.config.schema, Version: s.config.Version,
	}
	if n.Fresh {
		n.Expect = s.config.BootstrapExpect
	}
	return n
}

// clusterParts returns the parts of Run that only a server with peers has.
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

// announceTick is how often the server checks whether its node has changed.
const announceTick = 500 * time.Millisecond

// announceRepeat is the number of ticks between repeats. Gossip is lossy UDP and the
// next full exchange is half a minute away, so each change is announced three times.
const announceRepeat = 4

// announce sends this server's node to the other members whenever the node has changed,
// as when the server has joined a cluster.
func (s *Server) announce(ctx context.Context) error {
	tick := time.NewTicker(announceTick)
	defer tick.Stop()
	announced, repeats := gossip.Node{}, 0
	for {
		now := s.node()
		if now != announced {
			repeats = 2*announceRepeat + 1
		}
		if now != announced || repeats == announceRepeat || repeats == 1 {
			if err := s.gossip.Update(func(n *gossip.Node) { *n = now }); err != nil {
				return err
			}
			announced = now
		}
		repeats = max(0, repeats-1)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// newRelay returns the relay that exchanges news of hosts with other servers.
func (s *Server) newRelay() *dispatch.Relay {
	return dispatch.NewRelay(dispatch.RelayConfig{
		ServerID: s.id, Peers: s.peers, Cluster: s.raft, Voters: s.servers.voters,
		Others: func() []string { return ids(s.servers.others()) }, Agents: s.servers.agents,
		Removed:       func() bool { return slices.Contains(s.servers.removed(), s.id) },
		HostLostAfter: s.config.HostLostAfter, DataDir: s.config.DataDir, Logger: s.log,
	})
}

func ids(members []gossip.Member) (ids []string) {
	for _, m := range members {
		ids = append(ids, m.ID)
	}
	return ids
}

// membershipConfig returns what the membership loop bases its decisions on.
func (s *Server) membershipConfig() raftlog.MembershipConfig {
	return raftlog.MembershipConfig{
		Candidates: s.servers.candidates,
		Verify:     func(ctx context.Context, c raftlog.Candidate) error { return s.verifier().Verify(ctx, c.ID, c.Addr) },
		MinVoters:  max(3, s.config.BootstrapExpect),
		Removed:    s.gossip.Forget,
		Progress:   s.peers.Progress,
	}
}
