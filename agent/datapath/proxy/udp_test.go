package proxy

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stackforge/magnum/structs"
)

// startUDPPod starts a pod that answers each datagram with its name and the datagram.
func startUDPPod(t testing.TB, name string) *pod {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	p := &pod{name: name, addr: c.LocalAddr().(*net.UDPAddr).AddrPort()}
	go func() {
		b := make([]byte, maxDatagram)
		for {
			n, from, err := c.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			_, _ = c.WriteToUDPAddrPort(append([]byte(name+":"), b[:n]...), from)
		}
	}()
	return p
}

// udpSpec is a service with a UDP port, and perhaps a node port.
func udpSpec(nodePort int) structs.ServiceSpec {
	return structs.ServiceSpec{NodePorts: nodePort != 0, Ports: []structs.ServicePort{{Port: 53, NodePort: nodePort, Protocol: "udp"}}}
}

// dialUDP makes a client of a UDP port. It takes answers from that address only.
func dialUDP(t testing.TB, ip string, port int) net.Conn {
	t.Helper()
	c, err := net.Dial("udp4", net.JoinHostPort(ip, fmt.Sprint(port)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// askUDP sends a word until there is an answer, and returns that.
func askUDP(t testing.TB, c net.Conn, word string) string {
	t.Helper()
	b := make([]byte, maxDatagram)
	for range 300 {
		_, _ = c.Write([]byte(word))
		_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		if n, err := c.Read(b); err == nil {
			return string(b[:n])
		}
	}
	t.Fatal("no answer")
	return ""
}

func TestDatagramsOfAClientGoToOnePod(t *testing.T) {
	a, b := startUDPPod(t, "a"), startUDPPod(t, "b")
	p := testProxy(t, Options{})
	s := p.Apply(config(udpSpec(0), a.endpoint(true), b.endpoint(true)))
	if len(s.UDP) != 1 || s.UDP[0].ServiceID != serviceID || s.UDP[0].Port != 53 || s.UDP[0].Local == 0 {
		t.Fatalf("status %+v", s)
	}
	one, two := dialUDP(t, "127.0.0.1", s.UDP[0].Local), dialUDP(t, "127.0.0.1", s.UDP[0].Local)
	first, second := askUDP(t, one, "1"), askUDP(t, two, "1")
	if first == second {
		t.Errorf("both clients were led to %q", first)
	}
	for range 5 {
		if got := askUDP(t, one, "1"); got != first {
			t.Fatalf("a client of %q was led to %q", first, got)
		}
	}
	// A pod that isn't ready any more gets nothing, also of clients that it had.
	left := map[bool]*pod{true: b, false: a}[strings.HasPrefix(first, "a")]
	p.Apply(config(udpSpec(0), left.endpoint(true)))
	if got := askUDP(t, one, "late"); got != left.name+":late" {
		t.Errorf("the client got %q", got)
	}
}

func TestNodePortsAnswerFromTheAddressThatWasAsked(t *testing.T) {
	a := startUDPPod(t, "a")
	p := testProxy(t, Options{})
	number := freePort(t)
	if s := p.Apply(config(udpSpec(number), a.endpoint(true))); len(s.Problems) > 0 {
		t.Fatal(s.Problems)
	}
	for _, ip := range []string{"127.0.0.1", "127.0.0.2", "127.9.9.9"} {
		if got := askUDP(t, dialUDP(t, ip, number), "x"); got != "a:x" {
			t.Errorf("%s answers %q", ip, got)
		}
	}
}

func TestAUDPPodThatRefusesIsPassedOver(t *testing.T) {
	a := startUDPPod(t, "a")
	dead := a.endpoint(true)
	dead.PodID, dead.Ports = "dead", []int{freePort(t)}
	p := testProxy(t, Options{})
	s := p.Apply(config(udpSpec(0), dead, a.endpoint(true)))
	for range 4 {
		if got := askUDP(t, dialUDP(t, "127.0.0.1", s.UDP[0].Local), "x"); got != "a:x" {
			t.Errorf("got %q", got)
		}
	}
}

func TestAffinityForgetsAUDPPodThatRefuses(t *testing.T) {
	a := startUDPPod(t, "a")
	dead := a.endpoint(true)
	dead.PodID, dead.Ports = "dead", []int{freePort(t)}
	spec := udpSpec(0)
	spec.ClientIPTimeout = 600
	p := testProxy(t, Options{})
	s := p.Apply(config(spec, dead, a.endpoint(true)))
	p.SetClients([]Client{{projectID, serviceID, netip.MustParseAddr("127.0.0.1"), "dead", time.Now()}})
	if got := askUDP(t, dialUDP(t, "127.0.0.1", s.UDP[0].Local), "x"); got != "a:x" {
		t.Errorf("got %q", got)
	}
	if all := p.Clients(); len(all) != 1 || all[0].PodID == "dead" {
		t.Errorf("remembered: %v", all)
	}
}

func TestSilentFlowsEnd(t *testing.T) {
	a := startUDPPod(t, "a")
	p := testProxy(t, Options{FlowTimeout: 20 * time.Millisecond})
	s := p.Apply(config(udpSpec(0), a.endpoint(true)))
	c := dialUDP(t, "127.0.0.1", s.UDP[0].Local)
	askUDP(t, c, "x")
	eventually(t, "the flow ends", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.flowCount == 0
	})
	if got := askUDP(t, c, "y"); got != "a:y" && got != "a:x" {
		t.Errorf("after that the client got %q", got)
	}
}

// When the project has its share of flows, its oldest flow makes room.
func TestFlowsAreBounded(t *testing.T) {
	a := startUDPPod(t, "a")
	p := testProxy(t, Options{MaxFiles: 64})
	s := p.Apply(config(udpSpec(0), a.endpoint(true)))
	most := p.flows.most
	for range 3 * most {
		if got := askUDP(t, dialUDP(t, "127.0.0.1", s.UDP[0].Local), "x"); got != "a:x" {
			t.Fatalf("got %q", got)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.flowCount > most || p.flowCount == 0 {
		t.Errorf("%d flows, at most %d", p.flowCount, most)
	}
}

func TestDatagramsToOtherHostsGoByRelay(t *testing.T) {
	a := startUDPPod(t, "a")
	go1 := make(chan struct{})
	p := testProxy(t, Options{DialUDP: func(ctx context.Context, hostID string, to Target) (net.Conn, error) {
		<-go1 // what comes meanwhile waits
		c, err := net.Dial("udp4", a.addr.String())
		return struct{ net.Conn }{c}, err // not a socket
	}})
	e := a.endpoint(true)
	e.HostID = far
	s := p.Apply(config(udpSpec(0), e))
	c := dialUDP(t, "127.0.0.1", s.UDP[0].Local)
	for _, word := range []string{"1", "2", "3"} {
		if _, err := c.Write([]byte(word)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the datagrams wait", func() bool {
		for _, server := range p.servers() {
			server.mu.Lock()
			defer server.mu.Unlock()
			if e := server.order.Front(); e != nil {
				f := e.Value.(*flow)
				f.mu.Lock()
				defer f.mu.Unlock()
				return len(f.queue) == 3
			}
		}
		return false
	})
	close(go1)
	b := make([]byte, 16)
	for _, want := range []string{"a:1", "a:2", "a:3"} {
		_ = c.SetReadDeadline(time.Now().Add(time.Minute))
		if n, err := c.Read(b); err != nil || string(b[:n]) != want {
			t.Errorf("got %q, %v, want %q", b[:n], err, want)
		}
	}
}

// A datagram is of the largest size that there is.
func TestLargeDatagrams(t *testing.T) {
	a := startUDPPod(t, "a")
	p := testProxy(t, Options{})
	s := p.Apply(config(udpSpec(0), a.endpoint(true)))
	word := strings.Repeat("x", 65000)
	if got := askUDP(t, dialUDP(t, "127.0.0.1", s.UDP[0].Local), word); got != "a:"+word {
		t.Errorf("got %d bytes", len(got))
	}
}

func TestSourceOfADatagram(t *testing.T) {
	if local, oob := source(nil); local.IsValid() || oob != nil {
		t.Errorf("without a message: %v, %v", local, oob)
	}
	if local, oob := source([]byte{1, 2, 3}); local != (netip.Addr{}) || oob != nil {
		t.Errorf("of no message: %v, %v", local, oob)
	}
}
