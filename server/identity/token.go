package identity

import (
	"context"
	"time"

	"github.com/stackforge/magnum/structs"
)

// Tokens knows the local tokens: those that the cluster itself has given out.
// A token that is revoked is refused by each server that has applied that.
type Tokens struct {
	// Find returns the token in this server's state, nil if there is none.
	Find func(id string) *structs.Token
	// CatchUp returns once this server has applied all that was committed before
	// the call, or says why it can't know. A server that lags must not refuse a
	// token that it has not heard of yet.
	CatchUp func(ctx context.Context) error
	// Now is this server's clock, against which expiry is held; nil means
	// time.Now. Nothing is decided by it that servers have to agree on.
	Now func() time.Time
}

// Authenticate returns on whose behalf the token's holder acts. The errors tell
// nobody without the secret whether there is such a token.
func (a Tokens) Authenticate(ctx context.Context, text string) (structs.Caller, error) {
	var none structs.Caller
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
			return none, structs.Errorf(structs.CodeUnavailable, "this server does not know yet which tokens there are: try again in a second (%w)", err)
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
		return none, structs.Errorf(structs.CodeUnauthenticated, "This is a join token: agents register with it, it is no user's")
	case token.Expired(now()):
		return none, structs.Errorf(structs.CodeUnauthenticated, "The token has expired: have an admin make another one")
	}
	return structs.Caller{ProjectID: token.Project, UserID: token.User, Roles: []structs.Role{token.Role}, TokenID: token.ID}, nil
}
