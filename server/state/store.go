package state

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/stackforge/magnum/server/state/charges"
	"github.com/stackforge/magnum/structs"
)

// Store is the replicated state of one server. One goroutine, the FSM's, calls Apply and
// Restore. Any number may read Snapshots and Subscribe.
type Store struct {
	writing sync.Mutex // held by Apply and Restore
	current atomic.Pointer[Snapshot]
	topics  topics
	events  events
	waiters waiters

	prepared atomic.Pointer[prepared] // the entry that Entry may return
	checked  atomic.Pointer[prepared] // the entry that Entry has returned, for Apply

	// BreakEncoder is a fault for tests: Prepare calls it with each row and the row's bytes
	// in the entry, which it may change. nil for none; set it before use.
	BreakEncoder func(row structs.Row, encoded []byte)
}

// New returns an empty store at index 0.
func New() *Store {
	s := new(Store)
	s.current.Store(new(Snapshot))
	return s
}

// Snapshot returns the present state. It costs nothing, never changes, and never blocks the
// writer.
func (s *Store) Snapshot() *Snapshot { return s.current.Load() }

// Index returns the index of the last applied entry; 0 if there was none.
func (s *Store) Index() uint64 { return s.Snapshot().Index() }

// Hash returns the hash of the state: equal states have equal hashes. Read Index and Hash
// from one Snapshot if they have to belong together.
func (s *Store) Hash() uint64 { return s.Snapshot().Hash() }

// Subscribe returns a subscription to changes of any of the topics. The caller closes it.
func (s *Store) Subscribe(topics ...Topic) *Subscription { return s.topics.add(topics) }

// Apply applies the changes of the log entry at the index, all or none, and wakes the
// waiters and subscriptions. It sets CreateIndex, ModifyIndex and AssignIndex of the rows
// and keeps the rows: the caller must not touch them afterwards.
//
// It returns CodeConflict if a Version is not that of the row, and CodeInternal if the
// index is not above the last one or a change is malformed. Then the state is unchanged,
// including its index. The result is the same on every server.
func (s *Store) Apply(index uint64, changes []structs.Change) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	before := s.Snapshot()
	if index <= before.index {
		return structs.Errorf(structs.CodeInternal, "entry %d comes after entry %d, which is already applied", index, before.index)
	}
	steps, err := s.stepsOf(before, changes)
	if err != nil {
		return err
	}
	after := *before
	after.index = index
	var less freed
	if len(steps) > 0 {
		less = writeSteps(before, &after, steps)
	}
	s.publish(&after)
	s.events.record(index, steps)
	s.topics.publish(&after, steps, less)
	return nil
}

// freed is what an entry gives back.
type freed struct {
	emptied bool // a host has become empty
	quota   bool // a project uses less of its quota
}

// writeSteps applies the steps to after, a copy of before.
func writeSteps(before, after *Snapshot, steps []*step) (less freed) {
	w := newWriter(before, after)
	charged := charges.NewBatch(&before.charged)
	for _, st := range steps {
		after.hash += st.write(w, after.index)
		st.charge(charged)
		if st.row != nil {
			m := st.row.Base()
			after.lastSeq = max(after.lastSeq, m.Seq)
			after.lastTime = later(after.lastTime, m)
		}
	}
	writeLists(w, steps, after.index)
	return freed{emptied: w.moveUsage(steps), quota: after.charged.Apply(w.epoch, charged)}
}

func (s *Store) publish(now *Snapshot) {
	s.current.Store(now)
	s.waiters.reached(now.index)
}

// WaitIndex returns once the entry of the index is applied, or with the context's error.
func (s *Store) WaitIndex(ctx context.Context, index uint64) error {
	if s.Index() >= index {
		return nil
	}
	w := s.waiters.add(index)
	defer s.waiters.remove(w)
	if s.Index() >= index { // it was applied before the waiter was added
		return nil
	}
	select {
	case <-w.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
