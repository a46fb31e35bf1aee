// Package tlsconf is TLS as magnum's processes use it: a CA of the cluster's
// own, certificates that it has signed, and the rule by which servers know one
// another. It reads the files again when it is told to, so that certificates
// are renewed without a restart.
//
// server, agent and command call it. It imports only the standard library and
// package structs, and it never decides who may do what: a client's
// certificate makes nobody a user.
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

// ServerName is the DNS name that the certificates of servers carry, and no
// others: by it servers know one another, whatever their addresses are.
const ServerName = "server.magnum"

// Files names the PEM files of a process. "" means that it has none.
type Files struct {
	CA   string // certificates of those who sign for the others
	Cert string // the process's own certificate, behind it those between it and the CA
	Key  string // the certificate's key
}

// Check returns CodeInvalid, in the flags' words, for files that make no sense
// together. server says that the process takes connections: it needs all three
// files, or none.
func (f Files) Check(server bool) error {
	given := map[string]string{"-tls-ca": f.CA, "-tls-cert": f.Cert, "-tls-key": f.Key}
	for _, needed := range []string{"-tls-ca", "-tls-cert", "-tls-key"} {
		for _, other := range []string{"-tls-ca", "-tls-cert", "-tls-key"} {
			if given[needed] != "" || given[other] == "" || !server && other == "-tls-ca" {
				continue
			}
			if server {
				return structs.Errorf(structs.CodeInvalid, "%s is given without %s: TLS takes all of -tls-ca, -tls-cert and -tls-key (\"magnum tls-init\" makes such files)", other, needed)
			}
			return structs.Errorf(structs.CodeInvalid, "%s is given without %s", other, needed)
		}
	}
	return nil
}

// Any reports whether a file is named.
func (f Files) Any() bool { return f != Files{} }

// Credentials are what the files hold. Any number of goroutines may use them
// while another one reloads them.
type Credentials struct {
	files Files
	now   atomic.Pointer[loaded]
}

// loaded is what the files held when they were last read in full.
type loaded struct {
	roots *x509.CertPool
	cert  *tls.Certificate // nil if the process has none
	http  *tls.Config      // for connections of clients
	raft  *tls.Config      // for connections of other servers
}

// Load reads the files. CodeInvalid, with the file's name: one can't be read or
// doesn't hold what it should.
func Load(f Files) (*Credentials, error) {
	c := &Credentials{files: f}
	if err := c.Reload(); err != nil {
		return nil, err
	}
	return c, nil
}

// Reload reads the files again, for connections that begin from now on. An
// error is one of Load's, and leaves everything as it was.
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
				return nil, structs.Errorf(structs.CodeInvalid, "-tls-ca: %s holds the certificate of %s, which is no CA's", f.CA, nameOf(cert))
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
		NextProtos:   []string{"http/1.1"}, // HTTP/2 has no connections to hand over for sessions
	}
	now.raft = &tls.Config{
		MinVersion:             tls.VersionTLS13,
		Certificates:           []tls.Certificate{pair},
		ClientAuth:             tls.RequireAndVerifyClientCert,
		ClientCAs:              now.roots,
		SessionTicketsDisabled: true, // each connection is held against the CA of today
		VerifyConnection:       verifyServer,
	}
	return now, nil
}

// verify checks that the process's own certificate will be taken by those who
// have the same CA: better now than on each connection.
func (f Files) verify(certs []*x509.Certificate, roots *x509.CertPool) error {
	between := x509.NewCertPool()
	for _, cert := range certs[1:] {
		between.AddCert(cert)
	}
	_, err := certs[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return structs.Errorf(structs.CodeInvalid, "-tls-cert: the certificate in %s is for %s to %s: %w", f.Cert, day(certs[0].NotBefore), day(certs[0].NotAfter), err)
	case err != nil:
		return structs.Errorf(structs.CodeInvalid, "-tls-cert: the certificate in %s is not signed by a CA in %s: %w", f.Cert, f.CA, err)
	}
	return nil
}

// ExpiresAt returns when the process's certificate ends, the zero time if it
// has none.
func (c *Credentials) ExpiresAt() time.Time {
	if cert := c.now.Load().cert; cert != nil {
		return cert.Leaf.NotAfter
	}
	return time.Time{}
}

// Names returns the DNS names of the process's certificate; nil if it has none.
func (c *Credentials) Names() []string {
	if cert := c.now.Load().cert; cert != nil {
		return cert.Leaf.DNSNames
	}
	return nil
}

// HTTPServer returns the configuration for connections of clients of the REST
// API. They may show a certificate; one that the CA has not signed is refused.
func (c *Credentials) HTTPServer() *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return c.now.Load().http, nil },
	}
}

// HTTPClient lets a transport reach HTTPS servers: those that the CA has signed
// for or, without a CA, those that the machine trusts.
func (c *Credentials) HTTPClient(t *http.Transport) {
	dial := t.DialContext
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	timeout := t.TLSHandshakeTimeout
	// A configuration of today for each connection. Through a proxy the
	// transport does not ask, and keeps to the first one.
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

// OnlyServers has a transport, to which HTTPClient has been given, refuse those who
// have no certificate of a server, but at the addresses, host:port, that but names.
// It is for addresses that others name; without a CA of the cluster's own nothing can
// be told by it.
func (c *Credentials) OnlyServers(t *http.Transport, but func(addr string) bool) {
	dial := t.DialTLSContext
	t.DialTLSContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil || but(addr) || c.now.Load().roots == nil {
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

// ServerTLS returns the configuration for connections that other servers make:
// only a certificate of a server, signed by the CA, is let in.
func (c *Credentials) ServerTLS() *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return c.now.Load().raft, nil },
	}
}

// ClientTLS returns the configuration for one connection to another server,
// whose certificate has to be a server's. Servers are trusted alike, so it
// does not matter at which host this one is: its certificate need not carry
// the address. It is made anew for each connection, so that a reload counts.
func (c *Credentials) ClientTLS(string) *tls.Config {
	config := c.httpClient()
	config.MinVersion = tls.VersionTLS13
	config.ServerName = ServerName
	config.VerifyConnection = verifyServer // the name alone could be a wildcard's
	return config
}

// IsServer reports whether the other side of a connection has shown that it is
// a server of this cluster. state may be nil: no TLS.
func IsServer(state *tls.ConnectionState) bool {
	return state != nil && len(state.VerifiedChains) > 0 && slices.Contains(state.VerifiedChains[0][0].DNSNames, ServerName)
}

// verifyServer refuses a connection whose other side is no server.
func verifyServer(state tls.ConnectionState) error {
	if IsServer(&state) {
		return nil
	}
	if len(state.PeerCertificates) == 0 {
		return errors.New("the other side shows no certificate")
	}
	return structs.Errorf(structs.CodeForbidden, "the certificate of %s is no server's: it does not carry the name %s", nameOf(state.PeerCertificates[0]), ServerName)
}

// checkReadable names the flag of a file that can't be read.
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

// nameOf is a certificate's name in messages.
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
