package state

import (
	"bytes"
	"fmt"
	"maps"
	"reflect"
	"strings"
	"testing"

	"github.com/stackforge/magnum/structs"
)

// largeContainer returns a typical container with a spec of about the given size.
func largeContainer(n uint64, size int) *structs.Container {
	c := typicalContainer(n)
	c.Spec.Environment = map[string]string{"LARGE": strings.Repeat("l", size)}
	return c
}

// specRow returns the row of the container's spec.
func specRow(c *structs.Container) *structs.StoredSpec {
	return &structs.StoredSpec{Meta: structs.Meta{ID: c.ID, Seq: c.Seq, ProjectID: c.ProjectID}, Spec: c.Spec}
}

// bare returns a change of a container with a separate spec.
func bare(c *structs.Container, version uint64) structs.Change {
	ch := assign(c, version)
	ch.SpecApart = true
	return ch
}

// sent returns the changes as a server decodes them.
func sent(t testing.TB, changes ...structs.Change) []structs.Change {
	t.Helper()
	size := EntryHead
	for i := range changes {
		size += ChangeSize(&changes[i])
	}
	data, err := EncodeEntry(&structs.Entry{Schema: structs.SchemaVersion, Term: 1, Changes: changes})
	if err != nil {
		t.Fatal(err)
	}
	if len(data) > size || len(data) < size-EntryHead {
		t.Errorf("an entry of %d bytes was computed to have %d", len(data), size)
	}
	e, err := DecodeEntry(data)
	if err != nil {
		t.Fatal(err)
	}
	return e.Changes
}

func TestSeparateSpec(t *testing.T) {
	s := New()
	mustApply(t, s, 1, put(schemaOf(structs.SchemaVersion), 0))
	want := largeContainer(1, 50<<10)
	spec := want.Spec
	mustApply(t, s, 2, sent(t, bare(want, 0), put(specRow(want), 0))...)
	check := func(what string, index uint64) {
		t.Helper()
		c := s.Snapshot().Container(want.ID)
		if c == nil || !reflect.DeepEqual(c.Spec, spec) || c.ModifyIndex != index || c.AssignIndex != index {
			t.Fatalf("%s: the container is %+v", what, c)
		}
		checkDerived(t, s.Snapshot())
		again := restored(t, persisted(t, s))
		sameState(t, what, again, s)
		checkDerived(t, again.Snapshot())
		if n, err := Verify(bytes.NewReader(persisted(t, s))); err != nil || n != s.Index() {
			t.Errorf("%s: the snapshot is of index %d: %v", what, n, err)
		}
	}
	check("made", 2)
	// A change that moves the container doesn't contain its spec, and is small.
	moved := largeContainer(1, 0)
	moved.Spec = structs.PrivateSpec{}
	moved.HostID = "another"
	if size := ChangeSize(&structs.Change{Table: structs.TableContainers, ID: moved.ID, Row: want, SpecApart: true}); size > 2<<10 {
		t.Errorf("a change without its spec has %d bytes", size)
	}
	hash := s.Hash()
	mustApply(t, s, 3, sent(t, bare(moved, 2))...)
	check("moved", 3)
	if memory := s.Snapshot().Container(want.ID).Reserved().Memory; s.Snapshot().Usage("another").Memory != memory || memory == 0 {
		t.Error("its reservation is not that of its spec")
	}
	if specs := specOf(s.Snapshot(), want.ID); specs.ModifyIndex != 2 {
		t.Errorf("its spec is of index %d", specs.ModifyIndex)
	}
	// Another spec gives another state.
	changed := largeContainer(1, 50<<10)
	changed.Spec.Environment = maps.Clone(changed.Spec.Environment)
	changed.Spec.Environment["LARGE"] = "L" + changed.Spec.Environment["LARGE"][1:]
	one, other := restored(t, persisted(t, s)), restored(t, persisted(t, s))
	mustApply(t, one, 4, sent(t, bare(largeContainer(1, 50<<10), 3), put(specRow(largeContainer(1, 50<<10)), 2))...)
	mustApply(t, other, 4, sent(t, bare(changed, 3), put(specRow(changed), 2))...)
	if one.Hash() == other.Hash() || one.Hash() == hash {
		t.Error("the hash doesn't cover the spec")
	}
	// The spec may become small again, and is deleted with its container.
	small := typicalContainer(1)
	spec = typicalContainer(1).Spec
	mustApply(t, s, 4, sent(t, assign(small, 3), drop(specRow(want), 2))...)
	check("small again", 4)
	if s.Snapshot().HasSpecs() {
		t.Error("the row of its spec is left")
	}
	spec = largeContainer(1, 9<<10).Spec
	mustApply(t, s, 5, sent(t, put(specRow(largeContainer(1, 9<<10)), 0), bare(largeContainer(1, 9<<10), 4))...)
	check("large again", 5)
	mustApply(t, s, 6, sent(t, drop(want, 5), drop(specRow(want), 5))...)
	if s.Snapshot().Container(want.ID) != nil || s.Snapshot().HasSpecs() {
		t.Error("a row is left")
	}
	checkDerived(t, s.Snapshot())
}

