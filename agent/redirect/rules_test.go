package redirect

import (
	"net/netip"
	"testing"

	"github.com/stackforge/magnum/agent/datapath"
	"github.com/stackforge/magnum/structs"
)

// conf is a host with two projects, of which p has the services web and names, and q has web
// under the same address.
func conf() (datapath.Config, datapath.Status) {
	port := func(port int, protocol string) structs.ServicePort {
		return structs.ServicePort{Port: port, Protocol: protocol}
	}
	ready := structs.Endpoint{PodID: "a", Ready: true, Ports: []int{80, 53, 54}}
	return datapath.Config{
			Projects: []datapath.Project{
				{ID: "p", Bridge: "br-p", Gateway: netip.MustParsePrefix("172.18.0.1/24")},
				{ID: "q", Bridge: "br-q", Gateway: netip.MustParsePrefix("172.18.1.1/24")},
			},
			Services: []datapath.Service{
				{ID: "1", ProjectID: "p", Address: "10.127.0.1", Spec: structs.ServiceSpec{Ports: []structs.ServicePort{
					port(80, "tcp"), port(53, "udp"), port(54, "udp")}}, Endpoints: []structs.Endpoint{ready}},
				{ID: "2", ProjectID: "q", Address: "10.127.0.1", Spec: structs.ServiceSpec{Ports: []structs.ServicePort{port(80, "tcp")}}},
				{ID: "3", ProjectID: "p", Spec: structs.ServiceSpec{Headless: true, Ports: []structs.ServicePort{port(80, "tcp")}}},
				{ID: "4", ProjectID: "elsewhere", Address: "10.127.0.9",
					Spec: structs.ServiceSpec{Ports: []structs.ServicePort{port(80, "tcp")}}},
			},
		}, datapath.Status{TCP: map[string]int{"p": 40001, "q": 40002, "elsewhere": 40003},
			UDP: []datapath.UDPPort{{ServiceID: "1", Port: 53, Local: 50001}, {ServiceID: "2", Port: 54, Local: 50002}}}
}

func TestRules(t *testing.T) {
	got := RulesOf(conf())
	a := netip.MustParseAddr
	want := Rules{
		Ports: map[Target]uint16{
			{"br-p", a("10.127.0.1"), TCP, 80}: 40001,
			{"br-p", a("10.127.0.1"), UDP, 53}: 50001, // not 54, for which nothing is open
			{"br-q", a("10.127.0.1"), TCP, 80}: 40002,
		},
		Gateways:  map[Gateway]struct{}{{"br-p", a("172.18.0.1")}: {}, {"br-q", a("172.18.1.1")}: {}},
		Addresses: map[netip.Addr]struct{}{a("10.127.0.1"): {}, a("10.127.0.9"): {}},
	}
	if !got.Equal(&want) {
		t.Errorf("the rules are %+v, want %+v", got, want)
	}
}

// TestRulesOfNothing: a data path that has nothing open gets no connections, and the bridges
// are guarded all the same.
func TestRulesOfNothing(t *testing.T) {
	c, _ := conf()
	got := RulesOf(c, datapath.Status{})
	if len(got.Ports) != 0 || len(got.Gateways) != 2 {
		t.Errorf("the rules are %+v", got)
	}
	c.Projects[0].Bridge, c.Projects[1].Bridge = "", "longer-than-a-name"
	if got := RulesOf(c, datapath.Status{}); len(got.Gateways) != 0 {
		t.Errorf("an interface that can't exist is guarded: %+v", got)
	}
}

// TestRulesOfDatagramsToNoPod: they aren't redirected, so that the kernel refuses them.
func TestRulesOfDatagramsToNoPod(t *testing.T) {
	a := netip.MustParseAddr
	for what, c := range map[string]struct {
		endpoints []structs.Endpoint
		leads     bool
	}{
		"no pod":               {nil, false},
		"a pod that isn't":     {[]structs.Endpoint{{PodID: "a", Ports: []int{80, 53, 54}}}, false},
		"a pod without a port": {[]structs.Endpoint{{PodID: "a", Ready: true, Ports: []int{80, 0, 54}}}, false},
		"one of two": {[]structs.Endpoint{{PodID: "a", Ports: []int{0, 53, 0}},
			{PodID: "b", Ready: true, Ports: []int{0, 53, 0}}}, true},
	} {
		conf, status := conf()
		conf.Services[0].Endpoints = c.endpoints
		conf.Services[0].Spec.Ports[1].NodePort, conf.Services[0].Spec.Ports[0].NodePort = 30053, 30080
		r := RulesOf(conf, status)
		if _, led := r.Ports[Target{"br-p", a("10.127.0.1"), UDP, 53}]; led != c.leads {
			t.Errorf("%s: datagrams are redirected: %v", what, led)
		}
		if _, led := r.Ports[Target{"br-p", a("10.127.0.1"), TCP, 80}]; !led {
			t.Errorf("%s: connections aren't redirected", what) // the data path resets them
		}
		if _, refused := r.Refused[30053]; refused == c.leads || len(r.Refused) > 1 {
			t.Errorf("%s: refused are %v", what, r.Refused)
		}
		conf.Projects = nil // on other hosts of the bay
		if r := RulesOf(conf, status); len(r.Refused) == 0 != c.leads {
			t.Errorf("%s: without a network of the project, refused are %v", what, r.Refused)
		}
	}
}

func TestRulesChange(t *testing.T) {
	c, s := conf()
	was := RulesOf(c, s)
	for what, change := range map[string]func(){
		"a port":            func() { s.TCP["p"] = 40009 },
		"a socket":          func() { s.UDP[0].Local++ },
		"a service's port":  func() { c.Services[0].Spec.Ports[0].Port = 81 },
		"no ready pod":      func() { c.Services[0].Endpoints = nil },
		"an address":        func() { c.Services[3].Address = "10.127.0.10" },
		"a project's place": func() { c.Projects[0].Bridge = "br-r" },
	} {
		c, s = conf()
		if now := RulesOf(c, s); !now.Equal(&was) {
			t.Fatal("equal configurations give other rules")
		}
		change()
		if now := RulesOf(c, s); now.Equal(&was) {
			t.Errorf("%s changes no rule", what)
		}
	}
}
