package api

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stackforge/magnum/structs"
)

// newTestClient returns a client of a test server with the handler.
func newTestClient(t testing.TB, h http.HandlerFunc) *Client {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	c, err := New(Config{Address: srv.URL, Token: "tok123", Timeout: time.Minute, RetryFor: 30 * time.Second})
	if err != nil {
		t.Fatalf("creating a client: %v", err)
	}
	return c
}

// answer writes a JSON response as a server does.
func answer(w http.ResponseWriter, status int, index, body string) {
	w.Header().Set("Content-Type", "application/json")
	if index != "" {
		w.Header().Set(HeaderIndex, index)
	}
	w.WriteHeader(status)
	io.WriteString(w, body)
}

func TestParseAddress(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"127.0.0.1", "http://127.0.0.1:9511"},
		{"magnum.example:80", "http://magnum.example:80"},
		{"http://h:9511", "http://h:9511"},
		{"http://h:9511/v1", "http://h:9511"},
		{"http://h:9511/v1/", "http://h:9511"},
		{"https://h", "https://h"},
		{"https://h/containers/v1/", "https://h/containers"},
		{"[::1]:80", "http://[::1]:80"},
		{"::1", "http://[::1]:9511"},
	} {
		u, err := ParseAddress(tt.in)
		if err != nil || u.String() != tt.want {
			t.Errorf("ParseAddress(%q) = %v, %v, want %s", tt.in, u, err, tt.want)
		}
	}
	for _, in := range []string{"", "ftp://h", "h:x", "h:0", "h:70000", "http://", "h/path", "http://u:p@h", "http://h?x=1", "a b"} {
		if u, err := ParseAddress(in); structs.CodeOf(err) != structs.CodeInvalid {
			t.Errorf("ParseAddress(%q) = %v, %v, want an error of code invalid", in, u, err)
		}
	}
}

func TestErrorResponsesBecomeCodes(t *testing.T) {
	const fault = `{\"debuginfo\": null, \"faultcode\": \"Client\", \"faultstring\": \"Bay x could not be found.\"}`
	for _, tt := range []struct {
		name, body string
		status     int
		code       structs.Code
		kind, msg  string
	}{
		{"all fields", `{"error_message":"` + fault +
			`","errors":[{"status":404,"code":"bay.not_found","detail":"Bay x is gone.","request_id":"req-9"}]}`, 404, structs.CodeNotFound,
			"bay", "Bay x is gone."},
		{"quota is not forbidden", `{"errors":[{"status":403,"code":"quota","title":"too many"}]}`, 403, structs.CodeQuota, "", "too many"},
		{"2015", `{"error_message":"` + fault + `"}`, 404, structs.CodeNotFound, "", "Bay x could not be found."},
		{"object inside", `{"error_message":{"faultstring":"no"}}`, 400, structs.CodeInvalid, "", "no"},
		{"wrapped text", `{"error_message":"The resource could not be found."}`, 404, structs.CodeNotFound, "",
			"The resource could not be found."},
		{"plain text", "Authentication required", 401, structs.CodeUnauthenticated, "", "unauthorized: Authentication required"},
		{"empty", "", 507, structs.CodeNoSpace, "", "insufficient storage"},
		{"unknown code", `{"errors":[{"code":"bay.weird","detail":"d"}]}`, 409, structs.CodeConflict, "", "d"},
		{"unknown status", `{}`, 418, structs.CodeInternal, "", "i'm a teapot: {}"},
		{"gateway", "<html>", 502, structs.CodeUnavailable, "", "bad gateway: <html>"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newTestClient(t, func(w http.ResponseWriter, _ *http.Request) { answer(w, tt.status, "", tt.body) })
			_, _, err := c.Bays().Get(t.Context(), "x", QueryOptions{})
			var ours *structs.Error
			if !errors.As(err, &ours) {
				t.Fatalf("got %v, which has no *structs.Error", err)
			}
			if structs.CodeOf(err) != tt.code || ours.Kind != tt.kind || err.Error() != tt.msg || StatusOf(err) != tt.status {
				t.Errorf("got code %q kind %q message %q status %d, want %q %q %q %d",
					structs.CodeOf(err), ours.Kind, err, StatusOf(err), tt.code, tt.kind, tt.msg, tt.status)
			}
		})
	}
}

func TestRedirectIsNotFollowed(t *testing.T) {
	var there atomic.Int32
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { there.Add(1) }))
	defer other.Close()
	c := newTestClient(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other.URL, http.StatusFound) })
	_, _, err := c.Bays().List(t.Context(), QueryOptions{})
	if StatusOf(err) != http.StatusFound || there.Load() != 0 {
		t.Fatalf("err %v, %d requests at the redirect's target; want an error of status 302 and none", err, there.Load())
	}
}

