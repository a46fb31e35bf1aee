package backend

import (
	"context"

	"github.com/stackforge/magnum/structs"
)

// Volumes are the named volumes that the engine keeps. A backend without them
// refuses specs that mount one.
type Volumes interface {
	// ListVolumes lists the named volumes of a project of a cluster, or of all its
	// projects if the project is "". Volumes that aren't the cluster's are never
	// shown, mounted or removed.
	ListVolumes(ctx context.Context, clusterID, projectID string) ([]structs.Volume, error)

	// RemoveVolume deletes a named volume of a project and all that is in it.
	// One that a container mounts, whether it runs or not, stays: ErrInUse.
	// ErrNoVolume.
	RemoveVolume(ctx context.Context, clusterID, projectID, name string) error

	// ClaimVolumes makes the volumes from before volumes carried their cluster the
	// owner's cluster's, unless they are another one's. It may be repeated.
	ClaimVolumes(ctx context.Context, owner Owner) error
}
