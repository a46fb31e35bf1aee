// Package keystone authenticates callers by tokens of OpenStack's Keystone.
//
// Package server puts it beside the local tokens, and server/rest calls it for every
// request that has such a token. It asks Keystone v3 as a service user and caches the
// answers. It stores nothing, reads no state, and believes nothing that a client says
// about itself except its token.
package keystone

import (
	"cmp"
	"net/url"
	"strings"
	"time"

	"github.com/stackforge/magnum/structs"
)

// Config says which Keystone is asked, and as whom. Its error messages use the names of
// the server's flags.
type Config struct {
	AuthURL         string // of Keystone, with or without /v3, such as http://10.0.0.5:5000/v3; "" turns Keystone off
	Username        string // of the service user, which must be allowed to validate tokens (role service or admin)
	Password        string
	ProjectName     string        // of the service user; default service
	UserDomainID    string        // of the service user; default default
	ProjectDomainID string        // of the service user's project; default default
	Region          string        // of this cluster's endpoint in the catalogue, for the check at the start; "" means any
	Endpoint        string        // URL of this cluster in the catalogue, for the check at the start; "" means that any is right
	CacheTTL        time.Duration // how long an answer of Keystone is used, so also after a revocation; default 30s, 1s..5m
	Timeout         time.Duration // of one call to Keystone; default 10s, 1s..1m
	CACert          string        // PEM file of the CA of Keystone's certificate; "" means the system's
	Insecure        bool          // accepts any certificate of Keystone
	AdminRoles      []string      // roles of Keystone that are admin here; default admin
	ServiceRoles    []string      // roles of which an X-Service-Token needs one; default service
}

// Enabled reports whether there is a Keystone.
func (c Config) Enabled() bool { return c.AuthURL != "" }

// Given reports whether any setting is given.
func (c Config) Given() bool {
	return c.AuthURL != "" || c.Username != "" || c.Password != "" || c.ProjectName != "" || c.UserDomainID != "" ||
		c.ProjectDomainID != "" || c.Region != "" || c.Endpoint != "" || c.CacheTTL != 0 || c.Timeout != 0 ||
		c.CACert != "" || c.Insecure || len(c.AdminRoles) > 0 || len(c.ServiceRoles) > 0
}

// WithDefaults returns the configuration with defaults for what is zero.
func (c Config) WithDefaults() Config {
	c.ProjectName = cmp.Or(c.ProjectName, "service")
	c.UserDomainID = cmp.Or(c.UserDomainID, "default")
	c.ProjectDomainID = cmp.Or(c.ProjectDomainID, "default")
	c.CacheTTL = cmp.Or(c.CacheTTL, 30*time.Second)
	c.Timeout = cmp.Or(c.Timeout, 10*time.Second)
	if len(c.AdminRoles) == 0 {
		c.AdminRoles = []string{string(structs.RoleAdmin)}
	}
	if len(c.ServiceRoles) == 0 {
		c.ServiceRoles = []string{"service"}
	}
	return c
}

// Check checks the configuration without I/O. Errors are CodeInvalid.
func (c Config) Check() error {
	if !c.Given() {
		return nil
	}
	c = c.WithDefaults()
	u, err := url.Parse(c.AuthURL)
	switch {
	case c.AuthURL == "":
		return structs.Errorf(structs.CodeInvalid, "-keystone-auth-url is missing: the other -keystone settings need it")
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil:
		return structs.Errorf(structs.CodeInvalid,
			"-keystone-auth-url is not a URL such as http://10.0.0.5:5000/v3, without user, query and fragment")
	case strings.ContainsAny(c.AuthURL, "\"'\\ \r\n\t"):
		return structs.Errorf(structs.CodeInvalid, "-keystone-auth-url %.128q has a character that can't be in it", c.AuthURL)
	case strings.HasSuffix(strings.TrimRight(u.Path, "/"), "/v2.0"):
		return structs.Errorf(structs.CodeInvalid, "-keystone-auth-url %.128q is of Keystone v2.0: only v3 is supported", c.AuthURL)
	case c.Endpoint != "" && comparableURL(c.Endpoint) == "":
		return structs.Errorf(structs.CodeInvalid, "-keystone-endpoint %.128q is not a URL such as https://magnum.example.org:9511/v1",
			c.Endpoint)
	case c.Username == "":
		return structs.Errorf(structs.CodeInvalid, "-keystone-username is missing: the server asks Keystone as this user")
	case c.Password == "":
		return structs.Errorf(structs.CodeInvalid,
			"-keystone-password is missing: give -keystone-password-file or MAGNUM_KEYSTONE_PASSWORD, the password of %.64q", c.Username)
	case c.CacheTTL < time.Second || c.CacheTTL > 5*time.Minute:
		return structs.Errorf(structs.CodeInvalid, "-keystone-cache-ttl %v not in 1s..5m: a revoked token is good for so long",
			c.CacheTTL)
	case c.Timeout < time.Second || c.Timeout > time.Minute:
		return structs.Errorf(structs.CodeInvalid, "-keystone-timeout %v not in 1s..1m", c.Timeout)
	case c.CACert != "" && u.Scheme != "https":
		return structs.Errorf(structs.CodeInvalid, "-keystone-cacert needs a -keystone-auth-url with https")
	}
	return nil
}

// comparableURL returns a URL of the API in the form in which two of them are compared, "" for
// what is none: with and without /v1 it is the same.
func comparableURL(endpoint string) string {
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return ""
	}
	path := strings.TrimSuffix(strings.TrimRight(u.Path, "/"), "/v1")
	return u.Scheme + "://" + strings.ToLower(u.Host) + strings.TrimRight(path, "/")
}
