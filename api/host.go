package api

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/stackforge/magnum/structs"
)

// Hosts are the machines with an agent; operators see them.
type Hosts struct{ c *Client }

// Hosts returns the hosts.
func (c *Client) Hosts() Hosts { return Hosts{c} }

// List returns the hosts that the options ask for. CodeForbidden.
func (h Hosts) List(ctx context.Context, o QueryOptions) ([]structs.HostBody, Meta, error) {
	return list[structs.HostBody](ctx, h.c, "hosts", o)
}

// Get returns the host of a uuid or name. CodeForbidden, CodeNotFound,
// CodeConflict: the name is several hosts'.
func (h Hosts) Get(ctx context.Context, ident string, o QueryOptions) (*structs.HostBody, Meta, error) {
	return get[structs.HostBody](ctx, h.c, "hosts", ident, o)
}

// DrainOptions say what becomes of what can't move off a host.
type DrainOptions struct {
	Deadline time.Duration // it is stopped then; 0 means never
	Force    bool          // it is stopped at once
}

// Drain has what runs on the host of a uuid or name moved to others, and
// nothing new placed on it. It goes on after the answer: Get tells how far it
// is. CodeForbidden, CodeNotFound.
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

// Undrain ends the drain of the host of a uuid or name: what it has stopped is
// started again, and what is moving moves. CodeForbidden, CodeNotFound.
func (h Hosts) Undrain(ctx context.Context, ident string) (*structs.HostBody, Meta, error) {
	return h.put(ctx, ident, "undrain", nil)
}

// Fence says that the host of a uuid or name is off, so that its exclusive
// containers may be placed anew. force takes one that is only suspect for lost.
// CodeForbidden, CodeNotFound, CodeConflict: it is not lost.
func (h Hosts) Fence(ctx context.Context, ident string, force bool) (*structs.HostBody, Meta, error) {
	query := url.Values{}
	if force {
		query.Set("force", "true")
	}
	return h.put(ctx, ident, "fence", query)
}

// Release ends the mass-loss brake for the host of a uuid or name: it is lost.
// CodeForbidden, CodeNotFound, CodeConflict: it isn't held back.
func (h Hosts) Release(ctx context.Context, ident string) (*structs.HostBody, Meta, error) {
	return h.put(ctx, ident, "release", nil)
}

// Adopt decides what becomes of a container, by its uuid or the name that it had,
// that the host of a uuid or name keeps in quarantine: it is removed, or is the
// cluster's container of that uuid again. The host carries it out afterwards; then
// Get no longer has it. CodeForbidden, CodeNotFound, CodeConflict: it can't be kept.
func (h Hosts) Adopt(ctx context.Context, ident, container string, remove bool) (*structs.HostBody, Meta, error) {
	query := url.Values{"container": {container}}
	if remove {
		query.Set("remove", "true")
	}
	return h.put(ctx, ident, "adopt", query)
}

// put does something to a host.
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

// Update changes the labels that operators give the host of a uuid or name.
// CodeForbidden, CodeInvalid, CodeNotFound.
func (h Hosts) Update(ctx context.Context, ident string, ops []structs.PatchOp) (*structs.HostBody, Meta, error) {
	return update[structs.HostBody](ctx, h.c, "hosts", ident, ops, WriteOptions{})
}
