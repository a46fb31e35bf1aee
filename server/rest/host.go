package rest

import (
	"fmt"
	"iter"
	"net/http"

	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/rest/web"
	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/server/service"
	"github.com/stackforge/magnum/structs"
)

// hostBrief is the summary of a host. The type's name is that of a schema in the OpenAPI
// document.
type hostBrief struct {
	//api:doc UUID in canonical lower-case form.
	UUID string `json:"uuid"`
	//api:doc The machine's name.
	Name  string            `json:"name"`
	State structs.HostState `json:"state"`
	//api:doc Why the host is in this state.
	StateReason *string `json:"state_reason"`
	//api:doc UUID of the host's bay; null if no bay has claimed the host.
	BayUUID    *string `json:"bay_uuid"`
	Containers int     `json:"containers"`
	//api:doc URLs of the object: self, and bookmark without the version.
	Links []structs.Link `json:"links"`
}

// hosts belong to no project: the policy lets only operators see them.
var hosts = &web.Resource{
	Noun: "hosts", Kind: structs.KindHost, Table: structs.TableHosts,
	// Hosts are stored under project "", whichever project asks.
	Rows: func(v web.View, _ string, after uint64) iter.Seq[structs.Row] {
		return v.Snap.List(structs.TableHosts, "", after)
	},
	Watches: func(string) []service.Watch { return []service.Watch{{Table: structs.TableHosts}} },
	Sorts: map[string]func(a, b structs.Row) int{
		"name":  web.By(func(h *structs.Host) string { return h.Name }),
		"state": web.By(func(h *structs.Host) string { return string(h.State) }),
	},
	Filters: map[string]func(web.View, string) (func(structs.Row) bool, error){
		"name": web.FilterName(func(r structs.Row) string { return r.(*structs.Host).Name }),
		"status": web.FilterStatus(func(r structs.Row) string { return string(r.(*structs.Host).State) },
			structs.HostReady, structs.HostSuspect, structs.HostLost),
		"label": web.FilterLabel(func(r structs.Row) map[string]string { return r.(*structs.Host).AllLabels() }),
		"bay":   web.FilterBay(func(r structs.Row) string { return r.(*structs.Host).BayID }),
	},
	Summary: func(v web.View, r structs.Row) any {
		h := hostBody(v, r.(*structs.Host))
		return hostBrief{
			UUID: h.UUID, Name: h.Name, State: h.State, StateReason: h.StateReason, BayUUID: h.BayUUID,
			Containers: h.Containers, Links: h.Links,
		}
	},
	Detail: func(v web.View, r structs.Row) any { return wholeHost(v, r.(*structs.Host)) },
}

// wholeHost returns the detail of a host. The reason of a lost host also says what is
// still reserved for it, and what an operator can do.
func wholeHost(v web.View, h *structs.Host) structs.HostBody {
	body := hostBody(v, h)
	if h.State == structs.HostLost && !h.Fenced && body.Containers > 0 {
		reason := h.StateReason + fmt.Sprintf("; what it ran stays reserved, and exclusive containers are not started elsewhere, "+
			"until it is back with its engine, or an operator says that it is off: magnum host-fence %s", h.ID)
		body.StateReason = &reason
	}
	return body
}

// hostBody returns a host with all fields.
func hostBody(v web.View, h *structs.Host) structs.HostBody {
	used := v.Snap.Usage(h.ID)
	body := structs.HostBody{
		UUID: h.ID, Name: h.Name, State: h.State, StateReason: wire.OrNull(h.StateReason), BayUUID: wire.OrNull(h.BayID),
		Containers: used.Workloads, Links: v.Links("hosts", h.ID),
		MemoryUsed: used.Memory, CPUUsed: float64(used.MilliCPU) / 1000,
		CreatedAt: structs.Time{Time: h.CreatedAt}, UpdatedAt: structs.Time{Time: h.UpdatedAt},
		Fingerprint: h.Fingerprint,
	}
	body.Labels, body.Addresses = wire.Object(h.AllLabels()), wire.List(body.Addresses)
	body.Cluster = listed(body.Cluster)
	body.Draining, body.OperatorLabels = h.Draining, wire.Object(h.Labels)
	body.TokenLabels, body.AgentLabels = wire.Object(h.Granted), wire.Object(h.Fingerprint.Labels)
	body.Drain = drainBody(v, h)
	body.Braked, body.Fenced = h.Braked, h.Fenced
	body.Copies, body.CopyCount = wire.List(h.Copies), h.CopyCount
	body.Problems = make([]structs.ServiceProblem, len(h.Problems))
	for i, p := range h.Problems {
		p.Reason, _ = problemReason(v, &p)
		body.Problems[i] = p
	}
	body.Quarantine = quarantined(v, h.ID)
	return body
}

