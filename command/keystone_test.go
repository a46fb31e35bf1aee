package command

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stackforge/magnum/api"
)

// fakeKeystone gives out tokens kt1, kt2, ... whose catalogue has the magnum at an address.
type fakeKeystone struct {
	*fakeAPI
	logins atomic.Int32
}

func newFakeKeystone(t *testing.T, magnum string) *fakeKeystone {
	k := &fakeKeystone{fakeAPI: newFakeAPI(t)}
	k.handle("POST /v3/auth/tokens", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Subject-Token", fmt.Sprint("kt", k.logins.Add(1)))
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, `{"token": {"expires_at": %q, "catalog": [{"type": "container", "endpoints": [`+
			`{"interface": "public", "region_id": "r", "url": %q}]}]}}`, time.Now().Add(time.Hour).UTC().Format(time.RFC3339), magnum+"/v1")
	})
	return k
}

// signIn sets the variables of an openrc file.
func (s *shell) signIn(k *fakeKeystone) {
	delete(s.env, "MAGNUM_ADDR")
	s.env["OS_AUTH_URL"], s.env["OS_USERNAME"], s.env["OS_PASSWORD"], s.env["OS_PROJECT_NAME"] = k.url+"/v3", "alice", "pw-secret", "alpha"
}

// lists answers bay-list to those who have one of the tokens, and counts what is sent.
func (f *fakeAPI) lists(tokens string) (sent *atomic.Value) {
	sent = new(atomic.Value)
	sent.Store("")
	f.handle("GET /v1/bays", func(w http.ResponseWriter, r *http.Request) {
		token := r.Header.Get(api.HeaderToken)
		sent.Store(sent.Load().(string) + token + " ")
		if !strings.Contains(tokens, token) {
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, `{"errors":[{"code":"unauthenticated","detail":"The token is not valid"}]}`)
			return
		}
		fmt.Fprint(w, `{"bays": []}`)
	})
	return sent
}

// TestSignIn: the settings that a command uses, in the order of the manual, and what each costs.
func TestSignIn(t *testing.T) {
	f := newFakeAPI(t)
	sent := f.lists("kt1 kt2 local gAAAA mgt_3f3c0bb4-0c1c-4f3f-9a24-0a5f2b4a1c11_x")
	k := newFakeKeystone(t, f.url)
	clouds := filepath.Join(t.TempDir(), "clouds.yaml")
	if err := os.WriteFile(clouds, []byte("clouds: {one: {auth: {auth_url: '"+k.url+
		"', username: u, password: p, project_name: x}}}"), 0o600); err != nil {
		t.Fatal(err)
	}
	const own = "mgt_3f3c0bb4-0c1c-4f3f-9a24-0a5f2b4a1c11_x"
	for _, tt := range []struct {
		name   string
		args   string
		env    string // changes of the environment; an empty value removes
		logins int32
		sent   string
	}{
		{"an openrc file", "bay-list", "", 1, "kt1 "},
		{"without Keystone", "bay-list", "OS_AUTH_URL= OS_USERNAME= MAGNUM_ADDR=" + f.url, 0, " "},
		{"another address", "bay-list", "MAGNUM_ADDR=" + f.url, 1, "kt1 "},
		{"a token of magnum's", "bay-list", "OS_TOKEN=" + own + " MAGNUM_ADDR=" + f.url, 0, own + " "},
		{"a token of Keystone's and an address", "bay-list", "OS_TOKEN=gAAAA MAGNUM_ADDR=" + f.url, 0, "gAAAA "},
		{"a cloud", "bay-list -os-cloud one", "OS_TOKEN=" + own, 1, "kt1 "},
		{"a cloud before the command", "--os-cloud one bay-list", "", 1, "kt1 "},
		{"a cloud in the environment", "bay-list", "OS_CLOUD=one OS_USERNAME=", 1, "kt1 "},
	} {
		s := newShell(t, nil)
		s.signIn(k)
		s.env["OS_CLIENT_CONFIG_FILE"] = clouds
		for word := range strings.FieldsSeq(tt.env) {
			name, value, _ := strings.Cut(word, "=")
			if s.env[name] = value; value == "" {
				delete(s.env, name)
			}
		}
		k.logins.Store(0)
		sent.Store("")
		if r := s.run(strings.Fields(tt.args)...); r.code != 0 {
			t.Errorf("%s: code %d, %s", tt.name, r.code, r.stderr)
		}
		if got := sent.Load(); got != tt.sent || k.logins.Load() != tt.logins {
			t.Errorf("%s: sent %q with %d logins, want %q with %d", tt.name, got, k.logins.Load(), tt.sent, tt.logins)
		}
	}
}

// TestSignInAgain: a token that a server refuses is replaced, once.
func TestSignInAgain(t *testing.T) {
	f := newFakeAPI(t)
	sent := f.lists("kt2")
	k := newFakeKeystone(t, f.url)
	s := newShell(t, nil)
	s.signIn(k)
	if r := s.run("bay-list"); r.code != 0 || sent.Load() != "kt1 kt2 " {
		t.Errorf("code %d, sent %q, %s", r.code, sent.Load(), r.stderr)
	}
	sent.Store("")
	r := s.run("bay-list")
	if r.code != 1 || sent.Load() != "kt3 kt4 " || !strings.Contains(r.stderr, "The token is not valid (HTTP 401) Set OS_TOKEN") {
		t.Errorf("code %d, sent %q, %s", r.code, sent.Load(), r.stderr)
	}
}

