package raftlog

import (
	"errors"
	"os"
	"reflect"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/stackforge/magnum/server/memberfile"
)

// A server that has lost any part of its log is not taken for a new one.
func TestLostStateIsRefused(t *testing.T) {
	for name, lose := range map[string]func(c Config) []string{
		"all":            func(c Config) []string { return []string{c.dir()} },
		"log and stored": func(c Config) []string { return []string{c.storeFile(), c.storedFile()} },
		"log":            func(c Config) []string { return []string{c.storeFile()} },
		"all but stored": func(c Config) []string { return []string{c.storeFile(), c.snapshotsDir()} },
		"snapshots":      func(c Config) []string { return []string{c.snapshotsDir(), c.storedFile()} },
		"stored":         func(c Config) []string { return []string{c.storedFile()} },
		"log and record": func(c Config) []string { return []string{c.storeFile(), memberfile.Path(c.DataDir)} },
	} {
		for _, snapshot := range []bool{false, true} {
			if name == "snapshots" && !snapshot {
				continue
			}
			c, _ := writtenDir(t, 4, snapshot)
			for _, path := range lose(c) {
				if err := os.RemoveAll(path); err != nil {
					t.Fatal(err)
				}
			}
			t.Run(name, func(t *testing.T) { refused(t, c, c.dir()) })
		}
	}
	// With an empty stored file, the record reveals the loss of all entries or of the
	// file.
	c, _ := writtenDir(t, 4, true)
	rewrite(t, c, func([]*raft.Log) []*raft.Log { return nil })
	if err := os.RemoveAll(c.snapshotsDir()); err != nil {
		t.Fatal(err)
	}
	edit(t, c.storedFile(), func([]byte) []byte { return nil })
	refused(t, c, c.storeFile(), c.snapshotsDir(), "remove-peer "+c.ServerID, "operator snapshot restore")
	if err := os.Remove(c.storeFile()); err != nil {
		t.Fatal(err)
	}
	refused(t, c, c.storeFile(), "is gone", "remove-peer "+c.ServerID, "operator snapshot restore")
}

// A server that has voted may have no entries yet. It must not forget its vote.
func TestLostVoteIsRefused(t *testing.T) {
	c := testConfig(t, t.TempDir())
	l := mustOpen(t, c)
	if err := errors.Join(diskState{l.files.store, l.files}.SetUint64([]byte(keyCurrentTerm), 2), l.Close()); err != nil {
		t.Fatal(err)
	}
	l = mustOpen(t, testConfig(t, c.DataDir))
	if !l.HasState() {
		t.Error("the term is no state")
	}
	if err := errors.Join(l.Close(), os.Remove(c.storeFile()), makeStore(c.storeFile())); err != nil {
		t.Fatal(err)
	}
	refused(t, testConfig(t, c.DataDir), c.storeFile(), "holds no term", "remove-peer")
}

// After a kill in the middle of Bootstrap, the server can still be bootstrapped.
func TestInterruptedBootstrapIsRepeated(t *testing.T) {
	c := testConfig(t, t.TempDir())
	l := mustOpen(t, c)
	if err := errors.Join(diskState{l.files.store, l.files}.SetUint64([]byte(keyCurrentTerm), 1), l.Close()); err != nil {
		t.Fatal(err)
	}
	start(t, testConfig(t, c.DataDir)).put(1)
}

// A log of an earlier version has no record and gets one.
func TestMissingMemberRecordIsCompleted(t *testing.T) {
	c, m := writtenDir(t, 4, true)
	if err := os.Remove(memberfile.Path(c.DataDir)); err != nil {
		t.Fatal(err)
	}
	c.ClusterID = "22222222-2222-4222-8222-222222222222"
	again := start(t, c)
	sameState(t, again.config.Store, m.config.Store)
	again.stop()
	want := memberfile.Record{ServerID: c.ServerID, ClusterID: c.ClusterID, Voted: true, Stored: true}
	got, err := memberfile.Read(c.DataDir)
	if err != nil {
		t.Fatal(err)
	}
	if want.Place = got.Place; !reflect.DeepEqual(*got, want) || got.Place == (memberfile.Place{}) {
		t.Errorf("the record is %+v, not %+v", got, want)
	}
	// The record restores the cluster's ID.
	c = testConfig(t, c.DataDir)
	kept := ""
	c.KeepClusterID = func(id string) error { kept = id; return nil }
	if err := mustOpen(t, c).Close(); err != nil || kept != want.ClusterID {
		t.Errorf("cluster %q was kept, not %q (%v)", kept, want.ClusterID, err)
	}
	c = testConfig(t, c.DataDir)
	c.ServerID = "33333333-3333-4333-8333-333333333333"
	refused(t, c, memberfile.Path(c.DataDir), want.ServerID, c.ServerID)
}

func TestDamagedMemberRecordIsRefused(t *testing.T) {
	c, _ := writtenDir(t, 1, false)
	path := memberfile.Path(c.DataDir)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for at := range whole {
		for _, b := range [][]byte{whole[:at], append(append(append([]byte{}, whole[:at]...), whole[at]^1<<(at%8)), whole[at+1:]...)} {
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			refused(t, testConfig(t, c.DataDir), path, "damaged")
		}
	}
}

// The record is written before anybody can rely on it.
func TestBootstrapNeedsWritableMemberRecord(t *testing.T) {
	c := testConfig(t, t.TempDir())
	l := mustOpen(t, c)
	defer l.Close()
	if err := os.Mkdir(memberfile.Path(c.DataDir)+".new", 0o700); err != nil { // the record's new file can't be created
		t.Fatal(err)
	}
	if err := l.Bootstrap(); err == nil {
		t.Error("bootstrapped without a record")
	}
	if len(l.files.store.keys) > 1 {
		t.Errorf("there are %v", l.files.store.keys)
	}
}
