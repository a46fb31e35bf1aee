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

// Address returns the root URL of the server that the next call uses, "" if the first call
// will ask the credentials for it.
func (c *Client) Address() string {
	servers := c.servers.Load()
	if servers == nil {
		return ""
	}
	return serverAt(*servers, c.current.Load()).String()
}

func serverAt(servers []*url.URL, n uint64) *url.URL { return servers[n%uint64(len(servers))] }

// tryServers makes a call to the current server, and to each other one while the
// last can't be reached or knows of no leader. A call that may have been carried
// out is repeated only if it is a read. If all fail, the error of a server that
// responded takes precedence over connection errors. If a server refuses the credentials'
// token, the call is repeated once with another one.
func tryServers[T any](ctx context.Context, c *Client, r call, ask func(root *url.URL, token string) (T, error)) (T, error) {
	var none T
	servers, token, err := c.signIn(ctx)
	if err != nil {
		return none, err
	}
	var refused error // of the last server that responded
	renewed := false
	for tries := 1; ; tries++ {
		at := c.current.Load()
		answer, err := ask(serverAt(servers, at), token)
		if !renewed && c.mayRenew(r, err) {
			renewed = true
			another, renewErr := c.conf.Credentials.Token(ctx, token)
			if renewErr != nil {
				return none, renewErr
			}
			if another != token {
				token = another
				answer, err = ask(serverAt(servers, at), token)
			}
		}
		if err == nil || len(servers) == 1 || ctx.Err() != nil {
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
		if tries == len(servers) {
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
