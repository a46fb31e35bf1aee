package networks

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/hex"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/docker/docker/api/types/network"

	"github.com/stackforge/magnum/structs"
)

// DefaultPool is the default address space of projects' networks. The engine claims most of
// it for its own networks anyway.
const DefaultPool = "172.16.0.0/12"

// networkBits is the prefix length of a project's network.
const networkBits = 24

// ParsePool parses a network pool: ranges of IPv4 addresses such as 10.99.0.0/16,
// separated by commas. Networks are taken from them in this order. CodeInvalid.
func ParsePool(s string) ([]netip.Prefix, error) {
	var pool []netip.Prefix
	for text := range strings.SplitSeq(s, ",") {
		p, err := netip.ParsePrefix(strings.TrimSpace(text))
		switch {
		case err != nil:
			return nil, structs.Errorf(structs.CodeInvalid, "network pool: %q is not a range of addresses such as %s", text, DefaultPool)
		case !p.Addr().Is4() || p.Addr().IsLoopback() || p.Addr().IsMulticast() || p.Addr().IsLinkLocalUnicast() ||
			p.Addr().IsUnspecified():
			return nil, structs.Errorf(structs.CodeInvalid, "network pool: %s is not a range of IPv4 addresses that a network can have", p)
		case p.Bits() < 8 || p.Bits() > networkBits:
			return nil, structs.Errorf(structs.CodeInvalid, "network pool: %s is not of a size from /8 to /%d, which is one project's", p,
				networkBits)
		case p != p.Masked():
			return nil, structs.Errorf(structs.CodeInvalid, "network pool: %s is not the beginning of its range, which is %s", p,
				p.Masked())
		}
		for _, other := range pool {
			if p.Overlaps(other) {
				return nil, structs.Errorf(structs.CodeInvalid, "network pool: %s and %s overlap", other, p)
			}
		}
		pool = append(pool, p)
	}
	return pool, nil
}

// cut calls use with one network of the pool after another until use returns false.
func cut(pool []netip.Prefix, use func(netip.Prefix) bool) {
	for _, p := range pool {
		first := p.Addr().As4()
		base := binary.BigEndian.Uint32(first[:])
		for n := range uint32(1) << (networkBits - p.Bits()) {
			var at [4]byte
			binary.BigEndian.PutUint32(at[:], base+n<<(32-networkBits))
			if !use(netip.PrefixFrom(netip.AddrFrom4(at), networkBits)) {
				return
			}
		}
	}
}

// overlaps reports whether a network overlaps with one of those that are taken.
func overlaps(p netip.Prefix, taken []netip.Prefix) bool {
	for _, t := range taken {
		if p.Overlaps(t) {
			return true
		}
	}
	return false
}

// taken returns what no new network may overlap with: the engine's other networks, and what
// this machine and the agent have to reach.
func (ns *Networks) taken(ctx context.Context) ([]netip.Prefix, error) {
	list, err := ns.engine.Client.NetworkList(ctx, network.ListOptions{})
	if err != nil {
		return nil, err
	}
	taken := ns.Machine()
	for _, n := range list {
		for _, c := range n.IPAM.Config {
			if p, err := netip.ParsePrefix(c.Subnet); err == nil {
				taken = append(taken, p.Masked())
			}
		}
	}
	ns.mu.Lock()
	avoid := ns.avoid
	ns.mu.Unlock()
	if avoid == nil {
		return taken, nil
	}
	for _, a := range avoid() {
		taken = append(taken, netip.PrefixFrom(a, a.BitLen()))
	}
	return taken, nil
}

// MachinePrefixes returns this machine's routes, addresses and resolvers.
func MachinePrefixes() []netip.Prefix {
	all := routes("/proc/net/route")
	if addrs, err := net.InterfaceAddrs(); err == nil {
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				all = append(all, p.Masked())
			}
		}
	}
	for _, file := range []string{"/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"} {
		all = append(all, resolvers(file)...)
	}
	return all
}

// routes reads the kernel's table of IPv4 routes, except default routes.
func routes(file string) []netip.Prefix {
	var all []netip.Prefix
	eachLine(file, func(fields []string) {
		if len(fields) < 8 {
			return
		}
		to, mask := kernelAddr(fields[1]), kernelAddr(fields[7])
		if !to.IsValid() || !mask.IsValid() {
			return // the header
		}
		m := mask.As4()
		if ones, _ := net.IPMask(m[:]).Size(); ones > 0 {
			all = append(all, netip.PrefixFrom(to, ones).Masked())
		}
	})
	return all
}

// kernelAddr parses an address in the kernel's form: hexadecimal, in the machine's byte
// order.
func kernelAddr(s string) netip.Addr {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != 4 {
		return netip.Addr{}
	}
	var at [4]byte
	binary.NativeEndian.PutUint32(at[:], binary.BigEndian.Uint32(b))
	return netip.AddrFrom4(at)
}

// resolvers reads the name servers of a resolver's configuration.
func resolvers(file string) []netip.Prefix {
	var all []netip.Prefix
	eachLine(file, func(fields []string) {
		if len(fields) < 2 || fields[0] != "nameserver" {
			return
		}
		if a, err := netip.ParseAddr(fields[1]); err == nil {
			a = a.WithZone("")
			all = append(all, netip.PrefixFrom(a, a.BitLen()))
		}
	})
	return all
}

// eachLine calls use with the words of each line of a file. A missing file has no lines.
func eachLine(file string, use func(fields []string)) {
	f, err := os.Open(file)
	if err != nil {
		return
	}
	defer f.Close()
	for in := bufio.NewScanner(f); in.Scan(); {
		use(strings.Fields(in.Text()))
	}
}
