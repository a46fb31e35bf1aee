package command

import (
	"errors"
	"os"
	"strings"

	"github.com/stackforge/magnum/server/identity/keystone"
)

// maxPasswordFile is the size of a file with a password, in bytes.
const maxPasswordFile = 4 << 10

// keystoneSettings adds the settings of a Keystone, which a file may have in a block
// keystone.
func keystoneSettings(s *settings, c *keystone.Config, note string) {
	s.text(&c.AuthURL, "keystone-auth-url", "URL",
		"Keystone v3 that authenticates callers, such as http://10.0.0.5:5000/v3 (default none)"+note)
	s.text(&c.Username, "keystone-username", "NAME", "service user that validates tokens"+note)
	s.text(&c.Password, "keystone-password", "PASSWORD",
		"password of the service user; other users of this machine see flags: prefer -keystone-password-file or the environment"+note)
	s.add("keystone-password-file", "FILE", "file with the password of the service user"+note, func(v string) (err error) {
		c.Password, err = readPassword(v)
		return err
	})
	s.text(&c.ProjectName, "keystone-project-name", "NAME", "project of the service user (default service)"+note)
	s.text(&c.UserDomainID, "keystone-user-domain-id", "ID", "domain of the service user (default default)"+note)
	s.text(&c.ProjectDomainID, "keystone-project-domain-id", "ID", "domain of the service user's project (default default)"+note)
	s.text(&c.Region, "keystone-region", "REGION", "region of this cluster's endpoint in the catalogue (default any)"+note)
	s.text(&c.Endpoint, "keystone-endpoint", "URL",
		"public URL of this cluster in the catalogue; the server warns at its start if the catalogue has another (default any)"+note)
	s.duration(&c.CacheTTL, "keystone-cache-ttl",
		"how long a validation of a token is used, so also after its revocation; 1s to 5m (default 30s)"+note)
	s.duration(&c.Timeout, "keystone-timeout", "longest time of one call to Keystone; 1s to 1m (default 10s)"+note)
	s.text(&c.CACert, "keystone-cacert", "FILE", "CA of Keystone's certificate, PEM (default the system's)"+note)
	s.toggle(&c.Insecure, "keystone-insecure", "accept any certificate of Keystone; for tests only"+note)
	s.list(&c.AdminRoles, "keystone-admin-roles", "ROLE,...", "roles of Keystone whose holders are operators here (default admin)"+note)
	s.list(&c.ServiceRoles, "keystone-service-roles", "ROLE,...",
		"roles of services that may act for users whose tokens have expired (default service)"+note)
}

// readPassword reads a password from a file, without the newline at its end.
func readPassword(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b := make([]byte, maxPasswordFile+1)
	n, _ := f.Read(b)
	switch password := strings.TrimRight(string(b[:n]), "\r\n"); {
	case n > maxPasswordFile:
		return "", errors.New("is too long for a password")
	case password == "":
		return "", errors.New("is empty or can't be read")
	default:
		return password, nil
	}
}
