package rest

import (
	"iter"
	"net/http"
	"slices"

	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/rest/web"
	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/server/service"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// bayBrief is the summary of a bay. The type's name is that of a schema in the OpenAPI
// document.
type bayBrief struct {
	//api:doc UUID in canonical lower-case form.
	UUID string `json:"uuid"`
	//api:doc 1 to 255 characters, not unique. A readable name is generated if none is given.
	Name string `json:"name"`
	//api:doc UUID of the baymodel; null if there is none.
	BayModelID *string `json:"baymodel_id"`
	//api:doc Desired number of hosts.
	NodeCount int `json:"node_count"`
	//api:doc Current status.
	Status structs.BayStatus `json:"status"`
	//api:doc Minutes after which a bay that lacks hosts becomes CREATE_FAILED; 0 means never.
	BayCreateTimeout int `json:"bay_create_timeout"`
	//api:doc URLs of the object: self, and bookmark without the version.
	Links []structs.Link `json:"links"`
}

// bays are the bays of the caller's project, and shared bays.
var bays = &web.Resource{
	Noun: "bays", Kind: structs.KindBay, Table: structs.TableBays,
	Rows: bayRows,
	// The list also has shared bays of other projects.
	Watches: func(string) []service.Watch {
		return []service.Watch{{Table: structs.TableBays, Project: state.AllProjects}}
	},
	Sorts: map[string]func(a, b structs.Row) int{
		"name":               web.By(func(b *structs.Bay) string { return b.Name }),
		"status":             web.By(func(b *structs.Bay) string { return string(b.Status) }),
		"baymodel_id":        web.By(func(b *structs.Bay) string { return b.BayModelID }),
		"node_count":         web.By(func(b *structs.Bay) int { return b.NodeCount }),
		"bay_create_timeout": web.By(func(b *structs.Bay) int { return b.Timeout }),
		"discovery_url":      web.By(func(b *structs.Bay) string { return b.DiscoveryURL }),
		"coe":                web.By(func(b *structs.Bay) string { return b.COE }),
	},
	Filters: map[string]func(web.View, string) (func(structs.Row) bool, error){
		"name": web.FilterName(func(r structs.Row) string { return r.(*structs.Bay).Name }),
		"status": web.FilterStatus(func(r structs.Row) string { return string(r.(*structs.Bay).Status) },
			structs.BayCreating, structs.BayCreated, structs.BayCreateFailed, structs.BayUpdating, structs.BayUpdated,
			"UPDATE_FAILED", structs.BayDeleting, "DELETE_COMPLETE", "DELETE_FAILED"), // with those that Heat has
		"label": web.FilterLabel(func(r structs.Row) map[string]string { return r.(*structs.Bay).Labels }),
	},
	Summary: func(v web.View, r structs.Row) any {
		b := r.(*structs.Bay)
		return bayBrief{
			UUID: b.ID, Name: b.Name, BayModelID: wire.OrNull(b.BayModelID), NodeCount: b.NodeCount,
			Status: b.Status, BayCreateTimeout: b.Timeout, Links: v.Links("bays", b.ID),
		}
	},
	Detail: func(v web.View, r structs.Row) any { return bayBody(v, r.(*structs.Bay)) },
}

// bayRows yields the project's bays and the shared bays of other projects, in the order
// of creation.
func bayRows(v web.View, project string, after uint64) iter.Seq[structs.Row] {
	if project == state.AllProjects {
		return v.Snap.List(structs.TableBays, project, after)
	}
	rows := slices.Collect(v.Snap.List(structs.TableBays, project, after))
	for b := range v.Snap.SharedBays() {
		if b.ProjectID != project && b.Seq > after {
			rows = append(rows, b)
		}
	}
	slices.SortFunc(rows, web.CommonSorts["id"])
	return slices.Values(rows)
}

// bayBody returns the detail of a bay.
func bayBody(v web.View, b *structs.Bay) structs.BayBody {
	addresses, api := []string{}, ""
	// A project that only uses a shared bay doesn't see the addresses of its hosts.
	if b.ProjectID == v.Caller.ProjectID || v.Caller.Is(structs.RoleAdmin) {
		for h := range v.Snap.HostsInBay(b.ID) {
			if cluster := h.Fingerprint.Cluster; cluster != nil {
				api = cluster.APIAddress
				for _, n := range cluster.Nodes {
					addresses = append(addresses, n.Addresses[:min(len(n.Addresses), 1)]...)
				}
			} else if len(h.Fingerprint.Addresses) > 0 {
				addresses = append(addresses, h.Fingerprint.Addresses[0])
			}
		}
	}
	return structs.BayBody{
		UUID: b.ID, Name: b.Name, BayModelID: wire.OrNull(b.BayModelID), NodeCount: b.NodeCount,
		Status: b.Status, BayCreateTimeout: b.Timeout, Links: v.Links("bays", b.ID),
		APIAddress: wire.OrNull(api), NodeAddresses: addresses, DiscoveryURL: wire.OrNull(b.DiscoveryURL),
		CreatedAt: structs.Time{Time: b.CreatedAt}, UpdatedAt: structs.Time{Time: b.UpdatedAt},
		COE: b.COE, Labels: wire.Object(b.Labels), Placement: b.Placement, Shared: b.Shared, StatusReason: wire.OrNull(b.StatusReason),
	}
}

var (
	bayShape = wire.NewShape(structs.KindBay, structs.BayRequest{}, structs.BayBody{})
	bayPatch = wire.NewPatchRules(bayShape, structs.BayBody{}, []string{"api_address", "node_addresses"}, []string{"baymodel_id"},
		[]string{"node_count"})
)

func bayRoutes() []*web.Route {
	get := web.Reading(bays, bayBrief{}, structs.BayBody{}, identity.BayList, identity.BayDetail, identity.BayGet, web.FilterArgName,
		web.FilterArgStatus, web.FilterArgLabel)
	return append(get,
		&web.Route{Method: http.MethodPost, Path: "/bays", Action: identity.BayCreate, Handle: createBay, Args: []wire.Arg{web.Waits},
			Summary: "Create a bay", Takes: structs.BayRequest{}, Gives: web.Created(structs.BayBody{})},
		&web.Route{Method: http.MethodPatch, Path: "/bays/:id", Action: identity.BayUpdate, Handle: patchBay, Args: []wire.Arg{web.Waits},
			Summary: "Change the number of a bay's hosts", Takes: []structs.PatchOp{}, Gives: web.Changed(structs.BayBody{})},
		&web.Route{Method: http.MethodDelete, Path: "/bays/:id", Action: identity.BayDelete, Handle: deleteBay, Args: []wire.Arg{web.Waits},
			Summary: "Delete a bay and its containers", Gives: web.Deleted(structs.BayBody{})},
	)
}

var createBay = web.Write(func(q *web.Request) (*structs.Bay, error) {
	var body structs.BayRequest
	once, err := q.Decode(bayShape, &body)
	if err != nil {
		return nil, err
	}
	return q.Service.Bays().Create(q.Context(), &q.Call, &body, once)
}, func(q *web.Request, b *structs.Bay) error {
	bays.Locate(q, b)
	return awaitBay(q, b, http.StatusCreated)
})

// patchBay changes how many hosts a bay wants, which is the only change of a bay.
func patchBay(q *web.Request) error {
	p, err := q.DecodePatch(bayPatch)
	if err != nil {
		return err
	}
	v := q.View(q.Service.Snapshot())
	row, err := bays.Lookup(v, q.Ident())
	if err != nil {
		return err
	}
	was := row.(*structs.Bay)
	fields := slices.DeleteFunc(p.Changed(bayBody(v, was)), func(field string) bool { return field == "node_count" })
	if len(fields) > 0 {
		if was.Status != structs.BayCreated && was.Status != structs.BayUpdated {
			return structs.Errorf(structs.CodeInvalid,
				"Updating a bay when status is \"%s\" is not supported", was.Status).About(structs.KindBay)
		}
		return wire.CannotChange(structs.KindBay, fields)
	}
	if !p.Touches("node_count") {
		return bays.Written(q, http.StatusOK, was)
	}
	var body structs.BayRequest
	if err := p.Only("node_count").Apply(&body); err != nil {
		return err
	}
	return web.Write(func(q *web.Request) (*structs.Bay, error) {
		return q.Service.Bays().Resize(q.Context(), &q.Call, was.ID, body.NodeCount)
	}, func(q *web.Request, b *structs.Bay) error { return awaitBay(q, b, http.StatusOK) })(q)
}

var deleteBay = web.Write(func(q *web.Request) (service.Removed[*structs.Bay], error) {
	return q.Service.Bays().Delete(q.Context(), &q.Call, q.Ident())
}, func(q *web.Request, b service.Removed[*structs.Bay]) error {
	// As in 2015 the response comes at once, unless the request has the argument wait.
	atMost, said := q.Patience()
	if b.Gone || !said {
		return q.NoContent()
	}
	row := q.Service.AwaitRow(q.Context(), &q.Call, b.Row, atMost, func(row structs.Row) bool { return row == nil })
	if row == nil {
		return q.NoContent()
	}
	return bays.Written(q, http.StatusAccepted, row)
})

// awaitBay answers a create or PATCH of a bay. With ?wait= it first waits until the bay
// has its hosts.
func awaitBay(q *web.Request, b *structs.Bay, status int) error {
	atMost, said := q.Patience()
	if !said {
		return bays.Written(q, status, b)
	}
	row := q.Service.AwaitRow(q.Context(), &q.Call, b, atMost, func(row structs.Row) bool {
		return row == nil || !row.(*structs.Bay).Status.InProgress()
	})
	if row == nil {
		return structs.Errorf(structs.CodeConflict, "Bay %s was deleted meanwhile.", b.Name).About(structs.KindBay)
	}
	switch now := row.(*structs.Bay); {
	case now.Status == structs.BayCreateFailed:
		return structs.Errorf(structs.CodeConflict, "Bay %s: %s", now.Name, now.StatusReason).About(structs.KindBay)
	case now.Status.InProgress():
		status = http.StatusAccepted
	}
	return bays.Written(q, status, row)
}
