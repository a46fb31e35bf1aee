package state

import (
	"bytes"
	"fmt"

	"github.com/stackforge/magnum/structs"
)

// prepared is an entry that the leader is about to propose: its bytes, the entry decoded
// from them, and its steps on the base.
type prepared struct {
	data  []byte
	entry *structs.Entry
	base  *Snapshot
	steps []*step
}

// Prepare returns the bytes of the entry. It decodes them as a follower will, and checks
// that the decoded rows encode to the same bytes and that Apply would carry out the entry
// on the base. Its errors are those of EncodeEntry, DecodeEntry and Apply, and of that
// check. It writes nothing. An entry with an error must not be proposed, because it would
// stop every server.
//
// The next call of Entry with the same slice returns the entry decoded here, and Apply of
// that entry on the base has no need to check it again: the leader decodes and checks each
// entry once. The caller must not modify the slice.
func (s *Store) Prepare(base *Snapshot, entry *structs.Entry) ([]byte, error) {
	data, err := encodeEntry(entry, s.BreakEncoder)
	if err != nil {
		return nil, err
	}
	decoded, err := DecodeEntry(data)
	if err != nil {
		return nil, fmt.Errorf("an entry can't be read back: %w", err)
	}
	if err := checkRewritten(decoded); err != nil {
		return nil, err
	}
	steps, err := foldChanges(base, decoded.Changes)
	if err != nil {
		return nil, err
	}
	s.prepared.Store(&prepared{data, decoded, base, steps})
	return data, nil
}

// checkRewritten returns an error unless each decoded row encodes to the bytes that it was
// decoded from. Snapshots are written from the rows, and contain the hash of the entry's
// bytes: if they differ, no snapshot can be restored any more. An encoder that writes a
// wrong value is detected as well, because it does so again.
func checkRewritten(e *structs.Entry) error {
	c := rowCodecs.Get().(*rowCodec)
	defer rowCodecs.Put(c)
	for i := range e.Changes {
		ch := &e.Changes[i]
		if ch.Row != nil && !bytes.Equal(c.encode(ch.Row, ch.SpecApart), ch.Encoded) {
			return fmt.Errorf("%s: row %q has other bytes when it is encoded again", ch.Table, ch.ID)
		}
	}
	return nil
}

// Entry decodes the log's bytes. The caller may give the entry to Apply. Errors are those
// of DecodeEntry.
func (s *Store) Entry(data []byte) (*structs.Entry, error) {
	// An entry is returned once, because Apply keeps its rows.
	p := s.prepared.Swap(nil)
	if p == nil || len(data) == 0 || len(p.data) != len(data) || &p.data[0] != &data[0] {
		return DecodeEntry(data)
	}
	s.checked.Store(p)
	return p.entry, nil
}

// stepsOf returns the steps of the changes on the base: those of Prepare, if it has checked
// these very changes on this very base. Errors are those of foldChanges.
func (s *Store) stepsOf(base *Snapshot, changes []structs.Change) ([]*step, error) {
	p := s.checked.Swap(nil)
	if p == nil || p.base != base || len(changes) == 0 || len(p.entry.Changes) != len(changes) || &p.entry.Changes[0] != &changes[0] {
		return foldChanges(base, changes)
	}
	return p.steps, nil
}
