package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/structs"
)

// pod is the address at which the tests' servers listen.
const pod = "127.0.0.1"

// serve starts a server on the pod's address and returns its port.
func serve(t *testing.T, tls bool, handler http.HandlerFunc) int {
	t.Helper()
	s := httptest.NewUnstartedServer(handler)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	if tls {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	return portOf(t, s.Listener.Addr())
}

func portOf(t *testing.T, a net.Addr) int {
	t.Helper()
	_, port, err := net.SplitHostPort(a.String())
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// closedPort returns a port that nobody listens on.
func closedPort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", pod+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return portOf(t, l.Addr())
}

// checkHTTP makes one request to the pod.
func checkHTTP(t *testing.T, h structs.HTTPGet) result {
	t.Helper()
	return Target{Address: pod}.check(t.Context(), &structs.Handler{HTTP: &h}, 10*time.Second)
}

// expect checks a result: message "" stands for a success.
func expect(t *testing.T, got result, message string) {
	t.Helper()
	if got.failed != nil || got.ok != (message == "") || got.message != message {
		t.Errorf("ok %v, message %q, error %v; want message %q", got.ok, got.message, got.failed, message)
	}
}

func TestHTTPStatuses(t *testing.T) {
	port := serve(t, false, func(w http.ResponseWriter, r *http.Request) {
		code, _ := strconv.Atoi(r.URL.Query().Get("code"))
		w.WriteHeader(code)
		if code != http.StatusNoContent && code != http.StatusNotModified {
			fmt.Fprint(w, r.URL.Query().Get("body"))
		}
	})
	for _, c := range []struct{ query, want string }{
		{"code=200&body=fine", ""},
		{"code=204", ""},
		{"code=304", ""},
		{"code=399", ""},
		{"code=400", "HTTP status 400"},
		{"code=503", "HTTP status 503"},
		{"code=503&body=<html>", "HTTP status 503"},
		{"code=503&body=database%0A+is+down%0A", "HTTP status 503: database is down"},
	} {
		expect(t, checkHTTP(t, structs.HTTPGet{Port: port, Path: "/health?" + c.query}), c.want)
	}
}

func TestHTTPWithoutATrustedCertificate(t *testing.T) {
	port := serve(t, true, func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil {
			w.WriteHeader(500)
		}
	})
	expect(t, checkHTTP(t, structs.HTTPGet{Port: port, HTTPS: true}), "")
	expect(t, checkHTTP(t, structs.HTTPGet{Port: port}), "HTTP status 400: Client sent an HTTP request to an HTTPS server.")
}

func TestHTTPHeaders(t *testing.T) {
	var got *http.Request
	port := serve(t, false, func(_ http.ResponseWriter, r *http.Request) { got = r })
	expect(t, checkHTTP(t, structs.HTTPGet{Port: port, Path: "/"}), "")
	if ua, accept := got.Header.Get("User-Agent"), got.Header.Get("Accept"); !strings.HasPrefix(ua, "kube-probe/") || accept != "*/*" {
		t.Errorf("User-Agent %q, Accept %q", ua, accept)
	}
	if want := fmt.Sprintf("%s:%d", pod, port); got.Host != want {
		t.Errorf("Host is %q, want %q", got.Host, want)
	}
	expect(t, checkHTTP(t, structs.HTTPGet{Port: port, Path: "/", Headers: []structs.HTTPHeader{
		{Name: "Host", Value: "shop.example"}, {Name: "User-Agent", Value: "mine"}, {Name: "accept"},
		{Name: "X-Key", Value: "a"}, {Name: "x-key", Value: "b"},
	}}), "")
	if _, accepts := got.Header["Accept"]; got.Host != "shop.example" || got.UserAgent() != "mine" || accepts {
		t.Errorf("Host %q, User-Agent %q, Accept %q", got.Host, got.UserAgent(), got.Header["Accept"])
	}
	if keys := fmt.Sprint(got.Header["X-Key"]); keys != "[a b]" {
		t.Errorf("X-Key is %s", keys)
	}
	expect(t, checkHTTP(t, structs.HTTPGet{Port: port, Path: "/", Headers: []structs.HTTPHeader{{Name: "X", Value: "a\r\nY: b"}}}), "")
	if got.Header.Get("Y") != "" {
		t.Errorf("a value makes another header: %v", got.Header)
	}
}

