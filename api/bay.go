package api

import (
	"context"
	"net/http"
	"time"

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

// credentialTimeout bounds a credential, for which the host's agent asks its cluster.
const credentialTimeout = 30 * time.Second

// Config returns how clients of Kubernetes reach the cluster of a bay. CodeInvalid: it is no
// Kubernetes bay, CodeNotFound, CodeConflict: there is no address that users could use.
func (b Bays) Config(ctx context.Context, ident string) (*structs.BayConfigBody, Meta, error) {
	path, err := objectPath("bays", ident)
	if err != nil {
		return nil, Meta{}, err
	}
	body := new(structs.BayConfigBody)
	meta, err := b.c.do(ctx, call{method: http.MethodGet, path: path + "/config"}, body)
	if err != nil {
		return nil, meta, err
	}
	return body, meta, nil
}

// Credential returns a new token for the namespace of the caller's project in the cluster of
// a bay. CodeInvalid, CodeForbidden, CodeNotFound, CodeConflict, CodeUnavailable.
func (b Bays) Credential(ctx context.Context, ident string) (*structs.BayCredentialBody, error) {
	path, err := objectPath("bays", ident)
	if err != nil {
		return nil, err
	}
	body := new(structs.BayCredentialBody)
	if _, err := b.c.do(ctx, call{method: http.MethodPost, path: path + "/credential", wait: credentialTimeout}, body); err != nil {
		return nil, err
	}
	return body, nil
}
