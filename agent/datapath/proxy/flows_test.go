package proxy

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stackforge/magnum/agent/datapath/sockets"
	"github.com/stackforge/magnum/structs"
)

// nextProxy returns a proxy that has the sockets and the flows of another one.
func nextProxy(t testing.TB, one *Proxy, o Options, flows []Flow) *Proxy {
	t.Helper()
	files, err := one.opts.Sockets.Dup()
	if err != nil {
		t.Fatal(err)
	}
	two := testProxy(t, o)
	two.opts.Sockets = sockets.New(files, nil)
	two.SetFlows(flows)
	return two
}

// Each client stays with its pod, whether it has asked at the gateway or at a node port, and
// whatever the proxy would choose. No datagram is lost, and none is answered twice.
func TestFlowsAreTakenOver(t *testing.T) {
	pods := []*pod{startUDPPod(t, "a"), startUDPPod(t, "b"), startUDPPod(t, "c")}
	all := func() (list []structs.Endpoint) {
		for _, p := range pods {
			list = append(list, p.endpoint(true))
		}
		return list
	}
	number := freePort(t)
	conf := config(udpSpec(number), all()...)
	one := testProxy(t, Options{})
	s := one.Apply(conf)
	if len(s.Problems) > 0 {
		t.Fatal(s.Problems)
	}
	clients, was := map[string]net.Conn{}, map[string]string{}
	for i := range 30 {
		name := fmt.Sprint("client ", i)
		clients[name] = dialUDP(t, "127.0.0.1", s.UDP[0].Local)
		if i%2 == 1 {
			clients[name] = dialUDP(t, fmt.Sprint("127.0.0.", 1+i%3), number)
		}
		was[name] = askUDP(t, clients[name], "x")
	}
	flows, _ := one.PauseFlows()
	if len(flows) != len(clients) {
		t.Fatalf("%d flows of %d clients", len(flows), len(clients))
	}
	for name, c := range clients {
		if _, err := c.Write([]byte(name)); err != nil { // it waits for the next process
			t.Fatal(err)
		}
	}
	two := nextProxy(t, one, Options{}, flows)
	if s := two.Apply(conf); len(s.Problems) > 0 {
		t.Fatal(s.Problems)
	}
	b := make([]byte, 100)
	for name, c := range clients {
		_ = c.SetReadDeadline(time.Now().Add(time.Minute))
		n, err := c.Read(b)
		if pod, _, _ := strings.Cut(was[name], ":"); err != nil || string(b[:n]) != pod+":"+name {
			t.Errorf("%s of pod %s got %q, %v", name, pod, b[:n], err)
		}
	}
	two.mu.Lock()
	count := two.flowCount
	two.mu.Unlock()
	if count != len(clients) {
		t.Errorf("%d flows after that", count)
	}
	// A pod that has gone meanwhile isn't looked for, and an unknown socket is no harm.
	again, _ := two.PauseFlows()
	three := nextProxy(t, two, Options{}, append(again, Flow{Socket: "unknown", PodID: "a"}))
	pods = pods[:1]
	three.Apply(config(udpSpec(number), all()...))
	for name, c := range clients {
		if got := askUDP(t, c, "x"); got != "a:x" {
			t.Errorf("%s got %q", name, got)
		}
	}
}

// Reading goes on if the other process fails, and by itself if it is slow.
func TestPausedFlowsGoOn(t *testing.T) {
	a := startUDPPod(t, "a")
	p := testProxy(t, Options{})
	s := p.Apply(config(udpSpec(0), a.endpoint(true)))
	c := dialUDP(t, "127.0.0.1", s.UDP[0].Local)
	askUDP(t, c, "x")
	for range 3 {
		_, resume := p.PauseFlows()
		resume()
		if got := askUDP(t, c, "x"); got != "a:x" {
			t.Errorf("got %q", got)
		}
		resume() // the timer
	}
	p.PauseFlows()
	if got := askUDP(t, c, "x"); got != "a:x" {
		t.Errorf("got %q", got)
	}
	_, resume := p.PauseFlows()
	p.Close()
	resume()
}

// What is handed over is bounded in number and in time.
func TestHandedFlowsAreBounded(t *testing.T) {
	p := testProxy(t, Options{FlowTimeout: time.Minute})
	var all []Flow
	for i := range maxFlows + 10 {
		all = append(all, Flow{Socket: "s", PodID: "a", Used: time.Now(),
			Client: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 1)})
	}
	all[0].Used = time.Now().Add(-time.Hour)
	p.SetFlows(all)
	p.applying.Lock()
	if n := len(p.handed["s"]); n != maxFlows-1 {
		t.Errorf("%d flows are known", n)
	}
	p.applying.Unlock()
	p.Apply(config(udpSpec(0)))
	p.applying.Lock()
	defer p.applying.Unlock()
	if p.handed != nil {
		t.Error("flows of sockets that aren't there are kept")
	}
}

// The clients of another proxy that stay silent are forgotten.
func TestHandedFlowsEnd(t *testing.T) {
	a := startUDPPod(t, "a")
	one := testProxy(t, Options{})
	conf := config(udpSpec(0), a.endpoint(true))
	c := dialUDP(t, "127.0.0.1", one.Apply(conf).UDP[0].Local)
	askUDP(t, c, "x")
	flows, _ := one.PauseFlows()
	flows[0].Used = time.Now().Add(time.Hour)
	two := nextProxy(t, one, Options{FlowTimeout: 10 * time.Millisecond}, flows)
	two.Apply(conf)
	eventually(t, "the flow is forgotten", func() bool {
		two.applying.Lock()
		defer two.applying.Unlock()
		s := two.servers()[0]
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.handed == nil
	})
}
