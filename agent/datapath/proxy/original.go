package proxy

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// originalDestination returns where a connection was meant to go before the host
// redirected it. A connection that wasn't redirected has no other destination than ours.
func originalDestination(c *net.TCPConn) (netip.AddrPort, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return netip.AddrPort{}, err
	}
	// The kernel writes a sockaddr_in of 16 bytes: family, port, address. IPv6Mreq is a
	// type of package unix that is large enough.
	var mreq *unix.IPv6Mreq
	var optErr error
	err = raw.Control(func(fd uintptr) { mreq, optErr = unix.GetsockoptIPv6Mreq(int(fd), unix.SOL_IP, unix.SO_ORIGINAL_DST) })
	if err != nil {
		return netip.AddrPort{}, err
	}
	if optErr != nil {
		return netip.AddrPort{}, os.NewSyscallError("getsockopt", optErr)
	}
	b := mreq.Multiaddr
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), binary.BigEndian.Uint16(b[2:4])), nil
}
