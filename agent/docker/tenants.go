package docker

import (
	"context"
	"fmt"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/docker/images"
	"github.com/stackforge/magnum/agent/docker/networks"
	"github.com/stackforge/magnum/agent/docker/volumes"
	"github.com/stackforge/magnum/structs"
)

// tenants keeps the projects on the engine apart: backend.Tenants.
type tenants struct {
	images     *images.Images
	volumes    *volumes.Volumes
	networks   *networks.Networks
	containers backend.Runtime
}

// Remember reads and keeps in the file which images magnum has brought.
func (t *tenants) Remember(file string) error { return t.images.Remember(file) }

// SetTenancy says how far projects have to be kept apart.
func (t *tenants) SetTenancy(now structs.Tenancy) { t.images.SetTenancy(now) }

// ImagesOf lists the images that the project may use.
func (t *tenants) ImagesOf(ctx context.Context, project string) ([]structs.Image, error) {
	return t.images.ImagesOf(ctx, project)
}

// Clean removes what projects of the owner's cluster have left on the engine.
func (t *tenants) Clean(ctx context.Context, owner backend.Owner) error {
	left, err := t.containers.List(ctx, owner)
	if err != nil {
		return err
	}
	if len(left) > 0 {
		return &backend.Failure{Reason: backend.ErrInUse, Msg: fmt.Sprintf("%d containers of magnum are still there", len(left))}
	}
	all, err := t.volumes.ListVolumes(ctx, owner.ClusterID, "")
	if err != nil {
		return err
	}
	for _, v := range all {
		if err := t.volumes.RemoveVolume(ctx, owner.ClusterID, v.ProjectID, v.Name); err != nil {
			return err
		}
	}
	if err := t.networks.TidyNetworks(ctx, owner, true); err != nil {
		return err
	}
	return t.images.Clean(ctx)
}
