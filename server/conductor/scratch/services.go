package scratch

import (
	"iter"
	"strings"

	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// nodePort is a port of all hosts of a bay, of one protocol.
type nodePort struct {
	protocol string // tcp or udp, in lower case
	port     int
}

func nodePortOf(protocol string, port int) nodePort {
	if protocol == "" {
		protocol = "tcp"
	}
	return nodePort{strings.ToLower(protocol), port}
}

// ServicesInBay returns the services of a bay in creation order, but those that the batch
// has written last.
func ServicesInBay(t *Tx, bayID string) iter.Seq[*structs.Service] {
	return Typed[*structs.Service](t.overlay(Rows(state.ServicesInBay(t.Base, bayID)), func(r structs.Row) bool {
		return r.(*structs.Service).BayID == bayID
	}, structs.TableServices))
}

// BaysWithServices returns the bays that have a service, by ID. It costs nothing if there is
// no service, and one seek for each bay that has one.
func BaysWithServices(t *Tx) iter.Seq[*structs.Bay] {
	return func(yield func(*structs.Bay) bool) {
		if len(t.writtenIDs[structs.TableServices]) == 0 && !state.HasAnyService(t.Base) {
			return
		}
		for b := range t.Bays() {
			for range ServicesInBay(t, b.ID) {
				if !yield(b) {
					return
				}
				break
			}
		}
	}
}

// NodePort returns the ID of the service that has the node port in the bay, "" if none has.
// A node port is taken on every host of the bay. The ports of a bay are read once per batch.
func (r *Reservations) NodePort(bayID, protocol string, port int) (serviceID string) {
	ports, ok := r.nodePorts[bayID]
	if !ok {
		ports = make(map[nodePort]string)
		for s := range ServicesInBay(r.t, bayID) {
			addNodePorts(ports, s)
		}
		r.nodePorts[bayID] = ports
	}
	return ports[nodePortOf(protocol, port)]
}

func addNodePorts(ports map[nodePort]string, s *structs.Service) {
	for i := range s.Spec.Ports {
		if p := &s.Spec.Ports[i]; p.NodePort != 0 {
			ports[nodePortOf(p.Protocol, p.NodePort)] = s.ID
		}
	}
}

// moveNodePorts replaces the node ports of a service's previous row by those of its new row.
func (r *Reservations) moveNodePorts(from, to structs.Row) {
	if s, ok := from.(*structs.Service); ok && r.nodePorts[s.BayID] != nil {
		ports := r.nodePorts[s.BayID]
		for i := range s.Spec.Ports {
			key := nodePortOf(s.Spec.Ports[i].Protocol, s.Spec.Ports[i].NodePort)
			if ports[key] == s.ID {
				delete(ports, key)
			}
		}
	}
	if s, ok := to.(*structs.Service); ok && r.nodePorts[s.BayID] != nil {
		addNodePorts(r.nodePorts[s.BayID], s)
	}
}

// NodePortTaken says what has the port on a host of the bay, for a message: another service
// than the one with the ID, or a container or pod with that host port. "" means that nothing
// has it.
func (r *Reservations) NodePortTaken(bayID, protocol string, port int, serviceID string) (by string) {
	if other := r.NodePort(bayID, protocol, port); other != "" && other != serviceID {
		return "another service of the bay"
	}
	for _, h := range r.t.HostsOf(bayID) {
		if h.Used.HasPort(nodePortOf(protocol, port).protocol, port) {
			return "a container or pod on host " + h.Name
		}
	}
	return ""
}

// FreeNodePort returns a port between low and high that nothing on the bay's hosts has, nor
// the spec itself; 0 if there is none. Consecutive calls return different ports, so that a
// port that has just become free is not used again at once.
func (r *Reservations) FreeNodePort(bayID string, spec *structs.ServiceSpec, protocol string, low, high int) int {
	own := func(port int) bool {
		for i := range spec.Ports {
			if p := &spec.Ports[i]; p.NodePort == port && nodePortOf(p.Protocol, port) == nodePortOf(protocol, port) {
				return true
			}
		}
		return false
	}
	n := high - low + 1
	for i := range max(n, 0) {
		port := low + int((r.t.seq+uint64(i))%uint64(n))
		if !own(port) && r.NodePortTaken(bayID, protocol, port, "") == "" {
			return port
		}
	}
	return 0
}
