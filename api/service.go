package api

import (
	"context"

	"github.com/stackforge/magnum/structs"
)

// Services accesses the services of the caller's project.
type Services struct{ c *Client }

// Services returns the client of services.
func (c *Client) Services() Services { return Services{c} }

// List returns the services that the options ask for. Without Detail only the fields up to
// Links are set. Manifest and Endpoints are nil in either case.
func (t Services) List(ctx context.Context, o QueryOptions) ([]structs.ServiceBody, Meta, error) {
	return list[structs.ServiceBody](ctx, t.c, "services", o)
}

// Get returns the service of a uuid or name. CodeNotFound, CodeConflict: services of several
// bays have the name.
func (t Services) Get(ctx context.Context, ident string, o QueryOptions) (*structs.ServiceBody, Meta, error) {
	return get[structs.ServiceBody](ctx, t.c, "services", ident, o)
}

// Create creates a service. There is nothing to wait for. CodeInvalid: the manifest is
// refused, or a node port is outside the operator's range; CodeConflict: the bay has a service
// of this name, a node port is taken, or the Idempotency-Key was used with another request;
// CodeQuota: there are too many services or node ports.
func (t Services) Create(ctx context.Context, req *structs.ServiceRequest, o WriteOptions) (*structs.ServiceBody, Meta, error) {
	return create[structs.ServiceBody](ctx, t.c, "services", nil, req, o)
}

// Update changes /manifest or /manifest_url of the service of a uuid or name. Its address
// stays, and so do node ports that the manifest leaves open. CodeInvalid, CodeNotFound,
// CodeConflict, CodeQuota.
func (t Services) Update(ctx context.Context, ident string, ops []structs.PatchOp, o WriteOptions) (*structs.ServiceBody, Meta, error) {
	return update[structs.ServiceBody](ctx, t.c, "services", ident, ops, o)
}

// Delete deletes the service of a uuid or name. Its pods stay. CodeNotFound, CodeConflict.
func (t Services) Delete(ctx context.Context, ident string, o WriteOptions) (Meta, error) {
	return remove(ctx, t.c, "services", ident, nil, o)
}