func TestCreateWithoutServerFailsAtOnce(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	c, err := New(Config{Address: addr, RetryFor: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	_, _, err = c.Bays().Create(t.Context(), &structs.BayRequest{}, WriteOptions{})
	if structs.CodeOf(err) != structs.CodeUnavailable || !IsUnreachable(err) ||
		!strings.HasPrefix(err.Error(), "no server reachable at http://"+addr+": connection refused") {
		t.Fatalf("got %v, want unavailable with the address and the reason", err)
	}
	if d := time.Since(begin); d > 5*time.Second {
		t.Errorf("a create without a server took %v; it should fail at once", d)
	}
}

func TestForeignResponseAdvisesToCheckAddress(t *testing.T) {
	c := newTestClient(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>hello</html>") })
	if _, _, err := c.Bays().Get(t.Context(), "x", QueryOptions{}); structs.CodeOf(err) != structs.CodeInternal ||
		!strings.Contains(err.Error(), "check the address") {
		t.Errorf("Get got %v, want internal with the advice to check the address", err)
	}
	if _, _, err := c.Bays().List(t.Context(), QueryOptions{}); err == nil {
		t.Error("List accepted a page of HTML")
	}
	c = newTestClient(t, func(w http.ResponseWriter, _ *http.Request) { answer(w, 200, "", `[]`) })
	if _, _, err := c.Bays().List(t.Context(), QueryOptions{}); err == nil {
		t.Error("List accepted a bare array")
	}
}

func TestIdentIsEscapedAsOnePathSegment(t *testing.T) {
	var path atomic.Value
	c := newTestClient(t, func(w http.ResponseWriter, r *http.Request) {
		path.Store(r.URL.EscapedPath())
		answer(w, 200, "", `{"uuid":"u"}`)
	})
	if _, _, err := c.Bays().Get(t.Context(), "a/../b c?d", QueryOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := path.Load(); got != "/v1/bays/a%2F..%2Fb%20c%3Fd" {
		t.Errorf("path %v", got)
	}
	for _, ident := range []string{"", ".", ".."} {
		if _, _, err := c.Bays().Get(t.Context(), ident, QueryOptions{}); structs.CodeOf(err) != structs.CodeInvalid {
			t.Errorf("ident %q: got %v, want invalid", ident, err)
		}
	}
}

func TestCreateRetriesWithSameIdempotencyKey(t *testing.T) {
	var mu sync.Mutex
	var keys, bodies []string
	c := newTestClient(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		keys, bodies = append(keys, r.Header.Get(HeaderIdempotency)), append(bodies, string(body))
		n := len(keys)
		mu.Unlock()
		switch n {
		case 1:
			panic(http.ErrAbortHandler) // breaks the connection: the outcome is unknown
		case 2:
			answer(w, 503, "", `{"errors":[{"code":"no_leader","detail":"no leader"}]}`)
		default:
			answer(w, 201, "7", `{"uuid":"u1","name":"web"}`)
		}
	})
	name := "web"
	body, meta, err := c.Bays().Create(t.Context(), &structs.BayRequest{Name: &name}, WriteOptions{})
	if err != nil || body.UUID != "u1" || meta.Index != 7 || meta.Status != 201 {
		t.Fatalf("got %+v, %+v, %v", body, meta, err)
	}
	if len(keys) != 3 || keys[0] == "" || keys[0] != keys[1] || keys[1] != keys[2] {
		t.Errorf("Idempotency-Keys %q, want one and the same three times", keys)
	}
	if bodies[0] != `{"name":"web"}` || bodies[2] != bodies[0] {
		t.Errorf("bodies %q, want the same each time", bodies)
	}
	if _, _, err := c.Bays().Create(t.Context(), &structs.BayRequest{}, WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	if keys[3] == keys[0] {
		t.Error("two creates share an Idempotency-Key")
	}
}

func TestInvalidCreateIsNotRetried(t *testing.T) {
	var n atomic.Int32
	c := newTestClient(t, func(w http.ResponseWriter, _ *http.Request) { n.Add(1); answer(w, 400, "", `{}`) })
	if _, _, err := c.Bays().Create(t.Context(), &structs.BayRequest{}, WriteOptions{}); structs.CodeOf(err) != structs.CodeInvalid {
		t.Fatalf("got %v, want invalid", err)
	}
	if n.Load() != 1 {
		t.Errorf("%d requests, want 1", n.Load())
	}
}

func TestRetryStopsBeforeLongRetryAfter(t *testing.T) {
	c := newTestClient(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "3600")
		answer(w, 503, "", `{"errors":[{"code":"no_leader","detail":"no leader"}]}`)
	})
	if _, _, err := c.Bays().Create(t.Context(), &structs.BayRequest{}, WriteOptions{}); structs.CodeOf(err) != structs.CodeNoLeader {
		t.Errorf("got %v, want the server's own refusal, no_leader", err)
	}
}

func TestReadsAreMonotonic(t *testing.T) {
	var seen atomic.Value
	c := newTestClient(t, func(w http.ResponseWriter, r *http.Request) {
		seen.Store(r.Header.Get(HeaderIndex))
		index := "42"
		if r.URL.Query().Get("name") == "old" {
			index = "7"
		}
		answer(w, 200, index, `{"bays":[]}`)
	})
	list := func(o QueryOptions) string {
		t.Helper()
		if _, _, err := c.Bays().List(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		return seen.Load().(string)
	}
	if got := list(QueryOptions{}); got != "" {
		t.Errorf("the first request carries the index %q", got)
	}
	if got := list(QueryOptions{Filters: map[string][]string{"name": {"old"}}}); got != "42" {
		t.Errorf("the second request carries the index %q, want 42", got)
	}
	if got := list(QueryOptions{}); got != "42" || c.Index() != 42 {
		t.Errorf("after an older answer the index sent is %q, kept %d, want 42", got, c.Index())
	}
	if got := list(QueryOptions{Stale: true}); got != "" {
		t.Errorf("a stale read carries the index %q", got)
	}
}

func TestListFollowsPages(t *testing.T) {
	var mu sync.Mutex
	var asked []string
	c := newTestClient(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		asked = append(asked, r.URL.RequestURI())
		mu.Unlock()
		switch r.URL.Query().Get("marker") {
		case "":
			answer(w, 200, "5", `{"containers":[{"uuid":"a"},{"uuid":"b"}],"next":"http://elsewhere:1/v1/containers?limit=2&marker=b"}`)
		case "b":
			answer(w, 200, "6", `{"containers":[{"uuid":"c"},{"uuid":"d"}],"next":"http://elsewhere:1/v1/containers?limit=2&marker=d"}`)
		default:
			answer(w, 200, "7", `{"containers":[]}`)
		}
	})
	all, meta, err := c.Containers().List(t.Context(), QueryOptions{Index: 4, Wait: time.Second})
	if err != nil || len(all) != 4 || all[3].UUID != "d" || len(meta.Items) != 4 || meta.Index != 5 {
		t.Fatalf("got %d containers, %d items, index %d, %v", len(all), len(meta.Items), meta.Index, err)
	}
	want := []string{"/v1/containers?index=4&wait=1s", "/v1/containers?marker=b", "/v1/containers?marker=d"}
	if strings.Join(asked, " ") != strings.Join(want, " ") {
		t.Errorf("asked %q, want %q", asked, want)
	}
	asked = nil
	all, _, err = c.Containers().List(t.Context(), QueryOptions{Limit: 3, Detail: true})
	if err != nil || len(all) != 3 || asked[0] != "/v1/containers/detail?limit=3" || len(asked) != 2 {
		t.Errorf("a limit of 3: %d containers, %v, asked %q", len(all), err, asked)
	}
}

func TestQueryOptionsAsURLValues(t *testing.T) {
	o := QueryOptions{Index: 9, Wait: 90 * time.Second, Consistent: true, Stale: true, AllProjects: true, Limit: 5000,
		Marker: "m", SortKey: "name", SortDir: "desc", Filters: map[string][]string{"label": {"a=b", "c=d"}}}
	want := "all_projects=true&consistent=true&index=9&label=a%3Db&label=c%3Dd&limit=1000&marker=m&sort_dir=desc&sort_key=name&" +
		"stale=true&wait=1m30s"
	if got := o.values().Encode(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestCancellationIsReturnedUnchanged(t *testing.T) {
	release := make(chan struct{})
	c := newTestClient(t, func(http.ResponseWriter, *http.Request) { <-release })
	defer close(release)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	if _, _, err := c.Bays().Get(ctx, "x", QueryOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

func TestCallsTimeOutOnSilentServer(t *testing.T) {
	release := make(chan struct{})
	c := newTestClient(t, func(http.ResponseWriter, *http.Request) { <-release })
	defer close(release)
	c.conf.Timeout = 50 * time.Millisecond
	_, _, err := c.Bays().Get(t.Context(), "x", QueryOptions{})
	if structs.CodeOf(err) != structs.CodeUnavailable || !strings.Contains(err.Error(), "no answer in time") {
		t.Errorf("a call: got %v, want unavailable: no answer in time", err)
	}
	_, err = c.Containers().Logs(t.Context(), "x", structs.LogsRequest{})
	if structs.CodeOf(err) != structs.CodeUnavailable {
		t.Errorf("a stream: got %v, want unavailable", err)
	}
}

func TestCallSendsTokenAndReadsRequestID(t *testing.T) {
	c := newTestClient(t, func(w http.ResponseWriter, r *http.Request) {
		for k, want := range map[string]string{HeaderToken: "tok123", "Accept": "application/json", "User-Agent": "magnum"} {
			if got := r.Header.Get(k); got != want {
				t.Errorf("%s is %q, want %q", k, got, want)
			}
		}
		w.Header().Set(HeaderRequestID, "req-1")
		w.WriteHeader(204)
	})
	meta, err := c.Bays().Delete(t.Context(), "x", WriteOptions{})
	if err != nil || meta.RequestID != "req-1" || !meta.Done() {
		t.Errorf("got %+v, %v", meta, err)
	}
}

func TestRequestsOfNouns(t *testing.T) {
	var got atomic.Value
	c := newTestClient(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got.Store(strings.TrimSpace(r.Method + " " + r.URL.RequestURI() + " " + string(body)))
		if r.Method == "DELETE" {
			w.WriteHeader(204)
			return
		}
		noun := strings.Split(r.URL.Path, "/")[2]
		answer(w, 200, "1", `{"uuid":"u1","`+noun+`":[{"uuid":"u1"}]}`)
	})
	five := 5
	ctx := t.Context()
	for want, call := range map[string]func() error{
		"GET /v1/bays":      func() error { _, _, err := c.Bays().List(ctx, QueryOptions{}); return err },
		"GET /v1/baymodels": func() error { _, _, err := c.BayModels().List(ctx, QueryOptions{}); return err },
		"GET /v1/nodes":     func() error { _, _, err := c.Nodes().List(ctx, QueryOptions{}); return err },
		"GET /v1/hosts":     func() error { _, _, err := c.Hosts().List(ctx, QueryOptions{}); return err },
		"GET /v1/hosts/h1":  func() error { _, _, err := c.Hosts().Get(ctx, "h1", QueryOptions{}); return err },
		"GET /v1/nodes/n1":  func() error { _, _, err := c.Nodes().Get(ctx, "n1", QueryOptions{}); return err },
		`PATCH /v1/bays/k8s1 [{"op":"replace","path":"/node_count","value":3}]`: func() error {
			_, _, err := c.Bays().Update(ctx, "k8s1", []structs.PatchOp{{Op: "replace", Path: "/node_count", Value: 3}}, WriteOptions{})
			return err
		},
		`POST /v1/nodes {"type":"virt","image_id":"img"}`: func() error {
			_, _, err := c.Nodes().Create(ctx, &structs.NodeRequest{Type: "virt", ImageID: "img"}, WriteOptions{})
			return err
		},
		`POST /v1/baymodels {"coe":"docker"}`: func() error {
			_, _, err := c.BayModels().Create(ctx, &structs.BayModelRequest{COE: "docker"}, WriteOptions{})
			return err
		},
		`POST /v1/containers?run=true&wait=30s {"command":["sleep","100"],"image":"busybox"}`: func() error {
			_, _, err := c.Containers().Create(ctx,
				&structs.ContainerRequest{Image: "busybox", Command: &structs.Command{Args: []string{"sleep", "100"}}},
				CreateOptions{Run: true, WriteOptions: WriteOptions{Wait: 30 * time.Second}})
			return err
		},
		"PUT /v1/containers/c1/stop?timeout=5&wait=0s": func() error {
			_, err := c.Containers().Action(ctx, "c1", Stop, ActionOptions{StopTimeout: &five, WriteOptions: WriteOptions{Wait: -1}})
			return err
		},
		"DELETE /v1/containers/c1?force=true&stop=true": func() error {
			_, err := c.Containers().Delete(ctx, "c1", DeleteOptions{Force: true, Stop: true})
			return err
		},
		"DELETE /v1/baymodels/m1": func() error { _, err := c.BayModels().Delete(ctx, "m1", WriteOptions{}); return err },
		"PUT /v1/containers/c1/execute?command=%5B%22ls%22%2C%22-l%22%5D&encoding=base64&env=A%3D1&env=B%3D2&split=true&user=nobody&" +
			"workdir=%2Ftmp": func() error {
			_, _, err := c.Containers().Execute(ctx, "c1",
				structs.ExecRequest{Command: []string{"ls", "-l"}, Env: []string{"A=1", "B=2"}, User: "nobody", Workdir: "/tmp"})
			return err
		},
	} {
		if err := call(); err != nil {
			t.Errorf("%s: %v", want, err)
		} else if got.Load() != want {
			t.Errorf("sent %s\nwant %s", got.Load(), want)
		}
	}
}

func TestVersionsLeaderAndState(t *testing.T) {
	c := newTestClient(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" {
			answer(w, 200, "", `{"name":"magnum","version":"1.2","versions":[{"id":"v1","min_version":"1.1"}]}`)
			return
		}
		if r.URL.Path == "/v1/status/leader" {
			answer(w, 200, "", `{"leader":{"name":"rack-7","address":"192.0.2.1:9511"}}`)
			return
		}
		answer(w, 200, "8", `{"index":8,"hash":"ab","leader":"s1"}`)
	})
	if l, _, err := c.Leader(t.Context()); err != nil || l.Name != "rack-7" || l.Address != "192.0.2.1:9511" {
		t.Errorf("leader %+v, %v", l, err)
	}
	v, _, err := c.Versions(t.Context())
	if err != nil || v.Version != "1.2" || v.Versions[0].MinVersion != "1.1" {
		t.Errorf("versions %+v, %v", v, err)
	}
	s, _, err := c.OperatorState(t.Context())
	if err != nil || s.Index != 8 || s.Hash != "ab" || s.Leader != "s1" {
		t.Errorf("state %+v, %v", s, err)
	}
}

func TestLogsStream(t *testing.T) {
	c := newTestClient(t, func(w http.ResponseWriter, r *http.Request) {
		if got := r.URL.RawQuery; got != "follow=true&since=10m&stderr=false&stdout=true&tail=5&timestamps=true" {
			t.Errorf("query %s", got)
		}
		if r.Header.Get("Accept") != "text/plain" {
			t.Errorf("Accept %q", r.Header.Get("Accept"))
		}
		io.WriteString(w, "one\n")
		w.(http.Flusher).Flush()
		io.WriteString(w, "two\n")
	})
	logs, err := c.Containers().Logs(t.Context(), "c1",
		structs.LogsRequest{Stdout: true, Follow: true, Timestamps: true, Tail: 5, Since: "10m"})
	if err != nil {
		t.Fatal(err)
	}
	defer logs.Close()
	if text, err := io.ReadAll(logs); err != nil || string(text) != "one\ntwo\n" {
		t.Errorf("read %q, %v", text, err)
	}
	c = newTestClient(t, func(w http.ResponseWriter, _ *http.Request) { answer(w, 404, "", `{}`) })
	if _, err := c.Containers().Logs(t.Context(), "c1", structs.LogsRequest{}); structs.CodeOf(err) != structs.CodeNotFound {
		t.Errorf("got %v, want not_found", err)
	}
}

func TestMetaRawIsTheBodyAsSent(t *testing.T) {
	const body = `{"uuid":"u","name":"x","new_field":[1,2]}`
	c := newTestClient(t, func(w http.ResponseWriter, _ *http.Request) { answer(w, 200, "", body) })
	_, meta, err := c.Containers().Get(t.Context(), "x", QueryOptions{})
	if err != nil || string(meta.Raw) != body || !json.Valid(meta.Raw) {
		t.Errorf("raw %s, %v", meta.Raw, err)
	}
}

// net/http repeats a create, which has an Idempotency-Key, when a reused connection
// breaks. The outcome stays unknown although the server refuses that attempt and the
// client's own retries.
func TestWrittenCreateHasUnknownOutcome(t *testing.T) {
	var web *httptest.Server
	web = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			web.Listener.Close()
			panic(http.ErrAbortHandler)
		}
		answer(w, 200, "8", `{"index":8,"hash":"ab","leader":"s1"}`)
	}))
	defer web.Close()
	c, err := New(Config{Address: web.URL, RetryFor: 300 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.OperatorState(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, _, err = c.Nodes().Create(t.Context(), &structs.NodeRequest{Type: "a"}, WriteOptions{})
	var unreachable *Unreachable
	if !errors.As(err, &unreachable) || !unreachable.Sent {
		t.Errorf("%+v, %v", unreachable, err)
	}
}
