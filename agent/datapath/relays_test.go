package datapath

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/agent/datapath/proxy"
	"github.com/stackforge/magnum/agent/datapath/relay"
	"github.com/stackforge/magnum/agent/datapath/sockets"
	"github.com/stackforge/magnum/internal/freeport"
	"github.com/stackforge/magnum/structs"
)

// relayHost is a host with a relay.
type relayHost struct {
	conf Config
	peer structs.RelayPeer // as others see it
}

// newRelayHost makes the key of a host. Its relay listens on loopback.
func newRelayHost(t testing.TB, id string) *relayHost {
	t.Helper()
	file := filepath.Join(t.TempDir(), "relay.pem")
	_, pin, err := relay.Key(file)
	if err != nil {
		t.Fatal(err)
	}
	listen := fmt.Sprintf("127.0.0.1:%d", freeport.Take(t))
	return &relayHost{conf: Config{HostID: id, Relay: Relay{Listen: listen, KeyFile: file}},
		peer: structs.RelayPeer{HostID: id, Relay: structs.Relay{Key: pin, Addr: listen}}}
}

// testCore returns a core in this process.
func testCore(t testing.TB) *core {
	t.Helper()
	c := newCore(t.TempDir(), hclog.NewNullLogger(), "one", sockets.New(nil, nil), 4096)
	t.Cleanup(c.close)
	return c
}

// Host A has the pod, host B only the node port: a connection to B reaches the pod, and the
// handover of A doesn't cut it.
func TestPodsOnOtherHostsAreReached(t *testing.T) {
	a, b := newRelayHost(t, "host-a"), newRelayHost(t, "host-b")
	pod, port := echo(t)
	service := pod.Services[0]
	service.Endpoints[0].HostID = "host-a"
	a.conf.Relay.Peers, b.conf.Relay.Peers = []structs.RelayPeer{b.peer}, []structs.RelayPeer{a.peer}
	b.conf.Services = []Service{service}
	service.Spec.Ports = []structs.ServicePort{{Name: "tcp", Port: 80, Protocol: "tcp"}} // both hosts are one here
	a.conf.Services = []Service{service}

	dir := dataDir(t)
	one := openDataPath(t, dir, "one")
	before := apply(t, one, a.conf)
	here := testCore(t)
	if s, _ := here.apply(b.conf); len(s.Problems) > 0 {
		t.Fatalf("problems %+v", s.Problems)
	}
	conn := dialPort(t, port)
	say(t, conn, "by relay")

	two := openDataPath(t, dir, "two")
	if s := status(t, two); len(s.Problems) > 0 {
		t.Errorf("problems after the handover: %+v", s.Problems)
	}
	say(t, conn, "by the earlier process")
	say(t, dialPort(t, port), "by the new process")
	_ = conn.Close()
	eventually(t, "the earlier process ends", func() bool { return !runs(before.PID) })
	say(t, dialPort(t, port), "word")

	// A host that is no peer any more is cut at once.
	last := dialPort(t, port)
	say(t, last, "word")
	a.conf.Relay.Peers = nil
	apply(t, two, a.conf)
	_ = last.SetReadDeadline(time.Now().Add(time.Minute))
	if n, err := last.Read(make([]byte, 1)); err == nil {
		t.Errorf("the connection of a host that is gone said %d bytes", n)
	}
}

