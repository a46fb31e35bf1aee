// Package services chooses what a service gets when it is created or changed: an address of
// its project, and node ports of its bay. It also keeps the limits of their number. The
// conductor's requests call it, in the scratch view of their batch.
package services

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/stackforge/magnum/server/conductor/endpoints"
	"github.com/stackforge/magnum/server/conductor/objects"
	"github.com/stackforge/magnum/server/conductor/scratch"
	"github.com/stackforge/magnum/structs"
)

// Defaults of Pools, as operators write them.
const (
	DefaultAddresses = "10.127.0.0/16"
	DefaultNodePorts = "30000-32767"
)

// Pools are what services get their addresses and node ports from. An operator sets them,
// alike on all servers. Services that exist keep what they have when they change.
type Pools struct {
	Addresses netip.Prefix // IPv4, /8 to /28; the zero value means DefaultAddresses
	NodePorts PortRange    // the zero value means DefaultNodePorts
}

// PortRange is a range of ports, both ends included.
type PortRange struct{ First, Last int }

// String returns the range as operators write it.
func (r PortRange) String() string { return fmt.Sprintf("%d-%d", r.First, r.Last) }

func (r PortRange) has(port int) bool { return r.First <= port && port <= r.Last }

// ParseAddresses reads an address range such as DefaultAddresses. CodeInvalid.
func ParseAddresses(text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	switch addr := p.Addr(); {
	case err != nil:
		return p, structs.Errorf(structs.CodeInvalid, "%.64q is not a range of addresses such as %s", text, DefaultAddresses)
	case !addr.Is4() || addr.IsLoopback() || addr.IsMulticast() || addr.IsLinkLocalUnicast() || addr.IsUnspecified():
		return p, structs.Errorf(structs.CodeInvalid, "%s is not a range of IPv4 addresses that services can have", p)
	case p.Bits() < 8 || p.Bits() > 28:
		return p, structs.Errorf(structs.CodeInvalid, "%s is not of a size from /8 to /28", p)
	case p != p.Masked():
		return p, structs.Errorf(structs.CodeInvalid, "%s is not the beginning of its range, which is %s", p, p.Masked())
	}
	return p, nil
}

// ParsePorts reads a range of ports such as DefaultNodePorts. CodeInvalid.
func ParsePorts(text string) (r PortRange, err error) {
	first, last, _ := strings.Cut(text, "-")
	if r.First, err = strconv.Atoi(strings.TrimSpace(first)); err == nil {
		r.Last, err = strconv.Atoi(strings.TrimSpace(last))
	}
	switch {
	case err != nil:
		return r, structs.Errorf(structs.CodeInvalid, "%.64q is not a range of ports such as %s", text, DefaultNodePorts)
	case r.First < 1 || r.Last > 65535 || r.First > r.Last:
		return r, structs.Errorf(structs.CodeInvalid, "%s is not a range within 1-65535", r)
	}
	return r, nil
}

func (p Pools) withDefaults() Pools {
	if !p.Addresses.IsValid() {
		p.Addresses = netip.MustParsePrefix(DefaultAddresses)
	}
	if p.NodePorts == (PortRange{}) {
		p.NodePorts, _ = ParsePorts(DefaultNodePorts)
	}
	return p
}

// Create completes a new service, writes it with its manifest and its endpoints, and returns
// the row. prefix is what a generated name begins with; it is not used if the service has a
// name. Errors: CodeInvalid for a node port outside the range; CodeConflict for a name or node
// port that is taken, or if none is free; CodeQuota.
func Create(t *scratch.Tx, pools Pools, s *structs.Service, prefix string, bay *structs.Bay, text string) (*structs.Service, error) {
	s.BayID = bay.ID
	taken := func(name string) *structs.Service { return named(t, s.ProjectID, bay.ID, name) }
	if s.Name == "" {
		s.Name = structs.GenerateLabel(prefix, s.ID, func(name string) bool { return taken(name) != nil })
	}
	if other := taken(s.Name); other != nil {
		return nil, structs.Errorf(structs.CodeConflict, "Bay %s has a service %s already, with UUID %s: delete it first, or use "+
			"another name.", bay.Name, s.Name, other.ID).About(structs.KindService)
	}
	if bay.Backend() == structs.BackendKubernetes {
		return createInCluster(t, s, bay, text)
	}
	if err := complete(t, pools.withDefaults(), s, nil); err != nil {
		return nil, err
	}
	put(t, s, text)
	return s, nil
}

