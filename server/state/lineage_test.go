package state

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/stackforge/magnum/structs"
)

// TestLineagesInSnapshots: lineages survive Raft's own snapshots, up to the largest number.
// They are dropped from a state that an operator restores, because their indexes belong to
// another history. Quarantine is kept there without the decisions.
func TestLineagesInSnapshots(t *testing.T) {
	s := New()
	mustApply(t, s, 1, put(schemaOf(structs.SchemaVersion), 0))
	var l *structs.Lineages
	for n := range structs.MaxLineages {
		l = l.With(fmt.Sprintf("%08d-0000-4000-8000-000000000000", n), uint64(n))
	}
	q := &structs.Quarantine{Meta: structs.Meta{ID: structs.QuarantineID("h", 0)}, HostID: "h", Pending: true, Kept: []structs.Quarantined{
		{ContainerID: "c", Epoch: 1, Adoption: structs.AdoptionRemove}, {ContainerID: "d", Epoch: 2, Adoption: structs.AdoptionKeep},
	}}
	mustApply(t, s, 2, put(l, 0), put(q, 0))
	if size := ChangeSize(&structs.Change{Table: structs.TableLineages, ID: l.ID, Row: l}); size > structs.MaxEntry/8 {
		t.Errorf("the row takes %d bytes of an entry", size)
	}

	stream := persisted(t, s)
	again := New()
	if err := again.Restore(bytes.NewReader(stream)); err != nil {
		t.Fatal(err)
	}
	if got := again.Snapshot().Lineages(); len(got.Last) != structs.MaxLineages || got.Current() != l.Current() ||
		again.Snapshot().Hash() != s.Snapshot().Hash() {
		t.Errorf("%d lineages, the newest %s, hash %x and was %x", len(got.Last), got.Current(), again.Snapshot().Hash(),
			s.Snapshot().Hash())
	}
	if pages := again.Snapshot().Quarantine("h"); len(pages) != 1 || len(pages[0].Kept) != 2 || !pages[0].Pending ||
		len(again.Snapshot().Quarantine("g")) > 0 {
		t.Errorf("quarantine is %+v", pages)
	}

	var archive bytes.Buffer
	if err := WriteArchive(&archive, structs.SnapshotHead{}, s.Snapshot()); err != nil {
		t.Fatal(err)
	}
	base := New()
	mustApply(t, base, 1, put(schemaOf(structs.SchemaVersion), 0))
	mustApply(t, base, 2, put((*structs.Lineages)(nil).With("base", 2), 0))
	next, err := RestoreInto(&archive, base.Snapshot(), 100, func(*structs.Cluster) {})
	if err != nil {
		t.Fatal(err)
	}
	if next.Lineages().Current() != "" || next.Lineages().Holds("base", 2) || next.Lineages().Holds(l.Current(), 5000) {
		t.Errorf("lineages after a restore: %+v", next.Lineages())
	}
	for _, k := range next.Quarantine("h")[0].Kept {
		if k.Adoption != structs.AdoptionNone {
			t.Errorf("%s is still to be adopted: %s", k.ContainerID, k.Adoption)
		}
	}
	var out bytes.Buffer
	if err := PersistSnapshot(next, &out); err != nil {
		t.Fatal(err)
	}
	if err := New().Restore(&out); err != nil {
		t.Errorf("the hash does not add up: %v", err)
	}
}

// TestTablesOfLaterSchemas: entries of an earlier schema don't contain these tables,
// because older servers don't know them.
func TestTablesOfLaterSchemas(t *testing.T) {
	for _, row := range []structs.Row{(*structs.Lineages)(nil).With("a", 1),
		&structs.Quarantine{Meta: structs.Meta{ID: structs.QuarantineID("h", 0)}}} {
		entry := &structs.Entry{Schema: structs.LeastSchema, Changes: []structs.Change{{Table: row.Table(), ID: row.Base().ID, Row: row}}}
		if _, err := EncodeEntry(entry); err == nil {
			t.Errorf("%s: encoded in schema %d", row.Table(), entry.Schema)
		}
		entry.Schema = structs.SchemaVersion
		b, err := EncodeEntry(entry)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeEntry(b); err != nil {
			t.Error(err)
		}
	}
}
