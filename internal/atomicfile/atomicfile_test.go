package atomicfile

import (
	"os"
	"path/filepath"
	"testing"
)

func TestReplaceWritesAllOrNothing(t *testing.T) {
	for name, write := range map[string]func(string, []byte) error{"Replace": Replace, "ReplaceNoSync": ReplaceNoSync} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "f")
			wantContent := func(want string) {
				t.Helper()
				if b, err := os.ReadFile(path); err != nil || string(b) != want {
					t.Errorf("the file holds %q (%v), want %q", b, err, want)
				}
			}
			for _, content := range []string{"a longer content", "short"} {
				if err := write(path, []byte(content)); err != nil {
					t.Fatal(err)
				}
				wantContent(content)
			}
			if at, err := os.Stat(path); err != nil || at.Mode().Perm() != 0o600 {
				t.Errorf("mode %v (%v), want 0600", at.Mode(), err)
			}
			// A temporary file left by a crash is overwritten.
			if err := os.WriteFile(path+".new", []byte("half of something that is long"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := write(path, []byte("third")); err != nil {
				t.Fatal(err)
			}
			wantContent("third")
			// If the temporary file can't be created, the old content stays.
			if err := os.Mkdir(path+".new", 0o700); err != nil {
				t.Fatal(err)
			}
			if err := write(path, []byte("fourth")); err == nil {
				t.Error("replaced the file although the temporary file is a directory")
			}
			wantContent("third")
			if err := write(filepath.Join(dir, "none", "f"), nil); err == nil {
				t.Error("wrote into a directory that does not exist")
			}
		})
	}
}
