package fileid

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestCopyHasAnotherIDAndRenameKeepsIt(t *testing.T) {
	dir := t.TempDir()
	path, copied, renamed := filepath.Join(dir, "a"), filepath.Join(dir, "b"), filepath.Join(dir, "c")
	for _, p := range []string{path, copied} {
		if err := os.WriteFile(p, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	before, err := Of(path)
	if err != nil || before == (ID{}) {
		t.Fatal(before, err)
	}
	if other, err := Of(copied); err != nil || before.SameFile(other) {
		t.Errorf("the copy has the file's ID %+v (%v)", other, err)
	}
	if err := os.Rename(path, renamed); err != nil {
		t.Fatal(err)
	}
	if after, err := Of(renamed); err != nil || after != before {
		t.Errorf("the ID is %+v after the rename, want %+v (%v)", after, before, err)
	}
	if _, err := Of(path); err == nil {
		t.Error("a path that does not exist has an ID")
	}
	if born := before.Born(); before.Birth != 0 && time.Since(born) > time.Hour {
		t.Errorf("born %v", born)
	}
	if !(ID{}).Born().IsZero() {
		t.Error("an ID without a birth has a creation time")
	}
}

func TestSameFile(t *testing.T) {
	for what, tc := range map[string]struct {
		a, b ID
		want bool
	}{
		"the same":            {ID{1, 10}, ID{1, 10}, true},
		"another inode":       {ID{1, 10}, ID{2, 10}, false},
		"another birth":       {ID{1, 10}, ID{1, 11}, false},
		"one birth not known": {ID{1, 0}, ID{1, 11}, true},
		"no birth known":      {ID{1, 0}, ID{2, 0}, false},
	} {
		if tc.a.SameFile(tc.b) != tc.want || tc.b.SameFile(tc.a) != tc.want {
			t.Errorf("%s: SameFile is %v, want %v", what, !tc.want, tc.want)
		}
	}
}
