package backend

import (
	"context"

	"github.com/stackforge/magnum/structs"
)

// Volumes are the named volumes on the engine. A backend without them refuses specs that
// mount one.
type Volumes interface {
	// ListVolumes lists the named volumes of a project of a cluster, or of all its projects
	// if projectID is "". Volumes of other clusters are never listed, mounted or removed.
	ListVolumes(ctx context.Context, clusterID, projectID string) ([]structs.Volume, error)

	// RemoveVolume removes a named volume of a project with its content. ErrInUse if a
	// container mounts the volume, whether it runs or not. ErrNoVolume.
	RemoveVolume(ctx context.Context, clusterID, projectID, name string) error

	// ClaimVolumes gives the owner's cluster the volumes without a cluster, unless another
	// cluster has claimed them. It may be repeated.
	ClaimVolumes(ctx context.Context, owner Owner) error
}
