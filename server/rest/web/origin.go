package web

import (
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/stackforge/magnum/structs"
)

// A browser runs pages of any site on its user's machine, and can reach servers on that
// machine. So without authentication a request has to show that no page of another site
// sent it. Its Origin names the site. Its Host is the attacker's own name if the attacker
// has made that name resolve to this server.

// checkSite refuses a request that a page of another site has made a browser send. A
// forwarded request was checked by the server that forwarded it. CodeForbidden.
func (q *Request) checkSite() error {
	if q.Call.Forwarded {
		return nil
	}
	if q.server.ownHosts != nil && !q.server.isOwnHost(q.R.Host) {
		return structs.Errorf(structs.CodeForbidden,
			"Host %.64q is not this server: without authentication (-auth none) it answers to IP addresses, localhost and its own names; "+
				"-http-host adds a name.", q.R.Host)
	}
	h := q.R.Header
	if h.Get("Origin") == "" && h.Get("Sec-Fetch-Site") == "" {
		return nil // not a browser, or an address that the user typed
	}
	r := q.R
	if safe := r.Method == http.MethodGet || r.Method == http.MethodHead; safe {
		if h.Get("Sec-Fetch-Mode") == "navigate" && h.Get("Upgrade") == "" {
			return nil // the user followed a link, and the other page can't read the response
		}
		// CrossOriginProtection accepts every GET. Here a GET may open a terminal.
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

// isOwnHost reports whether a Host header can't be the name of another site: it is an IP
// address, localhost, a name of this server, or empty, which browsers never send.
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

// hostNames returns the set of names for isOwnHost, nil for nil.
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
