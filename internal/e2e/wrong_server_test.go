//go:build e2e

package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

// This file has servers that an agent must not follow, and an agent that must
// not run.

// logged returns the size of the process's log in bytes.
func (p *process) logged() int {
	p.t.Helper()
	b, err := os.ReadFile(p.log)
	if err != nil {
		p.t.Fatal(err)
	}
	return len(b)
}

// awaitLog waits until the log of the process has the words after its first `after`
// bytes.
func (c *cluster) awaitLog(p *process, words string, after int) {
	c.Helper()
	c.eventually(fmt.Sprintf("the %s logs %q", p.name, words), time.Minute, func() error {
		b, err := os.ReadFile(p.log)
		if err == nil && !strings.Contains(string(b[after:]), words) {
			err = fmt.Errorf("its log does not have it")
		}
		return err
	})
}

// TestServerOfAnotherCluster: a new server at the address of the agent's own
// server has no say over the agent's containers.
func TestServerOfAnotherCluster(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.run("running", sleepScript)
	stopped := c.run("stopped", sleepScript)
	c.act(stopped.UUID, api.Stop)
	before := c.picture()
	token, err := os.ReadFile(filepath.Join(c.dir, "data", "server", "join-token"))
	if err != nil {
		t.Fatal(err)
	}
	c.server.stop()
	own := c.server
	_, port, _ := net.SplitHostPort(c.addr)
	// With the same join token, so that only the cluster ID differs.
	c.server = c.process("other", "server", "-data-dir", filepath.Join(c.dir, "other"), "-http-port", port, "-raft-port", freePort(t),
		"-gossip-port", "-1", "-join-token", strings.TrimSpace(string(token)))
	c.server.start()
	// A new client, because the old one asks for an index that this server never
	// reaches.
	seen := c.client
	fresh, err := api.New(api.Config{Address: c.addr})
	if err != nil {
		t.Fatal(err)
	}
	c.client = fresh
	c.awaitServer()
	c.awaitLog(c.agent, "its containers are left alone", 0)
	if list, _, err := c.client.Hosts().List(c.ctx(), api.QueryOptions{}); err != nil || len(list) != 0 {
		t.Errorf("the other server has hosts %v, %v", list, err)
	}
	c.agent.kill()
	said := c.agent.logged()
	c.agent.start() // the new instance has to register first
	c.awaitLog(c.agent, "its containers are left alone", said)
	if after := c.picture(); after != before {
		t.Errorf("the engine had %s, and now has %s", before, after)
	}
	c.server.stop()
	c.server, c.client = own, seen
	c.server.start()
	c.awaitServer()
	c.awaitDesired()
	c.run("after", sleepScript)
	c.awaitDesired()
}

// TestLongServerFromAnOlderCopy: a server starts on an older copy of its data
// directory, which lacks later containers. The agent follows the server and
// leaves these containers alone: they are in quarantine, also after the agent
// was killed.
func TestLongServerFromAnOlderCopy(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.run("old", sleepScript)
	c.server.stop()
	data, copied := filepath.Join(c.dir, "data", "server"), filepath.Join(c.dir, "copy")
	if err := os.CopyFS(copied, os.DirFS(data)); err != nil {
		t.Fatal(err)
	}
	c.server.start()
	c.awaitServer()
	for i := range 3 {
		c.run(fmt.Sprintf("new-%d", i), sleepScript)
	}
	before := c.picture()
	c.server.kill()
	if err := os.RemoveAll(data); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(copied, data); err != nil {
		t.Fatal(err)
	}
	said := c.agent.logged()
	c.server.start()
	// A new client, because the old one asks for a later index.
	client, err := api.New(api.Config{Address: c.addr})
	if err != nil {
		t.Fatal(err)
	}
	c.client = client
	c.awaitServer()
	list, _, err := c.client.Containers().List(c.ctx(), api.QueryOptions{})
	if err != nil || len(list) != 1 {
		t.Fatalf("the copy has %d containers, want 1: %v", len(list), err)
	}
	c.awaitLog(c.agent, "has followed another history of the cluster", said)
	quarantined := func() {
		t.Helper()
		c.eventually("the containers that the copy lacks are in quarantine", time.Minute, func() error {
			h, _, err := c.client.Hosts().Get(c.ctx(), c.hostID(), api.QueryOptions{})
			if err != nil {
				return err
			}
			var names []string
			for _, k := range h.Quarantine {
				names = append(names, deref(k.Name))
			}
			slices.Sort(names)
			if !slices.Equal(names, []string{"new-0", "new-1", "new-2"}) || h.State != structs.HostReady {
				return fmt.Errorf("%v are, and the host is %s", names, h.State)
			}
			return nil
		})
	}
	quarantined()
	c.agent.kill()
	said = c.agent.logged()
	c.agent.start()
	c.awaitLog(c.agent, "registered", said)
	quarantined()
	if after := c.picture(); after != before {
		t.Errorf("the engine had %s, and now has %s", before, after)
	}
	c.run("after", sleepScript)
}

// TestTwoAgentsOnOneDataDir: the second agent is refused, and the first runs on.
func TestTwoAgentsOnOneDataDir(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	r := magnum(t, nil, "", "agent", "-server", c.addr, "-gossip=false", "-data-dir", filepath.Join(c.dir, "data"))
	if r.code == 0 || !strings.Contains(r.stderr, "another agent (process ") || !strings.Contains(r.stderr, "uses the data dir") ||
		!strings.Contains(r.stderr, "-data-dir") {
		t.Errorf("the second agent ended with code %d: %s", r.code, r.stderr)
	}
	c.run("first", sleepScript)
}
