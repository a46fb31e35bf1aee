package docker

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/volume"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/structs"
)

// The labels of a volume, beside those of its cluster and project.
const (
	volumeLabel = "magnum.volume" // the user's name of it
	claimLabel  = "magnum.claims" // of an empty volume: the engine's name of an earlier one that is the cluster's
)

// volumeKey names a volume of a project of a cluster.
type volumeKey struct{ cluster, project, name string }

// engineName is the engine's name of the volume. Two clusters on one engine may both
// have a project of that id.
func (k volumeKey) engineName() string {
	return scopeName(k.cluster[:min(8, len(k.cluster))]+"-"+k.project) + "-" + k.name
}

// earlierName is the engine's name of a volume from before volumes carried their
// cluster.
func (k volumeKey) earlierName() string { return scopeName(k.project) + "-" + k.name }

// is reports whether a volume is the one of the key. Names alone don't say it: volume
// "b-c" of project "a" is called as volume "c" of project "a-b".
func (k volumeKey) is(v volume.Volume) bool {
	return v.Labels[backend.LabelCluster] == k.cluster && k.isEarlier(v)
}

func (k volumeKey) isEarlier(v volume.Volume) bool {
	return v.Labels[backend.LabelProject] == k.project && v.Labels[volumeLabel] == k.name
}

// claimName is the name of the volume that claims another one. There is one of a name
// on an engine, so whichever cluster makes it has the claim.
func claimName(engineName string) string {
	sum := sha256.Sum256([]byte(engineName))
	return "mg-claim-" + hex.EncodeToString(sum[:16])
}

// hasClaim reports whether a volume without a cluster is the cluster's. The caller
// holds a slot of the engine.
func (d *Docker) hasClaim(ctx context.Context, clusterID, engineName string) (bool, error) {
	v, err := d.cli.VolumeInspect(ctx, claimName(engineName))
	if errdefs.IsNotFound(err) {
		return false, nil
	}
	return err == nil && v.Labels[backend.LabelCluster] == clusterID && v.Labels[claimLabel] == engineName, err
}

// ensureVolume makes a named volume of the project unless it is there, and returns
// the engine's name for it. Volumes outlive their containers.
func (d *Docker) ensureVolume(ctx context.Context, k volumeKey) (name string, err error) {
	err = d.change(ctx, d.work, changeTimeout, func(ctx context.Context) error {
		v, err := d.findVolume(ctx, k)
		if err != nil || v != nil {
			if v != nil {
				name = v.Name
			}
			return err
		}
		made, err := d.cli.VolumeCreate(ctx, volume.CreateOptions{
			Name:   k.engineName(),
			Labels: map[string]string{backend.LabelCluster: k.cluster, backend.LabelProject: k.project, volumeLabel: k.name},
		})
		if err != nil {
			return err
		}
		// Creating one that exists returns it as it is.
		if !k.is(made) {
			return &backend.Failure{Reason: backend.ErrNameTaken,
				Msg: fmt.Sprintf("the host has a Docker volume %s that is not volume %q of this project; choose another volume name", made.Name, k.name)}
		}
		name = made.Name
		return nil
	})
	return name, err
}

// findVolume returns the volume, nil if there is none. The caller holds a slot of the
// engine.
func (d *Docker) findVolume(ctx context.Context, k volumeKey) (*volume.Volume, error) {
	v, err := d.cli.VolumeInspect(ctx, k.engineName())
	if err == nil && k.is(v) {
		return &v, nil
	} else if err != nil && !errdefs.IsNotFound(err) {
		return nil, err
	}
	v, err = d.cli.VolumeInspect(ctx, k.earlierName())
	if errdefs.IsNotFound(err) {
		return nil, nil
	} else if err != nil || !k.isEarlier(v) || v.Labels[backend.LabelCluster] != "" {
		return nil, err
	}
	if claimed, err := d.hasClaim(ctx, k.cluster, v.Name); err != nil || !claimed {
		return nil, err
	}
	return &v, nil
}

// ClaimVolumes makes all volumes from before volumes carried their cluster the
// owner's, but for those that another cluster has claimed or that containers of other
// clusters alone mount. The engine changes no labels, so a claim is a volume of its own.
func (d *Docker) ClaimVolumes(ctx context.Context, owner backend.Owner) error {
	return d.read(ctx, changeTimeout, func(ctx context.Context) error {
		list, err := d.cli.VolumeList(ctx, volume.ListOptions{Filters: filters.NewArgs(filters.Arg("label", volumeLabel), filters.Arg("label", backend.LabelProject))})
		if err != nil {
			return err
		}
		containers, err := d.cli.ContainerList(ctx, container.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("label", backend.LabelCluster))})
		if err != nil {
			return err
		}
		mounts := make(map[string]map[string]bool) // clusters by volume
		for _, c := range containers {
			for _, m := range c.Mounts {
				if mounts[m.Name] == nil {
					mounts[m.Name] = make(map[string]bool)
				}
				mounts[m.Name][c.Labels[backend.LabelCluster]] = true
			}
		}
		for _, v := range list.Volumes {
			if v.Labels[backend.LabelCluster] != "" || len(mounts[v.Name]) > 0 && !mounts[v.Name][owner.ClusterID] {
				continue
			}
			if err := d.claim(ctx, owner.ClusterID, v.Name); err != nil {
				return err
			}
		}
		return nil
	})
}

