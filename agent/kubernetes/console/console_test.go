package console

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/structs"
)

var (
	_ backend.Consoles = (*Consoles)(nil)
	_ backend.Forwards = (*Consoles)(nil)
)

// api is an API server with one pod.
type api struct {
	*httptest.Server
	t testing.TB

	mu      sync.Mutex
	pod     *corev1.Pod
	looks   int                                                   // at the pod
	looked  func(n int, pod *corev1.Pod)                          // changes the pod before the n-th look is answered; nil for none
	logs    []func(w http.ResponseWriter, r *http.Request)        // the answers to requests for the log, in their order
	asked   []string                                              // the queries of requests
	process func(ctx context.Context, conn *websocket.Conn) error // of an execute session; nil refuses
}

func newAPI(t *testing.T) (*api, *Consoles) {
	t.Helper()
	a := &api{t: t, pod: &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "u1"},
		Spec:       corev1.PodSpec{RestartPolicy: corev1.RestartPolicyAlways, Containers: []corev1.Container{{Name: "c"}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{{
			Name: "c", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}},
		}}},
	}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/namespaces/ns/pods/p", func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.looks++
		if a.looked != nil {
			a.looked(a.looks, a.pod)
		}
		_ = json.NewEncoder(w).Encode(a.pod)
	})
	mux.HandleFunc("GET /api/v1/namespaces/ns/pods/p/log", func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		a.asked = append(a.asked, r.URL.RawQuery)
		if len(a.logs) == 0 {
			a.mu.Unlock()
			refuse(w, http.StatusBadRequest, "no more logs in this test")
			return
		}
		answer := a.logs[0]
		a.logs = a.logs[1:]
		a.mu.Unlock()
		answer(w, r)
	})
	session := func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		a.asked = append(a.asked, r.URL.RawQuery)
		process := a.process
		a.mu.Unlock()
		if process == nil {
			refuse(w, http.StatusForbidden, `pods "p" is forbidden: by a test`)
			return
		}
		conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{protocolV5}})
		if err != nil {
			t.Errorf("session: %v", err)
			return
		}
		defer conn.CloseNow()
		if err := process(r.Context(), conn); err != nil {
			t.Errorf("session: %v", err)
		}
	}
	mux.HandleFunc("GET /api/v1/namespaces/ns/pods/p/exec", session)
	mux.HandleFunc("GET /api/v1/namespaces/ns/pods/p/attach", session)
	a.Server = httptest.NewServer(mux)
	t.Cleanup(a.Close)
	cs, err := New(&rest.Config{Host: a.URL}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return a, cs
}

func refuse(w http.ResponseWriter, code int, text string) {
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status"}, Status: metav1.StatusFailure, Code: int32(code),
		Message: text})
}

const id = "ns/p/u1/c"

// stamp returns the time of the n-th second, as logs have it.
func stamp(n int, nanos int) string {
	return time.Date(2026, 1, 1, 0, 0, n, nanos, time.UTC).Format(time.RFC3339Nano)
}

func says(text string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }
}

func follow() structs.LogsRequest {
	return structs.LogsRequest{Stdout: true, Stderr: true, Tail: -1, Follow: true}
}

// TestLogsAreAskedForAsTheRequestSays: the API knows whole seconds only, so that it sends more.
func TestLogsAreAskedForAsTheRequestSays(t *testing.T) {
	a, cs := newAPI(t)
	a.logs = append(a.logs, says(stamp(7, 1)+" early\n"+stamp(7, 500)+" late\n"+"a line without a time\n"))
	var out bytes.Buffer
	req := structs.LogsRequest{Stdout: true, Stderr: true, Tail: 10, Since: stamp(7, 2), Previous: true}
	if err := cs.Logs(t.Context(), id, req, backend.LogStreams{Stdout: &out}); err != nil {
		t.Fatal(err)
	}
	if want := "late\na line without a time\n"; out.String() != want {
		t.Errorf("the log is %q, want %q", out.String(), want)
	}
	want := []string{"container=c&previous=true&sinceTime=2026-01-01T00%3A00%3A07Z&tailLines=10&timestamps=true"}
	if !slices.Equal(a.asked, want) {
		t.Errorf("asked %q, want %q", a.asked, want)
	}
}

