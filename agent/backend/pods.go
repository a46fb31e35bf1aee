package backend

import (
	"context"

	"github.com/stackforge/magnum/structs"
)

// PodPart is what a container of a pod has beside its spec. The agent fills it in;
// CreateRequest has it if its Ref is a part of a pod.
type PodPart struct {
	// Attempt counts the containers that were made for the part in this epoch, from 1.
	// Each restart is a new container, with a file system and a log of its own.
	Attempt uint64
	// Infra is the engine's ID of the pod's infra container, whose network and IPC the
	// container joins. The infra container itself has "", and the fields that follow.
	Infra       string
	HostAliases []structs.HostAlias // of the infra container
	DNS, Search []string            // of the infra container; nil means the engine's own
	// Image of the infra container; "" means one that the backend makes itself.
	SharePID  bool                // with the infra container
	Volumes   []structs.PodVolume // those that Mounts name; all of the pod's for the infra container
	Mounts    []structs.PodMount  // none of the infra container, which holds all volumes in memory
	FSGroup   *int64              // group that the volumes are given to
	Security  structs.PodSecurity
	StdinOnce bool
}

// Pods is what a backend provides beside Runtime if it runs pods.
type Pods interface {
	// DropVolumes removes the volumes that belong to the placement of a pod, claims
	// excepted. No container of the placement exists any more. It does nothing if there
	// are none.
	DropVolumes(ctx context.Context, owner Owner, pod structs.Ref) error
}
