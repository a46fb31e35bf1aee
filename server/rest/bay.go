package rest

import (
	"iter"
	"net/http"
	"slices"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/rest/wire"
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
	watches: func(string) []watch { return []watch{{structs.TableBays, state.AllProjects}} },
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
	full: func(v view, r structs.Row) any { return v.bay(r.(*structs.Bay)) },
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

// bay returns the bay as it is shown.
func (v view) bay(b *structs.Bay) structs.BayBody {
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

func createBay(q *request) error {
	var body structs.BayRequest
	once, err := q.decode(bayShape, &body)
	if err != nil {
		return err
	}
	r, err := bayRequest(&body)
	if err != nil {
		return err
	}
	if r.Shared {
		if err := identity.Check(q.caller(), identity.BayShare); err != nil {
			return err
		}
	}
	r.Caller, r.Once = q.caller(), once
	minted := r.UUID == ""
	if minted {
		r.UUID = q.newID()
	}
	b, err := create(q, r.UUID, minted, r)
	if err != nil {
		return err
	}
	bays.locate(q, b)
	return q.settledBay(b, http.StatusCreated)
}

// bayRequest checks what a POST says of a bay. Errors are CodeInvalid.
func bayRequest(body *structs.BayRequest) (conductor.CreateBay, error) {
	r := conductor.CreateBay{
		UUID: body.UUID, BayModel: body.BayModelID, COE: body.COE, NodeCount: 1, DiscoveryURL: body.DiscoveryURL,
		Labels: body.Labels, Placement: body.Placement, Shared: bool(body.Shared),
	}
	var err error
	if r.Name, err = checkIdentity(body.UUID, body.Name); err != nil {
		return r, err
	}
	for field, value := range map[string]string{"baymodel_id": body.BayModelID, "discovery_url": body.DiscoveryURL} {
		if err := structs.CheckLine(field, value, structs.MaxText); err != nil {
			return r, err
		}
	}
	if err := checkCOE(body.COE); err != nil {
		return r, err
	}
	if body.NodeCount != nil {
		if r.NodeCount, err = checkNodeCount(int(*body.NodeCount)); err != nil {
			return r, err
		}
	}
	if body.BayCreateTimeout != nil {
		r.Timeout = int(*body.BayCreateTimeout)
		if r.Timeout < 0 {
			return r, wire.Invalid("bay_create_timeout", r.Timeout, "Value should be greater or equal to 0")
		}
		if r.Timeout > maxTimeout {
			return r, wire.Invalid("bay_create_timeout", r.Timeout, "Value should be lesser or equal to %d minutes", maxTimeout)
		}
	}
	switch r.Placement {
	case "":
		r.Placement = structs.PlacementSpread
	case structs.PlacementSpread, structs.PlacementBinpack:
	default:
		return r, wire.Invalid("placement", r.Placement, "Value should be one of: 'spread', 'binpack'")
	}
	return r, structs.CheckRowLabels("labels", r.Labels)
}

// maxTimeout is the longest bay_create_timeout, in minutes: a year.
const maxTimeout = 366 * 24 * 60

func checkNodeCount(n int) (int, error) {
	if n < 1 {
		return 0, wire.Invalid("node_count", n, "Value should be greater or equal to 1")
	}
	if n > structs.MaxNodeCount {
		return 0, wire.Invalid("node_count", n, "Value should be lesser or equal to %d", structs.MaxNodeCount)
	}
	return n, nil
}

// checkCOE refuses a coe that magnum doesn't know; "" is for the caller to judge.
func checkCOE(coe string) error {
	if _, ok := structs.BackendOf(coe); !ok && coe != "" {
		return wire.Invalid("coe", coe, "Value should be one of: 'docker', 'swarm', 'kubernetes'")
	}
	return nil
}

// checkIdentity checks the uuid and the name that a POST carries, and returns
// the name, "" if there is none.
func checkIdentity(uuid string, name *string) (string, error) {
	if uuid != "" && !structs.IsID(uuid) {
		return "", wire.Invalid("uuid", uuid, "Expected a uuid but received %s.", wire.Short(uuid))
	}
	if name == nil {
		return "", nil
	}
	return *name, structs.CheckName(*name)
}

func patchBay(q *request) error {
	p, err := q.decodePatch(bayPatch)
	if err != nil {
		return err
	}
	v := q.view(q.Store.Snapshot())
	row, err := bays.lookup(v, q.ident())
	if err != nil {
		return err
	}
	was := row.(*structs.Bay)
	fields := slices.DeleteFunc(p.Changed(v.bay(was)), func(field string) bool { return field == "node_count" })
	if len(fields) > 0 {
		if was.Status != structs.BayCreated && was.Status != structs.BayUpdated {
			return structs.Errorf(structs.CodeInvalid, "Updating a bay when status is \"%s\" is not supported", was.Status).About(structs.KindBay)
		}
		return wire.CannotChange(structs.KindBay, fields)
	}
	if !p.Touches("node_count") {
		return bays.written(q, http.StatusOK, was)
	}
	body := structs.BayRequest{}
	if err := p.Only("node_count").Apply(&body); err != nil {
		return err
	}
	count := 1
	if body.NodeCount != nil {
		if count, err = checkNodeCount(int(*body.NodeCount)); err != nil {
			return err
		}
	}
	b, err := decide(q, conductor.PatchBay{Caller: q.caller(), Ident: was.ID, NodeCount: count})
	if err != nil {
		return err
	}
	return q.settledBay(b, http.StatusOK)
}

func deleteBay(q *request) error {
	b, gone, err := remove(q, conductor.DeleteBay{Caller: q.caller(), Ident: q.ident()})
	if err != nil {
		return err
	}
	// As in 2015 the answer comes at once, unless it is asked to wait.
	if gone || !q.query.Has("wait") {
		return q.noContent()
	}
	row := q.settle(b, q.query.Duration("wait", 0), func(row structs.Row) bool { return row == nil })
	if row == nil {
		return q.noContent()
	}
	return bays.written(q, http.StatusAccepted, row)
}

// settledBay answers a create or PATCH of a bay: at once, or with ?wait= when
// the bay has its hosts.
func (q *request) settledBay(b *structs.Bay, status int) error {
	if !q.query.Has("wait") {
		return bays.written(q, status, b)
	}
	row := q.settle(b, q.query.Duration("wait", 0), func(row structs.Row) bool {
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
