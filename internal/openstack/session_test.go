package openstack

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stackforge/magnum/structs"
)

// keystone is a fake that gives out tokens t1, t2, ... to whoever asks.
type keystone struct {
	*httptest.Server
	logins  atomic.Int32
	last    atomic.Value  // body of the last login
	lasts   time.Duration // of a token
	status  int           // of answers, if not 0
	body    string        // of answers with the status
	catalog string        // JSON
}

func newKeystone(t *testing.T) *keystone {
	k := &keystone{lasts: time.Hour, catalog: `[]`}
	k.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v3/auth/tokens" || k.status != 0 {
			w.WriteHeader(cmp.Or(k.status, http.StatusNotFound))
			fmt.Fprint(w, k.body)
			return
		}
		token := "t" + fmt.Sprint(k.logins.Add(1))
		status := http.StatusCreated
		if r.Method == http.MethodGet {
			token, status = r.Header.Get("X-Subject-Token"), http.StatusOK
			if r.Header.Get("X-Auth-Token") != token {
				status = http.StatusUnauthorized
			}
		} else {
			var body any
			if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
				t.Error(err)
			}
			text, _ := json.Marshal(body)
			k.last.Store(string(text))
		}
		w.Header().Set("X-Subject-Token", token)
		w.WriteHeader(status)
		ends := time.Now().Add(k.lasts).UTC().Format("2006-01-02T15:04:05.000000Z")
		fmt.Fprintf(w, `{"token": {"expires_at": %q, "catalog": %s}}`, ends, k.catalog)
	}))
	t.Cleanup(k.Close)
	return k
}

// session returns a session at the fake, of variables over full.
func (k *keystone) session(t *testing.T, more ...string) *Session {
	t.Helper()
	s, err := Load("", env(t, with(with(full, "OS_AUTH_URL="+k.URL), more...)...))
	if err != nil {
		t.Fatal(err)
	}
	return NewSession(s, nil)
}

// TestSessionKeepsItsToken: many callers cost one login; a token is replaced once if many say
// that it was refused, and before it ends.
func TestSessionKeepsItsToken(t *testing.T) {
	k := newKeystone(t)
	s := k.session(t)
	ask := func(refused, want string) {
		t.Helper()
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				if token, err := s.Token(t.Context(), refused); err != nil || token != want {
					t.Errorf("token %q, %v, want %q", token, err, want)
				}
			})
		}
		all.Wait()
	}
	ask("", "t1")
	ask("t1", "t2")
	ask("t1", "t2") // a late one
	ask("", "t2")
	now := time.Now().Add(time.Hour - early/2)
	s.now = func() time.Time { return now }
	k.lasts = 2 * time.Hour
	ask("", "t3")
	if n := k.logins.Load(); n != 3 {
		t.Errorf("%d logins", n)
	}
}

// TestSessionOfShortTokens: tokens that last shorter than the time before their end at which
// they are replaced are used all the same.
func TestSessionOfShortTokens(t *testing.T) {
	k := newKeystone(t)
	k.lasts = time.Second
	s := k.session(t)
	for range 3 {
		if token, err := s.Token(t.Context(), ""); err != nil || token != "t1" {
			t.Errorf("token %q, %v", token, err)
		}
	}
}

// TestLogins: what Keystone is sent.
func TestLogins(t *testing.T) {
	for _, tt := range []struct {
		name string
		env  []string
		want string
	}{
		{"password", nil, `{"auth":{"identity":{"methods":["password"],` +
			`"password":{"user":{"domain":{"id":"default"},"name":"alice","password":"pw"}}},` +
			`"scope":{"project":{"domain":{"id":"default"},"name":"alpha"}}}}`},
		{"credential", []string{"OS_APPLICATION_CREDENTIAL_ID=c", "OS_APPLICATION_CREDENTIAL_SECRET=s"},
			`{"auth":{"identity":{"application_credential":{"id":"c","secret":"s"},"methods":["application_credential"]}}}`},
		{"token to be scoped", []string{"OS_AUTH_TYPE=token", "OS_TOKEN=x", "OS_PROJECT_ID=p"},
			`{"auth":{"identity":{"methods":["token"],"token":{"id":"x"}},"scope":{"project":{"id":"p"}}}}`},
	} {
		k := newKeystone(t)
		if token, err := k.session(t, tt.env...).Token(t.Context(), ""); err != nil || token != "t1" {
			t.Errorf("%s: token %q, %v", tt.name, token, err)
		}
		if got := k.last.Load(); got != tt.want {
			t.Errorf("%s: Keystone was sent\n%s\nwant\n%s", tt.name, got, tt.want)
		}
	}
}

