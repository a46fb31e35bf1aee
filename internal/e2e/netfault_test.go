//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// netFault is one fault of a network. do applies it and returns what undoes it.
// Faults add up; each is undone by itself, in any order.
type netFault struct {
	name string
	do   func(ctx context.Context) (undo func(), err error)
}

// with applies a fault until undo is called. It is an error if no packet met
// the fault: then nothing was tested.
func (n *network) with(f netFault) (undo func()) {
	n.Helper()
	end, err := f.do(context.Background())
	if err != nil {
		n.Fatalf("%s: %v", f.name, err)
	}
	n.Logf("%s", f.name)
	return func() {
		before := n.hits.Load()
		end()
		hits := n.hits.Load() - before
		n.Logf("%s: undone, %d packets met it", f.name, hits)
		if hits == 0 {
			n.Errorf("%s: no packet met it", f.name)
		}
	}
}

// together makes one fault of several.
func together(name string, faults ...netFault) netFault {
	return netFault{name, func(ctx context.Context) (func(), error) {
		var undo []func()
		end := func() {
			for _, f := range undo {
				f()
			}
		}
		for _, f := range faults {
			u, err := f.do(ctx)
			if err != nil {
				end()
				return nil, fmt.Errorf("%s: %w", f.name, err)
			}
			undo = append(undo, u)
		}
		return end, nil
	}}
}

// onWire is a fault of packet filter rules on the bridge. A packet that they
// drop has left its host, and its sender gets no error.
func (n *network) onWire(name string, rules ...string) netFault {
	return netFault{name, func(context.Context) (func(), error) {
		return n.filter(n.namespace("wire"), "bridge", "forward", 0, rules)
	}}
}

// filter puts rules into a table of their own.
func (n *network) filter(space, family, hook string, priority int, rules []string) (undo func(), err error) {
	table := fmt.Sprintf("%s fault%d", family, n.faults.Add(1))
	script := fmt.Sprintf("table %s {\nchain rules {\ntype filter hook %s priority %d;\n%s\n}\n}\n", table, hook, priority,
		strings.Join(rules, "\n"))
	if _, err := n.nft(space, script); err != nil {
		return nil, err
	}
	return func() { n.unfilter(space, table) }, nil
}

// packets finds the counters in what nft prints.
var packets = regexp.MustCompile(`counter packets (\d+)`)

// unfilter removes a table and counts the packets that met its rules.
func (n *network) unfilter(space, table string) {
	out, err := n.nft(space, "list table "+table+"\n")
	if err == nil { // not in one script: that has made nft crash
		_, err = n.nft(space, "delete table "+table+"\n")
	}
	if err != nil {
		n.Error(err)
	}
	for _, m := range packets.FindAllStringSubmatch(out, -1) {
		hits, _ := strconv.ParseInt(m[1], 10, 64)
		n.hits.Add(hits)
	}
}

// cut drops all packets between two hosts.
func (n *network) cut(a, b *netHost) netFault {
	return n.onWire(a.name+" and "+b.name+" are cut from each other", between(a, b, "counter drop"), between(b, a, "counter drop"))
}

// cutOneWay drops all packets from one host to the others.
func (n *network) cutOneWay(from *netHost, to ...*netHost) netFault {
	var rules, names []string
	for _, h := range to {
		rules, names = append(rules, between(from, h, "counter drop")), append(names, h.name)
	}
	return n.onWire(from.name+" reaches none of "+strings.Join(names, ", "), rules...)
}

// deafen drops all packets from the others to one host.
func (n *network) deafen(to *netHost, from ...*netHost) netFault {
	var rules, names []string
	for _, h := range from {
		rules, names = append(rules, between(h, to, "counter drop")), append(names, h.name)
	}
	return n.onWire(to.name+" is reached by none of "+strings.Join(names, ", "), rules...)
}

// isolate cuts a host from all others, also from those that are made later, but
// not from this machine.
func (n *network) isolate(h *netHost) netFault {
	return n.onWire(h.name+" is cut from all others",
		fmt.Sprintf("ip saddr %s ip daddr != %s counter drop", h.ip, n.gateway),
		fmt.Sprintf("ip daddr %s ip saddr != %s counter drop", h.ip, n.gateway))
}

