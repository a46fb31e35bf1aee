package server

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/server/memberfile"
	"github.com/stackforge/magnum/server/raftlog"
	"github.com/stackforge/magnum/server/servertest/fixture"
	"github.com/stackforge/magnum/structs"
)

// stoppedDir returns the directory of a single server that has state, and the server's
// ID.
func stoppedDir(t *testing.T) (dir, id string) {
	t.Helper()
	dir = t.TempDir()
	s := startWith(t, Config{DataDir: dir})
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	return dir, s.id
}

// refusedDir expects a server on the directory to be refused with an error that names
// path and contains the words.
func refusedDir(t *testing.T, c Config, path string, words ...string) {
	t.Helper()
	c.HTTPPort, c.RaftPort, c.GossipPort = -1, -1, -1
	srv, err := New(c)
	if err == nil {
		srv.Close()
		t.Errorf("a server starts; it was to be refused for %s", path)
		return
	}
	for _, w := range append(words, path) {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q does not say %q", err, w)
		}
	}
}

// A server that has lost its log must not bootstrap its cluster again, empty: agents
// would believe it and remove what they run.
func TestServerWithLostLogIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		lose  []string
		names string
	}{
		"log":                         {[]string{"raft"}, "raft"},
		"record":                      {[]string{"member.json"}, "member.json"},
		"record and entries":          {[]string{"member.json", "raft/raft.db"}, "member.json"},
		"record and snapshots":        {[]string{"member.json", "raft/raft.db", "raft/snapshots"}, "member.json"},
		"all but an empty directory":  {[]string{"member.json", "raft/raft.db", "raft/stored"}, "member.json"},
		"all of the log but a record": {[]string{"raft/raft.db"}, "raft"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, _ := stoppedDir(t)
			for _, f := range c.lose {
				if err := os.RemoveAll(filepath.Join(dir, f)); err != nil {
					t.Fatal(err)
				}
			}
			refusedDir(t, Config{DataDir: dir}, filepath.Join(dir, c.names), "backup", "empty data directory",
				"operator snapshot restore", "operator raft remove-peer")
			// It can't join other servers either: it has lost what it had acknowledged.
			refusedDir(t, Config{DataDir: dir, BootstrapExpect: 3, Join: []string{"127.0.0.1:1"}}, filepath.Join(dir, c.names), "backup")
			if slices.Contains(c.lose, "member.json") {
				if _, err := os.Stat(filepath.Join(dir, "member.json")); err == nil {
					t.Error("a refusal has made a record: the next start would take it for the server's")
				}
			}
		})
	}
	// With an empty directory it is a new server.
	dir, id := stoppedDir(t)
	for _, f := range []string{"raft", "member.json"} {
		if err := os.RemoveAll(filepath.Join(dir, f)); err != nil {
			t.Fatal(err)
		}
	}
	if s := start(t, dir); s.id == id {
		t.Error("it has its old id")
	}
}

// TestServerOfEarlierBuildWithLostLogIsRefused: the same with an earlier build's four
// files instead of the record.
func TestServerOfEarlierBuildWithLostLogIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		lose  []string
		names string
	}{
		"log":                         {[]string{"raft"}, "raft"},
		"log and record":              {[]string{"raft", "membership"}, "server-id"},
		"log, record and id":          {[]string{"raft", "membership", "server-id"}, "server-id"},
		"log, record and cluster":     {[]string{"raft", "membership", "cluster-id"}, "server-id"},
		"log and both ids":            {[]string{"raft", "server-id", "cluster-id"}, "server-id"},
		"log and cluster":             {[]string{"raft", "cluster-id"}, "raft"},
		"id":                          {[]string{"server-id"}, "server-id"},
		"id and record":               {[]string{"server-id", "membership"}, "server-id"},
		"all of the log but a record": {[]string{"raft/raft.db"}, "raft"},
		"all four":                    {[]string{"server-id", "cluster-id", "membership"}, "member.json"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := fixture.Unpack(t, "stopped")
			for _, f := range c.lose {
				if err := os.RemoveAll(filepath.Join(dir, f)); err != nil {
					t.Fatal(err)
				}
			}
			refusedDir(t, Config{DataDir: dir}, filepath.Join(dir, c.names), "backup")
			refusedDir(t, Config{DataDir: dir, BootstrapExpect: 3, Join: []string{"127.0.0.1:1"}}, filepath.Join(dir, c.names), "backup")
		})
	}
}

// A directory with an earlier log format is refused with the way to migrate, with or
// without the files beside its log.
func TestEarlierLogFormatIsRefused(t *testing.T) {
	for _, lose := range []string{"", "membership", "cluster-id"} {
		dir := fixture.Unpack(t, "stopped")
		log := filepath.Join(dir, "raft", "log")
		if err := errors.Join(os.Remove(filepath.Join(dir, "raft", "raft.db")), os.Mkdir(log, 0o700)); err != nil {
			t.Fatal(err)
		}
		if lose != "" {
			if err := os.Remove(filepath.Join(dir, lose)); err != nil {
				t.Fatal(err)
			}
		}
		refusedDir(t, Config{DataDir: dir}, log, "snapshot save", "snapshot restore")
		if _, err := os.Stat(filepath.Join(dir, "server-id")); err != nil {
			t.Errorf("the refusal has taken the directory over: the magnum that can read it is shut out: %v", err)
		}
	}
}