func TestHTTPPaths(t *testing.T) {
	var got *url.URL
	port := serve(t, false, func(_ http.ResponseWriter, r *http.Request) { got = r.URL })
	for path, want := range map[string]string{
		"":                        "/",
		"health":                  "/health",
		"/a b?x=1&y=%2F":          "/a%20b?x=1&y=%2F",
		"/100%":                   "/100%25",
		"//other.example/x":       "/x", // the host is the pod nevertheless
		"http://other.example/y":  "/y",
		"http://u:p@10.9.8.7/z?q": "/z?q",
	} {
		expect(t, checkHTTP(t, structs.HTTPGet{Port: port, Path: path}), "")
		if got.RequestURI() != want {
			t.Errorf("path %q is asked for as %q, want %q", path, got.RequestURI(), want)
		}
	}
}

func TestHTTPRedirects(t *testing.T) {
	var reached atomic.Int32
	other := serve(t, false, func(w http.ResponseWriter, _ *http.Request) { reached.Add(1); w.WriteHeader(500) })
	var port int
	port = serve(t, false, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/away": // another host, on which something listens
			http.Redirect(w, r, fmt.Sprintf("http://localhost:%d/", other), http.StatusFound)
		case "/here":
			http.Redirect(w, r, "/bad", http.StatusFound)
		case "/bad":
			w.WriteHeader(500)
		case "/default": // port 80 of the pod
			http.Redirect(w, r, "http://"+pod+"/", http.StatusFound)
		case "/port": // another port of the pod
			http.Redirect(w, r, fmt.Sprintf("http://%s:%d/bad", pod, port), http.StatusFound)
		case "/loop":
			http.Redirect(w, r, "/loop", http.StatusFound)
		}
	})
	expect(t, checkHTTP(t, structs.HTTPGet{Port: port, Path: "/away"}), "") // 302 is a success
	expect(t, checkHTTP(t, structs.HTTPGet{Port: port, Path: "/here"}), "HTTP status 500")
	expect(t, checkHTTP(t, structs.HTTPGet{Port: port, Path: "/port"}), "HTTP status 500")
	expect(t, checkHTTP(t, structs.HTTPGet{Port: port, Path: "/loop"}), fmt.Sprintf("port %d: more than 10 redirects", port))
	if got := checkHTTP(t, structs.HTTPGet{Port: port, Path: "/default"}); strings.Contains(got.message, "not the pod") {
		t.Errorf("a redirect to the default port: %+v", got)
	}
	if n := reached.Load(); n != 0 {
		t.Errorf("another host was asked %d times", n)
	}
}

