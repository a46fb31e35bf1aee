package names

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/stackforge/magnum/structs"
)

const host, other = "host-a", "host-b"

func testServices() []structs.ServiceAssignment {
	port := func(name string, n int, protocol string) structs.ServicePort {
		return structs.ServicePort{Name: name, Port: n, TargetPort: n, Protocol: protocol}
	}
	endpoint := func(name, on, address string, ready bool, ports ...int) structs.Endpoint {
		return structs.Endpoint{PodID: name + "-id", Name: name, HostID: on, Address: address, Ready: ready, Ports: ports}
	}
	return []structs.ServiceAssignment{
		{ID: "1", ProjectID: "p1", Name: "redis", Address: "10.127.0.1", Spec: structs.ServiceSpec{
			Ports: []structs.ServicePort{port("redis", 6379, "tcp"), port("stats", 9000, "udp")}}},
		{ID: "2", ProjectID: "p1", Name: "db", Spec: structs.ServiceSpec{Headless: true,
			Ports: []structs.ServicePort{port("sql", 5432, "tcp")}},
			Endpoints: []structs.Endpoint{
				endpoint("db-0", host, "172.20.0.2", true, 5433),
				endpoint("db-1", host, "172.20.0.3", true, 5434),
				endpoint("db-2", host, "172.20.0.4", false, 5435),
				endpoint("db-3", other, "172.20.0.2", true, 5436),
				endpoint("db-4", host, "172.20.0.5", true, 0),
			}},
		{ID: "3", ProjectID: "p2", Name: "redis", Address: "10.127.0.2", Spec: structs.ServiceSpec{
			Ports: []structs.ServicePort{port("", 6379, "tcp")}}},
		{ID: "4", ProjectID: "p2", Name: "secret", Address: "10.127.0.3", Spec: structs.ServiceSpec{
			Ports: []structs.ServicePort{port("", 1, "tcp")}}},
	}
}

// text returns what an answer says, sorted.
func text(a Answer) string {
	var all []string
	for _, rr := range a.Answer {
		switch rr := rr.(type) {
		case *dns.A:
			all = append(all, rr.A.String())
		case *dns.SRV:
			all = append(all, fmt.Sprintf("%d %s", rr.Port, rr.Target))
		case *dns.PTR:
			all = append(all, rr.Ptr)
		}
	}
	slices.Sort(all)
	switch {
	case !a.Own:
		return "forward"
	case !a.Exists:
		return "nxdomain"
	case len(all) == 0:
		return "nodata"
	}
	return strings.Join(all, ", ")
}

