package rest

import (
	"fmt"
	"iter"
	"net/http"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/structs"
)

// hostBrief is a host as lists show it.
type hostBrief struct {
	UUID        string            `json:"uuid"`
	Name        string            `json:"name"`
	State       structs.HostState `json:"state"`
	StateReason *string           `json:"state_reason"`
	BayUUID     *string           `json:"bay_uuid"`
	Containers  int               `json:"containers"`
	Links       []structs.Link    `json:"links"`
}

// hosts belong to no project: the policy lets only operators see them.
var hosts = &resource{
	noun: "hosts", kind: structs.KindHost, table: structs.TableHosts,
	// Whoever asks, they are in project "".
	rows: func(v view, _ string, after uint64) iter.Seq[structs.Row] {
		return v.snap.List(structs.TableHosts, "", after)
	},
	watches: func(string) []watch { return []watch{{structs.TableHosts, ""}} },
	sorts: map[string]func(a, b structs.Row) int{
		"name":  by(func(h *structs.Host) string { return h.Name }),
		"state": by(func(h *structs.Host) string { return string(h.State) }),
	},
	filters: map[string]func(view, string) (func(structs.Row) bool, error){
		"name":   filterName(func(r structs.Row) string { return r.(*structs.Host).Name }),
		"status": filterStatus(func(r structs.Row) string { return string(r.(*structs.Host).State) }),
		"label":  filterLabel(func(r structs.Row) map[string]string { return r.(*structs.Host).AllLabels() }),
		"bay":    filterBay(func(r structs.Row) string { return r.(*structs.Host).BayID }),
	},
	brief: func(v view, r structs.Row) any {
		h := v.host(r.(*structs.Host))
		return hostBrief{
			UUID: h.UUID, Name: h.Name, State: h.State, StateReason: h.StateReason, BayUUID: h.BayUUID,
			Containers: h.Containers, Links: h.Links,
		}
	},
	full: func(v view, r structs.Row) any { return v.wholeHost(r.(*structs.Host)) },
}

// wholeHost returns the host, and of one that is lost also what holds on to it and
// the way out.
func (v view) wholeHost(h *structs.Host) structs.HostBody {
	body := v.host(h)
	if h.State == structs.HostLost && !h.Fenced && body.Containers > 0 {
		reason := h.StateReason + fmt.Sprintf("; what it ran stays reserved, and exclusive containers are not started elsewhere, until it is back with its engine, or an operator says that it is off: magnum host-fence %s", h.ID)
		body.StateReason = &reason
	}
	return body
}

// host returns the host as operators see it.
func (v view) host(h *structs.Host) structs.HostBody {
	used := v.snap.Usage(h.ID)
	body := structs.HostBody{
		UUID: h.ID, Name: h.Name, State: h.State, StateReason: wire.OrNull(h.StateReason), BayUUID: wire.OrNull(h.BayID),
		Containers: used.Containers, Links: v.links("hosts", h.ID),
		MemoryUsed: used.Memory, CPUUsed: float64(used.MilliCPU) / 1000,
		CreatedAt: structs.Time{Time: h.CreatedAt}, UpdatedAt: structs.Time{Time: h.UpdatedAt},
		Fingerprint: h.Fingerprint,
	}
	body.Labels, body.Addresses = wire.Object(h.AllLabels()), wire.List(body.Addresses)
	body.Draining, body.OperatorLabels = h.Draining, wire.Object(h.Labels)
	body.Drain = v.drain(h)
	body.Braked, body.Fenced = h.Braked, h.Fenced
	body.Copies, body.CopyCount = wire.List(h.Copies), h.CopyCount
	body.Quarantine = v.quarantine(h.ID)
	return body
}

// quarantine returns what the host keeps in quarantine.
func (v view) quarantine(hostID string) []structs.QuarantinedBody {
	kept := []structs.QuarantinedBody{}
	for _, page := range v.snap.Quarantine(hostID) {
		for _, k := range page.Kept {
			kept = append(kept, structs.QuarantinedBody{
				ContainerUUID: k.ContainerID, Name: wire.OrNull(k.Name), ProjectID: wire.OrNull(k.ProjectID), Epoch: k.Epoch, State: wire.OrNull(k.State),
				Since: structs.Time{Time: k.Since}, Decided: wire.OrNull(string(k.Adoption)),
			})
		}
	}
	return kept
}

