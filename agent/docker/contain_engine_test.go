//go:build engine

package docker

import (
	"context"
	"slices"
	"testing"

	"github.com/stackforge/magnum/agent/backend/backendtest"
	"github.com/stackforge/magnum/structs"
)

// TestContainedByTheEngine: the engine takes the bounds, and a container starts with them.
func TestContainedByTheEngine(t *testing.T) {
	d, spec := onEngine(t), backendtest.Sleeper()
	spec.Volumes = []structs.Mount{{Type: structs.MountTmpfs, Target: "/scratch"}}
	c, _ := made(t, d, structs.NewID(), spec)
	t.Cleanup(func() {
		if err := d.Remove(context.Background(), c.EngineID); err != nil {
			t.Error(err)
		}
	})
	if err := d.Start(t.Context(), c.EngineID); err != nil {
		t.Fatal(err)
	}
	raw, err := d.engine.Inspect(t.Context(), c.EngineID)
	if err != nil {
		t.Fatal(err)
	}
	h := raw.HostConfig
	if h.PidsLimit == nil || *h.PidsLimit != DefaultPids || h.ShmSize != DefaultShm || !slices.Equal(h.SecurityOpt, []string{"no-new-privileges"}) ||
		h.Mounts[0].TmpfsOptions.SizeBytes != DefaultTmpfs {
		t.Errorf("the engine has %v, %d, %v, %+v", h.PidsLimit, h.ShmSize, h.SecurityOpt, h.Mounts)
	}
}
