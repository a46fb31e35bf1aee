//go:build kubernetes

package console

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/internal/kubetest"
	"github.com/stackforge/magnum/structs"
)

// real is a namespace of a real cluster.
type real struct {
	*Consoles
	kube      *kubetest.Cluster
	namespace string
}

func openReal(t *testing.T) *real {
	t.Helper()
	c := kubetest.Open(t)
	conf, err := clientcmd.BuildConfigFromFlags("", filepath.Join(c.Dir, "admin.conf"))
	if err != nil {
		t.Fatal(err)
	}
	cs, err := New(conf, nil)
	if err != nil {
		t.Fatal(err)
	}
	return &real{kube: c, Consoles: cs, namespace: c.Namespace(t)}
}

// run creates a pod with one container c, waits until it is as wanted, and returns the ID of
// the container.
func (r *real) run(t *testing.T, name, script string, ready func(*corev1.Pod) bool, edit ...func(*corev1.Pod)) string {
	t.Helper()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PodSpec{
			RestartPolicy: corev1.RestartPolicyAlways, TerminationGracePeriodSeconds: new(int64(1)), DNSPolicy: corev1.DNSDefault,
			Containers: []corev1.Container{{Name: "c", Image: kubetest.Image, ImagePullPolicy: corev1.PullNever,
				Command: []string{"sh", "-c", script}}},
		},
	}
	for _, e := range edit {
		e(pod)
	}
	pods := "/api/v1/namespaces/" + r.namespace + "/pods"
	if err := r.kube.Do(t.Context(), http.MethodPost, pods, pod, nil); err != nil {
		t.Fatal(err)
	}
	pod = kubetest.Await(t, r.kube, pods, name, "is ready for the test", func(p *corev1.Pod) bool { return p != nil && ready(p) })
	return r.namespace + "/" + name + "/" + string(pod.UID) + "/c"
}

func runs(p *corev1.Pod) bool {
	return len(p.Status.ContainerStatuses) == 1 && p.Status.ContainerStatuses[0].State.Running != nil
}

func isThere(*corev1.Pod) bool { return true }

func never(p *corev1.Pod) { p.Spec.RestartPolicy = corev1.RestartPolicyNever }

// a process that runs until it is to end, and serves two ports: one answers in upper case.
const serving = `trap "exit 0" TERM; echo one; echo bad >&2; echo three
while :; do nc -l -p 8080 -e tr a-z A-Z; done & while :; do sleep 1 & wait $!; done`

// buffer is a buffer that may be read while it is written.
type buffer struct {
	mu      sync.Mutex
	text    bytes.Buffer
	changed chan struct{}
}

func newBuffer() *buffer { return &buffer{changed: make(chan struct{}, 1)} }

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case b.changed <- struct{}{}:
	default:
	}
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// patience bounds waits.
const patience = time.Minute

// await waits until the text fulfills a condition.
func (b *buffer) await(t *testing.T, what string, ok func(string) bool) {
	t.Helper()
	for limit := time.After(patience); !ok(b.String()); {
		select {
		case <-b.changed:
		case <-limit:
			t.Fatalf("not within %s: %s; the output is %q", patience, what, b.String())
		}
	}
}

func TestConsolesOfARealPod(t *testing.T) {
	r := openReal(t)
	id := r.run(t, "main", serving, runs)
	for name, test := range map[string]func(*testing.T, *real, string){
		"logs": testLogs, "execute": testExec, "terminal": testTerminal, "archives": testArchives, "forward": testForward, "top": testTop,
		"another pod": testAnotherPod,
	} {
		t.Run(name, func(t *testing.T) { t.Parallel(); test(t, r, id) })
	}
}

func (r *real) log(t *testing.T, id string, req structs.LogsRequest) string {
	t.Helper()
	var out bytes.Buffer
	req.Stdout, req.Stderr = true, true
	if err := r.Logs(t.Context(), id, req, backend.LogStreams{Stdout: &out}); err != nil {
		t.Fatalf("logs %+v: %v", req, err)
	}
	return out.String()
}

