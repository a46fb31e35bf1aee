package placing

import (
	"slices"

	"github.com/stackforge/magnum/server/conductor/scratch"
	"github.com/stackforge/magnum/server/schedule"
	"github.com/stackforge/magnum/structs"
)

// factsOf returns, for the scheduler, whether a host without room for another project's
// network already has the network of the workload's project, and which node ports the bay has.
func factsOf(t *scratch.Tx, w structs.Workload) *schedule.Facts {
	return &schedule.Facts{
		Network: func(h *schedule.Host) bool { return hasNetwork(t, h.ID, w) },
		NodePort: func(protocol string, port int) bool {
			return t.Reserved.NodePort(w.Place().BayID, protocol, port) != ""
		},
	}
}

// hasNetwork reports whether another workload of the project has been created on the host.
func hasNetwork(t *scratch.Tx, hostID string, w structs.Workload) bool {
	for other := range t.OnHost(hostID) {
		if other.Base().ProjectID == w.Base().ProjectID && other.Place().HostID == hostID && made(other) &&
			(other.Base().ID != w.Base().ID || other.Table() != w.Table()) {
			return true
		}
	}
	return false
}

// made reports whether the workload was observed on its host.
func made(w structs.Workload) bool {
	seen := w.Seen()
	return !w.Place().Gone && seen.Made()
}

// Refuse moves a workload off a host that can't create it for lack of a network. If no
// other host fits, the workload waits. Refuse returns false if the workload stays where it
// is, and its host tries again.
func Refuse(t *scratch.Tx, was structs.Workload) bool {
	p := was.Place()
	bay := scratch.Row[structs.Bay](t, p.BayID)
	switch {
	case bay == nil || bay.Status == structs.BayDeleting, p.Desired == structs.DesiredAbsent, made(was):
		return false
	case was.Policy().Fixed:
		return false
	case was.Policy().Volume != "" && p.Epoch > 1:
		return false // the volume's content may be on that host
	case len(p.Priors) >= maxPriors:
		return false // the earlier hosts have yet to report it gone
	}
	w := was.Copy()
	after := w.Place()
	// The host keeps the assignment until it reports that nothing is there.
	after.Priors = append(slices.Clone(p.Priors), structs.Prior{HostID: p.HostID, Epoch: p.Epoch, Generation: p.Generation})
	after.HostID = ""
	w.Forget()
	Place(t, w, bay)
	t.Assign(w)
	return true
}
