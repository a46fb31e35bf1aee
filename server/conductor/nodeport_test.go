package conductor

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stackforge/magnum/server/conductor/scratch"
	"github.com/stackforge/magnum/structs"
)

// nodePortService returns a new service of the bay with the node ports.
func nodePortService(t *scratch.Tx, bayID, protocol string, ports ...int) *structs.Service {
	s := &structs.Service{Meta: t.Meta(alice, ""), BayID: bayID, Spec: structs.ServiceSpec{NodePorts: true}}
	for _, p := range ports {
		s.Spec.Ports = append(s.Spec.Ports, structs.ServicePort{Port: 80, NodePort: p, Protocol: protocol})
	}
	return s
}

// TestNodePortsAndHostPorts: a node port of a service is taken on all hosts of its bay and on
// no others, for containers and pods, and is free again when the service is deleted.
func TestNodePortsAndHostPorts(t *testing.T) {
	h := newHarness(t)
	for i := range 3 {
		h.host(fmt.Sprint("h", i), nil)
	}
	bay := must(h, CreateBay{Caller: alice, Name: "a", NodeCount: 2})
	must(h, CreateBay{Caller: alice, Name: "b", NodeCount: 1})
	var s *structs.Service
	h.write(func(tx *scratch.Tx) {
		s = nodePortService(tx, bay.ID, "tcp", 30001)
		tx.Put(s)
	})
	port := func(protocol string) structs.ContainerSpec {
		return structs.ContainerSpec{Image: "i", Ports: []structs.Port{{ContainerPort: 80, HostPort: 30001, Protocol: protocol}}}
	}
	waits := h.create(alice, "a", port("tcp"))
	if waits.HostID != "" || !strings.Contains(waits.PlaceReason, "2 with the host port taken by a service") {
		t.Errorf("the container is on host %q: %s", waits.HostID, waits.PlaceReason)
	}
	if c := h.create(alice, "a", port("udp")); c.HostID == "" {
		t.Errorf("another protocol: %s", c.PlaceReason)
	}
	if c := h.create(alice, "b", port("tcp")); c.HostID == "" {
		t.Errorf("another bay: %s", c.PlaceReason)
	}
	h.write(func(tx *scratch.Tx) {
		for _, test := range []struct {
			protocol string
			port     int
			except   string
			want     string
		}{
			{"tcp", 30001, "", "another service"}, {"tcp", 30001, s.ID, ""}, {"", 30001, "", "another service"},
			{"udp", 30001, "", "a container or pod on host h"}, {"tcp", 30002, "", ""}, {"UDP", 30002, "", ""},
		} {
			got := tx.Reserved.NodePortTaken(bay.ID, test.protocol, test.port, test.except)
			if !strings.HasPrefix(got, test.want) || test.want == "" && got != "" {
				t.Errorf("%+v: taken by %q", test, got)
			}
		}
		tx.Remove(scratch.Row[structs.Service](tx, s.ID))
		if by := tx.Reserved.NodePortTaken(bay.ID, "tcp", 30001, ""); by != "" {
			t.Errorf("the port of a deleted service is taken by %s", by)
		}
	})
	h.settle()
	if c := h.store.Snapshot().Container(waits.ID); c.HostID == "" {
		t.Errorf("the port is free again: %s", c.PlaceReason)
	}
}

// TestFreeNodePort: no two services of a bay get one port, nor a port that a workload has,
// until all ports of the range are taken.
func TestFreeNodePort(t *testing.T) {
	h := newHarness(t)
	h.host("h", nil)
	bay := must(h, CreateBay{Caller: alice, Name: "a", NodeCount: 1})
	h.create(alice, "a", structs.ContainerSpec{Image: "i", Ports: []structs.Port{{ContainerPort: 80, HostPort: 30005, Protocol: "tcp"}}})
	h.write(func(tx *scratch.Tx) {
		had := map[int]bool{30005: true}
		for range 4 {
			s := nodePortService(tx, bay.ID, "tcp", 0, 0)
			for i := range s.Spec.Ports {
				port := tx.Reserved.FreeNodePort(bay.ID, &s.Spec, "tcp", 30000, 30008)
				if port < 30000 || port > 30008 || had[port] {
					t.Fatalf("port %d is chosen, in use are %v", port, had)
				}
				had[port] = true
				s.Spec.Ports[i].NodePort = port
			}
			tx.Put(s)
		}
		spec := &structs.ServiceSpec{}
		if port := tx.Reserved.FreeNodePort(bay.ID, spec, "tcp", 30000, 30008); port != 0 {
			t.Errorf("port %d is chosen, and all are in use", port)
		}
		if port := tx.Reserved.FreeNodePort(bay.ID, spec, "udp", 30005, 30005); port != 30005 {
			t.Errorf("port %d is chosen for another protocol", port)
		}
		if port := tx.Reserved.FreeNodePort(bay.ID, spec, "udp", 30005, 30004); port != 0 {
			t.Errorf("port %d is chosen of an empty range", port)
		}
	})
}

// TestNodePortsOfABatch: the node ports that a batch sees are those of the rows that it
// sees, whatever it has written and undone.
func TestNodePortsOfABatch(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 7))
		h := newHarness(t)
		h.host("h", nil)
		bay := must(h, CreateBay{Caller: alice, Name: "a", NodeCount: 1})
		var made []string
		h.write(func(tx *scratch.Tx) {
			s := nodePortService(tx, bay.ID, "tcp", 30000)
			tx.Put(s)
			made = append(made, s.ID)
		})
		tx := scratch.New(h.store.Snapshot(), h.clock)
		for range 60 {
			tx.Begin()
			switch id := made[rng.IntN(len(made))]; rng.IntN(3) {
			case 0:
				if s := scratch.Row[structs.Service](tx, id); s != nil {
					tx.Remove(s)
				}
			case 1:
				if s := scratch.Row[structs.Service](tx, id); s != nil {
					changed := *s
					changed.Spec = nodePortService(tx, bay.ID, "udp", 30000+rng.IntN(20)).Spec
					tx.Put(&changed)
				}
			default:
				s := nodePortService(tx, bay.ID, "tcp", 30000+rng.IntN(20))
				if tx.Reserved.NodePort(bay.ID, "tcp", s.Spec.Ports[0].NodePort) == "" {
					tx.Put(s)
					made = append(made, s.ID)
				}
			}
			if rng.IntN(3) == 0 {
				tx.Rollback()
			}
			want := make(map[int]int)
			for s := range scratch.ServicesInBay(tx, bay.ID) {
				if p := s.Spec.Ports[0]; p.Protocol == "tcp" {
					want[p.NodePort]++
				}
			}
			for port := 30000; port < 30020; port++ {
				if got := tx.Reserved.NodePort(bay.ID, "tcp", port); (got != "") != (want[port] > 0) || want[port] > 1 {
					t.Fatalf("seed %d: port %d belongs to service %q, and %d services have it", seed, port, got, want[port])
				}
			}
		}
	}
}
