package rest_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/server/peer"
	"github.com/stackforge/magnum/server/rest"
	"github.com/stackforge/magnum/server/servertest"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// fakeOperations are operations on fake servers.
type fakeOperations struct {
	members []structs.MemberBody
	peers   []structs.RaftPeerBody
	err     error // error of every call
	did     []string
	lead    func(id string) // what Transfer does
}

func (f *fakeOperations) Peer(ident string) (string, error) {
	for _, p := range f.peers {
		if p.UUID == ident || p.Name != nil && *p.Name == ident {
			return p.UUID, nil
		}
	}
	return "", structs.Errorf(structs.CodeNotFound, "Server %s is not one of those that keep the log.", ident)
}

func (f *fakeOperations) RemovePeer(_ context.Context, id string, force bool) error {
	f.did = append(f.did, fmt.Sprint("remove ", id, " ", force))
	return f.err
}

func (f *fakeOperations) Transfer(_ context.Context, id string) error {
	f.did = append(f.did, "transfer "+id)
	f.lead(id)
	return f.err
}

func (f *fakeOperations) Members() []structs.MemberBody { return f.members }

func (f *fakeOperations) Peers(context.Context) ([]structs.RaftPeerBody, error) {
	return f.peers, f.err
}

func (f *fakeOperations) Save(w io.Writer, s *state.Snapshot) error {
	if f.err != nil {
		_, _ = w.Write([]byte("the beginning")) // the file breaks off here
		return f.err
	}
	return state.WriteArchive(w, structs.SnapshotHead{SavedBy: "s1"}, s)
}

func (f *fakeOperations) PeerSecret() string { return "peer-secret" }

func (f *fakeOperations) Restore(_ context.Context, file io.Reader, keep bool) (structs.RestoredBody, error) {
	b, err := io.ReadAll(file)
	if err != nil {
		return structs.RestoredBody{}, structs.Errorf(structs.CodeInvalid, "the snapshot ended early, and nothing was restored: %w", err)
	}
	f.did = append(f.did, fmt.Sprint("restore ", string(b), " ", keep))
	return structs.RestoredBody{Index: 9, ClusterID: "c", Incarnation: 2}, f.err
}

// operated returns an operator's caller on a server with fake operations.
func operated(t *testing.T, f *fakeOperations, options ...servertest.Option) *caller {
	t.Helper()
	options = append(options, servertest.WithAuth(tokens), func(c *rest.Config) { c.Operations = f })
	return newCaller(t, servertest.New(t, options...)).as("admin")
}

func TestMembersAreListedByRole(t *testing.T) {
	url := "http://127.0.0.1:9511"
	c := operated(t, &fakeOperations{members: []structs.MemberBody{
		{UUID: "u1", Name: "s1", Role: structs.RoleServer, Status: "alive", HTTPAddr: &url, Leader: true, Voter: true, Registered: true},
		{UUID: "u2", Name: "h1", Role: structs.RoleAgent, Status: "dead"},
	}})
	for path, want := range map[string]int{"": 2, "?role=server": 1, "?role=agent": 1} {
		if got := c.do("GET", "/v1/operator/members"+path, "").is(200).items("members"); len(got) != want {
			t.Errorf("%q: %v", path, got)
		}
	}
	c.do("GET", "/v1/operator/members?role=both", "").is(400)
	c.do("GET", "/v1/operator/members?page=1", "").is(400)
	c.do("POST", "/v1/operator/members", "{}").is(405)
}

func TestPeersAreListed(t *testing.T) {
	f := &fakeOperations{peers: []structs.RaftPeerBody{}}
	c := operated(t, f)
	if got := c.do("GET", "/v1/operator/raft/peers?consistent", "").is(200).items("peers"); len(got) != 0 {
		t.Errorf("no peers are %v", got)
	}
	index, name := uint64(7), "s1"
	f.peers = []structs.RaftPeerBody{{UUID: "u1", Name: &name, RaftAddr: "127.0.0.1:9512", State: structs.PeerLeader, Voter: true,
		LastIndex: &index}, {UUID: "u2", State: structs.PeerUnreachable}}
	if got := c.do("GET", "/v1/operator/raft/peers", "").is(200).items("peers"); len(got) != 2 || got[0]["last_index"] != 7.0 ||
		got[1]["last_index"] != nil {
		t.Errorf("peers are %v", got)
	}
	f.err = structs.Errorf(structs.CodeUnavailable, "this server is shutting down")
	c.do("GET", "/v1/operator/raft/peers", "").is(503)
}

