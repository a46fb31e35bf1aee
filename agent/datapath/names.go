package datapath

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"github.com/stackforge/magnum/agent/datapath/names"
)

// dnsPort is where names are answered, on the gateways. Tests replace it.
var dnsPort uint16 = 53

// answersAllow is how long a data path that was handed over waits for answers of upstream
// name servers.
const answersAllow = 5 * time.Second

// nameListener answers names of one project on its gateway.
type nameListener struct {
	keyUDP, keyTCP string
	udp            *leavingSocket
	done           chan struct{} // closed when nothing is answered any more
}

// leavingSocket is a UDP socket that another process can take over: after leave it is not
// read any more, but answers can still be sent.
type leavingSocket struct {
	*net.UDPConn
	left atomic.Bool
}

// ReadFrom reads a datagram; net.ErrClosed after leave.
func (s *leavingSocket) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := s.UDPConn.ReadFrom(b)
	if s.left.Load() && errors.Is(err, os.ErrDeadlineExceeded) {
		err = net.ErrClosed
	}
	return n, from, err
}

// Close closes the socket, unless answers may still be sent.
func (s *leavingSocket) Close() error {
	if s.left.Load() {
		return nil
	}
	return s.UDPConn.Close()
}

// leave leaves the questions to another process.
func (s *leavingSocket) leave() {
	s.left.Store(true)
	_ = s.SetReadDeadline(time.Unix(1, 0))
}

// updateNames answers the names of the services on the gateways of all projects. It returns
// what isn't answered. c.mu is held.
func (c *core) updateNames() []Problem {
	c.names.Set(names.NewZone(c.conf.HostID, c.conf.Services), c.conf.Upstreams)
	want := map[string]Project{}
	for _, p := range c.conf.Projects {
		want[p.ID+" "+p.Gateway.Addr().String()] = p
	}
	for key, l := range c.listeners {
		if _, stays := want[key]; !stays {
			c.closeNames(l)
			delete(c.listeners, key)
		}
	}
	var problems []Problem
	for key, p := range want {
		if c.listeners[key] != nil {
			continue
		}
		l, err := c.listenNames(key, p)
		if err != nil {
			problems = append(problems, Problem{Reason: fmt.Sprintf("names of project %s aren't answered on this host: %v: end the "+
				"program that has port %d of all addresses, or of this one", p.ID, err, dnsPort)})
			continue
		}
		c.listeners[key] = l
	}
	return problems
}

// listenNames answers names on one gateway.
func (c *core) listenNames(key string, p Project) (*nameListener, error) {
	l := &nameListener{keyUDP: "dns/udp " + key, keyTCP: "dns/tcp " + key, done: make(chan struct{})}
	addr := netip.AddrPortFrom(p.Gateway.Addr(), dnsPort)
	udp, err := c.sockets.ListenPacket(l.keyUDP, addr)
	if err != nil {
		return nil, err
	}
	tcp, err := c.sockets.Listen(l.keyTCP, addr)
	if err != nil {
		c.sockets.Release(l.keyUDP)
		return nil, err
	}
	l.udp = &leavingSocket{UDPConn: udp}
	go func() {
		defer close(l.done)
		if err := c.names.Serve(l.udp, tcp, p.ID); err != nil {
			c.log.Error("names aren't answered", "project_id", p.ID, "error", err)
		}
	}()
	return l, nil
}

// closeNames stops to answer on a gateway.
func (c *core) closeNames(l *nameListener) {
	c.sockets.Release(l.keyUDP)
	c.sockets.Release(l.keyTCP)
	<-l.done
}

// leaveNames leaves new questions to another process.
func (c *core) leaveNames() {
	for _, l := range c.listeners {
		l.udp.leave()
		c.sockets.Release(l.keyTCP)
		<-l.done
	}
}
