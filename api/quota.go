package api

import (
	"context"
	"net/http"

	"github.com/stackforge/magnum/structs"
)

// Quotas accesses what projects may use, and what they use.
type Quotas struct{ c *Client }

// Quotas returns the client of quotas.
func (c *Client) Quotas() Quotas { return Quotas{c} }

// DefaultQuota stands for the default of all projects, instead of a project's ID.
const DefaultQuota = ""

// quotaPath returns the path of a project's quota.
func quotaPath(project string) (string, error) {
	if project == DefaultQuota {
		return "/v1/quota_classes/default", nil
	}
	return objectPath("quotas", project)
}

// List returns the quota of the caller's project. With AllProjects it returns those of all
// projects that use anything or have limits of their own, which only operators may.
// CodeForbidden.
func (n Quotas) List(ctx context.Context, o QueryOptions) ([]structs.QuotaBody, Meta, error) {
	return list[structs.QuotaBody](ctx, n.c, "quotas", o)
}

// Get returns the quota of a project, or DefaultQuota. CodeNotFound: it is another project than
// the caller's.
func (n Quotas) Get(ctx context.Context, project string, o QueryOptions) (*structs.QuotaBody, Meta, error) {
	path, err := quotaPath(project)
	if err != nil {
		return nil, Meta{}, err
	}
	body := new(structs.QuotaBody)
	meta, err := n.c.do(ctx, call{method: http.MethodGet, path: path, query: o.values(), stale: o.Stale}, body)
	if err != nil {
		return nil, meta, err
	}
	return body, meta, nil
}

// Set sets limits of a project, or of DefaultQuota, and returns its quota. Limits that the
// request leaves out stay. Only operators may. CodeInvalid, CodeForbidden.
func (n Quotas) Set(ctx context.Context, project string, req *structs.QuotaRequest) (*structs.QuotaBody, Meta, error) {
	path, err := quotaPath(project)
	if err != nil {
		return nil, Meta{}, err
	}
	body := new(structs.QuotaBody)
	meta, err := n.c.do(ctx, call{method: http.MethodPut, path: path, body: req}, body)
	if err != nil {
		return nil, meta, err
	}
	return body, meta, nil
}

// Delete deletes the limits that were set for a project, or for DefaultQuota. Only operators
// may. CodeForbidden.
func (n Quotas) Delete(ctx context.Context, project string) (Meta, error) {
	path, err := quotaPath(project)
	if err != nil {
		return Meta{}, err
	}
	return n.c.do(ctx, call{method: http.MethodDelete, path: path}, nil)
}