func TestPeerIsRemoved(t *testing.T) {
	name := "s2"
	f := &fakeOperations{peers: []structs.RaftPeerBody{{UUID: "u2", Name: &name}}}
	c := operated(t, f)
	c.do("DELETE", "/v1/operator/raft/peers/s2", "").is(204)
	c.do("DELETE", "/v1/operator/raft/peers/u2?force", "").is(204)
	if got := fmt.Sprint(f.did); got != "[remove u2 false remove u2 true]" {
		t.Error(got)
	}
	c.do("DELETE", "/v1/operator/raft/peers/s3", "").is(404).mentions("s3")
	c.do("DELETE", "/v1/operator/raft/peers/s2?force=perhaps", "").is(400)
	f.err = structs.Errorf(structs.CodeConflict, "server s2 leads")
	c.do("DELETE", "/v1/operator/raft/peers/s2", "").is(409)
	for _, who := range []string{"alice", "reader"} {
		c.as(who).do("DELETE", "/v1/operator/raft/peers/s2", "").is(403)
	}
	c.as("").do("DELETE", "/v1/operator/raft/peers/s2", "").is(401)
}

// leaving is a cluster in which leadership moves.
type leaving struct {
	replication
	id atomic.Pointer[string]
}

type replication interface {
	IsLeader() bool
	Alone() bool
	ReadIndex(context.Context) (uint64, error)
	LeaderIndex(context.Context) (uint64, error)
	Leader() (id, addr string)
	Changed() <-chan struct{}
}

func (m *leaving) Leader() (id, addr string) { return *m.id.Load(), "127.0.0.1:1" }

func TestLeadershipIsTransferred(t *testing.T) {
	one, two, nobody := "u1", "u2", ""
	name := "s2"
	m := new(leaving)
	m.id.Store(&one)
	f := &fakeOperations{peers: []structs.RaftPeerBody{{UUID: "u1"}, {UUID: "u2", Name: &name}}}
	c := operated(t, f, servertest.WithHold(200*time.Millisecond), func(c *rest.Config) {
		m.replication = c.Cluster
		c.Cluster = m
		c.Leader = func() (name, address string) {
			id, addr := m.Leader()
			if id == "" {
				return "", ""
			}
			return "name of " + id, addr
		}
	})
	const path = "/v1/operator/raft/transfer-leader"
	f.lead = func(string) { m.id.Store(&two) }
	leads := func(r *reply) string {
		return fmt.Sprint(r.is(200).object()["leader"].(map[string]any)["name"])
	}
	if got := leads(c.do("PUT", path+"?to=s2", "")); got != "name of u2" {
		t.Error(got)
	}
	f.lead = func(string) { m.id.Store(&one) }
	if got := leads(c.do("PUT", path, "")); got != "name of u1" {
		t.Error(got)
	}
	if got := fmt.Sprint(f.did); got != "[transfer u2 transfer ]" {
		t.Error(got)
	}
	// The transfer was carried out, but the answer was lost.
	f.err = structs.Errorf(structs.CodeNoLeader, "gone: %w", conductor.ErrUnknown)
	f.lead = func(string) { m.id.Store(&two) }
	c.do("PUT", path, "").is(200)

	f.err = nil
	f.lead = func(string) {}
	c.do("PUT", path, "").is(503).mentions("u2", "still leads")
	f.lead = func(string) { m.id.Store(&nobody) }
	c.do("PUT", path, "").is(503).mentions("no server leads yet")
	m.id.Store(&two)
	f.lead = func(string) { m.id.Store(&name) }
	c.do("PUT", path+"?to=u1", "").is(503).mentions("s2", "u1")
	f.err = structs.Errorf(structs.CodeConflict, "server u1 leads already")
	c.do("PUT", path+"?to=u1", "").is(409)
	c.do("PUT", path+"?to=u7", "").is(404)
	c.do("PUT", path+"?to=", "").is(404)
	c.do("POST", path, "").is(405)
	c.as("alice").do("PUT", path, "").is(403)
}

