// Package tlsconftest makes certificates for tests, also such as magnum itself never
// makes, to test which peers are admitted.
package tlsconftest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stackforge/magnum/internal/tlsconf"
)

// Other returns the files of a process that is not a server, such as a host or a user.
// The CA has signed its certificate, which carries the name and 127.0.0.1.
func Other(t testing.TB, a *tlsconf.Authority, name string) tlsconf.Files {
	t.Helper()
	ca, err := tls.LoadX509KeyPair(a.CAFile(), strings.TrimSuffix(a.CAFile(), ".pem")+"-key.pem")
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		DNSNames: []string{name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, ca.Leaf, key.Public(), ca.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	f := tlsconf.Files{CA: a.CAFile(), Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	blocks := map[string]*pem.Block{f.Cert: {Type: "CERTIFICATE", Bytes: cert}, f.Key: {Type: "PRIVATE KEY", Bytes: secret}}
	for path, block := range blocks {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// Server returns the files of a server whose certificate carries the name.
func Server(t testing.TB, a *tlsconf.Authority, name string) tlsconf.Files {
	t.Helper()
	issued, err := a.IssueServer([]string{name}, 30)
	if err != nil {
		t.Fatal(err)
	}
	return tlsconf.Files{CA: a.CAFile(), Cert: issued.Cert, Key: issued.Key}
}

// Authority returns a new CA in a directory of the test.
func Authority(t testing.TB) *tlsconf.Authority {
	t.Helper()
	a, err := tlsconf.OpenAuthority(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// Load reads the files.
func Load(t testing.TB, f tlsconf.Files) *tlsconf.Credentials {
	t.Helper()
	c, err := tlsconf.Load(f)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