// TestSpecAndContainerMustMatch: an entry that would leave a container or its spec without
// the other is refused and changes nothing. Prepare refuses it as well.
func TestSpecAndContainerMustMatch(t *testing.T) {
	large, small := largeContainer(1, 9<<10), typicalContainer(2)
	s := New()
	mustApply(t, s, 1, put(schemaOf(structs.SchemaVersion), 0))
	mustApply(t, s, 2, sent(t, put(specRow(large), 0), bare(large, 0), assign(small, 0))...)
	fresh := largeContainer(3, 9<<10)
	for name, changes := range map[string][]structs.Change{
		"no spec":                   {bare(fresh, 0)},
		"a spec alone":              {put(specRow(fresh), 0)},
		"two specs":                 {put(specRow(fresh), 0), assign(fresh, 0)},
		"a spec left behind":        {drop(large, 2)},
		"a container left behind":   {drop(specRow(large), 2)},
		"a spec changed alone":      {put(specRow(large), 2)},
		"a spec gone":               {bare(large, 2), drop(specRow(large), 2)},
		"a second spec":             {assign(large, 2)},
		"a container created again": {drop(small, 2), bare(typicalContainer(2), 0)},
		"a container after a drop":  {drop(large, 2), drop(specRow(large), 2), bare(large, 2)},
	} {
		before, hash := s.Snapshot(), s.Hash()
		if err := s.Apply(3, sent(t, changes...)); err == nil {
			t.Fatalf("%s: applied", name)
		}
		if s.Snapshot() != before || s.Hash() != hash {
			t.Fatalf("%s: refused, but the state has changed", name)
		}
		if _, err := s.Prepare(before, &structs.Entry{Schema: structs.SchemaVersion, Changes: changes}); err == nil {
			t.Errorf("%s: prepared", name)
		}
	}
	for name, ch := range map[string]structs.Change{"its own row": put(specRow(large), 0), "a change without it": bare(large, 2)} {
		if _, err := EncodeEntry(&structs.Entry{Schema: structs.LeastSchema, Changes: []structs.Change{ch}}); err == nil {
			t.Errorf("a spec in %s: encoded in schema %d", name, structs.LeastSchema)
		}
		data, err := EncodeEntry(&structs.Entry{Schema: structs.SchemaSpecs, Changes: []structs.Change{ch}})
		if err != nil {
			t.Fatal(err)
		}
		data[1] = structs.LeastSchema
		if _, err := DecodeEntry(sealed(data)); err == nil || !strings.Contains(err.Error(), "of schema 1") {
			t.Errorf("a spec in %s: decoded in schema %d: %v", name, structs.LeastSchema, err)
		}
	}
}

