package command

import (
	"strings"
	"testing"
)

func TestHostDrainShowsProgress(t *testing.T) {
	host := func(drain string) string {
		return `{"uuid":"h1","name":"h","state":"ready","links":[],"drain":` + drain + `}`
	}
	f := newFakeAPI(t)
	f.answer("PUT /v1/hosts/h/drain", 200, host(`{"remaining":2}`))
	f.answer("GET /v1/hosts/h", 200, host(`{"remaining":2,"moving":1,"waits":["db (u2): its volume data is on that host"]}`),
		host(`{"remaining":0,"waits":[]}`))
	s := newShell(t, f)
	r := s.run("host-drain", "h")
	if want := "h: 2 left, 1 of them moving; db (u2): its volume data is on that host\nh: drained\n"; r.code != 0 || r.stderr != want ||
		!strings.Contains(r.stdout, "| h1   | h    | ready |") {
		t.Errorf("%+v", r)
	}
	// The output is the host at the end of the drain, with -detach at its beginning.
	if r := s.run("host-drain", "-format", "{{.name}} {{.drain.remaining}}", "h"); r.code != 0 || r.stdout != "h 0\n" {
		t.Errorf("%+v", r)
	}
	if r := s.run("host-drain", "-json", "-detach", "h"); r.code != 0 || r.stdout != `[`+host(`{"remaining":2}`)+"]\n" {
		t.Errorf("%+v", r)
	}
	f.answer("PUT /v1/hosts/h/undrain", 200, host("null"))
	if r := s.run("host-undrain", "-format", "{{.name}}", "h", "nope", "h"); r.code != 1 || r.stdout != "h\n" ||
		!strings.Contains(r.stderr, "Undrain for host nope failed") {
		t.Errorf("%+v", r)
	}
	if r := s.run("host-undrain", "-json", "nope"); r.code != 1 || r.stdout != "" {
		t.Errorf("%+v", r)
	}
	if r := s.run("host-undrain", "-format", "x", "h"); r.code != 2 || !strings.Contains(r.stderr, "-format") {
		t.Errorf("%+v", r)
	}
	f.answer("GET /v1/hosts/h", 200, host("null"))
	if r := s.run("host-drain", "h"); r.code != 1 || !strings.Contains(r.stderr, "was ended by host-undrain") {
		t.Errorf("%+v", r)
	}
	f.answer("GET /v1/hosts/h", 200, strings.Replace(host(`{"remaining":3}`), "ready", "lost", 1))
	if r := s.run("host-drain", "h"); r.code != 1 || !strings.Contains(r.stderr, "host h is lost with 3 containers") {
		t.Errorf("%+v", r)
	}
	for _, d := range []string{"x", "0", "-1m"} {
		if r := s.run("host-drain", "-deadline", d, "h"); r.code != 2 || !strings.Contains(r.stderr, "is not a duration") {
			t.Errorf("%s: %+v", d, r)
		}
	}
}