func TestOnlyEndpointsOfThisHostAreAccepted(t *testing.T) {
	c := testCore(t)
	conf, _ := echo(t)
	conf.Projects = nil
	e := conf.Services[0].Endpoints[0]
	e.PodID, e.HostID = "pod-2", "host-2"
	unready := conf.Services[0].Endpoints[0]
	unready.PodID, unready.Ready, unready.Ports = "pod-3", false, []int{8080, 0}
	conf.Services[0].Endpoints = append(conf.Services[0].Endpoints, e, unready)
	if s, _ := c.apply(conf); len(s.Problems) > 0 {
		t.Fatalf("problems %+v", s.Problems)
	}
	for to, want := range map[relay.Target]string{
		{ServiceID: "service-1", PodID: "pod-1", Port: 53, Protocol: "udp"}: "127.0.0.1:9",
		{ServiceID: "service-1", PodID: "pod-3", Port: 80, Protocol: "tcp"}: "127.0.0.1:8080",
		{ServiceID: "service-1", PodID: "pod-3", Port: 53, Protocol: "udp"}: "",
		{ServiceID: "service-1", PodID: "pod-1", Port: 53, Protocol: "tcp"}: "",
		{ServiceID: "service-1", PodID: "pod-2", Port: 53, Protocol: "udp"}: "",
		{ServiceID: "service-2", PodID: "pod-1", Port: 53, Protocol: "udp"}: "",
	} {
		got, err := c.accept(to)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%+v: %q, %v", to, got, err)
		}
	}
}

// TestFormerEndpointsAreAccepted: what was an endpoint is accepted for a moment, because other
// hosts may not know of the change yet.
func TestFormerEndpointsAreAccepted(t *testing.T) {
	at := time.Now()
	a, b := relay.Target{ServiceID: "s", PodID: "a"}, relay.Target{ServiceID: "s", PodID: "b"}
	one := func(target relay.Target) *map[relay.Target]localTarget {
		return &map[relay.Target]localTarget{target: {addr: "10.0.0.1:" + target.PodID}}
	}
	first := withFormer(one(a), nil, at)
	second := withFormer(one(b), first, at)
	if all := *second; len(all) != 2 || all[a].addr != "10.0.0.1:a" || all[a].until != at.Add(formerFor) || !all[b].until.IsZero() {
		t.Errorf("after a change: %v", all)
	}
	third := withFormer(one(b), second, at.Add(formerFor-1))
	if all := *third; len(all) != 2 || all[a].until != at.Add(formerFor) {
		t.Errorf("after another change: %v", all)
	}
	if all := *withFormer(one(a), third, at); len(all) != 2 || !all[a].until.IsZero() {
		t.Errorf("when it is one again: %v", all)
	}
	if all := *withFormer(one(b), third, at.Add(formerFor)); len(all) != 1 {
		t.Errorf("in the end: %v", all)
	}
	c := new(core)
	c.local.Store(&map[relay.Target]localTarget{a: {addr: "x", until: at.Add(-1)}, b: {addr: "y", until: at.Add(time.Hour)}})
	if _, err := c.accept(a); err == nil {
		t.Error("it is accepted for longer")
	}
	if addr, err := c.accept(b); err != nil || addr != "y" {
		t.Errorf("%q, %v", addr, err)
	}
}

func TestProblemsOfTheRelay(t *testing.T) {
	c := testCore(t)
	host := newRelayHost(t, "host-a")
	other := newRelayHost(t, "host-b").peer
	other.Addr = "127.0.0.1:1"
	host.conf.Relay.Peers = []structs.RelayPeer{other}
	taken, err := net.Listen("tcp4", host.conf.Relay.Listen)
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	reason := func(hostID, word string) bool {
		for _, p := range c.status().Problems {
			if p.HostID == hostID && strings.Contains(p.Reason, word) {
				return true
			}
		}
		return false
	}
	c.apply(host.conf)
	if !reason("", host.conf.Relay.Listen+", or set -relay-port") {
		t.Errorf("problems with a port that is taken: %+v", c.status().Problems)
	}
	eventually(t, "the peer is out of reach", func() bool { return reason("host-b", "host-b") })
	_ = taken.Close()
	c.retry()
	if reason("", host.conf.Relay.Listen) {
		t.Errorf("problems after the port was freed: %+v", c.status().Problems)
	}
	host.conf.Relay.KeyFile = t.TempDir()
	c.apply(host.conf)
	if !reason("", "key of the relay") {
		t.Errorf("problems without a key: %+v", c.status().Problems)
	}
	host.conf.Relay = Relay{}
	c.apply(host.conf)
	if got := c.status().Problems; len(got) > 0 {
		t.Errorf("problems without a relay: %+v", got)
	}
	if _, err := c.dialRelay(context.Background(), "host-b", proxyTarget); err == nil {
		t.Error("a pod on another host was reached without a relay")
	}
}

