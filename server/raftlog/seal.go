package raftlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/hashicorp/raft"
)

// A seal is a CRC-32C that the store adds to everything it writes and checks at each
// read. bbolt itself has checksums only on its two meta pages.
//
// Entries in the cache and between servers have no seal: each store seals what it
// writes itself and trusts no other server's seal.

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

const (
	sealSize      = 4
	valueSealSize = 1 + sealSize // the number of values, and the sum
)

// sumOfEntry returns the checksum of all fields of an entry.
func sumOfEntry(e *raft.Log) uint32 {
	var b []byte
	b = binary.BigEndian.AppendUint64(b, e.Index)
	b = binary.BigEndian.AppendUint64(b, e.Term)
	b = append(b, byte(e.Type))
	if !e.AppendedAt.IsZero() {
		b = binary.BigEndian.AppendUint64(b, uint64(e.AppendedAt.Unix()))
		b = binary.BigEndian.AppendUint32(b, uint32(e.AppendedAt.Nanosecond()))
	}
	b = binary.BigEndian.AppendUint64(b, uint64(len(e.Data)))
	b = append(b, e.Extensions...)
	return crc32.Update(crc32.Checksum(b, castagnoli), castagnoli, e.Data)
}

// sealEntry returns a copy of the entry whose extensions end with its seal.
func sealEntry(e *raft.Log) *raft.Log {
	sealed := *e
	sealed.Extensions = binary.BigEndian.AppendUint32(slices.Clone(e.Extensions), sumOfEntry(e))
	return &sealed
}

// errSeal is the error of an entry or value that differs from what was written.
var errSeal = errors.New("it does not have its checksum")

// unsealEntry checks an entry's seal and removes it.
func unsealEntry(e *raft.Log) error {
	at := len(e.Extensions) - sealSize
	if at < 0 {
		return errSeal
	}
	sum := binary.BigEndian.Uint32(e.Extensions[at:])
	if e.Extensions = e.Extensions[:at:at]; at == 0 {
		e.Extensions = nil
	}
	if sumOfEntry(e) != sum {
		return errSeal
	}
	return nil
}

// sealValue seals a value of the stable store. count is the number of values including
// this one, so the other values' seals reveal the loss of a whole value.
func sealValue(key, value []byte, count int) []byte {
	b := append(slices.Clone(value), byte(count))
	return binary.BigEndian.AppendUint32(b, sumOfValue(key, b))
}

func sumOfValue(key, counted []byte) uint32 {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(key)))
	return crc32.Update(crc32.Checksum(append(b, key...), castagnoli), castagnoli, counted)
}

// unsealValue checks a sealed value and returns it, with the number of values when it
// was written.
func unsealValue(key, sealed []byte) (value []byte, count int, err error) {
	at := len(sealed) - valueSealSize
	if at < 0 || binary.BigEndian.Uint32(sealed[at+1:]) != sumOfValue(key, sealed[:at+1]) {
		return nil, 0, fmt.Errorf("the value %q: %w", key, errSeal)
	}
	return sealed[:at:at], int(sealed[at]), nil
}
