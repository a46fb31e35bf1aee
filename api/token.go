package api

import (
	"context"
	"net/http"

	"github.com/stackforge/magnum/structs"
)

// Tokens accesses the cluster's own tokens; for operators.
type Tokens struct{ c *Client }

// Tokens returns the client of tokens.
func (c *Client) Tokens() Tokens { return Tokens{c} }

// List returns the tokens that the options ask for, without their secrets.
// CodeForbidden.
func (t Tokens) List(ctx context.Context, o QueryOptions) ([]structs.TokenBody, Meta, error) {
	return list[structs.TokenBody](ctx, t.c, "tokens", o)
}

// Get returns the token of a uuid or name, without its secret. CodeForbidden,
// CodeNotFound, CodeConflict: several tokens have the name.
func (t Tokens) Get(ctx context.Context, ident string, o QueryOptions) (*structs.TokenBody, Meta, error) {
	return get[structs.TokenBody](ctx, t.c, "tokens", ident, o)
}

// Create creates a token and returns it with its secret. The secret can't be read
// again, so a call whose outcome is unknown isn't retried. CodeInvalid,
// CodeForbidden.
func (t Tokens) Create(ctx context.Context, req *structs.TokenRequest) (*structs.TokenSecretBody, Meta, error) {
	return t.createSecret(ctx, call{method: http.MethodPost, path: "/v1/tokens", body: req})
}

// Revoke deletes the token of a uuid or name. CodeForbidden, CodeNotFound,
// CodeConflict: several tokens have the name.
func (t Tokens) Revoke(ctx context.Context, ident string) (Meta, error) {
	return remove(ctx, t.c, "tokens", ident, nil, WriteOptions{})
}

// Bootstrap returns the first admin token, which a cluster issues once.
// CodeConflict: it was issued before.
func (t Tokens) Bootstrap(ctx context.Context) (*structs.TokenSecretBody, Meta, error) {
	return t.createSecret(ctx, call{method: http.MethodPost, path: "/v1/operator/bootstrap"})
}

func (t Tokens) createSecret(ctx context.Context, r call) (*structs.TokenSecretBody, Meta, error) {
	body := new(structs.TokenSecretBody)
	meta, err := t.c.do(ctx, r, body)
	if err != nil {
		return nil, meta, err
	}
	return body, meta, nil
}
