//go:build engine

package docker

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/backend/backendtest"
	"github.com/stackforge/magnum/agent/docker/dockertest"
	"github.com/stackforge/magnum/structs"
)

// TestCopiesAndMounts copies to and from mounts that only the running container sees, and
// mounts that the engine sees.
func TestCopiesAndMounts(t *testing.T) {
	d := onEngine(t)
	spec := backendtest.Sleeper()
	spec.Volumes = []structs.Mount{{Type: structs.MountTmpfs, Target: "/scratch"},
		{Type: structs.MountVolume, Name: "data", Target: "/scratch/kept"}}
	project := "p-" + structs.NewID()
	c, req := made(t, d, project, spec)
	t.Cleanup(func() { // volumes outlive containers
		if err := errors.Join(d.Remove(context.Background(), c.EngineID),
			d.RemoveVolume(context.Background(), req.ClusterID, project, "data")); err != nil {
			t.Error(err)
		}
	})
	put := func(to string, entries ...string) error {
		return d.ArchivePut(t.Context(), c.EngineID, to, dockertest.Archive(entries...))
	}
	get := func(from string) (int, error) {
		var out bytes.Buffer
		err := d.ArchiveGet(t.Context(), c.EngineID, from, &out)
		return out.Len(), err
	}
	if err := put("/", "tmp/link->/scratch", "tmp/deep/", "tmp/deep/shm->../../dev/shm"); err != nil {
		t.Fatal(err)
	}
	for _, state := range []backend.State{backend.StateCreated, backend.StateRunning, backend.StateExited} {
		switch state {
		case backend.StateRunning:
			if err := d.Start(t.Context(), c.EngineID); err != nil {
				t.Fatal(err)
			}
		case backend.StateExited:
			if err := d.Kill(t.Context(), c.EngineID); err != nil {
				t.Fatal(err)
			}
		}
		for _, p := range []string{"/scratch", "/scratch/", "/tmp/link/", "/tmp/link/x", "/tmp/deep/shm/x", "/dev/shm", "/proc", "/proc/1",
			"/sys/kernel", "/tmp/../dev"} {
			if err := put(p, "x"); !errors.Is(err, backend.ErrInvalid) || !strings.Contains(err.Error(), "copies don't reach it") {
				t.Errorf("%s: in to %s: %v", state, p, err)
			}
			if _, err := get(p); !errors.Is(err, backend.ErrInvalid) {
				t.Errorf("%s: out of %s: %v", state, p, err)
			}
		}
		for _, entry := range []string{"scratch/x", "tmp/link/x", "dev/x"} {
			if err := put("/", "tmp/before", entry); !errors.Is(err, backend.ErrInvalid) {
				t.Errorf("%s: in as %s: %v", state, entry, err)
			}
		}
		if _, err := get("/tmp/before"); !errors.Is(err, backend.ErrNoPath) {
			t.Errorf("%s: of an archive that is refused, something was unpacked: %v", state, err)
		}
		for to, entry := range map[string]string{"/": "tmp/y", "/tmp": "y", "/scratch/kept": "y"} {
			if err := put(to, entry); err != nil {
				t.Errorf("%s: in to %s: %v", state, to, err)
			}
		}
		for _, p := range []string{"/tmp/y", "/tmp/link", "/scratch/kept/y", "/etc"} {
			if n, err := get(p); err != nil || n == 0 {
				t.Errorf("%s: out of %s: %d bytes, %v", state, p, n, err)
			}
		}
		if state == backend.StateRunning {
			var seen bytes.Buffer
			code, err := d.Exec(t.Context(), c.EngineID, structs.ExecRequest{Command: []string{"cat", "/scratch/kept/y"}},
				backend.ExecStreams{Stdout: &seen, Stderr: io.Discard})
			if code != 0 || err != nil || seen.String() != "x" {
				t.Errorf("what was copied into the volume is %q inside: %d, %v", seen.String(), code, err)
			}
		}
	}
}
