package relay

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stackforge/magnum/structs"
)

// testHost is one end: a relay whose streams all lead to one address.
type testHost struct {
	*Relay
	id, pin, addr string
	ln            net.Listener
	pod           atomic.Value // string: address that targets lead to
	served        chan error
}

// newHost makes a relay that listens, without peers.
func newHost(t testing.TB, id string, change func(*Config)) *testHost {
	t.Helper()
	cert, pin, err := Key(filepath.Join(t.TempDir(), "relay.pem"))
	if err != nil {
		t.Fatal(err)
	}
	h := &testHost{id: id, pin: pin, served: make(chan error, 1)}
	conf := Config{HostID: id, Certificate: cert, MinBackoff: 10 * time.Millisecond, DialDelay: time.Nanosecond,
		Accept: func(to Target) (string, error) {
			addr, _ := h.pod.Load().(string)
			if addr == "" || to.PodID == "unknown" {
				return "", fmt.Errorf("pod %q is no endpoint of this host", to.PodID)
			}
			return addr, nil
		}}
	if change != nil {
		change(&conf)
	}
	h.Relay = New(conf)
	if h.ln, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	h.addr = h.ln.Addr().String()
	go func() { h.served <- h.Serve(h.ln) }()
	eventually(t, "the host listens", func() bool { h.mu.Lock(); defer h.mu.Unlock(); return h.Relay.served == 1 })
	t.Cleanup(func() {
		h.Close()
		if err := <-h.served; err != nil {
			t.Errorf("Serve returned %v", err)
		}
	})
	return h
}

// as returns the host as a peer of others.
func (h *testHost) as() structs.RelayPeer {
	return structs.RelayPeer{HostID: h.id, Relay: structs.Relay{Key: h.pin, Addr: h.addr}}
}

// undialled is as, of a host that can't be dialled.
func (h *testHost) undialled() structs.RelayPeer {
	p := h.as()
	p.Addr = ""
	return p
}

// newPair returns two hosts that are peers. Streams to b lead to an echo server.
func newPair(t testing.TB, change func(*Config)) (a, b *testHost) {
	t.Helper()
	a, b = newHost(t, "a", change), newHost(t, "b", change)
	b.pod.Store(echo(t))
	a.pod.Store(echo(t))
	a.Set([]structs.RelayPeer{b.as()})
	b.Set([]structs.RelayPeer{a.as()})
	eventually(t, "the hosts are connected", func() bool { // the first dial may come too early
		n, _ := a.numbers("b")
		return n > 0 && b.Wait(limited(t)) == nil && b.Reachable()["a"] == nil
	})
	return a, b
}

// tcpServer calls handle for each connection.
func tcpServer(t testing.TB, handle func(*net.TCPConn)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				handle(c.(*net.TCPConn))
			})
		}
	})
	t.Cleanup(func() { _ = ln.Close() })
	return ln.Addr().String()
}

// echo sends back what it gets, and ends when its client has ended.
func echo(t testing.TB) string {
	return tcpServer(t, func(c *net.TCPConn) { _, _ = io.Copy(c, c) })
}

var toPod = Target{ServiceID: "service", PodID: "pod", Port: 80, Protocol: "tcp"}

