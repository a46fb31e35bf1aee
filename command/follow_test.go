package command

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stackforge/magnum/server/servertest"
)

// watching is a list with -watch that runs.
type watching struct {
	t      *testing.T
	lines  chan string
	errors bytes.Buffer
	cancel func()
	code   chan int
}

// watchList runs a command line until stop.
func (s *shell) watchList(t *testing.T, args ...string) *watching {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	out, in := io.Pipe()
	w := &watching{t: t, lines: make(chan string, 100), cancel: cancel, code: make(chan int, 1)}
	e := &env{stdin: strings.NewReader(""), stdout: in, stderr: &w.errors, lookupEnv: func(k string) (string, bool) {
		v, ok := s.env[k]
		return v, ok
	}}
	go func() {
		code := e.run(ctx, args)
		in.Close()
		w.code <- code
	}()
	go func() {
		defer close(w.lines)
		text, buf := "", make([]byte, 1<<10)
		for {
			n, err := out.Read(buf)
			for text += string(buf[:n]); ; {
				line, rest, whole := strings.Cut(text, "\n")
				if !whole {
					break
				}
				w.lines <- line
				text = rest
			}
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(cancel)
	return w
}

// next waits for a line that has the texts.
func (w *watching) next(texts ...string) {
	w.t.Helper()
	late := time.After(time.Minute)
	for {
		select {
		case line, ok := <-w.lines:
			if !ok {
				w.t.Fatalf("it has ended before a line with %q: %s", texts, w.errors.String())
			}
			all := true
			for _, text := range texts {
				all = all && strings.Contains(line, text)
			}
			if all {
				return
			}
		case <-late:
			w.t.Fatalf("no line with %q", texts)
		}
	}
}

// stop interrupts the list, which then ends well.
func (w *watching) stop() {
	w.t.Helper()
	w.cancel()
	if code := <-w.code; code != 0 || w.errors.Len() > 0 {
		w.t.Errorf("code %d, %s", code, w.errors.String())
	}
}

// TestEveryNounCanBeWatched: an object that is created and deleted, of every noun that has a
// list on the servers.
func TestEveryNounCanBeWatched(t *testing.T) {
	server := servertest.New(t)
	server.StartAgent(t, "host-1")
	s := newShell(t, nil)
	s.env["MAGNUM_ADDR"] = server.URL
	must := func(args ...string) {
		t.Helper()
		if r := s.run(args...); r.code != 0 {
			t.Fatalf("%q: %+v", args, r)
		}
	}
	must("bay-create", "-name", "b1")
	dir := t.TempDir()
	pod, rc := write(t, dir, "pod.yaml", manifestOf("it", "nginx")), write(t, dir, "rc.yaml", rcManifestOf("it", 1, "nginx"))
	for _, c := range []struct{ noun, create, remove string }{
		{"bay", "bay-create -name it -detach", "bay-delete it"},
		{"baymodel", "baymodel-create -name it -coe docker", "baymodel-delete it"},
		{"container", "container-create -name it -bay b1 busybox", "container-delete it"},
		{"pod", "pod-create -bay b1 -manifest " + pod, "pod-delete it"},
		{"rc", "rc-create -bay b1 -manifest " + rc, "rc-delete it"},
	} {
		table, lines := s.watchList(t, c.noun+"-list", "-w"), s.watchList(t, c.noun+"-list", "-watch", "-json")
		table.next("uuid", "name")
		must(strings.Fields(c.create)...)
		table.next(" it ")
		lines.next(`"name":"it"`)
		must(strings.Fields(c.remove)...)
		table.next(" it ", "Deleted")
		lines.next(`"name":"it"`, `"status":"Deleted"`)
		table.stop()
		lines.stop()
	}
	w := s.watchList(t, "host-list", "-watch", "-json")
	w.next(`"name":"host-1"`, `"draining":false`)
	must("host-drain", "-detach", "host-1")
	w.next(`"name":"host-1"`, `"draining":true`)
	w.stop()
	w = s.watchList(t, "node-list", "-watch")
	w.next("type", "status")
	must("node-create", "-type", "virt", "-image-id", "fedora-21", "-name", "it")
	w.next("virt", "fedora-21")
	w.stop()
}

// TestWatchSurvivesItsServer: while the server is away the list waits, and then prints what
// has changed meanwhile, once.
func TestWatchSurvivesItsServer(t *testing.T) {
	var away atomic.Bool
	refused := make(chan struct{}, 100)
	var text atomic.Value
	text.Store(podJSON("a", "Pending", false))
	var index atomic.Int64
	index.Store(1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if away.Load() {
			select {
			case refused <- struct{}{}:
			default:
			}
			w.WriteHeader(503)
			_, _ = io.WriteString(w, `{"errors":[{"code":"unavailable","detail":"it goes down"}]}`) // the client sees it
			return
		}
		if r.URL.Query().Get("index") == fmt.Sprint(index.Load()) {
			select {
			case <-time.After(20 * time.Millisecond): // the wait of this server
			case <-r.Context().Done():
			}
		}
		w.Header().Set("X-Magnum-Index", fmt.Sprint(index.Load()))
		fmt.Fprintf(w, `{"pods":[%s]}`, text.Load())
	}))
	defer srv.Close()
	s := newShell(t, nil)
	s.env["MAGNUM_ADDR"] = srv.URL
	w := s.watchList(t, "pod-list", "-watch", "-format", "{{.name}} {{.status}}")
	w.next("a Pending")
	away.Store(true)
	text.Store(podJSON("a", "Running", true))
	index.Store(2)
	srv.CloseClientConnections()
	<-refused
	away.Store(false)
	w.next("a Running")
	w.cancel()
	if code := <-w.code; code != 0 {
		t.Errorf("code %d, %s", code, w.errors.String())
	}
	for line := range w.lines {
		t.Errorf("one more line: %s", line)
	}
}

// TestWatchWithoutAServer: a server that never answers is no reason to wait.
func TestWatchWithoutAServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	s := newShell(t, nil)
	s.env["MAGNUM_ADDR"] = l.Addr().String()
	if r := s.run("bay-list", "-watch"); r.code != 1 || !strings.Contains(r.stderr, "no server reachable") {
		t.Errorf("%+v", r)
	}
}

func TestWatchPrintsOneObjectALine(t *testing.T) {
	f := newFakeAPI(t)
	f.answer("GET /v1/tokens/detail", 200, `{"tokens":[{"uuid":"t1","name":"ci"},{"uuid":"t2","name":"x"}]}`)
	s := newShell(t, f)
	w := s.watchList(t, "token-list", "-watch", "-json")
	for _, want := range []string{"t1", "t2"} {
		var token struct{ UUID string }
		if line := <-w.lines; json.Unmarshal([]byte(line), &token) != nil || token.UUID != want {
			t.Errorf("line %q", line)
		}
	}
	w.stop()
}
