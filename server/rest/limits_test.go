package rest_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/limits"
	"github.com/stackforge/magnum/server/rest"
	"github.com/stackforge/magnum/server/rest/web"
	"github.com/stackforge/magnum/server/servertest"
	"github.com/stackforge/magnum/structs"
)

// knowing knows its tokens without asking anybody.
type knowing struct{ identity.Static }

func (k knowing) Knows(token string) bool { _, ok := k.Static[token]; return ok }

func withLimits(l *limits.Limits) servertest.Option {
	return func(c *rest.Config) { c.Limits, c.Authenticator = l, knowing{tokens} }
}

// limited checks a refusal.
func (r *reply) limited(status int, texts ...string) {
	r.t.Helper()
	r.is(status).mentions(texts...)
	if s, err := strconv.Atoi(r.header.Get("Retry-After")); err != nil || s < 1 {
		r.t.Errorf("%s: Retry-After is %q", r.what, r.header.Get("Retry-After"))
	}
}

// until makes requests until one is answered with another status, and returns that answer.
func until(t *testing.T, status int, do func() *reply) *reply {
	t.Helper()
	for range 1000 {
		if r := do(); r.status != status {
			return r
		}
	}
	t.Fatal("no request is refused")
	return nil
}

func TestProjectRates(t *testing.T) {
	l := limits.New(limits.Config{Writes: 1, Reads: 2})
	f := newCaller(t, servertest.New(t, withLimits(l)))
	alice := f.as("alice")
	until(t, 200, func() *reply { return alice.raw("GET", "/v1/bays", "") }).limited(429, "2 reads a second", "-rate-reads")
	until(t, 404, func() *reply { return alice.raw("DELETE", "/v1/bays/x", "") }).limited(429, "1 writes a second", "-rate-writes")
	// The rate is the project's, and a request that the policy refuses counts, too.
	until(t, 403, func() *reply { return f.as("reader").raw("DELETE", "/v1/bays/x", "") }).limited(429)
	f.as("mallory").do("GET", "/v1/bays", "").is(200)
	f.as("mallory").do("DELETE", "/v1/bays/x", "").is(404)
	if got := l.Refused(); got[limits.Reads] == 0 || got[limits.Writes] == 0 || got[limits.Address] != 0 {
		t.Errorf("refusals are %v", got)
	}
}

// TestManyRefusals: a client that sends again once it is refused isn't refused faster than the
// server wants, and others are served meanwhile.
func TestManyRefusals(t *testing.T) {
	l := limits.New(limits.Config{Reads: 1})
	f := newCaller(t, servertest.New(t, withLimits(l)))
	alice, mallory := f.as("alice"), f.as("mallory")
	var wg sync.WaitGroup
	var slow atomic.Bool
	for range 16 { // so that there are enough of them on a slow machine, too
		wg.Go(func() {
			for n := 0; n < 1000 && !slow.Load(); n++ {
				began := time.Now()
				if alice.raw("GET", "/v1/bays", "").status == 429 && time.Since(began) > 200*time.Millisecond {
					slow.Store(true)
				}
			}
		})
	}
	wg.Wait()
	if !slow.Load() {
		t.Error("no refusal is slow")
	}
	alice.raw("GET", "/v1/bays", "").limited(429, "1 reads a second", "-rate-reads")
	mallory.do("GET", "/v1/bays", "").is(200)
}

