package tlsconf

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/stackforge/magnum/structs"
)

// The files of an authority's directory.
const (
	fileCA    = "ca.pem"
	fileCAKey = "ca-key.pem"
)

// The types of PEM blocks.
const (
	pemCertificate = "CERTIFICATE"
	pemKey         = "PRIVATE KEY"
)

// caDays is the validity of a new CA certificate in days.
const caDays = 3650

// MaxDays is the longest validity of a certificate in days.
const MaxDays = caDays

// Authority is a CA with its key, in a directory that also holds the certificates it
// has signed. No daemon needs the directory: an operator keeps it and copies out the
// files that servers need.
type Authority struct {
	Dir  string
	Made bool // OpenAuthority has made the CA; false if it opened an existing one

	cert *x509.Certificate
	key  crypto.Signer
}

// OpenAuthority opens the CA in the directory, or makes one if the directory has none.
// It never overwrites a file. CodeInvalid, naming the file, if a file can't be read or
// written, or if only one of certificate and key exists.
func OpenAuthority(dir string) (*Authority, error) {
	a := &Authority{Dir: dir}
	certPath, keyPath := a.CAFile(), filepath.Join(dir, fileCAKey)
	hasCert, err := exists(certPath)
	if err != nil {
		return nil, err
	}
	hasKey, err := exists(keyPath)
	if err != nil {
		return nil, err
	}
	switch {
	case hasCert && hasKey:
		return a, a.open(certPath, keyPath)
	case hasCert:
		return nil, structs.Errorf(structs.CodeInvalid,
			"%s exists, but its key %s does not: restore the key, or move the certificate away to make a new CA", certPath, keyPath)
	case hasKey:
		return nil, structs.Errorf(structs.CodeInvalid,
			"%s exists, but its certificate %s does not: restore the certificate, or move the key away to make a new CA", keyPath, certPath)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, structs.Errorf(structs.CodeInvalid, "-dir: %w", err)
	}
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	a.key, a.Made = key, true
	a.cert = &x509.Certificate{
		Subject:               pkix.Name{CommonName: "magnum CA " + structs.NewID()[:8]},
		IsCA:                  true,
		MaxPathLenZero:        true, // the CA signs certificates of processes, never of other CAs
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := a.sign(a.cert, key.Public(), caDays)
	if err != nil {
		return nil, err
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		return nil, fmt.Errorf("the new CA can't be read: %w", err)
	}
	return a, writePair(certPath, der, keyPath, key)
}

// open reads the CA's files.
func (a *Authority) open(certPath, keyPath string) error {
	certs, err := readCertificates("-dir", certPath)
	if err != nil {
		return err
	}
	if a.cert = certs[0]; !a.cert.IsCA {
		return structs.Errorf(structs.CodeInvalid, "-dir: the certificate of %s in %s is not a CA certificate", nameOf(a.cert), certPath)
	}
	if a.key, err = readKey(keyPath); err != nil {
		return err
	}
	if !samePublic(a.key.Public(), a.cert.PublicKey) {
		return structs.Errorf(structs.CodeInvalid, "-dir: %s is not the key of the certificate in %s", keyPath, certPath)
	}
	if time.Now().After(a.cert.NotAfter) {
		return structs.Errorf(structs.CodeInvalid,
			"-dir: the CA certificate in %s expired on %s: move it and its key away to make a new one", certPath, day(a.cert.NotAfter))
	}
	return nil
}

// CAFile returns the path of the CA's certificate.
func (a *Authority) CAFile() string { return filepath.Join(a.Dir, fileCA) }

// Issued is a certificate with its key.
type Issued struct {
	Cert, Key string    // paths of the files
	Made      bool      // false if the files existed already
	NotAfter  time.Time // end of the certificate's validity
}

// IssueServer makes a certificate for a server. names are the DNS names and IP addresses
// by which clients reach it, at least one; the first also names the files. The
// certificate carries ServerName and the loopback names as well. An existing certificate
// is kept if it has exactly these names. days is the validity, 1..MaxDays, but never
// beyond the CA's own. Errors are CodeInvalid.
func (a *Authority) IssueServer(names []string, days int) (Issued, error) {
	var none Issued
	template, err := serverTemplate(names)
	if err != nil {
		return none, err
	}
	if days < 1 || days > MaxDays {
		return none, structs.Errorf(structs.CodeInvalid, "-days %d not in 1..%d", days, MaxDays)
	}
	file := "server-" + strings.NewReplacer(":", "_", "*", "_").Replace(names[0])
	made := Issued{Cert: filepath.Join(a.Dir, file+".pem"), Key: filepath.Join(a.Dir, file+"-key.pem")}
	hasCert, err := exists(made.Cert)
	if err != nil {
		return none, err
	}
	hasKey, err := exists(made.Key)
	if err != nil {
		return none, err
	}
	switch {
	case hasCert && hasKey:
		made.NotAfter, err = a.checkExisting(made, template)
		return made, err
	case hasCert || hasKey:
		there, missing := made.Cert, made.Key
		if hasKey {
			there, missing = missing, there
		}
		return none, structs.Errorf(structs.CodeInvalid,
			"-server %s: %s exists, but %s does not: restore it, or move the other file away to make both again", names[0], there, missing)
	}
	key, err := newKey()
	if err != nil {
		return none, err
	}
	der, err := a.sign(template, key.Public(), days)
	if err != nil {
		return none, err
	}
	made.Made, made.NotAfter = true, template.NotAfter
	return made, writePair(made.Cert, der, made.Key, key)
}

// checkExisting checks that an existing certificate is valid, is signed by this CA, and
// has the names of wanted. It returns the end of its validity.
func (a *Authority) checkExisting(there Issued, wanted *x509.Certificate) (time.Time, error) {
	certs, err := readCertificates("-server", there.Cert)
	if err != nil {
		return time.Time{}, err
	}
	cert := certs[0]
	hint := fmt.Sprintf("move it and %s away to make both again", there.Key)
	switch has, want := allNames(cert), allNames(wanted); {
	case cert.CheckSignatureFrom(a.cert) != nil:
		return time.Time{}, structs.Errorf(structs.CodeInvalid, "-server: %s is not signed by the CA in %s: %s",
			there.Cert, a.CAFile(), hint)
	case time.Now().After(cert.NotAfter):
		return time.Time{}, structs.Errorf(structs.CodeInvalid, "-server: %s expired on %s: %s", there.Cert, day(cert.NotAfter), hint)
	case !slices.Equal(has, want):
		return time.Time{}, structs.Errorf(structs.CodeInvalid, "-server: %s is for %s, not for %s: %s",
			there.Cert, strings.Join(has, ", "), strings.Join(want, ", "), hint)
	}
	key, err := readKey(there.Key)
	if err != nil {
		return time.Time{}, err
	}
	if !samePublic(key.Public(), cert.PublicKey) {
		return time.Time{}, structs.Errorf(structs.CodeInvalid, "-server: %s is not the key of the certificate in %s",
			there.Key, there.Cert)
	}
	return cert.NotAfter, nil
}

// serverTemplate returns the unsigned certificate of a server with the names.
func serverTemplate(names []string) (*x509.Certificate, error) {
	if len(names) == 0 {
		return nil, structs.Errorf(structs.CodeInvalid, "-server: a server needs at least one name")
	}
	t := &x509.Certificate{
		Subject:     pkix.Name{CommonName: names[0]},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, // servers call one another
	}
	for _, name := range slices.Concat(names, []string{ServerName, "localhost", "127.0.0.1", "::1"}) {
		if ip := net.ParseIP(name); ip != nil {
			if ip.IsUnspecified() {
				return nil, structs.Errorf(structs.CodeInvalid,
					"-server: %s is not an address that clients can connect to: give the one they use", name)
			}
			if !slices.ContainsFunc(t.IPAddresses, ip.Equal) {
				t.IPAddresses = append(t.IPAddresses, ip)
			}
			continue
		}
		if !isDNSName(name) {
			return nil, structs.Errorf(structs.CodeInvalid, "-server: %.80q is neither a DNS name nor an IP address", name)
		}
		if name = strings.ToLower(name); !slices.Contains(t.DNSNames, name) {
			t.DNSNames = append(t.DNSNames, name)
		}
	}
	return t, nil
}

// isDNSName reports whether the name is a DNS name of letters, digits, dashes and dots.
// The first label may be a star.
func isDNSName(name string) bool {
	if len(name) > 253 {
		return false
	}
	for i, label := range strings.Split(name, ".") {
		if label == "*" && i == 0 && strings.Contains(name, ".") {
			continue
		}
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-') {
				return false
			}
		}
	}
	return true
}

