package structs

import "slices"

// Role is what a token allows its user in a project.
type Role string

// The roles, from the most to the least that they allow.
const (
	RoleAdmin  Role = "admin"  // operator: all projects, hosts and the cluster
	RoleMember Role = "member" // reads and writes the project's objects
	RoleReader Role = "reader" // reads the project's objects
)

// Caller is on whose behalf a request is made. It comes from the token, in one
// place (server/identity), and travels in the request's context.
type Caller struct {
	ProjectID string
	UserID    string
	Roles     []Role
	RequestID string // of the HTTP request, for logs and answers
	TokenID   string // of the local token that let the caller in; "" if it was another way
}

// Is reports whether the caller holds the role itself.
func (c Caller) Is(r Role) bool { return slices.Contains(c.Roles, r) }

// The project and user of everyone while there is no authentication.
const (
	DefaultProject = "default"
	DefaultUser    = "default"
)