func testLogs(t *testing.T, r *real, id string) {
	all := r.log(t, id, structs.LogsRequest{Tail: -1})
	if len(all) != len("one\nbad\nthree\n") || !strings.Contains(all, "three") || !strings.Contains(all, "bad") {
		t.Errorf("the log is %q", all)
	}
	if got := r.log(t, id, structs.LogsRequest{Tail: 1}); strings.Count(got, "\n") != 1 {
		t.Errorf("one line is %q", got)
	}
	stamped := r.log(t, id, structs.LogsRequest{Tail: -1, Timestamps: true})
	lines := strings.SplitAfter(stamped, "\n")
	at, _, ok := cutStamp([]byte(lines[2]))
	if !ok {
		t.Fatalf("no time in %q", stamped)
	}
	got := r.log(t, id, structs.LogsRequest{Tail: -1, Timestamps: true, Since: at.Format(time.RFC3339Nano)})
	if !strings.HasSuffix(stamped, got) || !strings.Contains(got, lines[2]) || got == stamped && lines[0][:30] != lines[2][:30] {
		t.Errorf("since the last line: %q of %q", got, stamped)
	}
	if err := r.Logs(t.Context(), id, structs.LogsRequest{Stdout: true, Previous: true, Tail: -1},
		backend.LogStreams{Stdout: io.Discard}); !errors.Is(err, backend.ErrNotFound) {
		t.Errorf("a previous log: %v", err)
	}
}

// exec runs a script in the container.
func (r *real) do(t *testing.T, id, stdin string, command ...string) (out, problems string, code int) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	s := backend.ExecStreams{Stdout: &stdout, Stderr: &stderr}
	if stdin != "" {
		s.Stdin = strings.NewReader(stdin)
	}
	code, err := r.Exec(t.Context(), id, structs.ExecRequest{Command: command, Stdin: stdin != ""}, s)
	if err != nil {
		t.Fatalf("execute %q: %v", command, err)
	}
	return stdout.String(), stderr.String(), code
}

func testExec(t *testing.T, r *real, id string) {
	out, problems, code := r.do(t, id, "", "sh", "-c", "echo hi; echo no >&2; exit 7")
	if out != "hi\n" || problems != "no\n" || code != 7 {
		t.Errorf("%q, %q, %d", out, problems, code)
	}
	long := strings.Repeat("0123456789abcdef", 16<<10)
	if out, _, code := r.do(t, id, long, "cat"); out != long || code != 0 {
		t.Errorf("cat gave %d bytes of %d, exit code %d", len(out), len(long), code)
	}
	if _, problems, code := r.do(t, id, "", "nope"); code != exitNotFound || !strings.Contains(problems, "nope") {
		t.Errorf("a program that isn't there: %d, %q", code, problems)
	}
	if _, problems, code := r.do(t, id, "", "/etc"); code != exitNotRun {
		t.Errorf("a directory: %d, %q", code, problems)
	}
	var all bytes.Buffer
	code, err := r.Exec(t.Context(), id, structs.ExecRequest{Command: []string{"sh", "-c", "pwd; echo $A; exit 3"}, Workdir: "/tmp",
		Env: []string{"A=b c"}}, backend.ExecStreams{Stdout: &all, Stderr: &all})
	if err != nil || code != 3 || all.String() != "/tmp\nb c\n" {
		t.Errorf("%d, %v, %q", code, err, all.String())
	}
}

// testTerminal: sizes arrive, and leaving ends a shell.
func testTerminal(t *testing.T, r *real, id string) {
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	in, typed := io.Pipe()
	defer typed.Close()
	out, sizes, ended := newBuffer(), make(chan structs.Resize, 1), make(chan error, 1)
	go func() {
		_, err := r.Exec(ctx, id, structs.ExecRequest{Command: []string{"sh"}, TTY: true, Stdin: true, Width: 91, Height: 23},
			backend.ExecStreams{Stdin: in, Stdout: out, Resize: sizes})
		ended <- err
	}()
	enter := func(text string) {
		if _, err := io.WriteString(typed, text); err != nil {
			t.Fatal(err)
		}
	}
	enter("stty size; echo $$ > /tmp/shell; echo rea''dy\n")
	out.await(t, "the first size", func(s string) bool { return strings.Contains(s, "23 91") && strings.Contains(s, "ready") })
	sizes <- structs.Resize{Width: 77, Height: 33}
	for !strings.Contains(out.String(), "33 77") { // a size has no answer: ask again
		before := strings.Count(out.String(), "asked")
		enter("stty size; echo ask''ed\n")
		out.await(t, "an answer", func(s string) bool { return strings.Count(s, "asked") > before })
	}
	leave()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the session ends with %v", err)
	}
	_, _, code := r.do(t, id, "", "sh", "-c", "for i in $(seq 1200); do kill -0 $(cat /tmp/shell) 2>/dev/null || exit 5; sleep 0.1; done")
	if code != 5 {
		t.Error("the shell goes on without its user")
	}
}

