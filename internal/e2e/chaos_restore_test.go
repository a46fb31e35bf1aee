//go:build e2e

package e2e

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

// restoreFaults put back what the cluster was, and have two agents claim to be one.
var restoreFaults = []fault{
	{name: "snapshot restored under load", alone: true, least: 500 * time.Millisecond, most: 3 * time.Second,
		do: func(c *chaos) (string, func()) {
			n := oneOf(c.random, c.servers)
			s := c.save(n)
			return "by " + n.name, func() { c.restore(oneOf(c.random, c.servers), s) }
		}},
	{name: "agent's data directory copied", alone: true, least: time.Second, most: 4 * time.Second, do: func(c *chaos) (string, func()) {
		a := oneOf(c.random, c.agents)
		copied := a.dir + ".copied"
		c.must("rm", "-rf", copied)
		c.must("cp", "-a", a.dir, copied)
		twin := c.process(a.name+"-twin-"+structs.NewID()[:8], a.args...)
		twin.args = slices.Clone(twin.args)
		for i := range twin.args {
			if twin.args[i] == a.dir {
				twin.args[i] = copied
			}
		}
		twin.on = a.on
		c.loose = append(c.loose, twin)
		twin.start()
		c.awaitLog(twin, "registered", 0)
		return a.name, func() {
			twin.kill()
			a.stop()
			a.start()
		}
	}},
}

// saved is what a snapshot has, and what the clients knew when it was made.
type saved struct {
	file       string
	objects    map[string]string // of each node and container, by uuid: its name
	kept, gone string            // nodes: one that stays, and one that is deleted once it is made
	wanted     map[string]structs.ContainerStatus
	names      map[string]string
}

// objects returns all nodes and containers that stay, but not those of the probe.
func (c *chaos) objects() (map[string]string, error) {
	all := make(map[string]string)
	nodes, _, err := c.client.Nodes().List(c.ctx(), api.QueryOptions{Consistent: true})
	if err != nil {
		return nil, err
	}
	for _, n := range nodes {
		if deref(n.Type) != "probe" {
			all[n.UUID] = "node " + deref(n.Type)
		}
	}
	list, _, err := c.client.Containers().List(c.ctx(), api.QueryOptions{Consistent: true})
	for _, b := range list {
		if b.Status != structs.ContainerDeleting { // that one may be gone at any time
			all[b.UUID] = "container " + b.Name
		}
	}
	return all, err
}

// mark makes a node that says something.
func (c *chaos) createMarker(id, says string) {
	c.Helper()
	if _, _, err := c.client.Nodes().Create(c.ctx(), &structs.NodeRequest{UUID: id, Type: says}, api.WriteOptions{}); err != nil {
		c.Fatal(err)
	}
}

// save has a server save a snapshot while no client changes anything, and then
// changes what it has.
func (c *chaos) save(n *clusterServer) saved {
	c.Helper()
	s := saved{file: filepath.Join(c.dir, structs.NewID()+".snap"), kept: structs.NewID(), gone: structs.NewID()}
	c.withoutClients(func() {
		c.createMarker(s.kept, "kept")
		c.createMarker(s.gone, "gone")
		c.running.mu.Lock()
		s.wanted, s.names = maps.Clone(c.running.wanted), maps.Clone(c.running.names)
		c.running.mu.Unlock()
		// A change whose client waits no longer may still come.
		c.eventually("a snapshot of what is listed before and after it", retryFor, func() error {
			before, err := c.objects()
			if err != nil {
				return err
			}
			if err := os.RemoveAll(s.file); err != nil {
				return err
			}
			if r := c.on(n, "operator", "snapshot", "save", s.file); r.code != 0 {
				return fmt.Errorf("%s", r.stderr)
			}
			if s.objects, err = c.objects(); err == nil && !maps.Equal(before, s.objects) {
				err = fmt.Errorf("%d objects, and then %d", len(before), len(s.objects))
			}
			return err
		})
	})
	if _, err := c.client.Nodes().Delete(c.ctx(), s.gone, api.WriteOptions{}); err != nil {
		c.Error(err)
	}
	c.createMarker(structs.NewID(), "later")
	return s
}

// restore puts a snapshot back through a server. Writes of the probe go on meanwhile;
// whatever else was done since the snapshot is undone, and life goes on from there.
func (c *chaos) restore(n *clusterServer, s saved) {
	c.Helper()
	l := c.running
	c.withoutClients(func() {
		c.on(n, "operator", "snapshot", "restore", s.file).must(c)
		now, err := c.objects()
		if err != nil {
			c.Fatal(err)
		}
		for id, name := range s.objects {
			if now[id] != name {
				c.Errorf("I1: %s, %s, is in the snapshot, and is %q once it is restored", name, id, now[id])
			}
		}
		for id, name := range now {
			if s.objects[id] == "" {
				c.Errorf("I1: %s, %s, is there once a snapshot without it is restored", name, id)
			}
		}
		for _, a := range c.agents {
			a.stop()
			if !slices.Contains(a.args, "-follow-restore") {
				a.args = append(a.args, "-follow-restore")
			}
			a.start()
		}
		l.restores++
		l.mu.Lock()
		l.wanted, l.names = maps.Clone(s.wanted), maps.Clone(s.names)
		l.mu.Unlock()
	})
	// Nobody looks after these any more, and what each was meanwhile is nobody's to say.
	c.healed = append(c.healed, func() {
		var orphans []string
		for id, name := range s.names {
			if strings.HasPrefix(name, "cycle-") {
				orphans = append(orphans, id)
				l.want(id, name, "")
			}
		}
		c.endQuarantine()
		c.deleteAll(orphans)
	})
}

// cut has change happen while no client is at work but those of the probe. What was
// told before it is judged before.
func (c *chaos) withoutClients(change func()) {
	c.gate.Lock()
	defer c.gate.Unlock()
	for i, w := range c.loads {
		inner := change
		change = func() { w.Cut(c.checkers[i], inner) }
	}
	change()
}

// endQuarantine has the hosts remove what the state that was restored does not know.
func (c *chaos) endQuarantine() {
	c.Helper()
	c.eventually("nothing is in quarantine", retryFor, func() error {
		known, err := c.objects()
		if err != nil {
			return err
		}
		for _, a := range c.agents {
			h, _, err := c.client.Hosts().Get(c.ctx(), a.hostID(), api.QueryOptions{Consistent: true})
			if err != nil {
				return err
			}
			if h.State != structs.HostReady {
				return fmt.Errorf("host %s is %s (%s)", h.Name, h.State, deref(h.StateReason))
			}
			if len(h.Quarantine) > 0 {
				if r := c.on(c.servers[0], "host-adopt", "-remove", "-all", h.UUID); r.code != 0 {
					return fmt.Errorf("host-adopt: %s", r.stderr)
				}
				return fmt.Errorf("%s has %d in quarantine", h.Name, len(h.Quarantine))
			}
			list, err := a.engine.list(a.hostID())
			if err != nil {
				return err
			}
			for _, s := range list {
				if known[s.container] == "" {
					return fmt.Errorf("%s has %s, which nobody knows", a.name, s.container)
				}
			}
		}
		return nil
	})
}
