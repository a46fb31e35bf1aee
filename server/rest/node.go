package rest

import (
	"iter"
	"net/http"
	"slices"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/structs"
)

// nodeType is what a host is called among the nodes of 2015.
const nodeType = "host"

// nodes are the rows of 2015's node-create and, for operators, the hosts.
var nodes = &resource{
	noun: "nodes", kind: structs.KindNode, table: structs.TableNodes,
	rows: nodeRows,
	watches: func(project string) []watch {
		return []watch{{structs.TableNodes, project}, {structs.TableHosts, ""}}
	},
	find: findNode,
	sorts: map[string]func(a, b structs.Row) int{
		"name":           by(func(n *structs.Node) string { return n.Name }),
		"type":           by(func(n *structs.Node) string { return n.Type }),
		"image_id":       by(func(n *structs.Node) string { return n.ImageID }),
		"ironic_node_id": by(func(n *structs.Node) string { return n.IronicNodeID }),
	},
	filters: map[string]func(view, string) (func(structs.Row) bool, error){
		"name": filterName(func(r structs.Row) string {
			if h, ok := r.(*structs.Host); ok {
				return h.Name
			}
			return r.(*structs.Node).Name
		}),
	},
	brief: func(v view, r structs.Row) any { return briefNode(v.node(r)) },
	full:  func(v view, r structs.Row) any { return v.node(r) },
}

// nodeBrief is a node as lists show it.
type nodeBrief struct {
	UUID         string         `json:"uuid"`
	Name         string         `json:"name"`
	Type         *string        `json:"type"`
	ImageID      *string        `json:"image_id"`
	IronicNodeID *string        `json:"ironic_node_id"`
	Links        []structs.Link `json:"links"`
}

func briefNode(n structs.NodeBody) nodeBrief {
	return nodeBrief{UUID: n.UUID, Name: n.Name, Type: n.Type, ImageID: n.ImageID, IronicNodeID: n.IronicNodeID, Links: n.Links}
}

func nodeRows(v view, project string, after uint64) iter.Seq[structs.Row] {
	rows := slices.Collect(v.snap.List(structs.TableNodes, project, after))
	if identity.May(v.caller, identity.SeeHosts) {
		rows = slices.AppendSeq(rows, v.snap.List(structs.TableHosts, "", after))
	}
	slices.SortFunc(rows, commonSorts["id"])
	return slices.Values(rows)
}

// findNode finds a node or, for operators, a host; as in 2015 by UUID only.
func findNode(v view, ident string) (structs.Row, error) {
	if !structs.IsID(ident) {
		return nil, wire.NotUUID(ident)
	}
	if h := v.snap.Host(ident); h != nil && identity.May(v.caller, identity.SeeHosts) {
		return h, nil
	}
	return conductor.Lookup(v.snap, v.caller, structs.KindNode, ident)
}

// node returns a node, or a host in its spelling.
func (v view) node(r structs.Row) structs.NodeBody {
	if h, ok := r.(*structs.Host); ok {
		return structs.NodeBody{
			UUID: h.ID, Name: h.Name, Type: wire.OrNull(nodeType), Links: v.links("nodes", h.ID),
			CreatedAt: structs.Time{Time: h.CreatedAt}, UpdatedAt: structs.Time{Time: h.UpdatedAt},
		}
	}
	n := r.(*structs.Node)
	return structs.NodeBody{
		UUID: n.ID, Name: n.Name, Type: wire.OrNull(n.Type), ImageID: wire.OrNull(n.ImageID), IronicNodeID: wire.OrNull(n.IronicNodeID),
		Links: v.links("nodes", n.ID), CreatedAt: structs.Time{Time: n.CreatedAt}, UpdatedAt: structs.Time{Time: n.UpdatedAt},
	}
}

var (
	nodeShape = wire.NewShape(structs.KindNode, structs.NodeRequest{}, structs.NodeBody{})
	nodePatch = wire.NewPatchRules(nodeShape, structs.NodeBody{}, nil, nil, nil)
)

func createNode(q *request) error {
	var body structs.NodeRequest
	once, err := q.decode(nodeShape, &body)
	if err != nil {
		return err
	}
	node, err := nodeOf(&body)
	if err != nil {
		return err
	}
	r := conductor.CreateNode{Caller: q.caller(), Once: once, UUID: body.UUID, Node: node}
	minted := r.UUID == ""
	if minted {
		r.UUID = q.newID()
	}
	n, err := create(q, r.UUID, minted, r)
	if err != nil {
		return err
	}
	nodes.locate(q, n)
	return nodes.written(q, http.StatusCreated, n)
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

func patchNode(q *request) error {
	p, err := q.decodePatch(nodePatch)
	if err != nil {
		return err
	}
	if err := p.CheckMutable(); err != nil {
		return err
	}
	if !structs.IsID(q.ident()) {
		return wire.NotUUID(q.ident())
	}
	n, err := decide(q, conductor.PatchNode{Caller: q.caller(), Ident: q.ident(), Apply: func(was structs.Node) (structs.Node, error) {
		body := structs.NodeRequest{Name: &was.Name, Type: was.Type, ImageID: was.ImageID, IronicNodeID: was.IronicNodeID}
		if err := p.Apply(&body); err != nil {
			return was, err
		}
		return nodeOf(&body)
	}})
	if err != nil {
		return err
	}
	return nodes.written(q, http.StatusOK, n)
}

func deleteNode(q *request) error {
	if !structs.IsID(q.ident()) {
		return wire.NotUUID(q.ident())
	}
	if _, _, err := remove(q, conductor.DeleteNode{Caller: q.caller(), Ident: q.ident()}); err != nil {
		return err
	}
	return q.noContent()
}
