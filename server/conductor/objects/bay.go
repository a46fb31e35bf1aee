package objects

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stackforge/magnum/structs"
)

// ClusterOf returns the cluster that the host is, as last reported; never nil.
func ClusterOf(h *structs.Host) *structs.KubernetesCluster {
	return cmp.Or(h.Fingerprint.Cluster, &structs.KubernetesCluster{})
}

// maxAway bounds the reason why an API is away, in bytes: it is a part of a bay's reason.
const maxAway = 256

// Bounded returns the description of a cluster within the limits of a host's row, nil for
// nil.
func Bounded(c *structs.KubernetesCluster) *structs.KubernetesCluster {
	if c == nil {
		return nil
	}
	const addresses = 4 // of a node
	kept := *c
	kept.APIAddress, kept.Away = structs.CutLine(c.APIAddress, structs.MaxText), structs.CutLine(c.Away, maxAway)
	kept.PublicAddress = structs.CutLine(c.PublicAddress, structs.MaxText)
	if len(c.CA) > structs.MaxKubernetesCA {
		kept.CA = "" // half of it would be wrong
	}
	kept.AwaySince = c.AwaySince.UTC().Truncate(time.Second)
	kept.Nodes = nil
	for _, n := range c.Nodes[:min(len(c.Nodes), structs.MaxKubernetesNodes)] {
		n.Name, n.Addresses = structs.CutLine(n.Name, structs.MaxName), slices.Clone(n.Addresses[:min(len(n.Addresses), addresses)])
		for i := range n.Addresses {
			n.Addresses[i] = structs.CutLine(n.Addresses[i], structs.MaxName)
		}
		kept.Nodes = append(kept.Nodes, n)
	}
	return &kept
}

// BayReason says what a bay lacks; "" if nothing. host is its cluster, nil if it has none.
// complete reports whether the cluster is known to have the nodes.
func BayReason(b *structs.Bay, host *structs.Host) (reason string, complete bool) {
	if host == nil {
		labels := ""
		if len(b.Labels) > 0 {
			labels = " and carry its labels"
		}
		return fmt.Sprintf("waits for Kubernetes clusters that are free%s; start an agent with -backend kubernetes for one", labels), false
	}
	cluster := ClusterOf(host)
	switch {
	case host.State == structs.HostLost:
		return fmt.Sprintf("the agent of its cluster, host %s, is lost: %s. What runs there runs on, and is shown as it was last seen; "+
			"start an agent for the cluster again", host.Name, structs.CutLine(host.StateReason, maxAway)), false
	case !cluster.AwaySince.IsZero():
		return "the API of its cluster " + structs.AwayText(cluster), false
	case cluster.Ready >= b.NodeCount:
		return "", true
	}
	var down []string
	for _, n := range cluster.Nodes {
		if !n.Ready {
			down = append(down, structs.Shorten(n.Name))
		}
	}
	const most = 5
	what := "the cluster has no others: add nodes to it, or lower node_count"
	switch {
	case len(down) > most:
		what = fmt.Sprintf("%s and %d more are not", strings.Join(down[:most], ", "), len(down)-most)
	case len(down) > 1:
		what = strings.Join(down, ", ") + " are not"
	case len(down) == 1:
		what = down[0] + " is not"
	}
	return fmt.Sprintf("%d of %d nodes are ready: %s", cluster.Ready, b.NodeCount, what), false
}
