package conductor

import (
	"slices"

	"github.com/stackforge/magnum/server/schedule"
	"github.com/stackforge/magnum/structs"
)

// withNetworks marks the hosts that have no network for the workload's project
// and no room for another one. hosts stays as it is.
func (t *tx) withNetworks(hosts []schedule.Host, w structs.Workload) []schedule.Host {
	cloned := false
	for i := range hosts {
		if h := row[structs.Host](t, hosts[i].ID); h == nil || !h.NetworksFull || t.hasNetwork(h.ID, w) {
			continue
		}
		if !cloned {
			hosts, cloned = slices.Clone(hosts), true
		}
		hosts[i].NoNetwork = true
	}
	return hosts
}

// hasNetwork reports whether the host has made another workload of the project.
func (t *tx) hasNetwork(hostID string, w structs.Workload) bool {
	for other := range t.onHost(hostID) {
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
func (t *tx) refuse(was structs.Workload) bool {
	p := was.Place()
	bay := row[structs.Bay](t, p.BayID)
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
	t.place(w, bay)
	t.assign(w)
	return true
}
