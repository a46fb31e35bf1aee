// Package tlsconf is the TLS configuration of magnum's processes: the cluster's own CA,
// the certificates that it has signed, and the rule by which servers recognize each
// other. Reload reads the files again, so that certificates are renewed without a
// restart.
//
// server, agent and command call it. It imports only the standard library and package
// structs. It authorizes nobody: a client certificate does not make its holder a user.
package tlsconf

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net"
	"net/http"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/stackforge/magnum/structs"
)

// ServerName is the DNS name that only server certificates carry. Servers recognize each
// other by it, whatever their addresses are.
const ServerName = "server.magnum"

// Files names the PEM files of a process. "" means that the process has no such file.
type Files struct {
	CA   string // CA certificates that sign the certificates of the other processes
	Cert string // the process's own certificate, followed by its intermediates
	Key  string // the key of the process's certificate
}

// Check returns CodeInvalid, naming the flags, if a file is given without another that
// it needs. server says that the process accepts connections: then all three files are
// needed, or none.
func (f Files) Check(server bool) error {
	given := map[string]string{"-tls-ca": f.CA, "-tls-cert": f.Cert, "-tls-key": f.Key}
	for _, needed := range []string{"-tls-ca", "-tls-cert", "-tls-key"} {
		for _, other := range []string{"-tls-ca", "-tls-cert", "-tls-key"} {
			if given[needed] != "" || given[other] == "" || !server && other == "-tls-ca" {
				continue
			}
			if server {
				return structs.Errorf(structs.CodeInvalid,
					"%s is given without %s: TLS needs all of -tls-ca, -tls-cert and -tls-key (\"magnum tls-init\" makes the files)",
					other, needed)
			}
			return structs.Errorf(structs.CodeInvalid, "%s is given without %s", other, needed)
		}
	}
	return nil
}

// Any reports whether any file is named.
func (f Files) Any() bool { return f != Files{} }

// Credentials are the certificates and keys read from Files. They are safe for
// concurrent use, also during Reload.
type Credentials struct {
	files Files
	now   atomic.Pointer[loaded]
}

// loaded holds the result of the last successful load of the files.
type loaded struct {
	roots *x509.CertPool   // nil without a CA file
	cert  *tls.Certificate // nil if the process has none
	http  *tls.Config      // for connections from clients of the REST API; nil without cert
	raft  *tls.Config      // for connections from other servers; nil without cert
}

// Load reads the files. CodeInvalid, naming the file, if one can't be read or its
// content does not fit.
func Load(f Files) (*Credentials, error) {
	c := &Credentials{files: f}
	if err := c.Reload(); err != nil {
		return nil, err
	}
	return c, nil
}

// Reload reads the files again. New connections use the new content. Errors are those of
// Load; after an error the old content stays in use.
func (c *Credentials) Reload() error {
	now, err := c.files.load()
	if err != nil {
		return err
	}
	c.now.Store(now)
	return nil
}

func (f Files) load() (*loaded, error) {
	now := &loaded{}
	if f.CA != "" {
		certs, err := readCertificates("-tls-ca", f.CA)
		if err != nil {
			return nil, err
		}
		now.roots = x509.NewCertPool()
		for _, cert := range certs {
			if !cert.IsCA {
				return nil, structs.Errorf(structs.CodeInvalid, "-tls-ca: the certificate of %s in %s is not a CA certificate",
					nameOf(cert), f.CA)
			}
			now.roots.AddCert(cert)
		}
	}
	if f.Cert == "" {
		return now, nil
	}
	certs, err := readCertificates("-tls-cert", f.Cert)
	if err != nil {
		return nil, err
	}
	if err := checkReadable("-tls-key", f.Key); err != nil {
		return nil, err
	}
	pair, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		return nil, structs.Errorf(structs.CodeInvalid, "-tls-key: %s is not the key of the certificate in %s: %w", f.Key, f.Cert, err)
	}
	if now.roots != nil {
		if err := f.verify(certs, now.roots); err != nil {
			return nil, err
		}
	}
	now.cert = &pair
	now.http = &tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{pair},
		ClientAuth:   tls.VerifyClientCertIfGiven,
		ClientCAs:    now.roots,
		NextProtos:   []string{"http/1.1"}, // sessions hijack their connection, which HTTP/2 doesn't allow
	}
	now.raft = &tls.Config{
		MinVersion:             tls.VersionTLS13,
		Certificates:           []tls.Certificate{pair},
		ClientAuth:             tls.RequireAndVerifyClientCert,
		ClientCAs:              now.roots,
		SessionTicketsDisabled: true, // each connection is verified against the CA loaded last
		VerifyConnection:       verifyServer,
	}
	return now, nil
}

// verify checks that the CA signed the process's own certificate, so that a wrong file
// is reported at the start instead of on each connection.
func (f Files) verify(certs []*x509.Certificate, roots *x509.CertPool) error {
	intermediates := x509.NewCertPool()
	for _, cert := range certs[1:] {
		intermediates.AddCert(cert)
	}
	_, err := certs[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: intermediates, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return structs.Errorf(structs.CodeInvalid, "-tls-cert: the certificate in %s is valid from %s to %s: %w",
			f.Cert, day(certs[0].NotBefore), day(certs[0].NotAfter), err)
	case err != nil:
		return structs.Errorf(structs.CodeInvalid, "-tls-cert: the certificate in %s is not signed by a CA in %s: %w", f.Cert, f.CA, err)
	}
	return nil
}

