package server

import (
	"testing"

	"github.com/stackforge/magnum/internal/gossip"
	"github.com/stackforge/magnum/internal/tlsconf"
	"github.com/stackforge/magnum/internal/tlsconf/tlsconftest"
	"github.com/stackforge/magnum/server/servertest"
	"github.com/stackforge/magnum/server/servertest/history"
	"github.com/stackforge/magnum/structs"
)

// forge gossips as the node, by a member without the key.
func forge(t *testing.T, n gossip.Node, join string, files *tlsconf.Files) *servertest.Forger {
	n.Name = "forged"
	return servertest.Forge(t, n, gossip.Config{Join: []string{join}}, files)
}

// TestForgedGossipMembersAreIgnored: a gossip member that claims to be a server gets no
// requests, is not added, and doesn't replace a real server.
func TestForgedGossipMembersAreIgnored(t *testing.T) {
	for name, withTLS := range map[string]bool{"with TLS": true, "without TLS": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ca := tlsconftest.Authority(t)
			var agent *tlsconf.Files
			c := newThreeServers(t, func(c *Config) {
				if withTLS {
					f := tlsconftest.Server(t, ca, c.Name)
					c.TLSCA, c.TLSCert, c.TLSKey = f.CA, f.Cert, f.Key
				}
			})
			if withTLS {
				other := tlsconftest.Other(t, ca, "agent")
				agent = &other
			}
			leader := c.leader().running()
			id, join, raftAddr := leader.raft.ClusterID(), leader.gossip.Addr(), leader.raft.Self().Addr
			fresh := func(files *tlsconf.Files, raftAddr string) *servertest.Forger {
				return forge(t, gossip.Node{ID: structs.NewID(), Fresh: true, RaftAddr: raftAddr}, join, files)
			}
			forgers := []*servertest.Forger{fresh(agent, "127.0.0.1:9"), fresh(agent, raftAddr)} // one claims the leader's address
			barrier := forgers[1]
			if withTLS {
				forgers = append(forgers, fresh(nil, "127.0.0.1:9"), // and one claims to be the leader
					forge(t, gossip.Node{ID: leader.id, ClusterID: id, RaftAddr: raftAddr}, join, nil),
					forge(t, gossip.Node{ID: leader.id, ClusterID: id, RaftAddr: "127.0.0.1:9"}, join, agent))
			} else {
				// It redirects callers to a real server.
				forgers[0].Claim(structs.PeerIdentity{ID: leader.id, RaftAddr: "127.0.0.1:9", HTTPAddr: leader.URL()})
			}
			c.eventually("the leader has asked the forged servers twice and more", func() bool {
				return barrier.Dialled.Load() > 2 || barrier.Identity.Load() > 2
			})
			c.eventually("all servers know of the forged ones", func() bool {
				for _, m := range c.members {
					if n := len(m.running().gossip.Servers()); n < 5 || withTLS && len(m.running().gossip.Instances(leader.id)) < 3 {
						return false
					}
				}
				return true
			})
			for _, m := range c.members {
				srv := m.running()
				if !withTLS { // the tests' client has no TLS
					create(t, history.New(history.Nodes, 1), m, 1)
				}
				if withTLS && srv != leader {
					if _, err := srv.peers.ReadIndex(t.Context(), leader.id); err != nil {
						t.Errorf("%s does not reach the leader: %v", m.config.Name, err)
					}
					if got := srv.servers.known(leader.id).HTTPAddr; got != leader.URL() {
						t.Errorf("%s has the leader at %s, not %s", m.config.Name, got, leader.URL())
					}
				}
				peers, err := srv.raft.Peers()
				if err != nil || len(peers) != 3 {
					t.Errorf("%s has peers %v, %v", m.config.Name, peers, err)
				}
				for _, u := range srv.servers.serverURLs() {
					for _, f := range forgers {
						if u == f.URL {
							t.Errorf("%s tells agents of the forged %s", m.config.Name, u)
						}
					}
				}
			}
			for i, f := range forgers {
				if f.Leaked.Load() || withTLS && f.Asked.Load() > 0 {
					t.Errorf("forged server %d was sent %d requests, secrets %v", i, f.Asked.Load(), f.Leaked.Load())
				}
			}
		})
	}
}

// TestIdentityProofCoversNonceKeyAndAddresses: a proof is valid for one nonce, one key
// and one server.
func TestIdentityProofCoversNonceKeyAndAddresses(t *testing.T) {
	s := &Server{config: Config{Cluster: "c"}, gossipKey: []byte("sixteen bytes ok")}
	is := structs.PeerIdentity{ID: "i", RaftAddr: "r", HTTPAddr: "h"}
	proof := s.proofs().Identity("n", is)
	other := &Server{config: s.config, gossipKey: []byte("another sixteen.")}
	if proof != s.proofs().Identity("n", is) || proof == s.proofs().Identity("m", is) || proof == other.proofs().Identity("n", is) {
		t.Error("a proof does not depend on the nonce and the key alone")
	}
	for _, o := range []structs.PeerIdentity{{ID: "j", RaftAddr: "r", HTTPAddr: "h"}, {ID: "i", RaftAddr: "s", HTTPAddr: "h"},
		{ID: "i", RaftAddr: "r", HTTPAddr: "g"}} {
		if proof == s.proofs().Identity("n", o) {
			t.Errorf("the proof is also that of %+v", o)
		}
	}
}
