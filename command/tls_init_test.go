package command

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stackforge/magnum/internal/tlsconf"
)

func TestTLSInit(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tls")
	s := newShell(t, nil)
	first := s.run("tls-init", "-dir", dir, "-server", "s1.example, 10.0.0.1", "-days", "90")
	cert, key := filepath.Join(dir, "server-s1.example.pem"), filepath.Join(dir, "server-s1.example-key.pem")
	for _, want := range []string{
		"made  " + dir + "/ca.pem, the CA", "made  " + cert + ", valid until ",
		"magnum server -bind 10.0.0.1 -encrypt KEY -auth token -tls-ca " + dir + "/ca.pem -tls-cert " + cert + " -tls-key " + key,
		"Agents and users need only the CA: -tls-ca " + dir + "/ca.pem",
	} {
		if first.code != 0 || !strings.Contains(first.stdout, want) {
			t.Fatalf("code %d, %q, %q; want %q", first.code, first.stdout, first.stderr, want)
		}
	}
	if strings.Contains(first.stdout, "PRIVATE") {
		t.Error("it prints a key")
	}
	if _, err := tlsconf.Load(tlsconf.Files{CA: filepath.Join(dir, "ca.pem"), Cert: cert, Key: key}); err != nil {
		t.Error(err)
	}
	was, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	again := s.run("tls-init", "-dir", dir, "-server", "s1.example,10.0.0.1", "-server", "s2.example", "-json")
	var made tlsResult
	if err := json.Unmarshal([]byte(again.stdout), &made); err != nil || again.code != 0 {
		t.Fatalf("code %d, %q, %q: %v", again.code, again.stdout, again.stderr, err)
	}
	if made.Made || len(made.Servers) != 2 || made.Servers[0].Made || !made.Servers[1].Made {
		t.Errorf("the second time: %+v", made)
	}
	if now, _ := os.ReadFile(key); string(now) != string(was) {
		t.Error("a key was written over")
	}
	if only := s.run("tls-init", "-dir", dir); only.code != 0 || !strings.Contains(only.stdout, "kept  ") ||
		!strings.Contains(only.stdout, "Add a server's certificate") {
		t.Errorf("without servers: code %d, %q, %q", only.code, only.stdout, only.stderr)
	}
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"-server", "s1.example,10.0.0.2"}, 1, cert + " is for "},
		{[]string{"-server", "a b"}, 1, `"a b" is neither a DNS name nor an IP address`},
		{[]string{"-server", "x", "-days", "4000"}, 1, "-days 4000 not in 1..3650"},
		{[]string{"-days", "0"}, 2, "-days"},
		{[]string{"extra"}, 2, "one argument too many"},
		{[]string{"-dir", "/proc/none"}, 1, "/proc/none"},
	} {
		if r := s.run(append([]string{"tls-init", "-dir", dir}, c.args...)...); r.code != c.code || !strings.Contains(r.stderr, c.want) {
			t.Errorf("%q: code %d, %q; want %d, %q", c.args, r.code, r.stderr, c.code, c.want)
		}
	}
}
