package redirect

import (
	"net/netip"
	"testing"
)

// udpFlow is what the kernel says of the flow 172.30.1.2:40000 to 10.127.0.1:53, which is led
// to 172.30.1.1:50001.
var udpFlow = []byte{
	52, 0, 1, 0x80, // original
	20, 0, 1, 0x80, 8, 0, 1, 0, 172, 30, 1, 2, 8, 0, 2, 0, 10, 127, 0, 1,
	28, 0, 2, 0x80, 5, 0, 1, 0, 17, 0, 0, 0, 6, 0, 2, 0, 0x9c, 0x40, 0, 0, 6, 0, 3, 0, 0, 53, 0, 0,
	52, 0, 2, 0x80, // reply
	20, 0, 1, 0x80, 8, 0, 1, 0, 172, 30, 1, 1, 8, 0, 2, 0, 172, 30, 1, 2,
	28, 0, 2, 0x80, 5, 0, 1, 0, 17, 0, 0, 0, 6, 0, 2, 0, 0xc3, 0x51, 0, 0, 6, 0, 3, 0, 0x9c, 0x40, 0, 0,
	8, 0, 3, 0, 0, 0, 1, 0x8e, // status
	8, 0, 12, 0, 1, 2, 3, 4, // ID
}

func TestReadFlow(t *testing.T) {
	l, key, err := readFlow(udpFlow)
	want := leads{netip.MustParseAddrPort("10.127.0.1:53"), netip.MustParseAddrPort("172.30.1.1:50001")}
	if err != nil || l.asked != want.asked || l.to != want.to {
		t.Errorf("%v, %v, want %v", l, err, want)
	}
	if got := string(udpFlow[:52]) + string(udpFlow[112:]); string(key) != got {
		t.Errorf("it is removed by %v", key)
	}
	tcp := append([]byte(nil), udpFlow...)
	tcp[32] = 6
	if _, key, err := readFlow(tcp); key != nil || err != nil {
		t.Errorf("of TCP: %v, %v", key, err)
	}
}

func FuzzReadFlow(f *testing.F) {
	f.Add(udpFlow)
	f.Fuzz(func(t *testing.T, b []byte) {
		if l, key, err := readFlow(b); err == nil && key != nil && (!l.asked.IsValid() || !l.to.IsValid()) {
			t.Errorf("a flow of nothing: %v", l)
		}
	})
}

func TestChangesOfUDP(t *testing.T) {
	a := netip.MustParseAddr("10.127.0.1")
	udp, tcp := Target{"br", a, UDP, 53}, Target{"br", a, TCP, 53}
	for what, c := range map[string]struct {
		was, now map[Target]uint16
		want     bool
	}{
		"nothing":        {map[Target]uint16{udp: 1, tcp: 1}, map[Target]uint16{udp: 1, tcp: 1}, false},
		"TCP only":       {map[Target]uint16{udp: 1, tcp: 1}, map[Target]uint16{udp: 1}, false},
		"another socket": {map[Target]uint16{udp: 1}, map[Target]uint16{udp: 2}, true},
		"a port goes":    {map[Target]uint16{udp: 1}, nil, true},
		"a port comes":   {nil, map[Target]uint16{udp: 1}, true},
	} {
		if got := changesUDP(&Rules{Ports: c.was}, &Rules{Ports: c.now}); got != c.want {
			t.Errorf("%s: %v", what, got)
		}
	}
}
