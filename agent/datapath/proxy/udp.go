package proxy

import (
	"container/list"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	maxDatagram = 64 << 10
	maxOOB      = 128 // more than the control messages of one datagram take
	maxQueued   = 16  // datagrams of a flow that isn't connected yet
)

var datagrams = sync.Pool{New: func() any { return new([maxDatagram]byte) }}

// udpServer is a socket that takes the datagrams for one port of a service. Each client
// has a flow of its own, so that the pod's answers find the client.
type udpServer struct {
	p    *Proxy
	key  string
	conn *net.UDPConn
	to   *port
	done chan struct{} // closed after the last read; replaced under Proxy.applying

	mu     sync.Mutex
	closed bool
	flows  map[flowKey]*list.Element
	order  *list.List         // of *flow, the last used first
	handed map[flowKey]string // pods of the clients of another proxy
}

// flowKey names a flow: by the client, and by the address of ours that it asked.
type flowKey struct {
	client netip.AddrPort
	local  netip.Addr
}

// flow is one client of a UDP port.
type flow struct {
	server *udpServer
	key    flowKey
	oob    []byte // says from which address of ours the answers come
	to     *endpoint

	mu     sync.Mutex
	up     net.Conn // nil until it is connected
	queue  [][]byte // what came before that
	ended  bool
	active time.Time // of the last datagram, either way
}

// listenUDP opens a socket and reads from it until it is closed.
func (p *Proxy) listenUDP(key string, addr netip.AddrPort, to *port) (*udpServer, error) {
	conn, err := p.opts.Sockets.ListenPacket(key, addr)
	if err != nil {
		return nil, err
	}
	// A process that handed the socket over may have stopped to read by a deadline of its
	// own; that is not shared.
	s := &udpServer{p: p, key: key, conn: conn, to: to, done: make(chan struct{}), flows: map[flowKey]*list.Element{}, order: list.New()}
	s.takeHanded()
	go s.read(s.done)
	return s, nil
}

// closeUDP closes a socket and ends its flows.
func (p *Proxy) closeUDP(s *udpServer) {
	s.stopReading()
	s.mu.Lock()
	s.closed = true
	var all []*flow
	for e := s.order.Front(); e != nil; e = e.Next() {
		all = append(all, e.Value.(*flow))
	}
	s.mu.Unlock()
	for _, f := range all {
		f.end()
	}
	p.opts.Sockets.Release(s.key)
}

// stopReading leaves what comes to another process. Answers are still sent.
func (s *udpServer) stopReading() {
	_ = s.conn.SetReadDeadline(time.Unix(1, 0))
	<-s.done
}

// resumeReading takes back what stopReading has left.
func (s *udpServer) resumeReading() {
	_ = s.conn.SetReadDeadline(time.Time{})
	s.done = make(chan struct{})
	go s.read(s.done)
}

// read takes datagrams until the socket is closed. An idle socket has no buffer.
func (s *udpServer) read(done chan<- struct{}) {
	defer close(done)
	raw, err := s.conn.SyscallConn()
	if err != nil {
		return
	}
	var buf *[maxDatagram]byte
	var n, oobn int
	var from unix.Sockaddr
	var readErr error
	oob := make([]byte, maxOOB)
	read := func(fd uintptr) bool {
		buf = datagrams.Get().(*[maxDatagram]byte)
		for {
			n, oobn, _, from, readErr = unix.Recvmsg(int(fd), buf[:], oob, 0)
			switch readErr {
			case syscall.EINTR:
			case syscall.EAGAIN:
				datagrams.Put(buf)
				return false
			default:
				return true
			}
		}
	}
	for {
		if err := raw.Read(read); err != nil {
			return // closed, or stopReading
		}
		if client, ok := addrPort(from); ok && readErr == nil {
			local, reply := source(oob[:oobn])
			s.take(flowKey{client, local}, reply, buf[:n])
		}
		datagrams.Put(buf)
	}
}

// take leads a datagram to the pod of its client.
func (s *udpServer) take(key flowKey, oob, b []byte) {
	s.mu.Lock()
	var f *flow
	if e := s.flows[key]; e != nil {
		f = e.Value.(*flow)
		s.order.MoveToFront(e)
	}
	s.mu.Unlock()
	if f == nil {
		if f = s.start(key, oob); f == nil {
			return
		}
	}
	f.send(b)
}