// TestGivenToken: a token that is sent as it is has no successor; the catalogue is that of the
// token.
func TestGivenToken(t *testing.T) {
	k := newKeystone(t)
	k.catalog = `[{"type": "container", "endpoints": [{"interface": "public", "region_id": "r", "url": "http://m:9511/v1"}]}]`
	s := k.session(t, "OS_TOKEN=gAAAA")
	for _, refused := range []string{"", "gAAAA"} {
		if token, err := s.Token(t.Context(), refused); err != nil || token != "gAAAA" {
			t.Errorf("token %q, %v", token, err)
		}
	}
	if addr, err := s.Address(t.Context()); err != nil || addr != "http://m:9511/v1" {
		t.Errorf("address %q, %v", addr, err)
	}
	if k.last.Load() != nil {
		t.Errorf("Keystone was sent a login: %v", k.last.Load())
	}
}

// TestLoginRefused: each failure of a login names the setting to look at.
func TestLoginRefused(t *testing.T) {
	for _, tt := range []struct {
		name   string
		status int
		body   string
		env    []string
		code   structs.Code
		want   string
	}{
		{"wrong password", 401, "", nil, structs.CodeUnauthenticated, "refuses user alice in project alpha: check OS_PASSWORD"},
		{"wrong secret", 401, "", []string{"OS_APPLICATION_CREDENTIAL_ID=c", "OS_APPLICATION_CREDENTIAL_SECRET=s"},
			structs.CodeUnauthenticated, "refuses application credential c: check OS_APPLICATION_CREDENTIAL_SECRET"},
		{"wrong token", 404, `{"error": {}}`, []string{"OS_TOKEN=gAAAA"}, structs.CodeUnauthenticated, "get another one for OS_TOKEN"},
		{"no Keystone", 404, "<html>", nil, structs.CodeInvalid, "there is no Keystone v3 at "},
		{"malformed", 400, "", nil, structs.CodeInvalid, "does not understand the login"},
		{"broken", 500, "", nil, structs.CodeUnavailable, "answered with status 500"},
		{"redirected", 302, "", nil, structs.CodeInternal, "answered with status 302"},
		{"something else", 201, "{}", nil, structs.CodeInternal, "does not answer as Keystone v3 does: check OS_AUTH_URL"},
	} {
		k := newKeystone(t)
		k.status, k.body = tt.status, tt.body
		_, err := k.session(t, tt.env...).Token(t.Context(), "")
		if structs.CodeOf(err) != tt.code || !strings.Contains(fmt.Sprint(err), tt.want) {
			t.Errorf("%s: %v (%s), want %q", tt.name, err, structs.CodeOf(err), tt.want)
		}
	}
	k := newKeystone(t)
	s := k.session(t)
	k.Close()
	_, err := s.Token(t.Context(), "")
	if structs.CodeOf(err) != structs.CodeUnavailable || !strings.Contains(err.Error(), "Check OS_AUTH_URL.") {
		t.Errorf("away: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Token(ctx, ""); err == nil || context.Cause(ctx) != err {
		t.Errorf("canceled: %v", err)
	}
}

// TestEndpoint: the choice in the catalogue, and what is said if there is none.
func TestEndpoint(t *testing.T) {
	const two = `[{"type": "identity", "endpoints": [{"interface": "public", "region_id": "a", "url": "http://k"}]},
		{"type": "container", "endpoints": [
			{"interface": "public", "region_id": "a", "url": "http://a"}, {"interface": "internal", "region_id": "a", "url": "http://ai"},
			{"interface": "public", "region": "b", "url": "http://b"}]}]`
	for _, tt := range []struct {
		name, catalog string
		env           []string
		want          string // the address or the error
	}{
		{"region", two, []string{"OS_REGION_NAME=b"}, "http://b"},
		{"interface", two, []string{"OS_REGION_NAME=a", "OS_INTERFACE=internal"}, "http://ai"},
		{"no region", two, nil, "has an endpoint of type container in each of the regions a, b: choose with OS_REGION_NAME"},
		{"another region", two, []string{"OS_REGION_NAME=c"}, "in region c, but in a, b: choose with OS_REGION_NAME"},
		{"no such interface", two, []string{"OS_REGION_NAME=b", "OS_INTERFACE=admin"},
			"no admin endpoint of type container, but public: choose with OS_INTERFACE"},
		{"not registered", `[]`, nil, `has no endpoint of type container: ` +
			`an administrator registers magnum with "magnum keystone-setup"; MAGNUM_ADDR or -addr`},
	} {
		k := newKeystone(t)
		k.catalog = tt.catalog
		got, err := k.session(t, tt.env...).Address(t.Context())
		if err != nil {
			got = err.Error()
		}
		if got != tt.want && !(err != nil && strings.Contains(got, tt.want)) {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}
