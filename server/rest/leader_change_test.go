package rest_test

import (
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stackforge/magnum/server/peer"
	"github.com/stackforge/magnum/server/rest"
	"github.com/stackforge/magnum/server/servertest"
)

// moving is a cluster in which a test sets the leader: "other", or this server.
type moving struct {
	*servertest.Log

	mu      sync.Mutex
	leader  string
	changed chan struct{}
}

func (m *moving) Leader() (id, addr string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.leader, "127.0.0.1:9511"
}

func (m *moving) Alone() bool { return false }

func (m *moving) IsLeader() bool { id, _ := m.Leader(); return id == "self" }

func (m *moving) Changed() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.changed
}

func (m *moving) set(leader string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.leader = leader
	close(m.changed)
	m.changed = make(chan struct{})
}

// TestLeaderChangeDuringForwardedCall freezes the old leader while it has the request. The
// new leader carries out a create, once. A change of fields isn't repeated, and the
// response says that its outcome is unknown.
func TestLeaderChangeDuringForwardedCall(t *testing.T) {
	came := make(chan struct{})
	release := make(chan struct{})
	frozen := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		came <- struct{}{}
		<-release
	}))
	t.Cleanup(frozen.Close)
	t.Cleanup(func() { close(release) })
	m := &moving{leader: "self", changed: make(chan struct{})}
	s := servertest.New(t, func(c *rest.Config) {
		m.Log = c.Cluster.(*servertest.Log)
		c.Cluster, c.Hold = m, 30*time.Second
		c.Member = fellow{secret: "the secret"}
		c.Peers = peer.New(peer.Config{URLs: func(string) []string { return []string{frozen.URL} },
			Secret: func() string { return "the secret" }})
	})
	f := newFixtureOn(t, s)
	made := f.do("POST", "/v1/baymodels", `{"coe":"docker","name":"was"}`).is(201).object()["uuid"].(string)
	during := func(method, path, body string) *reply {
		t.Helper()
		m.set("other")
		answer := make(chan *reply, 1)
		go func() { answer <- f.do(method, path, body) }()
		<-came
		m.set("self")
		select {
		case r := <-answer:
			return r
		case <-time.After(20 * time.Second):
			t.Fatalf("%s %s waits for the frozen leader", method, path)
			return nil
		}
	}
	during("POST", "/v1/baymodels", `{"coe":"docker","name":"made"}`).is(201)
	if n := len(f.do("GET", "/v1/baymodels", "").items("baymodels")); n != 2 {
		t.Errorf("there are %d baymodels, want 2", n)
	}
	r := during("PATCH", "/v1/baymodels/"+made, `[{"op":"replace","path":"/name","value":"changed"}]`).is(503).code("no_leader")
	if got := r.header.Get(peer.HeaderOutcome); got != peer.OutcomeUnknown {
		t.Errorf("%s is %q", peer.HeaderOutcome, got)
	}
	if got := f.do("GET", "/v1/baymodels/"+made, "").object()["name"]; got != "was" {
		t.Errorf("it was carried out all the same: %v", got)
	}
}
