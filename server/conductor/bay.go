package conductor

import (
	"cmp"
	"fmt"

	"github.com/stackforge/magnum/server/conductor/quarantine"
	"github.com/stackforge/magnum/server/conductor/scratch"
	"github.com/stackforge/magnum/structs"
)

// CreateBay creates a bay and claims free hosts for it.
type CreateBay struct {
	Caller       structs.Caller
	Once         Once
	UUID         string
	Name         string // "" means a generated one
	BayModel     string // UUID or name, "" means none
	COE          string // "" means the baymodel's, else docker
	NodeCount    int
	DiscoveryURL string
	Timeout      int // minutes, 0 means none
	Labels       map[string]string
	Placement    structs.PlacementStrategy
	Shared       bool // rest accepts it from operators only
}

func (r CreateBay) decide(t *scratch.Tx) (*structs.Bay, error) {
	return once(t, r.Once, r.Caller, func() (*structs.Bay, error) {
		coe, modelID := r.COE, ""
		if r.BayModel != "" {
			model, err := lookup(t, r.Caller, structs.KindBayModel, r.BayModel)
			if structs.CodeOf(err) == structs.CodeNotFound {
				return nil, structs.Errorf(structs.CodeInvalid, "BayModel %s could not be found.",
					r.BayModel).About(structs.KindBayModel).With(structs.HintUnknown)
			}
			if err != nil {
				return nil, err
			}
			modelID = model.Base().ID
			coe = cmp.Or(coe, model.(*structs.BayModel).COE)
		}
		meta, err := newMeta(t, r.Caller, structs.TableBays, structs.KindBay, r.UUID)
		if err != nil {
			return nil, err
		}
		b := &structs.Bay{
			Meta: meta, Name: cmp.Or(r.Name, structs.GenerateName(meta.ID)), BayModelID: modelID, COE: cmp.Or(coe, "docker"),
			NodeCount: r.NodeCount, DiscoveryURL: r.DiscoveryURL, Timeout: r.Timeout, Labels: r.Labels,
			Placement: r.Placement, Shared: r.Shared, Status: structs.BayCreating,
		}
		t.Put(b)
		b, _ = claimHosts(t, b)
		return b, nil
	})
}

// claimHosts claims free hosts for the bay until it has NodeCount, and writes the resulting
// status. full is true if the entry had no room for all claims; Settle continues.
func claimHosts(t *scratch.Tx, b *structs.Bay) (after *structs.Bay, full bool) {
	if b.Backend() == structs.BackendKubernetes {
		return claimCluster(t, b)
	}
	have, lost := 0, 0
	for h := range t.HostsInBay(b.ID) {
		if h.State == structs.HostLost {
			lost++ // a free host replaces it
		} else {
			have++
		}
	}
	if have < b.NodeCount {
		// The bay's row is written after those of its hosts.
		kept := t.SizeOf(b) + maxReason
		for h := range t.HostsInBay("") {
			if have == b.NodeCount {
				break
			}
			if h.State != structs.HostReady || h.Draining || h.Fingerprint.Backend != b.Backend() || !hasLabels(h, b.Labels) {
				continue
			}
			host := *h
			host.BayID, host.BayIndex = b.ID, t.Base.Index()
			if t.Writes() >= structs.MaxChanges-2 || !t.ItemKeeping(kept, func() { t.Put(&host) }) {
				full = true
				break
			}
			have++
		}
	}
	after = b
	if !t.Item(func() { after = writeProgress(t, b, have, lost) }) {
		return b, true
	}
	return after, full
}

// maxReason is an upper bound for the size of a bay's status reason, in bytes.
const maxReason = 1024

// writeProgress writes the bay's status. have is the number of its hosts that are not lost,
// lost the number of those that are. A complete bay stays complete when a host is lost, or
// when that host returns after another one has replaced it: nobody has asked for an update,
// and clients wait for complete bays.
func writeProgress(t *scratch.Tx, b *structs.Bay, have, lost int) *structs.Bay {
	changed := *b
	missing := have < b.NodeCount
	surplus := have > b.NodeCount
	switch {
	case missing && lost > 0 && have+lost >= b.NodeCount && !b.Status.InProgress():
	case missing && (b.Status == structs.BayUpdated || b.Status == structs.BayCreated):
		changed.Status = structs.BayUpdating
	case !missing && !surplus && b.Status == structs.BayCreating:
		changed.Status = structs.BayCreated
	case !missing && !surplus && (b.Status == structs.BayUpdating || b.Status == structs.BayCreateFailed):
		changed.Status = structs.BayUpdated
	}
	changed.StatusReason = ""
	switch {
	case missing && b.Status == structs.BayCreateFailed:
		changed.StatusReason = b.StatusReason
	case missing && lost > 0:
		changed.StatusReason = fmt.Sprintf("%d of %d hosts: %d %s lost; waits for %s hosts that are free%s to take their place; start "+
			"an agent on one, or bring the lost ones back", have, b.NodeCount, lost, areOrIs(lost), b.Backend(), withLabels(b.Labels))
	case missing:
		changed.StatusReason = fmt.Sprintf("%d of %d hosts: waits for %s hosts that are free%s; start an agent on one", have, b.NodeCount,
			b.Backend(), withLabels(b.Labels))
	case surplus:
		changed.StatusReason = fmt.Sprintf("%d hosts, %d wanted: surplus hosts leave once they have no containers, in quarantine or not",
			have, b.NodeCount)
	}
	if changed.Status == b.Status && changed.StatusReason == b.StatusReason {
		return b
	}
	t.Put(&changed)
	return &changed
}

