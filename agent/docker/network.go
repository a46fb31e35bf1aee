package docker

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
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
)

// project guards the network of one project. Creating a container holds mu for
// reading, so that the network can't go between being looked up and being
// referred to; removing the network holds it for writing.
type project struct {
	mu    sync.RWMutex
	known atomic.Pointer[string] // the engine's name of the network, if it was seen or made and not removed since
	fresh atomic.Bool            // it was made by this agent, and no container of it yet
	make  sync.Mutex             // held while the network is made
}

// projectKey names a project of a cluster.
type projectKey struct{ cluster, project string }

func (d *Docker) project(key projectKey) *project {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.projects[key]
	if p == nil {
		p = new(project)
		d.projects[key] = p
	}
	return p
}

// scopeName is the prefix of the engine's names for a project's things. The
// engine allows fewer characters in a name than magnum in a project id.
func scopeName(projectID string) string {
	for i := range len(projectID) {
		c := projectID[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || i > 0 && (c == '_' || c == '.' || c == '-')) {
			sum := sha256.Sum256([]byte(projectID))
			return "mg-x" + hex.EncodeToString(sum[:12])
		}
	}
	return "mg-" + projectID
}

// networkName is the engine's name of a project's network: two clusters on one
// engine may both have a project of that id.
func networkName(key projectKey) string {
	return scopeName(key.cluster[:min(8, len(key.cluster))] + "-" + key.project)
}

// ensureNetwork makes the project's bridge network unless it is there, and returns
// its name. Of a container that was made already, name is what it refers to; "" is
// any. The caller holds p.mu for reading.
func (d *Docker) ensureNetwork(ctx context.Context, p *project, key projectKey, name string) (string, error) {
	if known := p.known.Load(); known != nil {
		return *known, nil
	}
	// The engine accepts two networks of one name when they are made at once.
	p.make.Lock()
	defer p.make.Unlock()
	if known := p.known.Load(); known != nil {
		return *known, nil
	}
	err := d.change(ctx, d.work, changeTimeout, func(ctx context.Context) error {
		found, err := d.findNetwork(ctx, key, name)
		if found != "" || err != nil {
			name = found
			return err
		}
		if name == "" {
			name = networkName(key)
		}
		if err := d.makeNetwork(ctx, key, name); err != nil {
			return err
		}
		p.fresh.Store(true)
		return d.dropDoubles(ctx, name, key)
	})
	if err != nil {
		return "", err
	}
	p.known.Store(&name)
	return name, nil
}

