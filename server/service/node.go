package service

import (
	"context"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/structs"
)

// Nodes carries out requests about nodes, an object of the API of 2015 that is only
// stored.
type Nodes struct{ s *Service }

// Nodes returns the operations on nodes.
func (s *Service) Nodes() Nodes { return Nodes{s} }

// Create stores a node. Errors are CodeInvalid, CodeConflict, and those of onLeader.
func (n Nodes) Create(ctx context.Context, c *Call, body *structs.NodeRequest, once conductor.Once) (*structs.Node, error) {
	node, err := nodeOf(body)
	if err != nil {
		return nil, err
	}
	return createPlain(ctx, n.s, c, once, body.UUID, node)
}

// Patch changes a node. apply changes the node in the form that a request has. id is
// the node's UUID. Errors are CodeInvalid, CodeNotFound, and those of onLeader.
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

// Delete deletes a node. id is the node's UUID. Errors are CodeInvalid, CodeNotFound,
// and those of onLeader.
func (n Nodes) Delete(ctx context.Context, c *Call, id string) (Removed[*structs.Node], error) {
	if !structs.IsID(id) {
		return Removed[*structs.Node]{}, structs.NotUUID(id)
	}
	return remove(ctx, n.s, c, conductor.DeleteRow[structs.Node, *structs.Node]{Caller: c.Caller, Ident: id})
}

// nodeOf makes a row from the request for a node. Errors are CodeInvalid.
func nodeOf(body *structs.NodeRequest) (structs.Node, error) {
	n := structs.Node{Type: body.Type, ImageID: body.ImageID, IronicNodeID: body.IronicNodeID}
	var err error
	if n.Name, err = checkUUIDAndName(body.UUID, body.Name); err != nil {
		return n, err
	}
	for field, value := range map[string]string{"type": n.Type, "image_id": n.ImageID, "ironic_node_id": n.IronicNodeID} {
		if err := structs.CheckLine(field, value, structs.MaxText); err != nil {
			return n, err
		}
	}
	return n, nil
}
