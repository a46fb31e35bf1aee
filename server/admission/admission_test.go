package admission

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stackforge/magnum/structs"
)

// fake is a fake connection from an address.
type fake struct {
	net.Conn
	from   string
	in     io.Reader
	closed bool
}

func (f *fake) RemoteAddr() net.Addr       { return &net.TCPAddr{IP: net.ParseIP(f.from), Port: 1} }
func (f *fake) Close() error               { f.closed = true; return nil }
func (f *fake) Read(p []byte) (int, error) { return f.in.Read(p) }

// testGate is a gate with a fake clock.
type testGate struct {
	*Gate
	t     *testing.T
	clock time.Time
}

func newTestGate(t *testing.T, c Config) *testGate {
	b := &testGate{Gate: New(c), t: t, clock: time.Unix(1e9, 0)}
	b.now = func() time.Time { return b.clock }
	return b
}

// open opens a connection from an address; nil if it is refused.
func (b *testGate) open(from string) *Conn {
	b.clock = b.clock.Add(time.Microsecond)
	return b.admit(&fake{from: from})
}

func (b *testGate) wait() { b.clock = b.clock.Add(grace) }

func (b *testGate) prove(c *Conn, kind Kind, id string) error {
	return b.Prove(Context(context.Background(), c), kind, id)
}

