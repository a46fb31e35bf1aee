package rest

import (
	"iter"
	"net/http"
	"slices"

	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/server/service"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// bayBrief is a bay as lists show it.
type bayBrief struct {
	UUID             string            `json:"uuid"`
	Name             string            `json:"name"`
	BayModelID       *string           `json:"baymodel_id"`
	NodeCount        int               `json:"node_count"`
	Status           structs.BayStatus `json:"status"`
	BayCreateTimeout int               `json:"bay_create_timeout"`
	Links            []structs.Link    `json:"links"`
}

// bays are the caller's project's bays and the shared ones.
var bays = &resource{
	noun: "bays", kind: structs.KindBay, table: structs.TableBays,
	rows: bayRows,
	// A shared bay of another project is in the list too.
	watches: func(string) []service.Watch {
		return []service.Watch{{Table: structs.TableBays, Project: state.AllProjects}}
	},
	sorts: map[string]func(a, b structs.Row) int{
		"name":               by(func(b *structs.Bay) string { return b.Name }),
		"status":             by(func(b *structs.Bay) string { return string(b.Status) }),
		"baymodel_id":        by(func(b *structs.Bay) string { return b.BayModelID }),
		"node_count":         by(func(b *structs.Bay) int { return b.NodeCount }),
		"bay_create_timeout": by(func(b *structs.Bay) int { return b.Timeout }),
		"discovery_url":      by(func(b *structs.Bay) string { return b.DiscoveryURL }),
		"coe":                by(func(b *structs.Bay) string { return b.COE }),
	},
	filters: map[string]func(view, string) (func(structs.Row) bool, error){
		"name":   filterName(func(r structs.Row) string { return r.(*structs.Bay).Name }),
		"status": filterStatus(func(r structs.Row) string { return string(r.(*structs.Bay).Status) }),
		"label":  filterLabel(func(r structs.Row) map[string]string { return r.(*structs.Bay).Labels }),
	},
	brief: func(v view, r structs.Row) any {
		b := r.(*structs.Bay)
		return bayBrief{
			UUID: b.ID, Name: b.Name, BayModelID: wire.OrNull(b.BayModelID), NodeCount: b.NodeCount,
			Status: b.Status, BayCreateTimeout: b.Timeout, Links: v.links("bays", b.ID),
		}
	},
	full: func(v view, r structs.Row) any { return bayBody(v, r.(*structs.Bay)) },
}

// bayRows yields the project's bays and the shared ones of others, in the order
// of their creation.
func bayRows(v view, project string, after uint64) iter.Seq[structs.Row] {
	if project == state.AllProjects {
		return v.snap.List(structs.TableBays, project, after)
	}
	rows := slices.Collect(v.snap.List(structs.TableBays, project, after))
	for b := range v.snap.SharedBays() {
		if b.ProjectID != project && b.Seq > after {
			rows = append(rows, b)
		}
	}
	slices.SortFunc(rows, commonSorts["id"])
	return slices.Values(rows)
}

// bayBody returns the bay as it is shown.
func bayBody(v view, b *structs.Bay) structs.BayBody {
	addresses := []string{}
	// Who is only a guest on a shared bay has no business with its machines.
	if b.ProjectID == v.caller.ProjectID || v.caller.Is(structs.RoleAdmin) {
		for h := range v.snap.HostsInBay(b.ID) {
			if len(h.Fingerprint.Addresses) > 0 {
				addresses = append(addresses, h.Fingerprint.Addresses[0])
			}
		}
	}
	return structs.BayBody{
		UUID: b.ID, Name: b.Name, BayModelID: wire.OrNull(b.BayModelID), NodeCount: b.NodeCount,
		Status: b.Status, BayCreateTimeout: b.Timeout, Links: v.links("bays", b.ID),
		NodeAddresses: addresses, DiscoveryURL: wire.OrNull(b.DiscoveryURL),
		CreatedAt: structs.Time{Time: b.CreatedAt}, UpdatedAt: structs.Time{Time: b.UpdatedAt},
		COE: b.COE, Labels: wire.Object(b.Labels), Placement: b.Placement, Shared: b.Shared, StatusReason: wire.OrNull(b.StatusReason),
	}
}

var (
	bayShape = wire.NewShape(structs.KindBay, structs.BayRequest{}, structs.BayBody{})
	bayPatch = wire.NewPatchRules(bayShape, structs.BayBody{}, []string{"api_address", "node_addresses"}, []string{"baymodel_id"}, []string{"node_count"})
)

func bayRoutes() []*route {
	get := reading(bays, bayBrief{}, structs.BayBody{}, identity.BayList, identity.BayDetail, identity.BayGet, filterArgName, filterArgStatus, filterArgLabel)
	return append(get,
		&route{method: http.MethodPost, path: "/bays", action: identity.BayCreate, handle: createBay, args: []wire.Arg{waits},
			summary: "Create a bay", takes: structs.BayRequest{}, gives: created(structs.BayBody{})},
		&route{method: http.MethodPatch, path: "/bays/:id", action: identity.BayUpdate, handle: patchBay, args: []wire.Arg{waits},
			summary: "Change the number of a bay's hosts", takes: []structs.PatchOp{}, gives: changed(structs.BayBody{})},
		&route{method: http.MethodDelete, path: "/bays/:id", action: identity.BayDelete, handle: deleteBay, args: []wire.Arg{waits},
			summary: "Delete a bay and what is in it", gives: deleted(structs.BayBody{})},
	)
}

var createBay = write(func(q *request) (*structs.Bay, error) {
	var body structs.BayRequest
	once, err := q.decode(bayShape, &body)
	if err != nil {
		return nil, err
	}
	return q.service.Bays.Create(q.ctx(), &q.call, &body, once)
}, func(q *request, b *structs.Bay) error {
	bays.locate(q, b)
	return settledBay(q, b, http.StatusCreated)
})

// patchBay changes how many hosts a bay wants, which is all that can be changed.
func patchBay(q *request) error {
	p, err := q.decodePatch(bayPatch)
	if err != nil {
		return err
	}
	v := q.view(q.service.Snapshot())
	row, err := bays.lookup(v, q.ident())
	if err != nil {
		return err
	}
	was := row.(*structs.Bay)
	fields := slices.DeleteFunc(p.Changed(bayBody(v, was)), func(field string) bool { return field == "node_count" })
	if len(fields) > 0 {
		if was.Status != structs.BayCreated && was.Status != structs.BayUpdated {
			return structs.Errorf(structs.CodeInvalid, "Updating a bay when status is \"%s\" is not supported", was.Status).About(structs.KindBay)
		}
		return wire.CannotChange(structs.KindBay, fields)
	}
	if !p.Touches("node_count") {
		return bays.written(q, http.StatusOK, was)
	}
	var body structs.BayRequest
	if err := p.Only("node_count").Apply(&body); err != nil {
		return err
	}
	return write(func(q *request) (*structs.Bay, error) {
		return q.service.Bays.Resize(q.ctx(), &q.call, was.ID, body.NodeCount)
	}, func(q *request, b *structs.Bay) error { return settledBay(q, b, http.StatusOK) })(q)
}

var deleteBay = write(func(q *request) (service.Removed[*structs.Bay], error) {
	return q.service.Bays.Delete(q.ctx(), &q.call, q.ident())
}, func(q *request, b service.Removed[*structs.Bay]) error {
	// As in 2015 the answer comes at once, unless it is asked to wait.
	atMost, said := q.patience()
	if b.Gone || !said {
		return q.noContent()
	}
	row := q.service.AwaitRow(q.ctx(), &q.call, b.Row, atMost, func(row structs.Row) bool { return row == nil })
	if row == nil {
		return q.noContent()
	}
	return bays.written(q, http.StatusAccepted, row)
})

// settledBay answers a create or PATCH of a bay: at once, or with ?wait= when
// the bay has its hosts.
func settledBay(q *request, b *structs.Bay, status int) error {
	atMost, said := q.patience()
	if !said {
		return bays.written(q, status, b)
	}
	row := q.service.AwaitRow(q.ctx(), &q.call, b, atMost, func(row structs.Row) bool {
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
	return bays.written(q, status, row)
}