func TestLookup(t *testing.T) {
	z := NewZone(host, testServices())
	for _, c := range []struct{ project, name, qtype, want string }{
		{"p1", "redis.", "A", "10.127.0.1"},
		{"p1", "ReDiS.", "A", "10.127.0.1"},
		{"P1", "redis.", "A", "10.127.0.1"},
		{"p2", "redis.", "A", "10.127.0.2"},
		{"p1", "redis.", "AAAA", "nodata"},
		{"p1", "redis.", "MX", "nodata"},
		{"p1", "redis.", "ANY", "10.127.0.1"},
		{"p1", "secret.", "A", "forward"},
		{"p3", "redis.", "A", "forward"},
		{"p1", ".", "NS", "forward"},
		{"p1", "redis.p1.", "A", "forward"},
		{"p1", "redis.p1.svc.", "A", "forward"},
		{"p1", "redis.example.com.", "A", "forward"},
		{"p1", "notcluster.local.", "A", "forward"},
		{"p1", "redis.p1.svc.cluster.local.", "A", "10.127.0.1"},
		{"p1", "Redis.P1.SVC.Cluster.Local.", "A", "10.127.0.1"},
		{"p1", "redis.p1.svc.cluster.local.", "AAAA", "nodata"},
		{"p1", "none.p1.svc.cluster.local.", "A", "nxdomain"},
		{"p1", "none.p1.svc.cluster.local.", "AAAA", "nxdomain"},
		{"p1", "redis.p2.svc.cluster.local.", "A", "nxdomain"},
		{"p1", "secret.p2.svc.cluster.local.", "A", "nxdomain"},
		{"p1", "secret.p1.svc.cluster.local.", "A", "nxdomain"},
		{"p1", "p2.svc.cluster.local.", "A", "nxdomain"},
		{"p1", "p1.svc.cluster.local.", "A", "nodata"},
		{"p1", "svc.cluster.local.", "A", "nodata"},
		{"p1", "cluster.local.", "SOA", "nodata"},
		{"p1", "other.cluster.local.", "A", "nxdomain"},
		{"p1", "a.redis.p1.svc.cluster.local.", "A", "nxdomain"},
		{"p1", "a.b.c.redis.p1.svc.cluster.local.", "A", "nxdomain"},
		{"p1", "db.", "A", "172.20.0.2, 172.20.0.3, 172.20.0.5"},
		{"p1", "db.p1.svc.cluster.local.", "A", "172.20.0.2, 172.20.0.3, 172.20.0.5"},
		{"p1", "db-0.db.p1.svc.cluster.local.", "A", "172.20.0.2"},
		{"p1", "DB-1.db.p1.svc.cluster.local.", "A", "172.20.0.3"},
		{"p1", "db-0.db.p1.svc.cluster.local.", "AAAA", "nodata"},
		{"p1", "db-2.db.p1.svc.cluster.local.", "A", "nodata"}, // not ready
		{"p1", "db-3.db.p1.svc.cluster.local.", "A", "nodata"}, // on another host
		{"p1", "db-9.db.p1.svc.cluster.local.", "A", "nxdomain"},
		{"p2", "db-0.db.p1.svc.cluster.local.", "A", "nxdomain"},
		{"p1", "_redis._tcp.redis.p1.svc.cluster.local.", "SRV", "6379 redis.p1.svc.cluster.local."},
		{"p1", "_stats._udp.redis.p1.svc.cluster.local.", "SRV", "9000 redis.p1.svc.cluster.local."},
		{"p1", "_STATS._UDP.redis.p1.svc.cluster.local.", "SRV", "9000 redis.p1.svc.cluster.local."},
		{"p1", "_stats._tcp.redis.p1.svc.cluster.local.", "SRV", "nxdomain"},
		{"p1", "_redis._tcp.redis.p1.svc.cluster.local.", "A", "nodata"},
		{"p1", "_tcp.redis.p1.svc.cluster.local.", "SRV", "nodata"},
		{"p1", "_tcp.db.p1.svc.cluster.local.", "A", "nodata"},
		{"p1", "_udp.db.p1.svc.cluster.local.", "A", "nxdomain"},
		{"p1", "_sql._tcp.db.p1.svc.cluster.local.", "SRV", "5433 db-0.db.p1.svc.cluster.local., 5434 db-1.db.p1.svc.cluster.local."},
		{"p2", "_._tcp.redis.p2.svc.cluster.local.", "SRV", "nxdomain"},
		{"p1", "1.0.127.10.in-addr.arpa.", "PTR", "redis.p1.svc.cluster.local."},
		{"p1", "3.0.20.172.in-addr.arpa.", "PTR", "db-1.db.p1.svc.cluster.local."},
		{"p1", "2.0.127.10.in-addr.arpa.", "PTR", "forward"},
		{"p1", "0.127.10.in-addr.arpa.", "PTR", "forward"},
	} {
		if got := text(z.Lookup(c.project, c.name, dns.StringToType[c.qtype])); got != c.want {
			t.Errorf("%s of project %s, %s: %s, want %s", c.name, c.project, c.qtype, got, c.want)
		}
	}
}

func TestLookupOfNoZone(t *testing.T) {
	for _, z := range []*Zone{nil, {}, NewZone(host, nil)} {
		if got := text(z.Lookup("p1", "redis.", dns.TypeA)); got != "forward" {
			t.Errorf("a single label: %s", got)
		}
		if got := text(z.Lookup("p1", "redis.p1.svc.cluster.local.", dns.TypeA)); got != "nxdomain" {
			t.Errorf("a full name: %s", got)
		}
	}
}

func TestAnswersRepeatTheNameAsItWasAsked(t *testing.T) {
	z := NewZone(host, testServices())
	for _, name := range []string{"ReDis.", "rEDIS.p1.SVC.cluster.local.", "Db-0.DB.p1.svc.cluster.local."} {
		a := z.Lookup("p1", name, dns.TypeA)
		if len(a.Answer) != 1 || a.Answer[0].Header().Name != name || a.Answer[0].Header().Ttl > 5 {
			t.Errorf("%s is answered by %v", name, a.Answer)
		}
	}
	a := z.Lookup("p1", "_sql._tcp.db.p1.svc.cluster.local.", dns.TypeSRV)
	if len(a.Extra) != 2 {
		t.Errorf("two targets come with the addresses %v", a.Extra)
	}
}

func TestHeadlessAddressesAreShuffled(t *testing.T) {
	z := NewZone(host, testServices())
	first := make(map[string]bool)
	for range 200 {
		first[z.Lookup("p1", "db.", dns.TypeA).Answer[0].(*dns.A).A.String()] = true
	}
	if len(first) != 3 {
		t.Errorf("the first of three addresses is always one of %v", first)
	}
}
