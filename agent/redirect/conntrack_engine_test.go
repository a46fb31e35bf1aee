//go:build engine

package redirect

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stackforge/magnum/structs"
)

// client is a UDP client that keeps its port.
type client struct {
	*kernel
	conn net.Conn
}

func (k *kernel) client(addr string) *client {
	k.Helper()
	c := &client{kernel: k}
	if err := k.within(func() (err error) { c.conn, err = net.Dial("udp4", addr); return err }); err != nil {
		k.Fatal(err)
	}
	k.Cleanup(func() { c.conn.Close() })
	return c
}

// gets waits until the client is answered with a word. Nothing else may answer.
func (c *client) gets(want string) {
	c.Helper()
	b := make([]byte, 100)
	for end := time.Now().Add(timeout); time.Now().Before(end); {
		_, _ = c.conn.Write([]byte("?\n"))
		_ = c.conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		n, err := c.conn.Read(b)
		if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, unix.ECONNREFUSED) {
			continue
		}
		if err != nil || string(b[:n]) != want+"\n" {
			c.Fatalf("a client got %q, %v, want %q", b[:n], err, want)
		}
		return
	}
	c.Fatalf("no answer, want %q", want)
}

// flows returns where the kernel leads the clients of an address.
func (k *kernel) flows(addr netip.Addr) (all []leads) {
	k.Helper()
	if err := k.table.forget(func(l leads) bool {
		if l.asked.Addr() == addr {
			all = append(all, l)
		}
		return false
	}); err != nil {
		k.Fatal(err)
	}
	return all
}

// TestUDPFlowsFollowTheRules: a client that goes on sending from its port is led to where a new
// one would be. Other flows stay, also those of another agent with a service at the same
// address.
func TestUDPFlowsFollowTheRules(t *testing.T) {
	host := newKernel(t)
	p, q := host.pod(1), host.pod(2)
	addr, second := netip.MustParseAddr("10.127.0.1"), netip.MustParseAddr("10.127.0.2")
	one, two := uint16(host.echo("172.30.1.1:0", "one")), uint16(host.echo("172.30.1.1:0", "two"))
	theirs := uint16(host.echo("172.30.2.1:0", "theirs"))
	gateway := Gateway{"br-1", netip.MustParseAddr("172.30.1.1")}
	rules := func(ports map[Target]uint16) Rules {
		return Rules{Ports: ports, Gateways: map[Gateway]struct{}{gateway: {}}, Addresses: map[netip.Addr]struct{}{addr: {}, second: {}}}
	}
	asked := func(a netip.Addr) Target { return Target{"br-1", a, UDP, 5353} }
	other := New(structs.NewID())
	other.netns = host.table.netns
	if err := other.Set(Rules{Ports: map[Target]uint16{{"br-2", addr, UDP, 5353}: theirs}, Addresses: map[netip.Addr]struct{}{addr: {}},
		Gateways: map[Gateway]struct{}{{"br-2", netip.MustParseAddr("172.30.2.1")}: {}}}); err != nil {
		t.Fatal(err)
	}
	host.set(rules(map[Target]uint16{asked(addr): one, asked(second): one}))
	moves, stays, foreign := p.client("10.127.0.1:5353"), p.client("10.127.0.2:5353"), q.client("10.127.0.1:5353")
	moves.gets("one")
	stays.gets("one")
	foreign.gets("theirs")

	host.set(rules(map[Target]uint16{asked(addr): two, asked(second): one})) // another socket
	if got := host.flows(second); len(got) != 1 || got[0].to.Port() != one {
		t.Errorf("the flow of another service leads to %v", got)
	}
	if got := host.flows(addr); len(got) != 1 || got[0].to.Port() != theirs {
		t.Errorf("the flows of the service lead to %v, and only that of another agent may be left", got)
	}
	moves.gets("two")
	stays.gets("one")
	foreign.gets("theirs")

	// The agent was restarted, and the socket has changed meanwhile.
	again := &Table{name: host.table.name, netns: host.table.netns}
	if err := again.Set(rules(map[Target]uint16{asked(addr): one, asked(second): one})); err != nil {
		t.Fatal(err)
	}
	moves.gets("one")

	// The port goes, and then all.
	host.table = again
	host.set(rules(map[Target]uint16{asked(second): one}))
	if got := host.flows(addr); len(got) != 1 {
		t.Errorf("a port that is gone leaves %v", got)
	}
	if err := host.table.Remove(); err != nil {
		t.Fatal(err)
	}
	if got := host.flows(second); len(got) != 0 {
		t.Errorf("the end leaves %v", got)
	}
	foreign.gets("theirs")
}

// TestManyFlows: a large table is read whole.
func TestManyFlows(t *testing.T) {
	host := newKernel(t)
	p := host.pod(1)
	addr := netip.MustParseAddr("10.127.0.1")
	rules := Rules{Ports: map[Target]uint16{}, Addresses: map[netip.Addr]struct{}{addr: {}},
		Gateways: map[Gateway]struct{}{{"br-1", netip.MustParseAddr("172.30.1.1")}: {}}}
	const many = 2000
	to := uint16(host.echo("172.30.1.1:0", "p"))
	for port := range uint16(many) {
		rules.Ports[Target{"br-1", addr, UDP, 1000 + port}] = to
	}
	host.set(rules)
	if err := p.within(func() error {
		c, err := net.ListenUDP("udp4", nil)
		if err != nil {
			return err
		}
		defer c.Close()
		for port := range many {
			if _, err := c.WriteToUDP([]byte("?"), &net.UDPAddr{IP: addr.AsSlice(), Port: 1000 + port}); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(timeout); len(host.flows(addr)) < many; {
		if time.Now().After(end) {
			t.Fatalf("%d flows of %d", len(host.flows(addr)), many)
		}
	}
	delete(rules.Ports, Target{"br-1", addr, UDP, 1000})
	next := rules
	next.Ports = map[Target]uint16{{"br-1", addr, UDP, 1001}: to}
	host.set(next)
	if got := host.flows(addr); len(got) != 1 || got[0].asked.Port() != 1001 {
		t.Errorf("%d flows are left, the first is %v", len(got), fmt.Sprint(got[:min(1, len(got))]))
	}
}