// quarantined returns the workloads in the host's quarantine.
func quarantined(v web.View, hostID string) []structs.QuarantinedBody {
	kept := []structs.QuarantinedBody{}
	for _, page := range v.Snap.Quarantine(hostID) {
		for _, k := range page.Kept {
			kept = append(kept, structs.QuarantinedBody{
				ContainerUUID: k.Ref().ID, Name: wire.OrNull(k.Name), ProjectID: wire.OrNull(k.ProjectID), Epoch: k.Epoch,
				State: wire.OrNull(k.State),
				Since: structs.Time{Time: k.Since}, Decided: wire.OrNull(string(k.Adoption)),
			})
		}
	}
	return kept
}

// drainWaits is how many containers that it waits for a drain names at most.
const drainWaits = 10

// drainBody returns the progress of the host's drain, nil if there is none.
func drainBody(v web.View, h *structs.Host) *structs.DrainBody {
	if !h.Draining {
		return nil
	}
	body := &structs.DrainBody{Deadline: structs.Time{Time: h.DrainUntil}, Forced: h.DrainForce, Waits: []string{}}
	for w := range v.Snap.OnHost(h.ID) {
		p := w.Place()
		if !structs.LeftOn(w, h.ID) {
			continue
		}
		body.Remaining++
		why := ""
		switch {
		case p.HostID != h.ID:
			body.Moving++
			if why = unready(v, w, h); why == "" {
				continue
			}
		case p.Desired == structs.DesiredAbsent:
			why = "it is being removed"
		case p.DrainStop:
			why = "it is being stopped"
		default:
			if why = structs.Movable(w); why == "" && w.Policy().Exclusive != structs.ExclusiveNo {
				why = "it is exclusive"
			}
		}
		if why == "" {
			why = "it waits for its turn, or for room on another host of its bay"
		}
		if len(body.Waits) < drainWaits {
			body.Waits = append(body.Waits, fmt.Sprintf("%s (%s): %s", structs.NameOf(w), w.Base().ID, why))
		}
	}
	return body
}

// unready says that the replacement of a workload that leaves the host runs and is not ready;
// "" if it doesn't run yet, or is not waited for.
func unready(v web.View, w structs.Workload, h *structs.Host) string {
	p := w.Place()
	if prior := p.PriorOn(h.ID); prior == nil || !prior.Keep || w.Seen().Status != structs.ContainerRunning || w.Ready() {
		return ""
	}
	why := "its health is " + w.Seen().Health
	if pod, ok := w.(*structs.Pod); ok {
		why = pod.Obstacle()
	}
	return fmt.Sprintf("it runs on host %s too, and stays until it is ready there: %s", v.Snap.Host(p.HostID).Name, why)
}

var (
	hostShape = wire.NewShape(structs.KindHost, structs.HostRequest{}, structs.HostBody{})
	hostPatch = wire.NewPatchRules(hostShape, structs.HostBody{}, nil, nil, []string{"labels"})
)

