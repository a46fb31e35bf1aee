package backend

import (
	"context"

	"github.com/stackforge/magnum/structs"
)

// Tenants keeps the projects on an engine apart. With a backend without it, a host that a
// bay has given back goes to bays of the same project only, and who may use an image is not
// checked.
type Tenants interface {
	// Remember names the file in which the backend keeps what it has to know after a restart
	// of the agent, and reads it. It is called once, before anything else that changes the
	// engine.
	Remember(file string) error

	// SetTenancy says how far projects have to be kept apart from now on. At first they
	// don't have to be.
	SetTenancy(now structs.Tenancy)

	// Clean removes what projects of the owner's cluster have left on the engine: volumes,
	// networks, and the images that magnum has pulled or loaded for them. It leaves what the
	// operator has put into the engine. It may be repeated. ErrInUse if a container of the
	// owner is left.
	Clean(ctx context.Context, owner Owner) error

	// ImagesOf lists the images that the project may use. It calls no registry: a private
	// image that the project has used before is listed although its credentials may have
	// ended.
	ImagesOf(ctx context.Context, project string) ([]structs.Image, error)
}
