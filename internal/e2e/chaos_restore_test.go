//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

// restoreFaults restore an earlier state, and have two agents claim to be the
// same host.
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
			// Its data path outlives it, with the key of this host's relay.
			own, _ := a.dataPath()
			if pid, err := (&hostAgent{dir: copied}).dataPath(); err == nil && pid != own {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
			a.stop()
			a.start()
		}
	}},
}

// saved is the content of a snapshot, and what the clients knew when it was
// saved.
type saved struct {
	file       string
	objects    map[string]string // names of nodes, containers, pods, services and rcs, by UUID
	kept, gone string            // nodes in the snapshot: the second is deleted after the save
	wanted     map[string]structs.ContainerStatus
	names      map[string]string
	pods, rcs  map[string]string // names by UUID
	replicas   map[string]int    // of the rcs
	services   map[string]string // names by UUID
}

// objects returns all nodes, containers, pods, services and replication controllers except those
// that are being deleted, those of the probe, and the pods of replication controllers.
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
		if b.Status != structs.ContainerDeleting { // may be gone at any time
			all[b.UUID] = "container " + b.Name
		}
	}
	rcs, _, err2 := c.client.RCs().List(c.ctx(), api.QueryOptions{Consistent: true, Detail: true})
	for _, rc := range rcs {
		if !rc.Deleting {
			all[rc.UUID] = "rc " + rc.Name
		}
	}
	pods, _, err3 := c.client.Pods().List(c.ctx(), api.QueryOptions{Consistent: true, Detail: true})
	for _, p := range pods {
		if p.RCUUID == nil && p.Status != structs.PodPhase(structs.ContainerDeleting) { // the others come and go with their rc
			all[p.UUID] = "pod " + p.Name
		}
	}
	services, _, err4 := c.client.Services().List(c.ctx(), api.QueryOptions{Consistent: true})
	for _, s := range services {
		all[s.UUID] = "service " + s.Name
	}
	return all, errors.Join(err, err2, err3, err4)
}

// createMarker creates a node of a type that says what it is for.
func (c *chaos) createMarker(id, says string) {
	c.Helper()
	if _, _, err := c.client.Nodes().Create(c.ctx(), &structs.NodeRequest{UUID: id, Type: says}, api.WriteOptions{}); err != nil {
		c.Fatal(err)
	}
}

// save saves a snapshot through a server while no client changes anything, and
// then changes the state.
func (c *chaos) save(n *clusterServer) saved {
	c.Helper()
	s := saved{file: filepath.Join(c.dir, structs.NewID()+".snap"), kept: structs.NewID(), gone: structs.NewID()}
	c.withoutClients(func() {
		c.createMarker(s.kept, "kept")
		c.createMarker(s.gone, "gone")
		c.running.mu.Lock()
		s.wanted, s.names = maps.Clone(c.running.wanted), maps.Clone(c.running.names)
		p := &c.running.pods
		s.pods, s.rcs, s.replicas = maps.Clone(p.wanted), maps.Clone(p.rcs), maps.Clone(p.replicas)
		s.services = maps.Clone(c.running.services.wanted)
		c.running.mu.Unlock()
		// A change may still be applied after its client has stopped waiting.
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

// restore restores a snapshot through a server. The probe goes on writing
// meanwhile. All other changes since the snapshot are undone, and the clients
// go on from there.
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
		l.pods.wanted, l.pods.rcs, l.pods.replicas = maps.Clone(s.pods), maps.Clone(s.rcs), maps.Clone(s.replicas)
		l.services.wanted = maps.Clone(s.services)
		l.mu.Unlock()
	})
	// The cycles of these containers have ended, so their status is unknown.
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
		l.mu.Lock()
		defer l.mu.Unlock()
		l.deletePods(func(id string) bool { return strings.HasPrefix(s.pods[id]+s.rcs[id], "cycle-") })
		l.deleteServices(func(id string) bool { return s.services[id] != "" })
	})
}

// withoutClients makes a change while only the probe writes. Answers from
// before the change are checked against the state from before it.
func (c *chaos) withoutClients(change func()) {
	c.gate.Lock()
	defer c.gate.Unlock()
	for i, w := range c.loads {
		inner := change
		change = func() { w.Cut(c.checkers[i], inner) }
	}
	change()
}

// endQuarantine has the hosts remove what the restored state does not have.
func (c *chaos) endQuarantine() {
	c.Helper()
	c.eventually("nothing is in quarantine", retryFor, func() error {
		known, err := c.objects()
		if err != nil {
			return err
		}
		for _, p := range c.running.listPods() {
			known[p.UUID] = "pod " + p.Name
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
					return fmt.Errorf("%s has %s, which has no row", a.name, s.container)
				}
			}
		}
		return nil
	})
}
