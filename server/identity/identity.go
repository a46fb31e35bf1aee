// Package identity authenticates and authorizes the callers of the API: it resolves
// tokens to callers, and has the table of actions and roles.
//
// server/rest calls it for every request. It never reads or writes the replicated state,
// and it trusts nothing that a client says about itself except its token.
package identity

import (
	"context"

	"github.com/stackforge/magnum/structs"
)

// Credentials are what a request shows.
type Credentials struct {
	Token        string // of the user, "" if the request has none
	ServiceToken string // of a service that makes the request for the user, "" if the request has none
}

// Authenticator resolves a token to its caller.
type Authenticator interface {
	// Authenticate returns the caller that the credentials authenticate. Errors:
	// CodeUnauthenticated, CodeForbidden for a valid token that isn't of a project, and
	// CodeUnavailable if the source of the tokens can't be reached.
	Authenticate(ctx context.Context, c Credentials) (structs.Caller, error)
}

// DefaultProject and DefaultUser are the project and user of every caller without
// authentication.
const (
	DefaultProject = "default"
	DefaultUser    = "default"
)

// None admits every caller as the same user, who has the roles admin and member in
// DefaultProject. The server allows it on loopback only.
type None struct{}

// Authenticate returns that user for any token.
func (None) Authenticate(context.Context, Credentials) (structs.Caller, error) {
	return structs.Caller{
		Kind:      structs.CallerNone,
		ProjectID: DefaultProject,
		UserID:    DefaultUser,
		Roles:     []structs.Role{structs.RoleAdmin, structs.RoleMember},
	}, nil
}

// Static is a fixed set of tokens, for tests.
type Static map[string]structs.Caller

// Authenticate returns the token's caller; CodeUnauthenticated for an unknown token.
func (s Static) Authenticate(_ context.Context, c Credentials) (structs.Caller, error) {
	caller, ok := s[c.Token]
	if !ok || c.Token == "" {
		return structs.Caller{}, structs.Errorf(structs.CodeUnauthenticated, "Authentication required")
	}
	return caller, nil
}

// CheckProject returns CodeForbidden if a request names another project than its token's.
// named is the X-Auth-Project-Id header, "" if the request has none.
//
// Clients of Keystone may send the project's name instead.
func CheckProject(caller structs.Caller, named string) error {
	if named != "" && named != caller.ProjectID && named != caller.ProjectName {
		return structs.Errorf(structs.CodeForbidden, "X-Auth-Project-Id %.64q is not the project of the token", named)
	}
	return nil
}
