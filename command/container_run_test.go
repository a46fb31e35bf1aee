package command

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/coder/websocket"

	"github.com/stackforge/magnum/structs"
)

// runAPI returns a server with a container that goes through states and has text as its log.
func runAPI(t testing.TB, text string, states ...string) *fakeAPI {
	f := newFakeAPI(t)
	f.answer("POST /v1/containers", 201, containerJSON("Creating"))
	f.answer("GET /v1/containers/u1", 200, states...)
	f.handle("GET /v1/containers/u1/logs", func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("stdout") == "true" {
			io.WriteString(w, text)
		}
	})
	f.answer("PUT /v1/containers/u1/start", 200, "null")
	f.answer("DELETE /v1/containers/u1", 204, "")
	return f
}

func TestRunPrintsOutputAndExitsLikeTheContainer(t *testing.T) {
	running := containerJSON("Running", started)
	f := runAPI(t, "hello\n", containerJSON("Stopped"), running, running, containerJSON("Stopped", started, `,"exit_code":42`))
	r := newShell(t, f).run("container-run", "-name", "c1", "busybox", "sh", "-c", "echo hello; exit 42", "-d", "--rm", "-h")
	if r.code != 42 || r.stdout != "hello\n" {
		t.Errorf("%+v", r)
	}
	asked := f.requests()
	if asked[0] != `POST /v1/containers {"command":["sh","-c","echo hello; exit 42","-d","--rm","-h"],"image":"busybox","name":"c1"}` {
		t.Errorf("asked %s", asked[0])
	}
	for _, a := range asked {
		if strings.HasPrefix(a, "DELETE") {
			t.Errorf("asked %s without -rm", a)
		}
	}
}

// attachBeforeStartAPI returns a server that supports attaching before the start. play
// plays the session; begun is closed when the container is started.
func attachBeforeStartAPI(t testing.TB, play func(conn *websocket.Conn, begun <-chan struct{})) *fakeAPI {
	f := runAPI(t, "from the logs", containerJSON("Stopped"))
	begun := make(chan struct{})
	var joined atomic.Bool
	f.handle("GET /v1/containers/u1/attach/ws", func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("unstarted") != "true" {
			t.Errorf("asked %s", r.URL.RawQuery)
		}
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			t.Errorf("accepting the session: %v", err)
			return
		}
		defer conn.CloseNow()
		joined.Store(true)
		sendMessage(t, conn, structs.ChannelControl, `{"attached":true}`)
		play(conn, begun)
	})
	f.handle("PUT /v1/containers/u1/start", func(w http.ResponseWriter, _ *http.Request) {
		if !joined.Load() {
			t.Error("the container is started before the session is open")
		}
		f.answer("GET /v1/containers/u1", 200, containerJSON("Running", started))
		close(begun)
		io.WriteString(w, "null")
	})
	return f
}

func sendMessage(t testing.TB, conn *websocket.Conn, channel byte, text string) {
	t.Helper()
	if err := conn.Write(t.Context(), websocket.MessageBinary, append([]byte{channel}, text...)); err != nil {
		t.Errorf("sending: %v", err)
	}
}

// Both output streams and the exit code come from the session, not from the log, which
// may be rotated.
func TestRunPrintsAllOutputOfSession(t *testing.T) {
	piece := strings.Repeat("\xff line\n", 1000)
	f := attachBeforeStartAPI(t, func(conn *websocket.Conn, begun <-chan struct{}) {
		<-begun
		for range 1000 {
			sendMessage(t, conn, structs.ChannelStdout, piece)
		}
		sendMessage(t, conn, structs.ChannelStderr, "complaint")
		sendMessage(t, conn, structs.ChannelControl, `{"exit_code":7}`)
		conn.Close(websocket.StatusNormalClosure, "")
	})
	r := newShell(t, f).run("container-run", "--rm", "busybox", "seq", "1000000")
	if r.code != 7 || r.stdout != strings.Repeat(piece, 1000) || r.stderr != "complaint" {
		t.Errorf("code %d, %d bytes, %q", r.code, len(r.stdout), r.stderr)
	}
	if asked := f.requests(); !strings.HasPrefix(asked[len(asked)-1], "DELETE") || strings.Contains(strings.Join(asked, "\n"), "logs") {
		t.Errorf("asked %q", asked)
	}
}

// A session that has brought no output at all is compared with the log.
func TestRunPrintsLogOfSilentSession(t *testing.T) {
	f := attachBeforeStartAPI(t, func(conn *websocket.Conn, begun <-chan struct{}) {
		<-begun
		sendMessage(t, conn, structs.ChannelControl, `{"exit_code":3}`)
		conn.Close(websocket.StatusNormalClosure, "")
	})
	r := newShell(t, f).run("container-run", "--rm", "busybox")
	if r.code != 3 || r.stdout != "from the logs" || r.stderr != "" {
		t.Errorf("%+v", r)
	}
	if asked := f.requests(); !strings.HasPrefix(asked[len(asked)-1], "DELETE") {
		t.Errorf("asked %q: it is deleted after the log is read", asked)
	}
}

