package api

import (
	"context"
	"net/http"

	"github.com/stackforge/magnum/structs"
)

// Volumes accesses the named volumes on hosts.
type Volumes struct{ c *Client }

// Volumes returns the client of volumes.
func (c *Client) Volumes() Volumes { return Volumes{c} }

// List returns the project's volumes on the hosts that the options ask for, and
// the hosts that could not answer. CodeForbidden, CodeInvalid.
func (t Volumes) List(ctx context.Context, o HostListOptions) (*structs.VolumesBody, Meta, error) {
	return hostList[structs.VolumesBody](ctx, t.c, "volumes", o)
}

// VolumeTarget says where to look for a volume. The zero value searches all hosts
// that the project can use.
type VolumeTarget struct {
	Bay       string // uuid or name
	Host      string // uuid or name
	ProjectID string // owner; "" means the caller's project, others are for operators
}

// Delete deletes the volume of a name and its content. CodeNotFound, CodeConflict:
// a container uses it, or several hosts have a volume of this name,
// CodeUnavailable: a host that may have the volume does not answer.
func (t Volumes) Delete(ctx context.Context, name string, at VolumeTarget) (Meta, error) {
	path, err := objectPath("volumes", name)
	if err != nil {
		return Meta{}, err
	}
	q := HostTarget{Bay: at.Bay, Host: at.Host}.values()
	if at.ProjectID != "" {
		q.Set("project_id", at.ProjectID)
	}
	return t.c.do(ctx, call{method: http.MethodDelete, path: path, query: q, wait: imagePruneTimeout}, nil)
}
