package volumes

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/volume"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/docker/engine"
	"github.com/stackforge/magnum/structs"
)

// PodLabel has the name of a volume that belongs to the placement of a pod. Such a volume
// has no Label and no project: it isn't listed, and goes with the pod.
const PodLabel = "magnum.podvolume"

var _ backend.Pods = (*Volumes)(nil)

// PodKey names a volume that belongs to the placement of a pod.
type PodKey struct {
	Owner backend.Owner
	Pod   structs.Ref // Part doesn't count
	Name  string      // of the volume in the pod
}

// EngineName returns the engine's name of the volume.
func (k PodKey) EngineName() string {
	return fmt.Sprintf("%s-%s", backend.NameOf(k.Pod.Whole()), k.Name)
}

// labels returns the labels of the volume.
func (k PodKey) labels() map[string]string {
	labels := map[string]string{
		backend.LabelCluster: k.Owner.ClusterID, backend.LabelHost: k.Owner.HostID, PodLabel: k.Name,
	}
	backend.SetLabels(labels, k.Pod.Whole(), 0)
	delete(labels, backend.LabelPart)
	return labels
}

// EnsurePod makes a volume of a pod unless it exists, and returns the engine's name of it.
// A volume in memory is a tmpfs, which is mounted while any container mounts the volume. It
// belongs to the group, if that isn't nil, and everybody may write to it.
//
// Once the engine is asked for the volume, EnsurePod waits for the answer even if ctx ends.
// A caller that removes the pod's volumes after it then finds the volume.
func (vs *Volumes) EnsurePod(ctx context.Context, k PodKey, v structs.PodVolume, group *int64) (name string, err error) {
	opts := volume.CreateOptions{Name: k.EngineName(), Labels: k.labels()}
	if v.Memory {
		mount := []string{"mode=" + strconv.FormatInt(int64(DirMode(group)), 8)}
		if v.Size > 0 {
			mount = append(mount, "size="+strconv.FormatInt(v.Size, 10))
		}
		if group != nil {
			mount = append(mount, "gid="+strconv.FormatInt(*group, 10))
		}
		opts.DriverOpts = map[string]string{"type": "tmpfs", "device": "tmpfs", "o": strings.Join(mount, ",")}
	}
	err = vs.engine.Change(ctx, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), engine.ChangeTimeout)
		defer cancel()
		made, err := vs.engine.Client.VolumeCreate(ctx, opts)
		if err != nil {
			return err
		}
		for label, want := range opts.Labels { // creating an existing volume returns it as it is
			if made.Labels[label] != want {
				return &backend.Failure{Reason: backend.ErrNameTaken, Msg: fmt.Sprintf(
					"the host has a Docker volume %s that is not this pod's; remove it with: docker volume rm %s", made.Name, made.Name)}
			}
		}
		return nil
	})
	return opts.Name, err
}

// DirMode returns the mode of the directory of a volume of a pod, as tar and mount have it:
// everybody may write to it, and what is made in the volume of a group belongs to the
// group.
func DirMode(group *int64) (mode int) {
	if group != nil {
		return 0o2777
	}
	return 0o777
}

// DropVolumes removes the volumes of a placement.
func (vs *Volumes) DropVolumes(ctx context.Context, owner backend.Owner, pod structs.Ref) error {
	args := filters.NewArgs(filters.Arg("label", PodLabel))
	for label, value := range (PodKey{Owner: owner, Pod: pod}).labels() {
		if value != "" {
			args.Add("label", label+"="+value)
		}
	}
	return vs.engine.Change(ctx, func(ctx context.Context) error {
		list, err := vs.engine.Client.VolumeList(ctx, volume.ListOptions{Filters: args})
		if err != nil {
			return err
		}
		for _, v := range list.Volumes {
			err := vs.engine.Client.VolumeRemove(ctx, v.Name, false)
			if errdefs.IsConflict(err) {
				return vs.volumeInUse(ctx, v.Name, err)
			}
			if err != nil && !errdefs.IsNotFound(err) {
				return err
			}
		}
		return nil
	})
}

// volumeInUse returns the failure of the removal of a volume that a container mounts.
func (vs *Volumes) volumeInUse(ctx context.Context, name string, cause error) error {
	var users []string
	list, err := vs.engine.Client.ContainerList(ctx,
		container.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("volume", name))})
	if err != nil {
		return err
	}
	for _, c := range list {
		users = append(users, engine.NameOf(&c))
	}
	return &backend.Failure{Reason: backend.ErrInUse, Err: cause, Msg: fmt.Sprintf(
		"volume %s of the pod is used by container %s: remove that with docker rm", name, strings.Join(users, ", "))}
}