// TestSpecsOfEarlierBuilds: entries and snapshots of earlier builds are read. Every server
// moves a large spec to a separate row with the first change that says so.
func TestSpecsOfEarlierBuilds(t *testing.T) {
	replayed := New()
	e, err := DecodeEntry(golden(t, "schema1.entry"))
	if err != nil {
		t.Fatal(err)
	}
	mustApply(t, replayed, 5, e.Changes...)
	fromSnapshot := restored(t, golden(t, "schema1.snap"))
	sameState(t, "restored and replayed", replayed, fromSnapshot)
	cluster := *replayed.Snapshot().Cluster()
	cluster.Schema = structs.SchemaVersion
	for i, s := range []*Store{replayed, fromSnapshot} {
		before := persisted(t, s)
		raised := cluster
		mustApply(t, s, 6, sent(t, put(&raised, 5))...)
		if i == 1 { // one of them in between
			s = restored(t, persisted(t, s))
			fromSnapshot = s
		}
		var changes []structs.Change
		for _, id := range []string{"small", "large", "huge"} {
			c := *s.Snapshot().Container(id)
			c.HostID = "elsewhere"
			if id == "small" {
				changes = append(changes, assign(&c, 5))
			} else {
				changes = append(changes, bare(&c, 5))
			}
		}
		mustApply(t, s, 7, sent(t, changes...)...)
		for _, id := range []string{"large", "huge"} {
			c, spec := s.Snapshot().Container(id), specOf(s.Snapshot(), id)
			if c.HostID != "elsewhere" || spec == nil || !reflect.DeepEqual(c.Spec, spec.Spec) || len(c.Spec.Environment["BIG"]) < 20<<10 {
				t.Fatalf("%s: %s, %+v", id, c.HostID, spec)
			}
		}
		if len(persisted(t, s)) > len(before)+1000 {
			t.Error("the snapshot contains the specs twice")
		}
		checkDerived(t, s.Snapshot())
	}
	sameState(t, "moved", replayed, fromSnapshot)
	sameState(t, "moved and restored", replayed, restored(t, persisted(t, replayed)))
}

// TestOversizedEntryIsApplied: a log may contain an oversized entry of an earlier build.
// New entries are bounded, but committed ones have to be applied.
func TestOversizedEntryIsApplied(t *testing.T) {
	var changes []structs.Change
	for n := range uint64(30) {
		changes = append(changes, assign(largeContainer(n+1, 900<<10), 0))
	}
	data, err := EncodeEntry(&structs.Entry{Schema: structs.LeastSchema, Term: 1, Changes: changes})
	if err != nil {
		t.Fatal(err)
	}
	if len(data) < 20*structs.MaxEntry {
		t.Fatalf("the entry has only %d bytes", len(data))
	}
	s := New()
	e, err := s.Entry(data)
	if err != nil {
		t.Fatal(err)
	}
	mustApply(t, s, 1, e.Changes...)
	sameState(t, "restored", restored(t, persisted(t, s)), s)
	mustApply(t, s, 2, put(schemaOf(structs.SchemaVersion), 0))
	for i := range changes {
		c := *s.Snapshot().Container(changes[i].ID)
		c.HostID = ""
		ch := bare(&c, 1)
		if size := ChangeSize(&ch); size > 2<<10 {
			t.Fatalf("the next change of a container has %d bytes", size)
		}
		mustApply(t, s, uint64(3+i), sent(t, ch)...)
	}
}

// TestContainerWithItsSeparateSpecIsRefused: a container whose spec is separate must not
// contain it as well. A row's hash is that of its bytes in the entry, and a snapshot writes
// the row without the spec.
func TestContainerWithItsSeparateSpecIsRefused(t *testing.T) {
	data, err := EncodeEntry(&structs.Entry{Schema: structs.SchemaVersion, Changes: []structs.Change{assign(typicalContainer(1), 0)}})
	if err != nil {
		t.Fatal(err)
	}
	data[entryHead+4] |= flagApart
	if _, err := DecodeEntry(sealed(data)); err == nil || !strings.Contains(err.Error(), "contains its spec as well") {
		t.Errorf("decoded: %v", err)
	}
}

