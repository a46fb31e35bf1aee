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

// HeaderOutcome is in an answer of 503: "unknown" if the write may have been
// carried out.
const HeaderOutcome = "X-Magnum-Outcome"

// parseServers reads addresses that are parted by commas into root URLs.
// CodeInvalid: one is no address.
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

// Address returns the root URL of the server that is asked next.
func (c *Client) Address() string { return c.server(c.current.Load()).String() }

func (c *Client) server(n uint64) *url.URL { return c.servers[n%uint64(len(c.servers))] }

// anyServer makes a call of the current server, and of each other one if that is
// not there, or knows of no leader. A call that may have been carried out is made
// again only if it reads. If none does it, what a server has said counts for more
// than that others are not there.
func anyServer[T any](ctx context.Context, c *Client, r call, ask func(root *url.URL) (T, error)) (T, error) {
	var said error
	for tries := 1; ; tries++ {
		at := c.current.Load()
		answer, err := ask(c.server(at))
		if err == nil || len(c.servers) == 1 || ctx.Err() != nil {
			return answer, err
		}
		leave, again := r.elsewhere(err)
		if leave {
			c.current.CompareAndSwap(at, at+1) // unless another call has left it already
		}
		if !again {
			return answer, err
		}
		var gone *Unreachable
		if !errors.As(err, &gone) {
			said = err
		}
		if tries == len(c.servers) {
			return answer, cmp.Or(said, err)
		}
	}
}

// elsewhere reports whether the server that has answered, or hasn't, is one to
// leave, and whether another one may be asked the same.
func (r call) elsewhere(err error) (leave, again bool) {
	reads, whole := r.method == http.MethodGet && !r.upgrades, r.upload == nil
	var gone *Unreachable
	if errors.As(err, &gone) {
		return !gone.TLS(), !gone.TLS() && whole && (!gone.Sent || reads)
	}
	var answered *Error
	if !errors.As(err, &answered) {
		return false, false
	}
	switch structs.CodeOf(err) {
	case structs.CodeNoLeader:
		return true, whole && !answered.Unknown
	case structs.CodeUnavailable:
		// This server is behind, or can't reach the leader. Of a stream it is mostly the
		// host that is away, from everywhere.
		return true, reads && whole && r.state
	}
	return false, false
}
