//go:build engine

package docker

import (
	"path/filepath"
	"testing"

	"github.com/stackforge/magnum/agent/backend/backendtest"
	"github.com/stackforge/magnum/agent/docker/dockertest"
	"github.com/stackforge/magnum/structs"
)

// TestEngineIdentity: it is read from this machine, is stable, and shows another ID.
func TestEngineIdentity(t *testing.T) {
	d := onEngine(t)
	f, err := d.Fingerprint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if e := f.Engine; e.ID == "" || e.Root == "" || e.Inode == 0 || e.Born.IsZero() {
		t.Errorf("the identity is %+v", e)
	}
	if again, err := d.Fingerprint(t.Context()); err != nil || again.Engine != f.Engine {
		t.Errorf("then it is %+v, %v", again.Engine, err)
	}
	front, err := dockertest.NewFront(filepath.Join(t.TempDir(), "docker.sock"), "another")
	if err != nil {
		t.Fatal(err)
	}
	defer front.Close()
	other, err := New(Config{Host: front.Host})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	g, err := other.Fingerprint(t.Context())
	if err != nil || g.Engine.ID != "another" || g.Engine.Root != f.Engine.Root || f.Engine.Differs(g.Engine) == "" {
		t.Errorf("through a front it is %+v, %v", g.Engine, err)
	}
	// A remote engine's directory isn't on this machine.
	if e := (structs.EngineIdentity{ID: "x", Root: t.TempDir()}); true {
		if readEngine(&e); e.Inode != 0 {
			t.Errorf("a directory that is no engine's is read: %+v", e)
		}
	}
}

// TestFront: an engine behind a front passes the suite.
func TestFront(t *testing.T) {
	front, err := dockertest.NewFront(filepath.Join(t.TempDir(), "docker.sock"), "another")
	if err != nil {
		t.Fatal(err)
	}
	defer front.Close()
	d, err := New(Config{Host: front.Host})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	backendtest.Suite(t, d)
}
