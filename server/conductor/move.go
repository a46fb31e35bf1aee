package conductor

import (
	"fmt"

	"github.com/stackforge/magnum/server/conductor/actions"
	"github.com/stackforge/magnum/server/conductor/placing"
	"github.com/stackforge/magnum/server/conductor/scratch"
	"github.com/stackforge/magnum/structs"
)

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
		if placing.FullyRemoved(t, p) {
			t.Remove(was)
		}
		return
	}
	w := was.Copy()
	p := w.Place()
	reason := fmt.Sprintf("host %s is lost: %s", h.Name, h.StateReason)
	switch why := placing.Immovable(t, w, h); {
	case why != "":
		if p.Desired == structs.DesiredRunning {
			reason += "; it is not placed again, because " + why
		}
	case bay.Status == structs.BayDeleting:
	default:
		shape := placing.ShapeOf(w)
		why, ok := refused[shape]
		if !ok {
			why = placing.Move(t, w, bay, false)
		}
		if why == "" {
			to := scratch.Row[structs.Host](t, p.HostID)
			seen := w.Seen()
			seen.Reason = fmt.Sprintf("rescheduled from host %s, which is lost, to host %s", h.Name, to.Name)
			w.See(seen)
			t.Assign(w)
			actions.Note(t, structs.Caller{}, actionReschedule, was, 0)
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
