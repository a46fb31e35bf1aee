package command

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/servertest"
	"github.com/stackforge/magnum/structs"
)

// TestQuotaCommands runs the commands against a server.
func TestQuotaCommands(t *testing.T) {
	server := servertest.New(t, servertest.WithAuth(identity.Static{
		"root":  {ProjectID: "ops", UserID: "root", Roles: []structs.Role{structs.RoleAdmin}},
		"alice": {ProjectID: "alpha", UserID: "alice", Roles: []structs.Role{structs.RoleMember}},
	}))
	server.StartAgent(t, "host-1")
	s := newShell(t, nil)
	s.env["MAGNUM_ADDR"] = server.URL
	for _, c := range []struct {
		as, line string
		code     int
		out      []string // each is contained in standard output
		err      string   // contained in standard error
	}{
		{"alice", "bay-create -name b1", 0, nil, ""},
		{"alice", "quota-show", 0, []string{"| Resource   | Limit | In use | Source  |", "| bays       | -     | 1      | shipped |"}, ""},
		{"root", "quota-set -containers 1 -memory 100m -cpu 2.5 alpha", 0, []string{"| containers | 1         | 0      | project |",
			"| memory     | 104857600 | 0      | project |", "| cpu        | 2.5       | 0      | project |"}, ""},
		{"alice", "container-create -name c -image busybox -bay b1", 1, nil, "memory is missing"},
		{"alice", "container-create -name c -image busybox -bay b1 -memory 60m -cpu 0.5", 0, nil, ""},
		{"alice", "container-create -name d -image busybox -bay b1 -memory 60m -cpu 0.5", 1, nil,
			"Quota exceeded for containers: the project uses 1 of 1, and this would take 1 more"},
		{"root", "quota-set -containers unlimited alpha", 0, nil, ""},
		{"alice", "container-create -name d -image busybox -bay b1 -memory 60m -cpu 0.5", 1, nil,
			"Quota exceeded for memory: the project uses 62914560 of 104857600 bytes, and this would take 62914560 more"},
		{"root", "quota-set -default -bays 1 -hosts 7", 0, []string{"| hosts      | 7     | 0      | default |"}, ""},
		{"alice", "bay-create -name b2", 1, nil, "Quota exceeded for bays: the project uses 1 of 1, and this would take 1 more"},
		{"alice", "quota-show alpha", 0, []string{"| hosts      | 7         | 1        | default |"}, ""},
		{"alice", "quota-show -json", 0, []string{`"memory":{"limit":104857600,"in_use":62914560,"source":"project"}`}, ""},
		{"alice", "quota-show -format {{.cpu.in_use}}", 0, []string{"0.5\n"}, ""},
		{"alice", "quota-show ops", 1, nil, "Quota ops could not be found. (HTTP 404)"},
		{"alice", "quota-list", 1, nil, "HTTP 403"},
		{"alice", "quota-set -bays 5 alpha", 1, nil, "HTTP 403"},
		{"alice", "quota-delete alpha", 1, nil, "HTTP 403"},
		{"root", "quota-list", 0, []string{"| project_id | bays | hosts | containers | pods | memory ", "| alpha      | 1/1  | 1/7   | 1/-  "}, ""},
		{"root", "quota-list -wide -json", 0, []string{`"project_id":"alpha"`}, ""},
		{"root", "quota-delete -default", 0, nil, ""},
		{"root", "quota-show -default", 0, []string{"| bays       | -     | 0      | shipped |"}, ""},
		{"root", "quota-delete alpha", 0, nil, ""},
		{"root", "quota-show alpha", 0, []string{"| containers | -     | 1        | shipped |"}, ""},
		{"root", "quota-set alpha", 2, nil, "no limit is given"},
		{"root", "quota-set -bays 5", 2, nil, "PROJECT is missing"},
		{"root", "quota-set -bays many alpha", 2, nil, "-bays"},
		{"root", "quota-set -bays -2 alpha", 2, nil, "-bays"},
		{"root", "quota-set -memory 1q alpha", 2, nil, "-memory"},
		{"root", "quota-set -cpu nan alpha", 2, nil, "-cpu"},
		{"root", "quota-set -default -bays 5 alpha", 2, nil, "one argument too many"},
		{"root", "quota-delete", 2, nil, "PROJECT is missing"},
	} {
		s.env["OS_TOKEN"] = c.as
		r := s.run(strings.Fields(c.line)...)
		if r.code != c.code || !strings.Contains(r.stderr, c.err) {
			t.Errorf("%s as %s: code %d, %q; want %d, %q", c.line, c.as, r.code, r.stderr, c.code, c.err)
		}
		for _, text := range c.out {
			if !strings.Contains(r.stdout, text) {
				t.Errorf("%s as %s: no %q in\n%s", c.line, c.as, text, r.stdout)
			}
		}
	}
	s.env["OS_TOKEN"] = "root"
	if r := s.run("quota-set", "-bays", "3", "a b/c"); r.code != 0 {
		t.Errorf("a project with special characters: %+v", r)
	}
	if r := s.run("quota-show", "-format", "{{.project_id}} {{.bays.limit}}", "a b/c"); r.stdout != "a b/c 3\n" {
		t.Errorf("a project with special characters: %+v", r)
	}
}

// TestQuotaRequests checks what is sent, and to where.
func TestQuotaRequests(t *testing.T) {
	f := newFakeAPI(t)
	f.handle("PUT /v1/quotas/alpha", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	f.answer("DELETE /v1/quota_classes/default", 204, "")
	s := newShell(t, f)
	s.run("quota-set", "-spec-bytes", "1m", "-pods", "-1", "-cpu", "0.25", "-volumes", "0", "alpha")
	s.run("quota-delete", "-default")
	want := []string{`PUT /v1/quotas/alpha {"pods":-1,"volumes":0,"cpu":0.25,"spec_bytes":1048576}`, "DELETE /v1/quota_classes/default"}
	if got := f.requests(); !slices.Equal(got, want) {
		t.Errorf("asked %q, not %q", got, want)
	}
}