// The agent's process reaches the host itself and the pods of other projects. A manifest
// must not.
func TestOnlyThePodIsReached(t *testing.T) {
	var reached atomic.Int32
	port := serve(t, false, func(http.ResponseWriter, *http.Request) { reached.Add(1) })
	elsewhere := Target{Address: "127.0.0.2"}
	for _, host := range []string{pod, "localhost", "::1", "::ffff:127.0.0.1", "0.0.0.0", "0x7f.1", "127.0.0.2.", "127.0.0.2%lo"} {
		for name, h := range map[string]*structs.Handler{
			"http": {HTTP: &structs.HTTPGet{Host: host, Port: port}},
			"tcp":  {TCP: &structs.TCPSocket{Host: host, Port: port}},
		} {
			got := elsewhere.check(t.Context(), h, time.Minute)
			if got.ok || got.failed != nil || !strings.Contains(got.message, "leave host out") {
				t.Errorf("%s to %q: %+v", name, host, got)
			}
		}
		if err := elsewhere.Hook(t.Context(), &structs.Handler{HTTP: &structs.HTTPGet{Host: host, Port: port}}); err == nil ||
			!strings.Contains(err.Error(), "leave host out") {
			t.Errorf("hook to %q: %v", host, err)
		}
	}
	if _, err := elsewhere.dial(t.Context(), "tcp", net.JoinHostPort(pod, strconv.Itoa(port))); err == nil {
		t.Error("the transport connects to other addresses")
	}
	if n := reached.Load(); n != 0 {
		t.Errorf("%d requests came", n)
	}
	for _, host := range []string{"", pod, "::ffff:127.0.0.1"} { // the pod, in other words
		expect(t, checkHTTP(t, structs.HTTPGet{Host: host, Port: port}), "")
	}
	for _, h := range []*structs.Handler{{TCP: &structs.TCPSocket{Port: port}}, {HTTP: &structs.HTTPGet{Port: port}}} {
		if got := (Target{}).check(t.Context(), h, time.Minute); got.ok || !strings.Contains(got.message, "no address") {
			t.Errorf("a pod without an address: %+v", got)
		}
	}
}

func TestHTTPReadsLittle(t *testing.T) {
	port := serve(t, false, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/header" {
			w.Header().Set("X", strings.Repeat("x", maxResponse))
			return
		}
		w.WriteHeader(500)
		for { // a body without an end
			if _, err := fmt.Fprint(w, "xxxxxxxxxxxxxxxx"); err != nil {
				return
			}
		}
	})
	got := checkHTTP(t, structs.HTTPGet{Port: port})
	expect(t, got, "HTTP status 500: "+strings.Repeat("x", maxMessage-len("HTTP status 500: ")))
	if got := checkHTTP(t, structs.HTTPGet{Port: port, Path: "/header"}); got.ok || got.failed != nil {
		t.Errorf("a header without an end: %+v", got)
	}
}

func TestHTTPInformationalResponses(t *testing.T) {
	port := serve(t, false, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusTeapot)
	})
	expect(t, checkHTTP(t, structs.HTTPGet{Port: port}), "HTTP status 418")
}

func TestHTTPThatDoesNotAnswer(t *testing.T) {
	hang := make(chan struct{})
	port := serve(t, false, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/body" {
			w.WriteHeader(200)
			_ = http.NewResponseController(w).Flush()
		}
		<-hang
	})
	defer close(hang)
	for _, path := range []string{"/", "/body"} {
		h := &structs.Handler{HTTP: &structs.HTTPGet{Port: port, Path: path}}
		expect(t, Target{Address: pod}.check(t.Context(), h, 50*time.Millisecond), "no answer within 50ms")
	}
	refused := closedPort(t)
	expect(t, checkHTTP(t, structs.HTTPGet{Port: refused}), fmt.Sprintf("port %d: connection refused", refused))
}

func TestHTTPThatIsNoHTTP(t *testing.T) {
	l, err := net.Listen("tcp", pod+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(conn, "SSH-2.0-x\r\n")
			conn.Close()
		}
	}()
	if got := checkHTTP(t, structs.HTTPGet{Port: portOf(t, l.Addr())}); got.ok || got.failed != nil {
		t.Errorf("another protocol: %+v", got)
	}
}

func TestTCP(t *testing.T) {
	port := serve(t, false, func(http.ResponseWriter, *http.Request) {})
	refused := closedPort(t)
	for _, c := range []struct {
		port int
		want string
	}{{port, ""}, {refused, fmt.Sprintf("port %d: connection refused", refused)}} {
		expect(t, Target{Address: pod}.check(t.Context(), &structs.Handler{TCP: &structs.TCPSocket{Port: c.port}}, time.Minute), c.want)
	}
}

