package rest_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/peer"
	"github.com/stackforge/magnum/server/rest"
	"github.com/stackforge/magnum/server/servertest"
	"github.com/stackforge/magnum/structs"
)

// TestBodyIsRefusedWhereNoneIsTaken checks that routes without a body refuse one. If the
// body of a kill were ignored, a signal in it would be lost.
func TestBodyIsRefusedWhereNoneIsTaken(t *testing.T) {
	s := servertest.New(t)
	f := newFixtureOn(t, s)
	f.running("x")
	f.do("PUT", "/v1/containers/x/kill", `{"signal":"SIGUSR1"}`).is(400)
	tried := 0
	for _, rt := range s.REST.TestRoutes() {
		if rt.Takes != "" || rt.Zun && rt.Method != "GET" || rt.Action == identity.AgentCall {
			continue
		}
		tried++
		path := fillPath(rt.Path)
		for i, name := range rt.Wants {
			path += map[bool]string{true: "?", false: "&"}[i == 0] + name + "=/a"
		}
		var headers []header
		if rt.Zun {
			headers = []header{speaksZun}
		}
		for _, body := range []string{`{"signal":"SIGUSR1"}`, "garbage{", "[]", "0", `""`, `{"deadline":"10m"}`, "x", "{}{}", "{} x", "nul",
			"null null", strings.Repeat(" ", 100) + "x", strings.Repeat("x", 300<<10)} {
			unchanged(t, s, rt.Path, func() {
				r := f.raw(rt.Method, path, body, headers...)
				if r.status != 400 || !strings.Contains(string(r.body), "takes none") {
					t.Errorf("%s %s with body %.40q: %d %.300s", rt.Method, path, body, r.status, r.body)
				}
			})
		}
	}
	if tried < 50 {
		t.Fatalf("only %d routes take no body", tried)
	}
	// A body without content is accepted.
	for _, body := range []string{"", "{}", " null\r\n", "  "} {
		f.do("PUT", "/v1/containers/x/pause", body).is(200)
		f.do("PUT", "/v1/containers/x/unpause", body).is(200)
	}
	for _, chunks := range []string{"0\r\n\r\n", "14\r\n{\"signal\":\"SIGUSR1\"}\r\n0\r\n\r\n"} {
		conn := dial(t, s)
		fmt.Fprintf(conn, "PUT /v1/containers/x/pause HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n%s", chunks)
		want := map[bool]int{true: 200, false: 400}[len(chunks) < 10]
		if resp := answerOn(t, conn); resp.StatusCode != want {
			t.Errorf("chunks %q: %s, want %d", chunks, resp.Status, want)
		}
	}
}

// TestZunArgumentsInABody checks that clients of Zun can send the arguments of an action
// as a JSON object.
func TestZunArgumentsInABody(t *testing.T) {
	s := newScript()
	f := newFixture(t, servertest.Serve(s.serve))
	f.running("c")
	s.play = serveText
	f.zun("POST", "/v1/containers/c/rename", `{"name":"d"}`).is(200)
	f.zun("POST", "/v1/containers/d/rename", `{"name":"c"}`).is(200)
	f.zun("POST", "/v1/containers/c/execute", `{"command":"ls -l 'a b'","run":true,"interactive":null}`).is(200)
	if offer := <-s.offers; strings.Join(offer.Exec.Command, "|") != "ls|-l|a b" {
		t.Errorf("offer %+v", offer.Exec)
	}
	f.zun("POST", "/v1/containers/c/execute", `{"command":["ls","a b"],"run":"True"}`).is(200)
	if offer := <-s.offers; strings.Join(offer.Exec.Command, "|") != "ls|a b" {
		t.Errorf("offer %+v", offer.Exec)
	}
	f.zun("POST", "/v1/containers/c/stop", `{"timeout":"3"}`).is(202)
	f.zun("POST", "/v1/containers/c/start", `{}`).is(202)
	f.zun("POST", "/v1/containers/c/kill", `{"signal":"SIGUSR1"}`).is(202)
	if last := f.do("GET", "/v1/containers/c/actions", "").is(200); !strings.Contains(string(last.body), `"action":"kill"`) {
		t.Errorf("%s", last.body)
	}
	for path, body := range map[string]string{
		"kill":                 `{"signal":"SIGNOPE"}`,
		"kill?signal=SIGUSR1":  `{"signal":"SIGUSR2"}`,
		"start":                `{"signal":"SIGUSR1"}`,
		"stop":                 `garbage{`,
		"pause":                `[]`,
		"unpause":              `"x"`,
		"reboot":               `{"timeout":true}`,
		"rebuild":              `{"image":{"a":"b"}}`,
		"rename":               `{"name":["x"]}`,
		"execute":              `{"command":{"a":1}}`,
		"resize":               `{"w":1}`,
		"execute_resize?w=1":   `{"h":1,"exec_id":"x","x":1}`,
		"rename?":              `{"name":"x","name":"y"}`,
		"execute?interactive=": `{}`,
	} {
		unchanged(t, f.s, path, func() { f.zun("POST", "/v1/containers/c/"+path, body).is(400) })
	}
	unchanged(t, f.s, "DELETE", func() { f.zun("DELETE", "/v1/containers/c", `{"forced":true}`).is(400) })
	if r := f.raw("POST", "/v1/containers/c/kill", "signal=SIGUSR1", speaksZun,
		header{"Content-Type", "application/x-www-form-urlencoded"}); r.status != 415 {
		t.Errorf("a form: %d %s", r.status, r.body)
	}
	f.zun("DELETE", "/v1/containers/c", `{"force":true}`).is(204)
}

