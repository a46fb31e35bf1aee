package state

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"testing"
	"time"

	"github.com/stackforge/magnum/structs"
)

// golden reads a file of an earlier build.
func golden(t *testing.T, name string) []byte {
	t.Helper()
	f, err := os.Open("testdata/" + name + ".gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// schemaOf returns a cluster's row with a schema.
func schemaOf(schema int) *structs.Cluster {
	return &structs.Cluster{Meta: structs.Meta{ID: structs.ClusterRowID, Seq: 1}, ClusterID: "c1", Schema: schema}
}

func TestLastTimeIsKept(t *testing.T) {
	at := func(minute int) time.Time { return time.Date(2026, 1, 2, 3, minute, 5, 0, time.UTC) }
	timed := func(n uint64, created, updated, status time.Time) *structs.Node {
		row := node(n)
		row.CreatedAt, row.UpdatedAt, row.StatusAt = created, updated, status
		return row
	}
	s := New()
	if !s.Snapshot().LastTime().IsZero() {
		t.Error("an empty state has a time")
	}
	want := func(what string, minute int) {
		t.Helper()
		if got := s.Snapshot().LastTime(); !got.Equal(at(minute)) {
			t.Errorf("%s: %v, not %v", what, got, at(minute))
		}
	}
	none := time.Time{}
	mustApply(t, s, 1, put(schemaOf(structs.SchemaVersion), 0), put(timed(1, at(1), none, none), 0))
	want("created", 1)
	mustApply(t, s, 2, put(timed(2, at(2), at(9), at(3)), 0))
	want("updated", 9)
	mustApply(t, s, 3, put(timed(3, at(2), at(3), at(12)), 0))
	want("given a status", 12)
	mustApply(t, s, 4, put(timed(4, at(5), none, none), 0))
	want("an earlier one", 12)
	if _, err := s.Prepare(s.Snapshot(), &structs.Entry{Schema: 1, Changes: []structs.Change{put(timed(9, at(50), none, none),
		0)}}); err != nil {
		t.Fatal(err)
	}
	want("only prepared", 12)
	mustApply(t, s, 5, drop(node(3), 3))
	want("its row is gone", 12)
	stream := persisted(t, s)
	if again := restored(t, stream); !again.Snapshot().LastTime().Equal(at(12)) || !bytes.Equal(persisted(t, again), stream) {
		t.Errorf("restored: %v", again.Snapshot().LastTime())
	}
	// A snapshot of an earlier schema knows only the rows' times.
	mustApply(t, s, 6, put(schemaOf(structs.LeastSchema), 1))
	if again := restored(t, persisted(t, s)); !again.Snapshot().LastTime().Equal(at(9)) {
		t.Errorf("restored from one of schema %d: %v", structs.LeastSchema, again.Snapshot().LastTime())
	}
}

func TestLastTimeContinuesAfterRestoreInto(t *testing.T) {
	saved, archive := someArchive(t)
	written := restored(t, persisted(t, saved)).Snapshot().LastTime()
	for _, ahead := range []time.Duration{-time.Hour, time.Hour} {
		now := New()
		row := node(1)
		row.CreatedAt = written.Add(ahead)
		mustApply(t, now, 1, put(row, 0))
		snap, err := RestoreInto(bytes.NewReader(archive), now.Snapshot(), saved.Index()+100, func(*structs.Cluster) {})
		if err != nil {
			t.Fatal(err)
		}
		want := written
		if ahead > 0 {
			want = row.CreatedAt
		}
		if got := snap.LastTime(); !got.Equal(want) {
			t.Errorf("%v ahead: %v, not %v", ahead, got, want)
		}
	}
}

// TestSnapshotOfTheFirstSchema: a snapshot of an earlier build is read.
func TestSnapshotOfTheFirstSchema(t *testing.T) {
	s := restored(t, golden(t, "schema1.snap"))
	if got, want := s.Snapshot().LastTime(), time.Date(2026, 3, 4, 5, 6, 11, 0, time.UTC); !got.Equal(want) {
		t.Errorf("the last time is %v, not %v", got, want)
	}
	if FormatHash(s.Hash()) != "d1cf36047f6b9171" || s.Index() != 5 {
		t.Errorf("index %d, hash %s", s.Index(), FormatHash(s.Hash()))
	}
	if !bytes.Equal(persisted(t, s), golden(t, "schema1.snap")) {
		t.Error("the snapshot has other bytes than that of the earlier build, although the schema isn't raised")
	}
}
