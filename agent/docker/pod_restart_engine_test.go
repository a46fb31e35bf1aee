//go:build engine

package docker

import (
	"errors"
	"slices"
	"testing"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/backend/backendtest"
	"github.com/stackforge/magnum/agent/docker/dockertest"
	"github.com/stackforge/magnum/structs"
)

// TestPodsAfterARestartOfTheEngine: all containers have ended, and none comes again by
// itself. The infra container can be started again, and a new attempt joins it. What is on
// disk is kept, and what was in memory is gone.
func TestPodsAfterARestartOfTheEngine(t *testing.T) {
	engine, err := dockertest.StartEngine(t.TempDir())
	if errors.Is(err, dockertest.ErrNoEngine) {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := engine.Stop(); err != nil {
			t.Error(err)
		}
	})
	d, err := New(Config{Host: engine.Host})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	p := newEnginePod(t, d)
	part := backend.PodPart{Volumes: []structs.PodVolume{{Name: "disk"}, {Name: "mem", Memory: true}}}
	in := p.started(structs.PodInfra, part, &structs.ContainerSpec{})
	part.Infra = in.EngineID
	part.Mounts = []structs.PodMount{{Volume: "disk", Path: "/disk"}, {Volume: "mem", Path: "/mem"}}
	spec, atOnce := backendtest.Sleeper(), 0
	spec.StopTimeout = &atOnce // the engine waits for it when it ends
	web := p.started("web", part, spec)
	p.run(web, "echo x > /disk/f; echo x > /mem/f")
	before, err := d.List(t.Context(), p.owner)
	if err != nil {
		t.Fatal(err)
	}
	if err := engine.Restart(); err != nil {
		t.Fatal(err)
	}
	after, err := d.List(t.Context(), p.owner)
	if err != nil || len(after) != len(before) {
		t.Fatalf("listed are %+v, %v; want %+v", after, err, before)
	}
	for _, e := range after {
		if now, err := d.Inspect(t.Context(), e.EngineID); err != nil || now.Live() || !slices.Contains(before, e) {
			t.Errorf("it is %+v, %v", now, err)
		}
	}
	if err := d.Start(t.Context(), web.EngineID); !errors.Is(err, backend.ErrNoInfra) {
		t.Errorf("a start without the infra container gives %v", err)
	}
	if err := d.Start(t.Context(), in.EngineID); err != nil {
		t.Fatal(err)
	}
	log := p.started("log", part, backendtest.Sleeper())
	if got := p.run(log, "ls /disk /mem"); got != "/disk:\nf\n\n/mem:\n" {
		t.Errorf("the volumes have\n%s", got)
	}
	if now, err := d.Inspect(t.Context(), in.EngineID); err != nil || len(now.Addresses) != 1 {
		t.Errorf("the infra container is %+v, %v", now, err)
	}
}
