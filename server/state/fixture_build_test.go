package state_test

import (
	"bytes"
	"testing"

	"github.com/stackforge/magnum/server/servertest/fixture"
	"github.com/stackforge/magnum/server/state"
)

// TestFixtureSnapshot: a snapshot of an earlier build is read into the same rows.
func TestFixtureSnapshot(t *testing.T) {
	archive := fixture.File(t, "saved.snap")
	is, err := state.Inspect(bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	stream, err := state.OpenArchive(bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	s := state.New()
	if err := s.Restore(stream); err != nil {
		t.Fatal(err)
	}
	if s.Index() != is.Index {
		t.Errorf("index %d, not %d", s.Index(), is.Index)
	}
	fixture.Same(t, "saved", fixture.RowsOf(s.Snapshot()))
}

// TestFixtureAllFields: no field of an earlier build's row is lost, in a snapshot or in an
// entry.
func TestFixtureAllFields(t *testing.T) {
	s := state.New()
	if err := s.Restore(bytes.NewReader(fixture.File(t, "all-fields.snap"))); err != nil {
		t.Fatal(err)
	}
	fixture.Same(t, "all-fields", fixture.RowsOf(s.Snapshot()))
	again := state.New()
	e, err := state.DecodeEntry(fixture.File(t, "all-fields.entry"))
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Apply(s.Index(), e.Changes); err != nil {
		t.Fatal(err)
	}
	rows := fixture.RowsOf(again.Snapshot())
	if len(rows) != 12 {
		t.Errorf("the entry has rows of %d tables, not of %d", len(rows), 12)
	}
	fixture.Same(t, "all-fields", rows)
}
