package identity

import (
	"context"

	"github.com/stackforge/magnum/structs"
)

// ServiceAuthenticator also authenticates the services that make requests for users.
type ServiceAuthenticator interface {
	Authenticator
	// Service returns the service that an X-Service-Token is of. CodeUnauthenticated,
	// CodeUnavailable.
	Service(ctx context.Context, token string) (*structs.ServiceCaller, error)
}

// Chain authenticates tokens of two kinds, which it tells apart by their form: no token
// of Keystone is looked up in the state, and no local token is shown to Keystone.
type Chain struct {
	Local    Authenticator // of tokens that the cluster issued; nil refuses them
	Keystone ServiceAuthenticator
}

// Authenticate returns the caller that the credentials authenticate.
func (a Chain) Authenticate(ctx context.Context, c Credentials) (structs.Caller, error) {
	switch {
	case c.Token == "":
		return structs.Caller{}, structs.Errorf(structs.CodeUnauthenticated, "Authentication required")
	case !structs.IsLocalToken(c.Token):
		if structs.IsLocalToken(c.ServiceToken) {
			return structs.Caller{}, errServiceToken
		}
		return a.Keystone.Authenticate(ctx, c)
	case a.Local == nil:
		return structs.Caller{}, structs.Errorf(structs.CodeUnauthenticated,
			"The token is not valid: this server takes tokens of Keystone only (-auth token takes local tokens, too)")
	}
	caller, err := a.Local.Authenticate(ctx, c)
	if err != nil || c.ServiceToken == "" {
		return caller, err
	}
	if structs.IsLocalToken(c.ServiceToken) {
		return structs.Caller{}, errServiceToken
	}
	caller.Service, err = a.Keystone.Service(ctx, c.ServiceToken)
	if err != nil {
		return structs.Caller{}, err
	}
	return caller, nil
}

var errServiceToken = structs.Errorf(structs.CodeUnauthenticated, "The X-Service-Token is not valid: it must be a token of Keystone")

// Knows reports whether the token can be checked without asking another server or Keystone.
func (a Chain) Knows(token string) bool {
	var of Authenticator = a.Keystone
	if structs.IsLocalToken(token) {
		of = a.Local
	}
	k, ok := of.(interface{ Knows(token string) bool })
	return ok && k.Knows(token)
}
