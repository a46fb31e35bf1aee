package console

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/structs"
)

// logWriterOf writes a log as the engine does.
type testLog struct {
	t    *testing.T
	path string
	file *os.File
	now  time.Time
}

func newTestLog(t *testing.T) *testLog {
	t.Helper()
	l := &testLog{t: t, path: filepath.Join(t.TempDir(), "id-json.log"), now: time.Date(2026, 1, 2, 3, 4, 5, 600, time.UTC)}
	l.open()
	t.Cleanup(func() { l.file.Close() })
	return l
}

func (l *testLog) open() {
	l.t.Helper()
	var err error
	if l.file, err = os.OpenFile(l.path, os.O_WRONLY|os.O_TRUNC|os.O_CREATE, 0o600); err != nil {
		l.t.Fatal(err)
	}
}

// say writes records, one second apart.
func (l *testLog) say(stream string, texts ...string) {
	l.t.Helper()
	for _, text := range texts {
		l.now = l.now.Add(time.Second)
		line, err := json.Marshal(map[string]any{"log": text, "stream": stream, "time": l.now})
		if err == nil {
			_, err = l.file.Write(append(line, '\n'))
		}
		if err != nil {
			l.t.Fatal(err)
		}
	}
}

// rotate begins a new file.
func (l *testLog) rotate() {
	l.t.Helper()
	l.file.Close()
	_ = os.Remove(l.path + ".2")
	_ = os.Rename(l.path+".1", l.path+".2")
	if err := os.Rename(l.path, l.path+".1"); err != nil {
		l.t.Fatal(err)
	}
	l.open()
}

// read returns the answer to a request.
func (l *testLog) read(req structs.LogsRequest) (stdout, stderr string, err error) {
	l.t.Helper()
	if !req.Stdout && !req.Stderr {
		req.Stdout, req.Stderr = true, true
	}
	var out, errs bytes.Buffer
	over := make(chan struct{})
	close(over)
	err = readLog(l.t.Context(), l.path, LogFiles, req, over, &out, &errs)
	return out.String(), errs.String(), err
}

func TestParseRecord(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 678, time.UTC)
	for _, text := range []string{"", "a\n", "a", "\n", `say "hi"` + "\n", `back\slash` + "\n", `\n`, "tab\tand\r\n", "ü €\n",
		"\u2028\n",
		"<&>\n", "\x01\n", `ends with \` + "\n"} {
		line, err := json.Marshal(map[string]any{"log": text, "stream": "stderr", "time": at})
		if err != nil {
			t.Fatal(err)
		}
		r, ok := parseRecord(line)
		if !ok || string(r.Log) != text || r.Stream != "stderr" || !r.Time.Equal(at) {
			t.Errorf("%q is read as %+v, %v", text, r, ok)
		}
	}
	for _, engine := range []string{
		`{"log":"x\n","stream":"stdout","time":"2026-01-02T03:04:05.000000678Z"}`,
		`{"log":"x\n","stream":"stdout","attrs":{"a":"b"},"time":"2026-01-02T03:04:05.000000678Z"}`,
	} {
		if r, ok := parseRecord([]byte(engine)); !ok || string(r.Log) != "x\n" || r.Stream != "stdout" || !r.Time.Equal(at) {
			t.Errorf("%s is read as %+v, %v", engine, r, ok)
		}
	}
	for _, bad := range []string{"", "\x00\x00\x00", `{"log":"x`, `{"log":"x\n","stream":"stdout","time":"never"}`} {
		if r, ok := parseRecord([]byte(bad)); ok {
			t.Errorf("%q is read as %+v", bad, r)
		}
	}
}

// TestReadLog: the requested lines come from all files, and a long line counts as one.
func TestReadLog(t *testing.T) {
	l := newTestLog(t)
	long := strings.Repeat("=", 16<<10)
	l.say("stdout", "lost\n")
	l.rotate()
	l.say("stdout", "one\n")
	l.rotate()
	l.say("stdout", long) // a line of three records, with another stream's in between
	l.say("stderr", "bad\n")
	l.say("stdout", long)
	l.rotate()
	l.say("stdout", "end\n", "two\n", "open")
	if _, err := l.file.WriteString("\x00\x00garbage\n"); err != nil {
		t.Fatal(err)
	}
	whole := long + long + "end\n"
	for name, c := range map[string]struct {
		req         structs.LogsRequest
		out, errOut string
	}{
		"all":                 {structs.LogsRequest{Tail: -1}, "one\n" + whole + "two\nopen", "bad\n"},
		"follow to the end":   {structs.LogsRequest{Tail: -1, Follow: true}, "one\n" + whole + "two\nopen", "bad\n"},
		"standard error":      {structs.LogsRequest{Tail: -1, Stderr: true}, "", "bad\n"},
		"tail 0":              {structs.LogsRequest{Tail: 0}, "", ""},
		"tail 2":              {structs.LogsRequest{Tail: 2}, "two\nopen", ""},
		"tail 3":              {structs.LogsRequest{Tail: 3}, "two\nopen", "bad\n"},
		"tail 4":              {structs.LogsRequest{Tail: 4}, whole + "two\nopen", "bad\n"},
		"tail of more":        {structs.LogsRequest{Tail: 99}, "one\n" + whole + "two\nopen", "bad\n"},
		"since the long line": {structs.LogsRequest{Tail: -1, Since: "2026-01-02T03:04:08Z"}, whole + "two\nopen", "bad\n"},
		"since its middle":    {structs.LogsRequest{Tail: -1, Since: "2026-01-02T03:04:09.5Z"}, "two\nopen", ""},
		"since, and a tail":   {structs.LogsRequest{Tail: 1, Since: "2026-01-02T03:04:08Z"}, "open", ""},
		"times": {structs.LogsRequest{Tail: 4, Timestamps: true},
			"2026-01-02T03:04:08.000000600Z " + whole + "2026-01-02T03:04:12.000000600Z two\n2026-01-02T03:04:13.000000600Z open",
			"2026-01-02T03:04:09.000000600Z bad\n"},
	} {
		if out, errOut, err := l.read(c.req); err != nil || out != c.out || errOut != c.errOut {
			t.Errorf("%s: %.60q and %q, %v; want %.60q and %q", name, out, errOut, err, c.out, c.errOut)
		}
	}
	if _, _, err := l.read(structs.LogsRequest{Since: "yesterday"}); !errors.Is(err, backend.ErrInvalid) {
		t.Errorf("a since that is none: %v", err)
	}
	l.path += ".none"
	if _, _, err := l.read(structs.LogsRequest{}); !errors.Is(err, errNoLogFiles) {
		t.Errorf("a log that isn't here: %v", err)
	}
}

