package command

import (
	"strings"
	"testing"
)

func TestHostFenceAndRelease(t *testing.T) {
	f := newFakeAPI(t)
	host := `{"uuid":"h1","name":"h","links":[]}`
	f.answer("PUT /v1/hosts/h/fence", 200, host)
	f.answer("PUT /v1/hosts/h/release", 200, host)
	f.answer("PUT /v1/hosts/u2/release", 200, host)
	f.answer("GET /v1/hosts/detail", 200, `{"hosts":[{"uuid":"u1","braked":false},{"uuid":"u2","braked":true}]}`)
	s := newShell(t, f)
	for line, want := range map[string]string{
		"host-fence h":        "PUT /v1/hosts/h/fence",
		"host-fence -force h": "PUT /v1/hosts/h/fence?force=true",
		"host-release h":      "PUT /v1/hosts/h/release",
		"host-release -all":   "PUT /v1/hosts/u2/release",
	} {
		r := s.run(strings.Fields(line)...)
		asked := f.requests()
		if r.code != 0 || asked[len(asked)-1] != want {
			t.Errorf("%s: %+v, asked %s", line, r, asked[len(asked)-1])
		}
	}
	for _, line := range []string{"host-fence -json h", "host-release -json h", "host-release -json -all"} {
		if r := s.run(strings.Fields(line)...); r.code != 0 || r.stdout != "["+host+"]\n" {
			t.Errorf("%s: %+v", line, r)
		}
	}
	f.answer("GET /v1/hosts/detail", 200, `{"hosts":[{"uuid":"u1","braked":false}]}`)
	if r := s.run("host-release", "-all", "-json"); r.code != 0 || r.stdout != "[]\n" {
		t.Errorf("%+v", r)
	}
	if r := s.run("host-release", "-all"); r.code != 0 || !strings.Contains(r.stderr, "holds no host.") {
		t.Errorf("%+v", r)
	}
	for line, want := range map[string]string{
		"host-fence": "HOST is missing", "host-release": "HOST is missing", "host-release -all h": "both name the hosts",
	} {
		if r := s.run(strings.Fields(line)...); r.code != 2 || !strings.Contains(r.stderr, want) {
			t.Errorf("%s: %+v", line, r)
		}
	}
	if r := s.run("host-fence", "none"); r.code != 1 || !strings.Contains(r.stderr, "Fence for host none failed") {
		t.Errorf("%+v", r)
	}
}
