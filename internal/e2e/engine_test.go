//go:build e2e

package e2e

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/volume"
	docker "github.com/docker/docker/client"

	"github.com/stackforge/magnum/agent/docker/dockertest"
	"github.com/stackforge/magnum/structs"
)

// engine is a Docker engine, asked directly to check what magnum says.
type engine struct {
	testing.TB
	*docker.Client
}

func newEngine(t testing.TB) *engine {
	t.Helper()
	return engineAt(t, "")
}

// engineAt returns the engine at host, "" for the one of the environment.
func engineAt(t testing.TB, host string) *engine {
	t.Helper()
	cli, err := dockertest.Open(host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cli.Close() })
	return &engine{t, cli}
}

// seen is one Docker container of a host.
type seen struct {
	id        string // of Docker
	container string // UUID, also of a pod
	part      string // of a pod; "" of a container
	epoch     string
	attempt   string // of a part of a pod
	state     string
}

// owner returns the UUID of the container or pod in the labels of a Docker container.
func owner(labels map[string]string) string {
	return cmp.Or(labels["magnum.container"], labels["magnum.workload"])
}

// list returns the Docker containers with a host's label.
func (e *engine) list(hostID string) ([]seen, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	list, err := e.ContainerList(ctx, container.ListOptions{All: true,
		Filters: filters.NewArgs(filters.Arg("label", "magnum.host="+hostID))})
	if err != nil {
		return nil, err
	}
	var out []seen
	for _, c := range list {
		out = append(out, seen{id: c.ID, container: owner(c.Labels), part: c.Labels["magnum.part"], epoch: c.Labels["magnum.epoch"],
			attempt: c.Labels["magnum.attempt"], state: c.State})
	}
	return out, nil
}

// started returns when each container of a host was last started, by UUID. Of a pod, it
// has the last start of any part.
func (e *engine) started(hostID string) map[string]string {
	e.Helper()
	list, err := e.list(hostID)
	if err != nil {
		e.Fatal(err)
	}
	out := make(map[string]string)
	for _, s := range list {
		info, err := e.ContainerInspect(context.Background(), s.id)
		if errdefs.IsNotFound(err) {
			continue
		}
		if err != nil {
			e.Fatal(err)
		}
		out[s.container] = max(out[s.container], info.State.StartedAt)
	}
	return out
}

// noDuplicates checks I4: at most one Docker container for a container and
// epoch, and at most one running for a container. Each part of a pod counts as a
// container, and each attempt of it as an epoch.
func (e *engine) noDuplicates(hostID string) error {
	list, err := e.list(hostID)
	if err != nil {
		return err
	}
	placed, running := make(map[string]bool), make(map[string]bool)
	for _, s := range list {
		its := strings.TrimSpace(s.container + " " + s.part)
		key := strings.TrimSpace(its + " epoch " + s.epoch + " " + s.attempt)
		if placed[key] {
			return fmt.Errorf("I4: two Docker containers for %s", key)
		}
		placed[key] = true
		if s.state == "running" {
			if running[its] {
				return fmt.Errorf("I4: two epochs of %s run", its)
			}
			running[its] = true
		}
	}
	return nil
}

// agrees checks I5: the engine has exactly the containers that the API says. Pods are left
// out; see podsAgree.
func (e *engine) agrees(hostID string, want map[string]structs.ContainerBody) error {
	list, err := e.list(hostID)
	if err != nil {
		return err
	}
	found := make(map[string]seen)
	for _, s := range list {
		if s.part != "" {
			continue
		}
		b, ok := want[s.container]
		if !ok {
			return fmt.Errorf("I5: %s has no row", s.container)
		}
		if s.epoch != fmt.Sprint(b.Epoch) {
			return fmt.Errorf("I5: %s has epoch %s on the engine, not %d", b.Name, s.epoch, b.Epoch)
		}
		found[s.container] = s
	}
	for id, b := range want {
		s, ok := found[id]
		state := map[structs.ContainerStatus][]string{
			structs.ContainerRunning: {"running"}, structs.ContainerPaused: {"paused"}, structs.ContainerStopped: {"created", "exited"},
		}[b.Status]
		if !ok || state[0] != s.state && state[len(state)-1] != s.state {
			return fmt.Errorf("I5: %s is %s, and the engine has it %q", b.Name, b.Status, s.state)
		}
	}
	return e.noDuplicates(hostID)
}

// removeVolume removes all unmounted volumes of a name, at the end of a test.
func (e *engine) removeVolume(name string) {
	list, err := e.VolumeList(context.Background(), volume.ListOptions{Filters: filters.NewArgs(filters.Arg("label",
		"magnum.volume="+name))})
	if err != nil {
		e.Error(err)
	}
	for _, v := range list.Volumes {
		_ = e.VolumeRemove(context.Background(), v.Name, false)
	}
}

// removeAll removes a host's containers, at the end of a test.
func (e *engine) removeAll(hostID string) {
	list, err := e.list(hostID)
	if err != nil {
		e.Error(err)
	}
	for _, s := range list {
		err := e.ContainerRemove(context.Background(), s.id, container.RemoveOptions{Force: true, RemoveVolumes: true})
		if err != nil && !errdefs.IsNotFound(err) {
			e.Errorf("remove %s: %v", s.container, err)
		}
	}
	if err := dockertest.RemoveNetworks(); err != nil {
		e.Error(err)
	}
}
