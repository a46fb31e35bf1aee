package sockets

import (
	"io"
	"net"
	"net/netip"
	"testing"
)

var any4 = netip.MustParseAddrPort("127.0.0.1:0")

func portOf(t testing.TB, a net.Addr) int {
	t.Helper()
	switch a := a.(type) {
	case *net.TCPAddr:
		return a.Port
	case *net.UDPAddr:
		return a.Port
	}
	t.Fatalf("address %v", a)
	return 0
}

// A table takes the ports of before if they are free, and others if they aren't.
func TestPortsOfBefore(t *testing.T) {
	first := New(nil, nil)
	tcp, err := first.Listen("tcp", any4)
	if err != nil {
		t.Fatal(err)
	}
	udp, err := first.ListenPacket("udp", any4)
	if err != nil {
		t.Fatal(err)
	}
	ports := first.Ports()
	if ports["tcp"] != portOf(t, tcp.Addr()) || ports["udp"] != portOf(t, udp.LocalAddr()) {
		t.Fatalf("ports %v", ports)
	}
	second := New(nil, ports)
	other, err := second.Listen("tcp", any4)
	if err != nil || portOf(t, other.Addr()) == ports["tcp"] {
		t.Fatalf("a port that is taken: %v, %v", other.Addr(), err)
	}
	_ = tcp.Close() // as if the process had ended
	_ = udp.Close()
	third := New(nil, ports)
	again, err := third.Listen("tcp", any4)
	if err != nil || portOf(t, again.Addr()) != ports["tcp"] {
		t.Errorf("TCP: %v, %v, want port %d", again.Addr(), err, ports["tcp"])
	}
	packet, err := third.ListenPacket("udp", any4)
	if err != nil || portOf(t, packet.LocalAddr()) != ports["udp"] {
		t.Errorf("UDP: %v, %v, want port %d", packet.LocalAddr(), err, ports["udp"])
	}
	for _, table := range []*Table{second, third} {
		table.Release("tcp")
		table.Release("udp")
		if len(table.Ports()) != 0 && table == third {
			t.Errorf("ports after all were released: %v", table.Ports())
		}
	}
}

// Sockets that were handed on work after the first table has closed its own.
func TestSocketsAreHandedOn(t *testing.T) {
	first := New(nil, nil)
	tcp, err := first.Listen("tcp", any4)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := first.ListenPacket("udp", any4); err != nil {
		t.Fatal(err)
	}
	if _, err := first.Listen("unwanted", any4); err != nil {
		t.Fatal(err)
	}
	handed, err := first.Dup()
	if err != nil || len(handed) != 3 {
		t.Fatal(handed, err)
	}
	ports := first.Ports()
	second := New(handed, ports)
	for key := range ports {
		first.Release(key)
	}
	ln, err := second.Listen("tcp", any4)
	if err != nil || portOf(t, ln.Addr()) != portOf(t, tcp.Addr()) {
		t.Fatalf("TCP: %v, %v", ln, err)
	}
	if _, err := second.ListenPacket("udp", any4); err != nil || second.Ports()["udp"] != ports["udp"] {
		t.Errorf("UDP: %v, %v", second.Ports(), err)
	}
	second.Discard()
	if _, kept := second.Ports()["unwanted"]; kept {
		t.Error("a socket that nobody wants is kept")
	}
	c, err := net.Dial("tcp4", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	in, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	_, _ = in.Write([]byte("word"))
	_ = in.Close()
	if b, err := io.ReadAll(c); string(b) != "word" || err != nil {
		t.Errorf("got %q, %v", b, err)
	}
	second.Release("tcp")
	second.Release("udp")
}

// A gateway's address may not be there yet.
func TestAnAddressThatDoesNotExistYet(t *testing.T) {
	table := New(nil, nil)
	at := netip.MustParseAddrPort("192.0.2.1:0")
	if _, err := table.Listen("tcp", at); err != nil {
		t.Error(err)
	}
	if _, err := table.ListenPacket("udp", at); err != nil {
		t.Error(err)
	}
	table.Release("tcp")
	table.Release("udp")
}