// holds checks the counts of open connections.
func (b *testGate) holds(what string, unproven, tokens, hosts, peers int) {
	b.t.Helper()
	f := b.Figures()
	got, want := fmt.Sprint(f.Open[Unproven], f.Open[Token], f.Open[Host], f.Open[Peer]), fmt.Sprint(unproven, tokens, hosts, peers)
	if got != want {
		b.t.Errorf("%s: %s connections are open, want %s", what, got, want)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, q := range b.clients {
		n += q.n
	}
	if b.unproven.n != unproven || n != unproven || b.total != unproven+tokens+hosts+peers {
		b.t.Errorf("%s: %d and %d are queued, %d in all", what, b.unproven.n, n, b.total)
	}
}

func isClosed(c *Conn) bool { return c.Conn.(*fake).closed }

func TestUnprovenConnectionsPerClientAreBounded(t *testing.T) {
	b := newTestGate(t, Config{MaxPerClient: 3})
	var of []*Conn
	for range 3 {
		of = append(of, b.open("192.0.2.1"))
	}
	if b.open("192.0.2.1") != nil || b.open("::ffff:192.0.2.1") != nil {
		t.Fatal("a fourth connection was admitted at once")
	}
	if b.open("192.0.2.2") == nil {
		t.Fatal("another client was refused")
	}
	b.wait()
	// The oldest is closed for it, so that a client with a credential can show it.
	fourth := b.open("192.0.2.1")
	if fourth == nil || !isClosed(of[0]) || isClosed(of[1]) {
		t.Fatal("the oldest connection was not closed for a fourth")
	}
	b.holds("after the fourth", 4, 0, 0, 0)
	if err := b.prove(fourth, Token, "t"); err != nil {
		t.Fatal(err)
	}
	if b.open("192.0.2.1") == nil || isClosed(of[1]) {
		t.Error("a connection that has shown a credential still counts for its address")
	}
	b.holds("with a token", 4, 1, 0, 0)
	if f := b.Figures(); f.Refused != 2 || f.Closed != 1 {
		t.Errorf("%+v", f)
	}
	for _, c := range []*Conn{of[0], of[1], of[1], of[2], fourth} {
		c.Close()
	}
	b.holds("after some are closed", 2, 0, 0, 0)
}

func TestConnectionsPerHolderAreBounded(t *testing.T) {
	for _, kind := range []Kind{Token, Host, Peer} {
		b := newTestGate(t, Config{MaxPerClient: 2})
		var all []*Conn
		for range maxPerHolder[kind] {
			c := b.open("192.0.2.1")
			if err := b.prove(c, kind, "a"); err != nil {
				t.Fatalf("%s: %v", kind, err)
			}
			all = append(all, c)
		}
		over := b.open("192.0.2.1")
		if err := b.prove(over, kind, "a"); structs.CodeOf(err) != structs.CodeRateLimited {
			t.Errorf("%s: one connection too many: %v", kind, err)
		}
		if kind != Peer {
			if err := b.prove(over, kind, "b"); err != nil {
				t.Errorf("%s: another holder: %v", kind, err)
			}
			// A connection counts for the holder of the last credential shown on it.
			if err := b.prove(all[0], kind, "b"); err != nil {
				t.Error(err)
			}
			if err := b.prove(b.open("192.0.2.1"), kind, "a"); err != nil {
				t.Errorf("%s: refused although the holder has room again: %v", kind, err)
			}
		}
	}
}

func TestConnectionsAreReservedForHostsAndPeers(t *testing.T) {
	b := newTestGate(t, Config{MaxConns: 32, MaxPerClient: 100})
	var tokens int
	for i := range 40 {
		c := b.open("192.0.2.1")
		if c == nil {
			break
		}
		if err := b.prove(c, Token, fmt.Sprint(i)); err == nil {
			tokens++
		} else if c.Close(); structs.CodeOf(err) != structs.CodeUnavailable {
			t.Fatal(err)
		}
	}
	if tokens != 28 {
		t.Errorf("%d connections of users, want 28", tokens)
	}
	// Unproven connections take the rest, and are closed one after the other for hosts and peers.
	for range 10 {
		b.open("192.0.2.9")
	}
	b.holds("full", 4, 28, 0, 0)
	b.wait()
	for i, kind := range []Kind{Host, Peer, Host, Peer} {
		c := b.open("192.0.2.1")
		if c == nil {
			t.Fatalf("no room for a %s", kind)
		}
		if err := b.prove(c, kind, fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	b.holds("full of connections with credentials", 0, 28, 2, 2)
	if b.wait(); b.open("192.0.2.1") != nil {
		t.Error("admitted more than MaxConns")
	}
}

func TestOpenLoopbackIsExemptFromMaxPerClient(t *testing.T) {
	b := newTestGate(t, Config{MaxPerClient: 2, OpenLoopback: true})
	for _, from := range []string{"127.0.0.1", "127.0.0.1", "127.0.0.1", "::1", "::1", "::1", "192.0.2.1", "192.0.2.1"} {
		if b.open(from) == nil {
			t.Fatalf("%s was refused", from)
		}
	}
	if b.open("192.0.2.1") != nil {
		t.Error("a third connection from elsewhere was admitted")
	}
	if b := newTestGate(t, Config{MaxPerClient: 1}); b.open("127.0.0.1") == nil || b.open("127.0.0.1") != nil {
		t.Error("with authentication loopback is not bounded like other clients")
	}
}

// TestBusyConnectionsAreNotClosed: without authentication all connections stay unproven.
func TestBusyConnectionsAreNotClosed(t *testing.T) {
	b := newTestGate(t, Config{MaxPerClient: 2})
	first, second := b.open("192.0.2.1"), b.open("192.0.2.1")
	b.Serve(Context(context.Background(), first))
	b.wait()
	if b.open("192.0.2.1") == nil || isClosed(first) || !isClosed(second) {
		t.Fatal("the idle connection was not closed, or the busy one was")
	}
	State(first, http.StateIdle)
	b.wait()
	if b.open("192.0.2.1") == nil || !isClosed(first) {
		t.Fatal("a connection that is idle again was not closed")
	}
	b.holds("after all", 2, 0, 0, 0)
}

// TestUnprovenBytesAreBounded: headers are held in memory until they are complete.
func TestUnprovenBytesAreBounded(t *testing.T) {
	b := newTestGate(t, Config{MaxPerClient: 1000})
	read := func(c *Conn, n int) (int64, error) {
		c.Conn.(*fake).in = strings.NewReader(strings.Repeat("x", n))
		return io.Copy(io.Discard, struct{ io.Reader }{c})
	}
	var all []*Conn
	failed := 0
	for range 100 {
		c := b.open("192.0.2.1")
		all = append(all, c)
		if _, err := read(c, 1<<20); err != nil {
			failed++
		}
	}
	if failed < 80 || failed > 90 {
		t.Errorf("%d of 100 connections with 1 MiB each were ended, want all but about 16", failed)
	}
	b.mu.Lock()
	if b.bytes > maxBytes {
		t.Errorf("%d bytes", b.bytes)
	}
	b.mu.Unlock()
	small := b.open("192.0.2.1")
	if _, err := read(small, freeBytes); err != nil {
		t.Errorf("a small request: %v", err)
	}
	// The bytes of proven, busy, idle and closed connections don't count.
	if err := b.prove(all[0], Token, "t"); err != nil {
		t.Fatal(err)
	}
	b.Serve(Context(context.Background(), all[1]))
	State(all[2], http.StateIdle)
	for _, c := range all[3:] {
		c.Close()
	}
	b.mu.Lock()
	if b.bytes != 0 {
		t.Errorf("%d bytes are left", b.bytes)
	}
	b.mu.Unlock()
	if _, err := read(all[0], 40<<20); err != nil {
		t.Errorf("with a credential: %v", err)
	}
}

// TestConcurrentConnections opens, proves and closes connections concurrently.
func TestConcurrentConnections(t *testing.T) {
	g := New(Config{MaxConns: 50, MaxPerClient: 20})
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			for n := range 300 {
				c := g.admit(&fake{from: fmt.Sprintf("192.0.2.%d", i%3)})
				if c == nil {
					continue
				}
				ctx := Context(context.Background(), c)
				switch n % 4 {
				case 0:
					_ = g.Prove(ctx, Host, fmt.Sprint(i))
				case 1:
					_ = g.Prove(ctx, Token, fmt.Sprint(n%7))
					_ = g.Prove(ctx, Peer, "")
				case 2:
					g.Serve(ctx)
				}
				State(c, http.StateIdle)
				c.Close()
				c.Close()
			}
		})
	}
	group.Wait()
	(&testGate{Gate: g, t: t}).holds("at the end", 0, 0, 0, 0)
	if len(g.clients) != 0 || len(g.holders) != 0 {
		t.Errorf("%d clients and %d holders are left", len(g.clients), len(g.holders))
	}
}
