package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/stackforge/magnum/structs"
)

// ErrTokenEnded matches the error of a stream or session that a server has cut off because the
// token that began it has expired or was revoked. With Credentials, another call has another
// token, if there is one.
var ErrTokenEnded = errors.New("its token has expired or was revoked")

// SignsIn reports whether the client has Credentials, which may provide another token when one
// ends.
func (c *Client) SignsIn() bool { return c.conf.Credentials != nil }

// begun is how a stream or session began: at which server, and by which token.
type begun struct {
	c     *Client
	root  *url.URL
	token string // "" for none
}

// causeTimeout limits the question why a stream broke off.
const causeTimeout = 10 * time.Second

// cause returns the error of a stream that broke off. It asks the server for the cause: nothing
// but a connection that ends is seen of a token that has ended.
func (b begun) cause(ctx context.Context, err error) error {
	if b.token == "" {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, causeTimeout)
	defer cancel()
	resp, refused := b.c.streamAt(ctx, b.root, b.token, call{method: http.MethodGet, path: "/v1"})
	if refused == nil {
		resp.Body.Close()
	}
	if structs.CodeOf(refused) == structs.CodeUnauthenticated {
		return fmt.Errorf("%w (%w)", ErrTokenEnded, err)
	}
	return err
}
