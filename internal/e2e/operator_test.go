//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

// on runs the CLI with the address of a server.
func (c *threeServers) on(n *clusterServer, args ...string) result {
	c.Helper()
	return magnum(c, []string{"MAGNUM_ADDR=" + n.addr}, "", args...)
}

// TestOperatorsSeeServersAndHosts: every server lists all servers, and also
// hosts that can't register.
func TestOperatorsSeeServersAndHosts(t *testing.T) {
	t.Parallel()
	c := newThreeServers(t, 0)
	stranger := c.process("stranger", "agent", "-server", c.servers[0].addr, "-data-dir", filepath.Join(c.dir, "stranger"), "-name",
		"stranger",
		"-join-token", "not-the-right-token", "-gossip-port", "-1", "-join", c.gossip, "-log-level", "debug")
	c.loose = append(c.loose, stranger)
	stranger.start()
	leader := c.awaitLeader()
	for _, n := range c.servers {
		c.eventually(n.name+" lists the servers and the stranger", time.Minute, func() error {
			if got := c.on(n, "server-members", "-format", "{{.name}} {{.status}} {{.leader}} {{.voter}}").must(t); strings.Count(got,
				" alive ") != 3 ||
				strings.Count(got, " true true") != 1 || !strings.Contains(got, leader.name+" alive true true\n") ||
				strings.Contains(got, "stranger") {
				return fmt.Errorf("server-members: %s", got)
			}
			if got := c.on(n, "host-members", "-unregistered", "-format", "{{.name}} {{.status}}").must(t); got != "stranger alive\n" {
				return fmt.Errorf("host-members: %q", got)
			}
			if got := c.on(n, "operator", "raft", "list-peers", "-format", "{{.name}} {{.state}} {{.behind}}").must(t); strings.Count(got,
				" 0\n") != 3 ||
				!strings.Contains(got, leader.name+" leader 0\n") || strings.Count(got, "follower") != 2 {
				return fmt.Errorf("list-peers: %s", got)
			}
			return nil
		})
	}
	if got := c.on(leader, "host-list", "-q").must(t); got != "" {
		t.Errorf("a host that has not registered is in host-list: %q", got)
	}
}

// TestServerIsReplacedUnderLoad: leadership moves, a running server is removed,
// and a new one joins, while a client writes through another server.
func TestServerIsReplacedUnderLoad(t *testing.T) {
	t.Parallel()
	c := newThreeServers(t, 0)
	c.awaitAll()
	c.awaitVoters(3)
	out, through := c.servers[2], c.servers[0].client
	ctx, stop := context.WithCancel(c.ctx())
	defer stop()
	written := make(chan []string, 1)
	go func() {
		var made []string
		defer func() { written <- made }()
		for i := 0; ctx.Err() == nil; i++ {
			b, _, err := through.Containers().Create(ctx, c.waiting(fmt.Sprint("load-", i)), api.CreateOptions{})
			if err == nil {
				made = append(made, b.UUID)
			} else if ctx.Err() == nil {
				t.Errorf("create %d: %v", i, err)
				return
			}
		}
	}()
	for _, to := range []string{"s3", "s1", "s2"} {
		if leader := c.awaitLeader(); leader.name != to {
			if got := c.on(c.servers[0], "operator", "raft", "transfer-leader", to).must(t); !strings.HasPrefix(got, to+" (") {
				t.Errorf("transfer to %s: %q", to, got)
			}
		}
	}
	if r := c.on(out, "operator", "raft", "remove-peer", "s2"); r.code != 1 || !strings.Contains(r.stderr, "transfer-leader") {
		t.Errorf("removing the leader: %d %s", r.code, r.stderr)
	}
	c.on(c.servers[0], "operator", "raft", "remove-peer", out.name).must(t)
	c.servers = c.servers[:2]
	c.loose = append(c.loose, out.process)
	c.awaitVoters(2)
	c.eventually("the removed server logs that it was removed", time.Minute, func() error {
		b, err := os.ReadFile(out.log)
		if err == nil && !strings.Contains(string(b), "an operator has removed this server from the cluster") {
			err = errors.New("it does not")
		}
		return err
	})
	out.stop()

	fresh := c.newServer("s4")
	fresh.args = append(fresh.args, "-join", c.gossip)
	fresh.start()
	c.servers = append(c.servers, fresh)
	c.awaitVoters(3)
	stop()
	made := <-written
	if len(made) == 0 {
		t.Fatal("no create was acknowledged meanwhile")
	}
	list, _, err := fresh.client.Containers().List(c.ctx(), api.QueryOptions{Consistent: true})
	if err != nil {
		t.Fatal(err)
	}
	there := make(map[string]bool)
	for _, b := range list {
		there[b.UUID] = true
	}
	for _, id := range made {
		if !there[id] {
			t.Errorf("I1: container %s was acknowledged and is not on the new server", id)
		}
	}
	c.sameState()
	if got := c.on(fresh, "server-members", "-format", "{{.name}}").must(t); strings.Contains(got, out.name) {
		t.Errorf("the removed server is still shown: %s", got)
	}
	t.Logf("%d creates were acknowledged meanwhile", len(made))
}

