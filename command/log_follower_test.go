package command

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

// stampedLog is a log with times: two lines of one time, an empty one, equal texts, one that
// begins with a time, and one without a newline at its end.
const stampedLog = "2026-03-01T12:00:00.000000001Z one\n" +
	"2026-03-01T12:00:00.000000002Z tick\n" +
	"2026-03-01T12:00:00.000000002Z tick\n" +
	"2026-03-01T12:00:00.000000002Z tick\n" +
	"2026-03-01T12:00:00.5Z \n" +
	"2026-03-01T12:00:01Z 2026-03-01T12:00:00Z of the program\n" +
	"2026-03-01T12:00:02.123456789Z tick \xff\x00 tock\n" +
	"2026-03-01T12:00:02.2Z end"

// logSince returns the lines of the log that are not older.
func logSince(t *testing.T, since string) string {
	t.Helper()
	if since == "" {
		return stampedLog
	}
	from, err := time.Parse(time.RFC3339Nano, since)
	if err != nil {
		t.Fatalf("since %q: %v", since, err)
	}
	text := ""
	for line := range strings.Lines(stampedLog) {
		stamp, _, _ := strings.Cut(line, " ")
		if at, err := time.Parse(time.RFC3339Nano, stamp); err == nil && !at.Before(from) {
			text += line
		}
	}
	return text
}

func withoutStamps(text string) (out string) {
	for line := range strings.Lines(text) {
		_, rest, _ := strings.Cut(line, " ")
		out += rest
	}
	return out
}

// TestLogsGoOnAnywhere breaks a log off at each pair of bytes, and reads it in pieces of several
// sizes: nothing is lost, and nothing comes twice.
func TestLogsGoOnAnywhere(t *testing.T) {
	for _, stamps := range []bool{false, true} {
		want := stampedLog
		if !stamps {
			want = withoutStamps(stampedLog)
		}
		for first := range len(stampedLog) + 1 {
			for _, second := range []int{0, 1, 40, 75, 1000} {
				var out strings.Builder
				f := &logFollower{w: &out, stamps: stamps}
				var o structs.LogsRequest
				for _, size := range []int{first, second, len(stampedLog)} {
					text := logSince(t, o.Since)
					text = text[:min(size, len(text))]
					for piece := 1 + (first+second)%7; text != ""; text = text[min(piece, len(text)):] {
						if _, err := f.Write([]byte(text[:min(piece, len(text))])); err != nil {
							t.Fatal(err)
						}
					}
					o = f.resume(o)
				}
				if out.String() != want {
					t.Fatalf("times %v, broken off after %d and %d bytes:\n%q, want\n%q", stamps, first, second, out.String(), want)
				}
			}
		}
	}
}

func FuzzLogFollower(f *testing.F) {
	f.Add("one\ntwo", "2026-03-01T12:00:00Z ", 3)
	f.Add("", "no time\n", 1)
	f.Fuzz(func(t *testing.T, text, start string, size int) {
		var out strings.Builder
		follower := &logFollower{w: &out, stamps: true}
		all := start + text
		for rest := all; rest != ""; {
			n := min(len(rest), 1+max(0, size%64))
			if _, err := follower.Write([]byte(rest[:n])); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		if err := follower.end(); err != nil {
			t.Fatal(err)
		}
		// With the times, what is printed is what came, unless a time jumps back to one that was seen.
		if out.String() != all {
			t.Fatalf("%q became %q", all, out.String())
		}
	})
}

// endingLogs answers requests for logs: those with the token of a login for so many bytes, after
// which the token is no longer valid.
type endingLogs struct {
	mu    sync.Mutex
	ended map[string]bool // tokens
	asked []string        // queries
}

func (l *endingLogs) refuses(w http.ResponseWriter, r *http.Request) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.ended[r.Header.Get(api.HeaderToken)] {
		return false
	}
	w.WriteHeader(http.StatusUnauthorized)
	fmt.Fprint(w, `{"errors":[{"code":"unauthenticated","detail":"The token is not valid"}]}`)
	return true
}

// cut makes the request's token end, and cuts its answer off.
func (l *endingLogs) cut(w http.ResponseWriter, r *http.Request) {
	w.(http.Flusher).Flush()
	l.mu.Lock()
	l.ended[r.Header.Get(api.HeaderToken)] = true
	l.mu.Unlock()
	panic(http.ErrAbortHandler)
}

