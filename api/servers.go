package api

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/stackforge/magnum/structs"
)

// HeaderOutcome is a header of 503 responses: "unknown" if the write may have been
// carried out.
const HeaderOutcome = "X-Magnum-Outcome"

// parseServers returns the root URLs of comma-separated addresses. CodeInvalid: one
// is not an address.
func parseServers(addrs, scheme string) ([]*url.URL, error) {
	var roots []*url.URL
	for addr := range strings.SplitSeq(addrs, ",") {
		root, err := parseAddress(strings.TrimSpace(addr), scheme)
		if err != nil {
			return nil, err
		}
		roots = append(roots, root)
	}
	return roots, nil
}

// Address returns the root URL of the server that the next call uses.
func (c *Client) Address() string { return c.server(c.current.Load()).String() }

func (c *Client) server(n uint64) *url.URL { return c.servers[n%uint64(len(c.servers))] }

// tryServers makes a call to the current server, and to each other one while the
// last can't be reached or knows of no leader. A call that may have been carried
// out is repeated only if it is a read. If all fail, the error of a server that
// responded takes precedence over connection errors.
func tryServers[T any](ctx context.Context, c *Client, r call, ask func(root *url.URL) (T, error)) (T, error) {
	var refused error // of the last server that responded
	for tries := 1; ; tries++ {
		at := c.current.Load()
		answer, err := ask(c.server(at))
		if err == nil || len(c.servers) == 1 || ctx.Err() != nil {
			return answer, err
		}
		leave, repeat := r.failover(err)
		if leave {
			c.current.CompareAndSwap(at, at+1) // unless another call has left it already
		}
		if !repeat {
			return answer, err
		}
		var unreachable *Unreachable
		if !errors.As(err, &unreachable) {
			refused = err
		}
		if tries == len(c.servers) {
			return answer, cmp.Or(refused, err)
		}
	}
}

// failover reports whether err is a reason to leave the server for later calls, and
// whether this call may be repeated at another server.
func (r call) failover(err error) (leave, repeat bool) {
	reads, whole := r.method == http.MethodGet && !r.websocket, r.upload == nil
	var unreachable *Unreachable
	if errors.As(err, &unreachable) {
		return !unreachable.TLS(), !unreachable.TLS() && whole && (!unreachable.Sent || reads)
	}
	var answered *Error
	if !errors.As(err, &answered) {
		return false, false
	}
	switch structs.CodeOf(err) {
	case structs.CodeNoLeader:
		return true, whole && !answered.Unknown
	case structs.CodeUnavailable:
		// This server is behind, or can't reach the leader. For a stream the cause is
		// mostly the host, which no other server can reach either.
		return true, reads && whole && r.serverState
	}
	return false, false
}