func limited(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func (h *testHost) mustDial(t testing.TB, to string) *Conn {
	t.Helper()
	c, err := h.Dial(limited(t), to, toPod)
	if err != nil {
		t.Fatalf("host %s dialling %s: %v", h.id, to, err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	return c
}

// mustEcho sends a text and waits for it.
func mustEcho(t testing.TB, c net.Conn, text string) {
	t.Helper()
	if _, err := c.Write([]byte(text)); err != nil {
		t.Fatalf("writing: %v", err)
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != text {
		t.Fatalf("read %q (%v), want %q", got, err, text)
	}
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	end := time.Now().Add(time.Minute)
	for !holds() {
		if time.Now().After(end) {
			t.Fatalf("it did not come about that %s", what)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// short opens a stream, uses it and closes it.
func short(t testing.TB, from *testHost, to string) {
	t.Helper()
	c := from.mustDial(t, to)
	mustEcho(t, c, "x")
	_ = c.Close()
}

// numbers returns the sessions with a peer, and its streams.
func (h *testHost) numbers(peer string) (sessions, streams int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if p := h.peers[peer]; p != nil {
		return len(p.sessions), p.in + p.out
	}
	return 0, 0
}

func TestStreamsInBothDirections(t *testing.T) {
	a, b := newPair(t, nil)
	mustEcho(t, a.mustDial(t, "b"), "hello")
	mustEcho(t, b.mustDial(t, "a"), "hello")
	if err := a.Wait(limited(t)); err != nil {
		t.Fatal(err)
	}
	if got := a.Reachable(); len(got) != 1 || got["b"] != nil {
		t.Errorf("reachable: %v", got)
	}
}

func TestManyBytesArriveWhole(t *testing.T) {
	a, _ := newPair(t, nil)
	c := a.mustDial(t, "b")
	sent := make([]byte, 5<<20)
	_, _ = rand.Read(sent)
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := io.Copy(c, bytes.NewReader(sent)); err != nil {
			t.Errorf("sending: %v", err)
		}
		_ = c.CloseWrite()
	})
	var got bytes.Buffer
	if _, err := io.Copy(&got, c); err != nil {
		t.Errorf("receiving: %v", err)
	}
	wg.Wait()
	if !bytes.Equal(got.Bytes(), sent) {
		t.Errorf("%d bytes came back of %d", got.Len(), len(sent))
	}
}

func TestHalfClose(t *testing.T) {
	a, b := newPair(t, nil)
	// The pod answers only after its client has ended.
	b.pod.Store(tcpServer(t, func(c *net.TCPConn) {
		all, _ := io.ReadAll(c)
		fmt.Fprintf(c, "got %d", len(all))
	}))
	c := a.mustDial(t, "b")
	_, _ = c.Write(make([]byte, 100_000))
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("more")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a write after CloseWrite: %v", err)
	}
	if got, err := io.ReadAll(c); string(got) != "got 100000" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	// The pod ends first.
	last := make(chan string, 1)
	b.pod.Store(tcpServer(t, func(c *net.TCPConn) {
		_ = c.CloseWrite()
		all, _ := io.ReadAll(c)
		last <- string(all)
	}))
	c = a.mustDial(t, "b")
	if got, err := io.ReadAll(c); len(got) != 0 || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	_, _ = c.Write([]byte("after the end"))
	_ = c.Close()
	if got := <-last; got != "after the end" {
		t.Errorf("the pod got %q", got)
	}
}

func TestWhatIsBrokenOffDoesNotLookWhole(t *testing.T) {
	a, b := newPair(t, nil)
	b.pod.Store(tcpServer(t, func(c *net.TCPConn) {
		_, _ = c.Write([]byte("half of it"))
		_, _ = c.Read(make([]byte, 1))
		_ = c.SetLinger(0)
	}))
	read := func(end func(c *Conn)) error {
		t.Helper()
		c := a.mustDial(t, "b")
		if _, err := io.ReadFull(c, make([]byte, 10)); err != nil {
			t.Fatal(err)
		}
		end(c)
		_, err := io.ReadAll(c)
		return err
	}
	if err := read(func(c *Conn) { _, _ = c.Write([]byte("x")) }); !errors.Is(err, ErrReset) {
		t.Errorf("the pod resets: %v, want ErrReset", err)
	}
	if err := read(func(*Conn) { b.Set(nil) }); !errors.Is(err, ErrReset) {
		t.Errorf("the connection is cut: %v, want ErrReset", err)
	}
	// The other way: the pod sees a reset.
	b.Set([]structs.RelayPeer{a.as()})
	eventually(t, "the host is reached again", func() bool { return a.Reachable()["b"] == nil })
	saw := make(chan error, 1)
	b.pod.Store(tcpServer(t, func(c *net.TCPConn) {
		_, err := io.Copy(io.Discard, c)
		saw <- err
	}))
	c := a.mustDial(t, "b")
	_, _ = c.Write([]byte("x"))
	_ = c.Abort()
	if err := <-saw; err == nil {
		t.Error("the pod sees a clean end of a stream that was broken off")
	}
}

// The pod has gone long before its client reads.
func TestSlowReaderGetsTheRest(t *testing.T) {
	a, b := newPair(t, func(c *Config) { c.CloseTime = 20 * time.Millisecond })
	left := make(chan struct{})
	b.pod.Store(tcpServer(t, func(c *net.TCPConn) {
		_, _ = c.Write(make([]byte, 200_000))
		close(left)
	}))
	c := a.mustDial(t, "b")
	_ = c.CloseWrite()
	<-left
	<-time.After(200 * time.Millisecond) // ten times the time after which a closed stream is given up
	if got, err := io.ReadAll(c); len(got) != 200_000 || err != nil {
		t.Errorf("%d bytes of 200000, %v", len(got), err)
	}
}

func TestPodThatSendsToNobodyIsStopped(t *testing.T) {
	a, b := newPair(t, nil)
	stopped := make(chan error, 1)
	b.pod.Store(tcpServer(t, func(c *net.TCPConn) {
		_, err := io.Copy(c, zeros{})
		stopped <- err
	}))
	c := a.mustDial(t, "b")
	_ = c.CloseWrite()
	_, _ = io.ReadFull(c, make([]byte, 1<<20))
	_ = c.Close()
	select {
	case <-stopped:
	case <-time.After(time.Minute):
		t.Error("the pod still sends a minute after its client has gone")
	}
	eventually(t, "no stream is left", func() bool { _, n := b.numbers("a"); return n == 0 })
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestRefusals(t *testing.T) {
	a, b := newPair(t, nil)
	dial := func(host string, to Target) error {
		c, err := a.Dial(limited(t), host, to)
		if err == nil {
			_ = c.Close()
		}
		return err
	}
	if err := dial("nobody", toPod); !errors.Is(err, ErrNoPeer) {
		t.Errorf("an unknown host: %v", err)
	}
	err := dial("b", Target{PodID: "unknown", Protocol: "tcp"})
	if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "no endpoint") {
		t.Errorf("an unknown pod: %v", err)
	}
	closed, _ := net.Listen("tcp", "127.0.0.1:0")
	_ = closed.Close()
	b.pod.Store(closed.Addr().String())
	if err := dial("b", toPod); !errors.Is(err, ErrUnreachable) {
		t.Errorf("a pod that doesn't listen: %v", err)
	}
	if err := dial("b", Target{PodID: strings.Repeat("x", 256)}); err == nil {
		t.Error("an ID that is too long is taken")
	}
}

func TestWrongPins(t *testing.T) {
	a, b, c := newHost(t, "a", nil), newHost(t, "b", nil), newHost(t, "c", nil)
	// a takes c's key for b's. b knows a.
	wrong := b.as()
	wrong.Key = c.pin
	a.Set([]structs.RelayPeer{wrong})
	if err := a.Wait(limited(t)); err != nil {
		t.Fatal(err)
	}
	if err := a.Reachable()["b"]; !errors.Is(err, errPin) {
		t.Errorf("a host with another key: %v", err)
	}
	// c knows a, a doesn't know c.
	c.Set([]structs.RelayPeer{a.as()})
	if err := c.Wait(limited(t)); err != nil {
		t.Fatal(err)
	}
	if c.Reachable()["a"] == nil {
		t.Error("a host that isn't known is let in")
	}
	// A peer that says that it is another peer.
	a.Set([]structs.RelayPeer{{HostID: "x", Relay: structs.Relay{Key: c.pin}}, {HostID: "c", Relay: structs.Relay{Key: b.pin}}})
	c.Set(nil)
	c.Set([]structs.RelayPeer{a.as()})
	if err := c.Wait(limited(t)); err != nil {
		t.Fatal(err)
	}
	if c.Reachable()["a"] == nil {
		t.Error("a host that says that it is another one is let in")
	}
}

func TestHostThatLeavesIsCutAtOnce(t *testing.T) {
	for name, change := range map[string]func(p structs.RelayPeer) []structs.RelayPeer{
		"leaves": func(structs.RelayPeer) []structs.RelayPeer { return nil },
		"new key": func(p structs.RelayPeer) []structs.RelayPeer {
			p.Key = strings.Repeat("0", 64)
			return []structs.RelayPeer{p}
		},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := newPair(t, nil)
			c, in := a.mustDial(t, "b"), b.mustDial(t, "a")
			mustEcho(t, c, "x")
			mustEcho(t, in, "x")
			b.Set(change(a.as()))
			if n, _ := b.numbers("a"); n != 0 {
				t.Errorf("%d sessions are left when Set returns", n)
			}
			for _, c := range []*Conn{c, in} {
				if _, err := c.Read(make([]byte, 1)); !errors.Is(err, ErrReset) {
					t.Errorf("a stream of before: %v, want ErrReset", err)
				}
			}
			eventually(t, "the other end knows", func() bool { return a.Reachable()["b"] != nil })
			// It comes back.
			b.Set([]structs.RelayPeer{a.as()})
			eventually(t, "the host is reached again", func() bool { return a.Reachable()["b"] == nil })
			mustEcho(t, a.mustDial(t, "b"), "x")
		})
	}
}

func TestPeerThatCannotBeDialled(t *testing.T) {
	a, b := newHost(t, "a", nil), newHost(t, "b", nil)
	a.pod.Store(echo(t))
	b.pod.Store(echo(t))
	_ = a.ln.Close() // a is behind NAT
	eventually(t, "a doesn't listen", func() bool { a.mu.Lock(); defer a.mu.Unlock(); return a.Relay.served == 0 })
	b.Set([]structs.RelayPeer{a.undialled()})
	a.Set([]structs.RelayPeer{b.as()})
	mustEcho(t, b.mustDial(t, "a"), "through the connection that a dialled")
	mustEcho(t, a.mustDial(t, "b"), "x")
	// a dials again after the connection is lost.
	b.mu.Lock()
	s := b.peers["a"].sessions[0]
	b.mu.Unlock()
	s.cut(errDead)
	mustEcho(t, b.mustDial(t, "a"), "again")
}

func TestTwoHostsThatCannotBeDialled(t *testing.T) {
	a := newHost(t, "a", nil)
	_ = a.ln.Close()
	eventually(t, "a doesn't listen", func() bool { a.mu.Lock(); defer a.mu.Unlock(); return a.Relay.served == 0 })
	a.Set([]structs.RelayPeer{{HostID: "b", Relay: structs.Relay{Key: "k"}}})
	if _, err := a.Dial(limited(t), "b", toPod); err == nil || !strings.Contains(err.Error(), "-relay=false") {
		t.Errorf("%v", err)
	}
	// One that could be dialled, but isn't.
	c := newHost(t, "c", func(conf *Config) { conf.UndialledGrace = 10 * time.Millisecond })
	c.Set([]structs.RelayPeer{{HostID: "b", Relay: structs.Relay{Key: "k"}}})
	if _, err := c.Dial(limited(t), "b", toPod); err == nil || !strings.Contains(err.Error(), "has not dialled") {
		t.Errorf("%v", err)
	}
}

// Both dial at the same instant, many times. One connection is left, the same for both, and
// streams that are opened meanwhile work.
func TestBothDialAtOnce(t *testing.T) {
	a, b := newHost(t, "a", nil), newHost(t, "b", nil)
	a.pod.Store(echo(t))
	b.pod.Store(echo(t))
	doubles := 0
	for round := range 60 {
		var wg sync.WaitGroup
		begin := make(chan struct{})
		for _, h := range []*testHost{a, b} {
			other := b
			if h == b {
				other = a
			}
			wg.Go(func() {
				<-begin
				h.Set([]structs.RelayPeer{other.as()})
			})
		}
		close(begin)
		wg.Wait()
		for range 4 {
			for _, h := range []*testHost{a, b} {
				to := map[string]string{"a": "b", "b": "a"}[h.id]
				wg.Go(func() {
					c, err := h.Dial(limited(t), to, toPod)
					if err != nil {
						// The first dial may come before the other knows this host.
						if !errors.Is(h.Wait(limited(t)), nil) {
							t.Errorf("round %d: %v", round, err)
						}
						return
					}
					defer c.Close()
					for range 20 {
						mustEcho(t, c, "some text")
					}
				})
			}
		}
		wg.Wait()
		if n, _ := a.numbers("b"); n > 1 {
			doubles++
		}
		eventually(t, fmt.Sprintf("round %d: one connection is left", round), func() bool {
			n, _ := a.numbers("b")
			m, _ := b.numbers("a")
			return n == 1 && m == 1
		})
		a.mu.Lock()
		dialledByA := a.peers["b"].sessions[0].dialled
		a.mu.Unlock()
		b.mu.Lock()
		dialledByB := b.peers["a"].sessions[0].dialled
		b.mu.Unlock()
		if dialledByA == dialledByB {
			t.Errorf("round %d: the two ends keep different connections", round)
		}
		a.Set(nil)
		b.Set(nil)
	}
	t.Logf("in %d rounds there were two connections after the streams", doubles)
}

// Two connections exist, whoever dialled them, and a stream on each: both go on, and the
// connection of the lower ID is kept.
func TestSecondConnectionLosesNoStream(t *testing.T) {
	a, b := newHost(t, "a", nil), newHost(t, "b", nil)
	a.pod.Store(echo(t))
	b.pod.Store(echo(t))
	b.Set([]structs.RelayPeer{a.undialled()})
	a.Set([]structs.RelayPeer{b.undialled()})
	peerOf := func(h *testHost, id string) *peer { h.mu.Lock(); defer h.mu.Unlock(); return h.peers[id] }
	if err := peerOf(b, "a").dial(a.addr); err != nil {
		t.Fatal(err)
	}
	old := a.mustDial(t, "b")
	mustEcho(t, old, "on the connection of b")
	if err := peerOf(a, "b").dial(b.addr); err != nil {
		t.Fatal(err)
	}
	eventually(t, "b's connection is retired", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		s := a.peers["b"].sessions
		return len(s) == 2 && s[0].retired && !s[1].retired
	})
	for range 100 {
		mustEcho(t, old, "still there")
		c := b.mustDial(t, "a")
		mustEcho(t, c, "on the other")
		_ = c.Close()
	}
	_ = old.CloseWrite()
	if rest, err := io.ReadAll(old); len(rest) != 0 || err != nil {
		t.Errorf("%q, %v", rest, err)
	}
	_ = old.Close()
	eventually(t, "one connection is left", func() bool {
		n, _ := a.numbers("b")
		m, _ := b.numbers("a")
		return n == 1 && m == 1
	})
}

// A new process of a host takes over while the old one's streams go on.
func TestTwoProcessesOfOneHost(t *testing.T) {
	a, b := newPair(t, nil)
	out, in := a.mustDial(t, "b"), b.mustDial(t, "a")
	mustEcho(t, out, "x")
	mustEcho(t, in, "x")
	next := New(a.conf)
	defer next.Close()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = next.Serve(ln) }()
	next.Set([]structs.RelayPeer{b.as()})
	c, err := next.Dial(limited(t), "b", toPod)
	if err != nil {
		t.Fatal(err)
	}
	mustEcho(t, c, "of the new process")
	for range 50 { // both are there
		mustEcho(t, out, "x")
		short(t, b, "a")
	}
	drained := make(chan error, 1)
	go func() { drained <- a.Drain(limited(t)) }()
	eventually(t, "the old process takes no streams", func() bool {
		c, err := a.Dial(limited(t), "b", toPod)
		if err == nil {
			_ = c.Close()
		}
		return errors.Is(err, ErrClosed)
	})
	for range 50 { // all new streams go to the new process, the old ones go on
		short(t, b, "a")
		mustEcho(t, out, "x")
		mustEcho(t, in, "x")
	}
	select {
	case err := <-drained:
		t.Errorf("drained with streams open: %v", err)
	default:
	}
	for _, c := range []*Conn{out, in} {
		_ = c.CloseWrite()
		if rest, err := io.ReadAll(c); len(rest) != 0 || err != nil {
			t.Errorf("%q, %v", rest, err)
		}
		_ = c.Close()
	}
	if err := <-drained; err != nil {
		t.Errorf("drain: %v", err)
	}
	mustEcho(t, c, "still")
}

