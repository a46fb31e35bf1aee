package kubetest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestLoadRefuses: a test without its peer fails, and says how to start the peer.
func TestLoadRefuses(t *testing.T) {
	broken := t.TempDir()
	if err := os.WriteFile(filepath.Join(broken, "admin.conf"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	empty := t.TempDir()
	if err := os.WriteFile(filepath.Join(empty, "admin.conf"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ name, dir, want string }{
		{"no directory is named", "", "scripts/peers/kubernetes-up"},
		{"the directory has no cluster", t.TempDir(), "scripts/peers/kubernetes-up"},
		{"admin.conf can't be read", broken, "admin.conf"},
		{"admin.conf names no cluster", empty, "0 clusters"},
	} {
		c, err := load(test.dir)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: cluster %v, error %v; want an error with %q", test.name, c, err, test.want)
		}
	}
}

// TestExitCode: a command that could not be started has no exit code.
func TestExitCode(t *testing.T) {
	for _, test := range []struct {
		status string
		want   int
		fails  bool
	}{
		{status: `{"status":"Success"}`},
		{status: `{"status":"Failure","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"7"}]}}`, want: 7},
		{status: `{"status":"Failure","reason":"InternalError","message":"no such file"}`, fails: true},
		{status: `{`, fails: true},
	} {
		exit, err := exitCode([]byte(test.status))
		if exit != test.want || (err != nil) != test.fails {
			t.Errorf("%s: exit code %d, error %v; want %d, an error %v", test.status, exit, err, test.want, test.fails)
		}
	}
}
