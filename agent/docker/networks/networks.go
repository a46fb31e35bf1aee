// Package networks gives each project of a cluster its own network on a Docker engine. It
// makes the network before the project's first container refers to it, and removes it a
// while after the last one.
//
// The Docker backend makes a Networks and asks it for a network before it creates or
// starts a container. The package touches only networks with magnum's labels, and never
// a container.
package networks

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/docker/engine"
)

// Config configures the networks. All fields are required.
type Config struct {
	Pool    []netip.Prefix        // see ParsePool; a /24 for each project
	Keep    time.Duration         // how long a project's network is kept after its last container
	Machine func() []netip.Prefix // what this machine has to reach: no network may overlap with it
}

// Networks are the networks of projects on one engine. All methods are safe for concurrent
// use.
type Networks struct {
	Config // not changed after the first call
	engine *engine.Engine

	mu       sync.Mutex
	projects map[Key]*project
	idle     map[string]time.Time // by name of a project's network: since when no container has referred to it
	avoid    func() []netip.Addr  // addresses of servers, which no network may contain
}

var _ backend.Networks = (*Networks)(nil)

// New returns the networks of an engine. It makes no call.
func New(e *engine.Engine, conf Config) *Networks {
	return &Networks{Config: conf, engine: e, projects: make(map[Key]*project), idle: make(map[string]time.Time)}
}

// Avoid sets the addresses that networks made from now on must not contain.
func (ns *Networks) Avoid(addrs func() []netip.Addr) {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	ns.avoid = addrs
}

// Pinned is the network of a project. It can't be removed until Unpin is called, because a
// container is about to refer to it.
type Pinned struct {
	ns  *Networks
	p   *project
	key Key
}

// Pin pins the network of a project, whether it exists or not.
func (ns *Networks) Pin(key Key) *Pinned {
	h := &Pinned{ns: ns, p: ns.project(key), key: key}
	h.p.mu.RLock()
	return h
}

// Unpin allows the removal of the network again.
func (h *Pinned) Unpin() { h.p.mu.RUnlock() }

// Ensure makes the network unless it exists, and returns its name. ErrNoNetwork,
// ErrNameTaken.
func (h *Pinned) Ensure(ctx context.Context) (name string, err error) {
	return h.ns.ensure(ctx, h.p, h.key, "")
}

// Repair makes the network of a name again, because a container refers to it or was
// about to. Of several networks with the name it leaves one. The errors are those of
// Ensure.
func (h *Pinned) Repair(ctx context.Context, name string) error {
	h.p.known.Store(nil)
	_, err := h.ns.ensure(ctx, h.p, h.key, name)
	return err
}

// Adopt makes the network of a name the project's, whatever its labels say, as agents did
// before networks carried their cluster.
func (h *Pinned) Adopt(name string) { h.p.known.Store(&name) }

// Joined notes that a container refers to the network.
func (h *Pinned) Joined(name string) {
	h.p.fresh.Store(false)
	h.ns.NoteUsed(name)
}

// IsMissing reports whether the engine has refused to create or start a container
// because its network doesn't exist, or because several have its name.
func IsMissing(err error) bool {
	if err == nil {
		return false
	}
	text := err.Error()
	return strings.Contains(text, "is ambiguous") || strings.Contains(text, "network") && strings.Contains(text, "not found")
}

// project guards the network of one project. Creating a container holds mu for reading,
// so that the network can't be removed between the lookup and the reference to it.
// Removing the network holds mu for writing.
type project struct {
	mu    sync.RWMutex
	known atomic.Pointer[string] // the engine's name of the network, if it was seen or made and not removed since
	fresh atomic.Bool            // this agent has made it, and no container refers to it yet
	make  sync.Mutex             // held while the network is made
}

// Key names a project of a cluster.
type Key struct{ Cluster, Project string }

func (ns *Networks) project(key Key) *project {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	p := ns.projects[key]
	if p == nil {
		p = new(project)
		ns.projects[key] = p
	}
	return p
}

// Name returns the engine's name of a project's network. Two clusters on one engine may
// have projects with the same ID.
func Name(key Key) string {
	return engine.ScopeName(key.Cluster[:min(8, len(key.Cluster))] + "-" + key.Project)
}

