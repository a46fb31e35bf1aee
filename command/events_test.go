package command

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestContainerActionsList(t *testing.T) {
	f := newFakeAPI(t)
	f.answer("GET /v1/containers/c1/actions", 200,
		`{"actions":[{"action":"stop","user_id":"joe","request_id":"req-1","started_at":"2015-04-20T19:06:08+00:00","finished_at":null,`+
			`"result":"error","message":"no"}]}`)
	s := newShell(t, f)
	if r := s.run("container-actions", "c1"); r.code != 0 ||
		!strings.Contains(r.stdout, "| stop   | joe     | 2015-04-20T19:06:08+00:00 | error  | no      |") {
		t.Errorf("%+v", r)
	}
	if r := s.run("container-actions", "none"); r.code != 1 || !strings.Contains(r.stderr, "HTTP 404") {
		t.Errorf("%+v", r)
	}
}

func TestHostDrainUndrainAndLabel(t *testing.T) {
	f := newFakeAPI(t)
	host := `{"uuid":"h1","name":"h","links":[]}`
	f.answer("PUT /v1/hosts/h/drain", 200, host)
	f.answer("PUT /v1/hosts/h/undrain", 200, host)
	f.answer("PATCH /v1/hosts/h", 200, host)
	s := newShell(t, f)
	for line, want := range map[string]string{
		"host-drain -detach h":             "PUT /v1/hosts/h/drain",
		"host-drain -d -f -deadline 10m h": "PUT /v1/hosts/h/drain?deadline=10m0s&force=true",
		"host-undrain h":                   "PUT /v1/hosts/h/undrain",
		"host-label h a=b c=d=e x-": `PATCH /v1/hosts/h [{"op":"add","path":"/labels/a","value":"b"},{"op":"add",` +
			`"path":"/labels/c","value":"d=e"},{"op":"remove","path":"/labels/x"}]`,
	} {
		r := s.run(strings.Fields(line)...)
		asked := f.requests()
		if r.code != 0 || asked[len(asked)-1] != want {
			t.Errorf("%s: %+v, asked %s", line, r, asked[len(asked)-1])
		}
	}
	for line, want := range map[string]string{
		"host-drain": "HOST is missing", "host-label": "HOST is missing", "host-label h": "KEY=VALUE is missing",
		"host-label h x": "neither KEY=VALUE nor KEY-", "host-label h =x": "neither",
	} {
		if r := s.run(strings.Fields(line)...); r.code != 2 || !strings.Contains(r.stderr, want) {
			t.Errorf("%s: %+v", line, r)
		}
	}
	if r := s.run("host-drain", "none"); r.code != 1 || !strings.Contains(r.stderr, "Drain for host none failed") {
		t.Errorf("%+v", r)
	}
}

const eventJSON = `{"event":"updated","type":"container","uuid":"u1","name":"c1","status":"Running","was":"Creating","health":null,` +
	`"status_reason":null,"host":"h","project_id":"p","at":"2015-04-20T19:06:08+00:00","index":7,"resume":7}`

