package peer

import (
	"errors"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"

	"github.com/stackforge/magnum/structs"
)

// Relay serves a request, which may upgrade to a WebSocket, from another
// server. It takes one hop: the other server has to serve it itself. Errors, of
// which the caller is yet to tell: CodeNotFound for a server that isn't known,
// CodeUnavailable for one that can't be reached or has not answered; ErrUnknown is
// in the chain of the latter. An answer that breaks off is cut off.
func (c *Client) Relay(w http.ResponseWriter, r *http.Request, serverID string) error {
	var err error = structs.Errorf(structs.CodeNotFound, "Server %s could not be found.", serverID)
	for _, root := range c.URLs(serverID) {
		var notThere bool
		notThere, err = c.relayTo(w, r, serverID, root)
		if !notThere || r.Body != nil && r.Body != http.NoBody { // the library has closed the body
			break
		}
	}
	return err
}

// relayTo serves a request from the server at an address; notThere says that it
// was not even dialled.
func (c *Client) relayTo(w http.ResponseWriter, r *http.Request, serverID, root string) (notThere bool, err error) {
	target, err := url.Parse(root)
	if err != nil {
		return true, structs.Errorf(structs.CodeNotFound, "Server %s could not be found.", serverID)
	}
	var failed error
	proxy := httputil.ReverseProxy{
		Transport: c.transport,
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL.Scheme, p.Out.URL.Host = target.Scheme, target.Host
		},
		ErrorHandler: func(_ http.ResponseWriter, _ *http.Request, err error) { failed = err },
	}
	proxy.ServeHTTP(w, r)
	switch {
	case failed == nil:
		return false, nil
	case isDial(failed):
		return true, structs.Errorf(structs.CodeUnavailable,
			"server %s at %s can't be reached from this one, which relays to it (%w): look whether it runs, and at the network between the servers; then try again",
			serverID, root, failed)
	}
	return false, structs.Errorf(structs.CodeUnavailable,
		"server %s at %s has not answered this one, which relays to it (%w), so it may have done what was asked (%w)", serverID, root, failed, ErrUnknown)
}

// opDial is what the library says was done when a connection could not be made.
const opDial = "dial"

// isDial reports whether a request failed before it was begun.
func isDial(err error) bool {
	var dial *net.OpError
	return errors.As(err, &dial) && dial.Op == opDial
}