// TestSnapshotIsRestored: all servers go back to the saved state, and hosts
// follow with -follow-restore.
func TestSnapshotIsRestored(t *testing.T) {
	t.Parallel()
	c := newThreeServers(t, 1, "-host-lost-after", "3s")
	c.restores(func() {})
}

// TestSnapshotIsRestoredIntoANewCluster: all servers are lost, and new ones get
// the saved state. The host and its containers stay as they were.
func TestSnapshotIsRestoredIntoANewCluster(t *testing.T) {
	t.Parallel()
	c := newThreeServers(t, 1, "-host-lost-after", "3s")
	first := c.clusterIDs()["s1"]
	c.restores(func() {
		for _, n := range c.servers {
			n.kill()
			for i, arg := range n.args {
				if arg == n.dir {
					n.dir += "-new"
					n.args[i] = n.dir
				}
			}
		}
		for _, n := range c.servers {
			n.start()
		}
		// Not awaitAll: the clients ask for an index that only the restore brings.
		for _, n := range c.servers {
			c.eventually(n.name+" knows the leader", time.Minute, func() error {
				_, _, err := n.client.Leader(c.ctx())
				return err
			})
		}
	})
	if now := c.clusterIDs()["s1"]; now == first {
		t.Errorf("the new servers have the ID %s of the old cluster", now)
	}
}

