package server

import (
	"context"
	"net/netip"

	"github.com/stackforge/magnum/server/conductor/services"
	"github.com/stackforge/magnum/server/fetch"
	"github.com/stackforge/magnum/server/service/hostports"
	"github.com/stackforge/magnum/structs"
)

// DefaultServicePool and DefaultNodePortRange are the defaults of Config.ServicePool and
// Config.NodePortRange.
const (
	DefaultServicePool   = services.DefaultAddresses
	DefaultNodePortRange = services.DefaultNodePorts
)

// pools returns what services get their addresses and node ports from. CodeInvalid.
func (c Config) pools() (pools services.Pools, err error) {
	if c.ServicePool != "" {
		if pools.Addresses, err = services.ParseAddresses(c.ServicePool); err != nil {
			return pools, structs.Errorf(structs.CodeInvalid, "-service-pool: %w", err)
		}
	}
	if c.NodePortRange != "" {
		if pools.NodePorts, err = services.ParsePorts(c.NodePortRange); err != nil {
			return pools, structs.Errorf(structs.CodeInvalid, "-node-port-range: %w", err)
		}
	}
	return pools, nil
}

// relayPort is where hosts reach each other unless an agent has another port.
const relayPort = 9514

// hostPorts returns which ports of hosts members of projects may ask for. CodeInvalid.
func (c Config) hostPorts() (hostports.Rule, error) {
	r, err := hostports.Parse(c.HostPorts, c.HTTPPort, c.RaftPort, c.GossipPort, relayPort)
	if err != nil {
		return r, structs.Errorf(structs.CodeInvalid, "-host-port-range: %w", err)
	}
	return r, nil
}

// linkLocal are networks that have a machine's metadata and nothing that a user needs.
var linkLocal = []netip.Prefix{netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("fe80::/10")}

// manifestNetworks returns the networks from which manifests are fetched beside public
// addresses. CodeInvalid.
func (c Config) manifestNetworks() ([]netip.Prefix, error) {
	var all []netip.Prefix
	for _, text := range c.ManifestNetworks {
		p, err := netip.ParsePrefix(text)
		switch {
		case err != nil || p.Bits() == 0 || p.Addr().Is4In6():
			return nil, structs.Errorf(structs.CodeInvalid, "-manifest-network %.64q is not a network such as 10.20.0.0/16", text)
		case p != p.Masked():
			return nil, structs.Errorf(structs.CodeInvalid, "-manifest-network %s is not the beginning of its range, which is %s", p,
				p.Masked())
		}
		for _, other := range linkLocal {
			if p.Overlaps(other) {
				return nil, structs.Errorf(structs.CodeInvalid,
					"-manifest-network %s has link-local addresses, %s, where clouds keep a machine's secrets", p, other)
			}
		}
		all = append(all, p)
	}
	return all, nil
}

// fetchFrom returns the function that fetches manifests, also from the networks.
func fetchFrom(networks []netip.Prefix) func(ctx context.Context, url string) (string, error) {
	return func(ctx context.Context, url string) (string, error) { return fetch.Manifest(ctx, url, networks...) }
}
