package services

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/stackforge/magnum/structs"
)

func id(n int) string { return fmt.Sprintf("%08x-0000-4000-8000-000000000000", n) }

// TestFreeAddress: all addresses of a pool but its first and last are given out, each once.
// An address depends on the ID alone, if it is free.
func TestFreeAddress(t *testing.T) {
	pools := Pools{Addresses: netip.MustParsePrefix("10.1.2.16/28")}
	taken := make(map[string]bool)
	for n := range 14 {
		addr, ok := pools.freeAddress(id(n), taken)
		if !ok || taken[addr.String()] || !pools.Addresses.Contains(addr) || addr.String() == "10.1.2.16" || addr.String() == "10.1.2.31" {
			t.Fatalf("service %d gets %s, %v; taken are %v", n, addr, ok, taken)
		}
		taken[addr.String()] = true
	}
	if addr, ok := pools.freeAddress(id(14), taken); ok {
		t.Errorf("a service more gets %s", addr)
	}
	delete(taken, "10.1.2.20")
	if addr, ok := pools.freeAddress(id(14), taken); !ok || addr.String() != "10.1.2.20" {
		t.Errorf("the free address is not found: %s, %v", addr, ok)
	}
	wide := Pools{}.withDefaults()
	first, _ := wide.freeAddress(id(1), nil)
	again, _ := wide.freeAddress(id(1), nil)
	other, _ := wide.freeAddress(id(2), nil)
	if first != again || first == other {
		t.Errorf("addresses %s, %s and %s", first, again, other)
	}
}

func TestChooseNodePorts(t *testing.T) {
	pools := Pools{NodePorts: PortRange{30000, 30003}}
	port := func(name string, port, node int, protocol string) structs.ServicePort {
		return structs.ServicePort{Name: name, Port: port, NodePort: node, Protocol: protocol}
	}
	type ports = []structs.ServicePort
	taken := map[string]string{}
	for _, test := range []struct {
		name     string
		old, now ports
		taken    string // port/protocol of others
		want     string // node ports, or the code and a text of the refusal
	}{
		{name: "given", now: ports{port("a", 80, 30001, "tcp"), port("b", 81, 30000, "tcp")}, want: "[30001 30000]"},
		{name: "given outside", now: ports{port("a", 80, 80, "tcp")}, want: "invalid spec.ports[0].nodePort: 80 not in 30000..30003"},
		{name: "given and taken", now: ports{port("", 80, 30000, "tcp"), port("a", 80, 30001, "tcp")}, taken: "30001/tcp",
			want: "conflict spec.ports[1].nodePort: 30001/tcp is taken on a host of the bay, by X"},
		{name: "taken for the other protocol", now: ports{port("", 80, 30001, "tcp")}, taken: "30001/udp", want: "[30001]"},
		{name: "the only free one", now: ports{port("", 80, 0, "tcp")}, taken: "30000/tcp 30001/tcp 30003/tcp", want: "[30002]"},
		{name: "none is free", now: ports{port("", 80, 0, "tcp")}, taken: "30000/tcp 30001/tcp 30002/tcp 30003/tcp",
			want: "conflict spec.ports[0]: all ports 30000-30003"},
		{name: "not twice in a service", now: ports{port("a", 80, 0, "tcp"), port("b", 81, 0, "tcp")}, taken: "30000/tcp 30001/tcp",
			want: "[30002 30003]"},
		{name: "the given one is nobody else's", now: ports{port("a", 80, 0, "tcp"), port("b", 81, 30002, "tcp")},
			taken: "30000/tcp 30001/tcp", want: "[30003 30002]"},
		{name: "kept by number", old: ports{port("", 80, 30002, "tcp")}, now: ports{port("x", 80, 0, "tcp")}, want: "[30002]"},
		{name: "kept by name", old: ports{port("a", 80, 30002, "tcp")}, now: ports{port("a", 8080, 0, "tcp")}, want: "[30002]"},
		{name: "another protocol", old: ports{port("a", 80, 30002, "tcp")}, now: ports{port("a", 80, 0, "udp")},
			taken: "30000/udp 30002/udp 30003/udp", want: "[30001]"},
		{name: "kept, and given to another", old: ports{port("a", 80, 30002, "tcp")},
			now: ports{port("a", 80, 0, "tcp"), port("b", 81, 30002, "tcp")}, taken: "30000/tcp 30001/tcp", want: "[30003 30002]"},
		{name: "given as it was, outside the range", old: ports{port("a", 80, 20000, "tcp")}, now: ports{port("a", 80, 20000, "tcp")},
			want: "[20000]"},
		{name: "kept, outside the range", old: ports{port("a", 80, 20000, "tcp")}, now: ports{port("a", 80, 0, "tcp")}, want: "[20000]"},
	} {
		clear(taken)
		for _, key := range strings.Fields(test.taken) {
			taken[key] = "X"
		}
		spec := structs.ServiceSpec{NodePorts: true, Ports: slices.Clone(test.now)}
		err := pools.chooseNodePorts(&spec, &structs.ServiceSpec{Ports: test.old}, account{
			taken: func(protocol string, port int) string { return taken[fmt.Sprint(port, "/", protocol)] },
			free: func(protocol string) int {
				for port := pools.NodePorts.First; port <= pools.NodePorts.Last; port++ {
					own := slices.ContainsFunc(spec.Ports, func(p structs.ServicePort) bool {
						return p.NodePort == port && p.Protocol == protocol
					})
					if !own && taken[fmt.Sprint(port, "/", protocol)] == "" {
						return port
					}
				}
				return 0
			},
		})
		var chosen []int
		for _, p := range spec.Ports {
			chosen = append(chosen, p.NodePort)
		}
		got := fmt.Sprint(chosen)
		if err != nil {
			got = fmt.Sprint(structs.CodeOf(err), " ", err)
		}
		if got != test.want && (err == nil || !strings.HasPrefix(got, test.want)) {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
	spec := structs.ServiceSpec{Ports: ports{port("", 80, 0, "tcp")}}
	if err := pools.chooseNodePorts(&spec, &structs.ServiceSpec{}, account{}); err != nil || spec.Ports[0].NodePort != 0 {
		t.Errorf("a service that asks for none: %v, %v", spec.Ports, err)
	}
}
