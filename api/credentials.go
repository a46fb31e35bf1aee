package api

import (
	"context"
	"net/url"

	"github.com/stackforge/magnum/structs"
)

// Credentials provide a Client's tokens, for example those of Keystone. They are safe for
// concurrent use. A Client asks for a token before each call, so a token is cached.
type Credentials interface {
	// Token returns a token. refused is the one that a server has just refused with 401, ""
	// for none: Token then returns another one, or the same if there is no other.
	Token(ctx context.Context, refused string) (string, error)
	// Address returns the servers' address in the form of Config.Address. It is called
	// once, and only if that is "".
	Address(ctx context.Context) (string, error)
}

// signIn returns the servers and the token of a call.
func (c *Client) signIn(ctx context.Context) (servers []*url.URL, token string, err error) {
	known := c.servers.Load()
	if c.conf.Credentials == nil {
		return *known, c.conf.Token, nil
	}
	if token, err = c.conf.Credentials.Token(ctx, ""); err != nil {
		return nil, "", err
	}
	if known == nil {
		addr, err := c.conf.Credentials.Address(ctx)
		if err != nil {
			return nil, "", err
		}
		if servers, err = parseServers(addr, schemeOf(c.conf.Secure)); err != nil {
			return nil, "", err
		}
		c.servers.CompareAndSwap(nil, &servers)
		known = c.servers.Load()
	}
	return *known, token, nil
}

// mayRenew reports whether to repeat a call with another token: a server has refused this one,
// and the body can be sent again.
func (c *Client) mayRenew(r call, err error) bool {
	return c.conf.Credentials != nil && r.upload == nil && structs.CodeOf(err) == structs.CodeUnauthenticated
}
