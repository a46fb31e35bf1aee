package server

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
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
		"telling":   s.tell,
		"relay":     func(ctx context.Context) error { return s.relay.Run(ctx, s.dispatch) },
	}
}

// urlsOf returns where a server's REST API may be, the likeliest first. One that
// seems to be dead is still called where it was: gossip may be wrong.
func (s *Server) urlsOf(id string) []string {
	var urls []string
	for _, m := range s.instances(id) {
		if !slices.Contains(urls, m.HTTPAddr) {
			urls = append(urls, m.HTTPAddr)
		}
	}
	return urls
}

// known returns a server as gossip has it; the zero Member if it has not.
func (s *Server) known(id string) gossip.Member {
	if all := s.instances(id); len(all) > 0 {
		return all[0]
	}
	return gossip.Member{}
}

// instances returns what passes for a server in gossip, which proves nothing:
// first what has shown the certificate of a server where it says that it is, then
// what is where Raft's configuration has that server. With TLS an instance without
// an https address is none.
func (s *Server) instances(id string) []gossip.Member {
	if s.gossip == nil {
		return nil
	}
	all := slices.DeleteFunc(s.gossip.Instances(id), func(m gossip.Member) bool { return m.Role != gossip.RoleServer || !s.callable(m) })
	if len(all) < 2 {
		return all
	}
	proven, raftAddr := s.peers.VerifiedURL(id), ""
	peers, _ := s.raft.Peers() // none while it shuts down
	for _, p := range peers {
		if p.ID == id {
			raftAddr = p.Addr
		}
	}
	trust := func(m gossip.Member) (n int) {
		if m.HTTPAddr == proven {
			n += 2
		}
		if m.RaftAddr == raftAddr {
			n++
		}
		return n
	}
	slices.SortStableFunc(all, func(a, b gossip.Member) int { return trust(b) - trust(a) })
	return all
}

// callable reports whether a member has an address that this server calls.
func (s *Server) callable(m gossip.Member) bool { return strings.HasPrefix(m.HTTPAddr, s.scheme()) }

// removed returns the servers that operators have taken out of the cluster.
func (s *Server) removed() []string {
	if c := s.store.Snapshot().Cluster(); c != nil {
		return c.Removed
	}
	return nil
}

// serverURLs returns the REST addresses that agents are told: of all servers of
// the cluster that are alive.
func (s *Server) serverURLs() []string {
	if s.gossip == nil {
		return []string{s.URL()}
	}
	urls := []string{s.URL()}
	removed := s.removed()
	for _, m := range s.others() {
		if m.ClusterID != "" && !slices.Contains(removed, m.ID) {
			urls = append(urls, m.HTTPAddr)
		}
	}
	return urls
}

// others returns the other servers of Raft's configuration that are alive: whoever
// gossips may call itself a server.
func (s *Server) others() []gossip.Member {
	var others []gossip.Member
	peers, _ := s.raft.Peers() // none while it shuts down
	for _, p := range peers {
		if m := s.known(p.ID); p.ID != s.id && m.State == gossip.StateAlive {
			others = append(others, m)
		}
	}
	return others
}

// tellTick is how often it is looked whether this server has become another.
const tellTick = 500 * time.Millisecond

// tellAgain is after how many ticks news are told once more, twice: each is a few
// datagrams, which may be lost, and the next full exchange is half a minute away.
const tellAgain = 4

// tell tells the others when this server has joined a cluster.
func (s *Server) tell(ctx context.Context) error {
	tick := time.NewTicker(tellTick)
	defer tick.Stop()
	told, again := gossip.Node{}, 0
	for {
		now := s.node()
		if now != told {
			again = 2*tellAgain + 1
		}
		if now != told || again == tellAgain || again == 1 {
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
		ServerID: s.id, Peers: s.peers, Cluster: s.raft, Voters: s.voters, Others: func() []string { return ids(s.others()) }, Agents: s.agents,
		Removed: func() bool { return slices.Contains(s.removed(), s.id) }, HostLostAfter: s.config.HostLostAfter, DataDir: s.config.DataDir, Logger: s.log,
	})
}

// voters returns the servers that vote.
func (s *Server) voters() (voters []string, err error) {
	peers, err := s.raft.Peers()
	for _, p := range peers {
		if p.Voter {
			voters = append(voters, p.ID)
		}
	}
	return voters, err
}

// agents returns whether the agent of each host that gossips seems to be dead.
func (s *Server) agents() (dead map[string]bool, changed <-chan struct{}) {
	changed, dead = s.gossip.Changed(), make(map[string]bool)
	for _, m := range s.gossip.Members() {
		if m.Role == gossip.RoleAgent {
			dead[m.ID] = m.State == gossip.StateDead
		}
	}
	return dead, changed
}

func ids(members []gossip.Member) (ids []string) {
	for _, m := range members {
		ids = append(ids, m.ID)
	}
	return ids
}

// steward is what the leader decides about servers from.
func (s *Server) steward() raftlog.Steward {
	return raftlog.Steward{
		Known:    s.candidates,
		Vouch:    func(ctx context.Context, c raftlog.Candidate) error { return s.verifier().Verify(ctx, c.ID, c.Addr) },
		Least:    max(3, s.config.BootstrapExpect),
		Removed:  s.gossip.Forget,
		Progress: s.peers.Progress,
	}
}

// candidates returns the servers that are to belong to the cluster: all that
// belong to it or to none, understand its entries, and were not taken out by an
// operator. One that was is shown no longer once it has stopped. Gossip may have
// several of one id, of which the one that was started last comes first.
func (s *Server) candidates() []raftlog.Candidate {
	var known []raftlog.Candidate
	inUse, removed := s.store.Snapshot().Cluster().SchemaInUse(), s.removed()
	for _, m := range s.gossip.Servers() {
		if slices.Contains(removed, m.ID) {
			s.gossip.Forget(m.ID)
			continue
		}
		for _, m := range s.gossip.Instances(m.ID) {
			if m.Role != gossip.RoleServer || m.ClusterID != "" && m.ClusterID != s.raft.ClusterID() || !s.callable(m) {
				continue
			}
			if m.Schema < inUse {
				if _, said := s.outdated.LoadOrStore(m.ID, true); !said {
					s.log.Error("a server is not taken in: it is of an older version than the cluster's entries", "name", m.Name, "server_id", m.ID, "schema", m.Schema, "schema_in_use", inUse)
				}
				continue
			}
			known = append(known, raftlog.Candidate{
				Peer: raftlog.Peer{ID: m.ID, Addr: m.RaftAddr, Voter: true}, Name: m.Name,
				Failed: m.State != gossip.StateAlive && time.Since(m.Since) > s.config.deadAfter,
			})
		}
	}
	return known
}