// TestFollowGoesOnWhereItWas: the connection breaks, and the API server sends the last second
// again.
func TestFollowGoesOnWhereItWas(t *testing.T) {
	a, cs := newAPI(t)
	a.logs = append(a.logs,
		says(stamp(1, 0)+" one\n"+stamp(2, 5)+" two\n"+stamp(2, 5)+" two again\n"),
		func(w http.ResponseWriter, r *http.Request) {
			refuse(w, http.StatusServiceUnavailable, "apiserver is shutting down")
		},
		says(stamp(2, 1)+" not again\n"+stamp(2, 5)+" two\n"+stamp(2, 5)+" two again\n"+stamp(2, 5)+" and more\n"+stamp(3, 0)+" three\n"),
		func(w http.ResponseWriter, _ *http.Request) {
			a.mu.Lock()
			a.pod.Status.Phase = corev1.PodSucceeded
			a.mu.Unlock()
			_, _ = io.WriteString(w, stamp(3, 0)+" three\n"+stamp(4, 0)+" four\n")
		},
	)
	var out bytes.Buffer
	req := follow()
	req.Timestamps = true
	if err := cs.Logs(t.Context(), id, req, backend.LogStreams{Stdout: &out}); err != nil {
		t.Fatal(err)
	}
	want := stamp(1, 0) + " one\n" + stamp(2, 5) + " two\n" + stamp(2, 5) + " two again\n" + stamp(2, 5) + " and more\n" + stamp(3, 0) +
		" three\n" + stamp(4, 0) + " four\n"
	if out.String() != want {
		t.Errorf("the log is\n%swant\n%s", out.String(), want)
	}
}

// TestFollowGoesOnWithTheNextProcess: its log has all lines, whatever was asked of the first.
func TestFollowGoesOnWithTheNextProcess(t *testing.T) {
	a, cs := newAPI(t)
	a.looked = func(n int, pod *corev1.Pod) {
		s := &pod.Status.ContainerStatuses[0]
		switch n {
		case 2: // after the end of the first log
			s.State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}
		case 3:
			s.State, s.RestartCount = corev1.ContainerState{Running: new(corev1.ContainerStateRunning)}, 1
		case 5:
			s.State = corev1.ContainerState{Terminated: new(corev1.ContainerStateTerminated)}
			pod.Spec.RestartPolicy = corev1.RestartPolicyOnFailure
		}
	}
	a.logs = append(a.logs, says(stamp(9, 0)+" last\n"), says(stamp(3, 0)+" first of the next\n"))
	req := follow()
	req.Tail, req.Since = 1, stamp(5, 0)
	var out bytes.Buffer
	if err := cs.Logs(t.Context(), id, req, backend.LogStreams{Stdout: &out}); err != nil {
		t.Fatal(err)
	}
	if want := "last\nfirst of the next\n"; out.String() != want {
		t.Errorf("the log is %q, want %q", out.String(), want)
	}
	if last := a.asked[len(a.asked)-1]; strings.Contains(last, "tail") || strings.Contains(last, "since") {
		t.Errorf("the next log is asked for by %s", last)
	}
}

func TestLongLinesOfLogs(t *testing.T) {
	a, cs := newAPI(t)
	long := strings.Repeat("x", 300<<10)
	a.logs = append(a.logs, says(stamp(1, 0)+" "+long+"\n"+stamp(2, 0)+" end"))
	var out bytes.Buffer
	req := structs.LogsRequest{Stdout: true, Tail: -1}
	if err := cs.Logs(t.Context(), id, req, backend.LogStreams{Stdout: &out}); err != nil || out.String() != long+"\nend" {
		t.Errorf("%d bytes, %v", out.Len(), err)
	}
}