// TestAddressRate: whoever has no valid token is slowed down, and nobody else at the same
// address is.
func TestAddressRate(t *testing.T) {
	l := limits.New(limits.Config{Addresses: 1})
	s := servertest.New(t, withLimits(l))
	c := newCaller(t, s)
	host := s.StartAgent(t, "host-1")
	until(t, 401, func() *reply { return c.as("wrong").raw("GET", "/v1/bays", "") }).limited(429, "without a valid token", "127.0.0.1")
	registration := toJSON(t, structs.HostRegister{HostID: structs.NewID(), Name: "h", JoinToken: "wrong-token",
		Secret: structs.NewSecret()})
	agent := "/v1/agent/hosts/"
	for _, tt := range []struct {
		status                    int // while the rate isn't exceeded
		token, method, path, body string
		headers                   []header
	}{
		{401, "", "GET", "/v1/bays", "", nil},
		{401, "", "GET", "/v1/what", "", nil},
		{401, "other", "POST", "/v1/bays", "{}", nil},
		{200, "", "GET", "/", "", nil},
		{401, "", "POST", agent, registration, nil},
		{401, "", "GET", agent + structs.NewID() + "/work", "", nil},
		{401, "", "GET", agent + host.HostID + "/work", "", []header{{"Authorization", "Bearer wrong"}}},
	} {
		until(t, tt.status, func() *reply { return c.as(tt.token).raw(tt.method, tt.path, tt.body, tt.headers...) }).limited(429)
	}
	for range 100 {
		c.as("alice").do("GET", "/v1/bays", "").is(200)
		c.as("alice").do("GET", "/", "").is(200)
	}
	// The host goes on.
	c.as("alice").do("POST", "/v1/bays?wait=1m", `{"name":"b"}`).is(201)
	c.as("alice").do("POST", "/v1/containers?run=true&wait=1m", `{"name":"c","image":"busybox:latest"}`).is(201)
}

// TestUnknownServiceTokensAreLimited: a user with a valid token can't have Keystone asked for any
// number of other tokens.
func TestUnknownServiceTokensAreLimited(t *testing.T) {
	k := newCloud(t)
	alice := newCaller(t, k.server(func(c *rest.Config) { c.Limits = limits.New(limits.Config{Addresses: 1}) })).as(cloudToken("alice"))
	alice.do("GET", "/v1/bays", "").is(200)
	n := 0
	until(t, 401, func() *reply {
		n++
		return alice.raw("GET", "/v1/bays", "", header{"X-Service-Token", fmt.Sprint("gAAAA-garbage-", n)})
	}).limited(429)
	asked := k.Validations("")
	for i := range 200 {
		alice.raw("GET", "/v1/bays", "", header{"X-Service-Token", fmt.Sprint("gAAAA-more-", i)})
	}
	if more := k.Validations("") - asked; more > 150 { // one a second is right
		t.Errorf("Keystone was asked %d more times", more)
	}
}

// TestTrustedProxy: the headers of a trusted proxy are believed, and those of nobody else.
func TestTrustedProxy(t *testing.T) {
	proxies := func(c *rest.Config) { c.Proxies = web.Proxies{loopback} }
	l := limits.New(limits.Config{Addresses: 1})
	c := newCaller(t, servertest.New(t, withLimits(l), proxies))
	from := func(address string) header { return header{"X-Forwarded-For", address} }
	until(t, 401, func() *reply { return c.raw("GET", "/v1/bays", "", from("203.0.113.1")) }).limited(429, "203.0.113.1")
	c.raw("GET", "/v1/bays", "", from("203.0.113.2")).is(401)
	c.raw("GET", "/v1/bays", "", from("203.0.113.2, 203.0.113.1")).limited(429)
	c.raw("GET", "/v1/bays", "", from("203.0.113.1, 203.0.113.3, 127.0.0.1")).is(401)
	via := []header{from("203.0.113.9"), {"X-Forwarded-Proto", "https"}, {"X-Forwarded-Host", "magnum.example.org:8443"}}
	bay := c.as("alice").raw("POST", "/v1/bays", `{"name":"b"}`, via...).is(201)
	if want := "https://magnum.example.org:8443/v1/bays/"; !strings.HasPrefix(bay.header.Get("Location"), want) ||
		!strings.Contains(string(bay.body), want) {
		t.Errorf("Location %q, body %s", bay.header.Get("Location"), bay.body)
	}
	for _, h := range []header{{"X-Forwarded-Host", "a/b"}, {"X-Forwarded-Host", "a@b"}, {"X-Forwarded-Proto", "ftp"}} {
		if r := c.as("alice").raw("GET", "/v1/bays", "", h).is(200); !strings.Contains(string(r.body), c.s.URL+"/v1/bays/") {
			t.Errorf("with %v the links are %s", h, r.body)
		}
	}

	direct := newCaller(t, servertest.New(t, withLimits(limits.New(limits.Config{Addresses: 1}))))
	until(t, 401, func() *reply { return direct.raw("GET", "/v1/bays", "", from("203.0.113.1")) }).limited(429, "127.0.0.1")
	direct.raw("GET", "/v1/bays", "", from("203.0.113.2")).limited(429)
	direct.as("alice").do("POST", "/v1/bays", `{"name":"b"}`).is(201)
	if r := direct.as("alice").raw("GET", "/v1/bays", "", via...).is(200); strings.Contains(string(r.body), "example.org") {
		t.Errorf("anybody makes links: %s", r.body)
	}

	// Without authentication, the host that the client of the proxy has used must be the server's.
	open := newCaller(t, servertest.New(t, proxies, servertest.WithHosts("magnum.example.org")))
	open.raw("GET", "/v1/bays", "", via...).is(200)
	open.raw("GET", "/v1/bays", "", header{"X-Forwarded-Host", "evil.example"}).is(403)
}