// Change gives a service what another manifest says, unless nothing differs, and returns the
// row. It keeps its address, and the node ports that the manifest leaves open. Errors are those
// of Create, and CodeInvalid for another name, or if it would lose its address or get its first.
func Change(t *scratch.Tx, pools Pools, was *structs.Service, to structs.Service, text string) (*structs.Service, error) {
	if to.Name != "" && to.Name != was.Name {
		return nil, structs.Errorf(structs.CodeInvalid, "metadata.name: %q is not the service's name, %q, which can't be changed: create "+
			"another one", structs.Shorten(to.Name), was.Name).About(structs.KindService)
	}
	if objects.On(t, was.BayID) {
		return changeInCluster(t, was, to, text), nil
	}
	if to.Spec.Headless != was.Spec.Headless {
		is, not := "has no address", "get one"
		if to.Spec.Headless {
			is, not = "has address "+was.Address, "become headless"
		}
		return nil, structs.Errorf(structs.CodeInvalid, "spec.clusterIP: the service %s, and can't %s: delete it and create it again", is,
			not).About(structs.KindService)
	}
	s := *was
	s.Labels, s.Annotations, s.ManifestURL, s.Spec = to.Labels, to.Annotations, to.ManifestURL, to.Spec
	if err := complete(t, pools.withDefaults(), &s, was); err != nil {
		return nil, err
	}
	if old := scratch.Row[structs.Manifest](t, s.BesideID()); old != nil && old.Text == text && reflect.DeepEqual(&s, was) {
		return was, nil
	}
	s.UpdatedAt = t.Now
	put(t, &s, text)
	return &s, nil
}

func put(t *scratch.Tx, s *structs.Service, text string) {
	putText(t, s, text)
	was, now := scratch.Row[structs.Endpoints](t, s.ID), endpoints.Of(t, s)
	if was == nil || !endpoints.Same(was, now) {
		t.Put(now)
	}
}

// complete sets what a service gets. was is the service before, nil if it is new.
func complete(t *scratch.Tx, pools Pools, s, was *structs.Service) error {
	others, err := countOthers(t, s)
	if err != nil {
		return err
	}
	s.Spec.Ports = slices.Clone(s.Spec.Ports) // the node ports are set
	var old structs.ServiceSpec
	if was != nil {
		old = was.Spec
	}
	ports := account{
		taken: func(protocol string, port int) string { return takenBy(t, s, protocol, port) },
		free: func(protocol string) int {
			return t.Reserved.FreeNodePort(s.BayID, &s.Spec, protocol, pools.NodePorts.First, pools.NodePorts.Last)
		},
	}
	if err := pools.chooseNodePorts(&s.Spec, &old, ports); err != nil {
		return err
	}
	if n := others + countNodePorts(&s.Spec); n > structs.MaxProjectNodePorts {
		return structs.Errorf(structs.CodeQuota, "spec.ports: the project would have %d node ports in the bay, more than %d: use fewer",
			n, structs.MaxProjectNodePorts).About(structs.KindService)
	}
	if s.Address != "" || s.Spec.Headless {
		return nil
	}
	addr, ok := pools.freeAddress(s.ID, addressesOf(t, s.ProjectID))
	if !ok {
		return structs.Errorf(structs.CodeConflict, "the project's services have all addresses of %s, the servers' -service-pool: "+
			"delete one, or have an operator set a larger pool", pools.Addresses).About(structs.KindService)
	}
	s.Address = addr.String()
	return nil
}

// countOthers counts the node ports that other services of the project have in the service's
// bay. CodeQuota: there is no place for the service.
func countOthers(t *scratch.Tx, s *structs.Service) (nodePorts int, err error) {
	all, own := 0, 0
	for other := range scratch.ServicesInBay(t, s.BayID) {
		if other.ID == s.ID {
			continue
		}
		all++
		if other.ProjectID == s.ProjectID {
			own++
			nodePorts += countNodePorts(&other.Spec)
		}
	}
	switch {
	case own >= structs.MaxProjectServices:
		return 0, structs.Errorf(structs.CodeQuota, "the project has %d services in the bay, as many as it may have: delete one",
			own).About(structs.KindService)
	case all >= structs.MaxServices:
		return 0, structs.Errorf(structs.CodeQuota, "the bay has %d services, as many as it may have: delete one, or use another bay",
			all).About(structs.KindService)
	}
	return nodePorts, nil
}

// takenBy says who has a port on a host of the service's bay, "" if nobody but the service
// has it. Objects of other projects aren't named.
func takenBy(t *scratch.Tx, s *structs.Service, protocol string, port int) string {
	by := t.Reserved.NodePortTaken(s.BayID, protocol, port, s.ID)
	if by == "" {
		return ""
	}
	if other := scratch.Row[structs.Service](t, t.Reserved.NodePort(s.BayID, protocol, port)); other != nil && other.ID != s.ID {
		if other.ProjectID != s.ProjectID {
			return "a service of another project"
		}
		return fmt.Sprintf("service %s (%s)", other.Name, other.ID)
	}
	for w := range t.InBay(s.BayID) {
		for _, p := range w.Reserved().Ports {
			if p.HostPort != port || p.Protocol != protocol || !w.Place().Placed() {
				continue
			}
			if w.Base().ProjectID != s.ProjectID {
				return fmt.Sprintf("a %s of another project", w.Ref().Kind)
			}
			return fmt.Sprintf("%s %s (%s)", w.Ref().Kind, structs.NameOf(w), w.Base().ID)
		}
	}
	return by // a workload that is not the bay's, such as one in quarantine
}

