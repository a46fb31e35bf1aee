package command

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	tokenJSON = `{"uuid":"u1","name":"ci","project_id":"p1","user_id":"ci","role":"member","join":false,"expires_at":null,` +
		`"expired":false,"created_at":"2026-01-02T03:04:05+00:00","created_by":"root","links":[]`
	madeJSON = tokenJSON + `,"token":"mgt_u1_secret"}`
)

func TestTokenCommands(t *testing.T) {
	f := newFakeAPI(t)
	f.answer("POST /v1/tokens", 201, madeJSON)
	f.answer("POST /v1/operator/bootstrap", 201, madeJSON)
	f.answer("GET /v1/tokens", 200, `{"tokens":[`+tokenJSON+`}]}`)
	f.answer("GET /v1/tokens/detail", 200, `{"tokens":[`+tokenJSON+`}]}`)
	f.answer("GET /v1/tokens/ci", 200, tokenJSON+"}")
	f.answer("DELETE /v1/tokens/ci", 204, "")
	s := newShell(t, f)
	for _, c := range []struct {
		line   string
		code   int
		stdout string // contained
		stderr string
		asked  string
	}{
		{"token-create -name ci -project p1 -user bob -role reader -expires 30d", 0, "mgt_u1_secret", "shown only once",
			`POST /v1/tokens {"name":"ci","project_id":"p1","user_id":"bob","role":"reader","expires_in":2592000}`},
		{"token-create -q", 0, "mgt_u1_secret\n", "", `POST /v1/tokens {}`},
		{"token-create -join -expires 90m -json", 0, `"token":"mgt_u1_secret"`, "", `POST /v1/tokens {"expires_in":5400,"join":true}`},
		{"token-create -expires soon", 2, "", "-expires", ""},
		{"token-create -expires 0d", 2, "", "1..3650", ""},
		{"token-create -expires -5m", 2, "", "-expires", ""},
		{"token-create ci", 2, "", "one argument too many", ""},
		{"token-list", 0, "| u1   | ci   | p1         | member | false | None", "", "GET /v1/tokens"},
		{"token-list -wide -name ci", 0, "created_by", "", "GET /v1/tokens/detail?name=ci"},
		{"token-list -q", 0, "u1\n", "", "GET /v1/tokens"},
		{"token-show ci", 0, "member", "", "GET /v1/tokens/ci"},
		{"token-revoke ci", 0, "", "", "DELETE /v1/tokens/ci"},
		{"token-revoke ci none", 1, "", "none", "DELETE /v1/tokens/none"},
		{"token-revoke", 2, "", "TOKEN is missing", ""},
		{"operator bootstrap", 0, "mgt_u1_secret", "keep it now", "POST /v1/operator/bootstrap"},
		{"operator bootstrap -q -addr " + f.url, 0, "mgt_u1_secret\n", "", "POST /v1/operator/bootstrap"},
		{"-debug -addr " + f.url + " operator bootstrap -q", 0, "mgt_u1_secret\n", "POST", "POST /v1/operator/bootstrap"},
		{"operator bootstrap again", 2, "", "one argument too many", ""},
	} {
		before := len(f.requests())
		r := s.run(strings.Fields(c.line)...)
		if r.code != c.code || !strings.Contains(r.stdout, c.stdout) || !strings.Contains(r.stderr, c.stderr) {
			t.Errorf("%s: code %d, %q, %q; want %d, %q, %q", c.line, r.code, r.stdout, r.stderr, c.code, c.stdout, c.stderr)
		}
		asked := f.requests()[before:]
		if c.asked == "" && len(asked) > 0 || c.asked != "" && (!slices.Contains(asked, c.asked)) {
			t.Errorf("%s asked %q, want %q", c.line, asked, c.asked)
		}
		if strings.Contains(r.stderr, "mgt_u1_secret") || strings.HasSuffix(c.line, "-q") && r.stdout != c.stdout {
			t.Errorf("%s: %q, %q", c.line, r.stdout, r.stderr)
		}
	}
	if r := s.run("operator"); r.code != 2 || !strings.Contains(r.stderr, "operator bootstrap") {
		t.Errorf("code %d, %q, %q", r.code, r.stdout, r.stderr)
	}
}

// A retry could create a second token that nobody knows.
func TestTokenCreateIsNotRetried(t *testing.T) {
	f := newFakeAPI(t)
	f.handle("POST /v1/tokens", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(503)
		fmt.Fprint(w, `{"errors":[{"status":503,"code":"no_leader","detail":"gone"}]}`)
	})
	if r := newShell(t, f).run("token-create"); r.code != 1 || len(f.requests()) != 1 {
		t.Errorf("code %d after %d requests: %s", r.code, len(f.requests()), r.stderr)
	}
}

func TestInvalidCAFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := newShell(t, nil)
	for _, args := range [][]string{{"bay-list", "-tls-ca", file}, {"-tls-ca", file, "bay-list"},
		{"bay-list", "-tls-ca", "/nowhere/ca.pem"}} {
		r := s.run(args...)
		if r.code != 1 || !strings.Contains(r.stderr, "-tls-ca") || !strings.Contains(r.stderr, "ca.pem") {
			t.Errorf("%q: code %d, %q", args, r.code, r.stderr)
		}
	}
	s.env["MAGNUM_TLS_CA"] = file
	if r := s.run("bay-list"); r.code != 1 || !strings.Contains(r.stderr, file) {
		t.Errorf("from the environment: code %d, %q", r.code, r.stderr)
	}
}