func TestExec(t *testing.T) {
	refused := &backend.Failure{Reason: backend.ErrInvalid, Msg: "no such file"}
	for _, c := range []struct {
		name   string
		code   int
		output string
		err    error
		want   string
	}{
		{"success", 0, "ignored", nil, ""},
		{"failure", 3, " \n", nil, "exit code 3"},
		{"failure with output", 1, "no\nluck", nil, "exit code 1: no luck"},
		{"a command that the image doesn't have", 0, "", refused, `"/bin/check" can't run: no such file`},
	} {
		t.Run(c.name, func(t *testing.T) {
			target := Target{Exec: func(_ context.Context, argv []string) (int, string, error) {
				if fmt.Sprint(argv) != "[/bin/check -v]" {
					t.Errorf("it runs %q", argv)
				}
				return c.code, c.output, c.err
			}}
			h := &structs.Handler{Exec: []string{"/bin/check", "-v"}}
			expect(t, target.check(t.Context(), h, time.Minute), c.want)
			err := target.Hook(t.Context(), h)
			if (err == nil) != (c.want == "") || err != nil && err.Error() != c.want {
				t.Errorf("the hook returns %v, want %q", err, c.want)
			}
		})
	}
	away := Target{Exec: func(context.Context, []string) (int, string, error) { return 0, "", backend.ErrAway }}
	h := &structs.Handler{Exec: []string{"x"}}
	if got := away.check(t.Context(), h, time.Minute); got.ok || !errors.Is(got.failed, backend.ErrAway) {
		t.Errorf("without an engine: %+v", got)
	}
	if err := away.Hook(t.Context(), h); !errors.Is(err, backend.ErrAway) {
		t.Errorf("a hook without an engine: %v", err)
	}
}

func TestHooksByHTTP(t *testing.T) {
	port := serve(t, false, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) })
	hook := func(port int) error {
		return Target{Address: pod}.Hook(t.Context(), &structs.Handler{HTTP: &structs.HTTPGet{Port: port}})
	}
	if err := hook(port); err != nil {
		t.Errorf("any status is a success: %v", err)
	}
	refused := closedPort(t)
	if err := hook(refused); err == nil || err.Error() != fmt.Sprintf("port %d: connection refused", refused) {
		t.Errorf("nobody listens: %v", err)
	}
}

func TestHandlersThatAreNone(t *testing.T) {
	target := Target{Address: pod}
	if err := target.Hook(t.Context(), &structs.Handler{TCP: &structs.TCPSocket{Port: 1}}); err == nil {
		t.Error("a connection is taken for a hook")
	}
	if got := target.check(t.Context(), &structs.Handler{}, time.Minute); got.failed == nil {
		t.Errorf("a probe without an action: %+v", got)
	}
}

// TestStopLeavesNothing counts descriptors: connections to a server that never answers,
// that answers, and that has gone.
func TestStopLeavesNothing(t *testing.T) {
	entered := make(chan struct{}, 100)
	hang := serve(t, false, func(_ http.ResponseWriter, r *http.Request) {
		entered <- struct{}{}
		<-r.Context().Done()
	})
	answers := serve(t, false, func(http.ResponseWriter, *http.Request) { entered <- struct{}{} })
	before := descriptors(t)
	for _, port := range []int{hang, answers} {
		ready := make(chan State, 10)
		p := New(Config{
			Target: Target{Address: pod}, Changed: func(s State) { ready <- s }, StartedAt: time.Now(),
			Readiness: &structs.Probe{
				Handler: structs.Handler{HTTP: &structs.HTTPGet{Port: port}}, Period: 1, Timeout: 60, Success: 1, Failure: 1,
			},
		})
		p.Start()
		<-entered
		if port == answers {
			if s := <-ready; !s.Ready {
				t.Errorf("not ready: %+v", s)
			}
		}
		p.Stop()
	}
	// The server's ends close a moment later.
	deadline := time.Now().Add(time.Minute)
	for descriptors(t) > before {
		if time.Now().After(deadline) {
			t.Fatalf("%d descriptors are open, %d were", descriptors(t), before)
		}
		<-time.After(time.Millisecond)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("no list of descriptors on this system")
	}
	return len(all)
}
