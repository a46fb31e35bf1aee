package wal

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestStable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "stable.json")
	s, err := OpenStable(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, missing := range []func() error{
		func() error { _, err := s.Get([]byte("LastVoteCand")); return err },
		func() error { _, err := s.GetUint64([]byte("CurrentTerm")); return err },
	} {
		if err := missing(); err == nil || err.Error() != "not found" { // the library's text
			t.Errorf("a value that was never set: %v", err)
		}
	}
	for term := range uint64(3) {
		if err := s.SetUint64([]byte("CurrentTerm"), term); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Set([]byte("LastVoteCand"), []byte("s1")); err != nil {
		t.Fatal(err)
	}
	again, err := OpenStable(path)
	if err != nil {
		t.Fatal(err)
	}
	if term, err := again.GetUint64([]byte("CurrentTerm")); term != 2 || err != nil {
		t.Errorf("term %d, %v", term, err)
	}
	if vote, err := again.Get([]byte("LastVoteCand")); string(vote) != "s1" || err != nil {
		t.Errorf("vote %q, %v", vote, err)
	}
	if _, err := again.GetUint64([]byte("LastVoteCand")); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "no number") {
		t.Errorf("a vote as a number: %v", err)
	}
}

// A file that is cut or flipped anywhere is refused, or says the same.
func TestDamagedStable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "stable.json")
	s, err := OpenStable(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.SetUint64([]byte("CurrentTerm"), 77); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	check := func(b []byte) {
		t.Helper()
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := OpenStable(path)
		if err != nil {
			if !strings.Contains(err.Error(), path+" is damaged") {
				t.Errorf("%q: %v", b, err)
			}
			return
		}
		if term, err := s.GetUint64([]byte("CurrentTerm")); term != 77 || err != nil {
			t.Errorf("%q says term %d, %v", b, term, err)
		}
	}
	for at := range whole {
		check(whole[:at])
		for bit := range 8 {
			b := append([]byte(nil), whole...)
			b[at] ^= 1 << bit
			check(b)
		}
	}
}

func TestStableThatCannotBeWritten(t *testing.T) {
	dir := t.TempDir()
	s, err := OpenStable(filepath.Join(dir, "stable.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.SetUint64([]byte("CurrentTerm"), 1); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(s.path+".new", 0o700); err != nil { // in the way
		t.Fatal(err)
	}
	if err := s.SetUint64([]byte("CurrentTerm"), 2); err == nil {
		t.Error("it was written")
	}
	if term, err := s.GetUint64([]byte("CurrentTerm")); term != 1 || err != nil {
		t.Errorf("term %d, %v", term, err)
	}
}
