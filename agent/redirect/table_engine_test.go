//go:build engine

package redirect

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stackforge/magnum/structs"
)

// These tests need root: they make network namespaces.

// kernel is a host in a network namespace of its own, with the bridges of projects.
type kernel struct {
	*testing.T
	name  string
	netns *os.File
	table *Table
}

func newKernel(t *testing.T) *kernel {
	t.Helper()
	k := &kernel{T: t, name: "rd-" + structs.NewID()[:8]}
	k.ip("netns", "add", k.name)
	t.Cleanup(func() { k.ip("netns", "del", k.name) })
	k.netns = openNetns(t, k.name)
	k.in("ip", "link", "set", "lo", "up")
	k.in("sysctl", "-qw", "net.ipv4.ip_forward=1")
	k.table = New(structs.NewID())
	k.table.netns = int(k.netns.Fd())
	return k
}

func openNetns(t *testing.T, name string) *os.File {
	t.Helper()
	f, err := os.Open("/var/run/netns/" + name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func (k *kernel) ip(args ...string) {
	k.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		k.Fatalf("ip %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// in runs a command on the host.
func (k *kernel) in(args ...string) {
	k.Helper()
	k.ip(append([]string{"netns", "exec", k.name}, args...)...)
}

// pod makes a bridge, 172.30.n.1, with a pod, 172.30.n.2, and returns the pod.
func (k *kernel) pod(n int) *kernel {
	k.Helper()
	p := &kernel{T: k.T, name: fmt.Sprintf("%s-%d", k.name, n)}
	k.ip("netns", "add", p.name)
	k.Cleanup(func() { k.ip("netns", "del", p.name) })
	p.netns = openNetns(k.T, p.name)
	bridge, veth := fmt.Sprintf("br-%d", n), fmt.Sprintf("v%d", n)
	k.in("ip", "link", "add", bridge, "type", "bridge")
	k.in("ip", "addr", "add", fmt.Sprintf("172.30.%d.1/24", n), "dev", bridge)
	k.in("ip", "link", "set", bridge, "up")
	k.in("ip", "link", "add", veth, "type", "veth", "peer", "name", "eth0", "netns", p.name)
	k.in("ip", "link", "set", veth, "master", bridge, "up")
	p.in("ip", "addr", "add", fmt.Sprintf("172.30.%d.2/24", n), "dev", "eth0")
	p.in("ip", "link", "set", "eth0", "up")
	p.in("ip", "route", "add", "default", "via", fmt.Sprintf("172.30.%d.1", n))
	return p
}

// within runs a function in the namespace.
func (k *kernel) within(do func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine
		if err := unix.Setns(int(k.netns.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- err
			return
		}
		done <- do()
	}()
	return <-done
}

// serve answers connections at an address of the host with a word.
func (k *kernel) serve(addr, word string) int {
	k.Helper()
	var ln net.Listener
	if err := k.within(func() (err error) { ln, err = net.Listen("tcp4", addr); return err }); err != nil {
		k.Fatal(err)
	}
	k.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			fmt.Fprintln(c, word, c.LocalAddr())
			c.Close()
		}
	}()
	return ln.Addr().(*net.TCPAddr).Port
}

// echo answers datagrams at an address of the host with a word.
func (k *kernel) echo(addr, word string) int {
	k.Helper()
	var conn net.PacketConn
	if err := k.within(func() (err error) { conn, err = net.ListenPacket("udp4", addr); return err }); err != nil {
		k.Fatal(err)
	}
	k.Cleanup(func() { conn.Close() })
	go func() {
		b := make([]byte, 100)
		for {
			_, from, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = conn.WriteTo([]byte(word+"\n"), from)
		}
	}()
	return conn.LocalAddr().(*net.UDPAddr).Port
}

// How long an answer is waited for, and how long one that mustn't come.
const (
	timeout = time.Minute
	silence = 150 * time.Millisecond
)

// ask returns the first word of the answer to a connection.
func (k *kernel) ask(network, addr string, timeout time.Duration) (word string, err error) {
	err = k.within(func() error {
		c, err := net.DialTimeout(network, addr, timeout)
		if err != nil {
			return err
		}
		defer c.Close()
		if err := c.SetDeadline(time.Now().Add(timeout)); err != nil {
			return err
		}
		if network == "udp4" {
			if _, err := fmt.Fprintln(c, "?"); err != nil {
				return err
			}
		}
		line, err := bufio.NewReader(c).ReadString('\n')
		word, _, _ = strings.Cut(strings.TrimSpace(line), " ")
		return err
	})
	return word, err
}

func (k *kernel) answers(network, addr, want string) {
	k.Helper()
	if word, err := k.ask(network, addr, timeout); err != nil || word != want {
		k.Errorf("%s %s answers %q, %v; want %q", network, addr, word, err, want)
	}
}

// dropped fails unless nothing answers, not even with a refusal.
func (k *kernel) dropped(network, addr string) {
	k.Helper()
	var timedOut net.Error
	if word, err := k.ask(network, addr, silence); !errors.As(err, &timedOut) || !timedOut.Timeout() {
		k.Errorf("%s %s answers %q, %v", network, addr, word, err)
	}
}

// refused fails unless the connection is refused at once.
func (k *kernel) refused(network, addr string) {
	k.Helper()
	if word, err := k.ask(network, addr, timeout); !errors.Is(err, unix.ECONNREFUSED) {
		k.Errorf("%s %s answers %q, %v", network, addr, word, err)
	}
}

func (k *kernel) set(r Rules) {
	k.Helper()
	if err := k.table.Set(r); err != nil {
		k.Fatal(err)
	}
}

// TestRedirect: two projects have a service at the same address.
func TestRedirect(t *testing.T) {
	host := newKernel(t)
	p, q := host.pod(1), host.pod(2)
	addr, absent := netip.MustParseAddr("10.127.0.1"), netip.MustParseAddr("10.127.0.2")
	gateway := func(n int) Gateway {
		return Gateway{fmt.Sprintf("br-%d", n), netip.MustParseAddr(fmt.Sprintf("172.30.%d.1", n))}
	}
	tcpP, tcpQ := host.serve("172.30.1.1:0", "p"), host.serve("172.30.2.1:0", "q")
	udpP := host.echo("172.30.1.1:0", "p")
	host.echo("172.30.1.1:53", "names-p")
	host.echo("172.30.2.1:53", "names-q")
	host.serve("172.30.1.1:53", "names-p")
	open := host.serve("0.0.0.0:0", "host")
	host.in("ip", "addr", "add", "192.0.2.1/32", "dev", "lo")
	host.pod(3)
	host.in("ip", "route", "add", "default", "via", "172.30.3.2") // without a route nothing is forwarded
	host.echo("192.0.2.1:53", "resolver")
	rules := func() Rules {
		return Rules{
			Ports: map[Target]uint16{
				{"br-1", addr, TCP, 80}: uint16(tcpP), {"br-1", addr, UDP, 5353}: uint16(udpP), {"br-2", addr, TCP, 80}: uint16(tcpQ),
			},
			Gateways:  map[Gateway]struct{}{gateway(1): {}, gateway(2): {}},
			Addresses: map[netip.Addr]struct{}{addr: {}, absent: {}},
		}
	}
	check := func() {
		t.Helper()
		p.answers("tcp4", "10.127.0.1:80", "p")
		p.answers("udp4", "10.127.0.1:5353", "p")
		q.answers("tcp4", "10.127.0.1:80", "q")
		p.answers("udp4", "172.30.1.1:53", "names-p")
		p.answers("tcp4", "172.30.1.1:53", "names-p")
		p.answers("udp4", "192.0.2.1:53", "resolver")
		p.refused("tcp4", "10.127.0.1:81")
		p.refused("tcp4", "10.127.0.2:80")
		q.refused("udp4", "10.127.0.1:5353")
		for _, addr := range []string{
			fmt.Sprint("172.30.1.1:", tcpP), fmt.Sprint("172.30.2.1:", tcpQ), fmt.Sprint("172.30.1.1:", open),
			fmt.Sprint("192.0.2.1:", open), fmt.Sprint("172.30.2.1:", open),
		} {
			p.dropped("tcp4", addr)
		}
		p.dropped("udp4", "172.30.2.1:53")
		p.dropped("udp4", fmt.Sprint("172.30.1.1:", udpP))
		if out, err := exec.Command("ip", "netns", "exec", p.name, "ping", "-c1", "-W1", "172.30.1.1").CombinedOutput(); err != nil &&
			!errors.Is(err, exec.ErrNotFound) && !strings.Contains(string(out), "No such file") {
			t.Errorf("the gateway doesn't answer an echo: %v\n%s", err, out)
		}
	}
	p.answers("tcp4", fmt.Sprint("172.30.1.1:", open), "host") // before
	host.set(rules())
	check()
	host.set(rules()) // the same again
	check()

	// A difference: the connections of p go elsewhere, those of q are over.
	next := rules()
	next.Ports[Target{"br-1", addr, TCP, 80}] = uint16(host.serve("172.30.1.1:0", "other"))
	delete(next.Ports, Target{"br-2", addr, TCP, 80})
	host.set(next)
	p.answers("tcp4", "10.127.0.1:80", "other")
	q.refused("tcp4", "10.127.0.1:80")

	// Another agent on this kernel, and its end, disturb nothing.
	other := New(structs.NewID())
	other.netns = host.table.netns
	if err := other.Set(Rules{}); err != nil {
		t.Fatal(err)
	}
	host.set(rules())
	if err := other.Remove(); err != nil {
		t.Fatal(err)
	}
	check()

	// Somebody else has removed all rules of the kernel.
	host.in("nft", "flush", "ruleset")
	if err := host.table.Check(); err != nil {
		t.Fatal(err)
	}
	check()
	host.in("nft", "flush", "ruleset")
	host.set(next)
	p.answers("tcp4", "10.127.0.1:80", "other")
	host.set(rules())

	// An agent that was restarted knows nothing of the rules, and takes them over.
	again := &Table{name: host.table.name, netns: host.table.netns}
	if err := again.Set(rules()); err != nil {
		t.Fatal(err)
	}
	check()
	if err := again.Remove(); err != nil {
		t.Fatal(err)
	}
	if err := again.Remove(); err != nil {
		t.Errorf("removing nothing: %v", err)
	}
	p.answers("tcp4", fmt.Sprint("172.30.1.1:", open), "host")
	if out, err := exec.Command("ip", "netns", "exec", host.name, "nft", "list", "ruleset").CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("left: %v\n%s", err, out)
	}
}

// TestDatagramsToNoPod: who sends to a node port without a pod is told so, at each address of
// the host, and whoever else listens on the host isn't disturbed.
func TestDatagramsToNoPod(t *testing.T) {
	host := newKernel(t)
	p, outside := host.pod(1), host.pod(2)
	node, other := host.echo("0.0.0.0:0", "node"), host.echo("0.0.0.0:0", "other")
	rules := func(refused ...int) Rules {
		r := Rules{Gateways: map[Gateway]struct{}{{"br-1", netip.MustParseAddr("172.30.1.1")}: {}}, Refused: make(map[uint16]struct{})}
		for _, port := range refused {
			r.Refused[uint16(port)] = struct{}{}
		}
		return r
	}
	at := func(ip string) string { return fmt.Sprint(ip, ":", node) }
	for range 2 {
		host.set(rules())
		outside.answers("udp4", at("172.30.2.1"), "node")
		host.answers("udp4", at("127.0.0.1"), "node")
		host.set(rules(node))
		outside.refused("udp4", at("172.30.2.1"))
		outside.refused("udp4", at("172.30.1.1"))
		host.refused("udp4", at("127.0.0.1"))
		p.dropped("udp4", at("172.30.1.1")) // a pod learns nothing of the host
		outside.answers("udp4", fmt.Sprint("172.30.2.1:", other), "other")
	}
}

// TestForgedSource: who sends with the address of another project's pod reaches nothing of the
// host. The answer would go to that pod, whose own answer would then lead back.
func TestForgedSource(t *testing.T) {
	host := newKernel(t)
	p, q, outside, away := host.pod(1), host.pod(2), host.pod(3), host.pod(4) // the latter two are no projects
	service := netip.MustParseAddr("10.127.0.1")
	udp := host.echo("172.30.1.1:0", "p")
	host.echo("172.30.1.1:53", "names")
	node := host.echo("0.0.0.0:0", "node")
	host.set(Rules{
		Ports: map[Target]uint16{{"br-1", service, UDP, 5353}: uint16(udp)},
		Gateways: map[Gateway]struct{}{
			{"br-1", netip.MustParseAddr("172.30.1.1")}: {}, {"br-2", netip.MustParseAddr("172.30.2.1")}: {},
		},
		Addresses: map[netip.Addr]struct{}{service: {}},
	})
	check := func() {
		t.Helper()
		p.answers("udp4", "10.127.0.1:5353", "p")
		p.answers("udp4", "172.30.1.1:53", "names")
		outside.answers("udp4", fmt.Sprint("172.30.3.1:", node), "node")
		host.answers("udp4", fmt.Sprint("172.30.1.1:", node), "node") // over lo
	}
	check()
	for _, forger := range []*kernel{p, outside} {
		forger.in("ip", "addr", "add", "172.30.2.2/32", "dev", "lo")
	}
	for _, c := range []struct {
		forger, victim *kernel
		ask, listen    string
	}{
		{p, q, "10.127.0.1:5353", "172.30.2.2:7000"},
		{p, q, "172.30.1.1:53", "172.30.2.2:7000"},
		{outside, q, fmt.Sprint("172.30.3.1:", node), "172.30.2.2:7000"},
		{p, away, "172.30.4.2:7000", "172.30.4.2:7000"},
	} {
		if got := forge(t, c.forger, c.victim, c.ask, c.listen); got != "" {
			t.Errorf("%s asked in the name of 172.30.2.2: %s gets %q", c.ask, c.listen, got)
		}
	}
	check()
}

// forge sends a datagram from 172.30.2.2:7000, and returns what then comes to the victim, "" if
// nothing.
func forge(t *testing.T, forger, victim *kernel, to, listen string) string {
	t.Helper()
	var got net.PacketConn
	if err := victim.within(func() (err error) { got, err = net.ListenPacket("udp4", listen); return err }); err != nil {
		t.Fatal(err)
	}
	defer got.Close()
	err := forger.within(func() error {
		from := &net.UDPAddr{IP: net.ParseIP("172.30.2.2"), Port: 7000}
		c, err := net.DialUDP("udp4", from, net.UDPAddrFromAddrPort(netip.MustParseAddrPort(to)))
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write([]byte("?"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := got.SetReadDeadline(time.Now().Add(silence)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 100)
	n, _, err := got.ReadFrom(b)
	if err != nil {
		return ""
	}
	return string(b[:n])
}

// TestRedirectMany: a transaction has room for what a large bay has.
func TestRedirectMany(t *testing.T) {
	host := newKernel(t)
	p := host.pod(1)
	port := uint16(host.serve("172.30.1.1:0", "p"))
	r := Rules{Ports: make(map[Target]uint16), Addresses: make(map[netip.Addr]struct{}),
		Gateways: map[Gateway]struct{}{{"br-1", netip.MustParseAddr("172.30.1.1")}: {}}}
	addr := netip.MustParseAddr("10.127.0.1")
	for range 3000 {
		r.Addresses[addr] = struct{}{}
		for _, port80 := range []uint16{80, 81, 82} {
			r.Ports[Target{"br-1", addr, TCP, port80}] = port
		}
		addr = addr.Next()
	}
	host.set(r)
	p.answers("tcp4", "10.127.0.1:80", "p")
	p.answers("tcp4", "10.127.11.180:82", "p")
	if err := host.table.Check(); err != nil || host.table.now == nil {
		t.Error(err)
	}
	host.set(Rules{})
	if out, err := exec.Command("ip", "netns", "exec", host.name, "nft", "list", "ruleset").CombinedOutput(); err != nil ||
		strings.Contains(string(out), "10.127.") {
		t.Errorf("left: %v\n%s", err, out)
	}
}
