//go:build engine

package docker

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/backend/backendtest"
	"github.com/stackforge/magnum/agent/docker/engine"
	"github.com/stackforge/magnum/agent/docker/networks"
	"github.com/stackforge/magnum/structs"
)

// pooled returns an engine with its own pool. Of this machine's networks only avoid counts.
func pooled(t *testing.T, pool string, avoid ...string) *Docker {
	t.Helper()
	d := onEngine(t)
	var err error
	if d.Networks.(*networks.Networks).Pool, err = networks.ParsePool(pool); err != nil {
		t.Fatal(err)
	}
	var taken []netip.Prefix
	for _, a := range avoid {
		taken = append(taken, netip.MustParsePrefix(a))
	}
	d.Networks.(*networks.Networks).Machine = func() []netip.Prefix { return taken }
	return d
}

func testOwner() backend.Owner {
	return backend.Owner{ClusterID: structs.NewID(), HostID: structs.NewID()}
}

// subnets returns the subnets of a project's networks.
func subnets(t *testing.T, d *Docker, project string) []string {
	t.Helper()
	list, err := d.engine.Client.NetworkList(t.Context(),
		network.ListOptions{Filters: filters.NewArgs(filters.Arg("label", backend.LabelProject+"="+project))})
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, n := range list {
		for _, c := range n.IPAM.Config {
			all = append(all, c.Subnet)
		}
	}
	return all
}

// one fails unless a project has exactly one network, with the given subnet; "" for none.
func one(t *testing.T, d *Docker, project, subnet string) {
	t.Helper()
	if got := subnets(t, d, project); len(got) > 1 || len(got) == 1 != (subnet != "") || len(got) == 1 && got[0] != subnet {
		t.Errorf("project %s has the networks %v, want %q", project, got, subnet)
	}
}

