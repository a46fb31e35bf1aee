package peer

import (
	"errors"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"

	"github.com/stackforge/magnum/structs"
)

// Relay serves a request, which may upgrade to a WebSocket, from another server. That
// server must serve the request itself: it is relayed only once. If Relay returns an error
// it has written nothing to w. Errors: CodeNotFound for an unknown server, CodeUnavailable
// for one that can't be reached or does not answer; in the latter case ErrUnknown is in
// the chain. If the answer breaks off, the client gets it cut short.
func (c *Client) Relay(w http.ResponseWriter, r *http.Request, serverID string) error {
	var err error = structs.Errorf(structs.CodeNotFound, "Server %s could not be found.", serverID)
	for _, root := range c.URLs(serverID) {
		var notReached bool
		notReached, err = c.relayTo(w, r, serverID, root)
		if !notReached || r.Body != nil && r.Body != http.NoBody { // the proxy has closed the body, so no other root can get it
			break
		}
	}
	return err
}

// relayTo serves a request from the server at a root URL. notReached reports that no
// connection was made.
func (c *Client) relayTo(w http.ResponseWriter, r *http.Request, serverID, root string) (notReached bool, err error) {
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
			"server %s at %s can't be reached from this one, which relays to it (%w): "+
				"check that it runs, and the network between the servers; then try again",
			serverID, root, failed)
	}
	return false, structs.Errorf(structs.CodeUnavailable,
		"server %s at %s has not answered this one, which relays to it (%w), so the request may have been carried out (%w)",
		serverID, root, failed, ErrUnknown)
}

// opDial is net.OpError.Op of a connection that could not be made.
const opDial = "dial"

// isDial reports whether a request failed before anything was sent.
func isDial(err error) bool {
	var dial *net.OpError
	return errors.As(err, &dial) && dial.Op == opDial
}
