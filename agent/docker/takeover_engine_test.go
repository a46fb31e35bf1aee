//go:build engine

package docker

import (
	"context"
	"encoding/json"
	"os"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/docker/dockertest"
	"github.com/stackforge/magnum/structs"
)

// TestContainerOfEarlierBuildIsTheSame creates a container with the name, labels and
// spec hash that a build without kinds has given it. It is listed, and a create of the
// same placement returns it unchanged.
func TestContainerOfEarlierBuildIsTheSame(t *testing.T) {
	b, err := os.ReadFile("../backend/testdata/container.json")
	if err != nil {
		t.Fatal(err)
	}
	var made struct {
		Name   string
		Labels map[string]string
	}
	if err := json.Unmarshal(b, &made); err != nil {
		t.Fatal(err)
	}
	stop := 3
	spec := &structs.ContainerSpec{
		Image: dockertest.Image, Command: []string{"sleep", "600"}, Environment: map[string]string{"B": "2", "A": "1"},
		Labels: map[string]string{"mine": "y"}, Workdir: "/tmp", User: "1000", Memory: 32 << 20, MilliCPU: 500,
		RestartPolicy: structs.RestartPolicy{Name: structs.RestartAlways}, StopTimeout: &stop, TTY: true, Stdin: true, LogMaxSize: 1 << 20,
		Ports: []structs.Port{{ContainerPort: 80, Protocol: "tcp"}}, Volumes: []structs.Mount{{Target: "/scratch", Type: structs.MountTmpfs,
			Size: 1 << 20}},
		Healthcheck: &structs.Healthcheck{Test: structs.Command{Text: "true"}, Interval: 60}, Constraints: map[string]string{"disk": "ssd"},
	}
	d := onEngine(t)
	owner := backend.Owner{ClusterID: made.Labels[backend.LabelCluster], HostID: made.Labels[backend.LabelHost]}
	raw, err := d.engine.Client.ContainerCreate(t.Context(),
		&container.Config{Image: dockertest.Image, Cmd: spec.Command,
			Labels: made.Labels}, &container.HostConfig{NetworkMode: "none"}, nil, nil, made.Name[1:])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Remove(context.Background(), raw.ID); err != nil {
			t.Error(err)
		}
	})
	if err := d.Start(t.Context(), raw.ID); err != nil {
		t.Fatal(err)
	}
	entries, err := d.List(t.Context(), owner)
	if err != nil || len(entries) != 1 || entries[0].EngineID != raw.ID || entries[0].Lease {
		t.Fatalf("listed are %+v, %v", entries, err)
	}
	ref := structs.ContainerRef("c3d2e1f0-1234-4abc-8def-3f3e3d3c3b39", 5)
	c, err := d.Create(t.Context(), backend.CreateRequest{Owner: owner, Ref: ref, ProjectID: made.Labels[backend.LabelProject], Name: "web",
		Spec: spec}, func(string) {})
	if err != nil || c.EngineID != raw.ID || c.Ref != ref || !c.Live() {
		t.Fatalf("create returns %+v, %v", c, err)
	}
	owners, err := d.Owners(t.Context())
	found := false
	for _, o := range owners {
		found = found || o == owner
	}
	if err != nil || !found {
		t.Errorf("owners are %v, %v", owners, err)
	}
	if again, err := d.Inspect(t.Context(), raw.ID); err != nil || !again.StartedAt.Equal(c.StartedAt) ||
		time.Since(again.StartedAt) > time.Minute {
		t.Errorf("it is %+v, %v", again, err)
	}
}
