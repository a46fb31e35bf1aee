package openstack

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stackforge/magnum/structs"
)

// env returns a Getenv of words NAME=VALUE, and without a clouds.yaml anywhere.
func env(t testing.TB, words ...string) Getenv {
	values := map[string]string{"OS_CLIENT_CONFIG_FILE": filepath.Join(t.TempDir(), "clouds.yaml")}
	for _, word := range words {
		name, value, _ := strings.Cut(word, "=")
		values[name] = value
	}
	return func(name string) string { return values[name] }
}

// full are the settings of an openrc file.
var full = []string{"OS_AUTH_URL=http://k:5000/v3", "OS_USERNAME=alice", "OS_PASSWORD=pw", "OS_PROJECT_NAME=alpha"}

// with returns the words and more. A later word overrides an earlier one.
func with(words []string, more ...string) []string {
	return append(append([]string{}, words...), more...)
}

const ownToken = "mgt_3f3c0bb4-0c1c-4f3f-9a24-0a5f2b4a1c11_secret"

// TestLoadChooses: which settings are used, in the order that the manual has.
func TestLoadChooses(t *testing.T) {
	clouds := filepath.Join(t.TempDir(), "clouds.yaml")
	if err := os.WriteFile(clouds, []byte(`{"clouds": {"one": {"auth": {"auth_url": "http://one:5000", "username": "u", "password": "p", `+
		`"project_name": "x"}}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	all := with(full, "OS_TOKEN="+ownToken, "OS_CLOUD=one", "OS_CLIENT_CONFIG_FILE="+clouds)
	for _, tt := range []struct {
		name  string
		cloud string
		env   []string
		want  string // Keystone's address and who signs in; "" means no settings
	}{
		{"nothing", "", nil, ""},
		{"unrelated", "", []string{"OS_REGION_NAME=r", "OS_PROJECT_NAME=p"}, ""},
		{"the flag overrides all", "one", all, "http://one:5000/v3 user u in project x"},
		{"a token of magnum's", "", all, ""},
		{"a token alone", "", []string{"OS_TOKEN=gAAAA"}, ""},
		{"a token of Keystone's", "", with(full, "OS_TOKEN=gAAAA"), "http://k:5000/v3 the token"},
		{"a cloud", "", with(full, "OS_CLOUD=one", "OS_CLIENT_CONFIG_FILE="+clouds), "http://one:5000/v3 user u in project x"},
		{"the variables", "", full, "http://k:5000/v3 user alice in project alpha"},
		{"another token", "", with(full, "OS_TOKEN=gAAAA", "OS_AUTH_TYPE=v3token"), "http://k:5000/v3 the token"},
		{"a credential", "", []string{"OS_AUTH_URL=http://k:5000", "OS_APPLICATION_CREDENTIAL_ID=c", "OS_APPLICATION_CREDENTIAL_SECRET=s"},
			"http://k:5000/v3 application credential c"},
		{"a credential by name", "", with(full, "OS_APPLICATION_CREDENTIAL_NAME=c", "OS_APPLICATION_CREDENTIAL_SECRET=s",
			"OS_AUTH_TYPE=v3applicationcredential"), "http://k:5000/v3 application credential c of user alice"},
		{"the names of 2015", "", []string{"OS_AUTH_URL=http://k:5000/v3/", "OS_USERNAME=a", "OS_PASSWORD=p", "OS_TENANT_NAME=t"},
			"http://k:5000/v3 user a in project t"},
	} {
		s, err := Load(tt.cloud, env(t, tt.env...))
		got := ""
		if s != nil {
			got = s.AuthURL() + " " + s.who()
		}
		if err != nil || got != tt.want {
			t.Errorf("%s: got %q, %v, want %q", tt.name, got, err, tt.want)
		}
	}
	s, err := Load("", env(t, with(full, "OS_TOKEN=gAAAA")...))
	if token, given := s.GivenToken(); err != nil || token != "gAAAA" || !given {
		t.Errorf("OS_TOKEN: %q, %v, %v", token, given, err)
	}
	s, err = Load("", env(t, with(full, "OS_TOKEN=gAAAA", "OS_AUTH_TYPE=token")...))
	if _, given := s.GivenToken(); err != nil || given {
		t.Errorf("OS_TOKEN to be scoped: %v, %v", given, err)
	}
}

// TestSettled: defaults, and what excludes each other.
func TestSettled(t *testing.T) {
	s, err := Load("", env(t, full...))
	if err != nil {
		t.Fatal(err)
	}
	if s.auth.DomainID != "default" || s.auth.Scope.DomainID != "default" || s.face != "public" || s.region != "" || s.tls != nil {
		t.Errorf("defaults: %+v, %+v", s.auth, s.auth.Scope)
	}
	s, err = Load("", env(t, with(full, "OS_USER_DOMAIN_NAME=Users", "OS_PROJECT_DOMAIN_NAME=Projects", "OS_INTERFACE=internalURL",
		"OS_REGION_NAME=r")...))
	if err != nil || s.auth.DomainName != "Users" || s.auth.DomainID != "" || s.auth.Scope.DomainName != "Projects" ||
		s.auth.Scope.DomainID != "" || s.face != "internal" || s.region != "r" {
		t.Errorf("domains: %+v, %v", s, err)
	}
	s, err = Load("", env(t, with(full, "OS_USER_ID=id", "OS_USER_DOMAIN_ID=d", "OS_PROJECT_ID=p", "OS_PROJECT_DOMAIN_ID=d")...))
	if err != nil || s.auth.UserID != "id" || s.auth.Username+s.auth.DomainID != "" || s.auth.Scope.ProjectID != "p" ||
		s.auth.Scope.ProjectName+s.auth.Scope.DomainID != "" {
		t.Errorf("IDs: %+v, %v", s, err)
	}
	for _, tt := range []struct{ env, want string }{
		{"OS_TRUST_ID=t", "t   false"}, {"OS_SYSTEM_SCOPE=all", "   true"},
		{"OS_PROJECT_NAME= OS_DOMAIN_ID=d", " d  false"}, {"OS_PROJECT_NAME= OS_DOMAIN_NAME=D", "  D false"},
	} {
		s, err := Load("", env(t, with(full, strings.Fields(tt.env)...)...))
		if err != nil {
			t.Errorf("%s: %v", tt.env, err)
			continue
		}
		scope := s.auth.Scope
		got := fmt.Sprint(scope.TrustID, " ", scope.DomainID, " ", scope.DomainName, " ", scope.System)
		if got != tt.want || scope.ProjectName+scope.ProjectID != "" {
			t.Errorf("%s: the scope is %+v", tt.env, scope)
		}
	}
}

// TestLoadRefuses: what is missing or wrong is named as the user writes it, without secrets.
func TestLoadRefuses(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	clouds := file("clouds.yaml", `
clouds:
  no-auth: {region_name: r}
  no-password: {auth: {auth_url: "http://k:5000", username: u, project_name: p}}
  no-url: {auth: {username: u, password: pw, project_name: p}}
  interface: {interface: middle, auth: {auth_url: "http://k:5000", username: u, password: pw, project_name: p}}
  profile: {profile: vendor}
`)
	for _, tt := range []struct {
		name  string
		cloud string
		env   []string
		want  string
	}{
		{"no address", "", full[1:], "OS_AUTH_URL is missing, although OS_USERNAME is set"},
		{"no user", "", with(full, "OS_USERNAME="), "OS_USERNAME is missing"},
		{"no password", "", with(full, "OS_PASSWORD="), "OS_PASSWORD is missing, or an application credential"},
		{"no project", "", with(full, "OS_PROJECT_NAME="), "OS_PROJECT_NAME is missing or OS_PROJECT_ID"},
		{"no secret", "", with(full, "OS_APPLICATION_CREDENTIAL_ID=c"), "OS_APPLICATION_CREDENTIAL_SECRET is missing"},
		{"no credential", "", with(full, "OS_AUTH_TYPE=v3applicationcredential"), "OS_APPLICATION_CREDENTIAL_ID is missing"},
		{"a credential without its user", "", []string{full[0], "OS_APPLICATION_CREDENTIAL_NAME=c", "OS_APPLICATION_CREDENTIAL_SECRET=s"},
			"OS_USERNAME is missing: an application credential without an ID needs its user"},
		{"no token", "", with(full, "OS_AUTH_TYPE=token"), "OS_TOKEN is missing"},
		{"an unknown type", "", with(full, "OS_AUTH_TYPE=v3kerberos"), "OS_AUTH_TYPE=v3kerberos is not supported"},
		{"no URL", "", with(full, "OS_AUTH_URL=keystone:5000"), `OS_AUTH_URL="keystone:5000" is not an http(s) URL`},
		{"v2", "", with(full, "OS_AUTH_URL=http://k:5000/v2.0"), "write v3 in place of v2.0"},
		{"an unknown interface", "", with(full, "OS_INTERFACE=middle"), "OS_INTERFACE=middle must be public, internal or admin"},
		{"no CA", "", with(full, "OS_CACERT="+dir+"/none"), "OS_CACERT: "},
		{"not a CA", "", with(full, "OS_CACERT="+clouds), "has no PEM certificate"},
		{"not a certificate", "", with(full, "OS_CERT="+clouds), "OS_CERT, OS_KEY: "},
		{"no file", "one", nil, `there is no clouds.yaml with a cloud "one": it is looked for at `},
		{"no cloud", "one", []string{"OS_CLIENT_CONFIG_FILE=" + clouds}, `there is no cloud "one"; the file has interface, no-auth, `},
		{"no auth", "no-auth", []string{"OS_CLIENT_CONFIG_FILE=" + clouds}, `cloud "no-auth" has no auth`},
		{"no auth but a profile", "profile", []string{"OS_CLIENT_CONFIG_FILE=" + clouds}, `cloud "profile" has no auth`},
		{"no password in the cloud", "no-password", []string{"OS_CLIENT_CONFIG_FILE=" + clouds},
			"password of cloud no-password in " + clouds + " is missing"},
		{"no address in the cloud", "no-url", []string{"OS_CLIENT_CONFIG_FILE=" + clouds}, "auth_url of cloud no-url in " + clouds},
		{"interface of the cloud", "interface", []string{"OS_CLIENT_CONFIG_FILE=" + clouds}, "must be public, internal or admin"},
		{"not YAML", "one", []string{"OS_CLIENT_CONFIG_FILE=" + file("bad.yaml", "clouds: [")}, "bad.yaml: "},
		{"too large", "one", []string{"OS_CLIENT_CONFIG_FILE=" + file("large.yaml", strings.Repeat("#", maxCloudsFile+1))},
			"has more than"},
	} {
		s, err := Load(tt.cloud, env(t, tt.env...))
		if err == nil {
			t.Errorf("%s: got %s", tt.name, s.who())
			continue
		}
		if !strings.Contains(err.Error(), tt.want) || structs.CodeOf(err) != structs.CodeInvalid {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
		if strings.Contains(err.Error(), "pw") {
			t.Errorf("%s: the error has the password: %v", tt.name, err)
		}
	}
	_, err := Load("", env(t, with(full, "OS_AUTH_URL=http://u:hush@k:5000/v2.0")...))
	if err == nil || strings.Contains(err.Error(), "hush") {
		t.Errorf("an address with a password: %v", err)
	}
}

// TestCloud: a cloud of clouds.yaml, with its secrets in secure.yaml; the region and interface
// of the environment override it, the user does not.
func TestCloud(t *testing.T) {
	home := t.TempDir()
	dir := filepath.Join(home, ".config", "openstack")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"clouds.yaml": `
clouds:
  mine:
    auth:
      auth_url: http://k:5000
      username: alice
      user_domain_name: Users
      project_name: alpha
    region_name: r1
    interface: internal
  credential:
    auth_type: v3applicationcredential
    auth: {auth_url: "http://k:5000/v3", application_credential_id: c}
`,
		"secure.yaml": `
clouds:
  mine: {auth: {password: secret}}
  credential: {auth: {application_credential_secret: hidden}}
`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := Load("mine", env(t, "OS_CLIENT_CONFIG_FILE=", "HOME="+home, "OS_USERNAME=bob", "OS_PASSWORD=x", "OS_PROJECT_NAME=beta"))
	if err != nil {
		t.Fatal(err)
	}
	a := s.auth
	if s.AuthURL() != "http://k:5000/v3" || a.Username != "alice" || a.Password != "secret" || a.DomainName != "Users" ||
		a.DomainID != "" || a.Scope.ProjectName != "alpha" || s.region != "r1" || s.face != "internal" {
		t.Errorf("%+v, scope %+v, region %s, interface %s", a, a.Scope, s.region, s.face)
	}
	s, err = Load("", env(t, "OS_CLIENT_CONFIG_FILE=", "XDG_CONFIG_HOME="+filepath.Join(home, ".config"), "OS_CLOUD=credential",
		"OS_REGION_NAME=r2", "OS_INTERFACE=admin"))
	if err != nil {
		t.Fatal(err)
	}
	if s.auth.ApplicationCredentialSecret != "hidden" || s.auth.Scope != nil || s.region != "r2" || s.face != "admin" {
		t.Errorf("%+v, region %s, interface %s", s.auth, s.region, s.face)
	}
}

// FuzzCloud: no content of clouds.yaml crashes, and settings without an error can be used.
func FuzzCloud(f *testing.F) {
	f.Add([]byte("clouds: {one: {auth: {auth_url: 'http://k:5000', username: u, password: p, project_name: x}}}"), []byte(nil))
	f.Add([]byte("clouds: {one: {profile: p, regions: [a, {name: b}]}}"), []byte("clouds: {one: {auth: {password: p}}}"))
	f.Add([]byte("clouds: {one: {auth: }}"), []byte("clouds:"))
	f.Fuzz(func(t *testing.T, content, secure []byte) {
		s, err := parseCloud("one", "clouds.yaml", content, secure, func(string) string { return "" })
		if err != nil {
			return
		}
		if s.AuthURL() == "" || s.who() == "" {
			t.Errorf("%+v", s.auth)
		}
		if s.auth.TokenID == "" {
			if _, err := s.auth.ToTokenV3CreateMap(nil); err != nil {
				t.Errorf("no request can be made of %+v: %v", s.auth, err)
			}
		}
	})
}
