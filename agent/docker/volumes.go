package docker

import (
	"cmp"
	"context"
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

// Volumes lists the volumes of a project, or of all.
func (d *Docker) Volumes(ctx context.Context, projectID string) ([]structs.Volume, error) {
	users, err := d.volumeUsers(ctx)
	if err != nil {
		return nil, err
	}
	label := backend.LabelProject
	if projectID != "" {
		label += "=" + projectID
	}
	var list volume.ListResponse
	err = d.read(ctx, readTimeout, func(ctx context.Context) (err error) {
		list, err = d.cli.VolumeList(ctx, volume.ListOptions{Filters: filters.NewArgs(filters.Arg("label", label))})
		return err
	})
	if err != nil {
		return nil, err
	}
	volumes := make([]structs.Volume, 0, len(list.Volumes))
	for _, v := range list.Volumes {
		name := v.Labels[volumeLabel]
		if name == "" {
			continue // labelled by somebody else
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
			user := c.Labels[backend.LabelContainer]
			if e, ok := entryOf(c.ID, c.Labels); user == "" || ok && len(c.Mounts) > 0 && d.inherits(ctx, c.ImageID, e.Ref) {
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

// RemoveVolume deletes a volume of a project.
func (d *Docker) RemoveVolume(ctx context.Context, projectID, name string) error {
	missing := &backend.Failure{Reason: backend.ErrNoVolume, Msg: fmt.Sprintf("the host has no volume %q of this project", name)}
	full := scopeName(projectID) + "-" + name
	users, err := d.volumeUsers(ctx)
	if err != nil {
		return err
	}
	return d.change(ctx, d.work, changeTimeout, func(ctx context.Context) error {
		v, err := d.cli.VolumeInspect(ctx, full)
		switch {
		case errdefs.IsNotFound(err):
			return missing
		case err != nil:
			return err
		case v.Labels[backend.LabelProject] != projectID || v.Labels[volumeLabel] != name:
			return missing // see ensureVolume
		case len(users[full]) > 0:
			return &backend.Failure{Reason: backend.ErrInUse,
				Msg: fmt.Sprintf("volume %s is used by container %s: delete that first", name, strings.Join(users[full], ", "))}
		}
		err = d.cli.VolumeRemove(ctx, full, false)
		switch {
		case errdefs.IsConflict(err): // since we have looked
			return &backend.Failure{Reason: backend.ErrInUse, Msg: fmt.Sprintf("volume %s is used by a container that has just been made", name), Err: err}
		case errdefs.IsNotFound(err):
			return missing
		}
		return err
	})
}
