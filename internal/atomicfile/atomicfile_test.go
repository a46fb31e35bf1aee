package atomicfile

import (
	"os"
	"path/filepath"
	"testing"
)

func TestReplace(t *testing.T) {
	for name, write := range map[string]func(string, []byte) error{"Replace": Replace, "ReplaceSoon": ReplaceSoon} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "f")
			is := func(want string) {
				t.Helper()
				if b, err := os.ReadFile(path); err != nil || string(b) != want {
					t.Errorf("it holds %q (%v), not %q", b, err, want)
				}
			}
			for _, content := range []string{"a longer content", "short"} {
				if err := write(path, []byte(content)); err != nil {
					t.Fatal(err)
				}
				is(content)
			}
			if at, err := os.Stat(path); err != nil || at.Mode().Perm() != 0o600 {
				t.Errorf("%v, %v", at.Mode(), err)
			}
			// What was left by a crash is in nobody's way.
			if err := os.WriteFile(path+".new", []byte("half of something that is long"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := write(path, []byte("third")); err != nil {
				t.Fatal(err)
			}
			is("third")
			// Where there can be no new file, the old one stays.
			if err := os.Mkdir(path+".new", 0o700); err != nil {
				t.Fatal(err)
			}
			if err := write(path, []byte("fourth")); err == nil {
				t.Error("written over a directory")
			}
			is("third")
			if err := write(filepath.Join(dir, "none", "f"), nil); err == nil {
				t.Error("written into a directory that isn't there")
			}
		})
	}
}
