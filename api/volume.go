package api

import (
	"context"
	"net/http"

	"github.com/stackforge/magnum/structs"
)

// Volumes are the named volumes of projects on hosts.
type Volumes struct{ c *Client }

// Volumes returns the volumes on hosts.
func (c *Client) Volumes() Volumes { return Volumes{c} }

// List returns the project's volumes on the hosts that the options ask for, and
// beside them which hosts could not answer. CodeForbidden, CodeInvalid.
func (t Volumes) List(ctx context.Context, o HostListOptions) (*structs.VolumesBody, Meta, error) {
	return hostList[structs.VolumesBody](ctx, t.c, "volumes", o)
}

// VolumeTarget says where a volume is. The zero value looks on all hosts that
// the project can use.
type VolumeTarget struct {
	Bay       string // uuid or name
	Host      string // uuid or name
	ProjectID string // whose it is; "" means the caller's, another is for operators
}

// Delete deletes the one volume of a name, and all that is in it. CodeNotFound,
// CodeConflict: a container uses it, or several hosts have one of this name,
// CodeUnavailable: a host that may have one does not answer.
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
