package rest

import (
	"iter"
	"net/http"
	"slices"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/rest/web"
	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/server/service"
	"github.com/stackforge/magnum/structs"
)

// nodeType is the type of a host in the list of nodes.
const nodeType = "host"

// nodes are the rows that node-create of 2015 stores, and, for operators, the hosts.
var nodes = &web.Resource{
	Noun: "nodes", Kind: structs.KindNode, Table: structs.TableNodes,
	Rows: nodeRows,
	Watches: func(project string) []service.Watch {
		return []service.Watch{{Table: structs.TableNodes, Project: project}, {Table: structs.TableHosts}}
	},
	Find: findNode,
	Sorts: map[string]func(a, b structs.Row) int{
		"name":           web.By(func(n *structs.Node) string { return n.Name }),
		"type":           web.By(func(n *structs.Node) string { return n.Type }),
		"image_id":       web.By(func(n *structs.Node) string { return n.ImageID }),
		"ironic_node_id": web.By(func(n *structs.Node) string { return n.IronicNodeID }),
	},
	Filters: map[string]func(web.View, string) (func(structs.Row) bool, error){
		"name": web.FilterName(func(r structs.Row) string {
			if h, ok := r.(*structs.Host); ok {
				return h.Name
			}
			return r.(*structs.Node).Name
		}),
	},
	Summary: func(v web.View, r structs.Row) any { return nodeSummaryOf(nodeBody(v, r)) },
	Detail:  func(v web.View, r structs.Row) any { return nodeBody(v, r) },
}

// nodeBrief is the summary of a node. The type's name is that of a schema in the OpenAPI
// document.
type nodeBrief struct {
	//api:doc UUID in canonical lower-case form.
	UUID string `json:"uuid"`
	//api:doc 1 to 255 characters, not unique. A readable name is generated if none is given.
	Name string  `json:"name"`
	Type *string `json:"type"`
	//api:doc Image of the node. Stored for the client of 2015, not used.
	ImageID      *string `json:"image_id"`
	IronicNodeID *string `json:"ironic_node_id"`
	//api:doc URLs of the object: self, and bookmark without the version.
	Links []structs.Link `json:"links"`
}

func nodeSummaryOf(n structs.NodeBody) nodeBrief {
	return nodeBrief{UUID: n.UUID, Name: n.Name, Type: n.Type, ImageID: n.ImageID, IronicNodeID: n.IronicNodeID, Links: n.Links}
}

func nodeRows(v web.View, project string, after uint64) iter.Seq[structs.Row] {
	rows := slices.Collect(v.Snap.List(structs.TableNodes, project, after))
	if identity.May(v.Caller, identity.SeeHosts) {
		rows = slices.AppendSeq(rows, v.Snap.List(structs.TableHosts, "", after))
	}
	slices.SortFunc(rows, web.CommonSorts["id"])
	return slices.Values(rows)
}

// findNode returns a node or, for operators, a host. As in 2015, ident must be a UUID.
func findNode(v web.View, ident string) (structs.Row, error) {
	if !structs.IsID(ident) {
		return nil, structs.NotUUID(ident)
	}
	if h := v.Snap.Host(ident); h != nil && identity.May(v.Caller, identity.SeeHosts) {
		return h, nil
	}
	return conductor.Lookup(v.Snap, v.Caller, structs.KindNode, ident)
}

// nodeBody returns the detail of a node, or of a host as a node.
func nodeBody(v web.View, r structs.Row) structs.NodeBody {
	if h, ok := r.(*structs.Host); ok {
		return structs.NodeBody{
			UUID: h.ID, Name: h.Name, Type: wire.OrNull(nodeType), Links: v.Links("nodes", h.ID),
			CreatedAt: structs.Time{Time: h.CreatedAt}, UpdatedAt: structs.Time{Time: h.UpdatedAt},
		}
	}
	n := r.(*structs.Node)
	return structs.NodeBody{
		UUID: n.ID, Name: n.Name, Type: wire.OrNull(n.Type), ImageID: wire.OrNull(n.ImageID), IronicNodeID: wire.OrNull(n.IronicNodeID),
		Links: v.Links("nodes", n.ID), CreatedAt: structs.Time{Time: n.CreatedAt}, UpdatedAt: structs.Time{Time: n.UpdatedAt},
	}
}

var (
	nodeShape = wire.NewShape(structs.KindNode, structs.NodeRequest{}, structs.NodeBody{})
	nodePatch = wire.NewPatchRules(nodeShape, structs.NodeBody{}, nil, nil, nil)
)

func nodeRoutes() []*web.Route {
	get := web.Reading(nodes, nodeBrief{}, structs.NodeBody{}, identity.NodeList, identity.NodeDetail, identity.NodeGet, web.FilterArgName)
	return append(get,
		&web.Route{Method: http.MethodPost, Path: "/" + nodes.Noun, Action: identity.NodeCreate, Handle: createNode,
			Summary: "Store a node, as in 2015", Takes: structs.NodeRequest{}, Gives: web.CreatedNow(structs.NodeBody{})},
		&web.Route{Method: http.MethodPatch, Path: "/" + nodes.Noun + "/:id", Action: identity.NodeUpdate, Handle: patchNode,
			Summary: "Change a stored node", Takes: []structs.PatchOp{}, Gives: web.OK(structs.NodeBody{})},
		&web.Route{Method: http.MethodDelete, Path: "/" + nodes.Noun + "/:id", Action: identity.NodeDelete, Handle: deleteNode,
			Summary: "Delete a stored node", Gives: web.DeletedNow()},
	)
}

var createNode = web.Write(func(q *web.Request) (*structs.Node, error) {
	var body structs.NodeRequest
	once, err := q.Decode(nodeShape, &body)
	if err != nil {
		return nil, err
	}
	return q.Service.Nodes().Create(q.Context(), &q.Call, &body, once)
}, func(q *web.Request, row *structs.Node) error {
	nodes.Locate(q, row)
	return nodes.Written(q, http.StatusCreated, row)
})

var patchNode = web.Write(func(q *web.Request) (*structs.Node, error) {
	p, err := q.DecodePatch(nodePatch)
	if err != nil {
		return nil, err
	}
	if err := p.CheckMutable(); err != nil {
		return nil, err
	}
	return q.Service.Nodes().Patch(q.Context(), &q.Call, q.Ident(), func(body *structs.NodeRequest) error { return p.Apply(body) })
}, func(q *web.Request, row *structs.Node) error { return nodes.Written(q, http.StatusOK, row) })

var deleteNode = web.Write(func(q *web.Request) (service.Removed[*structs.Node], error) {
	return q.Service.Nodes().Delete(q.Context(), &q.Call, q.Ident())
}, func(q *web.Request, _ service.Removed[*structs.Node]) error { return q.NoContent() })
