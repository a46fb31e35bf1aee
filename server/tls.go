package server

import (
	"crypto/tls"
	"net"
	"os"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/internal/tlsconf"
	"github.com/stackforge/magnum/server/raftlog/transport"
	"github.com/stackforge/magnum/structs"
)

// The values of Config.Auth.
const (
	authNone     = "none"
	authToken    = "token"
	authKeystone = "keystone"
)

// validateAccess checks the settings that protect the server. Off loopback it requires
// TLS and authentication, unless the operator says that the network is safe.
func (c Config) validateAccess(bind net.IP) error {
	switch {
	case c.Auth != authNone && c.Auth != authToken && c.Auth != authKeystone:
		return structs.Errorf(structs.CodeInvalid, "-auth %.64q is not one of none, token and keystone", c.Auth)
	case c.Auth == authNone && c.Keystone.Given():
		return structs.Errorf(structs.CodeInvalid,
			"-auth none and the -keystone settings contradict each other: leave -auth out, or say -auth token to have local tokens too")
	case c.Auth == authKeystone && !c.Keystone.Given():
		return structs.Errorf(structs.CodeInvalid, "-auth keystone needs -keystone-auth-url")
	}
	if err := c.Keystone.Check(); err != nil {
		return err
	}
	if err := c.Audit.Check(); err != nil {
		return err
	}
	if err := c.tlsFiles().Check(true); err != nil {
		return err
	}
	if bind.IsLoopback() || c.Insecure {
		return nil
	}
	if c.Auth == authNone {
		return structs.Errorf(structs.CodeInvalid,
			"-bind %s with -auth none lets anyone who reaches the address do anything: say -auth token or keystone, bind "+
				"to 127.0.0.1, or say -insecure", c.Bind)
	}
	if !c.tlsFiles().Any() {
		return structs.Errorf(structs.CodeInvalid,
			"-bind %s without TLS lets anyone on the way read tokens and secrets: give -tls-ca, -tls-cert and -tls-key (\"magnum "+
				"tls-init\" makes such files), bind to 127.0.0.1, or use -insecure", c.Bind)
	}
	return nil
}

func (c Config) tlsFiles() tlsconf.Files {
	return tlsconf.Files{CA: c.TLSCA, Cert: c.TLSCert, Key: c.TLSKey}
}

// hostNames returns the names to which the REST API answers without authentication; nil
// means all names. A web page can make a name of its own resolve to this server, but
// none of these.
func (s *Server) hostNames() []string {
	if s.config.Auth != authNone {
		return nil
	}
	names := append([]string{s.config.Name}, s.config.HTTPHosts...)
	if host, err := os.Hostname(); err == nil {
		names = append(names, host)
	}
	if s.tls.loaded != nil {
		names = append(names, s.tls.loaded.Names()...)
	}
	return names
}

// certificates holds this server's TLS certificate and CA, if it has any.
type certificates struct {
	loaded *tlsconf.Credentials // nil: no TLS
	file   string               // path of the server's certificate
	log    hclog.Logger
}

// loadCertificates reads the TLS files, if there are any.
func loadCertificates(c Config, log hclog.Logger) (*certificates, error) {
	all := &certificates{file: c.TLSCert, log: log}
	if !c.tlsFiles().Any() {
		return all, nil
	}
	var err error
	if all.loaded, err = tlsconf.Load(c.tlsFiles()); err != nil {
		return nil, err
	}
	all.logExpiry()
	return all, nil
}

// listener wraps l in TLS, if the server has TLS.
func (c *certificates) listener(l net.Listener) net.Listener {
	if c.loaded == nil {
		return l
	}
	return tls.NewListener(l, c.loaded.HTTPServer())
}

// raft returns the TLS of Raft connections between servers; nil means none.
func (c *certificates) raft() *transport.Secure {
	if c.loaded == nil {
		return nil
	}
	return &transport.Secure{Server: c.loaded.ServerTLS, Client: c.loaded.ClientTLS}
}

// peers returns the TLS of calls to other servers' REST API; nil means none.
func (c *certificates) peers() func() *tls.Config {
	if c.loaded == nil {
		return nil
	}
	return func() *tls.Config { return c.loaded.ClientTLS("") }
}

// scheme returns the scheme of the server's URLs, with "://".
func (c *certificates) scheme() string {
	if c.loaded == nil {
		return "http://"
	}
	return "https://"
}

// Reload reads the policy file and the TLS files again, these for new connections. If
// they can't be read, the error is logged and the old rules and certificates stay in use.
// It also opens the audit log again, which another program may have moved.
func (s *Server) Reload() {
	s.reloadPolicy()
	s.tls.reload()
	s.reopenAudit()
}

func (c *certificates) reload() {
	if c.loaded == nil {
		c.log.Info("nothing to reload: there are no certificates")
		return
	}
	if err := c.loaded.Reload(); err != nil {
		c.log.Error("certificates can't be reloaded, the old ones stay in use", "error", err)
		return
	}
	c.log.Info("certificates reloaded")
	c.logExpiry()
}

// expiryWarning is how long before the certificate expires the server warns about it.
const expiryWarning = 14 * 24 * time.Hour

func (c *certificates) logExpiry() {
	at := c.loaded.ExpiresAt()
	if left := time.Until(at); left < expiryWarning {
		c.log.Warn("the certificate expires soon: replace it and send SIGHUP", "file", c.file, "expires_at", at, "left",
			left.Round(time.Minute))
	}
}