func TestRefusalsOfLogs(t *testing.T) {
	for name, test := range map[string]struct {
		id     string
		req    structs.LogsRequest
		answer string
		reason error
	}{
		"another pod":   {id: "ns/p/u2/c", req: follow(), reason: backend.ErrNotFound},
		"no container":  {id: "ns/p/u1/x", req: follow(), reason: backend.ErrNotFound},
		"no such pod":   {id: "ns/q/u1/c", req: follow(), reason: backend.ErrNotFound},
		"no ID":         {id: "abc", req: follow(), reason: backend.ErrNotFound},
		"a path":        {id: "ns/../u1/c", req: follow(), reason: backend.ErrNotFound},
		"stderr only":   {id: id, req: structs.LogsRequest{Stderr: true, Tail: -1}, reason: backend.ErrInvalid},
		"since":         {id: id, req: structs.LogsRequest{Stdout: true, Since: "yesterday"}, reason: backend.ErrInvalid},
		"not started":   {id: id, req: follow(), answer: `container "c" in pod "p" is waiting to start: X`, reason: backend.ErrNotRunning},
		"no previous":   {id: id, req: follow(), answer: `previous terminated container "c" not found`, reason: backend.ErrNotFound},
		"anything else": {id: id, req: follow(), answer: `out of luck`, reason: backend.ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			a, cs := newAPI(t)
			a.logs = append(a.logs, func(w http.ResponseWriter, r *http.Request) { refuse(w, http.StatusBadRequest, test.answer) })
			err := cs.Logs(t.Context(), test.id, test.req, backend.LogStreams{Stdout: io.Discard})
			if !errors.Is(err, test.reason) {
				t.Errorf("%v, want %v", err, test.reason)
			}
		})
	}
}

// TestAReaderThatFailsEndsTheLog: the error is the reader's own.
func TestAReaderThatFailsEndsTheLog(t *testing.T) {
	a, cs := newAPI(t)
	a.logs = append(a.logs, says(stamp(1, 0)+" one\n"))
	broken := errors.New("broken")
	err := cs.Logs(t.Context(), id, follow(), backend.LogStreams{Stdout: writerFunc(func([]byte) (int, error) { return 0, broken })})
	if err != broken {
		t.Errorf("%v", err)
	}
}

// send writes a message of a process.
func send(ctx context.Context, conn *websocket.Conn, channel byte, text string) error {
	return conn.Write(ctx, websocket.MessageBinary, append([]byte{channel}, text...))
}

func success() string { return `{"kind":"Status","status":"Success"}` }

func exited(code int) string {
	return fmt.Sprintf(`{"kind":"Status","status":"Failure","reason":"NonZeroExitCode","message":"command terminated with exit code %d",`+
		`"details":{"causes":[{"reason":"ExitCode","message":"%[1]d"}]}}`, code)
}

// TestExecFrames checks the messages of a session in both directions.
func TestExecFrames(t *testing.T) {
	a, cs := newAPI(t)
	var got []string
	a.process = func(ctx context.Context, conn *websocket.Conn) error {
		for len(got) < 4 { // two sizes, input, its end: each once
			_, m, err := conn.Read(ctx)
			if err != nil {
				return err
			}
			got = append(got, string(m))
		}
		for _, m := range []struct {
			channel byte
			text    string
		}{{channelStdout, ""}, {channelStdout, "out"}, {channelStderr, "err"}, {9, "unknown"}, {channelStatus, exited(7)}} {
			if err := send(ctx, conn, m.channel, m.text); err != nil {
				return err
			}
		}
		return nil
	}
	sizes := make(chan structs.Resize, 1)
	sizes <- structs.Resize{Width: 100, Height: 30}
	var out, problems bytes.Buffer
	code, err := cs.Exec(t.Context(), id, structs.ExecRequest{Command: []string{"sh", "-c", "exit 7"}, TTY: true, Width: 80, Height: 24},
		backend.ExecStreams{Stdin: strings.NewReader("in"), Stdout: &out, Stderr: &problems, Resize: sizes})
	if err != nil || code != 7 || out.String() != "out" || problems.String() != "err" {
		t.Errorf("exit code %d, %v, output %q and %q", code, err, out.String(), problems.String())
	}
	slices.Sort(got)
	want := []string{"\x00in", "\x04" + `{"Width":100,"Height":30}`, "\x04" + `{"Width":80,"Height":24}`, "\xff\x00"}
	if !slices.Equal(got, want) {
		t.Errorf("the process got %q, want %q", got, want)
	}
	if want := "command=sh&command=-c&command=exit+7&container=c&stderr=false&stdin=true&stdout=true&tty=true"; a.asked[0] != want {
		t.Errorf("asked %s, want %s", a.asked[0], want)
	}
}