// ExpiresAt returns when the process's certificate expires, the zero time if the
// process has none.
func (c *Credentials) ExpiresAt() time.Time {
	if cert := c.now.Load().cert; cert != nil {
		return cert.Leaf.NotAfter
	}
	return time.Time{}
}

// Names returns the DNS names of the process's certificate, nil if the process has none.
func (c *Credentials) Names() []string {
	if cert := c.now.Load().cert; cert != nil {
		return cert.Leaf.DNSNames
	}
	return nil
}

// HTTPServer returns the configuration for connections from clients of the REST API. A
// client certificate is optional; one that the CA has not signed is refused.
func (c *Credentials) HTTPServer() *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return c.now.Load().http, nil },
	}
}

// HTTPClient makes a transport verify HTTPS servers against the CA or, without one,
// against the machine's CAs.
func (c *Credentials) HTTPClient(t *http.Transport) {
	dial := t.DialContext
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	timeout := t.TLSHandshakeTimeout
	// Each connection gets the configuration loaded last. Through a proxy the transport
	// doesn't call DialTLSContext: it keeps the configuration of this moment.
	t.TLSClientConfig = c.httpClient()
	t.DialTLSContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		raw, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		config := c.httpClient()
		if config.ServerName, _, err = net.SplitHostPort(addr); err != nil {
			config.ServerName = addr
		}
		if timeout > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, timeout)
			defer cancel()
		}
		conn := tls.Client(raw, config)
		if err := conn.HandshakeContext(ctx); err != nil {
			raw.Close()
			return nil, err
		}
		return conn, nil
	}
}

// OnlyServers makes a transport that HTTPClient has set up refuse every peer without a
// server certificate, except at the addresses, host:port, for which except returns true.
// It is for addresses learned from others. Without a CA file it refuses nobody.
func (c *Credentials) OnlyServers(t *http.Transport, except func(addr string) bool) {
	dial := t.DialTLSContext
	t.DialTLSContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil || except(addr) || c.now.Load().roots == nil {
			return conn, err
		}
		if secure, ok := conn.(*tls.Conn); ok {
			err = verifyServer(secure.ConnectionState())
		}
		if err != nil {
			conn.Close()
			return nil, err
		}
		return conn, nil
	}
}

func (c *Credentials) httpClient() *tls.Config {
	now := c.now.Load()
	config := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: now.roots}
	if now.cert != nil {
		config.Certificates = []tls.Certificate{*now.cert}
	}
	return config
}

// ServerTLS returns the configuration for connections from other servers. It admits only
// a server certificate signed by the CA.
func (c *Credentials) ServerTLS() *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return c.now.Load().raft, nil },
	}
}

// ClientTLS returns the configuration for one connection to another server, which must
// show a server certificate. The certificate need not carry the server's address, because
// all servers are trusted alike; the argument is ignored. Call it for each connection,
// so that a Reload takes effect.
func (c *Credentials) ClientTLS(string) *tls.Config {
	config := c.httpClient()
	config.MinVersion = tls.VersionTLS13
	config.ServerName = ServerName
	config.VerifyConnection = verifyServer // ServerName alone would accept a wildcard certificate
	return config
}

// IsServer reports whether the peer of a connection has shown a server certificate of
// this cluster. state is nil without TLS.
func IsServer(state *tls.ConnectionState) bool {
	return state != nil && len(state.VerifiedChains) > 0 && slices.Contains(state.VerifiedChains[0][0].DNSNames, ServerName)
}

// verifyServer refuses a connection whose peer has no server certificate.
func verifyServer(state tls.ConnectionState) error {
	if IsServer(&state) {
		return nil
	}
	if len(state.PeerCertificates) == 0 {
		return errors.New("the peer shows no certificate")
	}
	return structs.Errorf(structs.CodeForbidden, "the certificate of %s is not a server certificate: it does not carry the name %s",
		nameOf(state.PeerCertificates[0]), ServerName)
}

// checkReadable returns CodeInvalid, naming the flag, if the file can't be read.
func checkReadable(flag, path string) error {
	_, err := os.ReadFile(path)
	if err != nil {
		return structs.Errorf(structs.CodeInvalid, "%s: %w", flag, err)
	}
	return nil
}

// readCertificates returns the certificates in a PEM file, at least one.
func readCertificates(flag, path string) ([]*x509.Certificate, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, structs.Errorf(structs.CodeInvalid, "%s: %w", flag, err)
	}
	var certs []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != pemCertificate {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, structs.Errorf(structs.CodeInvalid, "%s: certificate %d in %s can't be read: %w", flag, len(certs)+1, path, err)
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, structs.Errorf(structs.CodeInvalid, "%s: %s holds no PEM certificate", flag, path)
	}
	return certs, nil
}

// nameOf returns the name by which messages call a certificate.
func nameOf(cert *x509.Certificate) string {
	switch {
	case cert.Subject.CommonName != "":
		return cert.Subject.CommonName
	case len(cert.DNSNames) > 0:
		return cert.DNSNames[0]
	}
	return cert.Subject.String()
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }
