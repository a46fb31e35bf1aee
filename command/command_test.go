package command

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stackforge/magnum/structs"
)

// fakeAPI is a server with canned responses. It records the requests.
type fakeAPI struct {
	t     testing.TB
	url   string
	mu    sync.Mutex
	asked []string // "METHOD URI BODY"
	on    map[string]http.HandlerFunc
}

// newFakeAPI starts a server that responds with 404 to requests without a handler.
func newFakeAPI(t testing.TB) *fakeAPI {
	t.Helper()
	f := &fakeAPI{t: t, on: map[string]http.HandlerFunc{}}
	srv := httptest.NewServer(f)
	t.Cleanup(srv.Close)
	f.url = srv.URL
	return f
}

// ServeHTTP calls the handler of "METHOD PATH".
func (f *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	f.mu.Lock()
	f.asked = append(f.asked, strings.TrimSpace(r.Method+" "+r.URL.RequestURI()+" "+string(body)))
	h := f.on[r.Method+" "+r.URL.Path]
	f.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	if h == nil {
		w.WriteHeader(404)
		fmt.Fprintf(w, `{"errors":[{"status":404,"code":"container.not_found","detail":"Container %s could not be found."}]}`,
			r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:])
		return
	}
	// A handler's variables are its next call's too, also after a panic that
	// aborts the answer.
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
	}()
	h(w, r)
}

// answer sets the responses to a request. Several bodies are sent one after the other;
// the last one is repeated.
func (f *fakeAPI) answer(request string, status int, bodies ...string) {
	n := 0
	f.handle(request, func(w http.ResponseWriter, _ *http.Request) {
		f.mu.Lock()
		body := bodies[min(n, len(bodies)-1)]
		n++
		index := n
		f.mu.Unlock()
		w.Header().Set("X-Magnum-Index", fmt.Sprint(index))
		w.WriteHeader(status)
		io.WriteString(w, body)
	})
}

func (f *fakeAPI) handle(request string, h http.HandlerFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.on[request] = h
}

// requests returns the requests so far.
func (f *fakeAPI) requests() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.asked...)
}

// result is the outcome of a command line.
type result struct {
	code           int
	stdout, stderr string
}

// shell runs command lines.
type shell struct {
	t     testing.TB
	env   map[string]string
	stdin io.Reader
}

func newShell(t testing.TB, f *fakeAPI) *shell {
	s := &shell{t: t, env: map[string]string{}, stdin: strings.NewReader("")}
	if f != nil {
		s.env["MAGNUM_ADDR"] = f.url
	}
	return s
}

func (s *shell) run(args ...string) result {
	s.t.Helper()
	var out, errOut bytes.Buffer
	e := &env{stdin: s.stdin, stdout: &out, stderr: &errOut, lookupEnv: func(k string) (string, bool) {
		v, ok := s.env[k]
		return v, ok
	}}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	code := e.run(ctx, args)
	return result{code, out.String(), errOut.String()}
}

// givesUp runs a command line that stops waiting before the work is done, and checks the end
// of its standard error. WAIT in the arguments and in want is the time for which it waits. A
// busy machine may hear nothing within the first one, so that longer ones follow.
func (s *shell) givesUp(want string, args ...string) (r result) {
	s.t.Helper()
	for _, wait := range []string{"300ms", "3s", "30s"} {
		with := strings.NewReplacer("WAIT", wait)
		line := make([]string, len(args))
		for i, arg := range args {
			line[i] = with.Replace(arg)
		}
		if r = s.run(line...); r.code == 1 && strings.Contains(r.stderr, with.Replace(want)) {
			return r
		}
	}
	s.t.Errorf("%q: %+v, want code 1 and %q", args, r, want)
	return r
}

// golden compares text with a file of testdata. With UPDATE=1 in the environment it
// writes the file first.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := "testdata/" + name + ".txt"
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s has changed; run with UPDATE=1 to accept the change\ngot:\n%s\nwant:\n%s", path, got, want)
	}
}

func TestNoCommandShowsHelp(t *testing.T) {
	for _, args := range [][]string{nil, {"-help"}, {"-h"}, {"help"}} {
		r := newShell(t, nil).run(args...)
		if r.code != 0 || !strings.Contains(r.stdout, "container-run") || !strings.Contains(r.stdout, "Exit codes:") || r.stderr != "" {
			t.Errorf("%q: code %d, stderr %q, stdout %q", args, r.code, r.stderr, r.stdout)
		}
	}
}

func TestUnknownCommand(t *testing.T) {
	for _, tt := range []struct{ args, want string }{
		{"bay-lst", "did you mean bay-list?"},
		{"bay_list", "did you mean bay-list?"},
		{"create-bay", "did you mean bay-create?"},
		{"bay create", "did you mean bay-create?"},
		{"ps", "did you mean container-list?"},
		{"exec c1 ls", "did you mean container-execute?"},
		{"pod", `there is no command "pod"; the commands are pod-create, pod-list, pod-show`},
		{"pods", `there is no command "pods"; the commands are pod-create`},
		{"service -json", `there is no command "service"; the commands are service-create`},
		{"help rc", `there is no command "rc"; the commands are rc-create`},
		{"container x", `there is no command "container"; the commands are container-run`},
		{"pod show", "did you mean pod-show?"},
		{"frobnicate", `"magnum help" lists the commands`},
		{"help frobnicate", `"magnum help" lists the commands`},
		{"operator -json", `"operator" is only the beginning of a command's name; the commands are operator bootstrap`},
		{"operator raft -json", `"operator raft" is only the beginning of a command's name; the commands are operator raft list-peers`},
		{"operator frobnicate", `there is no command "operator frobnicate"; the commands are operator bootstrap`},
		{"help operator frobnicate", `there is no command "operator frobnicate"; the commands are operator bootstrap`},
		{"help operator raft frobnicate", `there is no command "operator raft frobnicate"; the commands are operator raft list-peers`},
	} {
		r := newShell(t, nil).run(strings.Fields(tt.args)...)
		if r.code != 2 || !strings.Contains(r.stderr, tt.want) || r.stdout != "" {
			t.Errorf("%s: code %d, stderr %q, want 2 and %q", tt.args, r.code, r.stderr, tt.want)
		}
		if strings.Contains(tt.args, "frob") && strings.Contains(r.stderr, "did you mean") {
			t.Errorf("%s: %q suggests a command that isn't like it", tt.args, r.stderr)
		}
	}
}

func TestEveryCommandHasHelp(t *testing.T) {
	var all strings.Builder
	for _, c := range commands() {
		if c.group == groupDaemons {
			continue
		}
		r := newShell(t, nil).run("help", c.name)
		if r.code != 0 || !strings.HasPrefix(r.stdout, "Usage: magnum "+c.name) {
			t.Errorf("help %s: code %d, %q", c.name, r.code, r.stdout)
		}
		if other := newShell(t, nil).run(append(strings.Fields(c.name), "-help")...); other.stdout != r.stdout || other.code != 0 {
			t.Errorf("%s -help differs from help %s: code %d", c.name, c.name, other.code)
		}
		if c.synopsis == "" || strings.HasSuffix(c.synopsis, ".") {
			t.Errorf("%s has the synopsis %q", c.name, c.synopsis)
		}
		if strings.Contains(r.stdout, "  -detach ") {
			t.Errorf("%s has -detach, and not -d as the others have", c.name)
		}
		all.WriteString(r.stdout + "\n")
	}
	golden(t, "help", all.String())
}

