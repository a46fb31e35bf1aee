package server

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/server/servertest"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// client returns a client of the server, with its token if it has one.
func (m *oneOfThree) client(t testing.TB) *api.Client {
	t.Helper()
	c, err := api.New(api.Config{Address: m.running().URL()})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// save returns a snapshot file of the server's state.
func (m *oneOfThree) save(t testing.TB) []byte {
	t.Helper()
	body, err := m.client(t).Operator().SaveSnapshot(t.Context(), api.QueryOptions{Consistent: true})
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	b, err := io.ReadAll(body)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// node creates a node of the type through the server.
func (m *oneOfThree) node(t testing.TB, kind string) string {
	t.Helper()
	n, _, err := m.client(t).Nodes().Create(t.Context(), &structs.NodeRequest{Type: kind}, api.WriteOptions{})
	if err != nil {
		t.Fatalf("create a node through %s: %v", m.config.Name, err)
	}
	return n.UUID
}

// has reports whether the server has the node.
func (m *oneOfThree) has(id string) bool { return m.running().store.Snapshot().Node(id) != nil }

// restartAll stops all servers and starts them again.
func (c *threeServers) restartAll() {
	c.t.Helper()
	for _, m := range c.members {
		if err := m.stop(); err != nil {
			c.t.Errorf("server %s ended with %v", m.config.Name, err)
		}
	}
	for _, m := range c.members {
		m.start(c.t)
	}
	c.leader()
}

// TestRestoreReachesAllServers: later changes are gone on each server, and stay so
// after all servers restart. Indexes continue, and blocking reads wake.
func TestRestoreReachesAllServers(t *testing.T) {
	t.Parallel()
	c := newThreeServers(t, oneLeader)
	leader := c.leader()
	follower := c.members[slices.IndexFunc(c.members, func(m *oneOfThree) bool { return m != leader })]
	kept := follower.node(t, "kept")
	file := follower.save(t)
	info, err := InspectSnapshot(bytes.NewReader(file))
	if err != nil || info.Rows[structs.TableNodes] != 1 || info.SavedBy != follower.config.Name || info.Term == 0 {
		t.Fatalf("%+v, %v", info, err)
	}
	lost := leader.node(t, "lost")
	before := leader.running().store.Index()
	was := leader.running().store.Snapshot().Cluster()

	client := follower.client(t)
	waits := make(chan error, 1)
	go func() {
		list, meta, err := client.Nodes().List(t.Context(), api.QueryOptions{Index: before, Wait: 30 * time.Second})
		if err == nil && (len(list) != 1 || meta.Index <= before) {
			err = fmt.Errorf("%d nodes at index %d", len(list), meta.Index)
		}
		waits <- err
	}()
	c.eventually("the list is waited for", func() bool { return follower.running().rest.Parked() > 0 })

	restored, meta, err := client.Operator().RestoreSnapshot(t.Context(), bytes.NewReader(file), false)
	if err != nil {
		t.Fatal(err)
	}
	if restored.Index <= before || meta.Index < restored.Index || restored.Incarnation != was.Incarnation+1 ||
		restored.ClusterID != was.ClusterID {
		t.Errorf("restored %+v, answered at %d; it was %+v at %d", restored, meta.Index, was, before)
	}
	select {
	case err := <-waits:
		if err != nil {
			t.Errorf("a list that waited for a change: %v", err)
		}
	case <-time.After(time.Minute):
		t.Error("a list that waits for a change is not told of the restore")
	}
	// Through each server, a read not older than the client's index.
	check := func(when string) {
		t.Helper()
		c.awaitSameState()
		for _, m := range c.members {
			if !m.has(kept) || m.has(lost) {
				t.Errorf("%s: %s has the kept node: %v, and the lost: %v", when, m.config.Name, m.has(kept), m.has(lost))
			}
			now := m.running().store.Snapshot().Cluster()
			if now.Incarnation != was.Incarnation+1 || now.PeerSecret != was.PeerSecret || now.JoinTokenHash != was.JoinTokenHash ||
				now.ClusterID != was.ClusterID {
				t.Errorf("%s: the cluster of %s is %+v, and was %+v", when, m.config.Name, now, was)
			}
		}
	}
	check("restored")
	for _, m := range c.members {
		if id := m.node(t, "after"); !m.has(id) {
			t.Errorf("what was made through %s afterwards is not there", m.config.Name)
		}
	}
	c.restartAll()
	check("started again")
	c.leader().node(t, "at last")

	// Restore the older file again: incarnations continue, too.
	again, _, err := c.leader().client(t).Operator().RestoreSnapshot(t.Context(), bytes.NewReader(file), true)
	if err != nil || again.Incarnation != was.Incarnation+2 || again.Index <= restored.Index {
		t.Errorf("restored again: %+v, %v", again, err)
	}
	c.awaitSameState()
}

// TestRestoreIntoNewCluster: agents know the cluster by the ID in the file, unless it
// keeps its own. The servers' own settings stay.
func TestRestoreIntoNewCluster(t *testing.T) {
	t.Parallel()
	old := start(t, t.TempDir())
	kind := "old"
	made, _, err := old.client.Nodes().Create(t.Context(), &structs.NodeRequest{Type: kind}, api.WriteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	body, err := old.client.Operator().SaveSnapshot(t.Context(), api.QueryOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	file, err := io.ReadAll(body)
	if err != nil {
		t.Fatal(err)
	}
	from := old.store.Snapshot().Cluster()

	c := newThreeServers(t, oneLeader)
	own := *c.leader().running().store.Snapshot().Cluster()
	for _, keep := range []bool{false, true} {
		want := from.ClusterID
		before := c.leader().running().store.Snapshot().Cluster().Incarnation
		if keep {
			want = c.leader().running().store.Snapshot().Cluster().ClusterID
		}
		restored, _, err := c.members[0].client(t).Operator().RestoreSnapshot(t.Context(), bytes.NewReader(file), keep)
		if err != nil || restored.ClusterID != want || restored.Incarnation != max(before, from.Incarnation)+1 {
			t.Fatalf("keep %v: %+v, %v", keep, restored, err)
		}
		c.awaitSameState()
		c.restartAll()
		c.awaitSameState()
		for _, m := range c.members {
			now := m.running().store.Snapshot().Cluster()
			if !m.has(made.UUID) || now.ClusterID != want || now.PeerSecret != own.PeerSecret ||
				m.running().raft.ClusterID() != own.ClusterID {
				t.Errorf("keep %v: %s has the node: %v, and is of %+v", keep, m.config.Name, m.has(made.UUID), now)
			}
		}
	}
	// A server that starts later gets everything.
	late := &oneOfThree{config: c.members[0].config}
	late.config.Name, late.config.DataDir, late.config.BootstrapExpect = "late", t.TempDir(), 0
	late.config.HTTPPort, late.config.RaftPort, late.config.GossipPort = -1, -1, -1
	late.config.Join = []string{c.members[0].running().gossip.Addr()}
	c.members = append(c.members, late)
	late.start(t)
	c.eventually("the late server has it", func() bool { return late.has(made.UUID) })
	c.awaitSameState()
}

// TestRestoreRefusals: a refusal changes nothing.
func TestRestoreRefusals(t *testing.T) {
	t.Parallel()
	var short atomic.Bool
	s := startWith(t, Config{DataDir: t.TempDir()}, func(s *Server) {
		s.space.free = func(dir string) (int64, error) {
			if short.Load() {
				return reserve + 10, nil
			}
			return freeBytes(dir)
		}
	})
	for until := time.Now().Add(time.Minute); s.store.Snapshot().Cluster().HostLostAfter == 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatal("the leader has not written all that it begins with")
		}
	}
	op := operations{s.Server}
	save := func(change func(*structs.Cluster)) []byte {
		t.Helper()
		var b bytes.Buffer
		store := state.New()
		c := *s.store.Snapshot().Cluster()
		change(&c)
		if err := store.Apply(1, []structs.Change{{Table: structs.TableCluster, ID: c.ID, Row: &c}}); err != nil {
			t.Fatal(err)
		}
		if err := op.Save(&b, store.Snapshot()); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	good := save(func(*structs.Cluster) {})
	flipped := bytes.Clone(good)
	flipped[len(flipped)/2] ^= 4
	var empty bytes.Buffer
	if err := op.Save(&empty, state.New().Snapshot()); err != nil {
		t.Fatal(err)
	}
	refused := func(what string, file []byte, code structs.Code, says string) {
		t.Helper()
		before := s.store.Snapshot()
		_, _, err := s.client.Operator().RestoreSnapshot(t.Context(), bytes.NewReader(file), false)
		if structs.CodeOf(err) != code || !strings.Contains(fmt.Sprint(err), says) {
			t.Errorf("%s: %v", what, err)
		}
		if now := s.store.Snapshot(); now.Hash() != before.Hash() || now.Cluster().Incarnation != before.Cluster().Incarnation {
			t.Errorf("%s: the state has changed", what)
		}
	}
	refused("nothing", nil, structs.CodeInvalid, "not a snapshot")
	refused("another file", []byte("hello, this is something else"), structs.CodeInvalid, "not a snapshot")
	refused("one that is cut off", good[:len(good)-3], structs.CodeInvalid, "cut off")
	refused("a damaged one", flipped, structs.CodeInvalid, "damaged")
	refused("one without a cluster", empty.Bytes(), structs.CodeInvalid, "no cluster")

	short.Store(true)
	refused("no room", good, structs.CodeNoSpace, "MiB")
	short.Store(false)

	op.s.restoring.Lock()
	refused("two at once", good, structs.CodeConflict, "under way")
	op.s.restoring.Unlock()

	// rest was created before and asks for no token.
	locked := startWith(t, Config{DataDir: t.TempDir()}, func(s *Server) { s.config.Auth = authToken })
	if _, err := (operations{locked.Server}).Restore(t.Context(), bytes.NewReader(good),
		false); structs.CodeOf(err) != structs.CodeConflict || !strings.Contains(err.Error(), "admin token") {
		t.Errorf("one that would lock operators out: %v", err)
	}

	if names, err := os.ReadDir(s.dir.path); err != nil || slices.ContainsFunc(names,
		func(e os.DirEntry) bool { return strings.HasPrefix(e.Name(), "restore-") }) {
		t.Errorf("left behind: %v, %v", names, err)
	}
	// A body that ends early.
	r, w := io.Pipe()
	go func() {
		_, _ = w.Write(good[:10])
		w.CloseWithError(io.ErrUnexpectedEOF)
	}()
	req, err := http.NewRequestWithContext(t.Context(), "PUT", s.URL()+"/v1/operator/snapshot", r)
	if err != nil {
		t.Fatal(err)
	}
	before := s.store.Snapshot().Cluster().Incarnation
	if resp, err := http.DefaultClient.Do(req); err == nil {
		resp.Body.Close()
		t.Errorf("a body that broke off is answered %d", resp.StatusCode)
	}
	// A saved snapshot can be restored on the same server, whatever was refused before,
	// once the server has noticed that the body ended early.
	servertest.Eventually(t, "nothing else is restored", func() bool {
		_, _, err := s.client.Operator().RestoreSnapshot(t.Context(), bytes.NewReader(good), false)
		if err != nil && structs.CodeOf(err) != structs.CodeConflict {
			t.Error(err)
		}
		return err == nil
	})
	if now := s.store.Snapshot().Cluster().Incarnation; now != before+1 {
		t.Errorf("incarnation %d after %d", now, before)
	}
}

// awaitSchema waits until the leader of a new cluster has found out that all servers understand
// the newest schema. Until then, pods are refused for a moment.
func awaitSchema(t testing.TB, s *Server) {
	t.Helper()
	inUse := func() int { return s.store.Snapshot().Cluster().SchemaInUse() }
	for until := time.Now().Add(time.Minute); inUse() != structs.SchemaVersion; time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatal("the schema is not in use")
		}
	}
}

// TestRestoreIntoNewClusterAtOnce: the servers may not have agreed yet on the schema
// that all of them understand.
func TestRestoreIntoNewClusterAtOnce(t *testing.T) {
	t.Parallel()
	from := start(t, t.TempDir())
	awaitSchema(t, from.Server)
	var b bytes.Buffer
	if err := (operations{from.Server}).Save(&b, from.store.Snapshot()); err != nil {
		t.Fatal(err)
	}
	c := newThreeServers(t, oneLeader)
	op := operations{c.leader().running()}
	was := op.s.store.Snapshot().Cluster().SchemaInUse()
	if _, err := op.Restore(t.Context(), &b, false); err != nil {
		t.Errorf("with schema %d in use: %v", was, err)
	}
	t.Logf("schema %d was in use", was)
}

// TestSnapshotOfLaterSchemaIsRefused: all servers must understand the schema, not only
// the leader.
func TestSnapshotOfLaterSchemaIsRefused(t *testing.T) {
	s := startWith(t, Config{DataDir: t.TempDir(), schema: structs.SchemaVersion - 1})
	store := state.New()
	c := *s.store.Snapshot().Cluster()
	if c.Schema != structs.SchemaVersion-1 {
		t.Fatalf("schema %d is in use", c.Schema)
	}
	c.Schema = structs.SchemaVersion
	if err := store.Apply(1, []structs.Change{{Table: structs.TableCluster, ID: c.ID, Row: &c}}); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	op := operations{s.Server}
	if err := op.Save(&b, store.Snapshot()); err != nil {
		t.Fatal(err)
	}
	if _, err := op.Restore(context.Background(), &b, false); structs.CodeOf(err) != structs.CodeConflict ||
		!strings.Contains(err.Error(), "schema") {
		t.Errorf("of a schema that is not in use: %v", err)
	}
}

// TestRestoreClusterRow: the servers keep their own settings, and the first admin token
// is not issued again.
func TestRestoreClusterRow(t *testing.T) {
	now := &structs.Cluster{ClusterID: "now", Incarnation: 5, JoinTokenHash: "join", PeerSecret: "peer", Bootstrapped: true, Schema: 1,
		Removed: []string{"s9"}}
	for _, keep := range []bool{false, true} {
		saved := &structs.Cluster{ClusterID: "saved", Incarnation: 2, JoinTokenHash: "old", PeerSecret: "older"}
		restoreClusterRow(saved, now, keep)
		want := "saved"
		if keep {
			want = "now"
		}
		if saved.ClusterID != want || saved.Incarnation != 6 || saved.JoinTokenHash != "join" || saved.PeerSecret != "peer" ||
			!saved.Bootstrapped || saved.Schema != 1 || len(saved.Removed) != 1 {
			t.Errorf("keep %v: %+v", keep, saved)
		}
	}
	saved := &structs.Cluster{ClusterID: "saved", Incarnation: 7, JoinTokenHash: "old", PeerSecret: "older", Bootstrapped: true}
	restoreClusterRow(saved, &structs.Cluster{}, false)
	if saved.Incarnation != 8 || saved.JoinTokenHash != "old" || saved.PeerSecret != "older" || !saved.Bootstrapped {
		t.Errorf("over nothing: %+v", saved)
	}
}

// TestRestoreUnderLoad: each write of a client is either undone or applied to the
// restored state. Writes acknowledged after the restore stay.
func TestRestoreUnderLoad(t *testing.T) {
	t.Parallel()
	c := newThreeServers(t, oneLeader)
	file := c.leader().save(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			// Refusals are expected.
			_, _, _ = c.members[0].client(t).Nodes().Create(ctx, &structs.NodeRequest{}, api.WriteOptions{})
		}
	}()
	var last structs.RestoredBody
	for range 5 {
		var restored *structs.RestoredBody
		// On a busy machine, lost leadership may leave the outcome unknown.
		c.eventually("a snapshot is restored", func() bool {
			var err error
			restored, _, err = c.members[1].client(t).Operator().RestoreSnapshot(t.Context(), bytes.NewReader(file), false)
			if code := structs.CodeOf(err); err != nil && code != structs.CodeNoLeader && code != structs.CodeUnavailable {
				t.Fatal(err)
			}
			return err == nil
		})
		if restored.Index <= last.Index || restored.Incarnation <= last.Incarnation {
			t.Errorf("%+v after %+v", restored, last)
		}
		last = *restored
	}
	id := c.members[2].node(t, "after")
	stop()
	<-ended
	c.awaitSameState()
	for _, m := range c.members {
		if !m.has(id) {
			t.Errorf("I1: %s has lost a node that was acknowledged after the restore", m.config.Name)
		}
	}
}