func TestSnapshotOfASpecWithoutContainerIsRefused(t *testing.T) {
	large := largeContainer(1, 9<<10)
	s := New()
	mustApply(t, s, 1, put(schemaOf(structs.SchemaVersion), 0))
	w := newWriter(nil, s.current.Load())
	row := specRow(large)
	w.put(structs.TableSpecs, nil, &record{row: row, hash: rowHash(row, nil, false)})
	s.current.Load().hash += rowHash(row, nil, false)
	stream := persisted(t, s)
	if err := New().Restore(bytes.NewReader(stream)); err == nil || !strings.Contains(err.Error(), "specs of 1 workloads") {
		t.Errorf("restored: %v", err)
	}
	if _, err := Verify(bytes.NewReader(stream)); err == nil {
		t.Error("verified")
	}
}

func TestRestoreIntoKeepsSpecs(t *testing.T) {
	s := New()
	mustApply(t, s, 1, put(schemaOf(structs.SchemaVersion), 0))
	large := largeContainer(1, 9<<10)
	mustApply(t, s, 2, sent(t, put(specRow(large), 0), bare(large, 0))...)
	snap, err := RestoreInto(bytes.NewReader(persisted(t, s)), New().Snapshot(), 100, func(*structs.Cluster) {})
	if err != nil {
		t.Fatal(err)
	}
	checkDerived(t, snap)
	if c, spec := snap.Container(large.ID), specOf(snap, large.ID); c.ModifyIndex != 100 || spec.ModifyIndex != 100 ||
		!reflect.DeepEqual(c.Spec, spec.Spec) {
		t.Errorf("%+v, %+v", c, spec)
	}
}

func TestSpecSize(t *testing.T) {
	for _, c := range []*structs.Container{typicalContainer(1), largeContainer(1, 100), largeContainer(1, 70<<10), {}} {
		with, _ := EncodeEntry(&structs.Entry{Schema: 2, Changes: []structs.Change{{Table: structs.TableSpecs, ID: "x",
			Row: &structs.StoredSpec{Meta: structs.Meta{ID: "x"}, Spec: c.Spec}}}})
		without, _ := EncodeEntry(&structs.Entry{Schema: 2, Changes: []structs.Change{{Table: structs.TableSpecs, ID: "x",
			Row: &structs.StoredSpec{Meta: structs.Meta{ID: "x"}}}}})
		size, largest, of := SpecSize(c.StoredSpec())
		lengths := 2 // of the row, before its bytes
		if got := len(with) - len(without) + 1; size > got || size < got-lengths {
			t.Errorf("%d bytes instead of %d", size, got)
		}
		if len(c.Spec.Environment["LARGE"]) > 0 && (largest != "Environment" || of < len(c.Spec.Environment["LARGE"])) {
			t.Errorf("the largest is %s with %d bytes", largest, of)
		}
	}
}

// BenchmarkApplyReport applies a report of 99 containers, with small specs and with the
// largest.
func BenchmarkApplyReport(b *testing.B) {
	for _, size := range []int{100, structs.MaxSpec - 2<<10} {
		b.Run(fmt.Sprintf("spec=%d", size), func(b *testing.B) {
			s := New()
			mustApply(b, s, 1, put(schemaOf(structs.SchemaVersion), 0))
			var made []structs.Change
			for n := range uint64(structs.MaxReport) {
				c := largeContainer(n+1, size)
				if size > structs.MaxInlineSpec {
					made = append(made, put(specRow(c), 0), bare(c, 0))
				} else {
					made = append(made, assign(c, 0))
				}
			}
			mustApply(b, s, 2, sent(b, made...)...)
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				index := uint64(3 + i)
				var changes []structs.Change
				for n := range uint64(structs.MaxReport) {
					c := *s.Snapshot().Container(testID(n + 1))
					ch := put(&c, c.ModifyIndex)
					ch.SpecApart = size > structs.MaxInlineSpec
					changes = append(changes, ch)
				}
				mustApply(b, s, index, sent(b, changes...)...)
			}
		})
	}
}
