package server

import (
	"net/netip"
	"time"

	"github.com/stackforge/magnum/server/limits"
	"github.com/stackforge/magnum/server/rest/web"
	"github.com/stackforge/magnum/structs"
)

// writeTime is how long a client may take to read a piece of an answer.
const writeTime = time.Minute

// Bounds of the settings of limits.
const (
	maxRate = 1_000_000
	minMiBs = 16
	maxMiBs = 1 << 20
)

// limits returns the limits that the settings mean.
func (c Config) limits() limits.Config {
	bytes := int64(c.MaxBytesInFlight)
	if bytes > 0 {
		bytes <<= 20
	}
	return limits.Config{Writes: c.RateWrites, Reads: c.RateReads, Addresses: c.RateAddresses, Bytes: bytes, Open: c.Auth == authNone}
}

// validateLimits checks the settings of limits. Errors are CodeInvalid.
func (c Config) validateLimits() error {
	for _, r := range []struct {
		flag string
		rate int
	}{{"-rate-writes", c.RateWrites}, {"-rate-reads", c.RateReads}, {"-rate-addresses", c.RateAddresses}} {
		if r.rate < -1 || r.rate > maxRate {
			return structs.Errorf(structs.CodeInvalid, "%s %d not in 1..%d requests a second (0: no limit)", r.flag, r.rate, maxRate)
		}
	}
	if n := c.MaxBytesInFlight; n != 0 && n != -1 && (n < minMiBs || n > maxMiBs) {
		return structs.Errorf(structs.CodeInvalid, "-max-bytes-in-flight %d not in %d..%d MiB (0: no limit)", n, minMiBs, maxMiBs)
	}
	for _, text := range c.TrustedProxies {
		if _, err := parseProxy(text); err != nil {
			return structs.Errorf(structs.CodeInvalid, "-trusted-proxy %.64q is neither a network such as 10.1.0.0/24 nor an IP address",
				text)
		}
	}
	return nil
}

// proxies returns the networks of TrustedProxies.
func (c Config) proxies() web.Proxies {
	var networks web.Proxies
	for _, text := range c.TrustedProxies {
		if network, err := parseProxy(text); err == nil {
			networks = append(networks, network)
		}
	}
	return networks
}

// parseProxy parses a network or an address.
func parseProxy(text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil {
		a = a.Unmap().WithZone("")
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	return netip.ParsePrefix(text)
}
