package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/agent/datapath/sockets"
	"github.com/stackforge/magnum/internal/freeport"
	"github.com/stackforge/magnum/structs"
)

const (
	host      = "host-1"
	far       = "host-2"
	projectID = "project-1"
	serviceID = "service-1"
)

var loopback = netip.MustParseAddr("127.0.0.1")

// serviceAddr is where all services of these tests are.
const serviceAddr = "10.127.0.1"

// testProxy returns a proxy that takes every connection as meant for port 80 of serviceAddr.
func testProxy(t testing.TB, o Options) *Proxy {
	t.Helper()
	o.Sockets = sockets.New(nil, nil)
	o.Log = hclog.NewNullLogger()
	if o.OriginalDestination == nil {
		o.OriginalDestination = func(*net.TCPConn) (netip.AddrPort, error) {
			return netip.MustParseAddrPort(serviceAddr + ":80"), nil
		}
	}
	p := New(o)
	t.Cleanup(p.Close)
	return p
}

// pod is a server that says its name.
type pod struct {
	name  string
	addr  netip.AddrPort
	taken atomic.Int64 // connections
}

// endpoint returns the pod as an endpoint.
func (p *pod) endpoint(ready bool) structs.Endpoint {
	return structs.Endpoint{PodID: p.name, Name: p.name, HostID: host, Address: p.addr.Addr().String(),
		Ports: []int{int(p.addr.Port())}, Ready: ready}
}

// startPod starts a pod that handles connections so.
func startPod(t testing.TB, name string, handle func(*net.TCPConn)) *pod {
	t.Helper()
	ln, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	p := &pod{name: name, addr: ln.Addr().(*net.TCPAddr).AddrPort()}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.AcceptTCP()
			if err != nil {
				return
			}
			p.taken.Add(1)
			wg.Go(func() {
				defer c.Close()
				handle(c)
			})
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		wg.Wait()
	})
	return p
}

// sayName says the pod's name and then repeats what comes.
func sayName(name string) func(*net.TCPConn) {
	return func(c *net.TCPConn) {
		fmt.Fprintf(c, "%-8s", name)
		_, _ = io.Copy(c, c)
	}
}

// config is a service with endpoints, in a project with a network on loopback.
func config(spec structs.ServiceSpec, endpoints ...structs.Endpoint) Config {
	if spec.Ports == nil {
		spec.Ports = []structs.ServicePort{{Port: 80, Protocol: "tcp"}}
	}
	return Config{HostID: host, Projects: []Project{{ID: projectID, Gateway: loopback}}, Services: []structs.ServiceAssignment{
		{ID: serviceID, ProjectID: projectID, Name: "web", Address: serviceAddr, Spec: spec, Endpoints: endpoints}}}
}

// dial connects to the project's listener.
func dial(t testing.TB, s Status) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", s.TCP[projectID]))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c.(*net.TCPConn)
}

// nameOf reads the name of the pod that a connection leads to; "" if it was refused.
func nameOf(t testing.TB, c net.Conn) string {
	t.Helper()
	b := make([]byte, 8)
	_ = c.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := io.ReadFull(c, b); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal("no answer")
	} else if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// ask connects, reads the pod's name and closes. A reset may come before the connection
