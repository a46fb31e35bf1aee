// Package openstack signs commands in at Keystone: it reads OS_* variables or clouds.yaml,
// gets tokens, finds magnum in the service catalogue, and registers magnum there. The command
// line calls it. It keeps tokens in memory only, and authenticates nobody: that is the
// servers' business, in server/identity.
package openstack

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/gophercloud/gophercloud/v2"

	"github.com/stackforge/magnum/structs"
)

// ServiceType is the type under which magnum is in the catalogue.
const ServiceType = "container"

// Settings say who signs in, where, and which endpoint is wanted. They have secrets: never
// print them as a whole.
type Settings struct {
	auth   gophercloud.AuthOptions
	region string              // "" means any
	face   string              // interface: public, internal or admin
	tls    *tls.Config         // of Keystone and magnum; nil means the system's CAs
	from   string              // where the settings are from, for errors: "OS_USERNAME, ..." or "cloud x of FILE"
	named  func(string) string // how the user names a setting such as "password"
}

// TLS returns the TLS settings of Keystone and magnum, nil for the system's.
func (s *Settings) TLS() *tls.Config { return s.tls }

// AuthURL returns Keystone's address, which ends with /v3.
func (s *Settings) AuthURL() string { return s.auth.IdentityEndpoint }

// GivenToken returns the token of the settings if it is sent as it is, without another login.
func (s *Settings) GivenToken() (token string, given bool) {
	return s.auth.TokenID, s.auth.TokenID != "" && s.auth.Scope == nil
}

// Getenv returns the value of an environment variable, "" if it isn't set.
type Getenv func(name string) string

// first returns the first value that isn't empty.
func (get Getenv) first(names ...string) string {
	for _, name := range names {
		if value := get(name); value != "" {
			return value
		}
	}
	return ""
}

// Load returns the settings of a cloud of clouds.yaml if one is named, else those of the
// environment: of OS_CLOUD, or of OS_AUTH_URL and others. It returns nil if the environment
// has neither, nor a user. CodeInvalid: a setting is missing or wrong.
//
// A token in OS_TOKEN without OS_AUTH_TYPE=token stays as it is, and is not for Keystone if it
// is one of magnum's own: with one, Load returns nil unless a cloud is named.
func Load(cloud string, get Getenv) (*Settings, error) {
	if cloud != "" {
		return fromCloud(cloud, get)
	}
	if token := get("OS_TOKEN"); token != "" && !wantsToken(get("OS_AUTH_TYPE")) {
		if _, _, local := structs.ParseToken(token); local || get("OS_AUTH_URL") == "" {
			return nil, nil
		}
		return fromEnv(get)
	}
	if cloud = get("OS_CLOUD"); cloud != "" {
		return fromCloud(cloud, get)
	}
	return fromEnv(get)
}

// fromEnv returns the settings of OS_AUTH_URL and other variables, nil if there are none.
func fromEnv(get Getenv) (*Settings, error) {
	authURL := get("OS_AUTH_URL")
	if authURL == "" {
		for _, name := range []string{"OS_USERNAME", "OS_USER_ID", "OS_APPLICATION_CREDENTIAL_ID", "OS_APPLICATION_CREDENTIAL_NAME"} {
			if get(name) != "" {
				return nil, missing("OS_AUTH_URL is missing, although "+name+" is set",
					"set it to Keystone's address, such as http://keystone.example.com:5000/v3, or unset "+name)
			}
		}
		return nil, nil
	}
	s := &Settings{
		region: get("OS_REGION_NAME"), from: "the OS_* variables",
		named: func(setting string) string { return "OS_" + strings.ToUpper(setting) },
	}
	s.auth = gophercloud.AuthOptions{
		IdentityEndpoint:            authURL,
		UserID:                      get.first("OS_USER_ID", "OS_USERID"),
		Username:                    get("OS_USERNAME"),
		DomainID:                    get("OS_USER_DOMAIN_ID"),
		DomainName:                  get("OS_USER_DOMAIN_NAME"),
		Password:                    get("OS_PASSWORD"),
		Passcode:                    get("OS_PASSCODE"),
		TokenID:                     get("OS_TOKEN"),
		ApplicationCredentialID:     get("OS_APPLICATION_CREDENTIAL_ID"),
		ApplicationCredentialName:   get("OS_APPLICATION_CREDENTIAL_NAME"),
		ApplicationCredentialSecret: get("OS_APPLICATION_CREDENTIAL_SECRET"),
		Scope:                       scopeOf(get),
	}
	var err error
	if s.face, err = interfaceOf(get.first("OS_INTERFACE", "OS_ENDPOINT_TYPE"), "OS_INTERFACE"); err != nil {
		return nil, err
	}
	if s.tls, err = tlsOf(get("OS_CACERT"), get("OS_CERT"), get("OS_KEY")); err != nil {
		return nil, err
	}
	authType := get("OS_AUTH_TYPE")
	if s.auth.TokenID != "" && !wantsToken(authType) {
		// It is sent unchanged, as it always was.
		s.auth.Scope = nil
		authType = "token"
	}
	return s, s.settle(authType)
}