func TestHelpOfCommandPrefixes(t *testing.T) {
	s := newShell(t, nil)
	for words := range groupSynopses {
		want := groupHelp(words) + "\n"
		for _, line := range []string{words + " -h", words + " -help", words + " --help", "help " + words} {
			if r := s.run(strings.Fields(line)...); r.code != 0 || r.stdout != want || r.stderr != "" {
				t.Errorf("%s: code %d, %q, %q", line, r.code, r.stdout, r.stderr)
			}
		}
		for _, name := range commandsWithPrefix(words) {
			if !strings.Contains(want, "  "+name+" ") || !strings.Contains(want, "  "+findCommand(name).synopsis+"\n") {
				t.Errorf("%s is not in the help of %s:\n%s", name, words, want)
			}
		}
		if r := s.run(strings.Fields(words)...); r.code != 2 || r.stdout != "" ||
			r.stderr != fmt.Sprintf("ERROR: %q is only the beginning of a command's name\n", words)+want {
			t.Errorf("%s: code %d, %q, %q", words, r.code, r.stdout, r.stderr)
		}
	}
	for _, c := range commands() {
		for words := c.name; strings.Contains(words, " "); {
			words = words[:strings.LastIndex(words, " ")]
			if groupSynopses[words] == "" {
				t.Errorf("groupSynopses has no synopsis of %q", words)
			}
		}
	}
}

func TestMainHelpIsAligned(t *testing.T) {
	column := map[string]int{} // of each group
	for line := range strings.Lines(newShell(t, nil).run("help").stdout) {
		for _, c := range commands() {
			if !strings.HasPrefix(line, "  "+c.name+" ") || !strings.HasSuffix(line, " "+c.synopsis+"\n") {
				continue
			}
			if at := strings.LastIndex(line, c.synopsis); column[c.group] == 0 {
				column[c.group] = at
			} else if column[c.group] != at {
				t.Errorf("the synopsis of %s begins in column %d, others of its group in %d", c.name, at, column[c.group])
			}
		}
	}
	if want := len(strings.Split(mainHelp(), "\n\n")) - 5; len(column) != want { // parts that are not groups
		t.Errorf("%d groups, want %d", len(column), want)
	}
}

func TestGlobalFlagsBeforeTheCommand(t *testing.T) {
	f := newFakeAPI(t)
	f.answer("GET /v1/bays", 200, `{"bays":[]}`)
	s := newShell(t, nil)
	for _, args := range [][]string{
		{"-addr", f.url, "bay-list"}, {"--addr=" + f.url, "--debug", "bay-list"}, {"bay-list", "-addr", f.url},
		{"bay-list", "--addr=" + f.url + "/v1"},
	} {
		if r := s.run(args...); r.code != 0 {
			t.Errorf("%q: code %d, %s", args, r.code, r.stderr)
		}
	}
	for args, want := range map[string]string{"-addr": "needs a value", "-debug": "no command after",
		"-wide bay-list": "stands before the command"} {
		if r := s.run(strings.Fields(args)...); r.code != 2 || !strings.Contains(r.stderr, want) {
			t.Errorf("%q: code %d, %q, want 2 and %q", args, r.code, r.stderr, want)
		}
	}
}

func TestNoServerReachable(t *testing.T) {
	s := newShell(t, nil)
	s.env["MAGNUM_ADDR"] = "127.0.0.1:1"
	r := s.run("bay-list")
	want := `ERROR: no server reachable at http://127.0.0.1:1: connection refused. Start one with "magnum agent -dev", or give another ` +
		`address with -addr or MAGNUM_ADDR.` + "\n"
	if r.code != 1 || r.stderr != want {
		t.Errorf("code %d, %q, want 1 and %q", r.code, r.stderr, want)
	}
	s.env["MAGNUM_ADDR"] = "ftp://x"
	if r := s.run("bay-list"); r.code != 2 || !strings.Contains(r.stderr, "MAGNUM_ADDR: address") {
		t.Errorf("a bad address: code %d, %q", r.code, r.stderr)
	}
}

func TestServerErrorsAndAdvice(t *testing.T) {
	f := newFakeAPI(t)
	f.answer("GET /v1/bays/web", 409,
		`{"error_message":"","errors":[{"status":409,"code":"bay.conflict","hint":"ambiguous","detail":"Multiple bays exist with same `+
			`name. Please use the bay uuid instead."}]}`)
	f.answer("GET /v1/bays/other", 401, `{"errors":[{"code":"unauthenticated","detail":"Authentication required"}]}`)
	f.answer("GET /v1/bays/old", 404, `{"error_message":"{\"faultstring\":\"Bay old could not be found.\"}"}`)
	f.answer("GET /v1/bays/evil", 400, `{"errors":[{"code":"invalid","detail":"a\u001b[31mb"}]}`)
	f.answer("POST /v1/containers", 400, `{"errors":[{"code":"bay.invalid","hint":"unknown_name","detail":"Bay b could not be found."}]}`)
	s := newShell(t, f)
	for args, want := range map[string]string{
		"container-run -bay b i": "ERROR: Bay b could not be found. (HTTP 400) \"magnum bay-list\" lists them.\n",
		"bay-show web": "ERROR: Multiple bays exist with same name. Please use the bay uuid instead. (HTTP 409) \"magnum " +
			"bay-list\" shows the uuids.\n",
		"bay-show other": "ERROR: Authentication required (HTTP 401) Set OS_TOKEN to a valid token, or sign in at Keystone with " +
			"-os-cloud or the OS_* variables of an openrc file.\n",
		"bay-show old":      "ERROR: Bay old could not be found. (HTTP 404)\n",
		"bay-show evil":     "ERROR: a\\x1b[31mb (HTTP 400)\n",
		"container-show c9": "ERROR: Container c9 could not be found. (HTTP 404) \"magnum container-list\" lists them.\n",
	} {
		if r := s.run(strings.Fields(args)...); r.code != 1 || r.stderr != want || r.stdout != "" {
			t.Errorf("%s: code %d, %q, want 1 and %q", args, r.code, r.stderr, want)
		}
	}
}

func TestDebugHidesSecrets(t *testing.T) {
	f := newFakeAPI(t)
	f.answer("POST /v1/containers", 201, `{"uuid":"u1","name":"c1","status":"Creating"}`)
	f.handle("GET /v1/containers/c1/execute/ws", session(t, func(send func(channel byte, payload []byte)) {
		send(structs.ChannelControl, []byte(`{"exit_code":0}`))
	}))
	s := newShell(t, f)
	s.env["OS_TOKEN"], s.env["PASSWORD"] = "tok-secret", "env-secret"
	r := s.run("container-create", "-debug", "-detach", "-e", "PASSWORD", "busybox")
	r2 := s.run("container-execute", "-debug", "-e", "PASSWORD", "c1", "true")
	all := r.stderr + r2.stderr
	if r.code != 0 || r2.code != 0 || !strings.Contains(all, "POST "+f.url+"/v1/containers") || !strings.Contains(all, "busybox") {
		t.Errorf("codes %d %d, stderr %s", r.code, r2.code, all)
	}
	if strings.Contains(all, "secret") {
		t.Errorf("a secret is in what -debug prints:\n%s", all)
	}
	if got := f.requests(); !strings.Contains(strings.Join(got, "\n"), "env-secret") {
		t.Errorf("the server did not get the variable: %q", got)
	}
}

func TestVersion(t *testing.T) {
	for _, arg := range []string{"version", "-version", "-v"} {
		if r := newShell(t, nil).run(arg); r.code != 0 || !strings.HasPrefix(r.stdout, "magnum ") {
			t.Errorf("%s: code %d, %q %q", arg, r.code, r.stdout, r.stderr)
		}
	}
	if r := newShell(t, nil).run("version", "x"); r.code != 2 {
		t.Errorf("version x: code %d, want 2", r.code)
	}
}

func TestInterruptedExitsWith130(t *testing.T) {
	f := newFakeAPI(t)
	begun, release := make(chan struct{}), make(chan struct{})
	defer close(release)
	f.handle("GET /v1/bays", func(http.ResponseWriter, *http.Request) { close(begun); <-release })
	ctx, cancel := context.WithCancel(context.Background())
	go func() { <-begun; cancel() }()
	var out, errOut bytes.Buffer
	e := &env{stdin: strings.NewReader(""), stdout: &out, stderr: &errOut,
		lookupEnv: func(k string) (string, bool) { return f.url, k == "MAGNUM_ADDR" }}
	if code := e.run(ctx, []string{"bay-list"}); code != exitInterrupted || errOut.String() != "ERROR: interrupted\n" {
		t.Errorf("code %d, %q", code, errOut.String())
	}
}
