package command

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/coder/websocket"

	"github.com/stackforge/magnum/structs"
)

// processSession plays a session with a container's main process. The process writes
// says, echoes its input, and ends with exit code 5 at "q".
func processSession(t testing.TB, says string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			t.Errorf("accepting the session: %v", err)
			return
		}
		defer conn.CloseNow()
		send := func(channel byte, text string) {
			_ = conn.Write(r.Context(), websocket.MessageBinary, append([]byte{channel}, text...)) // the user may have left
		}
		send(structs.ChannelStdout, says+"["+r.URL.RawQuery+"]")
		for {
			_, m, err := conn.Read(r.Context())
			var ctl structs.Control
			switch {
			case err != nil:
				return
			case m[0] == structs.ChannelControl:
				if json.Unmarshal(m[1:], &ctl) == nil && ctl.EOF {
					send(structs.ChannelStdout, "<eof>")
				}
			case bytes.Contains(m[1:], []byte("q")):
				send(structs.ChannelControl, `{"exit_code":5}`)
				conn.Close(websocket.StatusNormalClosure, "")
				return
			default:
				send(structs.ChannelStdout, fmt.Sprintf("<%x>", m[1:]))
			}
		}
	}
}

func TestDetachReader(t *testing.T) {
	for _, tt := range []struct {
		keys, typed, want string
		left              bool
	}{
		{"ctrl-p,ctrl-q", "abc", "abc", false},
		{"ctrl-p,ctrl-q", "ab\x10\x11c", "ab", true},
		{"ctrl-p,ctrl-q", "a\x10b", "a\x10b", false},
		{"ctrl-p,ctrl-q", "a\x10\x10\x11", "a\x10", true},
		{"ctrl-p,ctrl-q", "a\x10", "a\x10", false},
		{"ctrl-p,ctrl-q", "\x11\x10", "\x11\x10", false},
		{"ctrl-]", "a\x1db", "a", true},
		{"x,y,z", "xyxyz!", "xy", true},
		{"x,X", "xx", "xx", false},
	} {
		keys, err := parseDetachKeys(tt.keys)
		if err != nil {
			t.Fatal(err)
		}
		for name, r := range map[string]io.Reader{"at once": strings.NewReader(tt.typed),
			"by key": iotest.OneByteReader(strings.NewReader(tt.typed))} {
			left := false
			got, err := io.ReadAll(&detachReader{r: r, keys: keys, detached: func() { left = true }})
			if string(got) != tt.want || left != tt.left || errors.Is(err, errDetached) != tt.left {
				t.Errorf("%s, %q %s: %q, left %v, %v", tt.keys, tt.typed, name, got, left, err)
			}
		}
	}
	for _, bad := range []string{"ctrl-", "ctrl-1", "ab", "a,,b", "ctrl-é"} {
		if _, err := parseDetachKeys(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestHeldOutputSkipsWhatLogsHave(t *testing.T) {
	for _, tt := range []struct{ before, held, want string }{
		{"", "", ""}, {"a\n", "", "a\n"}, {"", "$ ", "$ "}, {"a\nb\n", "b\nc", "a\nb\nc"}, {"a\nb\n", "a\nb\n$ ", "a\nb\n$ "},
		{"a\n", "b\n", "a\nb\n"},
	} {
		var out bytes.Buffer
		o := &heldOutput{w: &out}
		o.Write([]byte(tt.held))
		if out.Len() > 0 {
			t.Errorf("%q was not held back", out.String())
		}
		o.release([]byte(tt.before))
		o.Write([]byte("later"))
		if out.String() != tt.want+"later" {
			t.Errorf("%q, %q: %q, want %q", tt.before, tt.held, out.String(), tt.want+"later")
		}
	}
}

func TestAttach(t *testing.T) {
	f := newFakeAPI(t)
	f.answer("GET /v1/containers/c1", 200, containerJSON("Running", `,"stdin":true`))
	f.handle("GET /v1/containers/u1/attach/ws", processSession(t, ""))
	s := newShell(t, f)
	s.stdin = io.MultiReader(strings.NewReader("hi"), iotest.OneByteReader(strings.NewReader("q")))
	if r := s.run("container-attach", "c1"); r.code != 5 || !strings.Contains(r.stdout, "[stdin=true]<6869>") {
		t.Errorf("%+v", r)
	}
	// Without standard input the session lasts until the server ends it.
	f.handle("GET /v1/containers/u1/attach/ws", func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, nil)
		if err != nil || r.URL.RawQuery != "stdin=false" {
			t.Errorf("%v, asked %s", err, r.URL.RawQuery)
			return
		}
		conn.Write(r.Context(), websocket.MessageBinary, []byte("\x03{\"done\":true}"))
		conn.Close(websocket.StatusNormalClosure, "")
	})
	if r := s.run("container-attach", "-no-stdin", "c1"); r.code != 1 || !strings.Contains(r.stderr, "container c1 goes on") {
		t.Errorf("%+v", r)
	}
	f.answer("GET /v1/containers/u1/attach/ws", 409, `{"errors":[{"code":"container.conflict","detail":"Container u1 is Stopped"}]}`)
	if r := s.run("container-attach", "c1"); r.code != 1 || !strings.Contains(r.stderr, "ERROR: Container u1 is Stopped (HTTP 409)") {
		t.Errorf("%+v", r)
	}
	if r := s.run("container-attach", "-detach-keys", "ab", "c1"); r.code != 2 ||
		!strings.Contains(r.stderr, "neither one character nor ctrl-") {
		t.Errorf("%+v", r)
	}
}

// ptyRun runs a command on a pseudo-terminal. ends waits for its end and checks the exit code.
func ptyRun(t testing.TB, f *fakeAPI, args ...string) (p *pty, s *screen, ends func(int)) {
	p = openPTY(t)
	p.resize(t, 90, 33)
	s = new(screen)
	go s.follow(p.user)
	e := &env{stdin: p.program, stdout: p.program, stderr: p.program,
		lookupEnv: func(k string) (string, bool) { return f.url, k == "MAGNUM_ADDR" }}
	ended := make(chan int, 1)
	go func() { ended <- e.run(context.Background(), args) }()
	return p, s, func(want int) {
		t.Helper()
		select {
		case code := <-ended:
			if code != want {
				t.Errorf("exit code %d, want %d", code, want)
			}
		case <-time.After(time.Minute):
			t.Fatal("the command did not end")
		}
	}
}

func TestAttachWithATerminal(t *testing.T) {
	f := newFakeAPI(t)
	f.answer("GET /v1/containers/c1", 200, containerJSON("Running", `,"stdin":true,"tty":true`))
	f.handle("GET /v1/containers/u1/attach/ws", processSession(t, ""))
	p, s, ends := ptyRun(t, f, "container-attach", "c1")
	s.shows(t, "[h=33&stdin=true&w=90]")
	fmt.Fprint(p.user, "\x03")
	s.shows(t, "<03>")
	fmt.Fprint(p.user, "\x10\x11")
	s.shows(t, "container c1 goes on")
	ends(0)
	p, s, ends = ptyRun(t, f, "container-attach", "-detach-keys", "", "c1")
	s.shows(t, "stdin=true")
	fmt.Fprint(p.user, "\x10")
	s.shows(t, "<10>")
	fmt.Fprint(p.user, "q")
	ends(5)
}

func TestRunWithATerminal(t *testing.T) {
	f := runAPI(t, "first\r\n", containerJSON("Running", started, `,"stdin":true,"tty":true`))
	f.handle("GET /v1/containers/u1/attach/ws", processSession(t, "first\r\n$ "))
	p, s, ends := ptyRun(t, f, "container-run", "-it", "--rm", "busybox", "sh")
	s.shows(t, "first\r\n$ [h=33")
	fmt.Fprint(p.user, "\x03")
	s.shows(t, "<03>")
	fmt.Fprint(p.user, "q")
	ends(5)
	if strings.Count(s.text.String(), "first") != 1 {
		t.Errorf("the screen shows %q", s.text.String())
	}
	asked := f.requests()
	if asked[0] != `POST /v1/containers {"command":["sh"],"image":"busybox","stdin":true,"tty":true}` ||
		!strings.HasPrefix(asked[len(asked)-1], "DELETE /v1/containers/u1?force=true") {
		t.Errorf("asked %q", asked)
	}
	// Detaching leaves the container running, also with -rm.
	p, s, ends = ptyRun(t, f, "container-run", "-it", "--rm", "busybox", "sh")
	s.shows(t, "$ [h=33")
	fmt.Fprint(p.user, "\x10\x11")
	s.shows(t, `container c1 goes on: attach again with "magnum container-attach u1"`)
	ends(0)
	if asked := f.requests(); strings.HasPrefix(asked[len(asked)-1], "DELETE") {
		t.Errorf("asked %q", asked)
	}
	// A container that ended before the session was open.
	f.answer("GET /v1/containers/u1", 200, containerJSON("Running", started, `,"stdin":true,"tty":true`),
		containerJSON("Stopped", started, `,"exit_code":3,"stdin":true,"tty":true`))
	f.answer("GET /v1/containers/u1/attach/ws", 409, `{"errors":[{"code":"container.conflict","detail":"Container u1 is Stopped"}]}`)
	_, s, ends = ptyRun(t, f, "container-run", "-it", "busybox", "sh")
	s.shows(t, "first\r")
	ends(3)
}

func TestRunWithInput(t *testing.T) {
	f := runAPI(t, "out\n", containerJSON("Running", started, `,"stdin":true`))
	got := make(chan string, 1)
	f.handle("GET /v1/containers/u1/attach/ws", func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			t.Errorf("accepting the session: %v", err)
			return
		}
		defer conn.CloseNow()
		conn.Write(r.Context(), websocket.MessageBinary, []byte("\x01shown by the logs"))
		_, m, _ := conn.Read(r.Context())
		f.answer("GET /v1/containers/u1", 200, containerJSON("Stopped", started, `,"exit_code":4,"stdin":true`))
		got <- string(m)
		conn.Read(r.Context())
		conn.Read(r.Context())
	})
	s := newShell(t, f)
	s.stdin = strings.NewReader("typed\n")
	if r := s.run("container-run", "-i", "busybox", "cat"); r.code != 4 || r.stdout != "out\n" || r.stderr != "" {
		t.Errorf("%+v", r)
	}
	if m := <-got; m != "\x00typed\n" {
		t.Errorf("the process got %q", m)
	}
	before := len(f.requests())
	if r := s.run("container-run", "-it", "busybox", "sh"); r.code != 2 || !strings.Contains(r.stderr, "leave out -t to pipe into it") ||
		len(f.requests()) != before {
		t.Errorf("-it without a terminal: %+v", r)
	}
	f.answer("GET /v1/containers/u1", 200, containerJSON("Running", started, `,"stdin":true`),
		containerJSON("Running", started, `,"stdin":true`), containerJSON("Stopped", started, `,"exit_code":4,"stdin":true`))
	said := make(chan struct{})
	errOut := &notifyWriter{word: "your input", seen: said}
	f.handle("GET /v1/containers/u1/attach/ws", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(503)
		io.WriteString(w, `{"errors":[{"code":"unavailable","detail":"its host does not answer"}]}`)
	})
	f.handle("GET /v1/containers/u1/logs", func(http.ResponseWriter, *http.Request) { <-said })
	e := &env{stdin: strings.NewReader(""), stdout: io.Discard, stderr: errOut,
		lookupEnv: func(k string) (string, bool) { return f.url, k == "MAGNUM_ADDR" }}
	code := e.run(t.Context(), []string{"container-run", "-i", "busybox", "cat"})
	if want := `your input does not reach c1: its host does not answer (HTTP 503). Attach with "magnum container-attach u1"`; code != 4 ||
		!strings.Contains(errOut.text.String(), want) {
		t.Errorf("code %d, it said %q", code, errOut.text.String())
	}
}

// notifyWriter is a writer that closes a channel once its text has a word.
type notifyWriter struct {
	mu   sync.Mutex
	text bytes.Buffer
	word string
	seen chan struct{} // closed when text has word
	once sync.Once
}

func (n *notifyWriter) Write(p []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.text.Write(p)
	if strings.Contains(n.text.String(), n.word) {
		n.once.Do(func() { close(n.seen) })
	}
	return len(p), nil
}
