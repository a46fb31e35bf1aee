package identity

import (
	"context"
	"time"

	"github.com/stackforge/magnum/structs"
)

// Tokens authenticates local tokens, which the cluster itself has issued. A revoked token
// is refused by every server that has applied its revocation.
type Tokens struct {
	// Find returns the token in this server's state, nil if there is none.
	Find func(id string) *structs.Token
	// CatchUp waits until this server has applied all entries committed before the call.
	// An error means that it can't know that. A server that lags must not refuse a token
	// that it has not applied yet.
	CatchUp func(ctx context.Context) error
	// Now is this server's clock for the expiry of tokens; nil means time.Now. Servers
	// need not agree on any result of it.
	Now func() time.Time
}

// Authenticate returns the caller that the token authenticates. Its errors don't reveal
// whether a token exists to a client without its secret.
func (a Tokens) Authenticate(ctx context.Context, c Credentials) (structs.Caller, error) {
	var none structs.Caller
	text := c.Token
	if text == "" {
		return none, structs.Errorf(structs.CodeUnauthenticated, "Authentication required")
	}
	invalid := structs.Errorf(structs.CodeUnauthenticated, "The token is not valid: there is no such token, or it was revoked")
	id, secret, ok := structs.ParseToken(text)
	if !ok {
		return none, invalid
	}
	token := a.Find(id)
	if token == nil {
		if err := a.CatchUp(ctx); err != nil {
			return none, structs.Errorf(structs.CodeUnavailable,
				"this server may not have the newest tokens yet: try again in a second (%w)", err)
		}
		token = a.Find(id)
	}
	if token == nil || !token.OpenedBy(structs.HashSecret(secret)) {
		return none, invalid
	}
	now := time.Now
	if a.Now != nil {
		now = a.Now
	}
	switch {
	case token.Join:
		return none, structs.Errorf(structs.CodeUnauthenticated, "This is a join token: only agents register with it, users can't")
	case token.Expired(now()):
		return none, structs.Errorf(structs.CodeUnauthenticated, "The token has expired: ask an admin for another one")
	}
	return structs.Caller{
		Kind: structs.CallerLocal, ProjectID: token.Project, UserID: token.User, Roles: []structs.Role{token.Role}, TokenID: token.ID,
	}, nil
}
