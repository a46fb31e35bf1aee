package web

import (
	"context"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/stackforge/magnum/structs"
)

// A proxy that an operator trusts says in headers who its client is, and how the client
// calls this server. The same headers of anybody else are ignored.

type clientAddressKey struct{}

// ClientAddress returns the address of the client that has sent the request: the one at the
// other end of the connection, or the one for which a trusted proxy has sent it. It is the
// zero Addr if the connection has no IP address.
func ClientAddress(r *http.Request) netip.Addr {
	if client, ok := r.Context().Value(clientAddressKey{}).(netip.Addr); ok {
		return client
	}
	return remoteAddress(r)
}

// remoteAddress returns the address at the other end of the connection.
func remoteAddress(r *http.Request) netip.Addr {
	remote, _ := parseAddress(r.RemoteAddr)
	return remote
}

// Proxies are the networks of the proxies that a server trusts.
type Proxies []netip.Prefix

// Trusts reports whether a proxy with the address is trusted.
func (p Proxies) Trusts(a netip.Addr) bool {
	return slices.ContainsFunc(p, func(network netip.Prefix) bool { return network.Contains(a) })
}

// unwrap returns the request as the client has sent it to a trusted proxy, and the scheme that
// the client used. A request of anybody else is returned as it is, with the scheme "".
func (p Proxies) unwrap(r *http.Request) (client *http.Request, scheme string) {
	if len(p) == 0 {
		return r, ""
	}
	remote := remoteAddress(r)
	if !p.Trusts(remote) {
		return r, ""
	}
	r = r.WithContext(context.WithValue(r.Context(), clientAddressKey{}, p.clientOf(remote, r.Header["X-Forwarded-For"])))
	if host := lastOf(r.Header["X-Forwarded-Host"]); isHost(host) {
		r.Host = host
	}
	switch proto := strings.ToLower(lastOf(r.Header["X-Forwarded-Proto"])); proto {
	case "http", "https":
		scheme = proto
	}
	return r, scheme
}

// maxHops bounds how many addresses of X-Forwarded-For are read.
const maxHops = 32

// clientOf returns the address of the client of a trusted proxy. Each proxy appends the
// address from which it got the request, so that the list is read from its end until an
// address isn't that of a trusted proxy. What stands before that is the client's own word. If
// an entry is no address, the client is the proxy that has appended it.
func (p Proxies) clientOf(proxy netip.Addr, forwardedFor []string) netip.Addr {
	client := proxy
	hops := 0
	for _, line := range slices.Backward(forwardedFor) {
		for more := true; more; hops++ {
			i := strings.LastIndexByte(line, ',')
			entry := strings.TrimSpace(line[i+1:])
			line, more = line[:max(i, 0)], i >= 0
			a, ok := parseAddress(entry)
			if !ok || hops >= maxHops {
				return client
			}
			if client = a; !p.Trusts(a) {
				return client
			}
		}
	}
	return client
}

// parseAddress parses an IP address, with or without a port.
func parseAddress(text string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(text, "["), "]"))
	if err != nil {
		withPort, err := netip.ParseAddrPort(text)
		if err != nil {
			return netip.Addr{}, false
		}
		a = withPort.Addr()
	}
	return a.Unmap().WithZone(""), true
}

// lastOf returns the last element of a header that is a list: the one that the nearest proxy
// has set.
func lastOf(lines []string) string {
	if len(lines) == 0 {
		return ""
	}
	last := lines[len(lines)-1]
	return strings.TrimSpace(last[strings.LastIndexByte(last, ',')+1:])
}

// isHost reports whether text can be a host with or without a port. It is in links, so it must
// have no character that means something there.
func isHost(text string) bool {
	return text != "" && len(text) <= structs.MaxName && strings.IndexFunc(text, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune(".-_:[]", c)
	}) < 0
}
