package server

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/server/bootstrap"
	"github.com/stackforge/magnum/server/memberfile"
	"github.com/stackforge/magnum/server/servertest/fixture"
	"github.com/stackforge/magnum/structs"
)

// leaderWrites are the tables that each leader writes.
var leaderWrites = []structs.Table{structs.TableCluster, structs.TableLineages}

// earlierMember returns the server and cluster IDs in an earlier build's files.
func earlierMember(t *testing.T, dir string) (serverID, clusterID string) {
	t.Helper()
	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(b))
	}
	return read("server-id"), read("cluster-id")
}

// startFixture starts a single server on a data directory of an earlier build.
func startFixture(t *testing.T, dir string) (srv *Server, client *api.Client, stop func()) {
	t.Helper()
	srv, err := New(Config{
		DataDir: dir, Auth: authToken, HTTPPort: -1, RaftPort: -1, GossipPort: -1, HostLostAfter: time.Hour, Logger: hclog.NewNullLogger(),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- srv.Run(ctx) }()
	stop = func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		ended <- nil
	}
	t.Cleanup(stop)
	if client, err = api.New(api.Config{Address: srv.URL(), Token: fixture.AdminToken()}); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		_, _, err := client.Bays().List(ctx, api.QueryOptions{Consistent: true})
		if err == nil {
			return srv, client, stop
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// TestDirectoryOfEarlierBuildStarts: a server starts on a copy of an earlier build's
// data directory, stopped or killed, and has its IDs and its rows.
func TestDirectoryOfEarlierBuildStarts(t *testing.T) {
	for _, name := range []string{"stopped", "killed"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := fixture.Unpack(t, name)
			serverID, clusterID := earlierMember(t, dir)
			for range 2 { // the second start reads what the first has written
				srv, _, stop := startFixture(t, dir)
				fixture.Same(t, name, fixture.RowsOf(srv.store.Snapshot(), leaderWrites...), leaderWrites...)
				if srv.id != serverID || srv.raft.ClusterID() != clusterID || srv.store.Snapshot().Cluster().ClusterID != clusterID {
					t.Errorf("server %s of cluster %s, was %s of %s", srv.id, srv.raft.ClusterID(), serverID, clusterID)
				}
				stop()
			}
		})
	}
}

// TestInterruptedMigrationContinues: wherever a kill interrupts the first start on an
// earlier build's directory, the next start continues and leaves one record.
func TestInterruptedMigrationContinues(t *testing.T) {
	whole := fixture.Unpack(t, "stopped")
	id, cluster := earlierMember(t, whole)
	was, err := bootstrap.Open(whole)
	if err != nil {
		t.Fatal(err)
	}
	steps := []struct {
		name string
		do   func(dir string) error
	}{
		{"nothing", func(string) error { return nil }},
		{"half a record", func(dir string) error {
			return os.WriteFile(memberfile.Path(dir)+".new", []byte(`{"server_id":"`), 0o600)
		}},
		{"the record", func(dir string) error { return memberfile.Write(dir, was.Now()) }},
	}
	for _, name := range []string{"server-id", "cluster-id", "founding", "membership"} {
		steps = append(steps, struct {
			name string
			do   func(dir string) error
		}{"without " + name, func(dir string) error { return os.RemoveAll(filepath.Join(dir, name)) }})
	}
	for n := range steps {
		t.Run(steps[n].name, func(t *testing.T) {
			t.Parallel()
			dir := fixture.Unpack(t, "stopped")
			for _, step := range steps[:n+1] {
				if err := step.do(dir); err != nil {
					t.Fatal(err)
				}
			}
			srv, _, stop := startFixture(t, dir)
			if srv.id != id || srv.raft.ClusterID() != cluster {
				t.Errorf("server %s of cluster %s, was %s of %s", srv.id, srv.raft.ClusterID(), id, cluster)
			}
			stop()
			for _, name := range []string{"server-id", "cluster-id", "founding", "membership"} {
				if _, err := os.Stat(filepath.Join(dir, name)); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("%s is left: an earlier build would go on from it: %v", name, err)
				}
			}
			if r, err := memberfile.Read(dir); err != nil || r.ServerID != id || r.ClusterID != cluster || !r.Voted || !r.Stored ||
				r.Place == (memberfile.Place{}) {
				t.Errorf("the record is %+v, %v", r, err)
			}
		})
	}
}

// TestSnapshotOfEarlierBuildIsRestored: a snapshot saved by an earlier build can be
// restored.
func TestSnapshotOfEarlierBuildIsRestored(t *testing.T) {
	t.Parallel()
	srv, client, _ := startFixture(t, fixture.Unpack(t, "killed"))
	if _, _, err := client.Operator().RestoreSnapshot(t.Context(), bytes.NewReader(fixture.File(t, "saved.snap")), false); err != nil {
		t.Fatal(err)
	}
	names := make(map[string]bool)
	for row := range srv.store.Snapshot().List(structs.TableNodes, structs.DefaultProject, 0) {
		names[row.(*structs.Node).Name] = true
	}
	if !names["node-3"] || names["last-of-killed"] {
		t.Errorf("the nodes are %v: the state is not that of the snapshot", names)
	}
}

// TestCopiedDirectoryOfEarlierBuildIsRefused: a copied directory of one of several
// servers is refused, and starts once an operator says that it was moved.
func TestCopiedDirectoryOfEarlierBuildIsRefused(t *testing.T) {
	t.Parallel()
	dirs, err := filepath.Glob(filepath.Join(fixture.Unpack(t, "three"), "*", "server"))
	if err != nil || len(dirs) != 2 {
		t.Fatalf("%v, %v", dirs, err)
	}
	for _, dir := range dirs {
		c := Config{DataDir: dir, BootstrapExpect: 3, Join: []string{"127.0.0.1:1"}, Logger: hclog.NewNullLogger()}
		serverID, clusterID := earlierMember(t, c.DataDir)
		before, err := os.ReadFile(filepath.Join(dir, "membership"))
		if err != nil {
			t.Fatal(err)
		}
		refusedDir(t, c, filepath.Join(c.DataDir, "raft"), "is a copy", "remove-peer "+serverID, "-data-dir-moved")
		if _, err := os.Stat(memberfile.Path(dir)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the refusal has made a record: %v", err)
		}
		if after, err := os.ReadFile(filepath.Join(dir, "membership")); err != nil || !bytes.Equal(before, after) {
			t.Errorf("the refusal has changed the record: %s, %v", after, err)
		}
		for range 2 {
			c.DataDirMoved, c.HTTPPort, c.RaftPort, c.GossipPort = true, -1, -1, -1
			srv, err := New(c)
			if err != nil {
				t.Fatal(err)
			}
			if srv.id != serverID || srv.raft.ClusterID() != clusterID {
				t.Errorf("server %s of cluster %s, was %s of %s", srv.id, srv.raft.ClusterID(), serverID, clusterID)
			}
			srv.Close()
		}
		if r, err := memberfile.Read(dir); err != nil || r.Grant == nil || r.Grant.ClusterID != clusterID || len(r.Grant.Voters) != 3 ||
			!r.Stored {
			t.Errorf("the record is %+v, %v: what was granted has to stay", r, err)
		}
	}
}