func TestEndsOfExec(t *testing.T) {
	const runtime = "Internal error occurred: error executing command in container: failed to exec in container: failed to start exec " +
		`\"ab\": OCI runtime exec failed: exec failed: unable to start container process: exec: \"nope\": `
	status := func(text string) string {
		return `{"kind":"Status","status":"Failure","code":500,"message":"` + text + `"}`
	}
	for name, test := range map[string]struct {
		last   string // "" breaks the connection
		code   int
		reason error
		says   string
	}{
		"success":        {last: success()},
		"exit code":      {last: exited(137), code: 137},
		"no program":     {last: status(runtime + "executable file not found in $PATH: unknown"), code: 127, says: "OCI runtime"},
		"no permission":  {last: status(runtime + "permission denied: unknown"), code: 126, says: "permission denied"},
		"broken":         {reason: backend.ErrAway},
		"no longer runs": {last: status("container not found (\\\"c\\\")"), reason: backend.ErrNotRunning},
	} {
		t.Run(name, func(t *testing.T) {
			a, cs := newAPI(t)
			a.process = func(ctx context.Context, conn *websocket.Conn) error {
				if test.last == "" {
					return nil
				}
				return send(ctx, conn, channelStatus, test.last)
			}
			var problems bytes.Buffer
			code, err := cs.Exec(t.Context(), id, structs.ExecRequest{Command: []string{"nope"}},
				backend.ExecStreams{Stdout: io.Discard, Stderr: &problems})
			if code != test.code || !errors.Is(err, test.reason) {
				t.Errorf("exit code %d, %v; want %d, %v", code, err, test.code, test.reason)
			}
			if !strings.Contains(problems.String(), test.says) || test.says == "" && problems.Len() > 0 {
				t.Errorf("it says %q", problems.String())
			}
		})
	}
}

func TestRefusalsOfExec(t *testing.T) {
	a, cs := newAPI(t)
	do := func(id string, req structs.ExecRequest) error {
		_, err := cs.Exec(t.Context(), id, req, backend.ExecStreams{Stdout: io.Discard, Stderr: io.Discard})
		return err
	}
	if err := do(id, structs.ExecRequest{Command: []string{"true"}}); !errors.Is(err, backend.ErrInvalid) ||
		!strings.Contains(err.Error(), "is forbidden: by a test") {
		t.Errorf("a refused session: %v", err)
	}
	if err := do(id, structs.ExecRequest{Command: []string{"true"}, User: "root"}); !errors.Is(err, backend.ErrInvalid) {
		t.Errorf("another user: %v", err)
	}
	if err := do("ns/p/u2/c", structs.ExecRequest{Command: []string{"true"}}); !errors.Is(err, backend.ErrNotFound) {
		t.Errorf("another pod: %v", err)
	}
	a.pod.Status.ContainerStatuses[0].State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff"}}
	if err := do(id, structs.ExecRequest{Command: []string{"true"}}); !errors.Is(err, backend.ErrNotRunning) ||
		!strings.Contains(err.Error(), "ImagePullBackOff") {
		t.Errorf("a container that waits: %v", err)
	}
	a.Close()
	if err := do(id, structs.ExecRequest{Command: []string{"true"}}); !errors.Is(err, backend.ErrAway) {
		t.Errorf("no API server: %v", err)
	}
}

