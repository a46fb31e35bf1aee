package rest

import (
	"slices"

	"github.com/stackforge/magnum/server/rest/web"
	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// clusterOf returns the Kubernetes cluster that a host is, nil for another one.
func clusterOf(snap *state.Snapshot, hostID string) *structs.KubernetesCluster {
	if h := snap.Host(hostID); h != nil {
		return h.Fingerprint.Cluster
	}
	return nil
}

// listed returns the cluster as a body shows it: without null for empty lists.
func listed(c *structs.KubernetesCluster) *structs.KubernetesCluster {
	if c == nil {
		return nil
	}
	shown := *c
	shown.Nodes = wire.List(slices.Clone(c.Nodes))
	for i := range shown.Nodes {
		shown.Nodes[i].Addresses = wire.List(shown.Nodes[i].Addresses)
	}
	return &shown
}

// workloadReason returns the reason that is shown with the status of a workload. While the
// API of its cluster is away, it says so first: all else is as it was then.
func workloadReason(v web.View, w structs.Workload) string {
	reason := structs.StatusReasonOf(w)
	if !w.Policy().Fixed || w.Seen().Status == structs.ContainerUnknown {
		return reason
	}
	away := structs.AwayText(clusterOf(v.Snap, w.Place().HostID))
	if away == "" {
		return reason
	}
	away = "the cluster's API " + away + "; this is what was last seen"
	if reason != "" {
		away += ": " + reason
	}
	return away
}

// objectReason returns the reason of the object of a service or replication controller; ""
// on a Docker bay, and if all is well. besideID is its ID.
func objectReason(v web.View, besideID string) string {
	if o, ok := v.Snap.Get(structs.TableObjects, besideID).(*structs.Object); ok {
		return workloadReason(v, o)
	}
	return ""
}

// nodeOf returns the name of the node of a pod in a cluster, of another pod that of its host;
// "" while it has none.
func nodeOf(v web.View, p *structs.Pod) string {
	if p.Spec.Cluster {
		return p.Observed.Node
	}
	if h := v.Snap.Host(p.HostID); h != nil {
		return h.Name
	}
	return ""
}

// filterPodHost is web.FilterHost that also takes the name of a cluster's node.
func filterPodHost(v web.View, value string) (func(structs.Row) bool, error) {
	onHost, err := web.FilterHost(v, value)
	return func(r structs.Row) bool {
		p := r.(*structs.Pod)
		return onHost(p) || p.Spec.Cluster && p.Observed.Node == value
	}, err
}
