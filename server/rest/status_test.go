package rest_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stackforge/magnum/server/rest"
	"github.com/stackforge/magnum/server/servertest"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

func TestStatusLeaderNeedsNoToken(t *testing.T) {
	var none atomic.Bool
	s := servertest.New(t, servertest.WithAuth(tokens), func(c *rest.Config) {
		c.Leader = func() (string, string) {
			if none.Load() {
				return "", ""
			}
			return "rack-7", "192.0.2.1:9511"
		}
	})
	c := newCaller(t, s)
	c.spec = newCaller(t, s).as("admin").document()
	if got := string(c.do("GET", "/v1/status/leader", "").is(200).body); got != `{"leader":{"name":"rack-7","address":"192.0.2.1:9511"}}` {
		t.Errorf("leader %s", got)
	}
	c.do("GET", "/v1/status/ready", "").is(200)
	none.Store(true)
	if r := c.do("GET", "/v1/status/leader", "").is(503); r.header.Get("Retry-After") != "1" {
		t.Errorf("Retry-After %q", r.header.Get("Retry-After"))
	}
	for _, path := range []string{"/v1/status/ready", "/v1/status/health"} {
		r := c.do("GET", path, "").is(503)
		if fmt.Sprint(r.object()["reasons"]) != "[there is no leader]" || r.header.Get("Retry-After") == "" {
			t.Errorf("%s: %s", path, r.body)
		}
	}
}

func TestHealthReasons(t *testing.T) {
	var full atomic.Bool
	var behind atomic.Uint64
	s := servertest.New(t, func(c *rest.Config) {
		c.Room = func() error {
			if full.Load() {
				return structs.Errorf(structs.CodeNoSpace, "/srv/secret/path is full")
			}
			return nil
		}
		c.Behind = behind.Load
	})
	c := newCaller(t, s)
	if got := string(c.do("GET", "/v1/status/health", "").is(200).body); got != `{"status":"ok"}` {
		t.Errorf("health %s", got)
	}
	if got := string(c.do("GET", "/v1/status/ready", "").is(200).body); got != `{"status":"ready"}` {
		t.Errorf("ready %s", got)
	}
	full.Store(true)
	c.do("GET", "/v1/status/ready", "").is(200) // reads go on
	r := c.do("GET", "/v1/status/health", "").is(503)
	if got := r.object(); got["status"] != "not ok" || fmt.Sprint(got["reasons"]) != "[the disk is nearly full: nothing is written]" ||
		strings.Contains(string(r.body), "secret") {
		t.Errorf("health %s", r.body)
	}
	behind.Store(1 << 20)
	if got := c.do("GET", "/v1/status/health",
		"").is(503).object(); fmt.Sprint(got["reasons"]) != "[the state is behind the disk is nearly full: nothing is written]" {
		t.Errorf("health %v", got)
	}
	if got := c.do("GET", "/v1/status/ready", "").is(503).object(); got["status"] != "not ready" {
		t.Errorf("ready %v", got)
	}
	behind.Store(1)
	c.do("GET", "/v1/status/ready", "").is(200)
}

func TestServerWithoutStateIsNotReady(t *testing.T) {
	h := rest.New(rest.Config{Store: state.New(), Cluster: &servertest.Log{}}).Handler()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/v1/status/ready", nil))
	if w.Code != 503 || !strings.Contains(w.Body.String(), "the state is not loaded") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestMetricsAcceptBearerToken(t *testing.T) {
	s := servertest.New(t, servertest.WithAuth(tokens), func(c *rest.Config) {
		c.Metrics = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain; version=0.0.4")
			_, _ = w.Write([]byte("magnum_x 1\n"))
		})
	})
	c := newCaller(t, s)
	for _, h := range []header{{"Authorization", "Bearer admin"}, {"X-Auth-Token", "admin"}} {
		if got := string(c.do("GET", "/v1/metrics", "", h).is(200).body); got != "magnum_x 1\n" {
			t.Errorf("metrics %q", got)
		}
	}
	c.do("GET", "/v1/metrics", "", header{"Authorization", "Bearer alice"}).is(403)
	c.do("GET", "/v1/metrics", "", header{"Authorization", "Bearer wrong"}).is(401)
	c.do("GET", "/v1/metrics", "", header{"Authorization", "admin"}).is(200) // without a scheme it is as good as X-Auth-Token
	c.do("GET", "/v1/metrics", "").is(401)
	c.do("GET", "/v1/operator/state", "", header{"Authorization", "Bearer admin"}).is(401) // no other route accepts a bearer token
}