// claim claims a volume for the cluster, unless another one has.
func (d *Docker) claim(ctx context.Context, clusterID, engineName string) error {
	_, err := d.cli.VolumeCreate(ctx, volume.CreateOptions{
		Name: claimName(engineName), Labels: map[string]string{backend.LabelCluster: clusterID, claimLabel: engineName},
	})
	return err
}

// ListVolumes lists the cluster's volumes of a project, or of all.
func (d *Docker) ListVolumes(ctx context.Context, clusterID, projectID string) ([]structs.Volume, error) {
	users, err := d.volumeUsers(ctx)
	if err != nil {
		return nil, err
	}
	label := backend.LabelProject
	if projectID != "" {
		label += "=" + projectID
	}
	var list, claims volume.ListResponse
	err = d.read(ctx, readTimeout, func(ctx context.Context) (err error) {
		if list, err = d.cli.VolumeList(ctx, volume.ListOptions{Filters: filters.NewArgs(filters.Arg("label", label))}); err != nil {
			return err
		}
		claims, err = d.cli.VolumeList(ctx, volume.ListOptions{Filters: filters.NewArgs(
			filters.Arg("label", claimLabel), filters.Arg("label", backend.LabelCluster+"="+clusterID))})
		return err
	})
	if err != nil {
		return nil, err
	}
	claimed := make(map[string]bool)
	for _, v := range claims.Volumes {
		if of := v.Labels[claimLabel]; v.Name == claimName(of) {
			claimed[of] = true
		}
	}
	volumes := make([]structs.Volume, 0, len(list.Volumes))
	for _, v := range list.Volumes {
		name, cluster := v.Labels[volumeLabel], v.Labels[backend.LabelCluster]
		if name == "" || cluster != clusterID && (cluster != "" || !claimed[v.Name]) {
			continue // labelled by somebody else, or another cluster's
		}
		volumes = append(volumes, structs.Volume{
			Name: name, ProjectID: v.Labels[backend.LabelProject], CreatedAt: structs.Time{Time: timeOf(v.CreatedAt)},
			UsedBy: append([]string{}, users[v.Name]...),
		})
	}
	slices.SortFunc(volumes, func(a, b structs.Volume) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.ProjectID, b.ProjectID))
	})
	return volumes, nil
}

// volumeUsers returns the containers that mount each of the engine's volumes:
// magnum's by UUID, others by the engine's name.
func (d *Docker) volumeUsers(ctx context.Context) (map[string][]string, error) {
	users := make(map[string][]string)
	err := d.read(ctx, changeTimeout, func(ctx context.Context) error {
		list, err := d.cli.ContainerList(ctx, container.ListOptions{All: true})
		for _, c := range list {
			ref, ours := backend.RefOf(c.Labels)
			user := ref.ID
			if !ours || len(c.Mounts) > 0 && d.inherits(ctx, c.ImageID, ref) {
				user = strings.TrimPrefix(slices.Concat(c.Names, []string{c.ID})[0], "/")
			}
			for _, m := range c.Mounts {
				if m.Type == mount.TypeVolume && !slices.Contains(users[m.Name], user) {
					users[m.Name] = append(users[m.Name], user)
				}
			}
		}
		return err
	})
	return users, err
}

// RemoveVolume deletes a volume of a project of the cluster.
func (d *Docker) RemoveVolume(ctx context.Context, clusterID, projectID, name string) error {
	missing := &backend.Failure{Reason: backend.ErrNoVolume, Msg: fmt.Sprintf("the host has no volume %q of this project", name)}
	users, err := d.volumeUsers(ctx)
	if err != nil {
		return err
	}
	return d.change(ctx, d.work, changeTimeout, func(ctx context.Context) error {
		v, err := d.findVolume(ctx, volumeKey{clusterID, projectID, name})
		switch {
		case err != nil:
			return err
		case v == nil:
			return missing
		case len(users[v.Name]) > 0:
			return &backend.Failure{Reason: backend.ErrInUse,
				Msg: fmt.Sprintf("volume %s is used by container %s: delete that first", name, strings.Join(users[v.Name], ", "))}
		}
		err = d.cli.VolumeRemove(ctx, v.Name, false)
		switch {
		case errdefs.IsConflict(err): // since we have looked
			return &backend.Failure{Reason: backend.ErrInUse, Msg: fmt.Sprintf("volume %s is used by a container that has just been made", name), Err: err}
		case errdefs.IsNotFound(err):
			return missing
		case err != nil || v.Labels[backend.LabelCluster] != "":
			return err
		}
		if err := d.cli.VolumeRemove(ctx, claimName(v.Name), false); err != nil && !errdefs.IsNotFound(err) {
			d.log.Warn("claim of a volume not removed", "volume", v.Name, "error", err)
		}
		return nil
	})
}