func hostRoutes() []*web.Route {
	get := web.Reading(hosts, hostBrief{}, structs.HostBody{}, identity.HostList, identity.HostDetail, identity.HostGet, web.FilterArgName,
		web.FilterArgStatus, web.FilterArgLabel, web.FilterArgBay)
	shown := web.OK(structs.HostBody{})
	return append(get,
		&web.Route{Method: http.MethodPatch, Path: "/hosts/:id", Action: identity.HostUpdate, Handle: patchHost,
			Summary: "Change the labels that operators give a host", Takes: []structs.PatchOp{}, Gives: shown},
		&web.Route{Method: http.MethodPut, Path: "/hosts/:id/drain", Action: identity.HostDrain, Handle: drainHost(true), Args: []wire.Arg{
			{Name: "deadline", Kind: wire.ArgDuration, Most: structs.MaxDrain, Doc: "Stop what can't move after this time; default never."},
			{Name: "force", Kind: wire.ArgBool, Doc: "Stop what can't move at once."},
		}, Summary: "Drain a host: move its containers to other hosts, and place nothing new on it", Gives: shown},
		&web.Route{Method: http.MethodPut, Path: "/hosts/:id/undrain", Action: identity.HostDrain, Handle: drainHost(false),
			Summary: "End a drain", Gives: shown},
		&web.Route{Method: http.MethodPut, Path: "/hosts/:id/fence", Action: identity.HostFence, Handle: fenceHost,
			Args:    []wire.Arg{{Name: "force", Kind: wire.ArgBool, Doc: "Also fence a host that is only suspect, which makes it lost."}},
			Summary: "Say that a lost host is off, so that its exclusive containers may be placed again", Gives: shown},
		&web.Route{Method: http.MethodPut, Path: "/hosts/:id/adopt", Action: identity.HostAdopt, Handle: adoptHost, Args: []wire.Arg{
			{Name: "container", Kind: wire.ArgText, Wants: true, Doc: "The container's uuid, or the name that it had."},
			{Name: "remove", Kind: wire.ArgBool,
				Doc: "Remove it from the host; default: adopt it as the cluster's container of that uuid, which must exist."},
		}, Summary: "Adopt or remove a container that is in a host's quarantine", Gives: shown},
		&web.Route{Method: http.MethodPut, Path: "/hosts/:id/release", Action: identity.HostRelease, Handle: releaseHost,
			Summary: "End the mass-loss brake for a host, which makes it lost", Gives: shown},
		&web.Route{Method: http.MethodDelete, Path: "/hosts/:id", Action: identity.HostDelete, Handle: deleteHost,
			Summary: "Delete a host that is lost, or drained and empty, and revoke its secret", Gives: web.DeletedNow()},
	)
}

// writeHost makes the handler of a change of a host.
func writeHost(decide func(*web.Request) (*structs.Host, error)) func(*web.Request) error {
	return web.Write(decide, func(q *web.Request, h *structs.Host) error { return hosts.Written(q, http.StatusOK, h) })
}

// patchHost changes the labels that operators give a host.
var patchHost = writeHost(func(q *web.Request) (*structs.Host, error) {
	p, err := q.DecodePatch(hostPatch)
	if err != nil {
		return nil, err
	}
	if err := p.CheckMutable(); err != nil {
		return nil, err
	}
	return q.Service.Hosts().Label(q.Context(), &q.Call, q.Ident(), func(body *structs.HostRequest) error { return p.Apply(body) })
})

// fenceHost takes an operator's word that a host is off.
var fenceHost = writeHost(func(q *web.Request) (*structs.Host, error) {
	return q.Service.Hosts().Fence(q.Context(), &q.Call, q.Ident(), q.Query.Bool("force", false))
})

// releaseHost ends the mass-loss brake for a host.
var releaseHost = writeHost(func(q *web.Request) (*structs.Host, error) {
	return q.Service.Hosts().Release(q.Context(), &q.Call, q.Ident())
})

// deleteHost deletes a host.
var deleteHost = web.Write(func(q *web.Request) (service.Removed[*structs.Host], error) {
	return q.Service.Hosts().Delete(q.Context(), &q.Call, q.Ident())
}, func(q *web.Request, _ service.Removed[*structs.Host]) error { return q.NoContent() })

// adoptHost adopts or removes a container in the host's quarantine.
var adoptHost = writeHost(func(q *web.Request) (*structs.Host, error) {
	return q.Service.Hosts().Adopt(q.Context(), &q.Call, q.Ident(), q.Query.Text("container"), q.Query.Bool("remove", false))
})

// drainHost makes the handler of drain and undrain.
func drainHost(draining bool) func(*web.Request) error {
	return writeHost(func(q *web.Request) (*structs.Host, error) {
		return q.Service.Hosts().Drain(q.Context(), &q.Call, service.DrainHost{
			Ident: q.Ident(), Draining: draining, Deadline: q.Query.Duration("deadline", 0), Force: q.Query.Bool("force", false),
		})
	})
}
