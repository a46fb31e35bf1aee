package conductor

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stackforge/magnum/server/conductor/scratch"
	"github.com/stackforge/magnum/server/conductor/services"
	"github.com/stackforge/magnum/structs"
)

// serviceOf returns the request for a service of the pods with the label app=NAME, with one
// port for each node port; 0 leaves its choice to the server, and -1 asks for none.
func serviceOf(caller structs.Caller, bay, name string, nodePorts ...int) CreateService {
	spec := structs.ServiceSpec{Selector: map[string]string{"app": name}}
	for i, n := range nodePorts {
		spec.NodePorts = spec.NodePorts || n >= 0
		spec.Ports = append(spec.Ports, structs.ServicePort{Name: fmt.Sprint("p", i), Port: 80 + i, TargetPort: 80, NodePort: max(n, 0),
			Protocol: "tcp"})
	}
	return CreateService{Caller: caller, Bay: bay, Service: structs.Service{Name: name, Spec: spec}, Manifest: "manifest of " + name}
}

// TestServicesOfOneEntry: services that one entry creates have different addresses and node
// ports, and two projects may have the same addresses.
func TestServicesOfOneEntry(t *testing.T) {
	h := newHarness(t)
	h.host("h", nil)
	must(h, CreateBay{Caller: root, Name: "bay", NodeCount: 1, Shared: true})
	tx := scratch.New(h.store.Snapshot(), h.clock)
	pools := services.Pools{NodePorts: services.PortRange{First: 30000, Last: 30029}}
	var err error
	if pools.Addresses, err = services.ParseAddresses("10.9.0.0/28"); err != nil {
		t.Fatal(err)
	}
	ports := make(map[int]bool)
	for _, caller := range []structs.Caller{alice, bob} {
		addresses := make(map[string]bool)
		for i := range 15 {
			r := serviceOf(caller, "bay", fmt.Sprint("s", i), 0)
			r.Pools = pools
			tx.Begin()
			s, err := r.decide(tx)
			if i == 14 {
				if structs.CodeOf(err) != structs.CodeConflict || !strings.Contains(err.Error(), "all addresses of 10.9.0.0/28") {
					t.Errorf("a service more: %v, %v", s, err)
				}
				tx.Rollback()
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			if port := s.Spec.Ports[0].NodePort; addresses[s.Address] || ports[port] || port < 30000 {
				t.Errorf("service %s has address %s and node port %d, in use are %v and %v", s.Name, s.Address, port, addresses, ports)
			}
			addresses[s.Address], ports[s.Spec.Ports[0].NodePort] = true, true
		}
	}
	if len(ports) != 28 {
		t.Errorf("node ports %v", ports)
	}
}

// TestServiceLimits: neither a project nor all together get more than a bay may have.
func TestServiceLimits(t *testing.T) {
	h := newHarness(t)
	h.host("h", nil)
	bay := must(h, CreateBay{Caller: root, Name: "bay", NodeCount: 1, Shared: true})
	fill := func(caller structs.Caller, n, nodePorts int) {
		for n > 0 {
			h.write(func(tx *scratch.Tx) {
				for range min(n, structs.MaxChanges/2) {
					s := &structs.Service{Meta: tx.Meta(caller, ""), BayID: bay.ID}
					s.Name = s.ID
					for range nodePorts {
						s.Spec.Ports = append(s.Spec.Ports, structs.ServicePort{Port: 1, NodePort: 20000 + n, Protocol: "udp"})
					}
					tx.Put(s)
				}
			})
			n -= structs.MaxChanges / 2
		}
	}
	fill(alice, 10, 100)
	refuse(h, structs.CodeQuota, serviceOf(alice, "bay", "nodes", 0))
	must(h, serviceOf(alice, "bay", "plain", -1))
	must(h, serviceOf(bob, "bay", "nodes", 0))
	fill(alice, structs.MaxProjectServices-11, 0)
	err := refuse(h, structs.CodeQuota, serviceOf(alice, "bay", "one-more", -1))
	if !strings.Contains(err.Error(), "the project has 2000 services in the bay") {
		t.Error(err)
	}
	must(h, PatchService{Caller: alice, Ident: "plain", Service: serviceOf(alice, "bay", "plain", -1, -1).Service, Manifest: "another"})
	carol := structs.Caller{ProjectID: "p3", Roles: alice.Roles}
	fill(bob, 1500, 0)
	fill(carol, 1499, 0)
	err = refuse(h, structs.CodeQuota, serviceOf(carol, "bay", "one-more", -1))
	if !strings.Contains(err.Error(), "the bay has 5000 services") {
		t.Error(err)
	}
}

// TestServiceBesideOthers: what a service takes and frees in the account that it shares with
// the host ports of workloads.
func TestServiceBesideOthers(t *testing.T) {
	h := newHarness(t)
	h.host("h", nil)
	must(h, CreateBay{Caller: root, Name: "bay", NodeCount: 1, Shared: true})
	port := structs.ContainerSpec{Ports: []structs.Port{{ContainerPort: 80, HostPort: 30001, Protocol: "tcp"}}}
	h.create(alice, "bay", port)
	for caller, want := range map[*structs.Caller]string{&alice: "by container ", &bob: "by a container of another project"} {
		if err := refuse(h, structs.CodeConflict, serviceOf(*caller, "bay", "web", 30001)); !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	s := must(h, serviceOf(alice, "bay", "web", 30002, 0))
	for caller, want := range map[*structs.Caller]string{&alice: "by service web (" + s.ID + ")", &bob: "by a service of another project"} {
		if err := refuse(h, structs.CodeConflict, serviceOf(*caller, "bay", "other", 30002)); !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	// It keeps what it has, and takes its own port without a conflict.
	kept := must(h, PatchService{Caller: alice, Ident: "web", Service: serviceOf(alice, "bay", "web", 0, s.Spec.Ports[1].NodePort).Service,
		Manifest: "another"})
	if kept.Address != s.Address || !slices.Equal(kept.Spec.Ports, s.Spec.Ports) {
		t.Errorf("after the PATCH %s %v, before %s %v", kept.Address, kept.Spec.Ports, s.Address, s.Spec.Ports)
	}
	must(h, PatchService{Caller: alice, Ident: "web", Service: serviceOf(alice, "bay", "web", -1).Service, Manifest: "no node ports"})
	must(h, serviceOf(bob, "bay", "web", 30002))
	refuse(h, structs.CodeNotFound, DeleteService{Caller: bob, Ident: s.ID})
	must(h, DeleteService{Caller: alice, Ident: "web"})
	snap := h.store.Snapshot()
	if snap.Endpoints(s.ID) != nil || snap.Manifest(s.BesideID()) != nil {
		t.Error("its endpoints or its manifest are left")
	}
}

func TestServiceNeedsItsSchema(t *testing.T) {
	h := newHarnessOf(t, structs.SchemaPods-1)
	h.host("h", nil)
	h.bay(alice, "bay", 1)
	refuse(h, structs.CodeUnavailable, serviceOf(alice, "bay", "web", -1))
}
