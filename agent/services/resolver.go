package services

import (
	"bufio"
	"net/netip"
	"os"
	"slices"
	"strings"
)

// Resolver is how a host finds names.
type Resolver struct {
	Servers []netip.Addr
	Search  []string // domains that are added to names
}

// The files of a host's name servers. The second one has those that systemd's own resolver
// asks, if the first one names only that.
const (
	resolvFile  = "/etc/resolv.conf"
	systemdFile = "/run/systemd/resolve/resolv.conf"
)

// HostResolver returns the host's name servers; none if its file can't be read.
func HostResolver() Resolver { return readResolver(resolvFile, systemdFile) }

func readResolver(file, behind string) Resolver {
	r, err := parseResolver(file)
	if err != nil {
		return Resolver{}
	}
	if len(r.routable()) == 0 {
		if other, err := parseResolver(behind); err == nil && len(other.Servers) > 0 {
			return other
		}
	}
	return r
}

func parseResolver(file string) (r Resolver, err error) {
	f, err := os.Open(file)
	if err != nil {
		return r, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if len(words) < 2 {
			continue
		}
		switch words[0] {
		case "nameserver":
			if a, err := netip.ParseAddr(words[1]); err == nil && !slices.Contains(r.Servers, a) {
				r.Servers = append(r.Servers, a)
			}
		case "search", "domain":
			r.Search = words[1:]
		}
	}
	return r, lines.Err()
}

// routable returns the name servers that a container reaches from its own network: not those
// of the host's loopback.
func (r Resolver) routable() []netip.Addr {
	return slices.DeleteFunc(slices.Clone(r.Servers), func(a netip.Addr) bool {
		return a.IsLoopback() || a.IsUnspecified() || a.IsLinkLocalUnicast() || !a.Unmap().Is4()
	})
}
