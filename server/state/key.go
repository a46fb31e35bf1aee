package state

import (
	"encoding/binary"
	"encoding/hex"
	"hash/fnv"

	"github.com/stackforge/magnum/structs"
)

// The first byte of an identifier in an index key says how it is packed. Most
// identifiers are UUIDs; half the bytes of each key are saved on each of the
// indexes of each row.
const (
	packText = 's' // two bytes of length, then the text
	packUUID = 'u' // 16 bytes of a canonical UUID
	packHex  = 'x' // 16 bytes of 32 lower-case hex digits, as Keystone writes projects
)

// appendID appends id to an index key. No packed identifier is the beginning
// of another one, so what follows it in the key keeps its order.
func appendID(key []byte, id string) []byte {
	var digits [32]byte
	switch {
	case len(id) == 36 && structs.IsID(id):
		n := 0
		for i := range len(id) {
			if id[i] != '-' {
				digits[n] = id[i]
				n++
			}
		}
		key = append(key, packUUID)
	case len(id) == 32 && isHex(id):
		copy(digits[:], id)
		key = append(key, packHex)
	default:
		key = append(key, packText)
		key = binary.BigEndian.AppendUint16(key, uint16(min(len(id), 1<<16-1)))
		return append(key, id...)
	}
	var packed [16]byte
	hex.Decode(packed[:], digits[:]) // cannot fail: all are hex digits
	return append(key, packed[:]...)
}

func isHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f') {
			return false
		}
	}
	return true
}

// newKey returns an empty key with room for n packed identifiers, a number
// after each, and the primary key that go-memdb appends.
func newKey(n int) []byte { return make([]byte, 0, n*(17+8)+17) }

func idKey(id string) []byte { return appendID(newKey(1), id) }

// seqKey orders by seq what belongs to the owner: a project, bay or host.
func seqKey(owner string, seq uint64) []byte {
	return binary.BigEndian.AppendUint64(appendID(newKey(1), owner), seq)
}

// assignKey orders a host's containers by AssignIndex.
func assignKey(hostID string, assign, seq uint64) []byte {
	key := binary.BigEndian.AppendUint64(appendID(newKey(2), hostID), assign)
	return binary.BigEndian.AppendUint64(key, seq)
}

// nameKey is short rather than readable: readers compare the name itself, so a
// hash that clashes costs time only.
func nameKey(projectID, name string, seq uint64) []byte {
	h := fnv.New64a()
	h.Write([]byte(projectID))
	h.Write([]byte{0})
	h.Write([]byte(name))
	return binary.BigEndian.AppendUint64(h.Sum(newKey(1)), seq)
}

func numberKey(n uint64) []byte { return binary.BigEndian.AppendUint64(newKey(1), n) }
