package service

import (
	"context"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/structs"
)

// Nodes carries out what callers ask of the nodes of 2015, which are only stored.
type Nodes struct{ s *Service }

// Nodes returns what callers ask of nodes.
func (s *Service) Nodes() Nodes { return Nodes{s} }

// Create has a node stored. CodeInvalid, CodeConflict, and what no leader means.
func (n Nodes) Create(ctx context.Context, c *Call, body *structs.NodeRequest, once conductor.Once) (*structs.Node, error) {
	node, err := nodeOf(body)
	if err != nil {
		return nil, err
	}
	return createPlain(ctx, n.s, c, once, body.UUID, node)
}

// Patch changes a node: apply changes what it was as a request has it. id is its
// UUID. CodeInvalid, CodeNotFound, and what no leader means.
func (n Nodes) Patch(ctx context.Context, c *Call, id string, apply func(*structs.NodeRequest) error) (*structs.Node, error) {
	if !structs.IsID(id) {
		return nil, structs.NotUUID(id)
	}
	return decide(ctx, n.s, c, conductor.PatchRow[structs.Node, *structs.Node]{Caller: c.Caller, Ident: id,
		Apply: func(was structs.Node) (structs.Node, error) {
			body := structs.NodeRequest{Name: &was.Name, Type: was.Type, ImageID: was.ImageID, IronicNodeID: was.IronicNodeID}
			if err := apply(&body); err != nil {
				return was, err
			}
			return nodeOf(&body)
		}})
}

// Delete deletes a node. id is its UUID. CodeInvalid, CodeNotFound, and what no
// leader means.
func (n Nodes) Delete(ctx context.Context, c *Call, id string) (Removed[*structs.Node], error) {
	if !structs.IsID(id) {
		return Removed[*structs.Node]{}, structs.NotUUID(id)
	}
	return remove(ctx, n.s, c, conductor.DeleteRow[structs.Node, *structs.Node]{Caller: c.Caller, Ident: id})
}

// nodeOf checks what a request says of a node. Errors are CodeInvalid.
func nodeOf(body *structs.NodeRequest) (structs.Node, error) {
	n := structs.Node{Type: body.Type, ImageID: body.ImageID, IronicNodeID: body.IronicNodeID}
	var err error
	if n.Name, err = checkIdentity(body.UUID, body.Name); err != nil {
		return n, err
	}
	for field, value := range map[string]string{"type": n.Type, "image_id": n.ImageID, "ironic_node_id": n.IronicNodeID} {
		if err := structs.CheckLine(field, value, structs.MaxText); err != nil {
			return n, err
		}
	}
	return n, nil
}
