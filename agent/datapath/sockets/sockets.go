// Package sockets keeps the listening sockets of a data path by key, so that one process
// can hand them to the next. Only agent/datapath and its parts use it. It never reads from
// a socket.
package sockets

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// The keep-alive of accepted connections, in seconds: a peer that has vanished is noticed
// after about a minute and a half. They are set on the listening socket, from which
// connections inherit them.
const (
	keepAliveIdle     = 60
	keepAliveInterval = 10
	keepAliveCount    = 3
)

// Table holds open sockets by key. A key says what the socket is for and which address it
// has: an address that changes is another key.
type Table struct {
	mu        sync.Mutex
	ports     map[string]int          // by key: where a socket was bound before, or is
	inherited map[string]*os.File     // of the process before, not in use yet
	open      map[string]syscall.Conn // in use
}

// New returns a table. It owns the inherited sockets, which may be nil. The ports are those
// that an earlier process had; a socket that isn't inherited is bound to the same port if
// it is free.
func New(inherited map[string]*os.File, ports map[string]int) *Table {
	t := &Table{ports: maps.Clone(ports), inherited: maps.Clone(inherited), open: map[string]syscall.Conn{}}
	if t.ports == nil {
		t.ports = map[string]int{}
	}
	return t
}

// Listen returns the listener of a key: the inherited one, or a new one. Port 0 takes the
// port of before, else any that is free. An invalid address means all addresses. The
// caller calls Release to close it.
func (t *Table) Listen(key string, addr netip.AddrPort) (*net.TCPListener, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if f := t.take(key); f != nil {
		ln, err := net.FileListener(f)
		if err == nil {
			if tcp, ok := ln.(*net.TCPListener); ok {
				t.keep(key, tcp, tcp.Addr().(*net.TCPAddr).Port)
				return tcp, nil
			}
			_ = ln.Close()
		}
	}
	// Keep-alive is inherited from the listening socket: Go would set it on each connection.
	config := net.ListenConfig{Control: controlListener, KeepAlive: -1}
	var ln net.Listener
	err := t.bind(key, addr, func(at string) error {
		var err error
		ln, err = config.Listen(context.Background(), network("tcp", addr), at)
		return err
	})
	if err != nil {
		return nil, err
	}
	t.keep(key, ln.(*net.TCPListener), ln.Addr().(*net.TCPAddr).Port)
	return ln.(*net.TCPListener), nil
}

// ListenPacket returns the UDP socket of a key, as Listen does.
func (t *Table) ListenPacket(key string, addr netip.AddrPort) (*net.UDPConn, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if f := t.take(key); f != nil {
		c, err := net.FilePacketConn(f)
		if err == nil {
			if udp, ok := c.(*net.UDPConn); ok {
				t.keep(key, udp, udp.LocalAddr().(*net.UDPAddr).Port)
				return udp, nil
			}
			_ = c.Close()
		}
	}
	config := net.ListenConfig{Control: controlPacket}
	var c net.PacketConn
	err := t.bind(key, addr, func(at string) error {
		var err error
		c, err = config.ListenPacket(context.Background(), network("udp", addr), at)
		return err
	})
	if err != nil {
		return nil, err
	}
	t.keep(key, c.(*net.UDPConn), c.LocalAddr().(*net.UDPAddr).Port)
	return c.(*net.UDPConn), nil
}

// Release closes the socket of a key, if there is one.
func (t *Table) Release(key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c, ok := t.open[key]; ok {
		_ = c.(interface{ Close() error }).Close()
		delete(t.open, key)
		delete(t.ports, key)
	}
}

// Discard closes the inherited sockets that nobody took.
func (t *Table) Discard() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for key, f := range t.inherited {
		_ = f.Close()
		delete(t.inherited, key)
		delete(t.ports, key)
	}
}

// Ports returns where the sockets are bound, by key, and where those were bound that
// haven't come back yet.
func (t *Table) Ports() map[string]int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.ports)
}

// Dup returns a descriptor of each open socket, by key. The caller closes them.
func (t *Table) Dup() (map[string]*os.File, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make(map[string]*os.File, len(t.open))
	for key, c := range t.open {
		f, err := DupConn(c, key)
		if err != nil {
			for _, f := range all {
				_ = f.Close()
			}
			return nil, fmt.Errorf("socket %s: %w", key, err)
		}
		all[key] = f
	}
	return all, nil
}

// DupConn returns another descriptor of a connection. Other than the connection's own
// method File, it leaves the socket non-blocking, which both descriptors share.
func DupConn(c syscall.Conn, name string) (*os.File, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	var fd int
	var dupErr error
	if err := raw.Control(func(own uintptr) { fd, dupErr = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		return nil, err
	}
	if dupErr != nil {
		return nil, dupErr
	}
	return os.NewFile(uintptr(fd), name), nil
}

// take returns the inherited socket of a key, nil if there is none. Its caller closes it,
// by keep.
func (t *Table) take(key string) *os.File {
	return t.inherited[key]
}

// keep notes an open socket. Package net has made its own descriptor of an inherited one.
func (t *Table) keep(key string, c syscall.Conn, port int) {
	if f := t.inherited[key]; f != nil {
		_ = f.Close()
		delete(t.inherited, key)
	}
	t.open[key], t.ports[key] = c, port
}

// bind calls open with the address, with the port of before if none is asked for.
func (t *Table) bind(key string, addr netip.AddrPort, open func(at string) error) error {
	host := ""
	if addr.Addr().IsValid() {
		host = addr.Addr().String()
	}
	at := func(port int) string { return net.JoinHostPort(host, fmt.Sprint(port)) }
	if last := t.ports[key]; addr.Port() == 0 && last != 0 && open(at(last)) == nil {
		return nil
	}
	return open(at(int(addr.Port())))
}

// network narrows a protocol to the family of the address. Without an address the socket
// takes both families, if the host has both.
func network(proto string, addr netip.AddrPort) string {
	switch {
	case !addr.Addr().IsValid():
		return proto
	case addr.Addr().Is4():
		return proto + "4"
	}
	return proto + "6"
}

// controlListener lets a listener be bound before the bridge has its address, and sets
// the keep-alive of the connections.
func controlListener(network, _ string, raw syscall.RawConn) error {
	return control(raw, func(fd int) error {
		for _, o := range []struct{ level, name, value int }{
			{unix.SOL_IP, unix.IP_FREEBIND, 1},
			{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
			{unix.SOL_TCP, unix.TCP_KEEPIDLE, keepAliveIdle},
			{unix.SOL_TCP, unix.TCP_KEEPINTVL, keepAliveInterval},
			{unix.SOL_TCP, unix.TCP_KEEPCNT, keepAliveCount},
		} {
			if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
				return os.NewSyscallError("setsockopt", err)
			}
		}
		return nil
	})
}

// controlPacket lets a socket be bound before the bridge has its address, and makes the
// kernel say at which address a datagram has arrived.
func controlPacket(network, _ string, raw syscall.RawConn) error {
	return control(raw, func(fd int) error {
		if err := unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_FREEBIND, 1); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
		if network == "udp6" {
			return os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_RECVPKTINFO, 1))
		}
		return os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_PKTINFO, 1))
	})
}

// control calls a function with a socket's descriptor.
func control(raw syscall.RawConn, set func(fd int) error) error {
	var err error
	if e := raw.Control(func(fd uintptr) { err = set(int(fd)) }); e != nil {
		return e
	}
	return err
}
