package names

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/stackforge/magnum/structs"
)

// ClusterDomain is the domain below which all names are the cluster's own. They are
// never forwarded.
const ClusterDomain = "cluster.local"

// Domain returns the domain of a project's services, for the search list of its
// containers.
func Domain(projectID string) string { return projectID + ".svc." + ClusterDomain }

// ttl is the life of a record in seconds: how long a name may lead to what has changed.
const ttl = 5

// Zone holds the names of services by project. It doesn't change. The zero value and nil
// hold no name.
type Zone struct {
	projects map[string]*project // by ID in lower case
}

type project struct {
	id       string
	services map[string]*service   // by name in lower case
	reverse  map[netip.Addr]string // full names by address, for PTR
}

type service struct {
	address  netip.Addr // not valid if headless
	headless bool
	ports    []structs.ServicePort
	pods     []pod // of a headless service
}

// pod is an endpoint of a headless service.
type pod struct {
	name    string
	address netip.Addr // not valid if the pod has no address that this host can answer
	ports   []int      // in the order of the service's; 0 where it has none
}

// NewZone returns the names of services, of all projects, as the host with that ID
// answers them.
func NewZone(hostID string, services []structs.ServiceAssignment) *Zone {
	z := &Zone{projects: make(map[string]*project)}
	for _, from := range services {
		key := strings.ToLower(from.ProjectID)
		p := z.projects[key]
		if p == nil {
			p = &project{id: from.ProjectID, services: make(map[string]*service), reverse: make(map[netip.Addr]string)}
			z.projects[key] = p
		}
		s := &service{headless: from.Spec.Headless, ports: from.Spec.Ports}
		full := strings.ToLower(from.Name) + "." + Domain(key) + "."
		if !s.headless {
			s.address = parseAddress(from.Address)
			p.name(s.address, full)
		} else {
			for _, e := range from.Endpoints {
				to := pod{name: strings.ToLower(e.Name), ports: e.Ports}
				if e.Ready && e.HostID == hostID {
					to.address = parseAddress(e.Address)
					p.name(to.address, to.name+"."+full)
				}
				s.pods = append(s.pods, to)
			}
		}
		p.services[strings.ToLower(from.Name)] = s
	}
	return z
}

// name notes the full name of an address. The first one stays.
func (p *project) name(a netip.Addr, full string) {
	if _, has := p.reverse[a]; a.IsValid() && !has {
		p.reverse[a] = full
	}
}

// parseAddress returns an IPv4 address; the zero Addr if there is none.
func parseAddress(text string) netip.Addr {
	a, err := netip.ParseAddr(text)
	if a = a.Unmap(); err != nil || !a.Is4() {
		return netip.Addr{}
	}
	return a
}

// Answer is what a zone knows of a question.
type Answer struct {
	// Own says that the name is the zone's to answer. Otherwise the question goes to
	// others, and the rest is unset.
	Own    bool
	Exists bool     // the name exists, perhaps without records of that type
	Apex   string   // owner of the SOA that goes with an answer without records
	Answer []dns.RR // in random order
	Extra  []dns.RR // addresses of names in Answer
}

// Lookup answers a question of a project's container. The name is fully qualified; the
// records carry it in the case of the question.
func (z *Zone) Lookup(projectID, name string, qtype uint16) Answer {
	lower := strings.ToLower(dns.Fqdn(name))
	labels := strings.Split(strings.TrimSuffix(lower, "."), ".")
	p := z.project(projectID)
	if len(labels) == 1 { // also the root, which no service is named
		s := p.services[labels[0]]
		if s == nil {
			return Answer{}
		}
		return s.answer(Answer{Own: true, Exists: true, Apex: lower}, name, qtype)
	}
	if !dns.IsSubDomain(ClusterDomain+".", lower) {
		return p.ptr(name, lower, qtype)
	}
	own := Answer{Own: true, Apex: ClusterDomain + "."}
	domain := Domain(strings.ToLower(projectID)) + "."
	if dns.IsSubDomain(lower, domain) { // the domain, or one above it
		own.Exists = true
		return own
	}
	if !dns.IsSubDomain(domain, lower) {
		return own
	}
	labels = strings.Split(strings.TrimSuffix(lower, "."+domain), ".")
	s := p.services[labels[len(labels)-1]]
	if s == nil {
		return own
	}
	full := labels[len(labels)-1] + "." + domain
	switch before := labels[:len(labels)-1]; {
	case len(before) == 0:
		own.Exists = true
		return s.answer(own, name, qtype)
	case len(before) == 1 && (before[0] == "_tcp" || before[0] == "_udp"):
		own.Exists = slices.ContainsFunc(s.ports, func(p structs.ServicePort) bool { return p.Name != "" && "_"+p.Protocol == before[0] })
		return own
	case len(before) == 1:
		return s.pod(own, before[0], name, qtype)
	case len(before) == 2:
		return s.srv(own, before[0], before[1], name, full, qtype)
	}
	return own
}