// After a broken stream, -follow continues at the last index.
func TestEventsReconnect(t *testing.T) {
	f := newFakeAPI(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	calls := 0
	f.handle("GET /v1/events", func(w http.ResponseWriter, r *http.Request) {
		calls++ // one call at a time
		switch calls {
		case 1:
			io.WriteString(w, eventJSON+"\n"+`{"event":"tick","resume":9}`+"\n")
		default:
			cancel()
		}
	})
	var out, errOut strings.Builder
	e := &env{stdin: strings.NewReader(""), stdout: &out, stderr: &errOut,
		lookupEnv: func(k string) (string, bool) { return f.url, k == "MAGNUM_ADDR" }}
	code := e.run(ctx, []string{"events", "-follow", "-type", "container"})
	if want := "2015-04-20T19:06:08Z container updated c1 u1 Creating -> Running on h\n"; code != 130 || out.String() != want ||
		!strings.Contains(errOut.String(), "broke off") {
		t.Errorf("code %d, %q, %q", code, out.String(), errOut.String())
	}
	if asked := f.requests(); len(asked) != 2 || asked[0] != "GET /v1/events?type=container" ||
		asked[1] != "GET /v1/events?index=9&type=container" {
		t.Errorf("asked %q", asked)
	}
	calls = 0
	s := newShell(t, f)
	if r := s.run("events", "-json"); r.code != 1 || r.stdout != eventJSON+"\n" || !strings.Contains(r.stderr, "broke off") {
		t.Errorf("%+v", r)
	}
	f.answer("GET /v1/events", 410, `{"errors":[{"code":"gone","detail":"too old"}]}`)
	if r := s.run("events", "-follow", "-index", "1"); r.code != 1 || !strings.Contains(r.stderr, "too old. Start again without -index") {
		t.Errorf("%+v", r)
	}
	if r := s.run("events", "-index", "-1"); r.code != 2 {
		t.Errorf("%+v", r)
	}
}

func TestHealthAndRegistryFlags(t *testing.T) {
	f := newFakeAPI(t)
	f.answer("POST /v1/containers", 201, containerJSON("Creating"))
	s := newShell(t, f)
	for line, want := range map[string]string{
		"-health-cmd ls -health-interval 1m -health-timeout 2s -health-retries 4 -health-start-period 5s i": `{"healthcheck":{"interval"` +
			`:60,"retries":4,"start_period":5,"test":"ls","timeout":2},"image":"i"}`,
		"-no-healthcheck i": `{"healthcheck":{"test":[]},"image":"i"}`,
		"-registry-username joe -registry-password-stdin -registry-server r:5000 i": `{"image":"i","registry":{"username":"joe",` +
			`"password":"s3cret ","server":"r:5000"}}`,
	} {
		s.stdin = strings.NewReader("s3cret \n")
		r := s.run(append([]string{"container-create", "-detach", "-debug"}, strings.Fields(line)...)...)
		asked := f.requests()
		if r.code != 0 || asked[len(asked)-1] != "POST /v1/containers "+want || strings.Contains(r.stdout+r.stderr, "s3cret") {
			t.Errorf("%s: %+v, asked %s", line, r, asked[len(asked)-1])
		}
	}
	before := len(f.requests())
	s.stdin = strings.NewReader("")
	for line, want := range map[string]string{
		"-health-retries 3 i":                                       "-health-cmd is missing",
		"-health-cmd ls -no-healthcheck i":                          "exclude each other",
		"-health-cmd ls -health-timeout 1ms":                        "whole seconds",
		"-health-cmd= i":                                            "is empty",
		"-registry-password-stdin i":                                "-registry-username is missing",
		"-registry-username joe i":                                  "use -registry-password-stdin",
		"-registry-username joe -registry-password-stdin i":         "is empty",
		"-registry-username joe -registry-password-stdin -json - i": "both read standard input",
		"-registry-username joe -registry-password-stdin -i i":      "leave out one",
	} {
		if r := s.run(append([]string{"container-create"}, strings.Fields(line)...)...); r.code != 2 || !strings.Contains(r.stderr, want) {
			t.Errorf("%s: %+v", line, r)
		}
	}
	if len(f.requests()) != before {
		t.Error("the server was asked")
	}
	// At a terminal the command prompts for the password and doesn't echo it.
	p := openPTY(t)
	var seen screen
	go seen.follow(p.user)
	e := &env{stdin: p.program, stdout: io.Discard, stderr: p.program,
		lookupEnv: func(k string) (string, bool) { return f.url, k == "MAGNUM_ADDR" }}
	ended := make(chan int, 1)
	go func() {
		ended <- e.run(context.Background(), []string{"container-create", "-detach", "-registry-username", "joe", "i"})
	}()
	seen.shows(t, "Password of joe: ")
	io.WriteString(p.user, "typed\n")
	if code := <-ended; code != 0 {
		t.Errorf("code %d", code)
	}
	asked := f.requests()
	if !strings.Contains(asked[len(asked)-1], `"password":"typed"`) {
		t.Errorf("asked %s", asked[len(asked)-1])
	}
	seen.mu.Lock()
	defer seen.mu.Unlock()
	if strings.Contains(seen.text.String(), "typed") {
		t.Errorf("the screen shows %q", seen.text.String())
	}
}