// ensure makes the project's bridge network unless it exists, and returns its name. name is
// what an existing container refers to; "" for any. The caller holds p.mu for reading.
func (ns *Networks) ensure(ctx context.Context, p *project, key Key, name string) (string, error) {
	if known := p.known.Load(); known != nil {
		return *known, nil
	}
	// The engine accepts two networks of one name that are made at the same time.
	p.make.Lock()
	defer p.make.Unlock()
	if known := p.known.Load(); known != nil {
		return *known, nil
	}
	err := ns.engine.Change(ctx, func(ctx context.Context) error {
		found, err := ns.findNetwork(ctx, key, name)
		if found != "" || err != nil {
			name = found
			return err
		}
		if name == "" {
			name = Name(key)
		}
		if err := ns.makeNetwork(ctx, key, name); err != nil {
			return err
		}
		p.fresh.Store(true)
		return ns.dropDuplicates(ctx, name, key)
	})
	if err != nil {
		return "", err
	}
	p.known.Store(&name)
	return name, nil
}

// findNetwork returns the name of the project's network, "" if there is none. A network
// without a cluster is the project's if a container of the project refers to it. If name is
// not "", only a network of that name counts.
func (ns *Networks) findNetwork(ctx context.Context, key Key, name string) (string, error) {
	list, err := ns.engine.Client.NetworkList(ctx,
		network.ListOptions{Filters: filters.NewArgs(filters.Arg("label", backend.LabelProject+"="+key.Project))})
	if err != nil {
		return "", err
	}
	slices.SortFunc(list, func(a, b network.Summary) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
	})
	var fits []string
	var users map[string]bool
	for _, n := range list {
		switch cluster := n.Labels[backend.LabelCluster]; {
		case name != "" && n.Name != name:
		case cluster == key.Cluster:
			fits = append(fits, n.Name)
		case cluster == "":
			if users == nil {
				if users, err = ns.networkUsers(ctx, filters.Arg("label", backend.LabelCluster+"="+key.Cluster),
					filters.Arg("label", backend.LabelProject+"="+key.Project)); err != nil {
					return "", err
				}
			}
			if users[n.Name] || users[n.ID] {
				fits = append(fits, n.Name)
			}
		}
	}
	if len(fits) == 0 {
		return "", nil
	}
	best := fits[0]
	if own := Name(key); slices.Contains(fits, own) {
		best = own
	}
	return best, ns.dropDuplicates(ctx, best, key)
}

// networkUsers returns the names and IDs of the networks that containers refer to, whether
// they run or not.
func (ns *Networks) networkUsers(ctx context.Context, only ...filters.KeyValuePair) (map[string]bool, error) {
	list, err := ns.engine.Client.ContainerList(ctx, container.ListOptions{All: true, Filters: filters.NewArgs(only...)})
	if err != nil {
		return nil, err
	}
	users := make(map[string]bool)
	for _, c := range list {
		users[c.HostConfig.NetworkMode] = true
		if c.NetworkSettings == nil {
			continue
		}
		for name, end := range c.NetworkSettings.Networks {
			users[name] = true
			if end != nil && end.NetworkID != "" {
				users[end.NetworkID] = true
			}
		}
	}
	return users, nil
}

// makeNetwork makes a network from the pool. If the pool is used up, it removes unused
// networks, including those of other clusters, whose agents make them again when necessary.
func (ns *Networks) makeNetwork(ctx context.Context, key Key, name string) error {
	if found, err := ns.engine.Client.NetworkInspect(ctx, name, network.InspectOptions{}); err == nil &&
		(found.Labels[backend.LabelProject] != key.Project || found.Labels[backend.LabelCluster] != key.Cluster) {
		return &backend.Failure{Reason: backend.ErrNameTaken,
			Msg: fmt.Sprintf("the host has a Docker network %s that is not magnum's; remove it with: docker network rm %s", name, name)}
	}
	for {
		made, err := ns.tryMakeNetwork(ctx, key, name)
		if made || err != nil {
			return err
		}
		freed, err := ns.reclaim(ctx)
		if err != nil {
			return err
		}
		if !freed {
			return errNoNetwork(ns.Pool)
		}
	}
}