// The data paths of two clusters on one machine: each serves what it can, and says which port
// the other one has, until that is free.
func TestTwoDataPathsOnOneMachine(t *testing.T) {
	hosts := []*relayHost{newRelayHost(t, "host-1"), newRelayHost(t, "host-1")}
	cores := []*core{testCore(t), testCore(t)}
	first, port := echo(t)
	second, _ := echo(t)
	second.Services[0].Spec.Ports[0].NodePort = port
	first.Relay, second.Relay = hosts[0].conf.Relay, hosts[1].conf.Relay
	second.Relay.Listen = first.Relay.Listen
	if s, _ := cores[0].apply(first); len(s.Problems) > 0 {
		t.Fatalf("problems of the first: %+v", s.Problems)
	}
	s, _ := cores[1].apply(second)
	for range 3 { // the problems stay what they are
		var text []string
		for _, p := range s.Problems {
			text = append(text, p.Reason)
		}
		all := strings.Join(text, "\n")
		if len(text) != 2 || !strings.Contains(all, fmt.Sprintf("node port %d/tcp", port)) || !strings.Contains(all, "another node port") ||
			!strings.Contains(all, second.Relay.Listen+", or set -relay-port") {
			t.Fatalf("problems of the second: %s", all)
		}
		cores[1].retry()
		s = cores[1].status()
	}
	if s.TCP["project-1"] == 0 || len(s.UDP) != 1 || resolve(t, second) != "10.127.0.1" || resolve(t, first) != "10.127.0.1" {
		t.Errorf("the second serves %+v", s)
	}
	say(t, dialPort(t, port), "by the first")
	cores[0].close()
	cores[1].retry()
	if s := cores[1].status(); len(s.Problems) > 0 {
		t.Errorf("problems after the first has ended: %+v", s.Problems)
	}
	say(t, dialPort(t, port), "by the second")
}

// proxyTarget is any pod.
var proxyTarget = proxy.Target{ServiceID: "s", PodID: "p", Port: 80, Protocol: "tcp"}

// Datagrams go to pods on other hosts too.
func TestDatagramsReachOtherHosts(t *testing.T) {
	a, b := newRelayHost(t, "host-a"), newRelayHost(t, "host-b")
	pod, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer pod.Close()
	go func() {
		buf := make([]byte, 100)
		for {
			n, from, err := pod.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			_, _ = pod.WriteToUDPAddrPort(buf[:n], from)
		}
	}()
	gateway := netip.AddrFrom4([4]byte{127, 252, 3, 1})
	service := Service{ID: "service-1", ProjectID: "project-1", Name: "dns", Address: "10.127.0.1",
		Spec: structs.ServiceSpec{Ports: []structs.ServicePort{{Port: 53, Protocol: "udp"}}},
		Endpoints: []structs.Endpoint{{PodID: "pod-1", HostID: "host-a", Address: "127.0.0.1", Ready: true,
			Ports: []int{pod.LocalAddr().(*net.UDPAddr).Port}}}}
	a.conf.Relay.Peers, b.conf.Relay.Peers = []structs.RelayPeer{b.peer}, []structs.RelayPeer{a.peer}
	a.conf.Services, b.conf.Services = []Service{service}, []Service{service}
	b.conf.Projects = []Project{{ID: "project-1", Gateway: netip.PrefixFrom(gateway, 8)}}
	there, here := testCore(t), testCore(t)
	there.apply(a.conf)
	s, _ := here.apply(b.conf)
	if len(s.UDP) != 1 {
		t.Fatalf("status %+v", s)
	}
	c, err := net.Dial("udp4", net.JoinHostPort(gateway.String(), fmt.Sprint(s.UDP[0].Local)))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	buf := make([]byte, 100)
	eventually(t, "a datagram comes back", func() bool {
		_, _ = c.Write([]byte("word"))
		_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		n, err := c.Read(buf)
		return err == nil && string(buf[:n]) == "word"
	})
}
