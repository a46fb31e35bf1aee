package agent

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stackforge/magnum/structs"
)

// opened opens a journal that has no damage.
func opened(t testing.TB, path string) *journal {
	t.Helper()
	j, damaged, err := openJournal(path)
	if err != nil || damaged != 0 {
		t.Fatalf("journal: %v, %d damaged lines", err, damaged)
	}
	t.Cleanup(func() { _ = j.close() })
	return j
}

func filled(t testing.TB, path string) (*journal, []record) {
	t.Helper()
	j := opened(t, path)
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	records := []record{
		{Ref: structs.ContainerRef("a", 1), Generation: 2, Created: true, Restarts: 3},
		{Ref: structs.ContainerRef("a", 2), Intent: &intent{Generation: 4, StartedAt: at}},
		{Ref: structs.ContainerRef("b", 1), Generation: 1, Failed: true, Reason: "line\nbreak"},
	}
	for _, r := range records {
		if err := j.put(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.advance(position{ClusterID: "c", Incarnation: 2, Index: 77}); err != nil {
		t.Fatal(err)
	}
	return j, records
}

func TestJournalIsReadAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	j, records := filled(t, path)
	if err := j.forget(records[2].Ref); err != nil {
		t.Fatal(err)
	}
	if err := j.close(); err != nil {
		t.Fatal(err)
	}
	if err := j.put(records[0]); err == nil {
		t.Error("a closed journal takes a record")
	}
	again := opened(t, path)
	for _, want := range records[:2] {
		if got, ok := again.record(want.Ref); !ok || !reflect.DeepEqual(got, want) {
			t.Errorf("record is %+v, want %+v", got, want)
		}
	}
	if _, ok := again.record(records[2].Ref); ok {
		t.Error("a forgotten record is back")
	}
	if got := again.position(); got != (position{ClusterID: "c", Incarnation: 2, Index: 77}) {
		t.Errorf("position is %+v", got)
	}
}

// TestJournalTornAnywhere cuts the file at each byte. Whole lines are read, and so is
// what is written afterwards.
func TestJournalTornAnywhere(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "j")
	j, records := filled(t, path)
	_ = j.close()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for cut := range len(whole) {
		torn := filepath.Join(dir, "torn")
		if err := os.WriteFile(torn, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		j, damaged, err := openJournal(torn)
		if err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		lines := bytes.Count(whole[:cut], []byte("\n"))
		if want := min(max(lines-1, 0), 3); len(j.records) != want {
			t.Fatalf("cut at %d after %d lines: %d records, want %d", cut, lines, len(j.records), want)
		}
		if atEnd := cut == 0 || whole[cut-1] == '\n'; atEnd != (damaged == 0) {
			t.Fatalf("cut at %d: %d damaged lines", cut, damaged)
		}
		if err := j.put(records[0]); err != nil {
			t.Fatal(err)
		}
		_ = j.close()
		again := opened(t, torn)
		if got, _ := again.record(records[0].Ref); !reflect.DeepEqual(got, records[0]) {
			t.Fatalf("cut at %d: what was written afterwards is %+v", cut, got)
		}
		_ = again.close()
	}
}

func TestJournalSkipsDamage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	j, _ := filled(t, path)
	_ = j.close()
	whole, _ := os.ReadFile(path)
	lines := bytes.SplitAfter(whole, []byte("\n"))
	lines[1][20] ^= 1
	lines = append(lines, []byte(strings.Repeat("x", 3*maxLine)+"\n"), []byte("\x00\x00\n"))
	if err := os.WriteFile(path, bytes.Join(lines, nil), 0o600); err != nil {
		t.Fatal(err)
	}
	j, damaged, err := openJournal(path)
	if err != nil || damaged < 3 || len(j.records) != 2 {
		t.Fatalf("%v, %d damaged, %d records", err, damaged, len(j.records))
	}
	_ = j.close()
}

func TestJournalIsCompacted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	j := opened(t, path)
	for i := range uint64(compactAt + 100) {
		if err := j.put(record{Ref: structs.ContainerRef("a", 1), Generation: i}); err != nil {
			t.Fatal(err)
		}
	}
	fi, err := os.Stat(path)
	if err != nil || fi.Size() > 100*100 {
		t.Fatalf("the file has %d bytes, %v", fi.Size(), err)
	}
	_ = j.close()
	if r, _ := opened(t, path).record(structs.ContainerRef("a", 1)); r.Generation != compactAt+99 {
		t.Fatalf("record is %+v", r)
	}
}

func FuzzJournal(f *testing.F) {
	path := filepath.Join(f.TempDir(), "j")
	j, _ := filled(f, path)
	_ = j.close()
	whole, _ := os.ReadFile(path)
	f.Add(whole)
	f.Add([]byte{})
	f.Add([]byte("00000000 {}\n"))
	f.Add(encodeLine(line{}))
	f.Add(encodeLine(line{Record: &record{}, Seen: &position{}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		j := &journal{records: map[structs.Ref]record{}}
		if _, err := j.read(bytes.NewReader(b)); err != nil {
			t.Fatal(err)
		}
		// What was read is written in a form that reads the same.
		again := &journal{records: map[structs.Ref]record{}}
		buf := encodeLine(line{Seen: &j.seen})
		for _, r := range j.records {
			l := encodeLine(line{Record: &r})
			if len(l) > maxLine {
				return
			}
			buf = append(buf, l...)
		}
		damaged, err := again.read(bytes.NewReader(buf))
		if err != nil || damaged != 0 || again.seen != j.seen || len(again.records) != len(j.records) {
			t.Fatalf("%v, %d damaged; %+v, want %+v", err, damaged, again, j)
		}
	})
}

func TestDataDirHasOneAgent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "dir")
	d, err := openDir(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openDir(path); structs.CodeOf(err) != structs.CodeConflict || !strings.Contains(err.Error(), path) {
		t.Fatalf("a second agent gets %v", err)
	}
	if !structs.IsID(d.hostID) || len(d.secret) < 32 {
		t.Fatalf("identity is %q, %d characters", d.hostID, len(d.secret))
	}
	fi, err := os.Stat(d.file(fileSecret))
	if err != nil || fi.Mode().Perm() != 0o600 {
		t.Fatalf("secret's mode is %v, %v", fi.Mode(), err)
	}
	if err := d.close(); err != nil {
		t.Fatal(err)
	}
	again, err := openDir(path)
	if err != nil || again.hostID != d.hostID || again.secret != d.secret {
		t.Fatalf("identity has changed: %v", err)
	}
	_ = again.close()
	if err := os.WriteFile(d.file(fileHost), []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openDir(path); structs.CodeOf(err) != structs.CodeInvalid {
		t.Fatalf("a host id that is none gives %v", err)
	}
}