// scopeOf returns what the token is to be for, nil if nothing is said of it.
func scopeOf(get Getenv) *gophercloud.AuthScope {
	scope := gophercloud.AuthScope{}
	id, name := get.first("OS_PROJECT_ID", "OS_TENANT_ID"), get.first("OS_PROJECT_NAME", "OS_TENANT_NAME")
	switch {
	case get("OS_TRUST_ID") != "":
		scope.TrustID = get("OS_TRUST_ID")
	case get("OS_SYSTEM_SCOPE") != "":
		scope.System = true
	case id != "":
		scope.ProjectID = id
	case name != "":
		scope.ProjectName = name
		scope.DomainID, scope.DomainName = get("OS_PROJECT_DOMAIN_ID"), get("OS_PROJECT_DOMAIN_NAME")
	case get("OS_DOMAIN_ID") != "":
		scope.DomainID = get("OS_DOMAIN_ID")
	case get("OS_DOMAIN_NAME") != "":
		scope.DomainName = get("OS_DOMAIN_NAME")
	default:
		return nil
	}
	return &scope
}

// interfaceOf returns the interface of an endpoint by its name of today or of 2015.
func interfaceOf(name, setting string) (string, error) {
	face := strings.TrimSuffix(name, "URL")
	if face == "" {
		return "public", nil
	}
	if !slices.Contains(interfaces, face) {
		return "", structs.Errorf(structs.CodeInvalid, "%s=%s must be public, internal or admin", setting, name)
	}
	return face, nil
}

// interfaces are those of an endpoint.
var interfaces = []string{"public", "internal", "admin"}

// tlsOf returns the TLS settings of files, nil if there are none.
func tlsOf(ca, cert, key string) (*tls.Config, error) {
	if ca == "" && cert == "" {
		return nil, nil
	}
	conf := new(tls.Config)
	if ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return nil, structs.Errorf(structs.CodeInvalid, "OS_CACERT: %v", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, structs.Errorf(structs.CodeInvalid, "OS_CACERT=%s has no PEM certificate", ca)
		}
	}
	if cert != "" {
		if key == "" {
			key = cert
		}
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, structs.Errorf(structs.CodeInvalid, "OS_CERT, OS_KEY: %v", err)
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	return conf, nil
}

// wantsToken reports whether a type of authentication makes a token of another token.
func wantsToken(authType string) bool { return authType == "token" || authType == "v3token" }

// settle chooses the method, fills in defaults, and checks that nothing is missing.
func (s *Settings) settle(authType string) error {
	a := &s.auth
	u, err := url.Parse(a.IdentityEndpoint)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return structs.Errorf(structs.CodeInvalid, "%s=%q is not an http(s) URL such as http://keystone.example.com:5000/v3",
			s.named("auth_url"), printableURL(a.IdentityEndpoint))
	}
	u.Path = strings.TrimRight(u.Path, "/")
	switch last := u.Path[strings.LastIndex(u.Path, "/")+1:]; last {
	case "v3":
	case "v2.0":
		return structs.Errorf(structs.CodeInvalid,
			"%s=%s is the address of Keystone v2, which has no more tokens: write v3 in place of v2.0",
			s.named("auth_url"), printableURL(a.IdentityEndpoint))
	default:
		u.Path += "/v3"
	}
	a.IdentityEndpoint = u.String()

	switch authType {
	case "", "password", "v3password", "v3applicationcredential", "token", "v3token", "v3totp", "v3multifactor":
	default:
		return structs.Errorf(structs.CodeInvalid,
			"%s=%s is not supported: use v3password, v3applicationcredential or v3token", s.named("auth_type"), authType)
	}
	credential := a.ApplicationCredentialID != "" || a.ApplicationCredentialName != ""
	switch {
	case wantsToken(authType) || authType == "" && a.TokenID != "" && !credential && a.Password == "":
		return s.settleToken()
	case credential && (authType == "" || authType == "v3applicationcredential"):
		return s.settleCredential()
	case authType == "v3applicationcredential":
		return s.lacks("application_credential_id", "")
	}
	return s.settlePassword()
}

