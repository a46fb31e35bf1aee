package placing

import (
	"fmt"
	"slices"

	"github.com/stackforge/magnum/server/conductor/scratch"
	"github.com/stackforge/magnum/structs"
)

// maxPriors bounds the earlier placements in a row. Those on lost hosts are dropped first:
// a lost host that returns removes what isn't assigned to it.
const maxPriors = 8

// Move places a workload on another host of the bay, under a new epoch. keep lets the
// earlier placement run until the new one is ready. If no host fits, the workload keeps its
// placement, and the reason is returned: the host may return before there is room, and then
// nothing is restarted. The caller writes the row.
func Move(t *scratch.Tx, w structs.Workload, bay *structs.Bay, keep bool) (reason string) {
	p := w.Place()
	from := structs.Prior{HostID: p.HostID, Epoch: p.Epoch, Generation: p.Generation, Keep: keep, EngineID: w.Seen().EngineID}
	Place(t, w, bay)
	if reason, p.PlaceReason = p.PlaceReason, ""; reason != "" {
		return reason
	}
	priors := append(slices.Clone(p.Priors), from)
	for i := 0; len(priors) > maxPriors && i < len(priors); {
		if h := scratch.Row[structs.Host](t, priors[i].HostID); h == nil || h.State == structs.HostLost {
			priors = slices.Delete(priors, i, i+1)
			continue
		}
		i++
	}
	p.Priors = priors
	p.DrainStop = false
	w.Left()
	return ""
}

// PriorsExcept returns the earlier placements except the one on the host.
func PriorsExcept(priors []structs.Prior, hostID string) []structs.Prior {
	var left []structs.Prior
	for _, p := range priors {
		if p.HostID != hostID {
			left = append(left, p)
		}
	}
	return left
}

// LeaveHost removes the earlier placement on the host, which no longer has it. A deleted
// workload without other placements is removed.
func LeaveHost(t *scratch.Tx, was structs.Workload, hostID string) {
	w := was.Copy()
	p := w.Place()
	p.Priors = PriorsExcept(p.Priors, hostID)
	if FullyRemoved(t, p) {
		t.Remove(was)
		return
	}
	t.Put(w)
}

// FullyRemoved reports whether a deleted workload has no placement left except on lost
// hosts. A lost host that returns removes what isn't assigned to it.
func FullyRemoved(t *scratch.Tx, p *structs.Placement) bool {
	return p.Desired == structs.DesiredAbsent && p.HostID == "" && !slices.ContainsFunc(p.Priors, func(p structs.Prior) bool {
		h := scratch.Row[structs.Host](t, p.HostID)
		return h != nil && h.State != structs.HostLost
	})
}

// Immovable returns the reason why a workload can't be placed again while its host is lost
// or draining; "" if it can.
func Immovable(t *scratch.Tx, w structs.Workload, h *structs.Host) string {
	exclusive := w.Policy().Exclusive
	why := structs.Movable(w)
	switch {
	case why != "" || exclusive == structs.ExclusiveNo:
		return why
	case !structs.LeftOn(w, h.ID):
		return "" // the host has reported it stopped, and doesn't start it under an older assignment
	case h.State == structs.HostLost && exclusive == structs.ExclusiveLease:
		return "" // the host has stopped it by now: see server/dispatch/lease.go
	case h.State == structs.HostLost && h.Fenced:
		return ""
	case h.State == structs.HostLost:
		return fmt.Sprintf("it is exclusive and may still run there: it runs again when the host is back, or elsewhere once an "+
			"operator has confirmed that the host is off: magnum host-fence %s", h.Name)
	}
	return "it is exclusive: it moves once it has stopped"
}

// ShapeOf returns a key of all that decides where a workload fits.
func ShapeOf(w structs.Workload) string {
	if o, ok := w.(*structs.Object); ok {
		return o.ID // an object also waits for an earlier one of its name
	}
	d := w.Demand()
	return fmt.Sprint(d.Kind, d.Memory, d.MilliCPU, d.Ports, d.Constraints, w.Base().ProjectID)
}
