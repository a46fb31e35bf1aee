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

// keySize is enough for the longest key of identifiers that are UUIDs.
const keySize = 17 + 2*8

// idKey is the key of a row's ID, and of the usage of a host.
func idKey(id string) []byte { return appendID(make([]byte, 0, keySize), id) }

// seqKey orders by seq what belongs to the owner: a project, bay or host.
func seqKey(owner string, seq uint64) []byte { return appendSeq(make([]byte, 0, keySize), owner, seq) }

func appendSeq(b []byte, owner string, seq uint64) []byte {
	return appendNumber(appendID(b, owner), seq)
}

// appendAssign orders a host's containers by AssignIndex.
func appendAssign(b []byte, hostID string, assign, seq uint64) []byte {
	return appendNumber(appendNumber(appendID(b, hostID), assign), seq)
}

// appendName is short rather than readable: readers compare the name itself, so a
// hash that clashes costs time only.
func appendName(b []byte, projectID, name string, seq uint64) []byte {
	h := fnv.New64a()
	h.Write([]byte(projectID))
	h.Write([]byte{0})
	h.Write([]byte(name))
	return appendNumber(h.Sum(b), seq)
}

func appendNumber(b []byte, n uint64) []byte { return binary.BigEndian.AppendUint64(b, n) }

// listKey is the key of the list of a table in a project.
func listKey(table structs.Table, projectID string) []byte {
	return appendID(append(make([]byte, 0, keySize), codeOf(table)), projectID)
}