// start begins the flow of a client. It returns nil if there is no pod, or no room. If the
// project has its share of flows, the service's flow that was silent for longest ends.
func (s *udpServer) start(key flowKey, oob []byte) *flow {
	e := s.pick(key)
	if e == nil {
		return nil
	}
	f := &flow{server: s, key: key, oob: append([]byte(nil), oob...), to: e, active: time.Now()}
	if !s.p.flows.acquire(s.to.project, s.to.service) {
		s.mu.Lock()
		last := s.order.Back()
		s.mu.Unlock()
		if last == nil {
			return nil
		}
		last.Value.(*flow).end()
		if !s.p.flows.acquire(s.to.project, s.to.service) {
			return nil
		}
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		s.p.flows.release(s.to.project, s.to.service)
		return nil
	}
	s.flows[key] = s.order.PushFront(f)
	s.mu.Unlock()
	s.countFlow(1)
	if e.host == "" {
		// It takes no answer of anybody, so that later datagrams don't wait behind it.
		up, err := s.dialFlow(e)
		if err != nil {
			f.fail(err)
			return nil
		}
		if !f.connected(up) {
			_ = up.Close()
			return nil
		}
		go f.run(up)
		return f
	}
	go f.run(nil)
	return f
}

// dialFlow opens the socket of a flow.
func (s *udpServer) dialFlow(e *endpoint) (net.Conn, error) {
	p := s.p
	if e.host == "" {
		return p.dialer.DialUDP(p.ctx, "udp", netip.AddrPort{}, e.addr)
	}
	if p.opts.DialUDP == nil {
		return nil, fmt.Errorf("pod %s is on host %s, and there is no relay", e.pod, e.host)
	}
	ctx, cancel := context.WithTimeout(p.ctx, dialTimeout)
	defer cancel()
	return p.opts.DialUDP(ctx, e.host, Target{ServiceID: s.to.service, PodID: e.pod, Port: s.to.number, Protocol: "udp"})
}

// send sends a datagram of the client to the pod.
func (f *flow) send(b []byte) {
	f.mu.Lock()
	f.active = time.Now()
	up := f.up
	if up == nil && len(f.queue) < maxQueued {
		f.queue = append(f.queue, append([]byte(nil), b...))
	}
	f.mu.Unlock()
	if up == nil {
		return
	}
	if _, err := up.Write(b); err != nil {
		f.writeFailed(err)
	}
}

// writeFailed ends a flow whose pod doesn't take datagrams. An answer of ICMP to an earlier
// datagram is reported here too.
func (f *flow) writeFailed(err error) {
	if errors.Is(err, syscall.EMSGSIZE) || errors.Is(err, syscall.ENOBUFS) || errors.Is(err, syscall.EAGAIN) {
		return // only this datagram is lost
	}
	f.fail(err)
}

// fail ends a flow, and lets the client's next datagram go to another pod, also if the service
// has affinity.
func (f *flow) fail(err error) {
	f.mu.Lock()
	ended := f.ended
	f.mu.Unlock()
	if !ended {
		f.to.failed(time.Now())
		f.server.to.affinity.forget(f.server.to.service, f.key.client.Addr().Unmap(), f.to.pod)
		f.server.p.log.Debug("a flow has ended", "service_id", f.server.to.service, "pod_id", f.to.pod, "error", err)
	}
	f.end()
}

// run connects the flow, if necessary, and carries the pod's answers until the flow ends.
func (f *flow) run(up net.Conn) {
	defer f.end()
	if up == nil {
		var err error
		up, err = f.server.dialFlow(f.to)
		if err != nil {
			f.fail(err)
			return
		}
		if !f.connected(up) {
			_ = up.Close()
			return
		}
	}
	if err := f.answers(up); err != nil {
		f.fail(err)
	}
}

// connected takes over the socket and sends what has come meanwhile; false if the flow has
// ended.
func (f *flow) connected(up net.Conn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended {
		return false
	}
	for _, b := range f.queue {
		if _, err := up.Write(b); err != nil {
			return false
		}
	}
	f.up, f.queue = up, nil
	return true
}

// answers carries the pod's answers to the client. It returns nil after the timeout.
func (f *flow) answers(up net.Conn) error {
	read, err := reader(up)
	if err != nil {
		return err
	}
	for {
		f.mu.Lock()
		until := f.active.Add(f.server.p.opts.FlowTimeout)
		f.mu.Unlock()
		if !until.After(time.Now()) {
			return nil
		}
		if err := up.SetReadDeadline(until); err != nil {
			return err
		}
		buf, n, err := read()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			continue
		}
		if err != nil {
			return err
		}
		f.mu.Lock()
		f.active = time.Now()
		f.mu.Unlock()
		_, _, err = f.server.conn.WriteMsgUDPAddrPort(buf[:n], f.oob, f.key.client)
		datagrams.Put(buf)
		if errors.Is(err, net.ErrClosed) {
			return err
		}
	}
}