// follower is a reader that keeps its input, and can be blocked.
type follower struct {
	mu   sync.Mutex
	text strings.Builder
	more chan struct{}
}

func (f *follower) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.text.Write(p)
	select {
	case f.more <- struct{}{}:
	default:
	}
	return len(p), nil
}

// has waits until the follower has the whole text.
func (f *follower) has(t *testing.T, want string) {
	t.Helper()
	for deadline := time.After(time.Minute); ; {
		f.mu.Lock()
		got := f.text.String()
		f.mu.Unlock()
		if got == want {
			return
		}
		if len(got) >= len(want) {
			t.Fatalf("the follower has %d bytes, want %d; the end is %.80q", len(got), len(want), got[max(0, len(got)-80):])
		}
		select {
		case <-f.more:
		case <-deadline:
			t.Fatalf("the follower has %d bytes, want %d", len(got), len(want))
		}
	}
}

// TestFollowOverRotations: no line is lost or repeated, however often the log is
// rotated between two looks, as long as the unread lines exist.
func TestFollowOverRotations(t *testing.T) {
	l := newTestLog(t)
	f := &follower{more: make(chan struct{}, 1)}
	over, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		err := readLog(t.Context(), l.path, LogFiles, structs.LogsRequest{Stdout: true, Follow: true, Tail: -1}, over, f, f)
		if err != nil {
			t.Errorf("it ends with %v", err)
		}
		ended <- err
	}()
	var want strings.Builder
	n := 0
	say := func(lines int) {
		for range lines {
			n++
			l.say("stdout", fmt.Sprintf("%d\n", n))
			fmt.Fprintf(&want, "%d\n", n)
		}
	}
	for range 50 {
		for _, lines := range []int{1, 0, 100} { // three files, one of them empty
			say(lines)
			f.has(t, want.String())
			l.rotate()
		}
		say(10)
		l.rotate() // the last line is in a renamed file already
		say(10)
		f.has(t, want.String())
	}
	say(5)
	close(over)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	f.has(t, want.String())
}

// TestListInTheMiddleOfARotation: a file is opened between two steps of a rotation,
// when none has its name. The log is not taken for gone.
func TestListInTheMiddleOfARotation(t *testing.T) {
	l := newTestLog(t)
	for range 2 {
		l.say("stdout", "a\n")
		l.rotate()
	}
	tail, err := openLog(l.path, LogFiles)
	if err != nil {
		t.Fatal(err)
	}
	defer tail.close()
	l.file.Close()
	steps := map[int]func(){
		2: func() { _ = os.Remove(l.path + ".2") },
		1: func() { _ = os.Rename(l.path+".1", l.path+".2") },
		0: func() { _ = os.Rename(l.path, l.path+".1") },
	}
	tail.opens = func(n int) {
		if step := steps[n]; step != nil {
			step()
			delete(steps, n)
		}
		if n == 0 && len(steps) == 0 {
			tail.opens = nil
		}
	}
	files, err := tail.list()
	if err != nil || len(files) != 2 {
		t.Errorf("%d files, %v", len(files), err)
	}
	for _, f := range files {
		f.close()
	}
}

// TestFollowThatIsTooSlow: the follow ends with an error, not with an unnoticed gap.
func TestFollowThatIsTooSlow(t *testing.T) {
	l := newTestLog(t)
	l.say("stdout", "first\n")
	held, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	slow := writerFunc(func(p []byte) (int, error) {
		once.Do(func() {
			close(held)
			<-release
		})
		return len(p), nil
	})
	ended := make(chan error, 1)
	go func() {
		ended <- readLog(t.Context(), l.path, LogFiles, structs.LogsRequest{Stdout: true, Follow: true, Tail: -1}, make(chan struct{}),
			slow, slow)
	}()
	<-held
	for range LogFiles + 1 {
		l.rotate()
		l.say("stdout", "missed\n")
	}
	close(release)
	if err := <-ended; !errors.Is(err, backend.ErrTooSlow) || structs.CodeOf(err) != structs.CodeUnavailable {
		t.Errorf("it ends with %v", err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func BenchmarkReadLog(b *testing.B) {
	path := filepath.Join(b.TempDir(), "x-json.log")
	var log bytes.Buffer
	const lines = 100_000
	for n := range lines {
		fmt.Fprintf(&log, `{"log":"%d\n","stream":"stdout","time":"2026-01-02T03:04:05.123456789Z"}`+"\n", n)
	}
	if err := os.WriteFile(path, log.Bytes(), 0o600); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(log.Len()))
	for b.Loop() {
		sink := writerFunc(func(p []byte) (int, error) { return len(p), nil })
		if err := readLog(b.Context(), path, LogFiles, structs.LogsRequest{Stdout: true, Tail: -1}, nil, sink, sink); err != nil {
			b.Fatal(err)
		}
	}
}
