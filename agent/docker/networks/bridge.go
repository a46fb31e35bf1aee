package networks

import (
	"cmp"
	"context"
	"net/netip"
	"slices"

	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/docker/engine"
)

// ProjectNetworks returns the networks of the owner's cluster. Those of earlier versions,
// which don't name their cluster, aren't among them.
func (ns *Networks) ProjectNetworks(ctx context.Context, owner backend.Owner) ([]backend.ProjectNetwork, error) {
	var list []network.Summary
	err := ns.engine.Read(ctx, engine.ReadTimeout, func(ctx context.Context) (err error) {
		list, err = ns.engine.Client.NetworkList(ctx, network.ListOptions{Filters: filters.NewArgs(
			filters.Arg("label", backend.LabelProject), filters.Arg("label", backend.LabelCluster+"="+owner.ClusterID))})
		return err
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(list, func(a, b network.Summary) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
	})
	var all []backend.ProjectNetwork
	seen := make(map[string]bool)
	for _, n := range list {
		project := n.Labels[backend.LabelProject]
		if gateway := gatewayOf(n); gateway.IsValid() && !seen[project] {
			seen[project] = true
			all = append(all, backend.ProjectNetwork{ProjectID: project, Bridge: bridgeOf(n), Gateway: gateway})
		}
	}
	return all, nil
}

// bridgeName is the option by which the engine is told the name of a bridge.
const bridgeName = "com.docker.network.bridge.name"

// bridgeOf returns the name of a network's bridge.
func bridgeOf(n network.Summary) string {
	return cmp.Or(n.Options[bridgeName], "br-"+n.ID[:min(12, len(n.ID))])
}

// gatewayOf returns the address of a network's bridge; invalid if the engine doesn't tell. An
// engine tells the gateway only if it was asked for, and takes the first address otherwise.
func gatewayOf(n network.Summary) netip.Prefix {
	for _, c := range n.IPAM.Config {
		subnet, err := netip.ParsePrefix(c.Subnet)
		if err != nil || !subnet.Addr().Is4() {
			continue
		}
		gateway, err := netip.ParseAddr(c.Gateway)
		if err != nil {
			gateway = subnet.Masked().Addr().Next()
		}
		return netip.PrefixFrom(gateway, subnet.Bits())
	}
	return netip.Prefix{}
}

// Gateway returns the address of the bridge of a network that Ensure has returned.
// ErrNoNetwork if it has none.
func (h *Pinned) Gateway(ctx context.Context, name string) (gateway netip.Addr, err error) {
	err = h.ns.engine.Read(ctx, engine.ReadTimeout, func(ctx context.Context) error {
		n, err := h.ns.engine.Client.NetworkInspect(ctx, name, network.InspectOptions{})
		gateway = gatewayOf(n).Addr()
		return err
	})
	switch {
	case err != nil:
		return netip.Addr{}, err
	case !gateway.IsValid():
		return netip.Addr{}, &backend.Failure{Reason: backend.ErrNoNetwork, Msg: "the network " + name + " has no IPv4 address"}
	}
	return gateway, nil
}
