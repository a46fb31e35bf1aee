//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

// TestHostDelete: a host can be deleted once nothing is placed on it, drained or lost. Its
// agent ends and doesn't come back, what the machine runs is left alone, and the name is
// free for a new host on the same machine.
func TestHostDelete(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	token, err := os.ReadFile(filepath.Join(c.dir, "data", "server", "join-token"))
	if err != nil {
		t.Fatal(err)
	}
	refused := func(words string) {
		t.Helper()
		if r := c.magnum("host-delete", "host-1"); r.code == 0 || !strings.Contains(r.stderr, words) {
			t.Errorf("host-delete: exit code %d, %q, want %q", r.code, r.stderr, words)
		}
	}
	b := c.run("stays", sleepScript)
	refused("is ready: drain it first")
	c.magnum("host-drain", "-d", "host-1").must(t)
	refused("still has 1 containers or pods")
	c.deleteAll([]string{b.UUID})
	first := c.hostID()
	c.magnum("host-delete", "host-1").must(t)
	c.hasNoHost()

	ends := func(p *process, deleted string) {
		t.Helper()
		c.eventually("the agent of the deleted host ends", patience, func() error {
			if p.alive() {
				return fmt.Errorf("it runs")
			}
			return nil
		})
		if code := p.cmd.ProcessState.ExitCode(); code == 0 {
			t.Error("it ends with code 0")
		}
		if said := tail(p.log, 3); !strings.Contains(said, "host "+deleted+" was deleted from this cluster, and its secret is revoked") ||
			!strings.Contains(said, "host_id") {
			t.Errorf("its last words are\n%s", said)
		}
	}
	ends(c.agent, first)
	c.agent.args = append(c.agent.args, "-join-token", strings.TrimSpace(string(token)))
	c.agent.start() // neither does a join token help it
	ends(c.agent, first)
	c.hasNoHost()

	// The same machine with an empty data directory is a new host of the same name.
	join := func(dir string) {
		t.Helper()
		args := append([]string{}, c.agent.args...)
		for i, arg := range args {
			if arg == "-data-dir" {
				args[i+1] = filepath.Join(c.dir, dir)
			}
		}
		c.agent = c.process("agent-"+dir, args...)
		c.agent.start()
		log := c.agent.log
		c.Cleanup(func() {
			if c.Failed() {
				c.Logf("end of the log of the agent of host %s:\n%s", dir, tail(log, 20))
			}
		})
		c.eventually("the bay has a new host", patience, func() error {
			h, _, err := c.client.Hosts().Get(c.ctx(), "host-1", api.QueryOptions{})
			if err == nil && (deref(h.BayUUID) != c.bay.UUID || h.UUID == first) {
				err = fmt.Errorf("host %s is in bay %q", h.UUID, deref(h.BayUUID))
			}
			return err
		})
	}
	join("second")
	second, err := os.ReadFile(filepath.Join(c.dir, "second", "agent", "host_id"))
	if err != nil {
		t.Fatal(err)
	}
	lost := strings.TrimSpace(string(second))
	t.Cleanup(func() { c.engine.removeAll(lost) })
	b = c.run("left", sleepScript)
	was := c.engine.started(lost)

	// A lost host is deleted once nothing is placed on it.
	c.agent.kill()
	c.eventually("the host is lost", patience, func() error {
		h, _, err := c.client.Hosts().Get(c.ctx(), "host-1", api.QueryOptions{})
		if err == nil && h.State != structs.HostLost {
			err = fmt.Errorf("it is %s", h.State)
		}
		return err
	})
	refused("host-fence " + lost)
	c.magnum("host-fence", "host-1").must(t)
	refused("delete them with -force first")
	c.magnum("container-delete", "-force", b.UUID).must(t)
	c.magnum("host-delete", "host-1").must(t)
	c.agent.start()
	ends(c.agent, lost)
	if now := c.engine.started(lost); len(was) != 1 || now[b.UUID] != was[b.UUID] {
		t.Errorf("the machine ran %v, and now %v", was, now)
	}
	first = lost
	c.engine.removeAll(lost) // as the documentation says; an agent that joins asks for it
	join("third")
	third, err := os.ReadFile(filepath.Join(c.dir, "third", "agent", "host_id"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.engine.removeAll(strings.TrimSpace(string(third))) })
	c.run("runs", sleepScript)
}

// hasNoHost checks that the cluster has no host.
func (c *cluster) hasNoHost() {
	c.Helper()
	if list, _, err := c.client.Hosts().List(c.ctx(), api.QueryOptions{Consistent: true}); err != nil || len(list) > 0 {
		c.Errorf("there are the hosts %+v, %v", list, err)
	}
}