func newEndingLogs(t *testing.T, f *fakeAPI) *endingLogs {
	l := &endingLogs{ended: map[string]bool{}}
	f.handle("GET /v1", func(w http.ResponseWriter, r *http.Request) {
		if !l.refuses(w, r) {
			fmt.Fprint(w, "{}")
		}
	})
	logs := func(w http.ResponseWriter, r *http.Request) {
		if l.refuses(w, r) {
			return
		}
		l.mu.Lock()
		l.asked = append(l.asked, r.URL.RawQuery)
		n := len(l.asked)
		l.mu.Unlock()
		text := logSince(t, r.URL.Query().Get("since"))
		if n == 3 {
			io.WriteString(w, text)
			return
		}
		io.WriteString(w, text[:len(text)*2/5])
		l.cut(w, r)
	}
	f.handle("GET /v1/containers/c1/logs", logs)
	f.handle("GET /v1/pods/p1/logs", logs)
	return l
}

// TestLogsGoOnWithAnotherToken: -follow outlives the token of a login, and says nothing.
func TestLogsGoOnWithAnotherToken(t *testing.T) {
	for _, command := range []string{
		"container-logs -f c1", "pod-logs -f p1", "container-logs -f -tail 100 c1", "container-logs -f -t c1",
	} {
		f := newFakeAPI(t)
		l := newEndingLogs(t, f)
		k := newFakeKeystone(t, f.url)
		s := newShell(t, nil)
		s.signIn(k)
		want := withoutStamps(stampedLog)
		if strings.Contains(command, "-t ") {
			want = stampedLog
		}
		r := s.run(strings.Fields(command)...)
		if r.code != 0 || r.stdout != want || r.stderr != "" || k.logins.Load() != 3 {
			t.Errorf("%s: %d logins, %+v, want %q; asked %q", command, k.logins.Load(), r, want, l.asked)
		}
	}
}

// TestLogsOfATokenThatEnds: with a token that the user has given, the message says why it ends.
func TestLogsOfATokenThatEnds(t *testing.T) {
	f := newFakeAPI(t)
	newEndingLogs(t, f)
	s := newShell(t, f)
	s.env["OS_TOKEN"] = "given"
	r := s.run("container-logs", "-f", "c1")
	if r.code != 1 || !strings.Contains(r.stderr, "the logs broke off: its token has expired or was revoked") ||
		!strings.Contains(r.stderr, "-since") {
		t.Errorf("%+v", r)
	}
}

// TestLogsOfAConnectionThatBreaks: a token that is still good is not the cause, and nothing is
// opened again.
func TestLogsOfAConnectionThatBreaks(t *testing.T) {
	f := newFakeAPI(t)
	f.answer("GET /v1", 200, "{}")
	f.handle("GET /v1/containers/c1/logs", func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "2026-03-01T12:00:00Z part")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	s := newShell(t, nil)
	s.signIn(newFakeKeystone(t, f.url))
	r := s.run("container-logs", "-f", "c1")
	if r.code != 1 || r.stdout != "part" || !strings.Contains(r.stderr, "Either the connection broke") {
		t.Errorf("%+v", r)
	}
}

// TestEventsGoOnWithAnotherToken: events outlive the token of a login, also without -follow, and
// go on behind the last one.
func TestEventsGoOnWithAnotherToken(t *testing.T) {
	f := newFakeAPI(t)
	l := newEndingLogs(t, f)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var asked []string
	f.handle("GET /v1/events", func(w http.ResponseWriter, r *http.Request) {
		if l.refuses(w, r) {
			return
		}
		asked = append(asked, r.Header.Get(api.HeaderToken)+" "+r.URL.RawQuery)
		if len(asked) == 3 {
			cancel()
			return
		}
		io.WriteString(w, eventJSON+"\n"+`{"event":"tick","resume":`+fmt.Sprint(8+len(asked))+"}\n")
		l.cut(w, r)
	})
	var out, errOut strings.Builder
	s := newShell(t, nil)
	s.signIn(newFakeKeystone(t, f.url))
	e := &env{stdin: strings.NewReader(""), stdout: &out, stderr: &errOut,
		lookupEnv: func(k string) (string, bool) { v, ok := s.env[k]; return v, ok }}
	code := e.run(ctx, []string{"events", "-json"})
	want := "kt1 ,kt2 index=9,kt3 index=10"
	if code != 130 || out.String() != eventJSON+"\n"+eventJSON+"\n" || errOut.String() != "" || strings.Join(asked, ",") != want {
		t.Errorf("code %d, %q, %q, asked %q", code, out.String(), errOut.String(), asked)
	}
}
