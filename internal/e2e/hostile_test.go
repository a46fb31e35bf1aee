//go:build e2e

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stackforge/magnum/internal/gossip"
	"github.com/stackforge/magnum/internal/tlsconf"
	"github.com/stackforge/magnum/internal/tlsconf/tlsconftest"
	"github.com/stackforge/magnum/server/servertest"
	"github.com/stackforge/magnum/structs"
)

// hostile is an attacker that has the gossip key, and perhaps an agent's
// certificate, and gossips as a server.
type hostile struct {
	*servertest.Forger
	what string
}

func newHostile(t testing.TB, what string, n gossip.Node, key []byte, join []string, files *tlsconf.Files) *hostile {
	n.Name = "hostile"
	return &hostile{servertest.Forge(t, n, gossip.Config{Key: key, Join: join}, files), what}
}

// TestHostileGossip runs three servers and an agent with TLS, tokens and a
// gossip key, and attackers that have the key and perhaps a certificate of an
// agent. Their gossip must get them nothing.
func TestHostileGossip(t *testing.T) {
	t.Parallel()
	c := &cluster{TB: t, dir: t.TempDir(), engine: newEngine(t)}
	t.Cleanup(c.cleanup)
	ca := tlsconftest.Authority(t)
	text := strings.TrimSpace(magnum(t, nil, "", "keygen").must(t))
	key, err := gossip.ParseKey(text)
	if err != nil {
		t.Fatal(err)
	}
	type server struct {
		*process
		addr, gossip string
	}
	var servers []server
	var addrs, join []string
	for i := range 3 {
		name, port, gossip := fmt.Sprintf("s%d", i+1), freePort(t), freePort(t)
		f := tlsconftest.Server(t, ca, name)
		s := server{addr: "127.0.0.1:" + port, gossip: "127.0.0.1:" + gossip}
		s.process = c.process(name, "server", "-name", name, "-data-dir", filepath.Join(c.dir, name), "-http-port", port, "-raft-port",
			freePort(t), "-gossip-port", gossip,
			"-bootstrap-expect", "3", "-join-token", testJoinToken, "-encrypt", text, "-auth", "token", "-tls-ca", f.CA, "-tls-cert",
			f.Cert, "-tls-key", f.Key, "-log-level", "debug")
		servers, addrs, join = append(servers, s), append(addrs, s.addr), append(join, s.gossip)
	}
	for _, s := range servers {
		s.args = append(s.args, "-join", strings.Join(join, ","))
		s.start()
		t.Cleanup(s.end)
	}
	var admin string
	as := func(addr string, args ...string) result {
		t.Helper()
		return magnum(t, []string{"MAGNUM_ADDR=" + addr, "MAGNUM_TLS_CA=" + ca.CAFile(), "OS_TOKEN=" + admin}, "", args...)
	}
	c.eventually("there is a first token", time.Minute, func() error {
		r := as(addrs[0], "operator", "bootstrap", "-q")
		if r.code != 0 {
			return errors.New(r.stderr)
		}
		admin = strings.TrimSpace(r.stdout)
		return nil
	})
	c.agent = c.process("agent", "agent", "-server", addrs[0], "-join", strings.Join(join, ","), "-gossip-port", "-1", "-data-dir",
		filepath.Join(c.dir, "data"), "-name", "host-1",
		"-encrypt", text, "-tls-ca", ca.CAFile(), "-join-token", testJoinToken, "-log-level", "debug", "-image-gc-high", "0")
	c.agent.start()
	as(addrs[0], "bay-create", "-name", "b", "-wait", "1m").must(t)

	type raftPeer struct {
		UUID     string `json:"uuid"`
		RaftAddr string `json:"raft_addr"`
		Voter    bool   `json:"voter"`
		State    string `json:"state"`
	}
	raftPeers := func(addr string) (all []raftPeer, leader raftPeer) {
		t.Helper()
		out := as(addr, "operator", "raft", "list-peers", "-json").must(t)
		if err := json.Unmarshal([]byte(out), &all); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		for _, p := range all {
			if p.State == structs.PeerLeader {
				leader = p
			}
		}
		return all, leader
	}
	_, leader := raftPeers(addrs[0])
	if leader.UUID == "" {
		t.Fatal("no leader is known")
	}
	var members []struct {
		ClusterID string `json:"cluster_id"`
	}
	if out := as(addrs[0], "server-members", "-json").must(t); json.Unmarshal([]byte(out), &members) != nil || len(members) == 0 {
		t.Fatalf("members: %s", out)
	}
	cert := tlsconftest.Other(t, ca, "agent")
	clusterID := members[0].ClusterID
	all := []*hostile{
		newHostile(t, "the leader in clear", gossip.Node{ID: leader.UUID, ClusterID: clusterID, RaftAddr: leader.RaftAddr}, key, join, nil),
		newHostile(t, "the leader with an agent's certificate", gossip.Node{ID: leader.UUID, ClusterID: clusterID,
			RaftAddr: leader.RaftAddr}, key, join, &cert),
		newHostile(t, "a fourth server in clear", gossip.Node{ID: structs.NewID(), ClusterID: clusterID, RaftAddr: "127.0.0.1:9"}, key,
			join, nil),
		newHostile(t, "a new server in clear", gossip.Node{ID: structs.NewID(), Fresh: true, RaftAddr: "127.0.0.1:9"}, key, join, nil),
		newHostile(t, "a new server with an agent's certificate", gossip.Node{ID: structs.NewID(), Fresh: true, RaftAddr: "127.0.0.1:9"},
			key, join, &cert),
		newHostile(t, "a new server at the leader's Raft address",
			gossip.Node{ID: structs.NewID(), Fresh: true, RaftAddr: leader.RaftAddr}, key, join, &cert),
	}
	c.eventually("the leader has repeatedly asked the new ones for proof", time.Minute, func() error {
		for _, h := range all[4:] {
			if n := h.Dialled.Load(); n < 3 {
				return fmt.Errorf("%s was dialled %d times", h.what, n)
			}
		}
		return nil
	})
	c.eventually("all servers list the attackers", time.Minute, func() error {
		for _, s := range servers {
			if n := strings.Count(as(s.addr, "server-members").must(t), "hostile"); n < 4 {
				return fmt.Errorf("%s lists %d", s.name, n)
			}
		}
		return nil
	})

	// Everything goes on working through each server.
	var following sync.WaitGroup
	for _, s := range servers {
		name := "through-" + s.name
		as(s.addr, "container-run", "-d", "-name", name, image, "sh", "-c",
			"for i in 1 2 3 4 5 6 7 8; do echo line $i; sleep 1; done").must(t)
	}
	for i := range servers {
		asked := servers[(i+1)%3]
		following.Go(func() {
			if r := as(asked.addr, "container-logs", "-follow", "through-"+servers[i].name); r.code != 0 ||
				!strings.Contains(r.stdout, "line 1\n") || !strings.Contains(r.stdout, "line 8\n") {
				t.Errorf("logs through %s: exit code %d, %q, %q", asked.name, r.code, r.stdout, r.stderr)
			}
		})
	}
	following.Wait()
	for _, s := range servers {
		peers, now := raftPeers(s.addr)
		voters := 0
		for _, p := range peers {
			if p.Voter && p.State != structs.PeerUnreachable {
				voters++
			}
		}
		if len(peers) != 3 || voters != 3 || now != leader {
			t.Errorf("%s has peers %+v, and the leader was %+v", s.name, peers, leader)
		}
		if out := as(s.addr, "host-list", "-format", "{{.name}} {{.state}}").must(t); out != "host-1 ready\n" {
			t.Errorf("hosts through %s: %q", s.name, out)
		}
	}
	log, err := os.ReadFile(c.agent.log)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range all {
		if n := h.Asked.Load(); n != 0 {
			t.Errorf("%s was sent %d requests", h.what, n)
		}
		if strings.Contains(string(log), "registered: server="+h.URL) {
			t.Errorf("the agent has registered at %s", h.what)
		}
	}
	if clear := all[0].Dialled.Load() + all[2].Dialled.Load() + all[3].Dialled.Load(); clear != 0 {
		t.Errorf("%d connections were made in clear", clear)
	}
	for _, name := range []string{"through-s1", "through-s2", "through-s3"} {
		as(addrs[0], "container-delete", "-force", name).must(t)
	}
}