// TestLeavingEndsASession: nothing is left of it, whatever it waits for.
func TestLeavingEndsASession(t *testing.T) {
	a, cs := newAPI(t)
	ctx, leave := context.WithCancel(t.Context())
	gone := make(chan struct{})
	a.process = func(ctx context.Context, conn *websocket.Conn) error {
		leave()
		_, _, err := conn.Read(ctx)
		close(gone)
		if err == nil {
			return errors.New("the session goes on")
		}
		return nil
	}
	if _, err := cs.Exec(ctx, id, structs.ExecRequest{Command: []string{"cat"}},
		backend.ExecStreams{Stdout: io.Discard}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	<-gone
}

// TestAttachWaitsForTheEnd: streams end before the cluster says how the process has ended.
func TestAttachWaitsForTheEnd(t *testing.T) {
	for name, last := range map[string]string{"with a word": success(), "without": ""} {
		t.Run(name, func(t *testing.T) {
			a, cs := newAPI(t)
			a.process = func(ctx context.Context, conn *websocket.Conn) error {
				if last == "" {
					return nil
				}
				return send(ctx, conn, channelStatus, last)
			}
			a.looked = func(n int, pod *corev1.Pod) {
				if n == 3 { // the container has been started again meanwhile
					s := &pod.Status.ContainerStatuses[0]
					s.RestartCount++
					s.LastTerminationState.Terminated = &corev1.ContainerStateTerminated{ExitCode: 3}
				}
			}
			attached := false
			code, err := cs.Attach(t.Context(), id, structs.Resize{}, backend.ExecStreams{Stdin: strings.NewReader("lost"),
				Stdout: io.Discard, Stderr: io.Discard, Attached: func() { attached = true }})
			if err != nil || code == nil || *code != 3 || !attached {
				t.Errorf("exit code %v, %v, attached %t", code, err, attached)
			}
			if !strings.Contains(a.asked[0], "stdin=false") {
				t.Errorf("asked %s of a container without standard input", a.asked[0])
			}
		})
	}
}

// TestAttachToAnUnstartedContainer waits for its first process.
func TestAttachToAnUnstartedContainer(t *testing.T) {
	a, cs := newAPI(t)
	s := &a.pod.Status.ContainerStatuses[0]
	s.State = corev1.ContainerState{}
	a.process = func(ctx context.Context, conn *websocket.Conn) error {
		return send(ctx, conn, channelStatus, success())
	}
	streams := backend.ExecStreams{Stdout: io.Discard, Stderr: io.Discard}
	if _, err := cs.Attach(t.Context(), id, structs.Resize{}, streams); !errors.Is(err, backend.ErrNotRunning) {
		t.Errorf("attached to nothing: %v", err)
	}
	a.looked = func(n int, pod *corev1.Pod) {
		switch n {
		case 3:
			s.State.Running = new(corev1.ContainerStateRunning)
		case 4:
			s.State = corev1.ContainerState{Terminated: new(corev1.ContainerStateTerminated)}
		}
	}
	streams.Unstarted = true
	if code, err := cs.Attach(t.Context(), id, structs.Resize{}, streams); err != nil || code == nil || *code != 0 {
		t.Errorf("exit code %v, %v", code, err)
	}
}

// TestArchivesOfReadersThatFail: their errors are returned, and no end of input is sent.
func TestArchivesOfReadersThatFail(t *testing.T) {
	a, cs := newAPI(t)
	var got []string
	ended := make(chan struct{})
	a.process = func(ctx context.Context, conn *websocket.Conn) error {
		defer close(ended)
		for {
			_, m, err := conn.Read(ctx)
			if err != nil {
				return nil
			}
			got = append(got, string(m))
		}
	}
	broken := errors.New("cut short")
	r := io.MultiReader(strings.NewReader("not yet all"), readerFunc(func([]byte) (int, error) { return 0, broken }))
	if err := cs.ArchivePut(t.Context(), id, "/tmp", r); err != broken {
		t.Errorf("%v", err)
	}
	<-ended
	if slices.ContainsFunc(got, func(m string) bool { return m[0] == channelClose }) {
		t.Errorf("the input was ended: %q", got)
	}
	if err := cs.ArchivePut(t.Context(), id, "/tmp", strings.NewReader("\x1f\x8bnonsense")); !errors.Is(err, backend.ErrInvalid) {
		t.Errorf("a damaged archive: %v", err)
	}
}
