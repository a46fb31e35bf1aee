//go:build engine

package docker

import (
	"context"
	"errors"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/volume"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/backend/backendtest"
	"github.com/stackforge/magnum/agent/docker/volumes"
	"github.com/stackforge/magnum/structs"
)

// TestVolumesOfTwoClusters: projects with the same ID in two clusters have separate
// volumes of the same name. Neither cluster lists, mounts or deletes the other's.
func TestVolumesOfTwoClusters(t *testing.T) {
	d, project := onEngine(t), structs.NewID()
	spec := backendtest.Sleeper()
	spec.Volumes = []structs.Mount{{Type: structs.MountVolume, Name: "data", Target: "/data"}}
	var clusters []string
	var sources []string
	for range 2 {
		c, req := made(t, d, project, spec)
		cluster := req.ClusterID
		t.Cleanup(func() {
			if err := errors.Join(d.Remove(context.Background(), c.EngineID),
				d.RemoveVolume(context.Background(), cluster, project, "data")); err != nil && !errors.Is(err, backend.ErrNoVolume) {
				t.Error(err)
			}
		})
		raw, err := d.engine.Inspect(t.Context(), c.EngineID)
		if err != nil {
			t.Fatal(err)
		}
		clusters, sources = append(clusters, cluster), append(sources, raw.Mounts[0].Name)
		if err := d.Remove(t.Context(), c.EngineID); err != nil {
			t.Fatal(err)
		}
	}
	if sources[0] == sources[1] {
		t.Fatalf("both mount %s", sources[0])
	}
	if err := d.RemoveVolume(t.Context(), clusters[1], project, "data"); err != nil {
		t.Fatal(err)
	}
	for i, want := range []int{1, 0} {
		if list, err := d.ListVolumes(t.Context(), clusters[i], project); err != nil || len(list) != want {
			t.Errorf("cluster %d has %+v, %v", i, list, err)
		}
	}
	if v, err := d.engine.Client.VolumeInspect(t.Context(), sources[0]); err != nil || v.Labels[backend.LabelCluster] != clusters[0] {
		t.Errorf("the first one's is %+v, %v", v, err)
	}
}

// TestVolumesWithoutACluster: such a volume belongs to nobody until an entitled agent
// claims it. Then it is mounted, listed and deleted under its name, with its content.
// No other cluster gets it, and a cluster that mounts it keeps it.
func TestVolumesWithoutACluster(t *testing.T) {
	d, project := onEngine(t), structs.NewID()
	old := func(name string) string {
		k := volumes.Key{Project: project, Name: name}
		v, err := d.engine.Client.VolumeCreate(t.Context(),
			volume.CreateOptions{Name: k.EarlierName(), Labels: map[string]string{backend.LabelProject: project, volumes.Label: name}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			for _, left := range []string{v.Name, volumes.ClaimName(v.Name)} {
				if err := d.engine.Client.VolumeRemove(context.Background(), left, true); err != nil && !errdefs.IsNotFound(err) {
					t.Error(err)
				}
			}
		})
		return v.Name
	}
	first, second := backend.Owner{ClusterID: structs.NewID(), HostID: structs.NewID()}, backend.Owner{ClusterID: structs.NewID(),
		HostID: structs.NewID()}
	t.Cleanup(func() { // other volumes of the engine
		for _, o := range []backend.Owner{first, second} {
			claims, err := d.engine.Client.VolumeList(context.Background(), volume.ListOptions{Filters: filters.NewArgs(
				filters.Arg("label", volumes.ClaimLabel), filters.Arg("label", backend.LabelCluster+"="+o.ClusterID))})
			if err != nil {
				t.Error(err)
			}
			for _, v := range claims.Volumes {
				if err := d.engine.Client.VolumeRemove(context.Background(), v.Name, false); err != nil {
					t.Error(err)
				}
			}
		}
	})
	create := func(owner backend.Owner, name string) (mounts string) {
		t.Helper()
		spec := backendtest.Sleeper()
		spec.Volumes = []structs.Mount{{Type: structs.MountVolume, Name: name, Target: "/data"}}
		req := backend.CreateRequest{Owner: owner, Ref: structs.ContainerRef(structs.NewID(), 1), ProjectID: project, Name: "it",
			Spec: spec}
		c, err := d.Create(t.Context(), req, func(string) {})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := errors.Join(d.Remove(context.Background(), c.EngineID),
				d.RemoveVolume(context.Background(), owner.ClusterID, project, name)); err != nil &&
				!errors.Is(err, backend.ErrNoVolume) && !errors.Is(err, backend.ErrInUse) {
				t.Error(err)
			}
		})
		raw, err := d.engine.Inspect(t.Context(), c.EngineID)
		if err != nil {
			t.Fatal(err)
		}
		return raw.Mounts[0].Name
	}
	names := func(owner backend.Owner) (all []string) {
		t.Helper()
		list, err := d.ListVolumes(t.Context(), owner.ClusterID, project)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range list {
			all = append(all, v.Name)
		}
		return all
	}
	kept := old("kept")
	if got := names(second); len(got) != 0 {
		t.Errorf("unclaimed, it lists %v", got)
	}
	if err := d.RemoveVolume(t.Context(), second.ClusterID, project, "kept"); !errors.Is(err, backend.ErrNoVolume) {
		t.Errorf("unclaimed, a delete says %v", err)
	}
	if got := create(second, "kept"); got == kept {
		t.Error("who has no claim mounts it")
	}
	// A volume that only the other cluster's containers mount is not claimed.
	theirs := old("theirs")
	if err := d.Volumes.(*volumes.Volumes).Claim(t.Context(), second.ClusterID, theirs); err != nil {
		t.Fatal(err)
	}
	if got := create(second, "theirs"); got != theirs {
		t.Errorf("the claimed one is %s, mounted is %s", theirs, got)
	}
	if err := d.engine.Client.VolumeRemove(t.Context(), volumes.ClaimName(theirs), false); err != nil {
		t.Fatal(err)
	}
	for range 2 { // claims may be repeated
		if err := d.ClaimVolumes(t.Context(), first); err != nil {
			t.Fatal(err)
		}
	}
	if got := names(first); len(got) != 1 || got[0] != "kept" {
		t.Errorf("the first one lists %v", got)
	}
	if err := d.ClaimVolumes(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	if got := names(second); len(got) != 2 || got[0] != "kept" || got[1] != "theirs" {
		t.Errorf("the second one lists %v", got)
	}
	if got := create(first, "kept"); got != kept {
		t.Errorf("mounted is %s, want %s", got, kept)
	}
	if err := d.RemoveVolume(t.Context(), first.ClusterID, project, "kept"); !errors.Is(err, backend.ErrInUse) {
		t.Errorf("a delete of what is mounted says %v", err)
	}
	entries, err := d.List(t.Context(), first)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if err := d.Remove(t.Context(), e.EngineID); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.RemoveVolume(t.Context(), first.ClusterID, project, "kept"); err != nil {
		t.Fatal(err)
	}
	for _, gone := range []string{kept, volumes.ClaimName(kept)} {
		if _, err := d.engine.Client.VolumeInspect(t.Context(), gone); !errdefs.IsNotFound(err) {
			t.Errorf("%s is left: %v", gone, err)
		}
	}
}
