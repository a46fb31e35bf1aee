package keystonetest

import (
	"crypto/rand"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// Project is a project of the domain default.
type Project struct{ ID, Name string }

// User is a user of the domain default.
type User struct{ ID, Name, Password string }

// Credential is an application credential.
type Credential struct{ ID, Name, Secret string }

// AdminUser returns the administrator, who has the role admin in AdminProject.
func (k *Keystone) AdminUser() User { return User{Name: "admin", Password: "admin-secret"} }

// AdminProject returns the administrator's project.
func (k *Keystone) AdminProject() Project { return Project{Name: "admin"} }

// ServiceUser returns the user by which servers validate tokens. It has the role service, and
// no other, in ServiceProject.
func (k *Keystone) ServiceUser() User { return User{Name: "magnum", Password: "magnum-secret"} }

// ServiceProject returns the project of the service user.
func (k *Keystone) ServiceProject() Project { return Project{Name: "service"} }

// Cast is the people of a test. No other test has them: names have a random suffix.
type Cast struct {
	Alpha, Beta Project
	Alice       User // member of Alpha
	Bob         User // member of Beta
	Carol       User // reader in Alpha
}

// Cast makes projects and users.
func (k *Keystone) Cast(t testing.TB) *Cast {
	t.Helper()
	c := &Cast{
		Alpha: k.NewProject(t, "alpha"), Beta: k.NewProject(t, "beta"),
		Alice: k.NewUser(t, "alice"), Bob: k.NewUser(t, "bob"), Carol: k.NewUser(t, "carol"),
	}
	k.Grant(t, c.Alice, c.Alpha, "member")
	k.Grant(t, c.Bob, c.Beta, "member")
	k.Grant(t, c.Carol, c.Alpha, "reader")
	return c
}

// unique returns the name with a random suffix.
func unique(name string) string { return name + "-" + strings.ToLower(rand.Text()[:8]) }

// NewProject makes a project whose name begins so.
func (k *Keystone) NewProject(t testing.TB, name string) Project {
	t.Helper()
	name = unique(name)
	var out struct{ Project struct{ ID string } }
	k.Admin(t, http.MethodPost, "/projects", object{"project": object{"name": name, "domain_id": "default"}}, &out)
	return Project{out.Project.ID, name}
}

// NewUser makes a user without roles whose name begins so.
func (k *Keystone) NewUser(t testing.TB, name string) User {
	t.Helper()
	u := User{Name: unique(name), Password: rand.Text()}
	var out struct{ User struct{ ID string } }
	k.Admin(t, http.MethodPost, "/users",
		object{"user": object{"name": u.Name, "domain_id": "default", "password": u.Password}}, &out)
	u.ID = out.User.ID
	return u
}

// object is a JSON object.
type object = map[string]any

// role returns the ID of a role.
func (k *Keystone) role(t testing.TB, name string) string {
	t.Helper()
	k.mu.Lock()
	id := k.roles[name]
	k.mu.Unlock()
	if id != "" {
		return id
	}
	var out struct{ Roles []struct{ ID string } }
	k.Admin(t, http.MethodGet, "/roles?name="+name, nil, &out)
	if len(out.Roles) != 1 {
		t.Fatalf("Keystone has %d roles %q", len(out.Roles), name)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.roles[name] = out.Roles[0].ID
	return out.Roles[0].ID
}

// Grant gives a user a role in a project: admin, member, reader or service.
func (k *Keystone) Grant(t testing.TB, u User, p Project, role string) {
	t.Helper()
	k.Admin(t, http.MethodPut, "/projects/"+p.ID+"/users/"+u.ID+"/roles/"+k.role(t, role), nil, nil)
}

// Withdraw takes a role in a project from a user.
func (k *Keystone) Withdraw(t testing.TB, u User, p Project, role string) {
	t.Helper()
	k.Admin(t, http.MethodDelete, "/projects/"+p.ID+"/users/"+u.ID+"/roles/"+k.role(t, role), nil, nil)
}

// GrantDomain gives a user a role in the domain default.
func (k *Keystone) GrantDomain(t testing.TB, u User, role string) {
	t.Helper()
	k.Admin(t, http.MethodPut, "/domains/default/users/"+u.ID+"/roles/"+k.role(t, role), nil, nil)
}

// EnableProject enables or disables a project.
func (k *Keystone) EnableProject(t testing.TB, p Project, enabled bool) {
	t.Helper()
	k.Admin(t, http.MethodPatch, "/projects/"+p.ID, object{"project": object{"enabled": enabled}}, nil)
}

// EnableUser enables or disables a user.
func (k *Keystone) EnableUser(t testing.TB, u User, enabled bool) {
	t.Helper()
	k.Admin(t, http.MethodPatch, "/users/"+u.ID, object{"user": object{"enabled": enabled}}, nil)
}

// Token logs a user in and returns a token of the project.
func (k *Keystone) Token(t testing.TB, u User, p Project) string {
	t.Helper()
	return k.login(t, password(u), object{"project": inDefault(p.ID, p.Name)})
}

// UnscopedToken logs a user in and returns a token without a project.
func (k *Keystone) UnscopedToken(t testing.TB, u User) string {
	t.Helper()
	return k.login(t, password(u), "unscoped")
}

// DomainToken logs a user in and returns a token of the domain default.
func (k *Keystone) DomainToken(t testing.TB, u User) string {
	t.Helper()
	return k.login(t, password(u), object{"domain": object{"id": "default"}})
}

// SystemToken logs the administrator in and returns a token of the system.
func (k *Keystone) SystemToken(t testing.TB) string {
	t.Helper()
	return k.login(t, password(k.AdminUser()), object{"system": object{"all": true}})
}

// CredentialToken logs in with an application credential.
func (k *Keystone) CredentialToken(t testing.TB, c Credential) string {
	t.Helper()
	return k.login(t, object{"methods": []string{"application_credential"},
		"application_credential": object{"id": c.ID, "secret": c.Secret}}, nil)
}

func password(u User) object {
	user := inDefault(u.ID, u.Name)
	user["password"] = u.Password
	return object{"methods": []string{"password"}, "password": object{"user": user}}
}

// inDefault identifies an object by its ID, or by its name in the domain default.
func inDefault(id, name string) object {
	if id != "" {
		return object{"id": id}
	}
	return object{"name": name, "domain": object{"id": "default"}}
}

func (k *Keystone) login(t testing.TB, identity object, scope any) string {
	t.Helper()
	auth := object{"identity": identity}
	if scope != nil {
		auth["scope"] = scope
	}
	a, err := k.Do(http.MethodPost, "/auth/tokens?nocatalog", nil, object{"auth": auth})
	if err != nil {
		t.Fatalf("Keystone: %v", err)
	}
	if a.Status != http.StatusCreated {
		t.Fatalf("Keystone: login: status %d: %s", a.Status, a.Body)
	}
	return a.Header.Get("X-Subject-Token")
}

// RevokeToken revokes a token.
func (k *Keystone) RevokeToken(t testing.TB, token string) {
	t.Helper()
	if a := k.about(t, http.MethodDelete, token); a.Status != http.StatusNoContent {
		t.Fatalf("Keystone: revoking a token: status %d: %s", a.Status, a.Body)
	}
}

// about sends a request about a token as the administrator.
func (k *Keystone) about(t testing.TB, method, token string) *Answer {
	t.Helper()
	for again := false; ; again = true {
		a, err := k.Do(method, "/auth/tokens", map[string]string{"X-Auth-Token": k.adminToken(t, again), "X-Subject-Token": token}, nil)
		if err != nil {
			t.Fatalf("Keystone: %v", err)
		}
		if a.Status != http.StatusUnauthorized || again {
			return a
		}
	}
}

// Validate returns Keystone's status for a token, and when it expires if that is 200.
func (k *Keystone) Validate(t testing.TB, token string) (status int, expires time.Time) {
	t.Helper()
	a := k.about(t, http.MethodGet, token)
	var out struct {
		Token struct {
			ExpiresAt time.Time `json:"expires_at"`
		}
	}
	if a.Status == http.StatusOK {
		if err := json.Unmarshal(a.Body, &out); err != nil {
			t.Fatalf("Keystone: %v: %s", err, a.Body)
		}
	}
	return a.Status, out.Token.ExpiresAt
}

// NewCredential makes an application credential of a user with roles in a project.
func (k *Keystone) NewCredential(t testing.TB, u User, p Project, roles ...string) Credential {
	t.Helper()
	var named []object
	for _, role := range roles {
		named = append(named, object{"name": role})
	}
	c := Credential{Name: unique("credential")}
	a, err := k.Do(http.MethodPost, "/users/"+u.ID+"/application_credentials", map[string]string{"X-Auth-Token": k.Token(t, u, p)},
		object{"application_credential": object{"name": c.Name, "roles": named}})
	if err != nil || a.Status != http.StatusCreated {
		t.Fatalf("Keystone: making an application credential: %v, %+v", err, a)
	}
	var out struct {
		Made struct{ ID, Secret string } `json:"application_credential"`
	}
	if err := json.Unmarshal(a.Body, &out); err != nil {
		t.Fatalf("Keystone: %v: %s", err, a.Body)
	}
	c.ID, c.Secret = out.Made.ID, out.Made.Secret
	return c
}

// Endpoint puts magnum at a URL into the catalogue, in a region that no other test has.
// Registering the service needs the whole catalogue, and so a Keystone of Start, once.
func (k *Keystone) Endpoint(t testing.TB, url string) (region string) {
	t.Helper()
	service := k.service(t)
	region = unique("region")
	k.Admin(t, http.MethodPost, "/regions", object{"region": object{"id": region}}, nil)
	for _, face := range []string{"public", "internal", "admin"} {
		k.Admin(t, http.MethodPost, "/endpoints", object{"endpoint": object{
			"service_id": service, "interface": face, "region_id": region, "url": url}}, nil)
	}
	return region
}

// service returns the ID of magnum's service, which it makes if there is none.
func (k *Keystone) service(t testing.TB) string {
	t.Helper()
	registering.Lock()
	defer registering.Unlock()
	var have struct{ Services []struct{ ID string } }
	k.Admin(t, http.MethodGet, "/services?type=container", nil, &have)
	if len(have.Services) > 0 {
		return have.Services[0].ID
	}
	var made struct{ Service struct{ ID string } }
	k.Admin(t, http.MethodPost, "/services", object{"service": object{"name": "magnum", "type": "container"}}, &made)
	return made.Service.ID
}

// registering keeps the tests of a package from making two services.
var registering sync.Mutex

// Env returns the OS_* variables of a user in a project, for clients of a region.
func (k *Keystone) Env(u User, p Project, region string) []string {
	return []string{
		"OS_AUTH_URL=" + k.URL, "OS_IDENTITY_API_VERSION=3", "OS_REGION_NAME=" + region,
		"OS_USERNAME=" + u.Name, "OS_PASSWORD=" + u.Password, "OS_USER_DOMAIN_ID=default",
		"OS_PROJECT_NAME=" + p.Name, "OS_PROJECT_DOMAIN_ID=default",
	}
}