// noProject has no names: reads of nil maps find nothing.
var noProject = new(project)

func (z *Zone) project(id string) *project {
	if z != nil {
		if p := z.projects[strings.ToLower(id)]; p != nil {
			return p
		}
	}
	return noProject
}

// addresses returns those that the service's name leads to.
func (s *service) addresses() []netip.Addr {
	var all []netip.Addr
	if s.address.IsValid() {
		all = append(all, s.address)
	}
	for _, p := range s.pods {
		if p.address.IsValid() {
			all = append(all, p.address)
		}
	}
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

// answer adds the records of the service's own name.
func (s *service) answer(a Answer, name string, qtype uint16) Answer {
	if qtype == dns.TypeA || qtype == dns.TypeANY {
		for _, to := range s.addresses() {
			a.Answer = append(a.Answer, recordA(name, to))
		}
	}
	return a
}

// pod adds the records of a pod of a headless service.
func (s *service) pod(a Answer, label, name string, qtype uint16) Answer {
	for _, p := range s.pods {
		if p.name != label {
			continue
		}
		a.Exists = true
		if p.address.IsValid() && (qtype == dns.TypeA || qtype == dns.TypeANY) {
			a.Answer = append(a.Answer, recordA(name, p.address))
		}
	}
	return a
}

// srv adds the records of a named port. full is the service's full name.
func (s *service) srv(a Answer, port, protocol, name, full string, qtype uint16) Answer {
	at := slices.IndexFunc(s.ports, func(p structs.ServicePort) bool {
		return p.Name != "" && "_"+strings.ToLower(p.Name) == port && "_"+p.Protocol == protocol
	})
	if at < 0 {
		return a
	}
	a.Exists = true
	if qtype != dns.TypeSRV && qtype != dns.TypeANY {
		return a
	}
	if !s.headless {
		a.Answer = append(a.Answer, recordSRV(name, full, s.ports[at].Port))
		for _, to := range s.addresses() {
			a.Extra = append(a.Extra, recordA(full, to))
		}
		return a
	}
	for _, i := range rand.Perm(len(s.pods)) {
		p := s.pods[i]
		if !p.address.IsValid() || at >= len(p.ports) || p.ports[at] == 0 {
			continue
		}
		target := p.name + "." + full
		a.Answer = append(a.Answer, recordSRV(name, target, p.ports[at]))
		a.Extra = append(a.Extra, recordA(target, p.address))
	}
	return a
}

// ptr answers for the addresses of the project's names.
func (p *project) ptr(name, lower string, qtype uint16) Answer {
	digits, is := strings.CutSuffix(lower, ".in-addr.arpa.")
	parts := strings.Split(digits, ".")
	if !is || len(parts) != 4 {
		return Answer{}
	}
	slices.Reverse(parts)
	full, has := p.reverse[parseAddress(strings.Join(parts, "."))]
	if !has {
		return Answer{}
	}
	a := Answer{Own: true, Exists: true, Apex: lower}
	if qtype == dns.TypePTR || qtype == dns.TypeANY {
		a.Answer = []dns.RR{&dns.PTR{Hdr: recordHeader(name, dns.TypePTR), Ptr: full}}
	}
	return a
}

func recordHeader(name string, rrtype uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: rrtype, Class: dns.ClassINET, Ttl: ttl}
}

func recordA(name string, to netip.Addr) dns.RR {
	return &dns.A{Hdr: recordHeader(name, dns.TypeA), A: to.AsSlice()}
}

func recordSRV(name, target string, port int) dns.RR {
	return &dns.SRV{Hdr: recordHeader(name, dns.TypeSRV), Weight: 100, Port: uint16(port), Target: target}
}

func recordSOA(apex string) dns.RR {
	return &dns.SOA{Hdr: recordHeader(apex, dns.TypeSOA), Ns: "ns.dns." + ClusterDomain + ".", Mbox: "hostmaster." + ClusterDomain + ".",
		Serial: 1, Refresh: 3600, Retry: 600, Expire: 86400, Minttl: ttl}
}