func (s *Settings) settleToken() error {
	a := &s.auth
	if a.TokenID == "" {
		return s.lacks("token", "")
	}
	a.Username, a.UserID, a.Password, a.Passcode, a.DomainID, a.DomainName = "", "", "", "", "", ""
	a.ApplicationCredentialID, a.ApplicationCredentialName, a.ApplicationCredentialSecret = "", "", ""
	s.settleScope()
	return nil
}

func (s *Settings) settleCredential() error {
	a := &s.auth
	a.Password, a.Passcode, a.TokenID, a.Scope = "", "", "", nil
	if a.ApplicationCredentialSecret == "" {
		return s.lacks("application_credential_secret", "")
	}
	if a.ApplicationCredentialID != "" {
		return nil
	}
	return s.settleUser("an application credential without an ID")
}

func (s *Settings) settlePassword() error {
	a := &s.auth
	a.ApplicationCredentialID, a.ApplicationCredentialName, a.ApplicationCredentialSecret, a.TokenID = "", "", "", ""
	if err := s.settleUser(""); err != nil {
		return err
	}
	if a.Password == "" && a.Passcode == "" {
		return s.lacks("password", ", or an application credential")
	}
	if a.Scope == nil {
		return s.lacks("project_name", " or "+s.named("project_id"))
	}
	s.settleScope()
	return nil
}

// settleUser checks that there is a user, who has a domain if it has a name.
func (s *Settings) settleUser(of string) error {
	a := &s.auth
	switch {
	case a.UserID != "":
		a.Username, a.DomainID, a.DomainName = "", "", ""
	case a.Username == "" && of != "":
		return s.lacks("username", ": "+of+" needs its user")
	case a.Username == "":
		return s.lacks("username", "")
	case a.DomainID != "":
		a.DomainName = ""
	case a.DomainName == "":
		a.DomainID = "default"
	}
	return nil
}

// settleScope gives a project with a name its domain.
func (s *Settings) settleScope() {
	scope := s.auth.Scope
	switch {
	case scope == nil || scope.ProjectName == "":
	case scope.DomainID != "":
		scope.DomainName = ""
	case scope.DomainName == "":
		scope.DomainID = "default"
	}
}

// lacks returns the error that a setting is missing.
func (s *Settings) lacks(setting, more string) error {
	return missing(s.named(setting)+" is missing"+more, "a login at Keystone "+printableURL(s.auth.IdentityEndpoint)+" needs it")
}

func missing(what, way string) error { return structs.Errorf(structs.CodeInvalid, "%s: %s", what, way) }

// printableURL returns a URL without a password.
func printableURL(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return "(not a URL)"
	}
	return u.Redacted()
}

// who describes the user of the settings for errors, without secrets.
func (s *Settings) who() string {
	a := s.auth
	switch {
	case a.TokenID != "":
		return "the token"
	case a.ApplicationCredentialID != "":
		return "application credential " + a.ApplicationCredentialID
	case a.ApplicationCredentialName != "":
		return fmt.Sprintf("application credential %s of user %s", a.ApplicationCredentialName, a.Username+a.UserID)
	}
	text := "user " + a.Username + a.UserID
	if a.Scope != nil && a.Scope.ProjectName+a.Scope.ProjectID != "" {
		text += " in project " + a.Scope.ProjectName + a.Scope.ProjectID
	}
	return text
}