// TestContainerIsToldOfServices: the gateway of its network answers names, and its own
// variables win.
func TestContainerIsToldOfServices(t *testing.T) {
	d := onEngine(t)
	spec := backendtest.Sleeper()
	spec.Environment = map[string]string{"WEB_PORT": "mine"}
	req := backend.CreateRequest{Owner: testOwner(), Ref: structs.ContainerRef(structs.NewID(), 1), ProjectID: structs.NewID(), Spec: spec,
		Variables: map[string]string{"WEB_PORT": "tcp://10.127.0.1:80", "WEB_SERVICE_HOST": "10.127.0.1"},
		Names:     &backend.Names{Search: []string{"p.svc.cluster.local"}}}
	c, err := d.Create(t.Context(), req, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Remove(context.Background(), c.EngineID)
	if again, err := d.Create(t.Context(), backend.CreateRequest{Owner: req.Owner, Ref: req.Ref, ProjectID: req.ProjectID, Spec: spec},
		func(string) {}); err != nil || again.EngineID != c.EngineID {
		t.Errorf("created again without services: %v", err)
	}
	nets, err := d.ProjectNetworks(t.Context(), req.Owner)
	if err != nil || len(nets) != 1 {
		t.Fatalf("its networks are %+v, %v", nets, err)
	}
	raw, err := d.engine.Inspect(t.Context(), c.EngineID)
	if err != nil {
		t.Fatal(err)
	}
	if dns := raw.HostConfig.DNS; len(dns) != 1 || dns[0] != nets[0].Gateway.Addr().String() ||
		!slices.Equal(raw.HostConfig.DNSSearch, req.Names.Search) {
		t.Errorf("it finds names by %v, %v", dns, raw.HostConfig.DNSSearch)
	}
	if env := raw.Config.Env; !slices.Contains(env, "WEB_PORT=mine") || !slices.Contains(env, "WEB_SERVICE_HOST=10.127.0.1") ||
		slices.Contains(env, "WEB_PORT=tcp://10.127.0.1:80") {
		t.Errorf("its environment is %v", env)
	}
}

// TestDisconnectedContainer: the event names the container, and Reconnect gives the container
// its network, name and published port back, whether it runs or has been started since.
func TestDisconnectedContainer(t *testing.T) {
	d := onEngine(t)
	owner, project := testOwner(), "p-"+structs.NewID()
	spec := backendtest.Sleeper()
	spec.Ports = []structs.Port{{ContainerPort: 80, Protocol: "tcp"}}
	c, _ := madeBy(t, d, owner, project, spec)
	ctx, cancel := context.WithCancel(t.Context())
	events, ready, ended := make(chan backend.Event, 1000), make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- d.Events(ctx, owner, func() { close(ready) }, func(e backend.Event) {
			if e.Kind == backend.EventNetwork && e.EngineID == c.EngineID {
				events <- e
			}
		})
	}()
	defer func() { cancel(); <-ended }()
	<-ready
	name := networks.Name(networks.Key{Cluster: owner.ClusterID, Project: project})
	look := func() *backend.Container {
		t.Helper()
		now, err := d.Inspect(t.Context(), c.EngineID)
		if err != nil {
			t.Fatal(err)
		}
		return now
	}
	told := func(of string) {
		t.Helper()
		select {
		case <-events:
		case <-time.After(time.Minute):
			t.Fatalf("no event for %s", of)
		}
	}
	if err := d.Start(t.Context(), c.EngineID); err != nil {
		t.Fatal(err)
	}
	told("the connect of a start")
	if now := look(); now.Detached || len(now.Addresses) != 1 || len(now.Ports) != 1 {
		t.Fatalf("at first it is %+v", now)
	}
	if err := d.engine.Client.NetworkDisconnect(t.Context(), name, c.EngineID, false); err != nil {
		t.Fatal(err)
	}
	told("a disconnect")
	back := func(when string) {
		t.Helper()
		if now := look(); !now.Detached || len(now.Addresses) != 0 || len(now.Ports) != 0 || now.State != backend.StateRunning {
			t.Fatalf("%s it is %+v", when, now)
		}
		for range 2 {
			if err := d.Reconnect(t.Context(), c.EngineID); err != nil {
				t.Fatalf("%s: %v", when, err)
			}
		}
		if now := look(); now.Detached || len(now.Addresses) != 1 || len(now.Ports) != 1 {
			t.Fatalf("%s, and connected again, it is %+v", when, now)
		}
	}
	back("disconnected")
	if err := d.Stop(t.Context(), c.EngineID, 0); err != nil {
		t.Fatal(err)
	}
	if now := look(); now.Detached {
		t.Errorf("stopped it is %+v", now)
	}
	if err := errors.Join(d.engine.Client.NetworkDisconnect(t.Context(), name, c.EngineID, false),
		d.engine.Client.NetworkRemove(t.Context(), name), d.Start(t.Context(), c.EngineID)); err != nil {
		t.Fatal(err)
	}
	back("disconnected before its start, from a network that is gone")
	// An address of another network isn't the container's first.
	other, err := d.engine.Client.NetworkCreate(t.Context(), "mg-test-"+structs.NewID(), network.CreateOptions{
		IPAM: &network.IPAM{Config: []network.IPAMConfig{{Subnet: "10.98.77.0/28"}}}})
	if err != nil {
		t.Fatal(err)
	}
	defer d.engine.Client.NetworkRemove(context.Background(), other.ID)
	own := look().Addresses
	if err := d.engine.Client.NetworkConnect(t.Context(), other.ID, c.EngineID, nil); err != nil {
		t.Fatal(err)
	}
	if now := look(); len(now.Addresses) != 2 || now.Addresses[0] != own[0] {
		t.Errorf("in two networks it has %v, and had %v", now.Addresses, own)
	}
	if err := d.Remove(t.Context(), c.EngineID); err != nil {
		t.Fatal(err)
	}
}

