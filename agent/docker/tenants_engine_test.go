//go:build engine

package docker

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/image"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/backend/backendtest"
	"github.com/stackforge/magnum/agent/docker/dockertest"
	"github.com/stackforge/magnum/structs"
)

// onShared returns a backend for a host that projects share, which may pull from the registry
// of ref.
func onShared(t *testing.T, ref, file string) *Docker {
	t.Helper()
	d, err := New(Config{Registries: []string{structs.RegistryOf(ref)}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	if err := d.Remember(file); err != nil {
		t.Fatal(err)
	}
	d.SetTenancy(structs.Tenancy{Separate: true, Shared: true})
	return d
}

// TestTwoProjectsOnOneEngine: alpha's private image is there, and beta gets it by no name.
func TestTwoProjectsOnOneEngine(t *testing.T) {
	ref, file := dockertest.PrivateRegistry(t, password), filepath.Join(t.TempDir(), "images")
	d := onShared(t, ref, file)
	alpha, beta := structs.NewID(), structs.NewID()
	owner := backend.Owner{ClusterID: structs.NewID(), HostID: structs.NewID()}
	creds := &structs.Registry{Username: "me", Password: password}
	create := func(d *Docker, project, name, policy string, creds *structs.Registry) (string, error) {
		spec := backendtest.Sleeper()
		spec.Image, spec.PullPolicy = name, policy
		req := backend.CreateRequest{Owner: owner, Ref: structs.ContainerRef(structs.NewID(), 1), ProjectID: project, Spec: spec,
			Registry: creds}
		made, err := d.Create(t.Context(), req, func(string) {})
		if err != nil {
			return "", err
		}
		defer func() {
			if err := d.Remove(context.Background(), made.EngineID); err != nil {
				t.Error(err)
			}
		}()
		raw, err := d.engine.Inspect(t.Context(), made.EngineID)
		return raw.Image, err
	}
	id, err := create(d, alpha, ref, structs.PullIfNotPresent, creds)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, _ = d.engine.Client.ImageRemove(context.Background(), id, image.RemoveOptions{Force: true})
	})
	raw, err := d.engine.Client.ImageInspect(t.Context(), id)
	if err != nil || len(raw.RepoDigests) != 1 {
		t.Fatalf("%+v, %v", raw.RepoDigests, err)
	}
	byDigest, hex := raw.RepoDigests[0], strings.TrimPrefix(id, "sha256:")
	refused := func(d *Docker) {
		t.Helper()
		for _, name := range []string{ref, byDigest, strings.TrimSuffix(ref, ":1"), hex[:12], hex, id} {
			for _, policy := range []string{structs.PullIfNotPresent, structs.PullNever, structs.PullAlways} {
				for _, c := range []*structs.Registry{nil, {Username: "me", Password: "wrong"}} {
					if got, err := create(d, beta, name, policy, c); err == nil {
						t.Errorf("beta's container of %s, %s, with %+v has image %s", name, policy, c, got)
					} else if !errors.Is(err, backend.ErrNoImage) && !errors.Is(err, backend.ErrInvalid) {
						t.Errorf("%s, %s: %v", name, policy, err)
					} else if strings.Contains(err.Error(), "dial") || strings.Contains(err.Error(), "refused:") {
						t.Errorf("the refusal tells of the network: %v", err)
					}
				}
			}
		}
		if err := d.PullImage(t.Context(), byDigest, nil, func(string) {}); !errors.Is(err, backend.ErrNoImage) {
			t.Errorf("a pull by digest gives %v", err)
		}
	}
	refused(d)
	shows := func(project string) bool {
		t.Helper()
		list, err := d.ImagesOf(t.Context(), project)
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(list, func(i structs.Image) bool { return i.ID == id })
	}
	if !shows(alpha) || shows(beta) {
		t.Errorf("alpha sees it: %v, beta sees it: %v", shows(alpha), shows(beta))
	}
	for _, name := range []string{ref, byDigest} {
		if got, err := create(d, alpha, name, structs.PullNever, creds); err != nil || got != id {
			t.Errorf("alpha's container of %s has %s, %v", name, got, err)
		}
	}
	// What the operator has put there is everybody's.
	for _, project := range []string{alpha, beta} {
		if _, err := create(d, project, backendtest.Image, structs.PullIfNotPresent, nil); err != nil {
			t.Errorf("the operator's image: %v", err)
		}
	}
	// A tag that was moved onto the image gives nothing either.
	moved := "magnum-test/moved-" + structs.NewID() + ":1"
	if err := d.engine.Client.ImageTag(t.Context(), id, moved); err != nil {
		t.Fatal(err)
	}
	if got, err := create(d, beta, moved, structs.PullNever, nil); err == nil {
		t.Errorf("beta's container of a moved tag has image %s", got)
	}
	// After a restart of the agent nothing is remembered but whose it is not.
	again := onShared(t, ref, file)
	refused(again)
	if got, err := create(again, alpha, ref, structs.PullIfNotPresent, creds); err != nil || got != id {
		t.Errorf("alpha's container has %s, %v", got, err)
	}

	if err := again.Clean(t.Context(), owner); err != nil {
		t.Fatal(err)
	}
	if _, err := d.engine.Client.ImageInspect(t.Context(), id); err == nil {
		t.Error("the image is still there after the cleaning")
	}
	if _, err := d.engine.Client.ImageInspect(t.Context(), backendtest.Image); err != nil {
		t.Errorf("the operator's image is gone: %v", err)
	}
}

// TestCleanEngine: volumes and networks of all projects of the cluster go, those of another
// cluster stay, and nothing goes as long as there is a container.
func TestCleanEngine(t *testing.T) {
	d := onEngine(t)
	owner := backend.Owner{ClusterID: structs.NewID(), HostID: structs.NewID()}
	spec := backendtest.Sleeper()
	spec.Volumes = []structs.Mount{{Type: structs.MountVolume, Name: "data", Target: "/data"}}
	c, _ := madeBy(t, d, owner, "alpha", spec)
	_, other := made(t, d, "alpha", spec)
	t.Cleanup(func() { // after its container is gone
		_ = d.RemoveVolume(context.Background(), other.ClusterID, "alpha", "data")
	})
	if err := d.Clean(t.Context(), owner); !errors.Is(err, backend.ErrInUse) {
		t.Fatalf("with a container: %v", err)
	}
	if err := d.Remove(t.Context(), c.EngineID); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := d.Clean(t.Context(), owner); err != nil {
			t.Fatal(err)
		}
	}
	volumes, err := d.ListVolumes(t.Context(), owner.ClusterID, "")
	networks, netErr := d.ProjectNetworks(t.Context(), owner)
	if err != nil || netErr != nil || len(volumes) > 0 || len(networks) > 0 {
		t.Errorf("left are %+v and %+v, %v, %v", volumes, networks, err, netErr)
	}
	if list, err := d.ListVolumes(t.Context(), other.ClusterID, ""); err != nil || len(list) != 1 {
		t.Errorf("the other cluster has %+v, %v", list, err)
	}
}