func archiveOf(t *testing.T, files map[string]string) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, text := range files {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o640, Size: int64(len(text)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

func filesOf(t *testing.T, archive io.Reader) map[string]string {
	t.Helper()
	files := make(map[string]string)
	for r := tar.NewReader(archive); ; {
		h, err := r.Next()
		if err == io.EOF {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		files[h.Name] = string(text)
	}
}

func testArchives(t *testing.T, r *real, id string) {
	ctx := t.Context()
	if _, _, code := r.do(t, id, "", "mkdir", "/tmp/in"); code != 0 {
		t.Fatal("no directory")
	}
	big := strings.Repeat("big", 100<<10)
	if err := r.ArchivePut(ctx, id, "/tmp/in", archiveOf(t, map[string]string{"a": "text", "-b": big})); err != nil {
		t.Fatal(err)
	}
	for at, want := range map[string]map[string]string{
		"/tmp/in/a": {"a": "text"}, "/tmp/in/-b": {"-b": big}, "/tmp/in": {"in/": "", "in/a": "text", "in/-b": big},
		"/tmp/in/.": {"./": "", "./a": "text", "./-b": big},
	} {
		var out bytes.Buffer
		if err := r.ArchiveGet(ctx, id, at, &out); err != nil {
			t.Errorf("%s: %v", at, err)
			continue
		}
		got := filesOf(t, &out)
		for name, text := range want {
			if had, there := got[name]; !there || had != text {
				t.Errorf("%s: no %s of %d bytes", at, name, len(text))
			}
		}
		if len(got) != len(want) {
			t.Errorf("%s: %d files", at, len(got))
		}
	}
	if err := r.ArchiveGet(ctx, id, "/nope", io.Discard); !errors.Is(err, backend.ErrNoPath) {
		t.Errorf("get what isn't there: %v", err)
	}
	if err := r.ArchivePut(ctx, id, "/nope", archiveOf(t, nil)); !errors.Is(err, backend.ErrNoPath) {
		t.Errorf("put where nothing is: %v", err)
	}
	if err := r.ArchivePut(ctx, id, "/tmp/in/a", archiveOf(t, nil)); !errors.Is(err, backend.ErrNotDir) {
		t.Errorf("put into a file: %v", err)
	}
	if err := r.ArchivePut(ctx, id, "/tmp/in", strings.NewReader(strings.Repeat("nonsense", 1000))); !errors.Is(err, backend.ErrInvalid) {
		t.Errorf("put what is no archive: %v", err)
	}
	full := errors.New("full")
	if err := r.ArchiveGet(ctx, id, "/tmp/in", writerFunc(func([]byte) (int, error) { return 0, full })); err != full {
		t.Errorf("a writer that fails: %v", err)
	}
}

func testForward(t *testing.T, r *real, id string) {
	conn, err := r.Forward(t.Context(), id, 8080)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	text := strings.Repeat("hello ", 10_000)
	wrote := make(chan error, 1)
	go func() {
		_, err := io.WriteString(conn, text)
		wrote <- errors.Join(err, conn.CloseWrite())
	}()
	got, err := io.ReadAll(conn)
	if err != nil || string(got) != strings.ToUpper(text) {
		t.Errorf("%d bytes of %d, %v", len(got), len(text), err)
	}
	if err := <-wrote; err != nil {
		t.Errorf("write: %v", err)
	}
	closed, err := r.Forward(t.Context(), id, 8081)
	if err != nil {
		t.Fatal(err)
	}
	defer closed.Close()
	if _, err := closed.Read(make([]byte, 1)); structs.CodeOf(err) != structs.CodeUnavailable ||
		err.Error() != "the pod takes no connection on port 8081: connection refused" {
		t.Errorf("a port that nothing listens on: %v", err)
	}
}

func testTop(t *testing.T, r *real, id string) {
	for _, args := range []string{"", "-o pid,args"} {
		top, err := r.Top(t.Context(), id, args)
		if err != nil || len(top.Processes) == 0 || !strings.Contains(strings.Join(top.Processes[0], " "), "sh -c") {
			t.Errorf("ps %s: %+v, %v", args, top, err)
		}
	}
	if err := r.Stats(t.Context(), id, false, nil); !errors.Is(err, backend.ErrInvalid) {
		t.Errorf("stats: %v", err)
	}
}

func testAnotherPod(t *testing.T, r *real, id string) {
	parts := strings.Split(id, "/")
	parts[2] = "0c9b6c0e-0000-4000-8000-000000000000"
	other := strings.Join(parts, "/")
	ctx, streams := t.Context(), backend.ExecStreams{Stdout: io.Discard, Stderr: io.Discard}
	_, execErr := r.Exec(ctx, other, structs.ExecRequest{Command: []string{"true"}}, streams)
	_, attachErr := r.Attach(ctx, other, structs.Resize{}, streams)
	_, topErr := r.Top(ctx, other, "")
	_, forwardErr := r.Forward(ctx, other, 8080)
	for what, err := range map[string]error{
		"logs":    r.Logs(ctx, other, structs.LogsRequest{Stdout: true, Tail: -1}, backend.LogStreams{Stdout: io.Discard}),
		"execute": execErr, "attach": attachErr, "top": topErr, "forward": forwardErr,
		"get": r.ArchiveGet(ctx, other, "/tmp", io.Discard), "put": r.ArchivePut(ctx, other, "/tmp", archiveOf(t, nil)),
	} {
		if !errors.Is(err, backend.ErrNotFound) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestFollowOverARealRestart: a follow sees both processes, and the log of the first one can
// be read later.
func TestFollowOverARealRestart(t *testing.T) {
	t.Parallel()
	r := openReal(t)
	id := r.run(t, "restarts", `if [ -e /data/ran ]; then echo second; sleep 600; fi; echo > /data/ran; echo first; sleep 1; exit 1`, runs,
		func(p *corev1.Pod) {
			p.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{EmptyDir: new(corev1.EmptyDirVolumeSource)}}}
			p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "data", MountPath: "/data"}}
		})
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	out, ended := newBuffer(), make(chan error, 1)
	go func() {
		ended <- r.Logs(ctx, id, structs.LogsRequest{Stdout: true, Tail: -1, Follow: true}, backend.LogStreams{Stdout: out})
	}()
	out.await(t, "both processes", func(s string) bool { return s == "first\nsecond\n" })
	leave()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the follow ends with %v", err)
	}
	if got := r.log(t, id, structs.LogsRequest{Tail: -1, Previous: true}); got != "first\n" {
		t.Errorf("the previous log is %q", got)
	}
}

