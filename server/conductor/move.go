package conductor

import (
	"fmt"
	"slices"

	"github.com/stackforge/magnum/structs"
)

// maxPriors bounds the earlier placements that a row remembers. Those on lost
// hosts are forgotten first: should such a host come back, it removes what it
// isn't told of.
const maxPriors = 8

// move places a workload again on another host of the bay, under a new epoch,
// because its host has to do without it. keep lets the old one run until the
// new one does. If nothing fits, the workload stays where it is and the reason
// is returned: the host may come back with it before there is room, and then
// nothing was restarted. The caller writes the row.
func (pl placer) move(w structs.Workload, bay *structs.Bay, keep bool) (reason string) {
	p := w.Place()
	from := structs.Prior{HostID: p.HostID, Epoch: p.Epoch, Generation: p.Generation, Keep: keep, EngineID: w.Seen().EngineID}
	pl.place(w, bay)
	if reason, p.PlaceReason = p.PlaceReason, ""; reason != "" {
		return reason
	}
	priors := append(slices.Clone(p.Priors), from)
	for i := 0; len(priors) > maxPriors && i < len(priors); {
		if h := row[structs.Host](pl.t, priors[i].HostID); h == nil || h.State == structs.HostLost {
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

// release clears Keep on the earlier placements: the newest one runs, or none is to
// run any more. It reports whether it was set on any.
func release(p *structs.Placement) bool {
	if !slices.ContainsFunc(p.Priors, func(p structs.Prior) bool { return p.Keep }) {
		return false
	}
	p.Priors = slices.Clone(p.Priors)
	for i := range p.Priors {
		p.Priors[i].Keep = false
	}
	return true
}

// without returns the earlier placements but the one on the host.
func without(priors []structs.Prior, hostID string) []structs.Prior {
	var left []structs.Prior
	for _, p := range priors {
		if p.HostID != hostID {
			left = append(left, p)
		}
	}
	return left
}

// leaveHost takes the earlier placement off the host, which no longer has it. A
// workload that was only waiting for that is deleted.
func leaveHost(t *tx, was structs.Workload, hostID string) {
	w := was.Copy()
	p := w.Place()
	p.Priors = without(p.Priors, hostID)
	if isOver(t, p) {
		t.remove(was)
		return
	}
	t.put(w)
}

// isOver reports whether a workload that is to go has no placement left but on
// lost hosts: should one come back, it removes what it isn't told of.
func isOver(t *tx, p *structs.Placement) bool {
	return p.Desired == structs.DesiredAbsent && p.HostID == "" && !slices.ContainsFunc(p.Priors, func(p structs.Prior) bool {
		h := row[structs.Host](t, p.HostID)
		return h != nil && h.State != structs.HostLost
	})
}

// markLost turns the workloads of lost hosts Unknown, and places those again
// that may be. What the others are is known again when the host reports.
func markLost(t *tx) (full bool) {
	for h := range t.unsettledHosts() {
		bay := row[structs.Bay](t, h.BayID)
		if h.State != structs.HostLost || bay == nil {
			continue
		}
		refused := make(map[string]string)
		for w := range t.onHost(h.ID) {
			if !t.room() || !t.item(func() { leaveLost(t, w, h, bay, refused) }) {
				return true
			}
		}
	}
	return false
}

// leaveLost does what follows for one workload when a host with a placement of it
// is lost. refused holds what did not fit in this step, by shape.
func leaveLost(t *tx, was structs.Workload, h *structs.Host, bay *structs.Bay, refused map[string]string) {
	if p := was.Place(); p.HostID != h.ID {
		if isOver(t, p) {
			t.remove(was)
		}
		return
	}
	w := was.Copy()
	p := w.Place()
	reason := fmt.Sprintf("host %s is lost: %s", h.Name, h.StateReason)
	switch why := bound(t, w, h); {
	case why != "":
		if p.Desired == structs.DesiredRunning {
			reason += "; it is not placed anew, because " + why
		}
	case bay.Status == structs.BayDeleting:
	default:
		shape := shapeOf(w)
		why, ok := refused[shape]
		if !ok {
			why = newPlacer(t).move(w, bay, false)
		}
		if why == "" {
			to := row[structs.Host](t, p.HostID)
			seen := w.Seen()
			seen.Reason = fmt.Sprintf("rescheduled from host %s, which is lost, to host %s", h.Name, to.Name)
			w.See(seen)
			t.assign(w)
			noteAction(t, structs.Caller{}, actionReschedule, was, 0)
			return
		}
		refused[shape] = why
		reason += "; it " + why
	}
	seen := w.Seen()
	status := structs.ContainerUnknown
	if p.DrainStop && !structs.LeftOn(w, h.ID) {
		status = seen.Status // the host's last word: it moves on that once there is room
	}
	if seen.Status == status && seen.Reason == reason {
		return
	}
	seen.Status, seen.Reason = status, reason
	w.See(seen)
	t.put(w)
}

// actionReschedule is what the servers do to a workload that they place again.
const actionReschedule = "reschedule"

// bound says why a workload can't be placed again while its host is lost or
// drains; "" if it can.
func bound(t *tx, w structs.Workload, h *structs.Host) string {
	exclusive := w.Policy().Exclusive
	why := structs.Movable(w)
	switch {
	case why != "" || exclusive == structs.ExclusiveNo:
		return why
	case !structs.LeftOn(w, h.ID):
		return "" // the host has said that it stopped it, and starts it on no older word
	case h.State == structs.HostLost && exclusive == structs.ExclusiveLease:
		return "" // its host has stopped it by now: see server/dispatch/lease.go
	case h.State == structs.HostLost && h.Fenced:
		return ""
	case h.State == structs.HostLost:
		return fmt.Sprintf("it is exclusive and may still run there: it goes on when the host is back, or elsewhere if the host is off and an operator says so: magnum host-fence %s", h.Name)
	}
	return "it is exclusive: it moves once it has stopped"
}

// shapeOf returns what decides where a workload fits.
func shapeOf(w structs.Workload) string {
	d := w.Demand()
	return fmt.Sprint(d.Memory, d.MilliCPU, d.Ports, d.Constraints, w.Base().ProjectID)
}
