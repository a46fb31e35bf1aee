//go:build !race

package datapath

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/stackforge/magnum/structs"
)

// idleMost bounds the memory of an idle data path, in KiB. Before it gives memory back, it has
// more.
const idleMost = 18 << 10

// manyServices returns a configuration of 1,000 services of 10 projects with 5 endpoints
// each.
func manyServices() Config {
	conf := Config{HostID: structs.NewID(), Upstreams: []string{"127.0.0.1:1"}}
	for p := range 10 {
		project := structs.NewID()
		conf.Projects = append(conf.Projects, Project{ID: project, Bridge: fmt.Sprint("br", p),
			Gateway: netip.PrefixFrom(netip.AddrFrom4([4]byte{127, 251, byte(os.Getpid()), byte(1 + p)}), 24)})
		for i := range 100 {
			s := Service{ID: structs.NewID(), ProjectID: project, Name: fmt.Sprint("service-", i),
				Address: fmt.Sprintf("10.127.%d.%d", p, i+1),
				Spec: structs.ServiceSpec{Selector: map[string]string{"app": fmt.Sprint(i)}, Ports: []structs.ServicePort{
					{Name: "tcp", Port: 80, TargetPort: 8080, Protocol: "tcp"}}}}
			if i%10 == 0 {
				s.Spec.Ports = append(s.Spec.Ports, structs.ServicePort{Name: "udp", Port: 53, TargetPort: 53, Protocol: "udp"})
			}
			for e := range 5 {
				s.Endpoints = append(s.Endpoints, structs.Endpoint{PodID: structs.NewID(), Name: fmt.Sprintf("service-%d-%d", i, e),
					HostID: structs.NewID(), Address: fmt.Sprintf("172.30.%d.%d", i, e+2), Ports: []int{8080, 53}, Ready: true})
			}
			conf.Services = append(conf.Services, s)
		}
	}
	return conf
}

// An idle data path is small, also after many changes of a large configuration, and after
// many connections. With MAGNUM_BIN, the whole program is measured.
func TestAnIdleDataPathIsSmall(t *testing.T) {
	o := program("one")
	if bin := os.Getenv("MAGNUM_BIN"); bin != "" {
		o.program = bin
	}
	c := openProgram(t, o, dataDir(t))
	conf := manyServices()
	pod, port := echo(t)
	conf.HostID = pod.HostID
	conf.Projects = append(conf.Projects, pod.Projects...)
	conf.Services = append(conf.Services, pod.Services...)
	var s Status
	for i := range 20 {
		conf.Services[i].Endpoints[0].Ready = false
		s = apply(t, c, conf)
	}
	for _, p := range s.Problems {
		if o.program == self || !strings.Contains(p.Reason, "names of project") {
			t.Errorf("problem %+v", p)
		}
	}
	if len(s.TCP) != 11 || len(s.UDP) != 101 {
		t.Errorf("%d TCP listeners and %d UDP sockets", len(s.TCP), len(s.UDP))
	}
	used := 0
	defer func() { t.Logf("an idle data path with 1,000 services has %d KiB", used) }()
	eventually(t, "the memory is given back", func() bool {
		used = resident(t, s.PID)
		return used < idleMost
	})
	before := used
	conns := make([]net.Conn, 500)
	for i := range conns {
		conns[i] = dialPort(t, port)
		say(t, conns[i], "x")
	}
	busy := resident(t, s.PID)
	if t.Logf("with %d connections it has %d KiB", len(conns), busy); busy < before+2<<10 {
		t.Fatalf("%d connections took only %d KiB", len(conns), busy-before)
	}
	for _, c := range conns {
		_ = c.Close()
	}
	eventually(t, "the memory of connections is given back", func() bool {
		used = resident(t, s.PID)
		return used < before+(busy-before)/2
	})
}

// resident returns the memory of a process, in KiB.
func resident(t testing.TB, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(b), "VmRSS:")
	var used int
	if _, err := fmt.Sscanf(after, "%d", &used); err != nil {
		t.Fatal(err)
	}
	return used
}
