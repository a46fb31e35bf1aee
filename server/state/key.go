package state

import (
	"encoding/binary"
	"encoding/hex"
	"hash/fnv"

	"github.com/stackforge/magnum/structs"
)

// The first byte of an ID in an index key says how the ID is packed. Most IDs are UUIDs.
// Packing halves each key in each index.
const (
	packText = 's' // two bytes of length, then the text
	packUUID = 'u' // 16 bytes of a canonical UUID
	packHex  = 'x' // 16 bytes of 32 lower-case hex digits, Keystone's form of project IDs
)

// appendID appends the ID to an index key. No packed ID is a prefix of another one, so the
// order of what follows it in the key is kept.
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
	hex.Decode(packed[:], digits[:]) // can't fail: all are hex digits
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

// keySize is enough for the longest key of UUIDs.
const keySize = 17 + 2*8

// idKey returns the key of a row by ID, and of a host's usage.
func idKey(id string) []byte { return appendID(make([]byte, 0, keySize), id) }

// seqKey returns a key that orders rows of the owner (a project, bay or host) by Seq.
func seqKey(owner string, seq uint64) []byte { return appendSeq(make([]byte, 0, keySize), owner, seq) }

func appendSeq(b []byte, owner string, seq uint64) []byte {
	return appendNumber(appendID(b, owner), seq)
}

// appendAssign appends a key that orders a host's workloads by AssignIndex.
func appendAssign(b []byte, hostID string, assign, seq uint64) []byte {
	return appendNumber(appendNumber(appendID(b, hostID), assign), seq)
}

// appendName appends a hash of project and name. Readers compare the name itself, so a
// collision only costs time.
func appendName(b []byte, projectID, name string, seq uint64) []byte {
	h := fnv.New64a()
	h.Write([]byte(projectID))
	h.Write([]byte{0})
	h.Write([]byte(name))
	return appendNumber(h.Sum(b), seq)
}

func appendNumber(b []byte, n uint64) []byte { return binary.BigEndian.AppendUint64(b, n) }

// listKey returns the key of a project's list of a table.
func listKey(table structs.Table, projectID string) []byte {
	return appendID(append(make([]byte, 0, keySize), codeOf(table)), projectID)
}
