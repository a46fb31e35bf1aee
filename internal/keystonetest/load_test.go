package keystonetest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestLoad: without a Keystone, tests fail with a way to get one.
func TestLoad(t *testing.T) {
	for _, dir := range []string{"", t.TempDir()} {
		if _, err := load(dir); err == nil || !strings.Contains(err.Error(), "scripts/peers/keystone-up") {
			t.Errorf("load(%q): %v", dir, err)
		}
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "url"), []byte("http://127.0.0.1:5000/v3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if k, err := load(dir); err != nil || k.URL != "http://127.0.0.1:5000/v3" {
		t.Errorf("load: %+v, %v", k, err)
	}
}
