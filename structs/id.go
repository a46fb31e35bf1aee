package structs

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	mathrand "math/rand/v2"
)

// NewID returns a random UUID (RFC 9562, version 4) in canonical form.
func NewID() string {
	var b [16]byte
	rand.Read(b[:])
	return formatID(b)
}

// NewRequestID returns an ID for a request. It is as unique as that of NewID and
// cheaper, but it can be guessed.
func NewRequestID() string {
	var b [16]byte
	binary.NativeEndian.PutUint64(b[:8], mathrand.Uint64())
	binary.NativeEndian.PutUint64(b[8:], mathrand.Uint64())
	return "req-" + formatID(b)
}

// DeriveID returns a UUID that looks random. Equal seeds give equal UUIDs.
func DeriveID(seed string) string {
	sum := sha256.Sum256([]byte("id " + seed))
	return formatID([16]byte(sum[:16]))
}

func formatID(b [16]byte) string {
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	var text [36]byte // filled without fmt, because every request needs an ID
	at := 0
	for i, part := range [][]byte{b[:4], b[4:6], b[6:8], b[8:10], b[10:]} {
		if i > 0 {
			text[at] = '-'
			at++
		}
		at += hex.Encode(text[at:], part)
	}
	return string(text[:])
}

// IsID reports whether s is a UUID in canonical lower-case form. Such a string is
// never looked up as a name.
func IsID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f') {
				return false
			}
		}
	}
	return true
}

// NewSecret returns 256 random bits in hex, for tokens and session IDs.
func NewSecret() string {
	var b [32]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// DeriveSecret returns a secret in the form of NewSecret. Equal seeds give equal
// secrets.
func DeriveSecret(seed string) string {
	sum := sha256.Sum256([]byte("secret " + seed))
	return hex.EncodeToString(sum[:])
}

// HashSecret returns the form in which a secret is stored: hex SHA-256.
func HashSecret(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}
