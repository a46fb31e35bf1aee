// Package keystonefake is a Keystone for tests: a server on loopback that answers logins
// and validations as Keystone 22 does. Only tests import it.
package keystonefake

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stackforge/magnum/structs"
)

// The service user.
const (
	Username = "magnum"
	Password = "service-password"
	Project  = "service"
)

// Token is a token of the fake, except those of the service user.
type Token struct {
	User, Project string // names; the IDs are "id-" and the name, unless they are given
	UserID        string
	ProjectID     string
	Roles         []string
	Expires       time.Time // zero means in an hour
	Scope         string    // "domain", "system", "unscoped", "project-domain", or "" for the project
	Credential    bool      // of an application credential
	AccessRules   string    // JSON of its access rules, "" means it has none
}

// Keystone is a fake Keystone.
type Keystone struct {
	URL string // with /v3

	mu          sync.Mutex // guards what follows
	tokens      map[string]*Token
	own         map[string]bool // tokens of the service user
	issued      int
	password    string
	status      int           // of all answers; 0 means as usual
	denied      bool          // the service user may not validate
	gate        chan struct{} // validations wait until it is closed; nil means they don't
	logins      int
	validations map[string]int // by token
	running     int            // validations that wait at the gate
	most        int            // the most of running
	endpoints   []string       // public ones in the catalogue, each of a service of type container of its own
}

// New starts a fake Keystone, which ends with the test.
func New(t testing.TB) *Keystone {
	t.Helper()
	k := &Keystone{tokens: map[string]*Token{}, own: map[string]bool{}, validations: map[string]int{}, password: Password,
		endpoints: []string{"http://127.0.0.1:9511/v1"}}
	web := httptest.NewServer(k)
	t.Cleanup(func() {
		k.Open()
		web.Close()
	})
	k.URL = web.URL + "/v3"
	return k
}

// Add makes a token valid.
func (k *Keystone) Add(text string, token Token) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if token.Expires.IsZero() {
		token.Expires = time.Now().Add(time.Hour)
	}
	k.tokens[text] = &token
}

// Revoke makes a token invalid.
func (k *Keystone) Revoke(text string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.tokens, text)
}

// RevokeOwn makes all tokens of the service user invalid.
func (k *Keystone) RevokeOwn() {
	k.mu.Lock()
	defer k.mu.Unlock()
	clear(k.own)
}

// SetPassword changes the password of the service user.
func (k *Keystone) SetPassword(password string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.password = password
}

// SetEndpoints sets the public endpoints in the catalogue, each of a service of its own.
func (k *Keystone) SetEndpoints(urls ...string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.endpoints = urls
}

// SetStatus makes all answers have a status; 0 means as usual.
func (k *Keystone) SetStatus(status int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.status = status
}

// Deny takes the right to validate from the service user, or gives it back.
func (k *Keystone) Deny(denied bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.denied = denied
}

// Block makes validations wait until Open is called.
func (k *Keystone) Block() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.gate == nil {
		k.gate = make(chan struct{})
	}
}

// Open ends Block.
func (k *Keystone) Open() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.gate != nil {
		close(k.gate)
		k.gate = nil
	}
}

// Validations returns how often a token was asked for; "" means all tokens.
func (k *Keystone) Validations(text string) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	if text != "" {
		return k.validations[text]
	}
	n := 0
	for _, of := range k.validations {
		n += of
	}
	return n
}

// Logins returns how often the service user has logged in.
func (k *Keystone) Logins() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.logins
}

// Waiting returns how many validations wait for Open, and the most that ever did.
func (k *Keystone) Waiting() (now, most int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.running, k.most
}

// ServeHTTP answers as Keystone.
func (k *Keystone) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	k.mu.Lock()
	status := k.status
	k.mu.Unlock()
	switch {
	case status != 0:
		k.fail(w, status, "as the test wishes")
	case r.URL.Path != "/v3/auth/tokens":
		k.fail(w, http.StatusNotFound, "not found")
	case r.Method == http.MethodPost:
		k.login(w, r)
	case r.Method == http.MethodGet:
		k.validate(w, r)
	default:
		k.fail(w, http.StatusMethodNotAllowed, "method")
	}
}