func areOrIs(n int) string {
	if n == 1 {
		return "is"
	}
	return "are"
}

func withLabels(labels map[string]string) string {
	if len(labels) == 0 {
		return ""
	}
	return " and carry its labels"
}

func hasLabels(h *structs.Host, labels map[string]string) bool {
	for k, v := range labels {
		if got, ok := h.AllLabels()[k]; !ok || got != v {
			return false
		}
	}
	return true
}

// PatchBay changes the number of hosts that a bay should have, and nothing else.
type PatchBay struct {
	Caller    structs.Caller
	Ident     string
	NodeCount int
}

func (r PatchBay) decide(t *scratch.Tx) (*structs.Bay, error) {
	b, err := changeableBay(t, r.Caller, r.Ident)
	if err != nil {
		return nil, err
	}
	if b.Status != structs.BayCreated && b.Status != structs.BayUpdated {
		return nil, structs.Errorf(structs.CodeInvalid, "Updating a bay when status is \"%s\" is not supported",
			b.Status).About(structs.KindBay)
	}
	changed := *b
	changed.NodeCount = r.NodeCount
	changed.Status = structs.BayUpdating
	changed.UpdatedAt = t.Now
	t.Put(&changed)
	shrinkBay(t, &changed)
	after, _ := claimHosts(t, &changed)
	return after, nil
}

// shrinkBay frees hosts without containers while the bay has more hosts than it should. It
// returns true if the entry had no room for all of them.
func shrinkBay(t *scratch.Tx, b *structs.Bay) (full bool) {
	var empty []*structs.Host
	have := 0
	for h := range t.HostsInBay(b.ID) {
		if h.State != structs.HostLost {
			have++
		}
		if t.Reserved.Used(h.ID).Workloads == 0 && !quarantine.Has(t, h) {
			empty = append(empty, h)
		}
	}
	for _, h := range empty {
		replaced := h.State == structs.HostLost && have >= b.Hosts()
		surplus := h.State != structs.HostLost && have > b.Hosts()
		if !replaced && !surplus {
			continue
		}
		if t.Writes() >= structs.MaxChanges-2 || !t.Item(func() { freeHost(t, h) }) {
			return true
		}
		if surplus {
			have--
		}
	}
	return false
}

func freeHost(t *scratch.Tx, h *structs.Host) {
	host := *h
	host.BayID, host.BayIndex = "", t.Base.Index()
	t.Put(&host)
}

// changeableBay finds a bay that the caller may change: one of its project, or any bay for
// operators. A shared bay of another project is visible, but can't be changed.
func changeableBay(t *scratch.Tx, caller structs.Caller, ident string) (*structs.Bay, error) {
	b, err := find[*structs.Bay](t, caller, structs.KindBay, ident)
	if err != nil {
		return nil, err
	}
	if b.ProjectID != caller.ProjectID && !caller.Is(structs.RoleAdmin) {
		return nil, structs.Errorf(structs.CodeForbidden, "bay %s is shared with your project: only its operator can change it",
			b.Name).About(structs.KindBay)
	}
	return b, nil
}

// DeleteBay begins the deletion of a bay: Settle removes its containers, frees its hosts
// and deletes its row.
type DeleteBay struct {
	Caller structs.Caller
	Ident  string
}

func (r DeleteBay) decide(t *scratch.Tx) (*structs.Bay, error) {
	b, err := changeableBay(t, r.Caller, r.Ident)
	if err != nil {
		return nil, err
	}
	if b.Status == structs.BayDeleting {
		return b, nil
	}
	changed := *b
	changed.Status, changed.StatusReason = structs.BayDeleting, "its containers are being removed"
	changed.UpdatedAt = t.Now
	t.Put(&changed)
	return &changed, nil
}

// FailBay fails the creation of a bay after its timeout.
type FailBay struct {
	ID string
}

func (r FailBay) decide(t *scratch.Tx) (struct{}, error) {
	b := scratch.Row[structs.Bay](t, r.ID)
	if b == nil || b.Status != structs.BayCreating {
		return struct{}{}, nil
	}
	changed := *b
	changed.Status = structs.BayCreateFailed
	changed.StatusReason = fmt.Sprintf("not complete after bay_create_timeout of %d minutes: %s", b.Timeout, b.StatusReason)
	t.Put(&changed)
	return struct{}{}, nil
}