// TestSignInRefused: each failure says what to do, and is no advice about OS_TOKEN.
func TestSignInRefused(t *testing.T) {
	f := newFakeAPI(t)
	f.lists("kt")
	k := newFakeKeystone(t, f.url)
	refusing := newFakeKeystone(t, f.url)
	refusing.answer("POST /v3/auth/tokens", 401, `{"error": {"code": 401}}`)
	for _, tt := range []struct {
		env  string
		code int
		want string
	}{
		{"OS_AUTH_URL=", 2, "OS_AUTH_URL is missing, although OS_USERNAME is set"},
		{"OS_PASSWORD=", 2, "OS_PASSWORD is missing"},
		{"OS_CLOUD=none OS_CLIENT_CONFIG_FILE=/none", 2, `there is no clouds.yaml with a cloud "none"`},
		{"OS_REGION_NAME=other", 1, "but in r: choose with OS_REGION_NAME"},
		{"OS_AUTH_URL=" + refusing.url, 1, "refuses user alice in project alpha: check OS_PASSWORD"},
		{"OS_AUTH_URL=http://127.0.0.1:1", 1, "no answer from Keystone at http://127.0.0.1:1/v3: the connection failed"},
	} {
		s := newShell(t, nil)
		s.signIn(k)
		for word := range strings.FieldsSeq(tt.env) {
			name, value, _ := strings.Cut(word, "=")
			s.env[name] = value
		}
		r := s.run("bay-list")
		if r.code != tt.code || !strings.Contains(r.stderr, tt.want) || strings.Contains(r.stderr, "Set OS_TOKEN") ||
			strings.Contains(r.stderr, "secret") {
			t.Errorf("%s: code %d, %s", tt.env, r.code, r.stderr)
		}
	}
}

// TestDebugHidesLogins: -debug shows requests to Keystone without passwords and tokens.
func TestDebugHidesLogins(t *testing.T) {
	f := newFakeAPI(t)
	f.lists("kt1")
	s := newShell(t, nil)
	s.signIn(newFakeKeystone(t, f.url))
	r := s.run("bay-list", "-debug")
	if r.code != 0 || !strings.Contains(r.stderr, "/v3/auth/tokens") || strings.Contains(r.stderr, "secret") ||
		strings.Contains(r.stderr, "kt1") {
		t.Errorf("code %d, stderr %s", r.code, r.stderr)
	}
}

// TestStatusShowsTheEndpoint: the server's address is known once the catalogue was read.
func TestStatusShowsTheEndpoint(t *testing.T) {
	f := newFakeAPI(t)
	f.lists("kt1")
	f.answer("GET /", 200, `{"versions": []}`)
	for _, path := range []string{"/v1/operator/state", "/v1/hosts"} {
		f.answer("GET "+path, 403, `{"errors":[{"code":"forbidden","detail":"no"}]}`)
	}
	for _, noun := range []string{"containers", "pods"} {
		f.answer("GET /v1/"+noun, 200, `{"`+noun+`": []}`)
	}
	f.answer("GET /v1/operator/leader", 200, `{}`)
	s := newShell(t, nil)
	s.signIn(newFakeKeystone(t, f.url))
	if r := s.run("status", "-format", "{{.server}}"); r.code != 0 || strings.TrimSpace(r.stdout) != f.url {
		t.Errorf("code %d, %q, %s", r.code, r.stdout, r.stderr)
	}
}

// TestKeystoneSetupRefuses: what is wrong in the command line, before Keystone is asked.
func TestKeystoneSetupRefuses(t *testing.T) {
	k := newFakeKeystone(t, "")
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for args, want := range map[string]string{
		"":                                       "-url is missing",
		"-url magnum.example.com":                "must be a URL that begins with http:// or https://",
		"-url http://m -admin-url ftp:":          "must be a URL",
		"-url http://m/some/?x=y":                "endpoint: ",
		"-url http://m -service-password-file x": "needs -service-user",
		"-url http://m -service-user u -service-password-file /none":          "-service-password-file /none: ",
		"-url http://m -service-user u -service-password-file " + empty:       "is empty",
		"-url http://m -os-cloud none":                                        "there is no clouds.yaml",
		"-url http://m extra":                                                 "extra",
		"-url http://m -format {{.nothing":                                    "-format",
		"-url http://m -service-user u -service-password-file " + "/dev/null": "is empty",
	} {
		s := newShell(t, nil)
		s.signIn(k)
		s.env["OS_CLIENT_CONFIG_FILE"] = "/none"
		if r := s.run(append([]string{"keystone-setup"}, strings.Fields(args)...)...); r.code != 2 || !strings.Contains(r.stderr, want) {
			t.Errorf("%s: code %d, %s, want %q", args, r.code, r.stderr, want)
		}
	}
	s := newShell(t, nil)
	if r := s.run("keystone-setup", "-url", "http://m"); r.code != 2 || !strings.Contains(r.stderr, "no login at Keystone") {
		t.Errorf("without a login: code %d, %s", r.code, r.stderr)
	}
	if n := k.logins.Load(); n != 0 {
		t.Errorf("Keystone was asked %d times", n)
	}
}
