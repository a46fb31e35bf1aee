package rest_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/rest"
	"github.com/stackforge/magnum/server/servertest"
	"github.com/stackforge/magnum/structs"
)

// behindLeader is a cluster in which the leader is ahead of this server, or silent.
type behindLeader struct {
	*servertest.Log
	ahead atomic.Uint64 // the leader's index; 0 means the same as this server's
	away  atomic.Bool   // the leader doesn't answer
	asked atomic.Int64
}

func (f *behindLeader) LeaderIndex(ctx context.Context) (uint64, error) {
	f.asked.Add(1)
	if f.away.Load() {
		return 0, structs.Errorf(structs.CodeNoLeader, "nobody answers")
	}
	if n := f.ahead.Load(); n != 0 {
		return n, nil
	}
	return f.Log.LeaderIndex(ctx)
}

func onFollower(t *testing.T, options ...servertest.Option) (*behindLeader, *servertest.Server) {
	t.Helper()
	f := new(behindLeader)
	return f, servertest.New(t, append(options, func(c *rest.Config) {
		f.Log = c.Cluster.(*servertest.Log)
		c.Cluster, c.Operations = f, &fakeOperations{peers: []structs.RaftPeerBody{}}
	})...)
}

// TestReadsWaitForTheLeadersIndex checks that a default read on a server that is
// behind shows what the leader has acknowledged, and that ?stale and blocking reads
// don't wait for it.
func TestReadsWaitForTheLeadersIndex(t *testing.T) {
	behind, s := onFollower(t)
	f := newFixtureOn(t, s)
	id := f.do("POST", "/v1/baymodels", `{"coe":"docker","name":"was"}`).is(201).uuid()
	behind.ahead.Store(s.Store.Index() + 1)
	f.do("GET", "/v1/baymodels/"+id+"?stale", "").is(200).isNotStale()
	f.do("GET", "/v1/baymodels/"+id+"?index=1", "").is(200).isNotStale()
	if n := behind.asked.Load(); n != 0 {
		t.Errorf("a stale and a blocking read asked the leader %d times", n)
	}
	answer := make(chan *reply, 1)
	go func() { answer <- f.do("GET", "/v1/baymodels/"+id, "") }()
	eventually(t, "the read asks the leader", func() bool { return behind.asked.Load() == 1 })
	f.do("PATCH", "/v1/baymodels/"+id, `[{"op":"replace","path":"/name","value":"is"}]`).is(200)
	if got := (<-answer).is(200).isNotStale().object()["name"]; got != "is" {
		t.Errorf("the read shows the name %v", got)
	}
}

// TestBlockingRefusalAsksTheLeader checks that a blocking read of an object which this
// server doesn't know yet isn't answered with 404.
func TestBlockingRefusalAsksTheLeader(t *testing.T) {
	behind, s := onFollower(t)
	f := newFixtureOn(t, s)
	for _, path := range []string{"/v1/baymodels/ID?index=1", "/v1/baymodels?index=1&marker=ID"} {
		id := structs.NewID()
		path = strings.Replace(path, "ID", id, 1)
		behind.ahead.Store(s.Store.Index() + 1)
		before := behind.asked.Load()
		answer := make(chan *reply, 1)
		go func() { answer <- f.do("GET", path, "") }()
		eventually(t, "the read asks the leader", func() bool { return behind.asked.Load() > before })
		behind.ahead.Store(0)
		f.do("POST", "/v1/baymodels", `{"coe":"docker","uuid":"`+id+`"}`)
		(<-answer).is(200)
	}
	f.do("GET", "/v1/baymodels/"+structs.NewID()+"?index=1", "").is(404)
}

// own are the routes that don't depend on writes which other servers have acknowledged.
var own = []string{
	"/", "/v1", "/v1/openapi.json", "/v1/status/leader", "/v1/status/health", "/v1/status/ready", "/v1/metrics",
	"/v1/events",           // has a resume of its own
	"/v1/operator/members", // gossip
}

