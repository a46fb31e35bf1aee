package raftlog

import (
	"errors"
	"fmt"
	"io"

	"github.com/hashicorp/raft"

	"github.com/stackforge/magnum/server/state"
)

// ErrStale rejects an entry that was decided under another leadership or on another
// state. Every replica rejects it alike, and nothing changes.
var ErrStale = errors.New("entry is stale: it was decided in another term or on another state")

// fsm feeds committed entries to the store. Raft calls it from one goroutine.
type fsm struct {
	store     *state.Store
	announcer *announcer
}

// Apply applies one entry and returns nil, ErrStale, or the store's refusal. It panics
// on an entry that it can't decode: skipping the entry would silently diverge from the
// replicas that can decode it.
func (f *fsm) Apply(l *raft.Log) any {
	entry, err := f.store.Entry(l.Data)
	if err != nil {
		panic(fmt.Sprintf("raft: entry %d can't be applied, so this server must not go on: %v", l.Index, err))
	}
	defer f.announcer.note(l.Index, l.Term)
	if prev := f.store.Index(); entry.Term != l.Term || entry.Prev != prev {
		return fmt.Errorf("%w: entry %d is of term %d and was decided in %d; it follows %d and was decided on %d",
			ErrStale, l.Index, l.Term, entry.Term, prev, entry.Prev)
	}
	if err := f.store.Apply(l.Index, entry.Changes); err != nil {
		return err
	}
	return nil
}

// Snapshot returns the current state.
func (f *fsm) Snapshot() (raft.FSMSnapshot, error) {
	return &fsmSnapshot{f.store.Snapshot()}, nil
}

// Restore replaces the state.
func (f *fsm) Restore(r io.ReadCloser) error {
	defer r.Close()
	return f.store.Restore(r)
}

type fsmSnapshot struct{ snap *state.Snapshot }

// Persist writes the snapshot while further entries are applied.
func (s *fsmSnapshot) Persist(sink raft.SnapshotSink) error {
	if err := state.PersistSnapshot(s.snap, sink); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	return sink.Close()
}

// Release does nothing: the garbage collector frees the snapshot.
func (*fsmSnapshot) Release() {}