func TestSnapshotIsSaved(t *testing.T) {
	f := &fakeOperations{}
	c := operated(t, f)
	c.do("POST", "/v1/nodes", "{}").is(201)
	r := c.do("GET", "/v1/operator/snapshot?consistent", "").is(200)
	info, err := state.Inspect(bytes.NewReader(r.body))
	if snap := c.s.Store.Snapshot(); err != nil || info.Index != snap.Index() || info.Hash != state.FormatHash(snap.Hash()) ||
		info.Rows[structs.TableNodes] != 1 {
		t.Errorf("%+v, %v", info, err)
	}
	if r.header.Get("Content-Type") != "application/octet-stream" || r.header.Get("Cache-Control") != "no-store" {
		t.Errorf("headers are %v", r.header)
	}
	c.do("GET", "/v1/operator/snapshot?index=3", "").is(400)
	operated(t, f, func(c *rest.Config) { c.Store = state.New() }).do("GET", "/v1/operator/snapshot?stale",
		"").is(503).mentions("no state yet")
	for who, status := range map[string]int{"": 401, "reader": 403, "alice": 403} {
		c.as(who).do("GET", "/v1/operator/snapshot", "").is(status)
	}
	// A file that breaks off differs from one that has ended.
	f.err = structs.Errorf(structs.CodeInternal, "disk")
	req, err := http.NewRequest("GET", c.s.URL+"/v1/operator/snapshot", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Auth-Token", "admin")
	resp, err := httpClient.Do(req)
	if err != nil {
		return // cut off before its head
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); err == nil {
		t.Errorf("the broken snapshot ends well: %q", b)
	}
}

func TestSnapshotIsRestored(t *testing.T) {
	f := &fakeOperations{}
	c := operated(t, f, func(c *rest.Config) { c.MaxSnapshot = 100 })
	const path = "/v1/operator/snapshot"
	if got := c.do("PUT", path, "abc").is(200).object(); got["index"] != 9.0 || got["incarnation"] != 2.0 {
		t.Errorf("restored: %v", got)
	}
	c.do("PUT", path+"?keep_cluster_id", "").is(200)
	if got := fmt.Sprint(f.did); got != "[restore abc false restore  true]" {
		t.Error(got)
	}
	f.did = nil
	c.do("PUT", path, strings.Repeat("x", 101)).is(413).mentions("100 bytes")
	// Without a Content-Length the limit is noticed while the body is read.
	req, err := http.NewRequest("PUT", c.s.URL+path, io.MultiReader(strings.NewReader(strings.Repeat("x", 101))))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Auth-Token", "admin")
	resp, err := httpClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 413 {
		t.Errorf("too large without a length: %d", resp.StatusCode)
	}
	c.do("PUT", path+"?force", "abc").is(400)
	c.do("POST", path, "abc").is(405)
	for who, status := range map[string]int{"": 401, "reader": 403, "alice": 403} {
		c.as(who).do("PUT", path, "abc").is(status)
	}
	if f.did != nil {
		t.Errorf("a refused request did %v", f.did)
	}
	f.err = structs.Errorf(structs.CodeConflict, "of a later schema")
	c.do("PUT", path, "abc").is(409)
}

// TestRestoreIsRelayedOnce checks that a server which doesn't lead relays the body to the
// leader, and that the receiver doesn't relay it again.
func TestRestoreIsRelayedOnce(t *testing.T) {
	f := &fakeOperations{}
	hop := new(relayed)
	c := operated(t, f, servertest.WithHold(100*time.Millisecond), func(c *rest.Config) {
		c.Cluster = follower{c.Cluster}
		c.Peers, c.Member = hop, fellow{"peer-secret"}
	})
	c.do("PUT", "/v1/operator/snapshot", "abc").is(200)
	if hop.to != "server-1" || hop.body != "abc" || hop.secret != "peer-secret" || hop.token != "admin" {
		t.Errorf("relayed: %+v", hop)
	}
	hop.to = ""
	c.do("PUT", "/v1/operator/snapshot", "abc", header{peer.HeaderPeer, "peer-secret"}).is(503)
	c.do("PUT", "/v1/operator/snapshot", "abc", header{peer.HeaderPeer, "guessed"}).is(403)
	if hop.to != "" || f.did != nil {
		t.Errorf("relayed twice to %q, or done: %v", hop.to, f.did)
	}
}

// follower is a cluster that another server leads.
type follower struct{ replication }

func (follower) IsLeader() bool { return false }

// relayed records the relayed request.
type relayed struct {
	*peer.Client
	to, body, secret, token string
}

func (r *relayed) Relay(w http.ResponseWriter, req *http.Request, serverID string) error {
	b, err := io.ReadAll(req.Body)
	if err != nil {
		return err
	}
	r.to, r.body, r.secret, r.token = serverID, string(b), req.Header.Get(peer.HeaderPeer), req.Header.Get("X-Auth-Token")
	w.Header().Set("Content-Type", "application/json")
	_, err = io.WriteString(w, `{"index":1,"cluster_id":"c","incarnation":1}`)
	return err
}

// TestServerWithoutOperations checks the error of a server that has no Operations.
func TestServerWithoutOperations(t *testing.T) {
	c := newCaller(t, servertest.New(t))
	for _, route := range []string{"GET /v1/operator/members", "GET /v1/operator/raft/peers", "DELETE /v1/operator/raft/peers/s1",
		"PUT /v1/operator/raft/transfer-leader", "GET /v1/operator/snapshot", "PUT /v1/operator/snapshot"} {
		method, path, _ := strings.Cut(route, " ")
		c.do(method, path, "").is(503)
	}
}