// allNames returns a certificate's DNS names and IP addresses, sorted.
func allNames(cert *x509.Certificate) []string {
	names := slices.Clone(cert.DNSNames)
	for _, ip := range cert.IPAddresses {
		names = append(names, ip.String())
	}
	slices.Sort(names)
	return names
}

// sign signs a certificate that is valid for the days, but not beyond the CA's validity.
func (a *Authority) sign(template *x509.Certificate, public crypto.PublicKey, days int) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("a serial number can't be made: %w", err)
	}
	now := time.Now().UTC().Truncate(time.Second)
	template.SerialNumber = serial.Add(serial, big.NewInt(1))
	template.NotBefore = now.Add(-time.Hour) // the clocks of other machines may be behind
	template.NotAfter = now.AddDate(0, 0, days)
	if !a.cert.NotAfter.IsZero() && template.NotAfter.After(a.cert.NotAfter) {
		template.NotAfter = a.cert.NotAfter
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, public, a.key)
	if err != nil {
		return nil, fmt.Errorf("the certificate of %s can't be signed: %w", nameOf(template), err)
	}
	return der, nil
}

func newKey() (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("a key can't be made: %w", err)
	}
	return key, nil
}

func samePublic(a, b crypto.PublicKey) bool {
	comparable, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && comparable.Equal(b)
}

