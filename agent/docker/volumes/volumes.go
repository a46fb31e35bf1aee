// Package volumes keeps the named volumes of projects on a Docker engine: it makes,
// lists and removes them.
//
// The Docker backend makes a Volumes and asks it for a volume before it creates a container
// that mounts one. The package touches only volumes with magnum's labels.
package volumes

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
	"github.com/stackforge/magnum/agent/docker/engine"
	"github.com/stackforge/magnum/structs"
)

// Volumes are the named volumes of projects on one engine. All methods are safe for
// concurrent use.
type Volumes struct{ engine *engine.Engine }

var _ backend.Volumes = (*Volumes)(nil)

// New returns the volumes of an engine. It makes no call.
func New(e *engine.Engine) *Volumes { return &Volumes{e} }

// The labels of a volume, besides those of its cluster and project.
const (
	Label      = "magnum.volume" // the user's name of the volume
	ClaimLabel = "magnum.claims" // of an empty volume: the engine's name of the claimed volume
)

// Key names a volume of a project of a cluster.
type Key struct{ Cluster, Project, Name string }

// EngineName returns the engine's name of the volume. Two clusters on one engine may have
// projects with the same ID.
func (k Key) EngineName() string {
	return engine.ScopeName(k.Cluster[:min(8, len(k.Cluster))]+"-"+k.Project) + "-" + k.Name
}

// EarlierName returns the engine's name that a volume without a cluster has.
func (k Key) EarlierName() string { return engine.ScopeName(k.Project) + "-" + k.Name }

// is reports whether a volume is that of the key. Names alone don't tell: volume "b-c" of
// project "a" has the same name as volume "c" of project "a-b".
func (k Key) is(v volume.Volume) bool {
	return v.Labels[backend.LabelCluster] == k.Cluster && k.isEarlier(v)
}

func (k Key) isEarlier(v volume.Volume) bool {
	return v.Labels[backend.LabelProject] == k.Project && v.Labels[Label] == k.Name
}

// ClaimName returns the name of the volume that claims another one. Names are unique on an
// engine, so only one cluster can make it.
func ClaimName(engineName string) string {
	sum := sha256.Sum256([]byte(engineName))
	return "mg-claim-" + hex.EncodeToString(sum[:16])
}

// hasClaim reports whether the cluster has claimed a volume without a cluster. The caller
// holds a slot of the engine.
func (vs *Volumes) hasClaim(ctx context.Context, clusterID, engineName string) (bool, error) {
	v, err := vs.engine.Client.VolumeInspect(ctx, ClaimName(engineName))
	if errdefs.IsNotFound(err) {
		return false, nil
	}
	return err == nil && v.Labels[backend.LabelCluster] == clusterID && v.Labels[ClaimLabel] == engineName, err
}

// Ensure makes a named volume of the project unless it exists, and returns the engine's
// name of it. Volumes outlive their containers.
func (vs *Volumes) Ensure(ctx context.Context, k Key) (name string, err error) {
	err = vs.engine.Change(ctx, func(ctx context.Context) error {
		v, err := vs.findVolume(ctx, k)
		if err != nil || v != nil {
			if v != nil {
				name = v.Name
			}
			return err
		}
		made, err := vs.engine.Client.VolumeCreate(ctx, volume.CreateOptions{
			Name:   k.EngineName(),
			Labels: map[string]string{backend.LabelCluster: k.Cluster, backend.LabelProject: k.Project, Label: k.Name},
		})
		if err != nil {
			return err
		}
		// Creating an existing volume returns it as it is.
		if !k.is(made) {
			return &backend.Failure{Reason: backend.ErrNameTaken,
				Msg: fmt.Sprintf("the host has a Docker volume %s that is not volume %q of this project; choose another volume name",
					made.Name, k.Name)}
		}
		name = made.Name
		return nil
	})
	return name, err
}

// findVolume returns the volume, nil if there is none. The caller holds a slot of the
// engine.
func (vs *Volumes) findVolume(ctx context.Context, k Key) (*volume.Volume, error) {
	v, err := vs.engine.Client.VolumeInspect(ctx, k.EngineName())
	if err == nil && k.is(v) {
		return &v, nil
	} else if err != nil && !errdefs.IsNotFound(err) {
		return nil, err
	}
	v, err = vs.engine.Client.VolumeInspect(ctx, k.EarlierName())
	if errdefs.IsNotFound(err) {
		return nil, nil
	} else if err != nil || !k.isEarlier(v) || v.Labels[backend.LabelCluster] != "" {
		return nil, err
	}
	if claimed, err := vs.hasClaim(ctx, k.Cluster, v.Name); err != nil || !claimed {
		return nil, err
	}
	return &v, nil
}

// ClaimVolumes claims all volumes without a cluster for the owner's cluster, except
// those that another cluster has claimed or that only containers of other clusters
// mount. The engine can't change labels, so a claim is a volume of its own.
func (vs *Volumes) ClaimVolumes(ctx context.Context, owner backend.Owner) error {
	return vs.engine.Read(ctx, engine.ChangeTimeout, func(ctx context.Context) error {
		list, err := vs.engine.Client.VolumeList(ctx,
			volume.ListOptions{Filters: filters.NewArgs(filters.Arg("label", Label), filters.Arg("label", backend.LabelProject))})
		if err != nil {
			return err
		}
		containers, err := vs.engine.Client.ContainerList(ctx,
			container.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("label", backend.LabelCluster))})
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
			if err := vs.Claim(ctx, owner.ClusterID, v.Name); err != nil {
				return err
			}
		}
		return nil
	})
}