// restores saves a snapshot, changes the state, calls between, restores the
// snapshot, and checks servers, host and containers.
func (c *threeServers) restores(between func()) {
	c.Helper()
	kept := c.run("kept", sleepScript)
	host := c.agents[0].hostID()
	file := filepath.Join(c.dir, "a.snap")
	if got := c.on(c.servers[1], "operator", "snapshot", "save", file).must(c); !strings.Contains(got, "1 containers on 1 hosts") {
		c.Errorf("save: %s", got)
	}
	saved := c.magnum("operator", "snapshot", "inspect", "-format", "{{.cluster_id}} {{.incarnation}}", file).must(c)
	later := c.run("later", sleepScript)
	began := c.engine.started(host)
	if len(began) != 2 {
		c.Fatalf("the engine runs %v", began)
	}
	between()

	for name, damage := range map[string]func([]byte) []byte{
		"cut":     func(b []byte) []byte { return b[:len(b)-1] },
		"flipped": func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
	} {
		b, err := os.ReadFile(file)
		if err != nil {
			c.Fatal(err)
		}
		bad := filepath.Join(c.dir, name)
		if err := os.WriteFile(bad, damage(b), 0o600); err != nil {
			c.Fatal(err)
		}
		if r := c.magnum("operator", "snapshot", "restore", bad); r.code != 1 || !strings.Contains(r.stderr, bad) {
			c.Errorf("a file that is %s: %d %s", name, r.code, r.stderr)
		}
	}
	leader := c.awaitLeader()
	var follower *clusterServer
	for _, n := range c.servers {
		if n != leader {
			follower = n
		}
	}
	r := c.on(follower, "operator", "snapshot", "restore", file)
	if got := r.must(c); !strings.Contains(got, strings.Fields(saved)[0]) || !strings.Contains(r.stderr, "-follow-restore") {
		c.Errorf("restore: %s %s; saved was %s", got, r.stderr, saved)
	}
	c.sameState()
	list := func() string { return c.magnum("container-list", "-format", "{{.name}}").must(c) }
	if got := list(); got != "kept\n" {
		c.Errorf("containers after the restore: %q", got)
	}

	// The host belongs to the cluster, but its agent runs without -follow-restore.
	agent := c.agents[0]
	c.eventually("the agent logs what to do", time.Minute, func() error {
		b, err := os.ReadFile(agent.log)
		if err == nil && !strings.Contains(string(b), "start the agent with -follow-restore") {
			err = errors.New("it does not")
		}
		return err
	})
	same := func(when string) {
		c.Helper()
		now := c.engine.started(host)
		for id, at := range began {
			if now[id] != at {
				c.Errorf("I7: %s, container %s runs since %q, before since %q", when, id, now[id], at)
			}
		}
	}
	awaitHost := func(state structs.HostState) {
		c.Helper()
		c.eventually(fmt.Sprintf("the host is %s", state), time.Minute, func() error {
			h, _, err := c.client.Hosts().Get(c.ctx(), host, api.QueryOptions{})
			if err == nil && h.State != state {
				err = fmt.Errorf("it is %s", h.State)
			}
			return err
		})
	}
	awaitHost(structs.HostLost) // nothing is placed on a host that does not follow
	same("the host does not follow")
	agent.stop()
	agent.args = append(agent.args, "-follow-restore")
	agent.start()
	awaitHost(structs.HostReady)
	c.await(kept.UUID, structs.ContainerRunning)
	fresh := c.run("fresh", sleepScript) // by now the agent has its assignments
	same("the host follows")
	c.magnum("container-stop", "kept").must(c)
	c.await(kept.UUID, structs.ContainerStopped)
	if now := c.engine.started(host); now[later.UUID] != began[later.UUID] || now[fresh.UUID] == "" {
		c.Errorf("I7: a container without a row was changed: %v, before %v", now, began)
	}

	// Containers that the snapshot lacks are in quarantine until an operator decides.
	c.eventually("host-show names what is in quarantine", time.Minute, func() error {
		h, _, err := c.client.Hosts().Get(c.ctx(), host, api.QueryOptions{})
		if err == nil && (len(h.Quarantine) != 1 || h.Quarantine[0].ContainerUUID != later.UUID || h.Quarantine[0].State == nil) {
			err = fmt.Errorf("it has %+v", h.Quarantine)
		}
		return err
	})
	if r := c.magnum("host-adopt", host, later.UUID); r.code != 1 || !strings.Contains(r.stderr, "no container of that uuid") {
		c.Errorf("kept without a row: %d %s", r.code, r.stderr)
	}
	if r := c.magnum("host-adopt", "-remove", "-all", host); r.code != 0 || !strings.Contains(r.stderr, "keeps nothing in quarantine") {
		c.Errorf("host-adopt: %d %s", r.code, r.stderr)
	}
	if now := c.engine.started(host); now[later.UUID] != "" || now[fresh.UUID] == "" {
		c.Errorf("after the quarantine the engine runs %v", now)
	}

	// Every server restarts with the restored state.
	before := c.sameState()
	for _, n := range c.servers {
		n.kill()
	}
	for _, n := range c.servers {
		n.start()
	}
	c.awaitAll()
	if after := c.sameState(); after.Index < before.Index {
		c.Errorf("I1: the state was at index %d, and now is at %d", before.Index, after.Index)
	}
	if got := list(); !strings.Contains(got, "kept\n") || !strings.Contains(got, "fresh\n") || strings.Contains(got, "later") {
		c.Errorf("containers after a restart: %q", got)
	}
}