// An earlier build's file that contradicts the others is refused; one that is missing
// is derived from the others.
func TestContradictoryFilesOfEarlierBuildAreRefused(t *testing.T) {
	dir := fixture.Unpack(t, "stopped")
	id, cluster := earlierMember(t, dir)
	other := structs.NewID()
	for _, name := range []string{"server-id", "cluster-id"} {
		path := filepath.Join(dir, name)
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, content := range []string{other + "\n", "", "no uuid"} {
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			refusedDir(t, Config{DataDir: dir}, path, "backup")
		}
		if err := os.WriteFile(path, whole, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(dir, "cluster-id")); err != nil {
		t.Fatal(err)
	}
	s, _, _ := startFixture(t, dir)
	if kept, err := memberfile.Read(dir); err != nil || kept.ClusterID != cluster || kept.ServerID != id || s.id != id {
		t.Errorf("server %s with the record %+v (%v), was %s of %q", s.id, kept, err, id, cluster)
	}
}

// A record that is damaged, or belongs to another server or cluster than an earlier
// build's files, is refused.
func TestDamagedMemberRecordIsRefused(t *testing.T) {
	dir, id := stoppedDir(t)
	path := memberfile.Path(dir)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, content := range []string{"", "{}", strings.Replace(string(whole), id, structs.NewID(), 1), string(whole[:len(whole)/2])} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		refusedDir(t, Config{DataDir: dir}, path, "backup")
	}
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"server-id", "cluster-id"} {
		beside := filepath.Join(dir, name)
		if err := os.WriteFile(beside, []byte(structs.NewID()+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		refusedDir(t, Config{DataDir: dir}, beside, path, "backup")
		if err := os.Remove(beside); err != nil {
			t.Fatal(err)
		}
	}
	if s := start(t, dir); s.id != id {
		t.Errorf("server %s, was %s", s.id, id)
	}
}

// A kill during a server's first start leaves no damage.
func TestInterruptedFirstStartContinues(t *testing.T) {
	id, cluster := structs.NewID(), structs.NewID()
	record := func(dir string, r memberfile.Record) {
		t.Helper()
		if err := memberfile.Write(dir, r); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	if err := os.WriteFile(memberfile.Path(dir)+".new", []byte(`{"server_id":"`), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, dir) // killed before it had an ID
	dir = t.TempDir()
	record(dir, memberfile.Record{ServerID: id})
	if s := start(t, dir); s.id != id { // killed before it had a log
		t.Errorf("server %s, not %s", s.id, id)
	}

	several := Config{BootstrapExpect: 3, Join: []string{"127.0.0.1:1"}, HTTPPort: -1, RaftPort: -1, GossipPort: -1,
		Logger: hclog.NewNullLogger()}
	for name, r := range map[string]memberfile.Record{
		"a leader has called, and nothing has come of it yet": {ServerID: id, ClusterID: cluster},
		"it has given its part to a cluster":                  {ServerID: id, Grant: &structs.PeerGrant{ClusterID: cluster}},
	} {
		dir := t.TempDir()
		record(dir, r)
		several.DataDir = dir
		srv, err := New(several)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		srv.Close()
		refusedDir(t, Config{DataDir: dir}, memberfile.Path(dir), cluster, "-join")
	}
}

// A voter that has lost its log must come back under a new ID: under its old one it
// could vote twice, and count for entries that it no longer has.
func TestVoterWithLostLogNeedsNewID(t *testing.T) {
	t.Parallel()
	c := newThreeServers(t)
	leader := c.leader()
	lost := c.members[0]
	if lost == leader {
		lost = c.members[1]
	}
	c.eventually("it has the state", func() bool { return lost.running().store.Snapshot().Cluster() != nil })
	id, dir := lost.running().id, lost.config.DataDir
	if err := errors.Join(lost.stop(), os.RemoveAll(filepath.Join(dir, "raft"))); err != nil {
		t.Fatal(err)
	}
	refusedDir(t, lost.config, filepath.Join(dir, "raft"), "operator raft remove-peer "+id, "-join")

	c.eventually("it is taken out", func() bool {
		status, _ := c.leader().ask(t, "DELETE", "/v1/operator/raft/peers/"+id)
		return status == http.StatusNoContent || status == http.StatusNotFound
	})
	lost.config.DataDir = t.TempDir()
	lost.start(t)
	c.eventually("it is taken in as another one", func() bool {
		peers, err := c.leader().running().raft.Peers()
		now := lost.running().id
		return err == nil && now != id && len(peers) == 3 && slices.ContainsFunc(peers, func(p raftlog.Peer) bool { return p.ID == now })
	})
	c.awaitSameState()
}
