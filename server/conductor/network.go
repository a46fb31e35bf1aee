package conductor

import (
	"slices"

	"github.com/stackforge/magnum/server/schedule"
	"github.com/stackforge/magnum/structs"
)

// networksOf tells the scheduler whether a host that has no room for another project's
// network has one of the workload's project.
func (pl placer) networksOf(w structs.Workload) schedule.Networks {
	return func(h *schedule.Host) bool { return pl.hasNetwork(h.ID, w) }
}

// hasNetwork reports whether the host has made another workload of the project.
func (pl placer) hasNetwork(hostID string, w structs.Workload) bool {
	for other := range pl.t.onHost(hostID) {
		if other.Base().ProjectID == w.Base().ProjectID && other.Place().HostID == hostID && made(other) &&
			(other.Base().ID != w.Base().ID || other.Table() != w.Table()) {
			return true
		}
	}
	return false
}

// made reports whether the workload's host has been seen to have it.
func made(w structs.Workload) bool {
	seen := w.Seen()
	return !w.Place().Gone && seen.Made()
}

// refuse takes a workload off a host that can't make it, for want of a network,
// and places it on another one; if none fits, it waits. false means that it stays
// where it is, and its host tries again.
func (pl placer) refuse(was structs.Workload) bool {
	p := was.Place()
	bay := row[structs.Bay](pl.t, p.BayID)
	switch {
	case bay == nil || bay.Status == structs.BayDeleting, p.Desired == structs.DesiredAbsent, made(was):
		return false
	case was.Policy().Volume != "" && p.Epoch > 1:
		return false // what is in the volume may be on that host
	case len(p.Priors) >= maxPriors:
		return false // those hosts have yet to say that they have nothing of it
	}
	w := was.Copy()
	after := w.Place()
	// Its host hears of it until it says that nothing is there.
	after.Priors = append(slices.Clone(p.Priors), structs.Prior{HostID: p.HostID, Epoch: p.Epoch, Generation: p.Generation})
	after.HostID = ""
	w.Forget()
	pl.place(w, bay)
	pl.t.assign(w)
	return true
}
