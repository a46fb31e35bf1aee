package raftlog

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/stackforge/magnum/server/servertest/fixture"
	"github.com/stackforge/magnum/server/state"
)

// TestEntriesOfEarlierBuildAreRead: the snapshot and the entries of an earlier build
// decode to the rows that the build had.
func TestEntriesOfEarlierBuildAreRead(t *testing.T) {
	for _, name := range []string{"stopped", "killed"} {
		t.Run(name, func(t *testing.T) {
			snap, entries := replay(t, fixture.Unpack(t, name))
			if entries < 5 {
				t.Errorf("only %d entries: this says little", entries)
			}
			fixture.Same(t, name, fixture.RowsOf(snap))
		})
	}
	t.Run("three", func(t *testing.T) {
		dir := fixture.Unpack(t, "three")
		var hashes []uint64
		servers, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, server := range servers {
			snap, _ := replay(t, filepath.Join(dir, server.Name(), "server"))
			hashes = append(hashes, snap.Hash())
			fixture.Same(t, "three", fixture.RowsOf(snap))
		}
		if len(hashes) != 2 || hashes[0] != hashes[1] {
			t.Errorf("the servers' states have the hashes %x", hashes)
		}
	})
}

// replay returns the state of everything in a data directory.
func replay(t *testing.T, dataDir string) (snap *state.Snapshot, entries int) {
	t.Helper()
	c := Config{DataDir: dataDir}
	f := &fsm{state.New(), newAnnouncer()}
	newest, err := filepath.Glob(filepath.Join(c.snapshotsDir(), "*", "state.bin"))
	if err != nil {
		t.Fatal(err)
	}
	if len(newest) > 0 {
		slices.SortFunc(newest, func(a, b string) int {
			return compareSnapshots(filepath.Base(filepath.Dir(a)), filepath.Base(filepath.Dir(b)))
		})
		in, err := os.Open(newest[len(newest)-1])
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Restore(in); err != nil {
			t.Fatal(err)
		}
	}
	s, err := openStore(c.storeFile(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	first, last, err := bounds(s)
	if err != nil {
		t.Fatal(err)
	}
	for index := max(first, f.store.Index()+1); index <= last; index++ {
		var l raft.Log
		if err := s.GetLog(index, &l); err != nil {
			t.Fatal(err)
		}
		if l.Type != raft.LogCommand {
			continue
		}
		if err := f.Apply(&l); err != nil {
			t.Errorf("entry %d: %v", index, err)
		}
		entries++
	}
	return f.store.Snapshot(), entries
}
