package conductor

import "github.com/stackforge/magnum/structs"

// CreateNode stores a node of the 2015 client.
type CreateNode struct {
	Caller structs.Caller
	Once   Once
	UUID   string
	Node   structs.Node // all but its Meta
}

func (r CreateNode) decide(t *tx) (*structs.Node, error) {
	return createPlain(t, r.Once, r.Caller, structs.KindNode, r.UUID, &r.Node, &r.Node.Name)
}

// PatchNode changes a node.
type PatchNode struct {
	Caller structs.Caller
	Ident  string // UUID
	Apply  func(structs.Node) (structs.Node, error)
}

func (r PatchNode) decide(t *tx) (*structs.Node, error) {
	return patchPlain(t, r.Caller, structs.KindNode, r.Ident, r.Apply, func(n *structs.Node) *string { return &n.Name })
}

// DeleteNode deletes a node of the 2015 client. Hosts are not deleted this way.
type DeleteNode struct {
	Caller structs.Caller
	Ident  string // UUID
}

func (r DeleteNode) decide(t *tx) (*structs.Node, error) {
	return deletePlain[*structs.Node](t, r.Caller, structs.KindNode, r.Ident)
}