// is complete.
func ask(t testing.TB, s Status) string {
	t.Helper()
	c, err := net.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", s.TCP[projectID]))
	if errors.Is(err, syscall.ECONNRESET) {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return nameOf(t, c)
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !holds(); <-time.After(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

func TestConnectionsGoToReadyPodsInTurn(t *testing.T) {
	a, b := startPod(t, "a", sayName("a")), startPod(t, "b", sayName("b"))
	c := startPod(t, "c", sayName("c"))
	p := testProxy(t, Options{})
	s := p.Apply(config(structs.ServiceSpec{}, a.endpoint(true), b.endpoint(true), c.endpoint(false)))
	got := map[string]int{}
	for range 10 {
		got[ask(t, s)]++
	}
	if got["a"] != 5 || got["b"] != 5 {
		t.Errorf("10 connections went to %v, want 5 to each of a and b", got)
	}
}

func TestAnUnreadyPodKeepsItsConnections(t *testing.T) {
	a, b := startPod(t, "a", sayName("a")), startPod(t, "b", sayName("b"))
	p := testProxy(t, Options{})
	s := p.Apply(config(structs.ServiceSpec{}, a.endpoint(true)))
	c := dial(t, s)
	if name := nameOf(t, c); name != "a" {
		t.Fatalf("led to %q", name)
	}
	for what, conf := range map[string]Config{
		"unready": config(structs.ServiceSpec{}, a.endpoint(false), b.endpoint(true)),
		"gone":    config(structs.ServiceSpec{}, b.endpoint(true)),
	} {
		if after := p.Apply(conf); after.TCP[projectID] != s.TCP[projectID] {
			t.Errorf("%s: the listener moved from %d to %d", what, s.TCP[projectID], after.TCP[projectID])
		}
		for range 4 {
			if name := ask(t, s); name != "b" {
				t.Errorf("%s: a new connection went to %q", what, name)
			}
		}
		if _, err := c.Write([]byte("12345678")); err != nil {
			t.Fatal(err)
		}
		if got := nameOf(t, c); got != "12345678" {
			t.Errorf("%s: the connection of before answers %q", what, got)
		}
	}
	p.Apply(Config{HostID: host})
	if _, err := c.Write([]byte("12345678")); err != nil || nameOf(t, c) != "12345678" {
		t.Errorf("the connection was cut with its service (%v)", err)
	}
}

func TestAPodThatRefusesIsPassedOver(t *testing.T) {
	a := startPod(t, "a", sayName("a"))
	refuses := a.endpoint(true)
	refuses.PodID, refuses.Ports = "dead", []int{freePort(t)}
	p := testProxy(t, Options{})
	s := p.Apply(config(structs.ServiceSpec{}, refuses, a.endpoint(true)))
	for range 6 {
		if name := ask(t, s); name != "a" {
			t.Fatalf("a connection went to %q", name)
		}
	}
}

// freePort returns a port that nobody listens on.
func freePort(t testing.TB) int {
	t.Helper()
	return freeport.Take(t)
}

func TestWithoutAReadyPodConnectionsAreReset(t *testing.T) {
	p := testProxy(t, Options{})
	s := p.Apply(config(structs.ServiceSpec{}))
	c, err := net.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", s.TCP[projectID]))
	if err == nil {
		defer c.Close()
		_ = c.SetReadDeadline(time.Now().Add(time.Minute))
		_, err = c.Read(make([]byte, 1))
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the connection gives %v, want a reset", err)
	}
}

// What wasn't redirected, or was meant for an address that the project has no service at,
// leads nowhere: also not to a service of another project.
func TestOnlyAddressesOfTheProjectLeadToPods(t *testing.T) {
	a := startPod(t, "a", sayName("a"))
	var to atomic.Pointer[netip.AddrPort]
	p := testProxy(t, Options{OriginalDestination: func(*net.TCPConn) (netip.AddrPort, error) { return *to.Load(), nil }})
	conf := config(structs.ServiceSpec{}, a.endpoint(true))
	other := conf.Services[0]
	other.ID, other.ProjectID, other.Address = "service-2", "project-2", "10.127.0.2"
	conf.Services = append(conf.Services, other)
	s := p.Apply(conf)
	for _, c := range []struct{ to, want string }{
		{serviceAddr + ":80", "a"}, {serviceAddr + ":81", ""}, {"10.127.0.2:80", ""}, {fmt.Sprintf("127.0.0.1:%d", s.TCP[projectID]), ""},
	} {
		to.Store(new(netip.MustParseAddrPort(c.to)))
		if got := ask(t, s); got != c.want {
			t.Errorf("a connection to %s leads to %q, want %q", c.to, got, c.want)
		}
	}
	if _, here := s.TCP["project-2"]; here {
		t.Error("a project without a network here has a listener")
	}
}

func TestEachWayClosesByItself(t *testing.T) {
	// The pod answers only after the client has ended its way.
	a := startPod(t, "a", func(c *net.TCPConn) {
		b, _ := io.ReadAll(c)
		_, _ = c.Write(bytes.ToUpper(b))
	})
	// The pod ends its way first and then reads.
	heard := make(chan string, 1)
	b := startPod(t, "b", func(c *net.TCPConn) {
		_ = c.CloseWrite()
		got, _ := io.ReadAll(c)
		heard <- string(got)
	})
	p := testProxy(t, Options{})
	c := dial(t, p.Apply(config(structs.ServiceSpec{}, a.endpoint(true))))
	_, _ = c.Write([]byte("hello"))
	_ = c.CloseWrite()
	if got, err := io.ReadAll(c); string(got) != "HELLO" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	c = dial(t, p.Apply(config(structs.ServiceSpec{}, b.endpoint(true))))
	if got, err := io.ReadAll(c); len(got) != 0 || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	_, _ = c.Write([]byte("later"))
	_ = c.CloseWrite()
	if got := <-heard; got != "later" {
		t.Errorf("the pod got %q", got)
	}
}

// A reset of one end reaches the other as a reset, not as an end of what was sent.
func TestAResetIsPassedOn(t *testing.T) {
	a := startPod(t, "a", func(c *net.TCPConn) {
		_, _ = io.ReadFull(c, make([]byte, 1))
		_ = c.SetLinger(0)
	})
	p := testProxy(t, Options{})
	c := dial(t, p.Apply(config(structs.ServiceSpec{}, a.endpoint(true))))
	_, _ = c.Write([]byte("x"))
	_ = c.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("reading gives %v, want a reset", err)
	}
}

// What a pod sends just before its end arrives, and so does the end, even if the proxy learns of
// both at once. An end that is overlooked would leave the client waiting.
func TestAnEndRightAfterAnAnswerIsPassedOn(t *testing.T) {
	for name, tc := range map[string]struct {
		linger int // of the pod's connection; 0 resets it
		want   error
	}{"end": {-1, io.EOF}, "reset": {0, syscall.ECONNRESET}} {
		t.Run(name, func(t *testing.T) {
			a := startPod(t, "a", func(c *net.TCPConn) {
				_ = c.SetLinger(tc.linger)
				for b := make([]byte, 1); ; {
					if _, err := io.ReadFull(c, b); err != nil || b[0] == 'z' {
						_, _ = c.Write([]byte("the end"))
						return
					}
					_, _ = c.Write(b)
				}
			})
			p := testProxy(t, Options{})
			s := p.Apply(config(structs.ServiceSpec{}, a.endpoint(true)))
			for range 200 {
				c := dial(t, s)
				_ = c.SetDeadline(time.Now().Add(time.Minute))
				b := make([]byte, 64)
				for range 8 {
					_, _ = c.Write([]byte("x"))
					if n, err := c.Read(b); n != 1 || err != nil {
						t.Fatalf("%q and %v instead of an answer", b[:n], err)
					}
				}
				_, _ = c.Write([]byte("z"))
				var n int
				var err error
				for err == nil {
					var more int
					more, err = c.Read(b[n:])
					n += more
				}
				if !errors.Is(err, tc.want) || err == io.EOF && string(b[:n]) != "the end" {
					t.Fatalf("%q and %v instead of the last answer and %v", b[:n], err, tc.want)
				}
				_ = c.Close()
			}
		})
	}
}

// A pod that reads slowly gets all, also if no pipe is free. Nothing is lost where the proxy
// must wait.
func TestASlowPodGetsEverything(t *testing.T) {
	full, got := make(chan struct{}), make(chan []byte, 1)
	a := startPod(t, "a", func(c *net.TCPConn) {
		<-full
		b, _ := io.ReadAll(c)
		got <- b
	})
	p := testProxy(t, Options{})
	for p.pipes.tryAcquire() {
	}
	c := dial(t, p.Apply(config(structs.ServiceSpec{}, a.endpoint(true))))
	want := fill(t, c)
	close(full)
	_ = c.CloseWrite()
	if b := <-got; !bytes.Equal(b, want) {
		t.Errorf("the pod got %d bytes of %d, equal: %v", len(b), len(want), bytes.Equal(b, want))
	}
}

// Close ends connections whose pod doesn't read what was sent.
func TestCloseEndsConnectionsThatWait(t *testing.T) {
	full := make(chan struct{})
	a := startPod(t, "a", func(*net.TCPConn) { <-full })
	defer close(full)
	p := testProxy(t, Options{})
	fill(t, dial(t, p.Apply(config(structs.ServiceSpec{}, a.endpoint(true)))))
	closed := make(chan struct{})
	go func() {
		p.Close()
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(time.Minute):
		t.Error("Close waits for a pod that doesn't read")
	}
}

// fill sends until nobody takes any more. It returns what was sent.
func fill(t *testing.T, c *net.TCPConn) []byte {
	t.Helper()
	var sent []byte
	for chunk := make([]byte, 64<<10); ; {
		for i := range chunk {
			chunk[i] = byte((len(sent) + i) * (len(sent) + i) >> 8)
		}
		_ = c.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
		n, err := c.Write(chunk)
		sent = append(sent, chunk[:n]...)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return sent
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(sent) > 256<<20 {
			t.Fatal("what is sent is held back by nobody")
		}
	}
}

func TestManyBytesArrive(t *testing.T) {
	a := startPod(t, "a", func(c *net.TCPConn) { _, _ = io.Copy(c, c) })
	p := testProxy(t, Options{})
	c := dial(t, p.Apply(config(structs.ServiceSpec{}, a.endpoint(true))))
	want := make([]byte, 3*bulkAfter+12345)
	for i := range want {
		want[i] = byte(i * i >> 8)
	}
	go func() {
		_, _ = c.Write(want)
		_ = c.CloseWrite()
	}()
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes came back, equal: %v, %v", len(got), bytes.Equal(got, want), err)
	}
}

func TestAClientKeepsItsPod(t *testing.T) {
	a, b := startPod(t, "a", sayName("a")), startPod(t, "b", sayName("b"))
	p := testProxy(t, Options{})
	spec := structs.ServiceSpec{ClientIPTimeout: 600}
	s := p.Apply(config(spec, a.endpoint(true), b.endpoint(true)))
	first := ask(t, s)
	for range 5 {
		if got := ask(t, s); got != first {
			t.Fatalf("a client of %s was led to %s", first, got)
		}
	}
	other := map[string]*pod{"a": b, "b": a}[first]
	p.Apply(config(spec, other.endpoint(true)))
	if got := ask(t, s); got != other.name {
		t.Fatalf("the client was led to %q, not to the pod that is ready", got)
	}
	p.Apply(config(spec, a.endpoint(true), b.endpoint(true)))
	if got := ask(t, s); got != other.name {
		t.Errorf("the client was led back to %q", got)
	}
}

func TestPodsOnOtherHostsAreReachedByRelay(t *testing.T) {
	a := startPod(t, "a", sayName("a"))
	asked := make(chan string, 10)
	p := testProxy(t, Options{Dial: func(ctx context.Context, hostID string, to Target) (net.Conn, error) {
		asked <- fmt.Sprint(hostID, to)
		return net.Dial("tcp", a.addr.String())
	}})
	e := a.endpoint(true)
	e.HostID, e.Address, e.Ports = far, "172.30.0.2", []int{8080}
	if got := ask(t, p.Apply(config(structs.ServiceSpec{}, e))); got != "a" {
		t.Errorf("led to %q", got)
	}
	if got, want := <-asked, far+fmt.Sprint(Target{serviceID, "a", 80, "tcp"}); got != want || len(asked) > 0 {
		t.Errorf("the relay was asked for %s and %d more, want %s", got, len(asked), want)
	}
}

// Once Apply has returned, an endpoint that isn't ready any more gets no connection, not
// even one that was being opened meanwhile: its pod may be told to stop.
func TestApplyWaitsForConnectionsThatAreBeingOpened(t *testing.T) {
	dialing, open := make(chan struct{}), make(chan struct{})
	a, b := startPod(t, "a", sayName("a")), startPod(t, "b", sayName("b"))
	var connected atomic.Bool
	p := testProxy(t, Options{Dial: func(ctx context.Context, hostID string, to Target) (net.Conn, error) {
		close(dialing)
		<-open
		c, err := net.Dial("tcp", a.addr.String())
		connected.Store(true)
		return c, err
	}})
	e := a.endpoint(true)
	e.HostID = far
	c := dial(t, p.Apply(config(structs.ServiceSpec{}, e)))
	<-dialing
	applied := make(chan bool)
	go func() {
		p.Apply(config(structs.ServiceSpec{}, b.endpoint(true)))
		applied <- connected.Load()
	}()
	// New connections don't wait for it.
	eventually(t, "new connections go to the other pod", func() bool { return ask(t, p.Status()) == "b" })
	close(open)
	if !<-applied {
		t.Error("Apply returned before the connection was open")
	}
	if got := nameOf(t, c); got != "a" {
		t.Errorf("the connection of before leads to %q", got)
	}
}

func TestNodePorts(t *testing.T) {
	a, b := startPod(t, "a", sayName("a")), startPod(t, "b", sayName("b"))
	p := testProxy(t, Options{})
	number := freePort(t)
	spec := structs.ServiceSpec{NodePorts: true, Ports: []structs.ServicePort{{Port: 80, NodePort: number, Protocol: "tcp"}}}
	conf := config(spec, a.endpoint(true))
	conf.Projects = nil // no network of the project here
	s := p.Apply(conf)
	if len(s.Problems) > 0 {
		t.Fatal(s.Problems)
	}
	s.TCP = map[string]int{projectID: number}
	if got := ask(t, s); got != "a" {
		t.Errorf("led to %q", got)
	}
	// Another service takes the port over, without a moment in which it is closed.
	conf.Services[0].ID, conf.Services[0].Endpoints = "service-2", []structs.Endpoint{b.endpoint(true)}
	p.Apply(conf)
	if got := ask(t, s); got != "b" {
		t.Errorf("led to %q", got)
	}
	p.Apply(Config{HostID: host})
	if c, err := net.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", number)); err == nil {
		_ = c.Close()
		t.Error("the node port of a service that is gone is open")
	}
}

func TestATakenNodePortIsAProblemUntilItIsFree(t *testing.T) {
	ln, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	number := ln.Addr().(*net.TCPAddr).Port
	p := testProxy(t, Options{})
	spec := structs.ServiceSpec{NodePorts: true, Ports: []structs.ServicePort{{Port: 80, NodePort: number, Protocol: "tcp"}}}
	s := p.Apply(config(spec))
	if len(s.Problems) != 1 || s.Problems[0].ServiceID != serviceID ||
		!strings.Contains(s.Problems[0].Reason, fmt.Sprintf("node port %d/tcp", number)) {
		t.Fatalf("problems %+v", s.Problems)
	}
	if p.Retry() {
		t.Error("a port that is still taken changed something")
	}
	_ = ln.Close()
	if !p.Retry() || len(p.Status().Problems) > 0 {
		t.Errorf("problems after the port was freed: %+v", p.Status().Problems)
	}
}