func TestManyStreamsOneAfterAnother(t *testing.T) {
	a, b := newPair(t, nil)
	short(t, a, "b")
	eventually(t, "one connection is left", func() bool { n, _ := b.numbers("a"); return n == 1 })
	before, files := runtime.NumGoroutine(), descriptors(t)
	ctx := context.Background()
	for i := range 10_000 {
		c, err := a.Dial(ctx, "b", toPod)
		if err != nil {
			t.Fatalf("stream %d: %v", i, err)
		}
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatalf("stream %d: %v", i, err)
		}
		_ = c.Close()
	}
	eventually(t, "streams, goroutines and descriptors are as before", func() bool {
		_, n := b.numbers("a")
		a.mu.Lock()
		inMux := a.peers["b"].sessions[0].mux.NumStreams()
		a.mu.Unlock()
		return n <= 1 && inMux <= 1 && runtime.NumGoroutine() <= before+5 && descriptors(t) <= files+5
	})
}

func descriptors(t testing.TB) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

func TestLimitsOfStreams(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"of the peer":           func(c *Config) { c.MaxStreams = map[string]int{"a": 100, "b": 3}[c.HostID] },
		"of the peer, for all":  func(c *Config) { c.MaxStreamsAll = map[string]int{"a": 100, "b": 3}[c.HostID] },
		"of this host":          func(c *Config) { c.MaxStreams = map[string]int{"a": 3, "b": 100}[c.HostID] },
		"of this host, for all": func(c *Config) { c.MaxStreamsAll = map[string]int{"a": 3, "b": 100}[c.HostID] },
	} {
		t.Run(name, func(t *testing.T) {
			a, b := newPair(t, change)
			var open []*Conn
			for range 3 {
				open = append(open, a.mustDial(t, "b"))
			}
			if _, err := a.Dial(limited(t), "b", toPod); !errors.Is(err, ErrBusy) {
				t.Errorf("a stream beyond the limit: %v", err)
			}
			short(t, b, "a") // the other direction
			mustEcho(t, open[1], "what is open stays")
			_ = open[0].Close()
			eventually(t, "there is room again", func() bool {
				c, err := a.Dial(limited(t), "b", toPod)
				if err == nil {
					_ = c.Close()
				}
				return err == nil
			})
		})
	}
}

