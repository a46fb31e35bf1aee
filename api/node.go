package api

import (
	"context"

	"github.com/stackforge/magnum/structs"
)

// Nodes accesses the nodes of the 2015 API: the hosts, and the rows that
// node-create stored.
type Nodes struct{ c *Client }

// Nodes returns the client of nodes.
func (c *Client) Nodes() Nodes { return Nodes{c} }

// List returns the nodes that the options ask for.
func (n Nodes) List(ctx context.Context, o QueryOptions) ([]structs.NodeBody, Meta, error) {
	return list[structs.NodeBody](ctx, n.c, "nodes", o)
}

// Get returns the node of a uuid. CodeNotFound.
func (n Nodes) Get(ctx context.Context, id string, o QueryOptions) (*structs.NodeBody, Meta, error) {
	return get[structs.NodeBody](ctx, n.c, "nodes", id, o)
}

// Create stores a node. Nothing runs on it. CodeInvalid.
func (n Nodes) Create(ctx context.Context, req *structs.NodeRequest, o WriteOptions) (*structs.NodeBody, Meta, error) {
	return create[structs.NodeBody](ctx, n.c, "nodes", nil, req, o)
}

// Delete deletes the node of a uuid. CodeNotFound.
func (n Nodes) Delete(ctx context.Context, id string, o WriteOptions) (Meta, error) {
	return remove(ctx, n.c, "nodes", id, nil, o)
}
