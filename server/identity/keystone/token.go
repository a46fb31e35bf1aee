package keystone

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/stackforge/magnum/structs"
)

// maxToken is the length of the longest token in bytes. Fernet tokens have some 200, JWS
// tokens up to 2,000.
const maxToken = 4096

// anyProject stands for all projects in the state, so that no project may have it as its ID.
const anyProject = "*"

// maxRoles bounds the roles of a token.
const maxRoles = 256

// checkText refuses what can't be a token, before it costs anything.
func checkText(token string) error {
	if len(token) > maxToken {
		return structs.Errorf(structs.CodeUnauthenticated, "The token is not valid: it is longer than %d characters", maxToken)
	}
	for i := range len(token) {
		if c := token[i]; c <= ' ' || c >= 0x7f {
			return errNotValid
		}
	}
	return nil
}

// errNotValid is the answer to a token that Keystone doesn't know. Garbage, expired and
// revoked ones are not told apart, as Keystone doesn't either.
var errNotValid = structs.Errorf(structs.CodeUnauthenticated,
	"The token is not valid: Keystone does not know it, or it has expired or was revoked")

// answer is what Keystone says of a token.
type answer struct {
	Token struct {
		ExpiresAt time.Time `json:"expires_at"`
		User      struct {
			named
			Domain named `json:"domain"`
		} `json:"user"`
		Project *struct {
			named
			Domain named `json:"domain"`
		} `json:"project"`
		Domain     *named         `json:"domain"`
		System     map[string]any `json:"system"`
		IsDomain   bool           `json:"is_domain"`
		Roles      []named        `json:"roles"`
		Credential *struct {
			AccessRules json.RawMessage `json:"access_rules"`
		} `json:"application_credential"`
	} `json:"token"`
}

// parseAnswer parses the body of an answer.
func parseAnswer(text []byte) (*answer, error) {
	var a answer
	return &a, json.Unmarshal(text, &a)
}

// named is what has an ID and a name.
type named struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// caller returns the caller that the token stands for, without the roles that have no
// meaning here. CodeForbidden for a token that is valid, but not of a project, and for
// one whose access rules this server doesn't check.
func (a *answer) caller(c *Config) (structs.Caller, error) {
	t := &a.Token
	scope := ""
	switch {
	case t.Project != nil && t.IsDomain, t.Domain != nil:
		scope = "a domain"
	case t.System != nil:
		scope = "the system"
	case t.Project == nil:
		return structs.Caller{}, structs.Errorf(structs.CodeForbidden,
			"The token has no scope: use a project-scoped token (with the openstack client, set OS_PROJECT_NAME)")
	}
	if scope != "" {
		return structs.Caller{}, structs.Errorf(structs.CodeForbidden,
			"The token is scoped to %s: use a project-scoped token (with the openstack client, set OS_PROJECT_NAME)", scope)
	}
	if t.Credential != nil && len(t.Credential.AccessRules) > 0 && string(t.Credential.AccessRules) != "null" {
		return structs.Caller{}, structs.Errorf(structs.CodeForbidden,
			"The token is of an application credential with access rules, which magnum does not check: use one without access rules")
	}
	for _, id := range []string{t.Project.ID, t.User.ID, t.Project.Name, t.User.Name, t.Project.Domain.ID, t.User.Domain.ID} {
		if structs.CheckLine("id", id, structs.MaxName) != nil {
			return structs.Caller{}, structs.Errorf(structs.CodeForbidden, "The token has a name or ID that magnum can't use")
		}
	}
	if t.Project.ID == "" || t.Project.ID == anyProject || t.User.ID == "" || len(t.Roles) > maxRoles {
		return structs.Caller{}, structs.Errorf(structs.CodeForbidden, "The token has no project, no user, or too many roles")
	}
	return structs.Caller{
		Kind: structs.CallerKeystone, ProjectID: t.Project.ID, UserID: t.User.ID, Roles: roles(t.Roles, c.AdminRoles),
		UserName: t.User.Name, ProjectName: t.Project.Name, UserDomainID: t.User.Domain.ID, ProjectDomainID: t.Project.Domain.ID,
	}, nil
}

// roles returns the names of roles in lower case, as Keystone compares them, each once.
// The role admin is only of those who have one of the given roles.
func roles(of []named, admins []string) []structs.Role {
	out := make([]structs.Role, 0, len(of)+1)
	admin := false
	for _, r := range of {
		name := structs.Role(strings.ToLower(r.Name))
		admin = admin || slices.ContainsFunc(admins, func(a string) bool { return strings.EqualFold(a, r.Name) })
		if name != "" && name != structs.RoleAdmin && len(name) <= structs.MaxName && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	if admin {
		out = append(out, structs.RoleAdmin)
	}
	return slices.Clip(out)
}
