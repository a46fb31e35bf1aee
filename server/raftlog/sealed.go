package raftlog

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
)

// sealedStore gives each log entry, and each of the few values that Raft keeps
// beside the log, a checksum. The file format has none: a flipped bit in a
// term or a vote would be believed.
type sealedStore struct {
	*raftboltdb.BoltStore
}

// StoreLog stores one entry.
func (s sealedStore) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// StoreLogs stores the entries, each with its checksum where the library
// leaves room for what wraps a store.
func (s sealedStore) StoreLogs(logs []*raft.Log) error {
	sealed := make([]*raft.Log, len(logs))
	for i, l := range logs {
		c := *l // the library goes on using its own
		c.Extensions = binary.BigEndian.AppendUint32(nil, logSum(l))
		sealed[i] = &c
	}
	return s.BoltStore.StoreLogs(sealed)
}

// GetLog reads an entry; a damaged one is an error.
func (s sealedStore) GetLog(index uint64, l *raft.Log) error {
	if err := s.BoltStore.GetLog(index, l); err != nil {
		return err
	}
	if l.Index != index || len(l.Extensions) != 4 || binary.BigEndian.Uint32(l.Extensions) != logSum(l) {
		return fmt.Errorf("entry %d is damaged: its checksum is not that of its content", index)
	}
	l.Extensions = nil
	return nil
}

func logSum(l *raft.Log) uint32 {
	var head [17]byte
	binary.BigEndian.PutUint64(head[0:], l.Index)
	binary.BigEndian.PutUint64(head[8:], l.Term)
	head[16] = byte(l.Type)
	return crc32.Update(crc32.Checksum(head[:], castagnoli), castagnoli, l.Data)
}

// Set stores a value.
func (s sealedStore) Set(key, value []byte) error {
	return s.BoltStore.Set(key, binary.BigEndian.AppendUint32(append([]byte(nil), value...), valueSum(key, value)))
}

// Get reads a value; a damaged one is an error.
func (s sealedStore) Get(key []byte) ([]byte, error) {
	b, err := s.BoltStore.Get(key)
	if err != nil {
		return nil, err
	}
	n := len(b) - 4
	if n < 0 || binary.BigEndian.Uint32(b[n:]) != valueSum(key, b[:n]) {
		return nil, fmt.Errorf("value %s is damaged: its checksum is not that of its content", key)
	}
	return b[:n], nil
}

func valueSum(key, value []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, value)
}

// SetUint64 stores a number.
func (s sealedStore) SetUint64(key []byte, value uint64) error {
	return s.Set(key, binary.BigEndian.AppendUint64(nil, value))
}

// GetUint64 reads a number.
func (s sealedStore) GetUint64(key []byte) (uint64, error) {
	b, err := s.Get(key)
	if err != nil {
		return 0, err
	}
	if len(b) != 8 {
		return 0, fmt.Errorf("value %s is damaged: it is no number", key)
	}
	return binary.BigEndian.Uint64(b), nil
}