var loopback = netip.MustParsePrefix("127.0.0.0/8")

// peakHeap measures the largest heap until stop is called.
func peakHeap() (stop func() uint64) {
	done, peak := make(chan struct{}), make(chan uint64)
	go func() {
		var most uint64
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			most = max(most, m.HeapAlloc)
			select {
			case <-done:
				peak <- most
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}()
	return func() uint64 { close(done); return <-peak }
}

// await waits for a condition, for longer than eventually.
func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not within a minute: " + what)
		}
	}
}

// rawConnection opens a connection to the server and sends text.
func rawConnection(t *testing.T, s *servertest.Server, text string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if _, err := conn.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// TestUnfinishedBodies: many large bodies that never end take a project's share of memory, and
// no more. Others are served.
func TestUnfinishedBodies(t *testing.T) {
	l := limits.New(limits.Config{Bytes: 64 << 20, Reads: -1, Writes: -1})
	s := servertest.New(t, withLimits(l))
	stop := peakHeap()
	var refused atomic.Int64
	var wg sync.WaitGroup
	const attackers = 200
	for range attackers {
		conn := rawConnection(t, s, "POST /v1/containers HTTP/1.1\r\nHost: localhost\r\nX-Auth-Token: alice\r\n"+
			"Content-Type: application/json\r\nContent-Length: 1000000\r\n\r\n"+strings.Repeat(" ", 100<<10))
		wg.Go(func() {
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				return // the test has ended
			}
			if resp.StatusCode == http.StatusTooManyRequests && resp.Header.Get("Retry-After") != "" {
				refused.Add(1)
			}
			conn.Close()
		})
	}
	const held = 16 << 20 / (4 * 1000000)
	await(t, "all but a few are refused", func() bool { return refused.Load() >= attackers-held })
	if n := l.InFlight(); n > 16<<20 || n == 0 {
		t.Errorf("%d bytes are in flight", n)
	}
	c := newCaller(t, s)
	c.as("mallory").do("POST", "/v1/baymodels", `{"name":"m","coe":"docker","image_id":"`+strings.Repeat("i", 100)+`"}`).is(201)
	c.as("alice").do("GET", "/v1/bays", "").is(200)
	if peak := stop(); peak > 256<<20 {
		t.Errorf("the heap had %d bytes", peak)
	}
	if got := l.Refused()[limits.ProjectBytes]; got < attackers-held {
		t.Errorf("%d refusals are counted", got)
	}
}