func errNoNetwork(pool []netip.Prefix) error {
	var text []string
	for _, p := range pool {
		text = append(text, p.String())
	}
	return &backend.Failure{Reason: backend.ErrNoNetwork, Msg: fmt.Sprintf(
		"the host has no room for another project's network: all of its network pool %s is in use, or overlaps with what the host has to "+
			"reach; give its agent a larger -network-pool", strings.Join(text, ","))}
}

// tryMakeNetwork makes a network from the free part of the pool.
func (ns *Networks) tryMakeNetwork(ctx context.Context, key Key, name string) (made bool, err error) {
	taken, err := ns.taken(ctx)
	if err != nil {
		return false, err
	}
	cut(ns.Pool, func(p netip.Prefix) (more bool) {
		if overlaps(p, taken) {
			return true
		}
		_, err = ns.engine.Client.NetworkCreate(ctx, name, network.CreateOptions{
			Driver: "bridge",
			IPAM:   &network.IPAM{Config: []network.IPAMConfig{{Subnet: p.String()}}},
			Labels: map[string]string{backend.LabelCluster: key.Cluster, backend.LabelProject: key.Project},
		})
		switch {
		case err == nil, errdefs.IsConflict(err) && !isOverlap(err): // another agent on this engine was faster
			made, err = true, nil
			return false
		case isOverlap(err):
			err = nil // with something that only the engine knows
			return true
		}
		return false
	})
	return made, err
}

// isOverlap reports whether the engine says that a network's addresses are taken.
func isOverlap(err error) bool { return err != nil && strings.Contains(err.Error(), "overlap") }

// NetworkRoom reports whether another project's network can be made.
func (ns *Networks) NetworkRoom(ctx context.Context) (room bool, err error) {
	err = ns.engine.Read(ctx, engine.ReadTimeout, func(ctx context.Context) error {
		taken, err := ns.taken(ctx)
		if err != nil {
			return err
		}
		cut(ns.Pool, func(p netip.Prefix) bool {
			room = !overlaps(p, taken)
			return !room
		})
		if room {
			return nil
		}
		idle, err := ns.idleNetworks(ctx)
		room = slices.ContainsFunc(idle, func(n network.Summary) bool { return ns.ofPool(n) })
		return err
	})
	return room, err
}

// ofPool reports whether a network's removal makes room in the pool.
func (ns *Networks) ofPool(n network.Summary) bool {
	for _, c := range n.IPAM.Config {
		if p, err := netip.ParsePrefix(c.Subnet); err == nil && overlaps(p, ns.Pool) {
			return true
		}
	}
	return false
}

// idleNetworks returns the networks of projects of all clusters that no container
// refers to.
func (ns *Networks) idleNetworks(ctx context.Context) ([]network.Summary, error) {
	list, err := ns.engine.Client.NetworkList(ctx,
		network.ListOptions{Filters: filters.NewArgs(filters.Arg("label", backend.LabelProject))})
	if err != nil || len(list) == 0 {
		return nil, err
	}
	users, err := ns.networkUsers(ctx)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(list, func(n network.Summary) bool { return users[n.Name] || users[n.ID] }), nil
}

// keyOf reads the labels of a network.
func keyOf(n network.Summary) Key {
	return Key{n.Labels[backend.LabelCluster], n.Labels[backend.LabelProject]}
}

// reclaim removes unused networks.
func (ns *Networks) reclaim(ctx context.Context) (freed bool, err error) {
	idle, err := ns.idleNetworks(ctx)
	if err != nil {
		return false, err
	}
	for _, n := range idle {
		if !ns.ofPool(n) {
			continue
		}
		// It must not wait: a create that holds the lock may itself wait for the lock
		// of the project for which this one makes room.
		if p := ns.project(keyOf(n)); p.mu.TryLock() {
			removed := ns.removeIdle(ctx, p, n)
			p.mu.Unlock()
			freed = freed || removed
		}
	}
	return freed, nil
}

