package api

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/stackforge/magnum/structs"
)

// Hosts accesses the machines that run an agent; for operators.
type Hosts struct{ c *Client }

// Hosts returns the client of hosts.
func (c *Client) Hosts() Hosts { return Hosts{c} }

// List returns the hosts that the options ask for. CodeForbidden.
func (h Hosts) List(ctx context.Context, o QueryOptions) ([]structs.HostBody, Meta, error) {
	return list[structs.HostBody](ctx, h.c, "hosts", o)
}

// Get returns the host of a uuid or name. CodeForbidden, CodeNotFound,
// CodeConflict: several hosts have the name.
func (h Hosts) Get(ctx context.Context, ident string, o QueryOptions) (*structs.HostBody, Meta, error) {
	return get[structs.HostBody](ctx, h.c, "hosts", ident, o)
}

// DrainOptions say when a drain stops the containers that can't move.
type DrainOptions struct {
	Deadline time.Duration // stop them after this time; 0 means never
	Force    bool          // stop them at once
}

// Drain starts to drain the host of a uuid or name: its containers move to other
// hosts, and no new ones are placed on it. The drain continues after the response;
// Get returns its progress. CodeForbidden, CodeNotFound.
func (h Hosts) Drain(ctx context.Context, ident string, o DrainOptions) (*structs.HostBody, Meta, error) {
	query := url.Values{}
	if o.Deadline > 0 {
		query.Set("deadline", o.Deadline.String())
	}
	if o.Force {
		query.Set("force", "true")
	}
	return h.put(ctx, ident, "drain", query)
}

// Undrain ends the drain of the host of a uuid or name. Containers that the drain
// stopped are started again; containers that are moving still move. CodeForbidden,
// CodeNotFound.
func (h Hosts) Undrain(ctx context.Context, ident string) (*structs.HostBody, Meta, error) {
	return h.put(ctx, ident, "undrain", nil)
}

// Fence confirms that the host of a uuid or name is off, so that its exclusive
// containers may be placed on other hosts. With force a suspect host becomes lost
// first. CodeForbidden, CodeNotFound, CodeConflict: the host is not lost.
func (h Hosts) Fence(ctx context.Context, ident string, force bool) (*structs.HostBody, Meta, error) {
	query := url.Values{}
	if force {
		query.Set("force", "true")
	}
	return h.put(ctx, ident, "fence", query)
}

// Release releases the host of a uuid or name from the mass-loss brake: it becomes
// lost. CodeForbidden, CodeNotFound, CodeConflict: the brake doesn't hold it.
func (h Hosts) Release(ctx context.Context, ident string) (*structs.HostBody, Meta, error) {
	return h.put(ctx, ident, "release", nil)
}

// Adopt ends the quarantine of a container on the host of a uuid or name. container
// is its uuid or the name that it had. With remove the host removes it; otherwise it
// becomes the cluster's container of that uuid again. The host acts after the
// response; the container is then gone from the quarantine that Get returns.
// CodeForbidden, CodeNotFound, CodeConflict: the container can't be kept.
func (h Hosts) Adopt(ctx context.Context, ident, container string, remove bool) (*structs.HostBody, Meta, error) {
	query := url.Values{"container": {container}}
	if remove {
		query.Set("remove", "true")
	}
	return h.put(ctx, ident, "adopt", query)
}

// Delete deletes the host of a uuid or name, which is lost, or drained and empty. Its agent
// is refused from then on. CodeForbidden, CodeNotFound, CodeConflict.
func (h Hosts) Delete(ctx context.Context, ident string) (Meta, error) {
	path, err := objectPath("hosts", ident)
	if err != nil {
		return Meta{}, err
	}
	return h.c.do(ctx, call{method: http.MethodDelete, path: path}, nil)
}

// put sends PUT /v1/hosts/IDENT/ACTION.
func (h Hosts) put(ctx context.Context, ident, action string, query url.Values) (*structs.HostBody, Meta, error) {
	path, err := objectPath("hosts", ident, action)
	if err != nil {
		return nil, Meta{}, err
	}
	body := new(structs.HostBody)
	meta, err := h.c.do(ctx, call{method: http.MethodPut, path: path, query: query}, body)
	if err != nil {
		return nil, meta, err
	}
	return body, meta, nil
}

// Update changes the operators' labels of the host of a uuid or name.
// CodeForbidden, CodeInvalid, CodeNotFound.
func (h Hosts) Update(ctx context.Context, ident string, ops []structs.PatchOp) (*structs.HostBody, Meta, error) {
	return update[structs.HostBody](ctx, h.c, "hosts", ident, ops, WriteOptions{})
}
