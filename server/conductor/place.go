package conductor

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/stackforge/magnum/server/conductor/scratch"
	"github.com/stackforge/magnum/server/schedule"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// placer chooses hosts for workloads and sets the choice in their rows. The callers write
// the rows to the batch.
type placer struct{ t *scratch.Tx }

func newPlacer(t *scratch.Tx) placer { return placer{t} }

// place sets a host of the bay and a new epoch in the workload, or the reason why it has to
// wait. The caller writes the row.
func (pl placer) place(w structs.Workload, bay *structs.Bay) {
	// An earlier placement on the chosen host is removed before the new one is created, so
	// its reservation doesn't count.
	p := w.Place()
	if priors := p.Priors; len(priors) > 0 {
		demand := w.Reserved()
		for _, prior := range priors {
			pl.t.Reserved.Remove(prior.HostID, demand)
		}
		defer func() {
			for _, prior := range priors {
				pl.t.Reserved.Add(prior.HostID, demand)
			}
		}()
	}
	rooms := pl.t.Reserved.Order()
	switch all, _ := rooms.Count(bay.ID); {
	case all == 0:
		p.PlaceReason = fmt.Sprintf("waits for bay %s to get a host: %s", bay.Name, cmp.Or(bay.StatusReason, "it has none"))
	case rooms.Ready(bay.ID) > bay.NodeCount || pl.copiesOf(w) != nil:
		pl.placeOn(w, bay, pl.candidates(bay))
	default:
		id, reason := schedule.Choose(rooms, bay, w.Demand(), pl.factsOf(w))
		pl.assignHost(w, id, reason)
	}
}

// placeOn is place on one of the given hosts.
func (pl placer) placeOn(w structs.Workload, bay *structs.Bay, hosts []schedule.Host) {
	id, reason := schedule.ChooseApart(hosts, pl.copiesOf(w), w.Demand(), bay.Placement, pl.factsOf(w))
	pl.assignHost(w, id, reason)
}

// copiesOf returns how many other pods of the workload's replication controller each host
// has, nil if it has none. They are spread over the hosts, whatever the bay's strategy is.
func (pl placer) copiesOf(w structs.Workload) map[string]int {
	if p, ok := w.(*structs.Pod); ok {
		return pl.t.Reserved.Copies(p)
	}
	return nil
}

// assignHost places the workload on the chosen host. id is "" if none fits, with the
// reason.
func (pl placer) assignHost(w structs.Workload, id, reason string) {
	p := w.Place()
	p.PlaceReason = reason
	if id == "" {
		return
	}
	p.Priors = priorsExcept(p.Priors, id)
	p.HostID, p.Gone = id, false
	w.Forget()
	p.Epoch = pl.nextEpoch(w)
}

// nextEpoch returns the epoch of the workload's next placement. Epochs after a restore are
// above all that may have been used between the saved state and the restore: a host may
// still run such a placement. They are also above those in a host's quarantine, which a
// lost history has used. But a user who creates a workload under the UUID of a quarantined
// one may want to adopt that one under its epoch, so the quarantine doesn't count for a new
// row.
func (pl placer) nextEpoch(w structs.Workload) uint64 {
	restored := uint64(0)
	if cluster := scratch.Row[structs.Cluster](pl.t, structs.ClusterRowID); cluster != nil {
		restored = cluster.Incarnation << 32
	}
	quarantined, ref := uint64(0), w.Ref()
	if ref.Epoch > 0 || pl.t.Base.Get(w.Table(), ref.ID) != nil {
		quarantined = pl.t.Base.QuarantinedEpoch(ref.Kind, ref.ID)
	}
	return max(ref.Epoch, restored, quarantined) + 1
}

// candidates returns the hosts on which a bay with surplus hosts places workloads. The
// hosts with the fewest workloads will leave the bay, and get no new ones. Lost hosts are
// included only for the reason.
func (pl placer) candidates(bay *structs.Bay) []schedule.Host {
	hosts := pl.t.HostsOf(bay.ID)
	var lost []schedule.Host
	if slices.ContainsFunc(hosts, func(h schedule.Host) bool { return !h.Ready }) {
		all := hosts
		hosts = nil
		for _, h := range all {
			if h.Ready {
				hosts = append(hosts, h)
			} else {
				lost = append(lost, h)
			}
		}
	}
	if len(hosts) > bay.NodeCount {
		hosts = slices.Clone(hosts)
		slices.SortStableFunc(hosts, func(a, b schedule.Host) int { return b.Used.Workloads - a.Used.Workloads })
		hosts = hosts[:bay.NodeCount]
	}
	return append(hosts, lost...)
}

// replace places a workload under a new epoch after its host has lost all of it. A workload
// with a named volume stays on the volume's host.
func (pl placer) replace(w structs.Workload) {
	p := w.Place()
	bay := scratch.Row[structs.Bay](pl.t, p.BayID)
	was, held := p.HostID, w.Reserved()
	pl.t.Reserved.Remove(was, held)
	defer pl.t.Reserved.Add(was, held)
	volume := w.Policy().Volume
	if host := scratch.Row[structs.Host](pl.t, was); volume == "" || host == nil {
		pl.place(w, bay)
	} else if pl.placeOn(w, bay, []schedule.Host{withoutNetworks(state.RoomOf(host, pl.t.Reserved.Used(host.ID),
		bay.Placement))}); p.PlaceReason != "" {
		p.PlaceReason = fmt.Sprintf("its volume %s is on host %s, and it is not moved away from it: it %s; start it again when that "+
			"has changed", volume, host.Name, p.PlaceReason)
	}
}

// withoutNetworks returns the host as one that needs no room for another network, because
// it had this workload's.
func withoutNetworks(h schedule.Host) schedule.Host {
	h.NetworksFull = false
	return h
}

// deleteWorkload deletes the workload, at once if no host has it. It returns the changed or
// last row, and was itself if nothing changes.
func deleteWorkload(t *scratch.Tx, was structs.Workload, force bool) structs.Workload {
	p := was.Place()
	host := scratch.Row[structs.Host](t, p.HostID)
	if host == nil || force && host.State == structs.HostLost {
		// A host that returns with it removes what it doesn't know.
		if p.HostID == "" && p.Desired == structs.DesiredAbsent && !fullyRemoved(t, p) {
			return was
		}
		left := was.Copy()
		after := left.Place()
		after.Desired, after.HostID = structs.DesiredAbsent, ""
		if fullyRemoved(t, after) {
			t.Remove(was)
			return was
		}
		after.Generation++
		left.Base().UpdatedAt = t.Now
		t.Assign(left)
		return left
	}
	seen := was.Seen()
	if p.Desired == structs.DesiredAbsent && p.Force == force && !seen.Failed {
		return was
	}
	changed := was.Copy()
	after := changed.Place()
	after.Desired, after.Force = structs.DesiredAbsent, force
	after.Generation++
	changed.Base().UpdatedAt = t.Now
	t.Assign(changed)
	return changed
}