// readKey reads a private key from a PEM file.
func readKey(path string) (crypto.Signer, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, structs.Errorf(structs.CodeInvalid, "-dir: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, structs.Errorf(structs.CodeInvalid, "-dir: %s holds no PEM key", path)
	}
	var key any
	if block.Type == "EC PRIVATE KEY" {
		key, err = x509.ParseECPrivateKey(block.Bytes)
	} else {
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	}
	if err != nil {
		return nil, structs.Errorf(structs.CodeInvalid, "-dir: the key in %s can't be read: %w", path, err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, structs.Errorf(structs.CodeInvalid, "-dir: the key in %s can't sign", path)
	}
	return signer, nil
}

// writePair writes a key, with mode 0600, and its certificate. It overwrites no file. If
// the certificate can't be written the key is removed again: every later call refuses a
// pair of which one file is missing.
func writePair(certPath string, der []byte, keyPath string, key *ecdsa.PrivateKey) error {
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("a key can't be written: %w", err)
	}
	if err := writeNew(keyPath, 0o600, pemKey, secret); err != nil {
		return err
	}
	if err := writeNew(certPath, 0o644, pemCertificate, der); err != nil {
		return errors.Join(err, os.Remove(keyPath))
	}
	return nil
}

// writeNew writes a file, which must not exist.
func writeNew(path string, mode fs.FileMode, kind string, content []byte) error {
	var text bytes.Buffer
	if err := pem.Encode(&text, &pem.Block{Type: kind, Bytes: content}); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return structs.Errorf(structs.CodeInvalid, "-dir: %w", err)
	}
	_, err = f.Write(text.Bytes())
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(structs.Errorf(structs.CodeInvalid, "-dir: %s can't be written: %w", path, err), os.Remove(path))
	}
	return nil
}

func exists(path string) (bool, error) {
	_, err := os.Stat(path)
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	}
	return false, structs.Errorf(structs.CodeInvalid, "-dir: %w", err)
}