// removeIdle removes a network unless a container refers to it. The caller holds p.mu for
// writing.
func (ns *Networks) removeIdle(ctx context.Context, p *project, n network.Summary) (removed bool) {
	users, err := ns.networkUsers(ctx, filters.Arg("label", backend.LabelProject+"="+n.Labels[backend.LabelProject]))
	if err == nil && (users[n.Name] || users[n.ID]) {
		return false
	}
	if err == nil {
		p.known.Store(nil)
		err = ns.engine.Client.NetworkRemove(ctx, n.ID) // the engine refuses while a container is connected
	}
	if err != nil && !errdefs.IsNotFound(err) {
		if ctx.Err() == nil {
			ns.engine.Log.Debug("project network not removed", "network", n.Name, "error", err)
		}
		return false
	}
	ns.engine.Log.Debug("project network removed", "network", n.Name)
	return true
}

// NoteUsed notes that a container refers to a network, or did until now.
func (ns *Networks) NoteUsed(name string) {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	delete(ns.idle, name)
}

// TidyNetworks removes networks that no container has referred to for Keep, or with all
// those that none refers to now. A network counts as idle from when this agent first
// saw it unused, so a restart of the agent begins that time again.
func (ns *Networks) TidyNetworks(ctx context.Context, owner backend.Owner, all bool) error {
	var idle []network.Summary
	err := ns.engine.Read(ctx, engine.ChangeTimeout, func(ctx context.Context) (err error) {
		idle, err = ns.idleNetworks(ctx)
		return err
	})
	if err != nil {
		return err
	}
	now := time.Now()
	since := make(map[string]time.Time)
	var due []network.Summary
	ns.mu.Lock()
	for _, n := range idle {
		if key := keyOf(n); key.Cluster != owner.ClusterID && key.Cluster != "" {
			continue
		}
		since[n.Name] = now
		if before, ok := ns.idle[n.Name]; ok {
			since[n.Name] = before
		}
		if all || now.Sub(since[n.Name]) >= ns.Keep {
			due = append(due, n)
		}
	}
	ns.idle = since
	ns.mu.Unlock()
	for _, n := range due {
		key := keyOf(n)
		key.Cluster = owner.ClusterID // a network without a cluster may be about to be used as its project's
		p := ns.project(key)
		p.mu.Lock()
		err := ns.engine.Change(ctx, func(ctx context.Context) error {
			ns.removeIdle(ctx, p, n)
			return nil
		})
		p.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// DropFresh removes a network that was made for a container whose creation has failed. A
// failure does no harm: the network is removed later.
func (ns *Networks) DropFresh(ctx context.Context, key Key) {
	p := ns.project(key)
	p.mu.Lock()
	defer p.mu.Unlock()
	name := p.known.Load()
	if name == nil || !p.fresh.Load() {
		return
	}
	_ = ns.engine.Change(ctx, func(ctx context.Context) error {
		n, err := ns.engine.Client.NetworkInspect(ctx, *name, network.InspectOptions{})
		if err == nil {
			ns.removeIdle(ctx, p, n)
		}
		return err
	})
}

// dropDuplicates leaves one network of the name: the one in use, else the oldest. Two
// agents that make it at the same time get two, as may an agent that was killed while
// the engine made it. The engine then refuses the name. All agents choose the same one.
func (ns *Networks) dropDuplicates(ctx context.Context, name string, key Key) error {
	list, err := ns.engine.Client.NetworkList(ctx, network.ListOptions{Filters: filters.NewArgs(
		filters.Arg("name", name), filters.Arg("label", backend.LabelProject+"="+key.Project))})
	if err != nil {
		return err
	}
	list = slices.DeleteFunc(list, func(n network.Summary) bool { return n.Name != name }) // the filter matches substrings
	if len(list) < 2 {
		return nil
	}
	var duplicates []network.Inspect
	for _, n := range list {
		n, err := ns.engine.Client.NetworkInspect(ctx, n.ID, network.InspectOptions{}) // the list doesn't have the users
		if errdefs.IsNotFound(err) {
			continue
		} else if err != nil {
			return err
		}
		duplicates = append(duplicates, n)
	}
	slices.SortFunc(duplicates, func(a, b network.Inspect) int {
		return cmp.Or(cmp.Compare(min(len(b.Containers), 1), min(len(a.Containers), 1)), a.Created.Compare(b.Created),
			cmp.Compare(a.ID, b.ID))
	})
	for _, n := range duplicates[min(1, len(duplicates)):] {
		if err := ns.engine.Client.NetworkRemove(ctx, n.ID); err != nil && !errdefs.IsNotFound(err) {
			return err
		}
	}
	return nil
}
