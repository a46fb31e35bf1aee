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

	"github.com/stackforge/magnum/server/raftlog"
	"github.com/stackforge/magnum/structs"
)

// stoppedDir returns the directory of a single server that has had state, and
// the server's id.
func stoppedDir(t *testing.T) (dir, id string) {
	t.Helper()
	dir = t.TempDir()
	s := startWith(t, Config{DataDir: dir})
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	return dir, s.id
}

// refusedDir wants a server on the directory to be refused in words that name
// path.
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

// A server that has lost its log must not make its cluster anew, empty: agents
// would take its word for it and remove what they run.
func TestLostLogIsNoNewCluster(t *testing.T) {
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
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, _ := stoppedDir(t)
			for _, f := range c.lose {
				if err := os.RemoveAll(filepath.Join(dir, f)); err != nil {
					t.Fatal(err)
				}
			}
			refusedDir(t, Config{DataDir: dir}, filepath.Join(dir, c.names), "backup")
			// Nor is it let in among others: it has promised to keep what is lost.
			refusedDir(t, Config{DataDir: dir, BootstrapExpect: 3, Join: []string{"127.0.0.1:1"}}, filepath.Join(dir, c.names), "backup")
		})
	}
	// With nothing left it is a new server of a new cluster.
	dir, id := stoppedDir(t)
	for _, f := range []string{"raft", "membership", "server-id", "cluster-id"} {
		if err := os.RemoveAll(filepath.Join(dir, f)); err != nil {
			t.Fatal(err)
		}
	}
	if s := start(t, dir); s.id == id {
		t.Error("it has its old id")
	}
}

// A directory of an earlier magnum is refused with the way over, with or without
// what stands beside its log.
func TestLogOfAnEarlierMagnum(t *testing.T) {
	for _, lose := range []string{"", "membership"} {
		dir, _ := stoppedDir(t)
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
	}
}

// Files of which the rest knows the content are found out, or come back.
func TestChangedIdentityIsRefused(t *testing.T) {
	dir, id := stoppedDir(t)
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
	cluster, err := os.ReadFile(filepath.Join(dir, "cluster-id"))
	if err := errors.Join(err, os.Remove(filepath.Join(dir, "cluster-id"))); err != nil {
		t.Fatal(err)
	}
	s := start(t, dir)
	if again, err := os.ReadFile(filepath.Join(dir, "cluster-id")); err != nil || string(again) != string(cluster) || s.id != id {
		t.Errorf("server %s of cluster %q (%v), was %s of %q", s.id, again, err, id, cluster)
	}
}

// What a kill leaves of a server's first moments is no damage.
func TestFirstStartCutOff(t *testing.T) {
	id, cluster := structs.NewID(), structs.NewID()
	record := func(dir string, m raftlog.Membership) {
		t.Helper()
		if err := raftlog.WriteMembership(dir, m); err != nil {
			t.Fatal(err)
		}
	}
	write := func(path, content string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	record(dir, raftlog.Membership{ServerID: id})
	if s := start(t, dir); s.id != id { // before its id was written
		t.Errorf("server %s, not %s", s.id, id)
	}

	// A leader has called, and nothing has come of it yet.
	dir = t.TempDir()
	record(dir, raftlog.Membership{ServerID: id, ClusterID: cluster})
	write(filepath.Join(dir, "server-id"), id+"\n")
	write(filepath.Join(dir, "cluster-id"), cluster+"\n")
	several := Config{DataDir: dir, BootstrapExpect: 3, Join: []string{"127.0.0.1:1"}, HTTPPort: -1, RaftPort: -1, GossipPort: -1, Logger: hclog.NewNullLogger()}
	srv, err := New(several)
	if err != nil {
		t.Fatal(err)
	}
	srv.Close()
	refusedDir(t, Config{DataDir: dir}, filepath.Join(dir, "cluster-id"), cluster, "-join")

	// It has given its part to a cluster.
	for _, name := range []string{"cluster-id", "membership"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	record(dir, raftlog.Membership{ServerID: id})
	write(filepath.Join(dir, "founding"), `{"given":{"cluster_id":"`+cluster+`"}}`)
	if srv, err = New(several); err != nil {
		t.Fatal(err)
	}
	srv.Close()
	refusedDir(t, Config{DataDir: dir}, filepath.Join(dir, "founding"), cluster, "-join")
}

// A voter that has lost its log stays away until it is another server: under its
// old id it could vote twice, and count for entries that it no longer has.
func TestVoterWithoutItsLogIsAnotherServer(t *testing.T) {
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
	c.settled()
}
