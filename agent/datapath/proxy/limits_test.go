package proxy

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stackforge/magnum/structs"
)

func TestAProjectCantTakeWhatIsPromisedToOthers(t *testing.T) {
	for projects := 1; projects <= 10; projects++ {
		b := newBudget(100)
		b.setProjects(projects, func(string) bool { return true })
		greedy := 0
		for i := range 300 {
			if b.acquire("greedy", fmt.Sprint("service", i%3)) {
				greedy++
			}
		}
		if greedy < 25+50/projects || greedy > 75 {
			t.Errorf("%d projects: one alone got %d of 100", projects, greedy)
		}
		for p := 1; p < projects; p++ {
			for i := range 50 / projects {
				if !b.acquire(fmt.Sprint("project", p), fmt.Sprint("of", p)) {
					t.Fatalf("%d projects: number %d got only %d", projects, p, i)
				}
			}
		}
	}
}

func TestAServiceHasHalfAtMost(t *testing.T) {
	b := newBudget(100)
	for i := range 51 {
		if got := b.acquire("p", "s"); got != (i < 50) {
			t.Fatalf("number %d: %v", i, got)
		}
	}
	if !b.acquire("p", "other") {
		t.Error("the project's other service got nothing")
	}
	b.release("p", "other")
	for range 50 {
		b.release("p", "s")
	}
	if b.used != 0 || b.extra != 0 || b.of(projectAccount("p")).used != 0 {
		t.Errorf("after all were given back: %+v", b)
	}
}

func TestRefusalsAreSaidForAWhile(t *testing.T) {
	now := time.Unix(1000, 0)
	b := newBudget(2)
	b.now = func() time.Time { return now }
	for range 4 {
		b.acquire("p", "s")
	}
	if got := b.refusals("s", "connections"); !strings.HasPrefix(got, "3 connections were refused") {
		t.Errorf("refusals %q", got)
	}
	if got := b.refusals("other", "connections"); got != "" {
		t.Errorf("refusals of another service %q", got)
	}
	now = now.Add(problemShown + 1)
	if got := b.refusals("s", "connections"); got != "" {
		t.Errorf("later: %q", got)
	}
}

func TestABudgetForgetsWhatIsGone(t *testing.T) {
	b := newBudget(100)
	b.acquire("p", "s")
	b.acquire("q", "r")
	b.release("q", "r")
	b.setProjects(1, func(string) bool { return false })
	if len(b.byOwner) != 2 {
		t.Errorf("accounts %v, want those of the connection that goes on", b.byOwner)
	}
	b.release("p", "s")
	b.setProjects(1, func(string) bool { return false })
	if len(b.byOwner) != 0 {
		t.Errorf("accounts %v are left", b.byOwner)
	}
}

// Connections above the share are refused and reported, and another project gets its own.
func TestConnectionsAreBounded(t *testing.T) {
	a := startPod(t, "a", sayName("a"))
	p := testProxy(t, Options{MaxFiles: 64})
	first, second := freePort(t), freePort(t)
	conf := config(structs.ServiceSpec{NodePorts: true, Ports: []structs.ServicePort{{Port: 80, NodePort: first, Protocol: "tcp"}}},
		a.endpoint(true))
	other := conf.Services[0]
	other.ID, other.ProjectID = "service-2", "project-2"
	other.Spec.Ports = []structs.ServicePort{{Port: 80, NodePort: second, Protocol: "tcp"}}
	conf.Services = append(conf.Services, other)
	p.Apply(conf)
	open := 0
	for range p.conns.most + 5 {
		c, err := net.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", first))
		if errors.Is(err, syscall.ECONNRESET) {
			continue
		} else if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if nameOf(t, c) == "a" {
			open++
		}
	}
	if open == 0 || open > p.conns.most/2 {
		t.Errorf("%d connections of one service were taken, of %d in sum", open, p.conns.most)
	}
	problems := p.Status().Problems
	if len(problems) != 1 || problems[0].ServiceID != serviceID ||
		!strings.HasPrefix(problems[0].Reason, fmt.Sprintf("%d connections were refused", p.conns.most+5-open)) {
		t.Errorf("problems %+v", problems)
	}
	if got := ask(t, Status{TCP: map[string]int{projectID: second}}); got != "a" {
		t.Errorf("the other project was led to %q", got)
	}
}