func TestUDP(t *testing.T) {
	a, b := newPair(t, nil)
	pod, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer pod.Close()
	go func() {
		buf := make([]byte, maxDatagram)
		for {
			n, from, err := pod.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = pod.WriteTo(buf[:n], from)
		}
	}()
	b.pod.Store(pod.LocalAddr().String())
	to := toPod
	to.Protocol = "udp"
	f, err := a.DialUDP(limited(t), "b", to)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_ = f.SetReadDeadline(time.Now().Add(time.Minute))
	buf := make([]byte, maxDatagram)
	for _, size := range []int{1, 0, 1400, 9000, 65507} {
		if _, err := f.Write(make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		if n, err := f.Read(buf); n != size || err != nil {
			t.Fatalf("a datagram of %d bytes comes back with %d, %v", size, n, err)
		}
	}
	if _, err := f.Write(make([]byte, maxDatagram+1)); err == nil {
		t.Error("a datagram that is too long is taken")
	}
	_ = f.Close()
	if _, err := f.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a write after Close: %v", err)
	}
	eventually(t, "the flow is gone on the other host", func() bool { _, n := b.numbers("a"); return n == 0 })
}

func TestUDPFloodIsDroppedNotKept(t *testing.T) {
	a, b := newPair(t, nil)
	b.pod.Store("127.0.0.1:9") // nobody
	to := toPod
	to.Protocol = "udp"
	f, err := a.DialUDP(limited(t), "b", to)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	began := time.Now()
	for range 50_000 {
		if _, err := f.Write(make([]byte, 1400)); err != nil {
			break // the other end has had enough of errors
		}
	}
	if n := f.bytes.Load(); n > maxQueued {
		t.Errorf("%d bytes are queued", n)
	}
	if f.Dropped() == 0 {
		t.Error("nothing was dropped")
	}
	if took := time.Since(began); took > time.Minute {
		t.Errorf("writes waited: %v", took)
	}
	b.pod.Store(echo(t))
	short(t, a, "b") // the session lives
}

func TestIdleFlowIsClosed(t *testing.T) {
	a, b := newPair(t, func(c *Config) { c.FlowIdle = 50 * time.Millisecond })
	b.pod.Store("127.0.0.1:9")
	to := toPod
	to.Protocol = "udp"
	f, err := a.DialUDP(limited(t), "b", to)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Read(make([]byte, 1)); err == nil {
		t.Error("a datagram came from nobody")
	}
	eventually(t, "the flow is gone on the other host", func() bool { _, n := b.numbers("a"); return n == 0 })
}
