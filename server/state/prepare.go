package state

import (
	"fmt"
	"reflect"

	"github.com/stackforge/magnum/structs"
)

// prepared is an entry that the leader has encoded, and checked on the state
// that it was decided on, before it proposes it.
type prepared struct {
	data  []byte // as it is proposed
	entry *structs.Entry
	base  *Snapshot
	steps []*step // what the entry comes to on base
}

// Prepare returns the bytes of the entry, and checks that Apply would carry it
// out on the base. Its errors are those of EncodeEntry and Apply; nothing is
// written.
//
// It lets the next Entry for this very slice, and the Apply that follows on
// this very base, have the entry and what it comes to: a leader would else
// decode what it has just encoded, and check it twice. The rows are the store's
// from here on, whose empty slices it may make nil, as decoding would; the
// caller writes to neither them nor the slice.
func (s *Store) Prepare(base *Snapshot, entry *structs.Entry) ([]byte, error) {
	for i := range entry.Changes {
		if row := entry.Changes[i].Row; row != nil {
			normal(row)
		}
	}
	data, err := EncodeEntry(entry)
	if err != nil {
		return nil, err
	}
	steps, err := base.fold(entry.Changes)
	if err != nil {
		return nil, err
	}
	if verifyPrepared {
		verify(entry, data)
	}
	s.prepared.Store(&prepared{data, entry, base, steps})
	return data, nil
}

// verify panics if the entry isn't what others will decode.
func verify(entry *structs.Entry, data []byte) {
	decoded, err := DecodeEntry(data)
	if err != nil {
		panic(fmt.Sprintf("state: what was encoded can't be decoded: %v", err))
	}
	for i, ch := range decoded.Changes {
		if ch.Row == nil {
			continue
		}
		// What isn't in the bytes.
		was := entry.Changes[i].Row
		ch.Row.Base().CreateIndex, ch.Row.Base().ModifyIndex = was.Base().CreateIndex, was.Base().ModifyIndex
		if c, ok := ch.Row.(*structs.Container); ok {
			c.AssignIndex = was.(*structs.Container).AssignIndex
		}
		if !reflect.DeepEqual(ch.Row, was) {
			panic(fmt.Sprintf("state: a row is not what its bytes hold:\n%+v\n%+v", was, ch.Row))
		}
	}
}

// Entry returns the entry that a log's bytes hold, which the caller may hand to
// Apply. Errors are those of DecodeEntry.
func (s *Store) Entry(data []byte) (*structs.Entry, error) {
	// Whoever takes it has it alone: Apply keeps the rows.
	p := s.prepared.Swap(nil)
	if p == nil || len(data) == 0 || len(p.data) != len(data) || &p.data[0] != &data[0] {
		return DecodeEntry(data)
	}
	s.taken.Store(p)
	return p.entry, nil
}

// fold is Snapshot.fold on the state as it is, unless that was done when the
// changes were prepared.
func (s *Store) fold(now *Snapshot, changes []structs.Change) ([]*step, error) {
	p := s.taken.Swap(nil)
	if p != nil && p.base == now && len(changes) > 0 && len(p.entry.Changes) == len(changes) && &p.entry.Changes[0] == &changes[0] {
		return p.steps, nil
	}
	return now.fold(changes)
}
