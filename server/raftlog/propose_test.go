package raftlog

import (
	"context"
	"strings"
	"testing"

	"github.com/stackforge/magnum/structs"
)

// TestTooLargeEntryIsNotProposed: an entry above the limit is refused before it is in
// the log, and the server keeps leading.
func TestTooLargeEntryIsNotProposed(t *testing.T) {
	m := start(t, testConfig(t, t.TempDir()))
	m.put(1)
	sized := func(n, size int) []byte {
		change := nodeChange(n)
		row := change.Row.(*structs.Node)
		entry := func() []byte { return encode(t, m.Term(), m.config.Store.Index(), change) }
		row.Type = strings.Repeat("x", size-1000)
		row.Type += strings.Repeat("x", size-len(entry()))
		whole := entry()
		if len(whole) != size {
			t.Fatalf("the entry has %d bytes, not %d", len(whole), size)
		}
		return whole
	}
	term, index, last := m.Term(), m.config.Store.Index(), m.Figures().LastIndex
	if _, err := m.Propose(context.Background(), sized(2, structs.MaxEntry+1)); structs.CodeOf(err) != structs.CodeTooLarge {
		t.Errorf("an entry that is too large: %v", err)
	}
	if m.config.Store.Index() != index || m.Figures().LastIndex != last {
		t.Error("an entry that was refused is in the log")
	}
	if _, err := m.Propose(context.Background(), sized(3, structs.MaxEntry)); err != nil {
		t.Errorf("the largest entry that may be: %v", err)
	}
	if m.Term() != term {
		t.Error("the leadership was lost")
	}
}

// TestTooLargeEntryOfLogIsApplied: an earlier build may have written it.
func TestTooLargeEntryOfLogIsApplied(t *testing.T) {
	c := testConfig(t, t.TempDir())
	m := start(t, c)
	change := nodeChange(1)
	change.Row.(*structs.Node).Type = strings.Repeat("x", 3*structs.MaxEntry)
	if err := m.raft.Apply(encode(t, m.Term(), m.config.Store.Index(), change), patience).Error(); err != nil {
		t.Fatal(err)
	}
	m.put(2)
	before := m.config.Store
	m.stop()
	c = testConfig(t, c.DataDir)
	again := start(t, c)
	if again.config.Store.Snapshot().Get(structs.TableNodes, change.ID) == nil {
		t.Error("the row of the entry is gone")
	}
	sameState(t, again.config.Store, before)
	again.put(3)
}