// findNetwork returns the name of the project's network, "" if there is none. One
// from before networks carried their cluster is the project's if a container of it
// refers to the network. name, if not "", is the only one that will do.
func (d *Docker) findNetwork(ctx context.Context, key projectKey, name string) (string, error) {
	list, err := d.cli.NetworkList(ctx, network.ListOptions{Filters: filters.NewArgs(filters.Arg("label", backend.LabelProject+"="+key.project))})
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
		case cluster == key.cluster:
			fits = append(fits, n.Name)
		case cluster == "":
			if users == nil {
				if users, err = d.networkUsers(ctx, filters.Arg("label", backend.LabelCluster+"="+key.cluster), filters.Arg("label", backend.LabelProject+"="+key.project)); err != nil {
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
	if own := networkName(key); slices.Contains(fits, own) {
		best = own
	}
	return best, d.dropDoubles(ctx, best, key)
}

// networkUsers returns the names, and the ids, of networks that containers refer
// to, whether they run or not.
func (d *Docker) networkUsers(ctx context.Context, only ...filters.KeyValuePair) (map[string]bool, error) {
	list, err := d.cli.ContainerList(ctx, container.ListOptions{All: true, Filters: filters.NewArgs(only...)})
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

// makeNetwork makes a network out of the pool. When the pool is used up, networks
// that nobody uses make room, also those that another cluster keeps for a while:
// its agent makes them again when it needs them.
func (d *Docker) makeNetwork(ctx context.Context, key projectKey, name string) error {
	if found, err := d.cli.NetworkInspect(ctx, name, network.InspectOptions{}); err == nil && (found.Labels[backend.LabelProject] != key.project || found.Labels[backend.LabelCluster] != key.cluster) {
		return &backend.Failure{Reason: backend.ErrNameTaken,
			Msg: fmt.Sprintf("the host has a Docker network %s that is not magnum's; remove it with: docker network rm %s", name, name)}
	}
	for {
		made, err := d.tryMakeNetwork(ctx, key, name)
		if made || err != nil {
			return err
		}
		freed, err := d.reclaim(ctx)
		if err != nil {
			return err
		}
		if !freed {
			return errNoNetwork(d.conf.NetworkPool)
		}
	}
}

func errNoNetwork(pool []netip.Prefix) error {
	var text []string
	for _, p := range pool {
		text = append(text, p.String())
	}
	return &backend.Failure{Reason: backend.ErrNoNetwork, Msg: fmt.Sprintf(
		"the host has no room for another project's network: all of its network pool %s is in use, or overlaps with what the host has to reach; give its agent a larger -network-pool", strings.Join(text, ","))}
}

// tryMakeNetwork makes a network out of what is free of the pool.
func (d *Docker) tryMakeNetwork(ctx context.Context, key projectKey, name string) (made bool, err error) {
	taken, err := d.taken(ctx)
	if err != nil {
		return false, err
	}
	cut(d.conf.NetworkPool, func(p netip.Prefix) (more bool) {
		if overlaps(p, taken) {
			return true
		}
		_, err = d.cli.NetworkCreate(ctx, name, network.CreateOptions{
			Driver: "bridge",
			IPAM:   &network.IPAM{Config: []network.IPAMConfig{{Subnet: p.String()}}},
			Labels: map[string]string{backend.LabelCluster: key.cluster, backend.LabelProject: key.project},
		})
		switch {
		case err == nil, errdefs.IsConflict(err) && !isOverlap(err): // another agent on this engine was faster
			made, err = true, nil
			return false
		case isOverlap(err):
			err = nil // with what only the engine knows
			return true
		}
		return false
	})
	return made, err
}

// isOverlap reports whether the engine says that a network's addresses are taken.
func isOverlap(err error) bool { return err != nil && strings.Contains(err.Error(), "overlap") }

// NetworkRoom reports whether another project's network can be made.
func (d *Docker) NetworkRoom(ctx context.Context) (room bool, err error) {
	err = d.read(ctx, readTimeout, func(ctx context.Context) error {
		taken, err := d.taken(ctx)
		if err != nil {
			return err
		}
		cut(d.conf.NetworkPool, func(p netip.Prefix) bool {
			room = !overlaps(p, taken)
			return !room
		})
		if room {
			return nil
		}
		idle, err := d.idleNetworks(ctx)
		room = slices.ContainsFunc(idle, func(n network.Summary) bool { return d.ofPool(n) })
		return err
	})
	return room, err
}

// ofPool reports whether a network's removal makes room in the pool.
func (d *Docker) ofPool(n network.Summary) bool {
	for _, c := range n.IPAM.Config {
		if p, err := netip.ParsePrefix(c.Subnet); err == nil && overlaps(p, d.conf.NetworkPool) {
			return true
		}
	}
	return false
}

// idleNetworks returns the networks of projects, of whatever cluster, that no
// container refers to.
func (d *Docker) idleNetworks(ctx context.Context) ([]network.Summary, error) {
	list, err := d.cli.NetworkList(ctx, network.ListOptions{Filters: filters.NewArgs(filters.Arg("label", backend.LabelProject))})
	if err != nil || len(list) == 0 {
		return nil, err
	}
	users, err := d.networkUsers(ctx)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(list, func(n network.Summary) bool { return users[n.Name] || users[n.ID] }), nil
}

// keyOf reads the labels of a network.
func keyOf(n network.Summary) projectKey {
	return projectKey{n.Labels[backend.LabelCluster], n.Labels[backend.LabelProject]}
}

// reclaim removes networks that nobody uses.
func (d *Docker) reclaim(ctx context.Context) (freed bool, err error) {
	idle, err := d.idleNetworks(ctx)
	if err != nil {
		return false, err
	}
	for _, n := range idle {
		if !d.ofPool(n) {
			continue
		}
		// Not waited for: a create that holds the project's lock may itself wait
		// for that of the project for which this one makes room.
		if p := d.project(keyOf(n)); p.mu.TryLock() {
			removed := d.removeIdle(ctx, p, n)
			p.mu.Unlock()
			freed = freed || removed
		}
	}
	return freed, nil
}

// removeIdle removes a network unless a container refers to it. The caller holds
// p.mu for writing.
func (d *Docker) removeIdle(ctx context.Context, p *project, n network.Summary) (removed bool) {
	users, err := d.networkUsers(ctx, filters.Arg("label", backend.LabelProject+"="+n.Labels[backend.LabelProject]))
	if err == nil && (users[n.Name] || users[n.ID]) {
		return false
	}
	if err == nil {
		p.known.Store(nil)
		err = d.cli.NetworkRemove(ctx, n.ID) // refused by the engine while somebody is joined to it
	}
	if err != nil && !errdefs.IsNotFound(err) {
		if ctx.Err() == nil {
			d.log.Debug("project network not removed", "network", n.Name, "error", err)
		}
		return false
	}
	d.log.Debug("project network removed", "network", n.Name)
	return true
}

// noteUsed notes that a container refers to a network, or did so until now.
func (d *Docker) noteUsed(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.idle, name)
}

// TidyNetworks removes networks that no container has referred to for a while, or
// with all of them those that none refers to now. How long a network has been idle
// is counted from when that was first seen: a restart of the agent begins it again.
func (d *Docker) TidyNetworks(ctx context.Context, owner backend.Owner, all bool) error {
	var idle []network.Summary
	err := d.read(ctx, changeTimeout, func(ctx context.Context) (err error) {
		idle, err = d.idleNetworks(ctx)
		return err
	})
	if err != nil {
		return err
	}
	now := time.Now()
	since := make(map[string]time.Time)
	var due []network.Summary
	d.mu.Lock()
	for _, n := range idle {
		if key := keyOf(n); key.cluster != owner.ClusterID && key.cluster != "" {
			continue
		}
		since[n.Name] = now
		if before, ok := d.idle[n.Name]; ok {
			since[n.Name] = before
		}
		if all || now.Sub(since[n.Name]) >= d.conf.NetworkKeep {
			due = append(due, n)
		}
	}
	d.idle = since
	d.mu.Unlock()
	for _, n := range due {
		key := keyOf(n)
		key.cluster = owner.ClusterID // one without a cluster may be about to be used as its project's
		p := d.project(key)
		p.mu.Lock()
		err := d.change(ctx, d.work, changeTimeout, func(ctx context.Context) error {
			d.removeIdle(ctx, p, n)
			return nil
		})
		p.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// dropFresh removes a network that was made for a container which then could not
// be made. Failing is no harm: it goes later.
func (d *Docker) dropFresh(ctx context.Context, key projectKey) {
	p := d.project(key)
	p.mu.Lock()
	defer p.mu.Unlock()
	name := p.known.Load()
	if name == nil || !p.fresh.Load() {
		return
	}
	_ = d.change(ctx, d.work, changeTimeout, func(ctx context.Context) error {
		n, err := d.cli.NetworkInspect(ctx, *name, network.InspectOptions{})
		if err == nil {
			d.removeIdle(ctx, p, n)
		}
		return err
	})
}

// isAmbiguous reports whether the engine has more than one network of a name.
func isAmbiguous(err error) bool {
	return err != nil && strings.Contains(err.Error(), "is ambiguous")
}

// dropDoubles leaves one network of the name: the one that is in use, else the
// oldest. Two agents that make it at the same time get two, as may one that was
// killed while the engine was at it, and from then on the engine refuses the
// name. All who look at the same doubles choose alike.
func (d *Docker) dropDoubles(ctx context.Context, name string, key projectKey) error {
	list, err := d.cli.NetworkList(ctx, network.ListOptions{Filters: filters.NewArgs(
		filters.Arg("name", name), filters.Arg("label", backend.LabelProject+"="+key.project))})
	if err != nil {
		return err
	}
	list = slices.DeleteFunc(list, func(n network.Summary) bool { return n.Name != name }) // the filter takes a part of the name
	if len(list) < 2 {
		return nil
	}
	var doubles []network.Inspect
	for _, n := range list {
		n, err := d.cli.NetworkInspect(ctx, n.ID, network.InspectOptions{}) // the list doesn't tell who uses it
		if errdefs.IsNotFound(err) {
			continue
		} else if err != nil {
			return err
		}
		doubles = append(doubles, n)
	}
	slices.SortFunc(doubles, func(a, b network.Inspect) int {
		return cmp.Or(cmp.Compare(min(len(b.Containers), 1), min(len(a.Containers), 1)), a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
	})
	for _, n := range doubles[min(1, len(doubles)):] {
		if err := d.cli.NetworkRemove(ctx, n.ID); err != nil && !errdefs.IsNotFound(err) {
			return err
		}
	}
	return nil
}
