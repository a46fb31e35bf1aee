// Package redirect leads the connections of containers to the data path: it programs the
// kernel's packet filter, nftables, on a Docker host.
//
// Package agent/services calls it after the data path has taken a configuration. The package
// speaks netlink and needs no program of the host. It touches only tables of its own, whose
// names contain the host's UUID.
package redirect

import (
	"net/netip"
	"slices"

	"github.com/stackforge/magnum/agent/datapath"
	"github.com/stackforge/magnum/structs"
)

// Rules are what the kernel does for the services of a host. Two Rules may be compared by
// their maps.
type Rules struct {
	// Ports say to which port of the gateway a connection is redirected.
	Ports map[Target]uint16
	// Gateways are the bridges of the projects with their addresses. A bridge reaches no
	// other address of the host.
	Gateways map[Gateway]struct{}
	// Addresses are those of all services. What isn't redirected to one is refused.
	Addresses map[netip.Addr]struct{}
	// Refused are the node ports that take datagrams and lead to no pod. The data path has
	// them open, so the kernel would not say that there is nobody.
	Refused map[uint16]struct{}
}

// Target is a port of a service, as the containers on a bridge reach it.
type Target struct {
	Bridge   string // name of the interface
	Addr     netip.Addr
	Protocol Protocol
	Port     uint16
}

// Gateway is a project's bridge with its address.
type Gateway struct {
	Bridge string // name of the interface
	Addr   netip.Addr
}

// Protocol is a protocol's number in IP packets.
type Protocol uint8

// The protocols of services.
const (
	TCP Protocol = 6
	UDP Protocol = 17
)

// RulesOf returns the rules for a data path that has taken a configuration. A port for which
// the data path has nothing open is not redirected, nor are datagrams that no pod would get:
// who sends them is told so, as by a host where nothing listens.
func RulesOf(conf datapath.Config, status datapath.Status) Rules {
	r := Rules{Ports: make(map[Target]uint16), Gateways: make(map[Gateway]struct{}), Addresses: make(map[netip.Addr]struct{}),
		Refused: make(map[uint16]struct{})}
	bridges := make(map[string]string, len(conf.Projects)) // by project
	for _, p := range conf.Projects {
		if p.Bridge == "" || len(p.Bridge) >= nameSize || !p.Gateway.Addr().Is4() {
			continue // the kernel has no such interface
		}
		bridges[p.ID] = p.Bridge
		r.Gateways[Gateway{p.Bridge, p.Gateway.Addr()}] = struct{}{}
	}
	type socket struct {
		service string
		port    int
	}
	local := make(map[socket]int, len(status.UDP))
	for _, u := range status.UDP {
		local[socket{u.ServiceID, u.Port}] = u.Local
	}
	for i := range conf.Services {
		s := &conf.Services[i]
		for n, p := range s.Spec.Ports {
			if p.Protocol == protocolUDP && isPort(p.NodePort) && !hasPod(s, n) {
				r.Refused[uint16(p.NodePort)] = struct{}{}
			}
		}
		addr, err := netip.ParseAddr(s.Address)
		if err != nil || !addr.Is4() {
			continue // headless
		}
		r.Addresses[addr] = struct{}{}
		bridge, ok := bridges[s.ProjectID]
		if !ok {
			continue
		}
		for n, p := range s.Spec.Ports {
			t := Target{Bridge: bridge, Addr: addr, Protocol: TCP, Port: uint16(p.Port)}
			to := status.TCP[s.ProjectID]
			if p.Protocol == protocolUDP {
				t.Protocol, to = UDP, local[socket{s.ID, p.Port}]
			}
			if isPort(to) && isPort(p.Port) && (t.Protocol == TCP || hasPod(s, n)) {
				r.Ports[t] = uint16(to)
			}
		}
	}
	return r
}

// hasPod reports whether a port of a service, by its place in the list, leads to a pod.
func hasPod(s *datapath.Service, n int) bool {
	return slices.ContainsFunc(s.Endpoints, func(e structs.Endpoint) bool { return e.Ready && n < len(e.Ports) && e.Ports[n] != 0 })
}

func isPort(n int) bool { return n > 0 && n <= 65535 }

// protocolUDP is the protocol of a service's port that takes datagrams.
const protocolUDP = "udp"