// A run whose session breaks fails with a message, although the container succeeded,
// and doesn't delete the container, whose logs have the rest.
func TestRunReportsIncompleteOutput(t *testing.T) {
	var f *fakeAPI
	f = attachBeforeStartAPI(t, func(conn *websocket.Conn, begun <-chan struct{}) {
		<-begun
		sendMessage(t, conn, structs.ChannelStdout, "half")
		f.answer("GET /v1/containers/u1", 200, containerJSON("Stopped", started, code0))
	})
	r := newShell(t, f).run("container-run", "--rm", "busybox")
	if r.code != 1 || r.stdout != "half" || !strings.Contains(r.stderr, "broke off") || !strings.Contains(r.stderr, "not complete") {
		t.Errorf("%+v", r)
	}
	for _, a := range f.requests() {
		if strings.HasPrefix(a, "DELETE") {
			t.Errorf("asked %s: what is missing is gone", a)
		}
	}
}

// A run that can't start closes the session and prints the reason.
func TestRunReportsFailedStart(t *testing.T) {
	f := attachBeforeStartAPI(t, func(conn *websocket.Conn, begun <-chan struct{}) {
		<-begun
		conn.Read(t.Context()) // until the user leaves
	})
	start := f.on["PUT /v1/containers/u1/start"]
	f.handle("PUT /v1/containers/u1/start", func(w http.ResponseWriter, r *http.Request) {
		start(w, r)
		f.answer("GET /v1/containers/u1", 200, containerJSON("Error", `,"status_reason":"no such program"`))
	})
	if r := newShell(t, f).run("container-run", "busybox", "nope"); r.code != 1 ||
		!strings.Contains(r.stderr, "ERROR: container c1: Error: no such program") {
		t.Errorf("%+v", r)
	}
}

func TestRunDeletesContainerWithRm(t *testing.T) {
	f := runAPI(t, "x", containerJSON("Stopped", started, code0))
	s := newShell(t, f)
	r := s.run("container-run", "--rm", "busybox", "true")
	asked := f.requests()
	if r.code != 0 || r.stdout != "x" || asked[0] != `POST /v1/containers {"command":["true"],"image":"busybox"}` ||
		asked[len(asked)-1] != "DELETE /v1/containers/u1?force=true&wait=10s" {
		t.Errorf("%+v, asked %q", r, asked)
	}
	f.answer("DELETE /v1/containers/u1", 500, `{"errors":[{"code":"internal","detail":"boom"}]}`)
	if r := s.run("container-run", "--rm", "busybox"); r.code != 1 || !strings.Contains(r.stderr, "could not be deleted: boom") {
		t.Errorf("a delete that fails: %+v", r)
	}
	// With -d the server deletes the container. It may be deleted before it was read.
	f.answer("GET /v1/containers/u1", 404, `{"errors":[{"code":"container.not_found","detail":"Container u1 could not be found."}]}`)
	before := len(f.requests())
	r = s.run("container-run", "-d", "--rm", "busybox")
	if r.code != 0 || r.stdout != "u1\n" || f.requests()[before] != `POST /v1/containers?run=true {"auto_remove":true,"image":"busybox"}` {
		t.Errorf("-d -rm: %+v, asked %q", r, f.requests()[before:])
	}
}

func TestRunDetached(t *testing.T) {
	f := runAPI(t, "", containerJSON("Creating", `,"status_reason":"pulling"`), containerJSON("Running", started))
	s := newShell(t, f)
	if r := s.run("container-run", "-d", "-p", "80", "nginx"); r.code != 0 || r.stdout != "u1\n" ||
		!strings.Contains(r.stderr, "c1: Creating: pulling") {
		t.Errorf("-d: %+v", r)
	}
	if r := s.run("container-run", "-d", "-it", "busybox", "sh"); r.code != 0 || r.stdout != "u1\n" {
		t.Errorf("-d -it: %+v", r)
	}
	if r := s.run("container-run", "-d", "-wait", "0", "nginx"); r.code != 0 || r.stdout != "u1\n" || r.stderr != "" {
		t.Errorf("-wait 0: %+v", r)
	}
}

func TestRunErrors(t *testing.T) {
	f := runAPI(t, "", containerJSON("Error", `,"status_reason":"no such image"`))
	s := newShell(t, f)
	if r := s.run("container-run", "busybox"); r.code != 1 || r.stdout != "" ||
		!strings.Contains(r.stderr, "ERROR: container c1: Error: no such image") {
		t.Errorf("Error: %+v", r)
	}
	f.answer("GET /v1/containers/u1", 200, containerJSON("Running", started), containerJSON("Error", started, `,"status_reason":"killed"`))
	if r := s.run("container-run", "busybox"); r.code != 1 || !strings.Contains(r.stderr, "has ended without an exit code: Error: killed") {
		t.Errorf("no exit code: %+v", r)
	}
	f.answer("POST /v1/containers", 400, `{"errors":[{"code":"invalid","detail":"there is no bay: create one with bay-create"}]}`)
	if r := s.run("container-run", "busybox"); r.code != 1 ||
		r.stderr != "ERROR: there is no bay: create one with bay-create (HTTP 400)\n" {
		t.Errorf("no bay: %+v", r)
	}
}

