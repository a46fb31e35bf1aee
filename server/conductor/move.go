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

// move places a container anew on another host of the bay, under a new epoch,
// because its host has to do without it. keep lets the old one run until the
// new one does. If nothing fits, the container stays where it is and the reason
// is returned: the host may come back with it before there is room, and then
// nothing was restarted. The caller writes the row.
func (t *tx) move(c *structs.Container, bay *structs.Bay, keep bool) (reason string) {
	from := structs.Prior{HostID: c.HostID, Epoch: c.Epoch, Generation: c.Generation, Keep: keep, EngineID: c.Observed.EngineID}
	t.place(c, bay)
	if reason, c.PlaceReason = c.PlaceReason, ""; reason != "" {
		return reason
	}
	priors := append(slices.Clone(c.Priors), from)
	for i := 0; len(priors) > maxPriors && i < len(priors); {
		if h := row[structs.Host](t, priors[i].HostID); h == nil || h.State == structs.HostLost {
			priors = slices.Delete(priors, i, i+1)
			continue
		}
		i++
	}
	c.Priors = priors
	c.DrainStop = false
	c.KillGeneration, c.Signal = 0, "" // it was for a process of the old placement
	return ""
}

// release lets the earlier placements go that ran on: the newest one runs, or
// none is to run any more. It reports whether there were any.
func release(c *structs.Container) bool {
	if !slices.ContainsFunc(c.Priors, func(p structs.Prior) bool { return p.Keep }) {
		return false
	}
	c.Priors = slices.Clone(c.Priors)
	for i := range c.Priors {
		c.Priors[i].Keep = false
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

// leave takes the earlier placement off the host, which no longer has it. A
// container that was only waiting for that is deleted.
func (t *tx) leave(was *structs.Container, hostID string) {
	c := *was
	c.Priors = without(was.Priors, hostID)
	if t.over(&c) {
		t.remove(was)
		return
	}
	t.put(&c)
}

// over reports whether a container that is to go has no placement left but on
// lost hosts: should one come back, it removes what it isn't told of.
func (t *tx) over(c *structs.Container) bool {
	return c.Desired == structs.DesiredAbsent && c.HostID == "" && !slices.ContainsFunc(c.Priors, func(p structs.Prior) bool {
		h := row[structs.Host](t, p.HostID)
		return h != nil && h.State != structs.HostLost
	})
}

// markLost turns the containers of lost hosts Unknown, and places those anew
// that may be. What the others are is known again when the host reports.
func (t *tx) markLost() (full bool) {
	for bay := range t.bays() {
		for h := range t.hostsInBay(bay.ID) {
			if h.State != structs.HostLost {
				continue
			}
			refused := make(map[string]string)
			for c := range t.containersOnHost(h.ID) {
				if !t.room() || !t.item(func() { t.lost(c, h, bay, refused) }) {
					return true
				}
			}
		}
	}
	return false
}

// lost does what follows for one container when a host with a placement of it
// is lost. refused holds what did not fit in this step, by shape.
func (t *tx) lost(was *structs.Container, h *structs.Host, bay *structs.Bay, refused map[string]string) {
	if was.HostID != h.ID {
		if t.over(was) {
			t.remove(was)
		}
		return
	}
	c := *was
	reason := fmt.Sprintf("host %s is lost: %s", h.Name, h.StateReason)
	switch why := t.bound(&c, h); {
	case why != "":
		if c.Desired == structs.DesiredRunning {
			reason += "; it is not placed anew, because " + why
		}
	case bay.Status == structs.BayDeleting:
	default:
		shape := shapeOf(&c)
		why, ok := refused[shape]
		if !ok {
			why = t.move(&c, bay, false)
		}
		if why == "" {
			to := row[structs.Host](t, c.HostID)
			c.Observed.Reason = fmt.Sprintf("rescheduled from host %s, which is lost, to host %s", h.Name, to.Name)
			t.assign(&c)
			t.noteAction(structs.Caller{}, actionReschedule, was, 0)
			return
		}
		refused[shape] = why
		reason += "; it " + why
	}
	status := structs.ContainerUnknown
	if c.DrainStop && !c.LeftOn(h.ID) {
		status = c.Observed.Status // the host's last word: it moves on that once there is room
	}
	if c.Observed.Status == status && c.Observed.Reason == reason {
		return
	}
	c.Observed.Status, c.Observed.Reason = status, reason
	t.put(&c)
}

// actionReschedule is what the servers do to a container that they place anew.
const actionReschedule = "reschedule"

// bound says why a container can't be placed anew while its host is lost or
// drains; "" if it can.
func (t *tx) bound(c *structs.Container, h *structs.Host) string {
	why := c.Movable()
	switch {
	case why != "" || c.Spec.Exclusive == structs.ExclusiveNo:
		return why
	case !c.LeftOn(h.ID):
		return "" // the host has said that it stopped it, and starts it on no older word
	case h.State == structs.HostLost && c.Spec.Exclusive == structs.ExclusiveLease:
		return "" // its host has stopped it by now: see server/dispatch/lease.go
	case h.State == structs.HostLost && h.Fenced:
		return ""
	case h.State == structs.HostLost:
		return fmt.Sprintf("it is exclusive and may still run there: it goes on when the host is back, or elsewhere if the host is off and an operator says so: magnum host-fence %s", h.Name)
	}
	return "it is exclusive: it moves once it has stopped"
}

// shapeOf returns what decides where a container fits.
func shapeOf(c *structs.Container) string {
	return fmt.Sprint(c.Spec.Memory, c.Spec.MilliCPU, c.Spec.Ports, c.Spec.Constraints, c.ProjectID)
}
