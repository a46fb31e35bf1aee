// Package identity says who makes a request and what they may do: it turns
// tokens into callers, and keeps the table of who may do what.
//
// server/rest calls it for every request. It never reads or writes the
// replicated state, and it believes nothing that a client says of itself beside
// its token.
package identity

import (
	"context"

	"github.com/stackforge/magnum/structs"
)

// Authenticator turns a token into the caller that it stands for.
type Authenticator interface {
	// Authenticate returns on whose behalf the holder of the token acts. token
	// is "" if the request had none. Errors: CodeUnauthenticated,
	// CodeUnavailable if whoever knows tokens can't be reached.
	Authenticate(ctx context.Context, token string) (structs.Caller, error)
}

// DefaultProject and DefaultUser are who everybody is without authentication.
const (
	DefaultProject = "default"
	DefaultUser    = "default"
)

// None lets everybody in as the one user of the one project, who is operator
// and member. The server allows it on loopback only.
type None struct{}

// Authenticate returns that user, whatever the token is.
func (None) Authenticate(context.Context, string) (structs.Caller, error) {
	return structs.Caller{
		ProjectID: DefaultProject,
		UserID:    DefaultUser,
		Roles:     []structs.Role{structs.RoleAdmin, structs.RoleMember},
	}, nil
}

// Static knows a fixed set of tokens. Tests use it.
type Static map[string]structs.Caller

// Authenticate looks the token up.
func (s Static) Authenticate(_ context.Context, token string) (structs.Caller, error) {
	caller, ok := s[token]
	if !ok || token == "" {
		return structs.Caller{}, structs.Errorf(structs.CodeUnauthenticated, "Authentication required")
	}
	return caller, nil
}

// CheckProject refuses a request that names another project than its token's.
// named is the X-Auth-Project-Id header, "" if there was none.
func CheckProject(caller structs.Caller, named string) error {
	if named != "" && named != caller.ProjectID {
		return structs.Errorf(structs.CodeForbidden, "X-Auth-Project-Id %.64q is not the project of the token", named)
	}
	return nil
}
