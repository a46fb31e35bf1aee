package gossip

import (
	"crypto/rand"
	"encoding/base64"

	"github.com/stackforge/magnum/structs"
)

// keyBytes is the size of new keys in bytes: AES-256.
const keyBytes = 32

// NewKey returns a random key in the form that -encrypt takes.
func NewKey() string {
	key := make([]byte, keyBytes)
	rand.Read(key)
	return base64.StdEncoding.EncodeToString(key)
}

// ParseKey decodes a key from base64. The error is CodeInvalid and doesn't show the key.
func ParseKey(s string) ([]byte, error) {
	key, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return nil, structs.Errorf(structs.CodeInvalid, "-encrypt is not base64: `openssl rand -base64 32` makes one")
	}
	if err := checkKey(key); err != nil {
		return nil, err
	}
	return key, nil
}

func checkKey(key []byte) error {
	switch len(key) {
	case 16, 24, 32:
		return nil
	}
	return structs.Errorf(structs.CodeInvalid, "-encrypt has %d bytes: a key must have 16, 24 or 32 (in base64)", len(key))
}