func (k *Keystone) fail(w http.ResponseWriter, status int, message string) {
	if status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Keystone uri="`+k.URL+`"`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]any{
		"code": status, "message": message, "title": http.StatusText(status),
	}})
}

// login is POST /v3/auth/tokens, for the service user only.
func (k *Keystone) login(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Auth struct {
			Identity struct {
				Methods  []string
				Password struct {
					User struct {
						Name, Password string
						Domain         struct{ ID string }
					}
				}
			}
			Scope struct {
				Project struct {
					Name   string
					Domain struct{ ID string }
				}
			}
		}
	}
	if json.NewDecoder(r.Body).Decode(&body) != nil {
		k.fail(w, http.StatusBadRequest, "schema")
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.logins++
	user, project := body.Auth.Identity.Password.User, body.Auth.Scope.Project
	if user.Name != Username || user.Password != k.password || user.Domain.ID != "default" || project.Name != Project ||
		project.Domain.ID != "default" {
		k.fail(w, http.StatusUnauthorized, "The request you have made requires authentication.")
		return
	}
	k.issued++
	text := fmt.Sprint("service-token-", k.issued)
	k.own[text] = true
	w.Header().Set("X-Subject-Token", text)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	catalog := []any{map[string]any{"id": "k", "type": "identity", "name": "keystone", "endpoints": []any{}}}
	for _, url := range k.endpoints {
		catalog = append(catalog, map[string]any{"id": "c", "type": "container", "name": "magnum", "endpoints": []any{
			map[string]any{"id": "e", "interface": "public", "region": "RegionOne", "region_id": "RegionOne", "url": url},
			map[string]any{"id": "i", "interface": "internal", "region": "RegionOne", "region_id": "RegionOne", "url": "http://10.0.0.5"},
		}})
	}
	said := describe(&Token{User: Username, Project: Project, Roles: []string{"service"}, Expires: time.Now().Add(time.Hour)})
	said["catalog"] = catalog
	_ = json.NewEncoder(w).Encode(map[string]any{"token": said})
}

// validate is GET /v3/auth/tokens.
func (k *Keystone) validate(w http.ResponseWriter, r *http.Request) {
	text := r.Header.Get("X-Subject-Token")
	k.mu.Lock()
	own, denied, gate := k.own[r.Header.Get("X-Auth-Token")], k.denied, k.gate
	if !own {
		k.mu.Unlock()
		k.fail(w, http.StatusUnauthorized, "The request you have made requires authentication.")
		return
	}
	k.validations[text]++
	k.running++
	k.most = max(k.most, k.running)
	k.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-r.Context().Done():
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.running--
	token := k.tokens[text]
	switch {
	case denied:
		k.fail(w, http.StatusForbidden, "You are not authorized to perform the requested action: identity:validate_token.")
	case token == nil:
		k.fail(w, http.StatusNotFound, "This is not a recognized Fernet token "+text)
	case !time.Now().Before(token.Expires) && r.URL.Query().Get("allow_expired") != "1":
		k.fail(w, http.StatusNotFound, "Failed to validate token")
	case token.AccessRules != "" && r.Header.Get("OpenStack-Identity-Access-Rules") != "1.0":
		k.fail(w, http.StatusNotFound, "Failed to validate token")
	default:
		w.Header().Set("X-Subject-Token", text)
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"token": describe(token)})
	}
}

// describe returns the body of a token.
func describe(t *Token) map[string]any {
	domain := map[string]any{"id": "default", "name": "Default"}
	of := func(name, id string) map[string]any {
		return map[string]any{"id": cmp.Or(id, "id-"+name), "name": name, "domain": domain}
	}
	const stamp = "2006-01-02T15:04:05.000000Z"
	body := map[string]any{
		"methods": []string{"password"}, "user": of(t.User, t.UserID), "audit_ids": []string{"XZgT"},
		"issued_at": time.Now().UTC().Format(stamp), "expires_at": t.Expires.UTC().Format(stamp),
	}
	if t.Scope != "unscoped" {
		roles := []any{}
		for _, name := range t.Roles {
			roles = append(roles, map[string]any{"id": "role-" + strings.ToLower(name), "name": name})
		}
		body["roles"] = roles
	}
	switch t.Scope {
	case "domain":
		body["domain"] = domain
	case "system":
		body["system"] = map[string]any{"all": true}
	case "unscoped":
	default:
		body["project"], body["is_domain"] = of(t.Project, t.ProjectID), t.Scope == "project-domain"
	}
	if t.Credential || t.AccessRules != "" {
		c := map[string]any{"id": "c", "name": "c", "restricted": true}
		if t.AccessRules != "" {
			c["access_rules"] = json.RawMessage(t.AccessRules)
		}
		body["application_credential"], body["methods"] = c, []string{"application_credential"}
	}
	return body
}

// Caller returns a token of a user in a project, with roles.
func Caller(project, user string, roles ...structs.Role) Token {
	t := Token{Project: project, User: user}
	for _, r := range roles {
		t.Roles = append(t.Roles, string(r))
	}
	return t
}