// TestUnreadLogs: clients ask for large logs and read nothing. They take a project's share of
// memory until they are cut off, and others are served.
func TestUnreadLogs(t *testing.T) {
	const size = 4 << 20
	l := limits.New(limits.Config{Bytes: 42 << 20, Reads: -1, Writes: -1})
	line := strings.Repeat("\x01", 63<<10) // its JSON is six times as long
	s := servertest.New(t, withLimits(l), func(c *rest.Config) { c.WriteTime = 2 * time.Second })
	agent := servertest.Serve(func(ctx context.Context, _ structs.SessionOffer, conn *websocket.Conn) {
		for sent := 0; sent < size; sent += len(line) {
			if servertest.Send(ctx, conn, stdout, line) != nil {
				return
			}
		}
		_ = servertest.Send(ctx, conn, ctl, `{"done":true}`)
	})
	s.StartAgent(t, "host-1", agent)
	c := newCaller(t, s).as("alice")
	c.do("POST", "/v1/bays?wait=1m", `{"name":"b1"}`).is(201)
	c.do("POST", "/v1/containers?run=true&wait=1m", `{"name":"c","image":"busybox:latest"}`).is(201)
	if r := c.do("GET", "/v1/containers/c/logs", "").is(200); len(r.object()["output"].(string)) < size {
		t.Errorf("the log has %d bytes", len(r.object()["output"].(string)))
	}
	stop := peakHeap()
	for range 30 {
		rawConnection(t, s, "GET /v1/containers/c/logs HTTP/1.1\r\nHost: localhost\r\nX-Auth-Token: alice\r\n\r\n")
	}
	await(t, "some are refused", func() bool { return l.Refused()[limits.ProjectBytes] > 0 })
	newCaller(t, s).as("mallory").do("GET", "/v1/bays", "").is(200)
	await(t, "the others are cut off", func() bool { return l.Refused()[limits.Unread] > 0 && l.InFlight() == 0 })
	if peak := stop(); peak > 512<<20 {
		t.Errorf("the heap had %d bytes", peak)
	}
}

// TestLargePages: a page ends when it has many bytes, and the pages together have each object
// once.
func TestLargePages(t *testing.T) {
	l := limits.New(limits.Config{Bytes: 16 << 20, Reads: -1, Writes: -1})
	s := servertest.New(t, withLimits(l))
	c := newCaller(t, s).as("alice")
	c.do("POST", "/v1/bays", `{"name":"b1"}`).is(201)
	const n = 44
	big := strings.Repeat("x", 120<<10)
	for i := range n {
		c.do("POST", "/v1/containers", fmt.Sprintf(`{"name":"c%d","image":"busybox:latest","environment":{"A":"%s","B":"%s"}}`, i, big,
			big)).is(201)
	}
	seen := make(map[string]bool)
	pages := 0
	for next := "/v1/containers/detail"; next != "" && pages < n; pages++ {
		r := c.do("GET", next, "").is(200)
		if len(r.body) > 10<<20 {
			t.Errorf("a page has %d bytes", len(r.body))
		}
		for _, item := range r.items("containers") {
			if name := item["name"].(string); seen[name] {
				t.Errorf("%s comes twice", name)
			} else {
				seen[name] = true
			}
		}
		next, _ = r.object()["next"].(string)
		next = strings.TrimPrefix(next, s.URL)
	}
	if len(seen) != n || pages != 2 {
		t.Errorf("%d pages have %d objects", pages, len(seen))
	}
	if n := l.Refused()[limits.ProjectBytes]; n != 0 {
		t.Errorf("%d pages are refused", n)
	}
	// A host gets all of its work, which is more than it may have in flight.
	agent := s.StartAgent(t, "host-1")
	await(t, "the host has the containers", func() bool {
		for row := range s.Store.Snapshot().List(structs.TableContainers, "", 0) {
			if _, ok := agent.Assigned(row.Base().ID); !ok {
				return false
			}
		}
		return true
	})
}

