package command

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/stackforge/magnum/structs"
)

// pty is a pseudo-terminal: user is the end of the terminal emulator, program the end of
// the program.
type pty struct {
	user, program *os.File
}

func openPTY(t testing.TB) *pty {
	t.Helper()
	user, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatalf("a pseudo-terminal: %v", err)
	}
	t.Cleanup(func() { user.Close() })
	if err := unix.IoctlSetPointerInt(int(user.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatalf("unlocking the pseudo-terminal: %v", err)
	}
	n, err := unix.IoctlGetInt(int(user.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatalf("the pseudo-terminal's number: %v", err)
	}
	program, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatalf("the pseudo-terminal's other end: %v", err)
	}
	t.Cleanup(func() { program.Close() })
	return &pty{user, program}
}

func (p *pty) resize(t testing.TB, width, height uint16) {
	t.Helper()
	if err := unix.IoctlSetWinsize(int(p.user.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: width, Row: height}); err != nil {
		t.Fatalf("resizing the pseudo-terminal: %v", err)
	}
}

// screen collects the output that the user sees.
type screen struct {
	mu   sync.Mutex
	text strings.Builder
}

func (s *screen) follow(f *os.File) {
	buf := make([]byte, 1024)
	for {
		n, err := f.Read(buf)
		s.mu.Lock()
		s.text.Write(buf[:n])
		s.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (s *screen) shows(t testing.TB, want string) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		s.mu.Lock()
		text := s.text.String()
		s.mu.Unlock()
		if strings.Contains(text, want) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the screen does not show %q but %q", want, text)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// shellSession plays a session with a shell. The shell echoes keys, prints new sizes, and
// ends with exit code 5 at "q".
func shellSession(t testing.TB) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		if q.Get("tty") != "true" || q.Get("stdin") != "true" || q.Get("command") != `["sh"]` {
			t.Errorf("asked %s", r.URL.RawQuery)
		}
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			t.Errorf("accepting the session: %v", err)
			return
		}
		defer conn.CloseNow()
		send := func(channel byte, text string) {
			if err := conn.Write(r.Context(), websocket.MessageBinary, append([]byte{channel}, text...)); err != nil {
				t.Errorf("sending %q: %v", text, err)
			}
		}
		send(structs.ChannelStdout, fmt.Sprintf("[%sx%s]", q.Get("w"), q.Get("h")))
		for {
			_, m, err := conn.Read(r.Context())
			if err != nil {
				t.Errorf("the session broke: %v", err)
				return
			}
			var ctl structs.Control
			switch {
			case m[0] == structs.ChannelControl:
				if err := json.Unmarshal(m[1:], &ctl); err != nil {
					t.Errorf("control %q: %v", m[1:], err)
				}
				if ctl.Resize != nil {
					send(structs.ChannelStdout, fmt.Sprintf("[%dx%d]", ctl.Resize.Width, ctl.Resize.Height))
				}
			case string(m[1:]) == "q":
				send(structs.ChannelControl, `{"exit_code":5}`)
				conn.Close(websocket.StatusNormalClosure, "")
				return
			default:
				send(structs.ChannelStdout, fmt.Sprintf("<%x>", m[1:]))
			}
		}
	}
}

func TestExecuteWithATerminal(t *testing.T) {
	f := newFakeAPI(t)
	f.handle("GET /v1/containers/c1/execute/ws", shellSession(t))
	p := openPTY(t)
	p.resize(t, 90, 33)
	before, err := term.GetState(int(p.program.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	var s screen
	go s.follow(p.user)
	e := &env{stdin: p.program, stdout: p.program, stderr: p.program,
		lookupEnv: func(k string) (string, bool) { return f.url, k == "MAGNUM_ADDR" }}
	ended := make(chan int, 1)
	go func() { ended <- e.run(context.Background(), []string{"container-execute", "-it", "c1", "sh"}) }()

	s.shows(t, "[90x33]")
	// A raw terminal sends Ctrl-C and Enter unchanged, and echoes nothing.
	fmt.Fprint(p.user, "\x03")
	s.shows(t, "<03>")
	fmt.Fprint(p.user, "\r")
	s.shows(t, "<0d>")
	p.resize(t, 120, 40)
	if err := syscall.Kill(os.Getpid(), syscall.SIGWINCH); err != nil {
		t.Fatal(err)
	}
	s.shows(t, "[120x40]")
	fmt.Fprint(p.user, "q")
	select {
	case code := <-ended:
		if code != 5 {
			s.mu.Lock()
			defer s.mu.Unlock()
			t.Errorf("exit code %d, want 5; the screen: %q", code, s.text.String())
		}
	case <-time.After(time.Minute):
		t.Fatal("the command did not end")
	}
	after, err := term.GetState(int(p.program.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(*before) != fmt.Sprint(*after) {
		t.Errorf("the terminal was left changed: %+v, was %+v", *after, *before)
	}
}

func TestProgressOnATerminalIsOneLine(t *testing.T) {
	f := newFakeAPI(t)
	f.answer("POST /v1/bays", 201, bayJSON("CREATE_IN_PROGRESS", "0 of 3 hosts"))
	f.answer("GET /v1/bays/b1", 200, bayJSON("CREATE_IN_PROGRESS", strings.Repeat("long ", 20)), bayJSON("CREATE_COMPLETE", ""))
	p := openPTY(t)
	p.resize(t, 40, 10)
	var s screen
	go s.follow(p.user)
	var out strings.Builder
	e := &env{stdin: strings.NewReader(""), stdout: &out, stderr: p.program,
		lookupEnv: func(k string) (string, bool) { return f.url, k == "MAGNUM_ADDR" }}
	if code := e.run(context.Background(), []string{"bay-create"}); code != 0 {
		t.Errorf("code %d", code)
	}
	s.shows(t, "\rweb: CREATE_IN_PROGRESS: long long l...\x1b[K\rweb: CREATE_COMPLETE\x1b[K\r\x1b[K")
	s.mu.Lock()
	defer s.mu.Unlock()
	if strings.Contains(s.text.String(), "\n") {
		t.Errorf("progress takes more than a line: %q", s.text.String())
	}
}

func TestCreateAtATerminalNeedsAnImage(t *testing.T) {
	p := openPTY(t)
	s := newShell(t, nil)
	s.stdin = p.program
	if r := s.run("container-create"); r.code != 2 || !strings.Contains(r.stderr, "IMAGE is missing, or -json FILE") {
		t.Errorf("%+v", r)
	}
}