// seen counts the observed requests.
type seen struct {
	mu     sync.Mutex
	counts map[string]int // by method, route and status, with " parked" for requests that waited
}

func (o *seen) observe(method, route string) func(int, time.Duration) {
	return func(status int, took time.Duration) {
		key := fmt.Sprintf("%s %s %d", method, route, status)
		if took < 0 {
			key += " parked"
		}
		o.mu.Lock()
		defer o.mu.Unlock()
		o.counts[key]++
	}
}

func (o *seen) count(key string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.counts[key]
}

func TestRequestsAreObservedByRoute(t *testing.T) {
	o := &seen{counts: map[string]int{}}
	s := servertest.New(t, func(c *rest.Config) { c.Observe = o.observe })
	c := newCaller(t, s)
	bay := c.do("POST", "/v1/bays", `{}`).is(201).uuid()
	c.do("GET", "/v1/bays/"+bay, "").is(200)
	c.do("GET", "/bays/"+bay+"/", "").is(200)
	c.do("GET", "/v1/bays/nope", "").is(404)
	c.do("GET", "/v1/bogus/1", "").is(404)
	c.do("GET", "/v1/bogus/2", "").is(404)
	c.do("PUT", "/v1/bays", "").is(405)
	c.do("GET", "/v1/bays/detail", "").is(200)
	c.do("GET", "/v1/bays/"+bay+"?index=9999&wait=1ms", "").is(200)
	for key, want := range map[string]int{
		"POST /v1/bays 201": 1, "GET /v1/bays/:id 200": 2, "GET /v1/bays/:id 404": 1, "other other 404": 2, "other other 405": 1,
		"GET /v1/bays/detail 200": 1, "GET /v1/bays/:id 200 parked": 1,
	} {
		servertest.Eventually(t, key, func() bool { return o.count(key) >= want })
		if got := o.count(key); got != want {
			t.Errorf("%s was observed %d times, want %d", key, got, want)
		}
	}
}

func TestBlockingReadsAreCounted(t *testing.T) {
	s := servertest.New(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, "GET", s.URL+"/v1/bays?index=9999&wait=1m", nil)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if resp, err := httpClient.Do(r); err == nil {
			resp.Body.Close()
		}
	}()
	servertest.Eventually(t, "one read is parked", func() bool { return s.REST.Parked() == 1 })
	cancel()
	<-done
	servertest.Eventually(t, "none is", func() bool { return s.REST.Parked() == 0 })
}

func TestProfilesNeedConfigAndOperator(t *testing.T) {
	off := newCaller(t, servertest.New(t, servertest.WithAuth(tokens)))
	off.as("admin").do("GET", "/debug/pprof/", "").is(404)
	on := newCaller(t, servertest.New(t, servertest.WithAuth(tokens), func(c *rest.Config) { c.Pprof = true }))
	for path, text := range map[string]string{
		"/debug/pprof/": "goroutine", "/debug/pprof": "goroutine", "/debug/pprof/goroutine?debug=1": "goroutine profile",
		"/debug/pprof/symbol": "num_symbols", "/debug/pprof/heap?debug=1": "heap profile",
	} {
		if r := on.as("admin").raw("GET", path, "").is(200); !strings.Contains(string(r.body), text) {
			t.Errorf("%s: %s", path, cut(string(r.body)))
		}
		on.as("alice").do("GET", path, "").is(403)
		on.do("GET", path, "").is(401)
	}
	for _, path := range []string{"/debug/pprof/profile?seconds=1", "/debug/pprof/trace?seconds=0.1"} {
		if r := on.as("admin").raw("GET", path, "").is(200); len(r.body) == 0 {
			t.Errorf("%s is empty", path)
		}
	}
	on.as("admin").do("GET", "/debug/pprof/cmdline", "").is(404) // it would show the flag -join-token
	on.as("admin").do("POST", "/debug/pprof/heap", "").is(405)
	on.as("admin").raw("GET", "/debug/pprof/nonsense", "").is(404)
	on.as("admin").do("GET", "/debug/pprofx", "").is(404)
}