// TestShareOfSessions: one reader follows the logs of a container 140 times. Others have their
// sessions nevertheless, and each refusal is a status.
func TestShareOfSessions(t *testing.T) {
	l := limits.New(limits.Config{Reads: -1, Writes: -1, Addresses: -1})
	s := servertest.New(t, withLimits(l))
	s.StartAgent(t, "host-1", servertest.Serve(func(ctx context.Context, _ structs.SessionOffer, conn *websocket.Conn) {
		_ = servertest.Send(ctx, conn, ctl, `{"accepted":true}`)
		<-conn.CloseRead(ctx).Done()
	}))
	c := newCaller(t, s)
	c.as("alice").do("POST", "/v1/bays?wait=1m", `{"name":"b1"}`).is(201)
	c.as("alice").do("POST", "/v1/containers?run=true&wait=1m", `{"name":"c","image":"busybox:latest"}`).is(201)
	follow := func(ctx context.Context, token string) (int, string) {
		r, err := http.NewRequestWithContext(ctx, "GET", s.URL+"/v1/containers/c/logs?follow=true", nil)
		if err != nil {
			t.Error(err)
			return 0, ""
		}
		r.Header.Set("X-Auth-Token", token)
		resp, err := httpClient.Do(r)
		if err != nil {
			t.Error(err)
			return 0, ""
		}
		t.Cleanup(func() { resp.Body.Close() })
		return resp.StatusCode, resp.Header.Get("Retry-After")
	}
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	var served, refused atomic.Int64
	var wg sync.WaitGroup
	for range 140 {
		wg.Go(func() {
			switch status, again := follow(ctx, "reader"); {
			case status == 200:
				served.Add(1)
			case status == 429 && again != "":
				refused.Add(1)
			default:
				t.Errorf("status %d, Retry-After %q", status, again)
			}
		})
	}
	wg.Wait()
	if served.Load() != 48 || refused.Load() != 92 {
		t.Errorf("%d sessions of one reader are served, %d refused", served.Load(), refused.Load())
	}
	if got := l.Refused()[limits.Sessions]; got != 92 {
		t.Errorf("%d refusals are counted", got)
	}
	if status, _ := follow(ctx, "alice"); status != 200 {
		t.Errorf("another user of the project gets %d", status)
	}
	leave()
	await(t, "the reader may begin again", func() bool {
		status, _ := follow(t.Context(), "reader")
		return status == 200
	})
}

// TestShareOfTerminals: likewise for terminals that clients of Zun prepare.
func TestShareOfTerminals(t *testing.T) {
	l := limits.New(limits.Config{Reads: -1, Writes: -1, Addresses: -1})
	s := servertest.New(t, withLimits(l))
	s.StartAgent(t, "host-1")
	c := newCaller(t, s).as("alice")
	c.do("POST", "/v1/bays?wait=1m", `{"name":"b1"}`).is(201)
	c.do("POST", "/v1/containers?run=true&wait=1m", `{"name":"c","image":"busybox:latest"}`).is(201)
	prepare := func(token string) *reply {
		return c.as(token).raw("POST", "/v1/containers/c/execute?command=sh&interactive=true&run=false", "",
			header{"OpenStack-API-Version", "container 1.40"})
	}
	n := 0
	r := until(t, 200, func() *reply { n++; return prepare("alice") })
	if r.limited(429, "375 of the 1000 terminals"); n != 376 {
		t.Errorf("the %dth terminal is refused", n)
	}
	prepare("admin").is(200) // another user of the project
	if got := l.Refused()[limits.Terminals]; got != 1 {
		t.Errorf("%d refusals are counted", got)
	}
}

// TestHostRefusesAStream: a host that is slow to refuse a stream is waited for, so that the
// refusal is a status.
func TestHostRefusesAStream(t *testing.T) {
	f := newFixture(t, servertest.Serve(func(ctx context.Context, _ structs.SessionOffer, conn *websocket.Conn) {
		time.Sleep(400 * time.Millisecond) // longer than a stream waits once the host has accepted it
		_ = servertest.Send(ctx, conn, ctl, `{"error":"the host has 128 sessions open","code":"unavailable"}`)
	}))
	f.running("c")
	f.do("GET", "/v1/containers/c/logs?follow=true", "").limited(503, "128 sessions")
	f.do("GET", "/v1/containers/c/stats?stream=true", "").limited(503, "128 sessions")
}
