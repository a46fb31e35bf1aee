// Package freeport finds ports for tests whose servers need to know their ports before
// they listen, or to keep them over a restart. It calls nothing of magnum's.
package freeport

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"testing"
)

// The ports lie below the range of outgoing connections: one of these could take a port
// while nobody listens on it.
const (
	first = 10000
	count = 20000
)

// given holds what Take has returned.
var given sync.Map

// Take returns a port on which nobody listens, neither by TCP nor by UDP. A process gets
// each port once at most. It ends the test if it finds none.
func Take(t testing.TB) int {
	t.Helper()
	for range 1000 {
		port := first + rand.IntN(count)
		if _, taken := given.LoadOrStore(port, true); !taken && free(port) {
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}

func free(port int) bool {
	at := netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(port))
	tcp, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(at))
	if err != nil {
		return false
	}
	defer tcp.Close()
	udp, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at))
	if err != nil {
		return false
	}
	defer udp.Close()
	return true
}