// dial opens a connection to the server.
func dial(t testing.TB, s *servertest.Server) net.Conn {
	t.Helper()
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	return conn
}

// answerOn reads a response.
func answerOn(t testing.TB, conn net.Conn) *http.Response {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// TestCredentialsComeBeforeBodies checks that no route waits for the body of a request
// without a valid credential, or reads more of it than a registration has.
func TestCredentialsComeBeforeBodies(t *testing.T) {
	s := servertest.New(t, servertest.WithTokens())
	agent := s.StartAgent(t, "host-1")
	var group sync.WaitGroup
	defer group.Wait()
	for _, rt := range s.REST.TestRoutes() {
		if rt.Action == identity.Public && rt.Takes == "" || rt.Action == identity.PeerCall {
			continue
		}
		for _, length := range []string{"Content-Length: 1000000", "Transfer-Encoding: chunked"} {
			if rt.Action == identity.AgentRegister && strings.HasPrefix(length, "T") {
				continue // see TestBodyDeadline
			}
			group.Go(func() {
				conn := dial(t, s)
				zun := map[bool]string{true: "OpenStack-API-Version: container 1.40\r\n"}[rt.Zun]
				path := strings.Replace(rt.Path, ":id", agent.HostID, 1)
				fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Auth-Token: %s\r\n%s%s\r\n\r\n", rt.Method, fillPath(path),
					structs.FormatToken(structs.NewID(), "x"), zun, length)
				resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
				if err != nil {
					t.Errorf("%s %s with %s: %v", rt.Method, rt.Path, length, err)
					return
				}
				want := map[bool]int{true: 413, false: 401}[rt.Action == identity.AgentRegister]
				if resp.StatusCode != want && rt.Action != identity.Public {
					t.Errorf("%s %s with %s: %s", rt.Method, rt.Path, length, resp.Status)
				}
				if _, err := io.Copy(io.Discard, conn); err != nil { // to its end
					t.Errorf("%s %s: the connection stays: %v", rt.Method, rt.Path, err)
				}
			})
		}
	}
}

