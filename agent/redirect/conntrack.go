package redirect

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// The kernel looks a rule up for the first datagram of a client only, and remembers where it
// led (conntrack) as long as the client goes on sending. A change of the rules is not seen by
// such a flow: it would lead to a socket that is closed, or another service's. So what the
// rules don't say any more is forgotten. A TCP connection needs none of this: it belongs to
// the process that has taken it.

// leads says where a client of a UDP port is led.
type leads struct {
	asked netip.AddrPort // of the service
	to    netip.AddrPort // on the gateway
}

// flush makes the kernel forget the UDP flows that the rules lead elsewhere, or nowhere. was
// are the rules of before, if they are known.
func (t *Table) flush(was []*Rules, now *Rules) error {
	current, redirected := map[leads]bool{}, map[netip.AddrPort]bool{}
	byBridge := map[string]netip.Addr{}
	for g := range now.Gateways {
		byBridge[g.Bridge] = g.Addr
	}
	for target, to := range now.Ports {
		if target.Protocol != UDP {
			continue
		}
		asked := netip.AddrPortFrom(target.Addr, target.Port)
		redirected[asked] = true
		current[leads{asked, netip.AddrPortFrom(byBridge[target.Bridge], to)}] = true
	}
	// What leads to a gateway of this table is this table's; another agent may have services at
	// the same addresses.
	addresses, gateways := map[netip.Addr]bool{}, map[netip.Addr]bool{}
	for _, r := range append(was[:len(was):len(was)], now) {
		for a := range r.Addresses {
			addresses[a] = true
		}
		for g := range r.Gateways {
			gateways[g.Addr] = true
		}
	}
	return t.forget(func(l leads) bool {
		if l.asked == l.to {
			return redirected[l.asked] // it began before there was a rule
		}
		return addresses[l.asked.Addr()] && gateways[l.to.Addr()] && !current[l]
	})
}

// changesUDP reports whether a UDP port is led elsewhere than before.
func changesUDP(was, now *Rules) bool {
	for _, pair := range [][2]*Rules{{was, now}, {now, was}} {
		for t, to := range pair[0].Ports {
			if t.Protocol == UDP && pair[1].Ports[t] != to {
				return true
			}
		}
	}
	return false
}

// The messages and attributes of the kernel's connection tracking.
const (
	ctGet    = unix.NFNL_SUBSYS_CTNETLINK<<8 | 1
	ctDelete = unix.NFNL_SUBSYS_CTNETLINK<<8 | 2

	ctaTupleOrig  = 1
	ctaTupleReply = 2
	ctaID         = 12
	ctaZone       = 18
	ctaTupleIP    = 1
	ctaTupleProto = 2
	ctaIPv4Src    = 1
	ctaIPv4Dst    = 2
	ctaProtoNum   = 1
	ctaSrcPort    = 2
	ctaDstPort    = 3
)

// nfgenmsg is the header of a message about IPv4.
var nfgenmsg = []byte{unix.AF_INET, unix.NFNETLINK_V0, 0, 0}

// forget removes the flows of UDP over IPv4 that are chosen. The table of a busy host is
// large: it is read in parts, and only what is chosen is kept. Without connection tracking
// there is nothing to remove.
func (t *Table) forget(chosen func(leads) bool) error {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: t.netns})
	if err != nil {
		return err
	}
	defer c.Close()
	var remove [][]byte
	err = dump(c, func(data []byte) error {
		l, key, err := readFlow(data)
		if err == nil && key != nil && chosen(l) {
			remove = append(remove, key)
		}
		return err
	})
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil // the kernel doesn't track connections, so it has led none
	}
	if err != nil {
		return fmt.Errorf("the flows of UDP ports can't be listed: %w", err)
	}
	for _, key := range remove {
		_, err := c.Execute(netlink.Message{Header: netlink.Header{Type: ctDelete, Flags: netlink.Request | netlink.Acknowledge},
			Data: append(nfgenmsg[:len(nfgenmsg):len(nfgenmsg)], key...)})
		if err != nil && !errors.Is(err, unix.ENOENT) { // it has just ended
			return fmt.Errorf("a flow of a UDP port can't be ended: %w", err)
		}
	}
	return nil
}

