package server

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/gossip"
	"github.com/stackforge/magnum/server/servertest/history"
	"github.com/stackforge/magnum/structs"
	"github.com/stackforge/magnum/tlsconf"
	"github.com/stackforge/magnum/tlsconf/tlsconftest"
)

// forger gossips that it is a server, and answers whatever servers ask.
type forger struct {
	*httptest.Server
	dialled  atomic.Int32 // connections
	asked    atomic.Int32 // requests
	identity atomic.Int32 // of them, those that ask who it is
	is       structs.PeerIdentity
	leaked   atomic.Bool // a secret or a token came
}

// forge begins to gossip as the node, with the forger's own address, which is
// https if files are given.
func forge(t *testing.T, n gossip.Node, join string, files *tlsconf.Files) *forger {
	t.Helper()
	f := &forger{}
	f.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.asked.Add(1)
		if r.Header.Get("X-Magnum-Peer") != "" || r.Header.Get("X-Auth-Token") != "" || r.Header.Get("X-Magnum-Proof") != "" {
			f.leaked.Store(true)
		}
		w.Header().Set("Content-Type", "application/json")
		switch {
		case strings.HasSuffix(r.URL.Path, "/progress"):
			_ = json.NewEncoder(w).Encode(structs.PeerProgress{LastIndex: 1 << 40, LastTerm: 1 << 20})
		case strings.HasSuffix(r.URL.Path, "/identity"):
			f.identity.Add(1)
			_ = json.NewEncoder(w).Encode(f.is)
		default:
			w.WriteHeader(503)
		}
	}))
	f.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			f.dialled.Add(1)
		}
	}
	f.Config.ErrorLog = hclog.NewNullLogger().StandardLogger(nil)
	if files == nil {
		f.Start()
	} else {
		pair, err := tls.LoadX509KeyPair(files.Cert, files.Key)
		if err != nil {
			t.Fatal(err)
		}
		f.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
		f.StartTLS()
	}
	t.Cleanup(f.Close)
	n.Name, n.Role, n.HTTPAddr, n.Schema = "forged", gossip.RoleServer, f.URL, structs.SchemaVersion
	f.is = structs.PeerIdentity{ID: n.ID, RaftAddr: n.RaftAddr, HTTPAddr: f.URL, Proof: "made up"}
	g, err := gossip.New(gossip.Config{Node: n, Bind: "127.0.0.1", Port: -1, Join: []string{join}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- g.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return f
}

// TestForgedServers: who can gossip is no server yet. It is handed nothing, is not
// taken in, and does not take the place of one that there is.
func TestForgedServers(t *testing.T) {
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
			fresh := func(files *tlsconf.Files, raftAddr string) *forger {
				return forge(t, gossip.Node{ID: structs.NewID(), Fresh: true, RaftAddr: raftAddr}, join, files)
			}
			forgers := []*forger{fresh(agent, "127.0.0.1:9"), fresh(agent, raftAddr)} // one takes the address of the leader
			barrier := forgers[1]
			if withTLS {
				forgers = append(forgers, fresh(nil, "127.0.0.1:9"), // and one pretends to be the leader
					forge(t, gossip.Node{ID: leader.id, ClusterID: id, RaftAddr: raftAddr}, join, nil),
					forge(t, gossip.Node{ID: leader.id, ClusterID: id, RaftAddr: "127.0.0.1:9"}, join, agent))
			} else {
				// It sends those who ask to a server that there is.
				forgers[0].is.ID, forgers[0].is.HTTPAddr = leader.id, leader.URL()
			}
			c.eventually("the leader has asked the forged servers twice and more", func() bool {
				return barrier.dialled.Load() > 2 || barrier.identity.Load() > 2
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
				if !withTLS { // the client of the tests speaks none
					if got := history.New(history.Nodes, 1).Ask(srv.URL(), 0, history.Op{Kind: history.Create, ID: structs.NewID(), Value: "a"}); got.Verdict != history.Done {
						t.Errorf("a create through %s: %+v", m.config.Name, got)
					}
				}
				if withTLS && srv != leader {
					if _, err := srv.peers.ReadIndex(t.Context(), leader.id); err != nil {
						t.Errorf("%s does not reach the leader: %v", m.config.Name, err)
					}
					if got := srv.known(leader.id).HTTPAddr; got != leader.URL() {
						t.Errorf("%s has the leader at %s, not %s", m.config.Name, got, leader.URL())
					}
				}
				peers, err := srv.raft.Peers()
				if err != nil || len(peers) != 3 {
					t.Errorf("%s has peers %v, %v", m.config.Name, peers, err)
				}
				for _, u := range srv.serverURLs() {
					for _, f := range forgers {
						if u == f.URL {
							t.Errorf("%s tells agents of the forged %s", m.config.Name, u)
						}
					}
				}
			}
			for i, f := range forgers {
				if f.leaked.Load() || withTLS && f.asked.Load() > 0 {
					t.Errorf("forged server %d was sent %d requests, secrets %v", i, f.asked.Load(), f.leaked.Load())
				}
			}
		})
	}
}

// TestIdentityIsProvenAnew: a proof is good for one question and one server.
func TestIdentityIsProvenAnew(t *testing.T) {
	s := &Server{Config: Config{Cluster: "c"}, gossipKey: []byte("sixteen bytes ok")}
	is := structs.PeerIdentity{ID: "i", RaftAddr: "r", HTTPAddr: "h"}
	proof := s.identityProof("n", is)
	other := &Server{Config: s.Config, gossipKey: []byte("another sixteen.")}
	if proof != s.identityProof("n", is) || proof == s.identityProof("m", is) || proof == other.identityProof("n", is) {
		t.Error("a proof does not depend on the nonce and the key alone")
	}
	for _, o := range []structs.PeerIdentity{{ID: "j", RaftAddr: "r", HTTPAddr: "h"}, {ID: "i", RaftAddr: "s", HTTPAddr: "h"}, {ID: "i", RaftAddr: "r", HTTPAddr: "g"}} {
		if proof == s.identityProof("n", o) {
			t.Errorf("the proof is also that of %+v", o)
		}
	}
}
