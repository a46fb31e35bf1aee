package networks

import (
	"net/netip"
	"testing"

	"github.com/docker/docker/api/types/network"
)

func TestBridgeOf(t *testing.T) {
	id := "0123456789abcdef0123"
	if got := bridgeOf(network.Summary{ID: id}); got != "br-0123456789ab" {
		t.Error(got)
	}
	if got := bridgeOf(network.Summary{ID: id, Options: map[string]string{bridgeName: "own"}}); got != "own" {
		t.Error(got)
	}
}

func TestGatewayOf(t *testing.T) {
	of := func(configs ...network.IPAMConfig) netip.Prefix {
		return gatewayOf(network.Summary{IPAM: network.IPAM{Config: configs}})
	}
	v6 := network.IPAMConfig{Subnet: "fd00::/64", Gateway: "fd00::1"}
	for want, got := range map[string]netip.Prefix{
		"172.18.0.1/24": of(network.IPAMConfig{Subnet: "172.18.0.0/24"}),
		"172.18.0.9/24": of(v6, network.IPAMConfig{Subnet: "172.18.0.0/24", Gateway: "172.18.0.9"}),
	} {
		if got != netip.MustParsePrefix(want) {
			t.Errorf("%s, want %s", got, want)
		}
	}
	for _, none := range []netip.Prefix{of(), of(v6), of(network.IPAMConfig{Subnet: "?"})} {
		if none.IsValid() {
			t.Errorf("%s", none)
		}
	}
}