// TestNetworkPool: networks are taken from the pool in order, except what is occupied.
// If the pool is used up, unused networks of any cluster make room.
func TestNetworkPool(t *testing.T) {
	d := pooled(t, "10.99.0.0/23,10.99.4.0/23", "10.99.1.0/28")
	ours, theirs := testOwner(), testOwner()
	projects := []string{"p-" + structs.NewID(), "p-" + structs.NewID(), "p-" + structs.NewID(), "p-" + structs.NewID()}
	a, _ := madeBy(t, d, ours, projects[0], backendtest.Sleeper())
	one(t, d, projects[0], "10.99.0.0/24")
	b, _ := madeBy(t, d, theirs, projects[1], backendtest.Sleeper())
	one(t, d, projects[1], "10.99.4.0/24")
	c, _ := madeBy(t, d, ours, projects[2], backendtest.Sleeper())
	one(t, d, projects[2], "10.99.5.0/24")
	_, err := d.Create(t.Context(), backend.CreateRequest{Owner: ours, Ref: structs.ContainerRef(structs.NewID(), 1),
		ProjectID: projects[3], Spec: backendtest.Sleeper()}, func(string) {})
	if !errors.Is(err, backend.ErrNoNetwork) {
		t.Fatalf("a pool that is used up: %v", err)
	}
	if room, err := d.NetworkRoom(t.Context()); room || err != nil {
		t.Errorf("there is room in it: %v, %v", room, err)
	}
	for _, id := range []string{a.EngineID, b.EngineID, c.EngineID} {
		if err := d.Start(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	// Another cluster's unused network is kept until its room is needed, and is made
	// again when its own agent needs it.
	if err := d.Remove(t.Context(), b.EngineID); err != nil {
		t.Fatal(err)
	}
	one(t, d, projects[1], "10.99.4.0/24")
	if room, err := d.NetworkRoom(t.Context()); !room || err != nil {
		t.Errorf("there is no room although a network is idle: %v, %v", room, err)
	}
	e, _ := madeBy(t, d, ours, projects[3], backendtest.Sleeper())
	one(t, d, projects[1], "")
	one(t, d, projects[3], "10.99.4.0/24")
	if err := errors.Join(d.Remove(t.Context(), e.EngineID), d.Remove(t.Context(), a.EngineID)); err != nil {
		t.Fatal(err)
	}
	other := pooled(t, "10.99.0.0/23,10.99.4.0/23", "10.99.1.0/28") // the agent of the other cluster
	f, _ := madeBy(t, other, theirs, projects[1], backendtest.Sleeper())
	if err := other.Start(t.Context(), f.EngineID); err != nil {
		t.Fatal(err)
	}
	if now, err := other.Inspect(t.Context(), f.EngineID); err != nil || len(now.Addresses) != 1 {
		t.Errorf("it has the addresses %+v, %v", now, err)
	}
}

// TestNetworkIsKeptForAWhile: after its last container, and across a restart of the agent,
// which begins that time again.
func TestNetworkIsKeptForAWhile(t *testing.T) {
	d, owner, project := pooled(t, "10.99.8.0/24"), testOwner(), "p-"+structs.NewID()
	tidy := func(d *Docker, all bool) {
		t.Helper()
		if err := d.TidyNetworks(t.Context(), owner, all); err != nil {
			t.Fatal(err)
		}
	}
	c, _ := madeBy(t, d, owner, project, backendtest.Sleeper())
	tidy(d, true) // a container that was never started counts
	one(t, d, project, "10.99.8.0/24")
	if err := d.Remove(t.Context(), c.EngineID); err != nil {
		t.Fatal(err)
	}
	tidy(d, false)
	one(t, d, project, "10.99.8.0/24")
	d.Networks.(*networks.Networks).Keep = time.Nanosecond
	// The network was used meanwhile: its time begins with the next look.
	c, _ = madeBy(t, d, owner, project, backendtest.Sleeper())
	if err := d.Remove(t.Context(), c.EngineID); err != nil {
		t.Fatal(err)
	}
	again := pooled(t, "10.99.8.0/24")
	tidy(again, false)
	one(t, again, project, "10.99.8.0/24")
	if err := pooled(t, "10.99.8.0/24").TidyNetworks(t.Context(), testOwner(), true); err != nil { // another cluster's agent
		t.Fatal(err)
	}
	one(t, again, project, "10.99.8.0/24")
	again.Networks.(*networks.Networks).Keep = time.Nanosecond
	tidy(again, false)
	one(t, again, project, "")
}

// TestCreateRacesTheRemoval: containers that are created while their network is being
// removed start all the same, whoever removes it.
func TestCreateRacesTheRemoval(t *testing.T) {
	d, owner, project := pooled(t, "10.99.12.0/22"), testOwner(), "p-"+structs.NewID()
	foreign := pooled(t, "10.99.12.0/22") // an agent that shares the engine and not the locks
	stop := make(chan struct{})
	var removing sync.WaitGroup
	for _, remover := range []*Docker{d, foreign} {
		if _, err := remover.Fingerprint(t.Context()); err != nil { // the client negotiates a version first
			t.Fatal(err)
		}
		removing.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					if err := remover.TidyNetworks(t.Context(), owner, true); err != nil {
						t.Errorf("tidy: %v", err)
						return
					}
				}
			}
		})
	}
	defer removing.Wait()
	defer close(stop)
	for range 5 {
		req := backend.CreateRequest{Owner: owner, Ref: structs.ContainerRef(structs.NewID(), 1), ProjectID: project, Name: "it",
			Spec: backendtest.Sleeper()}
		c, err := d.Create(t.Context(), req, func(string) {})
		if err != nil {
			t.Fatalf("create: %v", err)
		}
		err = d.Start(t.Context(), c.EngineID)
		if now, lookErr := d.Inspect(t.Context(), c.EngineID); err != nil || lookErr != nil || now.State != backend.StateRunning ||
			len(now.Addresses) != 1 {
			t.Errorf("start: %v; it is %+v, %v", err, now, lookErr)
		}
		if err := d.Remove(t.Context(), c.EngineID); err != nil {
			t.Fatal(err)
		}
	}
}

