package structs

import (
	"context"
	"slices"
)

// Role is what a token allows its user to do in a project.
type Role string

// The roles, from the most to the least powerful.
const (
	RoleAdmin  Role = "admin"  // operator: all projects, hosts and the cluster
	RoleMember Role = "member" // reads and writes the project's objects
	RoleReader Role = "reader" // reads the project's objects
)

// CallerKind says how a caller was authenticated.
type CallerKind string

// The kinds of callers. Callers of requests that need no authentication have none.
const (
	CallerNone     CallerKind = "none"     // authentication is off
	CallerLocal    CallerKind = "local"    // by a token that the cluster issued
	CallerKeystone CallerKind = "keystone" // by a token of Keystone
)

// Caller is who makes a request. server/identity derives it from the token, and the
// request's context carries it. It is never stored or sent, except for its IDs.
type Caller struct {
	Kind      CallerKind
	ProjectID string
	UserID    string
	Roles     []Role // in lower case; a Keystone token has roles of any name
	RequestID string // of the HTTP request, for logs and answers
	TokenID   string // of the caller's local token; "" if the caller was authenticated in another way

	// What Keystone says about the caller, for logs and messages. They are "" for others.
	UserName        string
	ProjectName     string
	UserDomainID    string
	ProjectDomainID string

	// Service is the service whose token the request has beside the user's, nil if it
	// has none. The caller's rights are the user's.
	Service *ServiceCaller

	// AllProjects says that names are looked up in all projects, not only in the caller's. It
	// is set for operators who ask for that, and gives nobody else any rights.
	AllProjects bool

	// Credential is what a Keystone token authenticated the caller by, nil for others.
	Credential Credential
	// Rules is the policy at the time of the request; nil means the default one.
	Rules Rules
}

// ServiceCaller is the service on whose X-Service-Token a request was made for a user.
type ServiceCaller struct {
	UserID    string
	UserName  string
	ProjectID string
	Roles     []Role
}

// Credential is a token that can end while a request goes on.
type Credential interface {
	// Ends waits until the token is revoked or has expired, and returns true. It returns
	// false if the context ends first.
	Ends(ctx context.Context) bool
	// Check returns CodeUnauthenticated if the token is known to have ended. It waits for
	// nothing.
	Check() error
}

// Rules say what callers may do. Package identity implements them.
type Rules interface {
	// Allows reports whether the caller may do the action.
	Allows(caller *Caller, action string) bool
	// Rule returns the text of the action's rule, "" if it has none.
	Rule(action string) string
}

// Is reports whether the caller holds the role itself.
func (c Caller) Is(r Role) bool { return slices.Contains(c.Roles, r) }

// The project and user of every caller while authentication is off.
const (
	DefaultProject = "default"
	DefaultUser    = "default"
)
