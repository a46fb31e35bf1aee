package conductor

import (
	"fmt"
	"slices"

	"github.com/stackforge/magnum/server/schedule"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// placer chooses hosts for workloads, and writes the choice into their rows. The
// callers write the rows into the batch.
type placer struct{ t *tx }

func newPlacer(t *tx) placer { return placer{t} }

// place gives the workload a host of the bay and a new epoch, or the reason
// why it has to wait. The caller writes the row.
func (pl placer) place(w structs.Workload, bay *structs.Bay) {
	// Where an earlier placement is, it goes before the new one comes.
	p := w.Place()
	if priors := p.Priors; len(priors) > 0 {
		held := w.Reserved()
		for _, prior := range priors {
			pl.t.held.give(prior.HostID, held)
		}
		defer func() {
			for _, prior := range priors {
				pl.t.held.take(prior.HostID, held)
			}
		}()
	}
	rooms := pl.t.held.order()
	switch all, _ := rooms.Count(bay.ID); {
	case all == 0:
		p.PlaceReason = fmt.Sprintf("waits for bay %s to get a host: %s", bay.Name, orElse(bay.StatusReason, "it has none"))
	case rooms.Ready(bay.ID) > bay.NodeCount:
		pl.placeOn(w, bay, pl.candidates(bay))
	default:
		id, reason := schedule.Choose(rooms, bay, w.Demand(), pl.networksOf(w))
		pl.chosen(w, id, reason)
	}
}

// placeOn is place on one of the hosts.
func (pl placer) placeOn(w structs.Workload, bay *structs.Bay, hosts []schedule.Host) {
	id, reason := schedule.ChooseAmong(hosts, w.Demand(), bay.Placement, pl.networksOf(w))
	pl.chosen(w, id, reason)
}

// chosen puts the workload on the host that was chosen, if any.
func (pl placer) chosen(w structs.Workload, id, reason string) {
	p := w.Place()
	p.PlaceReason = reason
	if id == "" {
		return
	}
	p.Priors = without(p.Priors, id)
	p.HostID, p.Gone = id, false
	w.Forget()
	p.Epoch = pl.nextEpoch(w)
}

// nextEpoch returns the epoch of the workload's next placement. Those since a
// restore are above all that may have been given out between the save and it: a
// host may still run such a one. So are those of what a host keeps in quarantine,
// which a history that is lost has given out; but who creates a workload under the
// uuid of one in quarantine may want to keep that one, under its epoch.
func (pl placer) nextEpoch(w structs.Workload) uint64 {
	restored := uint64(0)
	if cluster := row[structs.Cluster](pl.t, structs.ClusterRowID); cluster != nil {
		restored = cluster.Incarnation << 32
	}
	quarantined, ref := uint64(0), w.Ref()
	if ref.Epoch > 0 || pl.t.base.Get(w.Table(), ref.ID) != nil {
		quarantined = pl.t.base.QuarantinedEpoch(ref.Kind, ref.ID)
	}
	return max(ref.Epoch, restored, quarantined) + 1
}

// candidates returns the hosts on which a bay places workloads that has to give hosts
// back. It places nothing on those that will go: the ones with
// the fewest workloads. Lost ones are there for the reason only.
func (pl placer) candidates(bay *structs.Bay) []schedule.Host {
	hosts := pl.t.hostsOf(bay.ID)
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

// replace places a workload of which its host has nothing left under a new epoch.
// One with a named volume stays with it, on its host.
func (pl placer) replace(w structs.Workload) {
	p := w.Place()
	bay := row[structs.Bay](pl.t, p.BayID)
	was, held := p.HostID, w.Reserved()
	pl.t.held.give(was, held)
	defer pl.t.held.take(was, held)
	volume := w.Policy().Volume
	if host := row[structs.Host](pl.t, was); volume == "" || host == nil {
		pl.place(w, bay)
	} else if pl.placeOn(w, bay, []schedule.Host{withoutNetworks(state.RoomOf(host, pl.t.held.used(host.ID), bay.Placement))}); p.PlaceReason != "" {
		p.PlaceReason = fmt.Sprintf("its volume %s is on host %s, and it is not moved away from there: it %s; start it again when that has changed", volume, host.Name, p.PlaceReason)
	}
}

// withoutNetworks returns the host as one that needs no room for another network: it
// has been the workload's.
func withoutNetworks(h schedule.Host) schedule.Host {
	h.NetworksFull = false
	return h
}

// deleteWorkload lets the workload go: at once if no host has it. It returns the row as it
// was last, which is was itself if nothing changes.
func deleteWorkload(t *tx, was structs.Workload, force bool) structs.Workload {
	p := was.Place()
	host := row[structs.Host](t, p.HostID)
	if host == nil || force && host.State == structs.HostLost {
		// Should the host come back with it, it removes what it doesn't know.
		if p.HostID == "" && p.Desired == structs.DesiredAbsent && !isOver(t, p) {
			return was
		}
		left := was.Copy()
		after := left.Place()
		after.Desired, after.HostID = structs.DesiredAbsent, ""
		if isOver(t, after) {
			t.remove(was)
			return was
		}
		after.Generation++
		left.Base().UpdatedAt = t.now
		t.assign(left)
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
	changed.Base().UpdatedAt = t.now
	t.assign(changed)
	return changed
}