// Claim claims a volume for the cluster, unless another cluster has claimed it.
func (vs *Volumes) Claim(ctx context.Context, clusterID, engineName string) error {
	_, err := vs.engine.Client.VolumeCreate(ctx, volume.CreateOptions{
		Name: ClaimName(engineName), Labels: map[string]string{backend.LabelCluster: clusterID, ClaimLabel: engineName},
	})
	return err
}

// ListVolumes lists the cluster's volumes of a project, or of all projects.
func (vs *Volumes) ListVolumes(ctx context.Context, clusterID, projectID string) ([]structs.Volume, error) {
	users, err := vs.volumeUsers(ctx)
	if err != nil {
		return nil, err
	}
	label := backend.LabelProject
	if projectID != "" {
		label += "=" + projectID
	}
	var list, claims volume.ListResponse
	err = vs.engine.Read(ctx, engine.ReadTimeout, func(ctx context.Context) (err error) {
		if list, err = vs.engine.Client.VolumeList(ctx,
			volume.ListOptions{Filters: filters.NewArgs(filters.Arg("label", label))}); err != nil {
			return err
		}
		claims, err = vs.engine.Client.VolumeList(ctx, volume.ListOptions{Filters: filters.NewArgs(
			filters.Arg("label", ClaimLabel), filters.Arg("label", backend.LabelCluster+"="+clusterID))})
		return err
	})
	if err != nil {
		return nil, err
	}
	claimed := make(map[string]bool)
	for _, v := range claims.Volumes {
		if of := v.Labels[ClaimLabel]; v.Name == ClaimName(of) {
			claimed[of] = true
		}
	}
	volumes := make([]structs.Volume, 0, len(list.Volumes))
	for _, v := range list.Volumes {
		name, cluster := v.Labels[Label], v.Labels[backend.LabelCluster]
		if name == "" || cluster != clusterID && (cluster != "" || !claimed[v.Name]) {
			continue // somebody else's labels, or another cluster's volume
		}
		volumes = append(volumes, structs.Volume{
			Name: name, ProjectID: v.Labels[backend.LabelProject], CreatedAt: structs.Time{Time: engine.TimeOf(v.CreatedAt)},
			UsedBy: namesOf(users[v.Name]),
		})
	}
	slices.SortFunc(volumes, func(a, b structs.Volume) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.ProjectID, b.ProjectID))
	})
	return volumes, nil
}

// user is what mounts a volume.
type user struct {
	kind string // container or pod
	name string // UUID of magnum's, the engine's name of others
}

// namesOf returns the names of users.
func namesOf(users []user) []string {
	names := make([]string, 0, len(users))
	for _, u := range users {
		names = append(names, u.name)
	}
	return names
}

// textOf lists users for a message.
func textOf(users []user) string {
	var texts []string
	for _, u := range users {
		texts = append(texts, u.kind+" "+u.name)
	}
	return strings.Join(texts, ", ")
}

// volumeUsers returns what mounts each volume of the engine.
func (vs *Volumes) volumeUsers(ctx context.Context) (map[string][]user, error) {
	users := make(map[string][]user)
	err := vs.engine.Read(ctx, engine.ChangeTimeout, func(ctx context.Context) error {
		list, err := vs.engine.Client.ContainerList(ctx, container.ListOptions{All: true})
		for _, c := range list {
			entry, ours := engine.EntryOf(c.ID, c.Labels)
			by := user{string(entry.Kind), entry.ID}
			if !ours || len(c.Mounts) > 0 && vs.engine.Inherits(ctx, c.ImageID, entry) {
				by = user{"container", engine.NameOf(&c)}
			}
			for _, m := range c.Mounts {
				if m.Type == mount.TypeVolume && !slices.Contains(users[m.Name], by) {
					users[m.Name] = append(users[m.Name], by)
				}
			}
		}
		return err
	})
	return users, err
}

// RemoveVolume removes a volume of a project of the cluster.
func (vs *Volumes) RemoveVolume(ctx context.Context, clusterID, projectID, name string) error {
	missing := &backend.Failure{Reason: backend.ErrNoVolume, Msg: fmt.Sprintf("the host has no volume %q of this project", name)}
	users, err := vs.volumeUsers(ctx)
	if err != nil {
		return err
	}
	return vs.engine.Change(ctx, func(ctx context.Context) error {
		v, err := vs.findVolume(ctx, Key{clusterID, projectID, name})
		switch {
		case err != nil:
			return err
		case v == nil:
			return missing
		case len(users[v.Name]) > 0:
			return &backend.Failure{Reason: backend.ErrInUse,
				Msg: fmt.Sprintf("volume %s is used by %s: delete that first", name, textOf(users[v.Name]))}
		}
		err = vs.engine.Client.VolumeRemove(ctx, v.Name, false)
		switch {
		case errdefs.IsConflict(err): // in use since the list was taken
			return &backend.Failure{Reason: backend.ErrInUse,
				Msg: fmt.Sprintf("volume %s is used by a container that was just created", name), Err: err}
		case errdefs.IsNotFound(err):
			return missing
		case err != nil || v.Labels[backend.LabelCluster] != "":
			return err
		}
		if err := vs.engine.Client.VolumeRemove(ctx, ClaimName(v.Name), false); err != nil && !errdefs.IsNotFound(err) {
			vs.engine.Log.Warn("claim of a volume not removed", "volume", v.Name, "error", err)
		}
		return nil
	})
}
