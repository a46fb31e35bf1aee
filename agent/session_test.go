package agent

import (
	"context"
	"encoding/json"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/stackforge/magnum/agent/backend/backendtest"
	"github.com/stackforge/magnum/structs"
)

// said is what a session has sent until its end.
type said struct {
	stdout, stderr string
	last           structs.Control
}

func listen(t *testing.T, conn *websocket.Conn) said {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn.SetReadLimit(1 << 20)
	var all said
	var stdout, stderr strings.Builder
	for {
		_, m, err := conn.Read(ctx)
		if websocket.CloseStatus(err) == websocket.StatusNormalClosure {
			all.stdout, all.stderr = stdout.String(), stderr.String()
			return all
		}
		if err != nil {
			t.Fatalf("session: %v", err)
		}
		switch m[0] {
		case structs.ChannelStdout:
			stdout.Write(m[1:])
		case structs.ChannelStderr:
			stderr.Write(m[1:])
		case structs.ChannelControl:
			all.last = structs.Control{}
			if err := json.Unmarshal(m[1:], &all.last); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func say(t *testing.T, conn *websocket.Conn, channel byte, text string) {
	t.Helper()
	if err := conn.Write(t.Context(), websocket.MessageBinary, append([]byte{channel}, text...)); err != nil {
		t.Fatal(err)
	}
}

// sessionHost runs an agent with container a, whose process has written output.
func sessionHost(t *testing.T, adapt func(*Config)) (*fakeServer, *backendtest.Fake, structs.Assignment) {
	t.Helper()
	s, fake := newFakeServer(t), backendtest.NewFake()
	a := command(want("a", 1, structs.DesiredRunning), "echo one; echo bad >&2; sleep 600")
	s.assign(a)
	r := runAgent(t, t.TempDir(), fake, adapt, s)
	t.Cleanup(r.stop)
	s.is("a", structs.ContainerRunning)
	return s, fake, a
}

func exec(sid string, stdin bool, script ...string) structs.SessionOffer {
	return structs.SessionOffer{SID: sid, Kind: structs.SessionExec, ContainerID: "a", Epoch: 1,
		Exec: &structs.ExecRequest{Command: script, Stdin: stdin}}
}

func logs(sid string, follow bool) structs.SessionOffer {
	return structs.SessionOffer{SID: sid, Kind: structs.SessionLogs, ContainerID: "a", Epoch: 1,
		Logs: &structs.LogsRequest{Stdout: true, Stderr: true, Tail: -1, Follow: follow}}
}

func TestLogsAndExecSessions(t *testing.T) {
	s, fake, a := sessionHost(t, nil)
	got := listen(t, s.offer(logs("1", false)))
	if got.stdout != "one\n" || got.stderr != "bad\n" || !got.last.Done {
		t.Errorf("logs are %+v", got)
	}
	got = listen(t, s.offer(exec("2", false, "sh", "-c", "echo hi; echo no >&2; exit 7")))
	if got.stdout != "hi\n" || got.stderr != "no\n" || got.last.ExitCode == nil || *got.last.ExitCode != 7 {
		t.Errorf("execute gave %+v", got)
	}
	conn := s.offer(exec("3", true, "cat"))
	say(t, conn, structs.ChannelControl, `{"resize":{"w":80,"h":24}}`)
	say(t, conn, structs.ChannelControl, `nonsense`)
	say(t, conn, 77, "unknown")
	say(t, conn, structs.ChannelStdin, "in")
	say(t, conn, structs.ChannelStdin, "put")
	say(t, conn, structs.ChannelControl, `{"eof":true}`)
	if got = listen(t, conn); got.stdout != "input" || got.last.ExitCode == nil {
		t.Errorf("cat gave %+v", got)
	}
	conn = s.offer(logs("4", true))
	accepted(t, conn)
	if _, m, err := conn.Read(t.Context()); err != nil || string(m[1:]) != "one\n" {
		t.Fatalf("first line is %q, %v", m, err)
	}
	fake.Outside.Kill(ref(a))
	if got = listen(t, conn); !got.last.Done {
		t.Errorf("following ends with %+v", got)
	}
	got = listen(t, s.offer(exec("5", false, "sh", "-c", "exit 0")))
	if got.last.Code != structs.CodeConflict || got.last.Error == "" {
		t.Errorf("execute in a stopped one gave %+v", got.last)
	}
	missing := logs("6", false)
	missing.Epoch = 9
	if got = listen(t, s.offer(missing)); got.last.Code != structs.CodeConflict {
		t.Errorf("logs of an epoch that is not there gave %+v", got.last)
	}
	if got = listen(t, s.offer(structs.SessionOffer{SID: "7", Kind: "other", ContainerID: "a",
		Epoch: 1})); got.last.Code != structs.CodeInvalid {
		t.Errorf("an unknown kind gave %+v", got.last)
	}
}

// accepted reads the message that accepts a session.
func accepted(t *testing.T, conn *websocket.Conn) {
	t.Helper()
	if _, m, err := conn.Read(t.Context()); err != nil || string(m) != "\x03{\"accepted\":true}" {
		t.Fatalf("the session begins with %q, %v", m, err)
	}
}

// TestFollowGoesOnOverAReboot: and ends when the container is stopped.
func TestFollowGoesOnOverAReboot(t *testing.T) {
	s, _, a := sessionHost(t, nil)
	conn := s.offer(logs("1", true))
	line := func() {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		for {
			_, m, err := conn.Read(ctx)
			if err != nil {
				t.Fatalf("the follow has ended: %v", err)
			}
			if m[0] == structs.ChannelStdout {
				if string(m[1:]) != "one\n" {
					t.Fatalf("a line is %q", m[1:])
				}
				return
			}
		}
	}
	line()
	for range 2 {
		a.Generation++
		a.StartGeneration, a.RebootGeneration = a.Generation, a.Generation
		s.assign(a)
		line()
	}
	a.Generation, a.Desired = a.Generation+1, structs.DesiredStopped
	s.assign(a)
	if got := listen(t, conn); !got.last.Done || got.stdout != "" {
		t.Errorf("it ends with %+v", got)
	}
}

func TestLongInputArrives(t *testing.T) {
	s, _, _ := sessionHost(t, nil)
	conn := s.offer(exec("1", true, "cat"))
	conn.SetReadLimit(1 << 20)
	chunk := strings.Repeat("x", 32<<10)
	go func() {
		for range 64 {
			if conn.Write(t.Context(), websocket.MessageBinary, append([]byte{structs.ChannelStdin}, chunk...)) != nil {
				return
			}
		}
		_ = conn.Write(t.Context(), websocket.MessageBinary, append([]byte{structs.ChannelControl}, `{"eof":true}`...))
	}()
	if got := listen(t, conn); len(got.stdout) != 64*len(chunk) {
		t.Fatalf("%d bytes came back, want %d", len(got.stdout), 64*len(chunk))
	}
}

func TestTooManySessions(t *testing.T) {
	s, _, _ := sessionHost(t, func(c *Config) { c.MaxSessions = 1 })
	first := s.offer(logs("1", true))
	if _, _, err := first.Read(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := listen(t, s.offer(logs("2", true))); got.last.Code != structs.CodeUnavailable {
		t.Fatalf("the second session got %+v", got.last)
	}
	_ = first.CloseNow()
	for deadline := time.Now().Add(patience); ; {
		if got := listen(t, s.offer(logs(structs.NewID(), false))); got.last.Done {
			return
		} else if time.Now().After(deadline) {
			t.Fatalf("no session is free after the first has ended: %+v", got.last)
		}
	}
}

// TestSharesOfSessions: no project takes all sessions of a host, and no user all of the
// project, whichever servers their sessions come from.
func TestSharesOfSessions(t *testing.T) {
	s, _, _ := sessionHost(t, func(c *Config) { c.MaxSessions = 6 })
	follow := func(project, user string) structs.Code {
		o := logs(structs.NewID(), true)
		o.Holder = structs.SessionHolder{Project: project, User: user}
		conn := s.offer(o)
		_, m, err := conn.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var c structs.Control
		if m[0] != structs.ChannelControl || json.Unmarshal(m[1:], &c) != nil {
			t.Fatalf("the session begins with %q", m)
		}
		return c.Code
	}
	for i, want := range []struct {
		project, user string
		code          structs.Code
	}{
		{"alpha", "alice", ""}, {"alpha", "alice", ""}, {"alpha", "alice", structs.CodeRateLimited},
		{"alpha", "bob", ""}, {"alpha", "bob", ""}, {"alpha", "carol", structs.CodeRateLimited},
		{"beta", "alice", ""}, {"", "", ""}, {"gamma", "dave", structs.CodeUnavailable}, // all six are taken
	} {
		if code := follow(want.project, want.user); code != want.code {
			t.Fatalf("session %d, of %s in %s, got code %q, want %q", i, want.user, want.project, code, want.code)
		}
	}
}

// TestLeftSessionsLeaveNothing: users leave sessions in every way, and nothing stays
// behind.
func TestLeftSessionsLeaveNothing(t *testing.T) {
	s, _, _ := sessionHost(t, nil)
	count := func() int { runtime.GC(); return runtime.NumGoroutine() }
	before := count()
	for range 10 {
		for _, o := range []structs.SessionOffer{
			logs(structs.NewID(), true),
			exec(structs.NewID(), false, "sleep", "600"),
			exec(structs.NewID(), true, "cat"),
			exec(structs.NewID(), true, "sleep", "600"),
		} {
			conn := s.offer(o)
			if o.Exec != nil && o.Exec.Stdin {
				say(t, conn, structs.ChannelStdin, strings.Repeat("x", 20<<10)) // nobody may read it
			}
			_ = conn.CloseNow()
		}
	}
	for deadline := time.Now().Add(patience); count() > before+8; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			buf := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, %d before:\n%s", count(), before, buf[:runtime.Stack(buf, true)])
		}
	}
}
