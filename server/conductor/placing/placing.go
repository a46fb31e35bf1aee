// Package placing chooses hosts for workloads, and keeps a workload's placements: it places,
// moves and replaces one, and removes what hosts no longer have. server/conductor calls it,
// for requests and steps. It decides by the scratch view of a batch alone, without clock,
// randomness or I/O. When something is placed or moved, and what users are told, is the
// conductor's.
package placing

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/stackforge/magnum/server/conductor/scratch"
	"github.com/stackforge/magnum/server/schedule"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// Place sets a host of the bay and a new epoch in the workload, or the reason why it has to
// wait. The caller writes the row.
func Place(t *scratch.Tx, w structs.Workload, bay *structs.Bay) {
	// An earlier placement on the chosen host is removed before the new one is created, so
	// its reservation doesn't count.
	p := w.Place()
	if priors := p.Priors; len(priors) > 0 {
		demand := w.Reserved()
		for _, prior := range priors {
			t.Reserved.Remove(prior.HostID, demand)
		}
		defer func() {
			for _, prior := range priors {
				t.Reserved.Add(prior.HostID, demand)
			}
		}()
	}
	rooms := t.Reserved.Order()
	switch all, _ := rooms.Count(bay.ID); {
	case leaving(t, w):
		p.PlaceReason = "waits for the earlier one of its name to be gone from the cluster"
	case all == 0:
		p.PlaceReason = "waits for bay " + bay.Name + " to get a host: " + cmp.Or(bay.StatusReason, "it has none")
	case rooms.Ready(bay.ID) > bay.Hosts() || copiesOf(t, w) != nil:
		placeOn(t, w, bay, candidates(t, bay))
	default:
		id, reason := schedule.Choose(rooms, bay, w.Demand(), factsOf(t, w))
		assignHost(t, w, id, reason)
	}
}

// placeOn is Place on one of the given hosts.
func placeOn(t *scratch.Tx, w structs.Workload, bay *structs.Bay, hosts []schedule.Host) {
	id, reason := schedule.ChooseApart(hosts, copiesOf(t, w), w.Demand(), bay.Placement, factsOf(t, w))
	assignHost(t, w, id, reason)
}

// copiesOf returns how many other pods of the workload's replication controller each host
// has, nil if it has none. They are spread over the hosts, whatever the bay's strategy is.
func copiesOf(t *scratch.Tx, w structs.Workload) map[string]int {
	if p, ok := w.(*structs.Pod); ok {
		return t.Reserved.Copies(p)
	}
	return nil
}

// assignHost places the workload on the chosen host. id is "" if none fits, with the
// reason.
func assignHost(t *scratch.Tx, w structs.Workload, id, reason string) {
	p := w.Place()
	p.PlaceReason = reason
	if id == "" {
		return
	}
	p.Priors = PriorsExcept(p.Priors, id)
	p.HostID, p.Gone = id, false
	w.Forget()
	p.Epoch = NextEpoch(t, w)
}

// NextEpoch returns the epoch of the workload's next placement. Epochs after a restore are
// above all that may have been used between the saved state and the restore: a host may
// still run such a placement. They are also above those in a host's quarantine, which a
// lost history has used. But a user who creates a workload under the UUID of a quarantined
// one may want to adopt that one under its epoch, so the quarantine doesn't count for a new
// row.
func NextEpoch(t *scratch.Tx, w structs.Workload) uint64 {
	restored := uint64(0)
	if cluster := scratch.Row[structs.Cluster](t, structs.ClusterRowID); cluster != nil {
		restored = cluster.Incarnation << 32
	}
	quarantined, ref := uint64(0), w.Ref()
	if ref.Epoch > 0 || t.Base.Get(w.Table(), ref.ID) != nil {
		quarantined = t.Base.QuarantinedEpoch(ref.Kind, ref.ID)
	}
	return max(ref.Epoch, restored, quarantined) + 1
}

// candidates returns the hosts on which a bay with surplus hosts places workloads. The
// hosts with the fewest workloads will leave the bay, and get no new ones. Lost hosts are
// included only for the reason.
func candidates(t *scratch.Tx, bay *structs.Bay) []schedule.Host {
	hosts := t.HostsOf(bay.ID)
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
	if len(hosts) > bay.Hosts() {
		hosts = slices.Clone(hosts)
		slices.SortStableFunc(hosts, func(a, b schedule.Host) int { return b.Used.Workloads - a.Used.Workloads })
		hosts = hosts[:bay.Hosts()]
	}
	return append(hosts, lost...)
}

// Replace places a workload under a new epoch after its host has lost all of it. A workload
// with a named volume stays on the volume's host.
func Replace(t *scratch.Tx, w structs.Workload) {
	p := w.Place()
	bay := scratch.Row[structs.Bay](t, p.BayID)
	was, held := p.HostID, w.Reserved()
	t.Reserved.Remove(was, held)
	defer t.Reserved.Add(was, held)
	volume := w.Policy().Volume
	if host := scratch.Row[structs.Host](t, was); volume == "" || host == nil {
		Place(t, w, bay)
	} else if placeOn(t, w, bay, []schedule.Host{withoutNetworks(state.RoomOf(host, t.Reserved.Used(host.ID),
		bay.Placement))}); p.PlaceReason != "" {
		p.PlaceReason = fmt.Sprintf("its volume %s is on host %s, and it is not moved away from it: it %s; start it again when that "+
			"has changed", volume, host.Name, p.PlaceReason)
	}
}

// Fits returns the reason why the host has no room for a workload that it has already, under
// another placement; "" if it has. What the workload reserves there now doesn't count twice,
// and a drain doesn't matter.
func Fits(t *scratch.Tx, w structs.Workload, h *structs.Host) (reason string) {
	used := t.Reserved.Used(h.ID).Clone()
	if was := t.Workload(w.Ref()); was != nil && was.Place().On(h.ID) {
		used.Remove(was.Reserved())
	}
	as := withoutNetworks(state.RoomOf(h, &used, structs.PlacementSpread))
	as.Draining = false
	_, reason = schedule.ChooseAmong([]schedule.Host{as}, w.Demand(), as.Strategy, factsOf(t, w))
	return reason
}

// withoutNetworks returns the host as one that needs no room for another network, because
// it had this workload's.
func withoutNetworks(h schedule.Host) schedule.Host {
	h.NetworksFull = false
	return h
}

// Delete deletes the workload, at once if no host has it. It returns the changed or last row,
// and was itself if nothing changes.
func Delete(t *scratch.Tx, was structs.Workload, force bool) structs.Workload {
	p := was.Place()
	host := scratch.Row[structs.Host](t, p.HostID)
	if host == nil || force && host.State == structs.HostLost {
		// A host that returns with it removes what it doesn't know.
		if p.HostID == "" && p.Desired == structs.DesiredAbsent && !FullyRemoved(t, p) {
			return was
		}
		left := was.Copy()
		after := left.Place()
		after.Desired, after.HostID = structs.DesiredAbsent, ""
		if FullyRemoved(t, after) {
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
