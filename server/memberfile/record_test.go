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
	Place:    Place{Dir: fileid.ID{Inode: 1, Birth: 2}, File: fileid.ID{Inode: 3, Birth: 4}, Next: fileid.ID{Inode: 5, Birth: 6}},
	Grant:    &structs.PeerGrant{ClusterID: "33333333-3333-4333-8333-333333333333", Voters: []structs.PeerVoter{{ID: "a", RaftAddr: "192.0.2.1:9512"}}},
	Proposes: true, Abandoned: []string{"44444444-4444-4444-8444-444444444444"},
}

func TestRecordIsReadAgain(t *testing.T) {
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
			t.Errorf("the record is %+v and %+v, not %+v: %v", r, f.Now(), full, err)
		}
		if f, err = Open(dir); err != nil {
			t.Fatal(err)
		}
	}
}

// What can't be written has not been changed, and what the file holds is not written
// again.
func TestUpdate(t *testing.T) {
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
	if err := os.Mkdir(Path(dir)+".new", 0o700); err != nil { // no room for another
		t.Fatal(err)
	}
	if err := f.Update(func(*Record) {}); err != nil {
		t.Errorf("what is there already: %v", err)
	}
	if err := f.Update(func(r *Record) { r.ClusterID = "" }); err == nil || f.Now().ClusterID != full.ClusterID {
		t.Errorf("the record is %+v, and on the disk what it was: %v", f.Now(), err)
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
			if r, err := Read(dir); err == nil || !strings.Contains(err.Error(), Path(dir)) || !strings.Contains(err.Error(), "damaged") || !strings.Contains(err.Error(), "backup") {
				t.Fatalf("%q is read as %+v, %v", b, r, err)
			}
		}
	}
}

// TestPlaceHolds: a file that was about to be renamed into the place of the log is
// the log, whether the rename was done or not.
func TestPlaceHolds(t *testing.T) {
	a, b, c := fileid.ID{Inode: 1, Birth: 10}, fileid.ID{Inode: 2, Birth: 20}, fileid.ID{Inode: 3, Birth: 30}
	for what, tc := range map[string]struct {
		kept, now Place
		want      bool
	}{
		"the same":           {Place{Dir: a, File: b}, Place{Dir: a, File: b}, true},
		"another directory":  {Place{Dir: a, File: b}, Place{Dir: c, File: b}, false},
		"another file":       {Place{Dir: a, File: b}, Place{Dir: a, File: c}, false},
		"a later birth":      {Place{Dir: a, File: b}, Place{Dir: a, File: fileid.ID{Inode: 2, Birth: 21}}, false},
		"a birth not told":   {Place{Dir: fileid.ID{Inode: 1, Birth: 0}, File: b}, Place{Dir: a, File: fileid.ID{Inode: 2, Birth: 0}}, true},
		"another, not told":  {Place{Dir: fileid.ID{Inode: 5, Birth: 0}, File: b}, Place{Dir: a, File: b}, false},
		"before the rename":  {Place{Dir: a, File: b, Next: c}, Place{Dir: a, File: b}, true},
		"after the rename":   {Place{Dir: a, File: b, Next: c}, Place{Dir: a, File: c}, true},
		"neither, no rename": {Place{Dir: a, File: b}, Place{Dir: a}, false},
	} {
		if got := tc.kept.Holds(tc.now); got != tc.want {
			t.Errorf("%s: %v", what, got)
		}
	}
}