// TestReadsWithoutLeaderAreMarkedStale checks on every route that reads: if the leader
// doesn't answer, the response is marked stale, and no refusal is final.
func TestReadsWithoutLeaderAreMarkedStale(t *testing.T) {
	behind, s := onFollower(t)
	f := newFixtureOn(t, s)
	id := f.running("c")
	behind.away.Store(true)
	unknown := structs.NewID()
	read := 0
	through := func(routes []rest.Route, ask func(path string) *reply) {
		for _, rt := range routes {
			if rt.Method != http.MethodGet || rt.Action == identity.AgentCall || slices.Contains(own, rt.Path) {
				continue
			}
			if strings.HasSuffix(rt.Path, "/ws") || strings.Contains(rt.Path, "/terminals/") {
				continue // a WebSocket; its container is found in the same way as for execute
			}
			read++
			path := strings.NewReplacer(":id", unknown, ":request", "req-1").Replace(rt.Path)
			if strings.Contains(path, "archive") {
				path += "?path=/"
			}
			r := ask(path)
			if r.header.Get("X-Magnum-Stale") != "true" || r.status >= 400 && r.status != 503 {
				t.Errorf("%s %s: status %d, X-Magnum-Stale %q: %s", rt.Method, path, r.status, r.header.Get("X-Magnum-Stale"), r.body)
			}
		}
	}
	through(s.REST.Routes(), func(path string) *reply { return f.do("GET", path, "") })
	through(s.REST.ZunRoutes(), func(path string) *reply {
		return f.raw("GET", path, "", header{"OpenStack-API-Version", "container 1.40"})
	})
	if read < 20 {
		t.Errorf("only %d routes read", read)
	}
	f.do("PUT", "/v1/containers/"+unknown+"/execute?command=ls", "").is(503).mentions("may be behind")
	f.do("GET", "/v1/containers/"+unknown, "").is(503).mentions("could not be found")
	f.do("GET", "/v1/containers/"+unknown+"?stale", "").is(404)
	f.do("GET", "/v1/containers?bay=nope", "").is(503).mentions("could not be found")
	f.do("GET", "/v1/containers?limit=0", "").is(400).mentions("Limit")
	if got := f.do("GET", "/v1/containers/"+id, "").is(200).header.Get("X-Magnum-Stale"); got != "true" {
		t.Errorf("a show without a leader has X-Magnum-Stale %q", got)
	}
	behind.away.Store(false)
	f.do("GET", "/v1/containers/"+unknown, "").is(404).isNotStale()
}

// TestSessionRefusalsOnAStaleStateAreNotFinal: a container whose start another server has
// acknowledged may not have been started yet in this server's state.
func TestSessionRefusalsOnAStaleStateAreNotFinal(t *testing.T) {
	behind, s := onFollower(t)
	f := newFixtureOn(t, s)
	id := f.container("c", "")
	requests := []struct{ method, path string }{
		{"GET", "logs"}, {"PUT", "execute?command=ls"}, {"GET", "stats"}, {"GET", "top"},
	}
	sockets := []string{"execute/ws?command=ls", "attach/ws"}
	socket := func(path string) *http.Response {
		conn, resp, err := websocket.Dial(t.Context(), strings.Replace(s.URL, "http", "ws", 1)+"/v1/containers/"+path,
			&websocket.DialOptions{HTTPClient: httpClient})
		if err == nil {
			conn.CloseNow()
		}
		if resp == nil {
			t.Fatalf("%s: %v", path, err)
		}
		return resp
	}
	for _, away := range []bool{false, true} {
		behind.away.Store(away)
		want, says := 409, ""
		if away {
			want, says = 503, "may be behind"
		}
		for _, r := range requests {
			f.do(r.method, "/v1/containers/"+id+"/"+r.path, "").is(want).mentions(says)
		}
		for _, path := range sockets {
			if resp := socket(id + "/" + path); resp.StatusCode != want {
				t.Errorf("%s with the leader away %v: %d, want %d", path, away, resp.StatusCode, want)
			}
			missing := map[bool]int{false: 404, true: 503}[away]
			if resp := socket(structs.NewID() + "/" + path); resp.StatusCode != missing {
				t.Errorf("%s of nobody with the leader away %v: %d, want %d", path, away, resp.StatusCode, missing)
			}
		}
	}
}

// TestTokenRevokedOnAnotherServer checks that a read is refused if its token was revoked on
// another server, although this server doesn't know of that when the read comes.
func TestTokenRevokedOnAnotherServer(t *testing.T) {
	behind, s := onFollower(t, servertest.WithTokens())
	l := newLocal(t, s)
	text := l.token("alice")
	alice := l.as(text)
	alice.do("GET", "/v1/baymodels", "").is(200)
	behind.ahead.Store(s.Store.Index() + 1)
	before := behind.asked.Load()
	answer := make(chan *reply, 1)
	go func() { answer <- alice.do("GET", "/v1/baymodels", "") }()
	eventually(t, "the read asks the leader", func() bool { return behind.asked.Load() > before })
	id, _, _ := structs.ParseToken(text)
	l.do("DELETE", "/v1/tokens/"+id, "").is(204)
	(<-answer).is(401)
}

// isNotStale checks that the response isn't marked stale.
func (r *reply) isNotStale() *reply {
	r.t.Helper()
	if got := r.header.Get("X-Magnum-Stale"); got != "" {
		r.t.Errorf("%s: X-Magnum-Stale is %q", r.what, got)
	}
	return r
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for until := time.Now().Add(time.Minute); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("not in time: %s", what)
		}
	}
}
