package structs

import "slices"

// Role is what a token allows its user to do in a project.
type Role string

// The roles, from the most to the least powerful.
const (
	RoleAdmin  Role = "admin"  // operator: all projects, hosts and the cluster
	RoleMember Role = "member" // reads and writes the project's objects
	RoleReader Role = "reader" // reads the project's objects
)

// Caller is who makes a request. server/identity derives it from the token, and the
// request's context carries it.
type Caller struct {
	ProjectID string
	UserID    string
	Roles     []Role
	RequestID string // of the HTTP request, for logs and answers
	TokenID   string // of the caller's local token; "" if the caller was authenticated in another way
}

// Is reports whether the caller holds the role itself.
func (c Caller) Is(r Role) bool { return slices.Contains(c.Roles, r) }

// The project and user of every caller while authentication is off.
const (
	DefaultProject = "default"
	DefaultUser    = "default"
)
