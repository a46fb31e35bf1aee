package raftlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/hashicorp/raft"
)

// Seals are CRC-32C sums that the store adds to all that it writes, and checks
// at each read. bbolt itself has a checksum on its two meta pages only.
//
// Entries on their way between servers, and in the cache, have none: each store
// seals what it writes itself, and takes nobody's word for it.

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

const (
	sealSize      = 4
	valueSealSize = 1 + sealSize // how many values there are, and the sum
)

// sumOfEntry is over all fields of an entry.
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

// errSeal is of an entry or value that is not what was written.
var errSeal = errors.New("it does not have its checksum")

// unsealEntry checks an entry and takes its seal off.
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

// sealValue seals a value of the stable store. count is how many values there
// are with this one: a value that is lost is missed by the others.
func sealValue(key, value []byte, count int) []byte {
	b := append(slices.Clone(value), byte(count))
	return binary.BigEndian.AppendUint32(b, sumOfValue(key, b))
}

func sumOfValue(key, counted []byte) uint32 {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(key)))
	return crc32.Update(crc32.Checksum(append(b, key...), castagnoli), castagnoli, counted)
}

// unsealValue checks a sealed value and returns it, and how many values there
// were when it was written.
func unsealValue(key, sealed []byte) (value []byte, count int, err error) {
	at := len(sealed) - valueSealSize
	if at < 0 || binary.BigEndian.Uint32(sealed[at+1:]) != sumOfValue(key, sealed[:at+1]) {
		return nil, 0, fmt.Errorf("the value %q: %w", key, errSeal)
	}
	return sealed[:at:at], int(sealed[at]), nil
}
