package relay

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"time"

	"github.com/stackforge/magnum/internal/atomicfile"
)

// keyBlock is the type of the PEM block in a key file.
const keyBlock = "PRIVATE KEY"

// Key reads the private key in a file, or makes one and writes it there with mode 0600 if
// there is no such file. It returns a certificate for the key, signed by itself, and the
// key's pin (see structs.Relay). A key that Key has returned is on disk. Calls for one file
// must not run concurrently.
//
// A file that can't be read, or that holds no key, is an error that names it and says what
// to do; it isn't replaced.
func Key(file string) (tls.Certificate, string, error) {
	content, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		if content, err = newKey(); err == nil {
			err = atomicfile.Replace(file, content)
		}
		if err != nil {
			return tls.Certificate{}, "", fmt.Errorf("the relay's key can't be made: %w", err)
		}
	}
	if err != nil {
		return tls.Certificate{}, "", fmt.Errorf("the relay's key can't be read (make the file readable for the agent, "+
			"or remove it: a new key is made then): %w", err)
	}
	key, err := parseKey(content)
	if err != nil {
		return tls.Certificate{}, "", fmt.Errorf("the relay's key in %s can't be used: %w; restore the file, or remove it and start "+
			"the agent again: a new key is made then, and the other hosts learn of it", file, err)
	}
	return certify(key)
}

// newKey makes a private key and encodes it.
func newKey() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: keyBlock, Bytes: der}), nil
}

// parseKey decodes what newKey has encoded, or an Ed25519 key.
func parseKey(content []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(content)
	if block == nil || block.Type != keyBlock {
		return nil, fmt.Errorf("it holds no PEM block %q", keyBlock)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	switch key := key.(type) {
	case *ecdsa.PrivateKey:
		return key, nil
	case ed25519.PrivateKey:
		return key, nil
	}
	return nil, fmt.Errorf("it is a %T, not an ECDSA or Ed25519 key", key)
}

// certify makes a certificate that carries the key. Nobody reads anything else in it.
func certify(key crypto.Signer) (tls.Certificate, string, error) {
	template := x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "magnum relay"},
		NotBefore: time.Unix(0, 0), NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, "", err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, "", err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, pinOf(leaf), nil
}

// pinOf returns the pin of a certificate's key.
func pinOf(c *x509.Certificate) string {
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}
