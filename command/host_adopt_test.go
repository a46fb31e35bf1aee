package command

import (
	"strings"
	"testing"
)

func TestHostAdopt(t *testing.T) {
	f := newFakeAPI(t)
	kept := `{"container_uuid":"u1","name":"web","epoch":1,"state":"running","decided":null}`
	other := `{"container_uuid":"u2","name":null,"epoch":2,"state":"exited","decided":null}`
	host := func(quarantine ...string) string {
		return `{"uuid":"h1","name":"h","state":"ready","links":[],"quarantine":[` + strings.Join(quarantine, ",") + `]}`
	}
	decided := strings.ReplaceAll(kept, `"decided":null`, `"decided":"keep"`)
	f.answer("GET /v1/hosts/h", 200, host(kept, other))
	f.answer("PUT /v1/hosts/h/adopt", 200, host(decided, other))
	s := newShell(t, f)

	// Without a container it lists the quarantine and changes nothing.
	r := s.run("host-adopt", "h")
	if r.code != 0 || !strings.Contains(r.stdout, "u1") || !strings.Contains(r.stdout, "web") || !strings.Contains(r.stdout, "u2") ||
		len(f.requests()) != 1 {
		t.Errorf("%+v, asked %v", r, f.requests())
	}
	if r := s.run("host-adopt", "h", "-json"); r.code != 0 || r.stdout != "["+kept+","+other+"]\n" {
		t.Errorf("%+v", r)
	}
	for line, want := range map[string][]string{
		"host-adopt h web":        {"PUT /v1/hosts/h/adopt?container=web", "GET /v1/hosts/h"},
		"host-adopt -remove h u1": {"PUT /v1/hosts/h/adopt?container=u1&remove=true", "GET /v1/hosts/h"},
		"host-adopt -all -remove h": {"PUT /v1/hosts/h/adopt?container=u1&remove=true",
			"PUT /v1/hosts/h/adopt?container=u2&remove=true"},
		"host-adopt -detach -all h":    {"PUT /v1/hosts/h/adopt?container=u1", "PUT /v1/hosts/h/adopt?container=u2"},
		"host-adopt h -detach u1 u2 a": {"PUT /v1/hosts/h/adopt?container=a"},
	} {
		before := len(f.requests())
		r := s.run(strings.Fields(line)...)
		asked := strings.Join(f.requests()[before:], "\n")
		for _, w := range want {
			if r.code != 0 || !strings.Contains(asked, w) {
				t.Errorf("%s: %+v, asked %s", line, r, asked)
			}
		}
	}
	for line, want := range map[string]string{
		"host-adopt": "HOST is missing", "host-adopt -all h u1": "both name the containers", "host-adopt -remove h": "CONTAINER is missing",
	} {
		if r := s.run(strings.Fields(line)...); r.code != 2 || !strings.Contains(r.stderr, want) {
			t.Errorf("%s: %+v", line, r)
		}
	}

	f.answer("PUT /v1/hosts/h/adopt", 409, `{"errors":[{"status":409,"title":"conflict","detail":"it is not kept"}]}`)
	if r := s.run("host-adopt", "h", "web"); r.code != 1 || !strings.Contains(r.stderr, "Keeping for container web failed") ||
		!strings.Contains(r.stdout, "u1") {
		t.Errorf("%+v", r)
	}
	f.answer("GET /v1/hosts/h", 200, host())
	if r := s.run("host-adopt", "-all", "-remove", "h"); r.code != 0 || !strings.Contains(r.stderr, "keeps nothing in quarantine") {
		t.Errorf("%+v", r)
	}
	if r := s.run("host-adopt", "-all", "-json", "h"); r.code != 0 || r.stdout != "[]\n" {
		t.Errorf("%+v", r)
	}

	// Release and fence print that the host has containers in quarantine.
	f.answer("PUT /v1/hosts/h/release", 200, host(kept))
	f.answer("PUT /v1/hosts/h/fence", 200, host(kept))
	for _, line := range []string{"host-release h", "host-fence h"} {
		if r := s.run(strings.Fields(line)...); r.code != 0 || !strings.Contains(r.stderr, "1 containers in quarantine") {
			t.Errorf("%s: %+v", line, r)
		}
	}
}