// TestBodyDeadline checks that a body which doesn't come holds its connection for no
// longer than BodyTime, and that a body which comes in time may pause.
func TestBodyDeadline(t *testing.T) {
	s := servertest.New(t, servertest.WithBodyTime(300*time.Millisecond))
	f := newFixtureOn(t, s)
	f.running("c")
	var group sync.WaitGroup
	defer group.Wait()
	for path, head := range map[string]string{
		"/v1/agent/hosts":           "Content-Length: 1000\r\n\r\n{\"host_id\":",
		"/v1/agent/hosts?":          "Transfer-Encoding: chunked\r\n\r\n3\r\n{\"a\r\n",
		"/v1/containers":            "Content-Length: 1000\r\n\r\n",
		"/v1/containers?wait=1m":    "Transfer-Encoding: chunked\r\n\r\n",
		"/v1/bays":                  "Content-Length: 1000\r\n\r\n{",
		"/v1/containers?run=true":   "Content-Length: 1000\r\nExpect: 100-continue\r\n\r\n",
		"/v1/operator/bootstrap":    "Transfer-Encoding: chunked\r\n\r\n",
		"/v1/operator/bootstrap?":   "Transfer-Encoding: chunked\r\n\r\n1\r\n \r\n",
		"/v1/containers/c/nonsense": "Content-Length: 1000\r\n\r\n",
	} {
		group.Go(func() {
			conn := dial(t, s)
			fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\n%s", path, head)
			began := time.Now()
			if _, err := io.Copy(io.Discard, conn); err != nil {
				t.Errorf("%s: the connection stays: %v", path, err)
			}
			if took := time.Since(began); took > 50*time.Second {
				t.Errorf("%s: the connection stays for %v", path, took)
			}
		})
	}
	// The deadline ends with the body and doesn't affect what comes after. If this machine
	// stalls, a body may come late, but not each time.
	post := func(want int, path string, parts ...string) (took time.Duration) {
		t.Helper()
		for try := 1; ; try++ {
			conn, began := dial(t, s), time.Now()
			fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n", path, len(strings.Join(parts, "")))
			for _, part := range parts {
				fmt.Fprint(conn, part)
			}
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			switch {
			case err == nil && resp.StatusCode == want:
				took = time.Since(began)
				if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, resp.ContentLength)); err != nil {
					t.Fatal(err)
				}
				return took
			case try < 10:
			case err == nil:
				t.Fatal(resp.Status)
			default:
				t.Fatal(err)
			}
		}
	}
	index := s.Store.Index()
	post(201, "/v1/baymodels", `{"coe`, `":"docker"}`)
	if took := post(202, "/v1/bays?wait=900ms", `{"name":"more","node_count":5}`); took < 800*time.Millisecond {
		t.Fatalf("202 after %v", took)
	}
	conn := dial(t, s)
	fmt.Fprintf(conn, "GET /v1/bays?index=%d&wait=900ms HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", index+1000)
	if resp := answerOn(t, conn); resp.StatusCode != 200 {
		t.Fatal(resp.Status)
	}
}

// TestRegistrationBodyIsLimited checks the limit of a registration's body, which is read
// before its sender is authenticated.
func TestRegistrationBodyIsLimited(t *testing.T) {
	s := servertest.New(t)
	c := newCaller(t, s)
	for _, n := range []int{structs.MaxRegistration + 1, structs.MaxBody} {
		c.raw("POST", "/v1/agent/hosts", `{"host_id":"`+strings.Repeat("x", n)+`"}`).is(413)
	}
	conn := dial(t, s)
	fmt.Fprintf(conn, "POST /v1/agent/hosts HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n8000\r\n%s",
		strings.Repeat(" ", 0x8000))
	if resp := answerOn(t, conn); resp.StatusCode != 413 {
		t.Errorf("chunks: %s", resp.Status)
	}
}

// forwardedQuery records the forwarded request.
type forwardedQuery struct {
	forwards
	got chan string
}

func (h *forwardedQuery) Forward(_ context.Context, _ string, f peer.Forwarded) ([]byte, uint64, error) {
	h.got <- f.Request.URL.RawQuery + " " + string(f.Body)
	return nil, 0, structs.Errorf(structs.CodeConflict, "no")
}

// TestArgumentsInABodyReachTheLeader checks that arguments of a body are forwarded in the
// query. A leader of an earlier version ignores the body and would send SIGKILL.
func TestArgumentsInABodyReachTheLeader(t *testing.T) {
	h := &forwardedQuery{got: make(chan string, 1)}
	s := servertest.New(t, func(r *rest.Config) { r.Cluster, r.Peers = led{}, h })
	c := newCaller(t, s)
	c.zun("POST", "/v1/containers/c/kill", `{"signal":"SIGUSR1"}`).is(409)
	if got := <-h.got; got != "signal=SIGUSR1 " {
		t.Errorf("the leader got %q", got)
	}
}
