package api

import (
	"context"

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
