package api

import (
	"context"
	"net/http"

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

// Drain has nothing new placed on the host of a uuid or name, and, with on
// false, has it again. CodeForbidden, CodeNotFound.
func (h Hosts) Drain(ctx context.Context, ident string, on bool) (*structs.HostBody, Meta, error) {
	action := "undrain"
	if on {
		action = "drain"
	}
	path, err := objectPath("hosts", ident, action)
	if err != nil {
		return nil, Meta{}, err
	}
	body := new(structs.HostBody)
	meta, err := h.c.do(ctx, call{method: http.MethodPut, path: path}, body)
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
