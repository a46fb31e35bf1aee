package state

import (
	"github.com/stackforge/magnum/structs"
)

// prepared is an entry that the leader has decoded before it proposed it.
type prepared struct {
	data  []byte // as it was proposed
	entry *structs.Entry
}

// Prepare decodes the entry as DecodeEntry does, and lets the next Entry for
// this very slice have what came of it: a leader that tries each entry before
// it proposes it would else decode it twice. The slice must not be written any
// more, nor the entry.
func (s *Store) Prepare(data []byte) (*structs.Entry, error) {
	entry, err := DecodeEntry(data)
	if err != nil {
		return nil, err
	}
	s.prepared.Store(&prepared{data, entry})
	return entry, nil
}

// Entry returns the entry that a log's bytes hold, which the caller may hand to
// Apply. Errors are those of DecodeEntry.
func (s *Store) Entry(data []byte) (*structs.Entry, error) {
	// Whoever takes it has it alone: Apply keeps the rows.
	if p := s.prepared.Swap(nil); p != nil && len(data) > 0 && len(p.data) == len(data) && &p.data[0] == &data[0] {
		return p.entry, nil
	}
	return DecodeEntry(data)
}
