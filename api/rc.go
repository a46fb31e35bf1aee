package api

import (
	"context"
	"net/url"

	"github.com/stackforge/magnum/structs"
)

// RCs accesses the replication controllers of the caller's project.
type RCs struct{ c *Client }

// RCs returns the client of replication controllers.
func (c *Client) RCs() RCs { return RCs{c} }

// List returns the replication controllers that the options ask for. Without Detail only the
// fields up to Links are set. Manifest is nil in either case.
func (t RCs) List(ctx context.Context, o QueryOptions) ([]structs.RCBody, Meta, error) {
	return list[structs.RCBody](ctx, t.c, "rcs", o)
}

// Get returns the replication controller of a uuid or name. CodeNotFound, CodeConflict:
// replication controllers of several bays have the name.
func (t RCs) Get(ctx context.Context, ident string, o QueryOptions) (*structs.RCBody, Meta, error) {
	return get[structs.RCBody](ctx, t.c, "rcs", ident, o)
}

// Create creates a replication controller, which creates its pods. The wait ends once all of
// them are ready. CodeInvalid: the manifest is refused, or a pod could match the selector of
// another one too; CodeConflict: the bay has one of this name, or the Idempotency-Key was used
// with another request.
func (t RCs) Create(ctx context.Context, req *structs.RCRequest, o WriteOptions) (*structs.RCBody, Meta, error) {
	return create[structs.RCBody](ctx, t.c, "rcs", nil, req, o)
}

// Update changes /manifest or /manifest_url of the replication controller of a uuid or name.
// The wait ends once all of its pods are of the new template, and ready. CodeInvalid,
// CodeNotFound, CodeConflict.
func (t RCs) Update(ctx context.Context, ident string, ops []structs.PatchOp, o WriteOptions) (*structs.RCBody, Meta, error) {
	return update[structs.RCBody](ctx, t.c, "rcs", ident, ops, o)
}

// Delete deletes the replication controller of a uuid or name with its pods, which have the
// grace period of the manifest to end in, and none if Force is set. Stop has no effect.
// CodeNotFound.
func (t RCs) Delete(ctx context.Context, ident string, o DeleteOptions) (Meta, error) {
	q := url.Values{}
	if o.Force {
		q.Set("force", "true")
	}
	return remove(ctx, t.c, "rcs", ident, q, o.WriteOptions)
}
