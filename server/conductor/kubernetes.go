package conductor

import (
	"cmp"
	"errors"

	"github.com/stackforge/magnum/server/conductor/hosts"
	"github.com/stackforge/magnum/server/conductor/objects"
	"github.com/stackforge/magnum/server/conductor/placing"
	"github.com/stackforge/magnum/server/conductor/scratch"
	"github.com/stackforge/magnum/structs"
)

// Unread is the backend of a request whose manifest was not read, because the bay wasn't
// known. Only such a bay is an error then.
const Unread structs.Backend = "unread"

// ErrBackend is in the chain of the error of a request whose manifest was read for another
// backend than its bay's: it has to be read again.
var ErrBackend = errors.New("the manifest was read for another backend")

// checkBackend refuses a manifest that was read for another backend; "" means docker.
// CodeConflict with ErrBackend.
func checkBackend(bay *structs.Bay, read structs.Backend) error {
	if cmp.Or(read, structs.BackendDocker) == bay.Backend() {
		return nil
	}
	return structs.Errorf(structs.CodeConflict, "bay %s is of coe %s: try again (%w)", bay.Name, bay.COE, ErrBackend).About(structs.KindBay)
}

// claimCluster is claimHosts for a Kubernetes bay: it claims one free cluster if the bay has
// none. A lost one is not replaced, because what is in it can't be moved.
func claimCluster(t *scratch.Tx, b *structs.Bay) (after *structs.Bay, full bool) {
	var host *structs.Host
	for h := range t.HostsInBay(b.ID) {
		host = h
	}
	if best := freeCluster(t, b); host == nil && best != nil {
		claimed := *best
		claimed.BayID, claimed.BayIndex = b.ID, t.Base.Index()
		// The bay's row is written after that of its host.
		if t.Writes() >= structs.MaxChanges-2 || !t.ItemKeeping(t.SizeOf(b)+maxReason, func() { t.Put(&claimed) }) {
			return b, true
		}
		host = &claimed
	}
	after = b
	if !t.Item(func() { after = writeClusterProgress(t, b, host) }) {
		return b, true
	}
	return after, false
}

// freeCluster returns the cluster that the bay may claim, nil if there is none: one that has
// the nodes, the first of those, else the one with the most ready nodes.
func freeCluster(t *scratch.Tx, b *structs.Bay) (best *structs.Host) {
	nodes := func(h *structs.Host) int { return min(objects.ClusterOf(h).Ready, b.NodeCount) }
	for h := range t.HostsInBay("") {
		if h.State != structs.HostReady || h.Draining || h.Fingerprint.Backend != structs.BackendKubernetes || !hosts.HasLabels(h,
			b.Labels) {
			continue
		}
		if best == nil || nodes(h) > nodes(best) {
			best = h
		}
	}
	return best
}

// writeClusterProgress is writeProgress for a Kubernetes bay. host is its cluster, nil if it
// has none. Only a bay that somebody has created or changed becomes complete: nodes that come
// and go later change the reason alone.
func writeClusterProgress(t *scratch.Tx, b *structs.Bay, host *structs.Host) *structs.Bay {
	changed := *b
	complete := false
	changed.StatusReason, complete = objects.BayReason(b, host)
	switch {
	case host == nil && (b.Status == structs.BayUpdated || b.Status == structs.BayCreated):
		changed.Status = structs.BayUpdating
	case complete && b.Status == structs.BayCreating:
		changed.Status = structs.BayCreated
	case complete && (b.Status == structs.BayUpdating || b.Status == structs.BayCreateFailed):
		changed.Status = structs.BayUpdated
	case b.Status == structs.BayCreateFailed:
		changed.StatusReason = b.StatusReason
	}
	if changed.Status == b.Status && changed.StatusReason == b.StatusReason {
		return b
	}
	t.Put(&changed)
	return &changed
}

// endClusterRC deletes the pods of a replication controller that is being deleted, once its
// cluster has no such object, and its row after them. pods are those of its bay.
func endClusterRC(k *keeper, pods *baysPods) {
	if reason, lost := objects.Leaving(k.t, k.rc); reason != "" {
		if lost && k.rc.Force { // it is forgotten
			k.item(func() { objects.Delete(k.t, k.rc.BesideID(), true) })
		}
		seen := k.rc.Observed
		seen.Generation, seen.Reason = k.rc.Generation, reason
		if !k.changed {
			k.observe(seen)
		}
		return
	}
	k.end(pods.of[k.rc.ID])
}

// refuseFound refuses a change of a pod that its replication controller has made. CodeConflict.
func refuseFound(p *structs.Pod) error {
	if !p.Found() {
		return nil
	}
	return structs.Errorf(structs.CodeConflict, "Pod %s has no manifest of its own: its replication controller %s has made it. Change the "+
		"manifest of that", p.Name, p.Owner).About(structs.KindPod)
}

// loseFixed handles a workload that its cluster no longer has, but not by magnum: it is shown,
// and stays until it is deleted. The agent has made it again before, if its manifest asks for
// that.
func loseFixed(t *scratch.Tx, w structs.Workload) {
	p, seen := w.Place(), w.Seen()
	p.Gone = true
	seen.Status = structs.ContainerError
	seen.Reason = cmp.Or(seen.Reason, "it was deleted in the cluster, not by magnum") + "; delete it, and create it again if you need it"
	w.See(seen)
	t.Assign(w)
	if o, ok := w.(*structs.Object); ok {
		objects.Take(t, nil, o, &structs.ContainerReport{})
	}
}

// observeInCluster writes what the agent of a cluster has observed of one of its workloads
// beyond what observe does. It reports whether nothing is left to do.
func observeInCluster(t *scratch.Tx, host *structs.Host, was structs.Workload, report *structs.ContainerReport) (done bool) {
	if was == nil {
		if report.Pod != nil && report.Pod.Found != nil && report.Ref().Kind == structs.WorkloadPod {
			objects.Found(t, host, report)
		}
		return true
	}
	if pod, ok := was.(*structs.Pod); ok && pod.Found() && report.Status == structs.ContainerGone && pod.HostID == host.ID {
		pod := pod.Copy()
		pod.Place().Desired, pod.Place().HostID = structs.DesiredAbsent, ""
		if placing.FullyRemoved(t, pod.Place()) {
			t.Remove(was)
			return true
		}
	}
	return false
}
