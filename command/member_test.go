package command

import (
	"slices"
	"strings"
	"testing"
)

const (
	serversJSON = `{"members":[{"uuid":"u1","name":"s1","role":"server","status":"alive","since":"2026-01-02T03:04:05+00:00",` +
		`"gossip_addr":"192.0.2.1:9513","http_addr":"http://192.0.2.1:9511","raft_addr":"192.0.2.1:9512","cluster_id":"c1",` +
		`"leader":true,"voter":true,"registered":true,"schema":1,"version":"1.0"}]}`
	agentsJSON = `{"members":[{"uuid":"h1","name":"host-1","role":"agent","status":"alive","registered":true},{"uuid":"h2",` +
		`"name":"host-2","role":"agent","status":"alive","registered":false}]}`
	peersJSON = `{"peers":[{"uuid":"u1","name":"s1","raft_addr":"192.0.2.1:9512","state":"leader","voter":true,"last_index":42,` +
		`"behind":0},{"uuid":"u2","name":null,"raft_addr":"192.0.2.2:9512","state":"unreachable","voter":true,"last_index":null,` +
		`"behind":null}]}`
)

func TestMemberCommands(t *testing.T) {
	f := newFakeAPI(t)
	f.answer("GET /v1/operator/raft/peers", 200, peersJSON)
	f.answer("PUT /v1/operator/raft/transfer-leader", 200, `{"leader":{"name":"s2","address":"192.0.2.2:9511"}}`)
	f.answer("DELETE /v1/operator/raft/peers/s2", 204, "")
	s := newShell(t, f)
	for _, c := range []struct {
		line   string
		code   int
		stdout string // contained
		stderr string
		asked  string
	}{
		{"server-members", 0, "| s1   | u1   | http://192.0.2.1:9511 | alive  | true   | true  | 1.0     |", "",
			"GET /v1/operator/members?role=server"},
		{"server-members -wide", 0, "192.0.2.1:9512", "", "GET /v1/operator/members?role=server"},
		{"server-members -q", 0, "u1\n", "", "GET /v1/operator/members?role=server"},
		{"server-members -json", 0, `"schema":1`, "", "GET /v1/operator/members?role=server"},
		{"server-members s1", 2, "", "one argument too many", ""},
		{"server-members -unregistered", 2, "", "-unregistered", ""},
		{"host-members", 0, "| host-1 | h1", "", "GET /v1/operator/members?role=agent"},
		{"host-members -unregistered -q", 0, "h2\n", "", "GET /v1/operator/members?role=agent"},
		{"host-members -format {{.name}}", 0, "host-1\nhost-2\n", "", "GET /v1/operator/members?role=agent"},
		{"operator raft list-peers", 0, "| s1   | u1   | 192.0.2.1:9512 | leader      | true  | 42         | 0      |", "",
			"GET /v1/operator/raft/peers?consistent=true"},
		{"operator raft list-peers -stale -q", 0, "u1\nu2\n", "", "GET /v1/operator/raft/peers?stale=true"},
		{"operator raft list-peers -format x", 2, "", "-format", ""},
		{"operator raft transfer-leader", 0, "s2 (192.0.2.2:9511) leads\n", "", "PUT /v1/operator/raft/transfer-leader"},
		{"operator raft transfer-leader s2 -json", 0, `{"name":"s2","address":"192.0.2.2:9511"}`, "",
			"PUT /v1/operator/raft/transfer-leader?to=s2"},
		{"operator raft transfer-leader s2 s3", 2, "", "one argument too many", ""},
		{"operator raft remove-peer s2", 0, "", "s2 is removed from the cluster", "DELETE /v1/operator/raft/peers/s2"},
		{"operator raft remove-peer -force s2", 0, "", "s2 is removed from the cluster", "DELETE /v1/operator/raft/peers/s2?force=true"},
		{"operator raft remove-peer s3", 1, "", "s3", "DELETE /v1/operator/raft/peers/s3"},
		{"operator raft remove-peer", 2, "", "SERVER is missing", ""},
		{"operator raft", 2, "", "operator raft list-peers", ""},
	} {
		f.answer("GET /v1/operator/members", 200, serversJSON)
		if strings.HasPrefix(c.line, "host") {
			f.answer("GET /v1/operator/members", 200, agentsJSON)
		}
		before := len(f.requests())
		r := s.run(strings.Fields(c.line)...)
		if r.code != c.code || !strings.Contains(r.stdout, c.stdout) || !strings.Contains(r.stderr, c.stderr) {
			t.Errorf("%s: code %d, %q, %q; want %d, %q, %q", c.line, r.code, r.stdout, r.stderr, c.code, c.stdout, c.stderr)
		}
		asked := f.requests()[before:]
		if c.asked == "" && len(asked) > 0 || c.asked != "" && !slices.Contains(asked, c.asked) {
			t.Errorf("%s asked %q, want %q", c.line, asked, c.asked)
		}
	}
	f.answer("GET /v1/operator/members", 200, agentsJSON)
	if r := s.run("host-members", "-unregistered", "-q"); r.stdout != "h2\n" {
		t.Errorf("a registered host is listed: %q", r.stdout)
	}
}
