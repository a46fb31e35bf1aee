package rest

import (
	"iter"
	"net/http"
	"slices"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/server/service"
	"github.com/stackforge/magnum/structs"
)

// nodeType is what a host is called among the nodes of 2015.
const nodeType = "host"

// nodes are the rows of 2015's node-create and, for operators, the hosts.
var nodes = &resource{
	noun: "nodes", kind: structs.KindNode, table: structs.TableNodes,
	rows: nodeRows,
	watches: func(project string) []service.Watch {
		return []service.Watch{{Table: structs.TableNodes, Project: project}, {Table: structs.TableHosts}}
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
	brief: func(v view, r structs.Row) any { return briefNode(nodeBody(v, r)) },
	full:  func(v view, r structs.Row) any { return nodeBody(v, r) },
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
		return nil, structs.NotUUID(ident)
	}
	if h := v.snap.Host(ident); h != nil && identity.May(v.caller, identity.SeeHosts) {
		return h, nil
	}
	return conductor.Lookup(v.snap, v.caller, structs.KindNode, ident)
}

// nodeBody returns a node, or a host in its spelling.
func nodeBody(v view, r structs.Row) structs.NodeBody {
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

func nodeRoutes() []*route {
	get := reading(nodes, nodeBrief{}, structs.NodeBody{}, identity.NodeList, identity.NodeDetail, identity.NodeGet, filterArgName)
	return append(get,
		&route{method: http.MethodPost, path: "/" + nodes.noun, action: identity.NodeCreate, handle: createNode,
			summary: "Store a node, as in 2015", takes: structs.NodeRequest{}, gives: made(structs.NodeBody{})},
		&route{method: http.MethodPatch, path: "/" + nodes.noun + "/:id", action: identity.NodeUpdate, handle: patchNode,
			summary: "Change a stored node", takes: []structs.PatchOp{}, gives: ok(structs.NodeBody{})},
		&route{method: http.MethodDelete, path: "/" + nodes.noun + "/:id", action: identity.NodeDelete, handle: deleteNode,
			summary: "Delete a stored node", gives: removed()},
	)
}

var createNode = write(func(q *request) (*structs.Node, error) {
	var body structs.NodeRequest
	once, err := q.decode(nodeShape, &body)
	if err != nil {
		return nil, err
	}
	return q.service.Nodes.Create(q.ctx(), &q.call, &body, once)
}, func(q *request, row *structs.Node) error {
	nodes.locate(q, row)
	return nodes.written(q, http.StatusCreated, row)
})

var patchNode = write(func(q *request) (*structs.Node, error) {
	p, err := q.decodePatch(nodePatch)
	if err != nil {
		return nil, err
	}
	if err := p.CheckMutable(); err != nil {
		return nil, err
	}
	return q.service.Nodes.Patch(q.ctx(), &q.call, q.ident(), func(body *structs.NodeRequest) error { return p.Apply(body) })
}, func(q *request, row *structs.Node) error { return nodes.written(q, http.StatusOK, row) })

var deleteNode = write(func(q *request) (service.Removed[*structs.Node], error) {
	return q.service.Nodes.Delete(q.ctx(), &q.call, q.ident())
}, func(q *request, _ service.Removed[*structs.Node]) error { return q.noContent() })
