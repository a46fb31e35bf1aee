package proxy

import (
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"

	"github.com/stackforge/magnum/structs"
)

// nodeKey names a node port of the host.
type nodeKey struct {
	number   int
	protocol string
}

// nodePort is a port of the host that leads to a service. One of tcp and udp is set.
type nodePort struct {
	to  atomic.Pointer[port]
	tcp *listener
	udp *udpServer
}

// updateNodes opens the node ports of all services, and closes the others.
func (p *Proxy) updateNodes(byProject map[string][]*structs.ServiceAssignment, ports map[portKey]*port) {
	want := map[nodeKey]portKey{}
	for _, services := range byProject {
		for _, s := range services {
			for _, sp := range s.Spec.Ports {
				if s.Spec.Headless || sp.NodePort == 0 {
					continue
				}
				want[nodeKey{sp.NodePort, sp.Protocol}] = portKey{s.ID, sp.Port, sp.Protocol}
			}
		}
	}
	for key, n := range p.nodes {
		to := ports[want[key]]
		if to != nil && (n.udp == nil || n.udp.to == to) {
			n.to.Store(to)
			continue
		}
		p.closeNode(n)
		delete(p.nodes, key)
	}
	for key, at := range want {
		if p.nodes[key] != nil {
			continue
		}
		n, err := p.openNode(key, ports[at])
		if err != nil {
			p.problem(at.service, "node port %d/%s isn't served on this host: %v: end the program that has the port, or give the "+
				"service another node port", key.number, key.protocol, err)
			continue
		}
		p.nodes[key] = n
	}
}

// openNode opens a node port on all addresses of the host.
func (p *Proxy) openNode(key nodeKey, to *port) (*nodePort, error) {
	n := &nodePort{}
	n.to.Store(to)
	name := fmt.Sprintf("node %d/%s", key.number, key.protocol)
	addr := netip.AddrPortFrom(netip.Addr{}, uint16(key.number))
	var err error
	if key.protocol == "udp" {
		n.udp, err = p.listenUDP(name, addr, to)
	} else {
		n.tcp, err = p.listen(name, addr, func(*net.TCPConn) *port { return n.to.Load() })
	}
	if err != nil {
		return nil, err
	}
	return n, nil
}

// closeNode closes a node port. Its connections go on.
func (p *Proxy) closeNode(n *nodePort) {
	if n.tcp != nil {
		p.close(n.tcp)
	} else {
		p.closeUDP(n.udp)
	}
}