// drainWaits is how many containers a drain names that can't move.
const drainWaits = 10

// drain returns how far the host's drain is, nil if there is none.
func (v view) drain(h *structs.Host) *structs.DrainBody {
	if !h.Draining {
		return nil
	}
	body := &structs.DrainBody{Deadline: structs.Time{Time: h.DrainUntil}, Forced: h.DrainForce, Waits: []string{}}
	for c := range v.snap.ContainersOnHost(h.ID) {
		if !c.LeftOn(h.ID) {
			continue
		}
		body.Remaining++
		why := ""
		switch {
		case c.HostID != h.ID:
			body.Moving++
			continue
		case c.Desired == structs.DesiredAbsent:
			why = "it is being removed"
		case c.DrainStop:
			why = "it is being stopped"
		default:
			if why = c.Movable(); why == "" && c.Spec.Exclusive != structs.ExclusiveNo {
				why = "it is exclusive"
			}
		}
		if why == "" {
			why = "it waits for its turn, or for room on another host of its bay"
		}
		if len(body.Waits) < drainWaits {
			body.Waits = append(body.Waits, fmt.Sprintf("%s (%s): %s", c.Name, c.ID, why))
		}
	}
	return body
}

var (
	hostShape = wire.NewShape(structs.KindHost, structs.HostRequest{}, structs.HostBody{})
	hostPatch = wire.NewPatchRules(hostShape, structs.HostBody{}, nil, nil, []string{"labels"})
)

// patchHost changes the labels that operators give a host.
func patchHost(q *request) error {
	p, err := q.decodePatch(hostPatch)
	if err != nil {
		return err
	}
	if err := p.CheckMutable(); err != nil {
		return err
	}
	h, err := decide(q, conductor.LabelHost{Caller: q.caller(), Ident: q.ident(), Apply: func(was map[string]string) (map[string]string, error) {
		body := structs.HostRequest{Labels: was}
		if err := p.Apply(&body); err != nil {
			return nil, err
		}
		return body.Labels, structs.CheckRowLabels("labels", body.Labels)
	}})
	if err != nil {
		return err
	}
	return hosts.written(q, http.StatusOK, h)
}

// fenceHost takes an operator's word that a host is off.
func fenceHost(q *request) error {
	h, err := decide(q, conductor.FenceHost{Caller: q.caller(), Ident: q.ident(), Force: q.query.Bool("force", false)})
	if err != nil {
		return err
	}
	return hosts.written(q, http.StatusOK, h)
}

// releaseHost ends the mass-loss brake for a host.
func releaseHost(q *request) error {
	h, err := decide(q, conductor.ReleaseHost{Caller: q.caller(), Ident: q.ident()})
	if err != nil {
		return err
	}
	return hosts.written(q, http.StatusOK, h)
}

// adoptHost decides what becomes of a container in the host's quarantine.
func adoptHost(q *request) error {
	h, err := decide(q, conductor.AdoptContainer{Caller: q.caller(), Host: q.ident(), Container: q.query.Text("container"), Remove: q.query.Bool("remove", false)})
	if err != nil {
		return err
	}
	return hosts.written(q, http.StatusOK, h)
}

// drainHost makes the handler of drain and undrain.
func drainHost(draining bool) func(*request) error {
	return func(q *request) error {
		h, err := decide(q, conductor.DrainHost{
			Caller: q.caller(), Ident: q.ident(), Draining: draining,
			Deadline: q.query.Duration("deadline", 0), Force: q.query.Bool("force", false),
		})
		if err != nil {
			return err
		}
		return hosts.written(q, http.StatusOK, h)
	}
}

// filterBay takes a bay's UUID or name.
func filterBay(bayID func(structs.Row) string) func(view, string) (func(structs.Row) bool, error) {
	return func(v view, value string) (func(structs.Row) bool, error) {
		bay, err := conductor.Lookup(v.snap, v.caller, structs.KindBay, value)
		if structs.CodeOf(err) == structs.CodeNotFound {
			return nil, structs.Errorf(structs.CodeInvalid, "Bay %s could not be found.", wire.Short(value)).About(structs.KindBay)
		}
		if err != nil {
			return nil, err
		}
		id := bay.Base().ID
		return func(r structs.Row) bool { return bayID(r) == id }, nil
	}
}