// TestARealProcessThatEnds: a follow of its log ends, and an attachment says how.
func TestARealProcessThatEnds(t *testing.T) {
	t.Parallel()
	r := openReal(t)
	id := r.run(t, "asks", `read line; echo "got $line"; exit 4`, isThere, never, func(p *corev1.Pod) {
		p.Spec.Containers[0].Stdin, p.Spec.Containers[0].StdinOnce = true, true
	})
	out, log, followed := newBuffer(), newBuffer(), make(chan error, 1)
	in, typed := io.Pipe()
	code, err := r.Attach(t.Context(), id, structs.Resize{}, backend.ExecStreams{Stdin: in, Stdout: out, Stderr: out, Unstarted: true,
		Attached: func() {
			go func() {
				req := structs.LogsRequest{Stdout: true, Tail: -1, Follow: true}
				followed <- r.Logs(t.Context(), id, req, backend.LogStreams{Stdout: log})
			}()
			go func() { _, _ = io.WriteString(typed, "it\n") }()
		}})
	if err != nil || code == nil || *code != 4 || out.String() != "got it\n" {
		t.Errorf("exit code %v, %v, %q", code, err, out.String())
	}
	if err := <-followed; err != nil || log.String() != "got it\n" {
		t.Errorf("the follow: %v, %q", err, log.String())
	}
	if got := r.log(t, id, structs.LogsRequest{Tail: -1, Follow: true}); got != "got it\n" {
		t.Errorf("a follow after the end: %q", got)
	}
	if _, err := r.Exec(t.Context(), id, structs.ExecRequest{Command: []string{"true"}},
		backend.ExecStreams{Stdout: io.Discard}); !errors.Is(err, backend.ErrNotRunning) {
		t.Errorf("execute after the end: %v", err)
	}
}