// TestNetworksOfClusters: two clusters with a project of the same ID have separate
// networks. A network without a cluster is its project's as long as a container of the
// project refers to it.
func TestNetworksOfClusters(t *testing.T) {
	d, project := pooled(t, "10.99.16.0/22"), "p-"+structs.NewID()
	one, two := testOwner(), testOwner()
	madeBy(t, d, one, project, backendtest.Sleeper())
	madeBy(t, d, two, project, backendtest.Sleeper())
	if got := subnets(t, d, project); len(got) != 2 {
		t.Errorf("the networks are %v, want one for each cluster", got)
	}
	project = "p-" + structs.NewID()
	old := engine.ScopeName(project)
	if _, err := d.engine.Client.NetworkCreate(t.Context(), old,
		network.CreateOptions{Driver: "bridge", Labels: map[string]string{backend.LabelProject: project}}); err != nil {
		t.Fatal(err)
	}
	before := pooled(t, "10.99.16.0/22")
	pinned := before.Networks.(*networks.Networks).Pin(networks.Key{Cluster: one.ClusterID, Project: project})
	pinned.Adopt(old) // as an earlier agent did
	pinned.Unpin()
	madeBy(t, before, one, project, backendtest.Sleeper())
	c, _ := madeBy(t, d, one, project, backendtest.Sleeper())
	raw, err := d.engine.Inspect(t.Context(), c.EngineID)
	if err != nil || string(raw.HostConfig.NetworkMode) != old {
		t.Errorf("a container beside one in the old network is in %s, %v", raw.HostConfig.NetworkMode, err)
	}
	c, _ = madeBy(t, d, two, project, backendtest.Sleeper())
	if raw, err = d.engine.Inspect(t.Context(), c.EngineID); err != nil ||
		string(raw.HostConfig.NetworkMode) != networks.Name(networks.Key{Cluster: two.ClusterID, Project: project}) {
		t.Errorf("another cluster's is in %s, %v", raw.HostConfig.NetworkMode, err)
	}
}