// reader returns a function that reads one datagram. While it waits, it has no buffer, if
// the connection is a socket. Its caller puts the buffer back.
func reader(c net.Conn) (func() (*[maxDatagram]byte, int, error), error) {
	udp, ok := c.(*net.UDPConn)
	if !ok {
		return func() (*[maxDatagram]byte, int, error) {
			buf := datagrams.Get().(*[maxDatagram]byte)
			n, err := c.Read(buf[:])
			if err != nil {
				datagrams.Put(buf)
			}
			return buf, n, err
		}, nil
	}
	raw, err := udp.SyscallConn()
	if err != nil {
		return nil, err
	}
	var buf *[maxDatagram]byte
	var n int
	var readErr error
	read := func(fd uintptr) bool {
		buf = datagrams.Get().(*[maxDatagram]byte)
		for {
			n, readErr = unix.Read(int(fd), buf[:])
			if readErr == syscall.EINTR {
				continue
			}
			if readErr != nil {
				datagrams.Put(buf)
			}
			return readErr != syscall.EAGAIN
		}
	}
	return func() (*[maxDatagram]byte, int, error) {
		if err := raw.Read(read); err != nil {
			return nil, 0, err
		}
		return buf, n, readErr
	}, nil
}

// end ends a flow. It may be called several times.
func (f *flow) end() {
	f.mu.Lock()
	if f.ended {
		f.mu.Unlock()
		return
	}
	f.ended = true
	if f.up != nil {
		_ = f.up.Close()
	}
	f.mu.Unlock()
	s := f.server
	s.mu.Lock()
	if e := s.flows[f.key]; e != nil && e.Value.(*flow) == f {
		s.order.Remove(e)
		delete(s.flows, f.key)
	}
	s.mu.Unlock()
	s.p.flows.release(s.to.project, s.to.service)
	s.countFlow(-1)
}

// countFlow counts flows.
func (s *udpServer) countFlow(n int) {
	p := s.p
	p.mu.Lock()
	defer p.mu.Unlock()
	p.flowCount += n
	p.checkIdle()
}

// endFlows ends the flows to endpoints that get no new connections. A client that goes on
// sending from one port would otherwise never leave them.
func (p *Proxy) endFlows() {
	for _, s := range p.servers() {
		var gone []*flow
		s.mu.Lock()
		for e := s.order.Front(); e != nil; e = e.Next() {
			if f := e.Value.(*flow); !s.to.has(f.to) {
				gone = append(gone, f)
			}
		}
		s.mu.Unlock()
		for _, f := range gone {
			f.end()
		}
	}
}

// servers returns all UDP sockets. Its caller holds applying.
func (p *Proxy) servers() []*udpServer {
	var all []*udpServer
	for _, pr := range p.projects {
		for _, s := range pr.udp {
			all = append(all, s)
		}
	}
	for _, n := range p.nodes {
		if n.udp != nil {
			all = append(all, n.udp)
		}
	}
	return all
}

// addrPort converts the address of a peer.
func addrPort(from unix.Sockaddr) (netip.AddrPort, bool) {
	switch a := from.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port)), true
	case *unix.SockaddrInet6:
		addr := netip.AddrFrom16(a.Addr)
		if a.ZoneId != 0 {
			addr = addr.WithZone(fmt.Sprint(a.ZoneId))
		}
		return netip.AddrPortFrom(addr, uint16(a.Port)), true
	}
	return netip.AddrPort{}, false
}

// source returns the address of ours at which a datagram arrived, and the control message
// that sends the answer from there. Both are zero if the kernel doesn't say.
func source(oob []byte) (netip.Addr, []byte) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return netip.Addr{}, nil
	}
	for _, m := range messages {
		switch {
		case m.Header.Level == unix.SOL_IP && m.Header.Type == unix.IP_PKTINFO && len(m.Data) >= unix.SizeofInet4Pktinfo:
			// interface, own address, address of the header
			local := [4]byte(m.Data[4:8])
			return netip.AddrFrom4(local), unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: local})
		case m.Header.Level == unix.SOL_IPV6 && m.Header.Type == unix.IPV6_PKTINFO && len(m.Data) >= unix.SizeofInet6Pktinfo:
			local := [16]byte(m.Data[:16])
			info := &unix.Inet6Pktinfo{Addr: local}
			if addr := netip.AddrFrom16(local); addr.IsLinkLocalUnicast() {
				info.Ifindex = binary.NativeEndian.Uint32(m.Data[16:])
			}
			return netip.AddrFrom16(local), unix.PktInfo6(info)
		}
	}
	return netip.Addr{}, nil
}
