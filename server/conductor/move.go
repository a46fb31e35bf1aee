package conductor

import (
	"fmt"
	"slices"

	"github.com/stackforge/magnum/server/conductor/scratch"
	"github.com/stackforge/magnum/structs"
)

// maxPriors bounds the earlier placements in a row. Those on lost hosts are dropped first:
// a lost host that returns removes what isn't assigned to it.
const maxPriors = 8

// move places a workload on another host of the bay, under a new epoch. keep lets the
// earlier placement run until the new one does. If no host fits, the workload keeps its
// placement, and the reason is returned: the host may return before there is room, and then
// nothing is restarted. The caller writes the row.
func (pl placer) move(w structs.Workload, bay *structs.Bay, keep bool) (reason string) {
	p := w.Place()
	from := structs.Prior{HostID: p.HostID, Epoch: p.Epoch, Generation: p.Generation, Keep: keep, EngineID: w.Seen().EngineID}
	pl.place(w, bay)
	if reason, p.PlaceReason = p.PlaceReason, ""; reason != "" {
		return reason
	}
	priors := append(slices.Clone(p.Priors), from)
	for i := 0; len(priors) > maxPriors && i < len(priors); {
		if h := scratch.Row[structs.Host](pl.t, priors[i].HostID); h == nil || h.State == structs.HostLost {
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

// priorsExcept returns the earlier placements except the one on the host.
func priorsExcept(priors []structs.Prior, hostID string) []structs.Prior {
	var left []structs.Prior
	for _, p := range priors {
		if p.HostID != hostID {
			left = append(left, p)
		}
	}
	return left
}

// leaveHost removes the earlier placement on the host, which no longer has it. A deleted
// workload without other placements is removed.
func leaveHost(t *scratch.Tx, was structs.Workload, hostID string) {
	w := was.Copy()
	p := w.Place()
	p.Priors = priorsExcept(p.Priors, hostID)
	if fullyRemoved(t, p) {
		t.Remove(was)
		return
	}
	t.Put(w)
}

// fullyRemoved reports whether a deleted workload has no placement left except on lost
// hosts. A lost host that returns removes what isn't assigned to it.
func fullyRemoved(t *scratch.Tx, p *structs.Placement) bool {
	return p.Desired == structs.DesiredAbsent && p.HostID == "" && !slices.ContainsFunc(p.Priors, func(p structs.Prior) bool {
		h := scratch.Row[structs.Host](t, p.HostID)
		return h != nil && h.State != structs.HostLost
	})
}

// markLost sets the workloads of lost hosts to Unknown, and places those again that may
// move. The others keep that status until the host reports.
func markLost(t *scratch.Tx) (full bool) {
	for h := range t.UnsettledHosts() {
		bay := scratch.Row[structs.Bay](t, h.BayID)
		if h.State != structs.HostLost || bay == nil {
			continue
		}
		refused := make(map[string]string)
		for w := range t.OnHost(h.ID) {
			if !t.Room() || !t.Item(func() { moveOffLostHost(t, w, h, bay, refused) }) {
				return true
			}
		}
	}
	return false
}

// moveOffLostHost handles one workload with a placement on a lost host. refused contains
// the shapes that didn't fit in this step, with the reasons.
func moveOffLostHost(t *scratch.Tx, was structs.Workload, h *structs.Host, bay *structs.Bay, refused map[string]string) {
	if p := was.Place(); p.HostID != h.ID {
		if fullyRemoved(t, p) {
			t.Remove(was)
		}
		return
	}
	w := was.Copy()
	p := w.Place()
	reason := fmt.Sprintf("host %s is lost: %s", h.Name, h.StateReason)
	switch why := immovable(t, w, h); {
	case why != "":
		if p.Desired == structs.DesiredRunning {
			reason += "; it is not placed again, because " + why
		}
	case bay.Status == structs.BayDeleting:
	default:
		shape := shapeOf(w)
		why, ok := refused[shape]
		if !ok {
			why = newPlacer(t).move(w, bay, false)
		}
		if why == "" {
			to := scratch.Row[structs.Host](t, p.HostID)
			seen := w.Seen()
			seen.Reason = fmt.Sprintf("rescheduled from host %s, which is lost, to host %s", h.Name, to.Name)
			w.See(seen)
			t.Assign(w)
			noteAction(t, structs.Caller{}, actionReschedule, was, 0)
			return
		}
		refused[shape] = why
		reason += "; it " + why
	}
	seen := w.Seen()
	status := structs.ContainerUnknown
	if p.DrainStop && !structs.LeftOn(w, h.ID) {
		status = seen.Status // the host's last report, by which it moves once there is room
	}
	if seen.Status == status && seen.Reason == reason {
		return
	}
	seen.Status, seen.Reason = status, reason
	w.See(seen)
	t.Put(w)
}

// actionReschedule is the servers' own action of placing a workload again.
const actionReschedule = "reschedule"

// immovable returns the reason why a workload can't be placed again while its host is lost
// or draining; "" if it can.
func immovable(t *scratch.Tx, w structs.Workload, h *structs.Host) string {
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

// shapeOf returns a key of all that decides where a workload fits.
func shapeOf(w structs.Workload) string {
	d := w.Demand()
	return fmt.Sprint(d.Memory, d.MilliCPU, d.Ports, d.Constraints, w.Base().ProjectID)
}