func TestAffinityLastsForItsTimeout(t *testing.T) {
	a := newAffinity()
	a.limit(2)
	client := func(i byte) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, i}) }
	now := time.Unix(1000, 0)
	a.set("s", client(1), "pod-1", now)
	if got := a.pod("s", client(1), time.Minute, now.Add(time.Minute-1)); got != "pod-1" {
		t.Errorf("within the timeout: %q", got)
	}
	if got := a.pod("other", client(1), time.Minute, now); got != "" {
		t.Errorf("of another service: %q", got)
	}
	if got := a.pod("s", client(1), time.Minute, now.Add(time.Minute)); got != "" || len(a.byKey) != 0 {
		t.Errorf("after the timeout: %q, %d are left", got, len(a.byKey))
	}
	for i := range byte(3) {
		a.set("s", client(i), "pod-1", now)
		a.set("s", client(0), "pod-2", now) // stays in use
	}
	if a.pod("s", client(0), time.Minute, now) != "pod-2" || a.pod("s", client(2), time.Minute, now) != "pod-1" || len(a.byKey) != 2 {
		t.Errorf("the table has %v", a.byKey)
	}
}

// A proxy that takes over keeps clients with their pods, and forgets the same ones first.
func TestClientsAreTakenOver(t *testing.T) {
	a, b := startPod(t, "a", sayName("a")), startPod(t, "b", sayName("b"))
	spec := structs.ServiceSpec{ClientIPTimeout: 600}
	one := testProxy(t, Options{})
	first := ask(t, one.Apply(config(spec, a.endpoint(true), b.endpoint(true))))
	clients := one.Clients()
	if len(clients) != 1 || clients[0].PodID != first || clients[0].Addr != loopback {
		t.Fatalf("clients %+v", clients)
	}
	for range 10 { // without its memory, the proxy would begin anywhere
		two := testProxy(t, Options{})
		s := two.Apply(config(spec, a.endpoint(true), b.endpoint(true)))
		two.SetClients(append(clients, Client{ProjectID: "unknown"}))
		if got := ask(t, s); got != first {
			t.Fatalf("the client of %q was led to %q", first, got)
		}
	}
}

// files counts the descriptors of this process.
func files(t testing.TB) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

func TestNothingIsLeft(t *testing.T) {
	tcp, udp := startPod(t, "a", sayName("a")), startUDPPod(t, "b")
	round := func() {
		p := testProxy(t, Options{})
		spec := structs.ServiceSpec{ClientIPTimeout: 60, NodePorts: true, Ports: []structs.ServicePort{
			{Name: "tcp", Port: 80, NodePort: freePort(t), Protocol: "tcp"},
			{Name: "udp", Port: 53, NodePort: freePort(t), Protocol: "udp"}}}
		e := tcp.endpoint(true)
		e.Ports = []int{int(tcp.addr.Port()), int(udp.addr.Port())}
		s := p.Apply(config(spec, e))
		var conns []net.Conn
		for range 20 {
			c := dial(t, s)
			nameOf(t, c)
			u := dialUDP(t, "127.0.0.1", s.UDP[0].Local)
			askUDP(t, u, "x")
			conns = append(conns, c, u)
		}
		p.Close()
		for _, c := range conns {
			_ = c.Close()
		}
	}
	round() // what is opened once stays
	fds, routines := files(t), runtime.NumGoroutine()
	round()
	eventually(t, "descriptors are closed", func() bool { return files(t) <= fds })
	eventually(t, "goroutines end", func() bool { return runtime.NumGoroutine() <= routines })
}