// The container's streams go to this program's streams, and in order if both are the
// same file.
func TestRunKeepsStreamsApart(t *testing.T) {
	f := runAPI(t, "", containerJSON("Running", started), containerJSON("Stopped", started, code0))
	f.handle("GET /v1/containers/u1/logs", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "stdout "+r.FormValue("stdout")+" stderr "+r.FormValue("stderr")+"\n")
	})
	if r := newShell(t, f).run("container-run", "busybox"); r.stdout != "stdout true stderr false\n" ||
		r.stderr != "stdout false stderr true\n" {
		t.Errorf("%+v", r)
	}
	f.answer("GET /v1/containers/u1", 200, containerJSON("Running", started, `,"tty":true`), containerJSON("Stopped", started, code0))
	if r := newShell(t, f).run("container-run", "-t", "busybox"); r.stdout != "stdout true stderr true\n" || r.stderr != "" {
		t.Errorf("-t: %+v", r)
	}
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	f.answer("GET /v1/containers/u1", 200, containerJSON("Running", started), containerJSON("Stopped", started, code0))
	e := &env{stdin: strings.NewReader(""), stdout: out, stderr: out,
		lookupEnv: func(k string) (string, bool) { return f.url, k == "MAGNUM_ADDR" }}
	code := e.run(context.Background(), []string{"container-run", "busybox"})
	if got, err := os.ReadFile(out.Name()); code != 0 || err != nil || string(got) != "stdout true stderr true\n" {
		t.Errorf("one file: code %d, %q, %v", code, got, err)
	}
}

// A container that has ended at the first read shows no progress.
func TestRunOfEndedContainerShowsNoProgress(t *testing.T) {
	over := containerJSON("Stopped", started, `,"exit_code":3,"status_reason":"its process has ended with exit code 3"`)
	f := runAPI(t, "", over)
	if r := newShell(t, f).run("container-run", "busybox"); r.code != 3 || r.stderr != "" {
		t.Errorf("%+v", r)
	}
	if r := newShell(t, f).run("container-run", "-d", "busybox"); r.code != 0 || r.stderr != "" {
		t.Errorf("-d: %+v", r)
	}
}

func TestRunFollowsRestarts(t *testing.T) {
	again := `,"started_at":"2015-04-20T20:00:00+00:00"`
	f := runAPI(t, "", containerJSON("Running", started), containerJSON("Running", again), containerJSON("Stopped", again, code0))
	n := 0
	f.handle("GET /v1/containers/u1/logs", func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("stdout") == "true" {
			n++
			io.WriteString(w, []string{"one\n", "two\n"}[n-1])
		}
	})
	r := newShell(t, f).run("container-run", "-restart", "on-failure:1", "busybox")
	if r.code != 0 || r.stdout != "one\ntwo\n" {
		t.Errorf("%+v", r)
	}
	if got := strings.Join(f.requests(), "\n"); !strings.Contains(got, "since=2015-04-20T20%3A00%3A00Z") {
		t.Errorf("asked %s", got)
	}
}

// lockedText is a text with concurrent writers.
type lockedText struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lockedText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lockedText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func TestInterruptedRunStopsTheContainer(t *testing.T) {
	f := runAPI(t, "")
	var mu sync.Mutex
	state := containerJSON("Running", started)
	f.handle("GET /v1/containers/u1", func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		io.WriteString(w, state)
	})
	logging, stopped := make(chan struct{}), make(chan struct{})
	f.handle("GET /v1/containers/u1/logs", func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("stdout") != "true" {
			return
		}
		io.WriteString(w, "begin\n")
		w.(http.Flusher).Flush()
		close(logging)
		<-stopped
		io.WriteString(w, "end\n")
	})
	f.handle("PUT /v1/containers/u1/stop", func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		state = containerJSON("Stopped", started, `,"exit_code":143`)
		mu.Unlock()
		close(stopped)
	})
	ctx, cancel := context.WithCancel(context.Background())
	go func() { <-logging; cancel() }()
	var out, errOut lockedText
	e := &env{stdin: strings.NewReader(""), stdout: &out, stderr: &errOut,
		lookupEnv: func(k string) (string, bool) { return f.url, k == "MAGNUM_ADDR" }}
	code := e.run(ctx, []string{"container-run", "--rm", "busybox"})
	if code != 143 || out.String() != "begin\nend\n" || !strings.Contains(errOut.String(), "stopping c1") {
		t.Errorf("code %d, %q, %q", code, out.String(), errOut.String())
	}
	asked := f.requests()
	if asked[len(asked)-1] != "DELETE /v1/containers/u1?force=true&wait=10s" {
		t.Errorf("asked %q", asked)
	}
}
