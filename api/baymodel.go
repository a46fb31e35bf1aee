package api

import (
	"context"

	"github.com/stackforge/magnum/structs"
)

// BayModels accesses the baymodels, templates of bays, of the caller's project.
type BayModels struct{ c *Client }

// BayModels returns the client of baymodels.
func (c *Client) BayModels() BayModels { return BayModels{c} }

// List returns the baymodels that the options ask for.
func (b BayModels) List(ctx context.Context, o QueryOptions) ([]structs.BayModelBody, Meta, error) {
	return list[structs.BayModelBody](ctx, b.c, "baymodels", o)
}

// Get returns the baymodel of a uuid or name. CodeNotFound, CodeConflict: several
// baymodels have the name.
func (b BayModels) Get(ctx context.Context, ident string, o QueryOptions) (*structs.BayModelBody, Meta, error) {
	return get[structs.BayModelBody](ctx, b.c, "baymodels", ident, o)
}

// Create creates a baymodel. CodeInvalid.
func (b BayModels) Create(ctx context.Context, req *structs.BayModelRequest, o WriteOptions) (*structs.BayModelBody, Meta, error) {
	return create[structs.BayModelBody](ctx, b.c, "baymodels", nil, req, o)
}

// Update changes the baymodel of a uuid. CodeInvalid, CodeNotFound.
func (b BayModels) Update(ctx context.Context, id string, ops []structs.PatchOp, o WriteOptions) (*structs.BayModelBody, Meta, error) {
	return update[structs.BayModelBody](ctx, b.c, "baymodels", id, ops, o)
}

// Delete deletes the baymodel of a uuid or name. CodeInvalid: a bay uses it.
func (b BayModels) Delete(ctx context.Context, ident string, o WriteOptions) (Meta, error) {
	return remove(ctx, b.c, "baymodels", ident, nil, o)
}
