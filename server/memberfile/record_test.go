package memberfile

import (
	"bytes"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/stackforge/magnum/internal/fileid"
	"github.com/stackforge/magnum/structs"
)

var full = Record{
	ServerID: "11111111-1111-4111-8111-111111111111", ClusterID: "22222222-2222-4222-8222-222222222222", Voted: true, Stored: true,
	Place: Place{Dir: fileid.ID{Inode: 1, Birth: 2}, File: fileid.ID{Inode: 3, Birth: 4}, Next: fileid.ID{Inode: 5, Birth: 6}},
	Grant: &structs.PeerGrant{
		ClusterID: "33333333-3333-4333-8333-333333333333", Voters: []structs.PeerVoter{{ID: "a", RaftAddr: "192.0.2.1:9512"}},
	},
	Proposes: true, Abandoned: []string{"44444444-4444-4444-8444-444444444444"},
}

func TestWrittenRecordIsReadBack(t *testing.T) {
	dir := t.TempDir()
	if r, err := Read(dir); r != nil || err != nil {
		t.Fatalf("an empty directory has the record %+v, %v", r, err)
	}
	f, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := f.Update(func(r *Record) { *r = full }); err != nil {
			t.Fatal(err)
		}
		if r, err := Read(dir); err != nil || !reflect.DeepEqual(*r, full) || !reflect.DeepEqual(f.Now(), full) {
			t.Errorf("the file holds %+v and Now returns %+v, want %+v (%v)", r, f.Now(), full, err)
		}
		if f, err = Open(dir); err != nil {
			t.Fatal(err)
		}
	}
}

// TestUpdateWritesOnlyChanges: an Update that can't be written changes nothing, and a
// record that the file holds already is not written again.
func TestUpdateWritesOnlyChanges(t *testing.T) {
	dir := t.TempDir()
	f := Unwritten(dir, full)
	if r, err := Read(dir); r != nil || err != nil {
		t.Fatalf("%+v, %v", r, err)
	}
	if err := f.Update(func(*Record) {}); err != nil {
		t.Fatal(err)
	}
	if r, err := Read(dir); err != nil || !reflect.DeepEqual(*r, full) {
		t.Fatalf("%+v, %v", r, err)
	}
	if err := os.Mkdir(Path(dir)+".new", 0o700); err != nil { // from here on the file can't be replaced
		t.Fatal(err)
	}
	if err := f.Update(func(*Record) {}); err != nil {
		t.Errorf("an Update without a change wrote the file: %v", err)
	}
	if err := f.Update(func(r *Record) { r.ClusterID = "" }); err == nil || f.Now().ClusterID != full.ClusterID {
		t.Errorf("after an Update that can't be written the record is %+v (%v), want the one before", f.Now(), err)
	}
}

func TestDamagedRecordIsRefused(t *testing.T) {
	dir := t.TempDir()
	if err := Write(dir, full); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(Path(dir))
	if err != nil {
		t.Fatal(err)
	}
	for at := range whole {
		for _, b := range [][]byte{whole[:at], bytes.Join([][]byte{whole[:at], {whole[at] ^ 1<<(at%8)}, whole[at+1:]}, nil)} {
			if err := os.WriteFile(Path(dir), b, 0o600); err != nil {
				t.Fatal(err)
			}
			r, err := Read(dir)
			if err == nil || !strings.Contains(err.Error(), Path(dir)) || !strings.Contains(err.Error(), "damaged") ||
				!strings.Contains(err.Error(), "backup") {
				t.Fatalf("%q is read as %+v, %v", b, r, err)
			}
		}
	}
}

// TestPlaceHoldsLogAcrossRename: a file that is about to replace the log counts as the
// log both before and after the rename.
func TestPlaceHoldsLogAcrossRename(t *testing.T) {
	a, b, c := fileid.ID{Inode: 1, Birth: 10}, fileid.ID{Inode: 2, Birth: 20}, fileid.ID{Inode: 3, Birth: 30}
	for what, tc := range map[string]struct {
		kept, now Place
		want      bool
	}{
		"the same":           {Place{Dir: a, File: b}, Place{Dir: a, File: b}, true},
		"another directory":  {Place{Dir: a, File: b}, Place{Dir: c, File: b}, false},
		"another file":       {Place{Dir: a, File: b}, Place{Dir: a, File: c}, false},
		"a later birth":      {Place{Dir: a, File: b}, Place{Dir: a, File: fileid.ID{Inode: 2, Birth: 21}}, false},
		"births unknown":     {Place{Dir: fileid.ID{Inode: 1}, File: b}, Place{Dir: a, File: fileid.ID{Inode: 2}}, true},
		"another, no birth":  {Place{Dir: fileid.ID{Inode: 5}, File: b}, Place{Dir: a, File: b}, false},
		"before the rename":  {Place{Dir: a, File: b, Next: c}, Place{Dir: a, File: b}, true},
		"after the rename":   {Place{Dir: a, File: b, Next: c}, Place{Dir: a, File: c}, true},
		"neither, no rename": {Place{Dir: a, File: b}, Place{Dir: a}, false},
	} {
		if got := tc.kept.Holds(tc.now); got != tc.want {
			t.Errorf("%s: %v", what, got)
		}
	}
}
