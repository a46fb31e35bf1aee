package state

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"strings"
	"testing"
	"time"

	"github.com/stackforge/magnum/structs"
)

// someArchive returns a state with a cluster's row, and an archive of that state.
func someArchive(t testing.TB) (*Store, []byte) {
	t.Helper()
	s, _ := someSnapshot(t, 20)
	if old := s.Snapshot().Cluster(); old == nil {
		c := &structs.Cluster{Meta: structs.Meta{ID: structs.ClusterRowID, Seq: 1_000_000}, ClusterID: "c1", Incarnation: 3}
		mustApply(t, s, s.Index()+1, put(c, 0))
	}
	var b bytes.Buffer
	head := structs.SnapshotHead{Term: 7, SavedAt: structs.Time{Time: time.Unix(1_700_000_000, 0)}, SavedBy: "s1", Version: "1.2"}
	if err := WriteArchive(&b, head, s.Snapshot()); err != nil {
		t.Fatal(err)
	}
	return s, b.Bytes()
}

func TestInspectDescribesAnArchive(t *testing.T) {
	s, b := someArchive(t)
	snap := s.Snapshot()
	info, err := Inspect(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	if info.Index != snap.Index() || info.Hash != FormatHash(snap.Hash()) || info.Size != int64(len(b)) ||
		info.Schema != snap.Cluster().SchemaInUse() ||
		info.Term != 7 || info.SavedBy != "s1" || info.Version != "1.2" || info.SavedAt.Unix() != 1_700_000_000 ||
		info.ClusterID != snap.Cluster().ClusterID || info.Incarnation != snap.Cluster().Incarnation {
		t.Errorf("%+v", info)
	}
	for _, table := range Tables() {
		if want := snap.table(table)[indexID].Len(); info.Rows[table] != want {
			t.Errorf("%d rows of %s, want %d", info.Rows[table], table, want)
		}
	}
	plain := persisted(t, s)
	if info, err := Inspect(bytes.NewReader(plain)); err != nil || info.Index != snap.Index() || info.Term != 0 ||
		info.Size != int64(len(plain)) {
		t.Errorf("a server's own snapshot: %+v, %v", info, err)
	}
}

func TestDamagedArchiveIsRefused(t *testing.T) {
	s, good := someArchive(t)
	base := New().Snapshot()
	refused := func(what string, at int, b []byte) {
		t.Helper()
		_, err := Inspect(bytes.NewReader(b))
		if err == nil || !strings.HasPrefix(err.Error(), "snapshot: ") {
			t.Fatalf("%s at %d of %d: %v", what, at, len(good), err)
		}
		if _, rerr := RestoreInto(bytes.NewReader(b), base, s.Index()+1, func(*structs.Cluster) {}); rerr == nil ||
			rerr.Error() != err.Error() {
			t.Fatalf("%s at %d: Inspect says %v, RestoreInto says %v", what, at, err, rerr)
		}
	}
	for at := 0; at < len(good); at++ {
		refused("cut", at, good[:at])
		b := bytes.Clone(good)
		b[at] ^= 1 << (at % 8)
		refused("flip", at, b)
		if at > 200 { // after the head
			at += len(good) / 300
		}
	}
	refused("added", len(good), append(bytes.Clone(good), 0))
	for _, foreign := range []string{"", "A", "hello, this is no snapshot at all", "A\x00\x00\x00\x02{}",
		"\x1f\x8b\x08\x00\x00\x00\x00\x00"} {
		refused("foreign "+foreign, 0, []byte(foreign))
	}
	if _, err := Inspect(strings.NewReader("hello, this is no snapshot")); err == nil ||
		!strings.Contains(err.Error(), "not a snapshot of magnum") {
		t.Errorf("a text: %v", err)
	}
	later := persisted(t, s)
	binary.BigEndian.PutUint16(later[5+len(magic):], uint16(structs.SchemaVersion+1))
	fixSum(later)
	if _, err := Inspect(bytes.NewReader(later)); err == nil || !strings.Contains(err.Error(), "newer one") {
		t.Errorf("of a later schema: %v", err)
	}
}

// fixSum corrects the checksum of a stream's first frame.
func fixSum(b []byte) {
	end := 5 + int(binary.BigEndian.Uint32(b[1:]))
	binary.BigEndian.PutUint32(b[end:], crc32.Checksum(b[:end], castagnoli))
}

// TestRestoreIntoContinuesTheState: every row and list changes at the index, deleted ones
// too, and nothing else changes except what was asked for.
func TestRestoreIntoContinuesTheState(t *testing.T) {
	saved, archive := someArchive(t)
	now := restored(t, persisted(t, saved))
	index := now.Index()
	extra := &structs.Node{Meta: structs.Meta{ID: "extra", ProjectID: "new", Seq: 2_000_000}}
	mustApply(t, now, index+1, put(extra, 0))
	index += 10
	got, err := RestoreInto(bytes.NewReader(archive), now.Snapshot(), index, func(c *structs.Cluster) { c.Incarnation++ })
	if err != nil {
		t.Fatal(err)
	}
	was := saved.Snapshot()
	if got.Index() != index || got.LastSeq() != 2_000_000 || got.Cluster().Incarnation != was.Cluster().Incarnation+1 {
		t.Errorf("index %d, seq %d, %+v", got.Index(), got.LastSeq(), got.Cluster())
	}
	for _, table := range Tables() {
		if got.table(table)[indexID].Len() != was.table(table)[indexID].Len() {
			t.Errorf("%d rows of %s, want %d", got.table(table)[indexID].Len(), table, was.table(table)[indexID].Len())
		}
		for row := range was.List(table, AllProjects, 0) {
			again := got.Get(table, row.Base().ID)
			if again == nil || again.Base().ModifyIndex != index || again.Base().CreateIndex != row.Base().CreateIndex ||
				assignIndex(again) != assignIndex(row) {
				t.Errorf("%s %s is %+v", table, row.Base().ID, again)
			}
			if at := got.ListIndex(table, row.Base().ProjectID); at != index {
				t.Errorf("list of %s in %q has changed at %d", table, row.Base().ProjectID, at)
			}
		}
	}
	if got.ListIndex(structs.TableNodes, "new") != index || got.ListIndex(structs.TableNodes, AllProjects) != index {
		t.Error("a list that has become empty has not changed")
	}
	for row := range was.List(structs.TableHosts, AllProjects, 0) {
		before, after := row.(*structs.Host).Registration, got.Host(row.Base().ID).Registration
		if after != before+1 {
			t.Errorf("host %s of registration %d need not register again, or the number leaps too far: %d", row.Base().ID, before, after)
		}
	}
	// Another cluster doesn't know how often hosts have registered since.
	elsewhere, err := RestoreInto(bytes.NewReader(archive), New().Snapshot(), index, func(*structs.Cluster) {})
	if err != nil {
		t.Fatal(err)
	}
	for row := range was.List(structs.TableHosts, AllProjects, 0) {
		before, after := row.(*structs.Host).Registration, elsewhere.Host(row.Base().ID).Registration
		if after != before+registrationLeap {
			t.Errorf("host %s of registration %d has %d elsewhere", row.Base().ID, before, after)
		}
	}
	checkDerived(t, got)
	var b bytes.Buffer
	if err := PersistSnapshot(got, &b); err != nil {
		t.Fatal(err)
	}
	if s := restored(t, b.Bytes()); s.Hash() != got.Hash() || s.Index() != index {
		t.Errorf("written and read again: %d, %016x; want %d, %016x", s.Index(), s.Hash(), index, got.Hash())
	}
}

func TestRestoreIntoRefusals(t *testing.T) {
	saved, archive := someArchive(t)
	if _, err := RestoreInto(bytes.NewReader(archive), New().Snapshot(), saved.Index(), func(*structs.Cluster) {}); err == nil ||
		!strings.Contains(err.Error(), "not above") {
		t.Errorf("an index that is not above the present one: %v", err)
	}
	var b bytes.Buffer
	if err := WriteArchive(&b, structs.SnapshotHead{}, New().Snapshot()); err != nil {
		t.Fatal(err)
	}
	if _, err := RestoreInto(&b, New().Snapshot(), 9, func(*structs.Cluster) {}); err == nil ||
		!strings.Contains(err.Error(), "no cluster") {
		t.Errorf("without a cluster: %v", err)
	}
}

func FuzzInspect(f *testing.F) {
	_, archive := someArchive(f)
	f.Add(archive[:300])
	f.Add(archive)
	f.Fuzz(func(t *testing.T, b []byte) {
		info, err := Inspect(bytes.NewReader(b))
		s, rerr := RestoreInto(bytes.NewReader(b), New().Snapshot(), 1<<62, func(*structs.Cluster) {})
		if err != nil && rerr == nil {
			t.Errorf("Inspect refuses with %v, RestoreInto does not", err)
		}
		if rerr == nil && s.table(structs.TableContainers)[indexID].Len() != info.Rows[structs.TableContainers] {
			t.Errorf("%+v is not the restored state", info)
		}
	})
}
