package api

import (
	"context"

	"github.com/stackforge/magnum/structs"
)

// Bays accesses the bays of the caller's project and the shared bays.
type Bays struct{ c *Client }

// Bays returns the client of bays.
func (c *Client) Bays() Bays { return Bays{c} }

// List returns the bays that the options ask for.
func (b Bays) List(ctx context.Context, o QueryOptions) ([]structs.BayBody, Meta, error) {
	return list[structs.BayBody](ctx, b.c, "bays", o)
}

// Get returns the bay of a uuid or name. CodeNotFound, CodeConflict: several bays
// have the name.
func (b Bays) Get(ctx context.Context, ident string, o QueryOptions) (*structs.BayBody, Meta, error) {
	return get[structs.BayBody](ctx, b.c, "bays", ident, o)
}

// Create creates a bay. CodeInvalid, CodeQuota.
func (b Bays) Create(ctx context.Context, req *structs.BayRequest, o WriteOptions) (*structs.BayBody, Meta, error) {
	return create[structs.BayBody](ctx, b.c, "bays", nil, req, o)
}

// Update changes the bay of a uuid or name. CodeInvalid, CodeNotFound,
// CodeConflict.
func (b Bays) Update(ctx context.Context, ident string, ops []structs.PatchOp, o WriteOptions) (*structs.BayBody, Meta, error) {
	return update[structs.BayBody](ctx, b.c, "bays", ident, ops, o)
}

// Delete deletes the bay of a uuid or name and its containers.
// CodeNotFound, CodeConflict.
func (b Bays) Delete(ctx context.Context, ident string, o WriteOptions) (Meta, error) {
	return remove(ctx, b.c, "bays", ident, nil, o)
}