// loss drops a percentage of the packets between two hosts. A port other than 0
// limits it to TCP connections to that port of either host.
func (n *network) loss(a, b *netHost, percent, port int) netFault {
	chance := fmt.Sprintf("numgen random mod 100 < %d counter drop", percent)
	name := fmt.Sprintf("%d %% loss between %s and %s", percent, a.name, b.name)
	if port == 0 {
		return n.onWire(name, between(a, b, chance), between(b, a, chance))
	}
	var rules []string
	for _, end := range []string{"sport", "dport"} {
		match := fmt.Sprintf("tcp %s %d %s", end, port, chance)
		rules = append(rules, between(a, b, match), between(b, a, match))
	}
	return n.onWire(fmt.Sprintf("%s on port %d", name, port), rules...)
}

// between returns the rule for packets from one host to another.
func between(from, to *netHost, then string) string {
	return fmt.Sprintf("ip saddr %s ip daddr %s %s", from.ip, to.ip, then)
}

// delay delays what one host sends to a TCP port of another, and what comes
// back, by the same time each. The kernel here can't, so connections go through
// a relay in this process. Existing connections break.
func (n *network) delay(from, to *netHost, port int, by time.Duration) netFault {
	name := fmt.Sprintf("%v delay, each way, from %s to port %d of %s", by, from.name, port, to.name)
	return netFault{name, func(context.Context) (func(), error) {
		r, err := newRelay(n.gateway, fmt.Sprintf("%s:%d", to.ip, port), by)
		if err != nil {
			return nil, err
		}
		n.Cleanup(r.close)
		table := fmt.Sprintf("ip fault%d", n.faults.Add(1))
		match := fmt.Sprintf("ip daddr %s tcp dport %d", to.ip, port)
		// Connections from before still have the other host's address, not the relay's.
		_, err = n.nft(from.namespace(), fmt.Sprintf("table %s {\n"+
			"chain lead {\ntype nat hook output priority -100;\n%s counter dnat to %s\n}\n"+
			"chain break {\ntype filter hook output priority 10;\n%s reject with tcp reset\n}\n}\n", table, match, r.Addr(), match))
		if err != nil {
			r.close()
			return nil, err
		}
		return func() {
			// In this order: the packets that end the connections need the
			// address translation of the table.
			r.close()
			n.unfilter(from.namespace(), table)
		}, nil
	}}
}

// relay passes TCP connections on to an address, with a delay.
type relay struct {
	net.Listener
	to string
	by time.Duration

	mu    sync.Mutex
	conns map[net.Conn]bool // nil once the relay is closed
	wg    sync.WaitGroup
}

func newRelay(ip, to string, by time.Duration) (*relay, error) {
	l, err := net.Listen("tcp", ip+":0")
	if err != nil {
		return nil, err
	}
	r := &relay{Listener: l, to: to, by: by, conns: make(map[net.Conn]bool)}
	r.wg.Go(r.accept)
	return r, nil
}

// close breaks the connections and waits for the goroutines.
func (r *relay) close() {
	r.Close()
	r.mu.Lock()
	conns := r.conns
	r.conns = nil
	r.mu.Unlock()
	for c := range conns {
		c.Close()
	}
	r.wg.Wait()
}

// keep notes a connection for close. It closes the connection at once if the
// relay is closed.
func (r *relay) keep(c net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conns == nil {
		c.Close()
		return
	}
	r.conns[c] = true
}

func (r *relay) accept() {
	for {
		in, err := r.Accept()
		if err != nil {
			return
		}
		r.keep(in)
		r.wg.Go(func() {
			defer in.Close()
			out, err := net.DialTimeout("tcp", r.to, 5*time.Second)
			if err != nil {
				return
			}
			r.keep(out)
			defer out.Close()
			r.wg.Go(func() { r.pass(in, out) })
			r.pass(out, in)
		})
	}
}

// pass writes to one connection what the other one sends, after the delay.
func (r *relay) pass(to, from net.Conn) {
	type piece struct {
		due  time.Time
		data []byte
	}
	line := make(chan piece, 1024)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for p := range line {
			time.Sleep(time.Until(p.due)) // the delay itself
			if _, err := to.Write(p.data); err != nil {
				from.Close() // the other end is gone
			}
		}
		to.Close()
	}()
	for {
		data := make([]byte, 32<<10)
		read, err := from.Read(data)
		if read > 0 {
			line <- piece{time.Now().Add(r.by), data[:read]}
		}
		if err != nil {
			if err != io.EOF {
				to.Close()
			}
			break
		}
	}
	close(line)
	<-done
}