// dump calls each with the attributes of all flows.
func dump(c *netlink.Conn, each func([]byte) error) error {
	sent, err := c.Send(netlink.Message{Header: netlink.Header{Type: ctGet, Flags: netlink.Request | netlink.Dump}, Data: nfgenmsg})
	if err != nil {
		return err
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	buf := make([]byte, 32<<10) // the kernel sends no longer parts
	for {
		var n int
		var got error
		if err := raw.Read(func(fd uintptr) bool {
			n, _, got = unix.Recvfrom(int(fd), buf, 0)
			return got != unix.EAGAIN && got != unix.EINTR
		}); err != nil {
			return err
		}
		if got != nil {
			return got
		}
		for rest := buf[:n]; len(rest) >= unix.NLMSG_HDRLEN; {
			size := int(binary.NativeEndian.Uint32(rest))
			if size < unix.NLMSG_HDRLEN || size > len(rest) {
				return fmt.Errorf("a message of %d bytes in %d", size, len(rest))
			}
			kind, sequence := binary.NativeEndian.Uint16(rest[4:]), binary.NativeEndian.Uint32(rest[8:])
			data := rest[unix.NLMSG_HDRLEN:size]
			rest = rest[min((size+3)&^3, len(rest)):]
			switch {
			case sequence != sent.Header.Sequence:
			case kind == unix.NLMSG_DONE:
				return nil
			case kind == unix.NLMSG_ERROR:
				if len(data) < 4 {
					return errors.New("an error without a number")
				}
				return unix.Errno(-int32(binary.NativeEndian.Uint32(data)))
			case len(data) > len(nfgenmsg):
				if err := each(data[len(nfgenmsg):]); err != nil {
					return err
				}
			}
		}
	}
}

// readFlow reads where a flow leads, and the attributes by which it is removed; nil if it isn't
// UDP over IPv4.
func readFlow(data []byte) (l leads, key []byte, err error) {
	ad, err := netlink.NewAttributeDecoder(data)
	if err != nil {
		return l, nil, err
	}
	udp := false
	for ad.Next() {
		switch ad.Type() {
		case ctaTupleOrig:
			ad.Nested(func(ad *netlink.AttributeDecoder) (err error) {
				_, l.asked, udp, err = readTuple(ad)
				return err
			})
		case ctaTupleReply:
			ad.Nested(func(ad *netlink.AttributeDecoder) (err error) {
				l.to, _, _, err = readTuple(ad)
				return err
			})
		case ctaID, ctaZone:
		default:
			continue
		}
		key = appendAttribute(key, ad)
	}
	if err := ad.Err(); err != nil {
		return l, nil, err
	}
	if !udp || !l.asked.IsValid() || !l.to.IsValid() {
		return leads{}, nil, nil
	}
	return l, key, nil
}

// appendAttribute appends the attribute that a decoder is at.
func appendAttribute(b []byte, ad *netlink.AttributeDecoder) []byte {
	kind := ad.Type()
	switch kind {
	case ctaTupleReply:
		return b // the other one says which flow it is
	case ctaTupleOrig:
		kind |= unix.NLA_F_NESTED
	}
	value := ad.Bytes()
	b = binary.NativeEndian.AppendUint16(b, uint16(4+len(value)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = append(b, value...)
	return append(b, make([]byte, -len(value)&3)...)
}

// readTuple reads the two ends of one direction.
func readTuple(ad *netlink.AttributeDecoder) (from, to netip.AddrPort, udp bool, err error) {
	var addr [3]netip.Addr
	var port [4]uint16
	for ad.Next() {
		switch ad.Type() {
		case ctaTupleIP:
			ad.Nested(func(ad *netlink.AttributeDecoder) error {
				for ad.Next() {
					if b := ad.Bytes(); len(b) == 4 && (ad.Type() == ctaIPv4Src || ad.Type() == ctaIPv4Dst) {
						addr[ad.Type()] = netip.AddrFrom4([4]byte(b))
					}
				}
				return ad.Err()
			})
		case ctaTupleProto:
			ad.Nested(func(ad *netlink.AttributeDecoder) error {
				for ad.Next() {
					switch b := ad.Bytes(); {
					case ad.Type() == ctaProtoNum && len(b) == 1:
						udp = Protocol(b[0]) == UDP
					case len(b) == 2 && (ad.Type() == ctaSrcPort || ad.Type() == ctaDstPort):
						port[ad.Type()] = binary.BigEndian.Uint16(b)
					}
				}
				return ad.Err()
			})
		}
	}
	if err := ad.Err(); err != nil {
		return from, to, false, err
	}
	if addr[ctaIPv4Src].IsValid() {
		from = netip.AddrPortFrom(addr[ctaIPv4Src], port[ctaSrcPort])
	}
	if addr[ctaIPv4Dst].IsValid() {
		to = netip.AddrPortFrom(addr[ctaIPv4Dst], port[ctaDstPort])
	}
	return from, to, udp, nil
}