func countNodePorts(spec *structs.ServiceSpec) (n int) {
	for _, p := range spec.Ports {
		if p.NodePort != 0 {
			n++
		}
	}
	return n
}

// addressesOf returns the addresses of a project's services, in all bays.
func addressesOf(t *scratch.Tx, projectID string) map[string]bool {
	taken := make(map[string]bool)
	for s := range scratch.ServicesOf(t, projectID) {
		taken[s.Address] = true
	}
	return taken
}

// account answers for the node ports and host ports of a bay.
type account struct {
	taken func(protocol string, port int) string // who has the port, "" for nobody
	free  func(protocol string) int              // one that neither anybody nor the spec has; 0 if there is none
}

type portKey struct {
	protocol string
	port     int
}

// chooseNodePorts sets the node ports of a spec that asks for them. A port keeps its node
// port of the old spec.
func (p Pools) chooseNodePorts(spec, old *structs.ServiceSpec, ports account) error {
	if !spec.NodePorts {
		return nil
	}
	had, own := make(map[portKey]bool), make(map[portKey]bool)
	for _, port := range old.Ports {
		had[portKey{port.Protocol, port.NodePort}] = true
	}
	for i, port := range spec.Ports {
		key := portKey{port.Protocol, port.NodePort}
		if port.NodePort == 0 {
			continue
		}
		own[key] = true
		if had[key] {
			continue // also if the range has changed since
		}
		if !p.NodePorts.has(port.NodePort) {
			return structs.Errorf(structs.CodeInvalid, "spec.ports[%d].nodePort: %d not in %d..%d, the operator's -node-port-range: "+
				"use one of these, or leave it out", i, port.NodePort, p.NodePorts.First, p.NodePorts.Last).About(structs.KindService)
		}
		if who := ports.taken(port.Protocol, port.NodePort); who != "" {
			return structs.Errorf(structs.CodeConflict, "spec.ports[%d].nodePort: %d/%s is taken on a host of the bay, by %s: use another "+
				"one, or leave it out", i, port.NodePort, port.Protocol, who).About(structs.KindService)
		}
	}
	for i := range spec.Ports {
		port := &spec.Ports[i]
		if kept := nodePortOf(old, port); port.NodePort == 0 && !own[portKey{port.Protocol, kept}] {
			port.NodePort = kept
			own[portKey{port.Protocol, kept}] = kept != 0
		}
	}
	for i := range spec.Ports {
		port := &spec.Ports[i]
		if port.NodePort != 0 {
			continue
		}
		if port.NodePort = ports.free(port.Protocol); port.NodePort == 0 {
			return structs.Errorf(structs.CodeConflict, "spec.ports[%d]: all ports %s, the operator's -node-port-range, are taken in the "+
				"bay: delete a service with node ports", i, p.NodePorts).About(structs.KindService)
		}
	}
	return nil
}

// nodePortOf returns the node port that a port has in another spec: of the same number, else
// of the same name. 0 if it has none.
func nodePortOf(spec *structs.ServiceSpec, port *structs.ServicePort) (named int) {
	for _, p := range spec.Ports {
		if p.Protocol == port.Protocol && p.Port == port.Port {
			return p.NodePort
		}
		if p.Protocol == port.Protocol && p.Name == port.Name {
			named = p.NodePort
		}
	}
	return named
}

// freeAddress returns an address that isn't taken. It depends on the ID, so that an address
// of a deleted service is not the next one's, and a retried create gets the same.
func (p Pools) freeAddress(id string, taken map[string]bool) (addr netip.Addr, ok bool) {
	base := p.Addresses.Addr().As4()
	first := binary.BigEndian.Uint32(base[:]) + 1 // neither the first nor the last of the range
	size := uint32(1)<<(32-p.Addresses.Bits()) - 2
	start := hash(id) % size
	for n := range size {
		var at [4]byte
		binary.BigEndian.PutUint32(at[:], first+(start+n)%size)
		if addr = netip.AddrFrom4(at); !taken[addr.String()] {
			return addr, true
		}
	}
	return addr, false
}

func hash(text string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(text))
	return h.Sum32()
}

// named returns the project's service of that name in the bay, nil if there is none.
func named(t *scratch.Tx, projectID, bayID, name string) *structs.Service {
	for s := range scratch.Typed[*structs.Service](t.ByName(structs.TableServices, projectID, name)) {
		if s.BayID == bayID {
			return s
		}
	}
	return nil
}
