package web

import (
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/stackforge/magnum/structs"
)

// A browser runs the pages of everybody on its user's machine, and can reach what
// listens there. So without authentication a request has to show that no page of
// another site has it sent: by its Host, which is the attacker's where a name of
// the attacker's is made to lead here; and by its Origin.

// checkSite refuses what a page of another site has a browser send. A request that
// another server hands on was looked at there.
func (q *Request) checkSite() error {
	if q.Call.Forwarded {
		return nil
	}
	if q.server.ownHosts != nil && !q.server.isOwnHost(q.R.Host) {
		return structs.Errorf(structs.CodeForbidden,
			"Host %.64q is not this server: without authentication (-auth none) it answers to IP addresses, localhost and its own names; -http-host adds a name.", q.R.Host)
	}
	h := q.R.Header
	if h.Get("Origin") == "" && h.Get("Sec-Fetch-Site") == "" {
		return nil // no browser, or one that reads from its own address line
	}
	r := q.R
	if safe := r.Method == http.MethodGet || r.Method == http.MethodHead; safe {
		if h.Get("Sec-Fetch-Mode") == "navigate" && h.Get("Upgrade") == "" {
			return nil // a link was followed: its page gets to see nothing of it
		}
		// The library spares what only reads. Here a GET may open a terminal.
		as := *r
		as.Method = http.MethodPost
		r = &as
	}
	if err := q.server.origins.Check(r); err != nil {
		origin := h.Get("Origin")
		if origin == "" {
			return structs.Errorf(structs.CodeForbidden, "A page of another site has sent the request (Sec-Fetch-Site %.64q).",
				h.Get("Sec-Fetch-Site"))
		}
		return structs.Errorf(structs.CodeForbidden, "Origin %.64q is not this server.", origin)
	}
	return nil
}

// isOwnHost reports whether a Host header is one that nobody else's name can be
// in: an IP address, localhost, a name of this server's, or none at all, which
// browsers never send.
func (s *Server) isOwnHost(host string) bool {
	name := host
	if cut, _, err := net.SplitHostPort(host); err == nil {
		name = cut
	}
	if n := len(name); n > 1 && name[0] == '[' && name[n-1] == ']' {
		name = name[1 : n-1]
	}
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if host == "" || name == "localhost" || s.ownHosts[name] {
		return true
	}
	ip, err := netip.ParseAddr(name)
	return err == nil && ip.Zone() == ""
}

// hostNames makes a set of names as isOwnHost looks them up.
func hostNames(names []string) map[string]bool {
	if names == nil {
		return nil
	}
	set := make(map[string]bool, len(names))
	for _, name := range names {
		if name = strings.ToLower(strings.TrimSuffix(name, ".")); name != "" {
			set[name] = true
		}
	}
	return set
}
