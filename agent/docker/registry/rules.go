package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/stackforge/magnum/structs"
)

// Any in Rules.Allow stands for all registries at public addresses.
const Any = "*"

// Rules say from which registries images may come. The zero value allows those at public
// addresses.
type Rules struct {
	// Allow lists registries as host or host:port, in the form of image references. A listed
	// one may have any address. Others are refused, unless Any is listed, too. nil means Any.
	Allow []string
	Open  bool // allows all registries at any address, whatever Allow says
}

// ParseRules reads a list of registries. Errors are CodeInvalid.
func ParseRules(list []string) (Rules, error) {
	var r Rules
	for _, host := range list {
		if host != Any {
			host = strings.ToLower(host)
			if structs.CheckImage(host+"/x") != nil || structs.RegistryOf(host+"/x") != hubName(host) {
				return r, structs.Errorf(structs.CodeInvalid,
					"%.64q is not a registry such as docker.io or registry.example.com:5000, or %s",
					host, Any)
			}
			host = hubName(host)
		}
		r.Allow = append(r.Allow, host)
	}
	return r, nil
}

// hubName returns the name of a registry in image references.
func hubName(host string) string {
	if host == "index.docker.io" || host == hub {
		return "docker.io"
	}
	return host
}

// Listed reports whether the operator has named the registry, host or host:port, and so
// trusts it whatever its address.
func (r Rules) Listed(host string) bool {
	return r.Open || slices.Contains(r.Allow, hubName(strings.ToLower(host)))
}

// Check refuses a registry, host or host:port, that may not be used: one that isn't listed if
// only listed ones may be, or one with an address that isn't public. ErrNotAllowed; ErrSilent
// if it has no address.
func (r Rules) Check(ctx context.Context, host string) error {
	if r.Listed(host) {
		return nil
	}
	if r.Allow != nil && !slices.Contains(r.Allow, Any) {
		return fmt.Errorf("%w: %s is not listed", ErrNotAllowed, host)
	}
	if host == "docker.io" {
		host = hub
	}
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", strings.Trim(name, "[]"))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSilent, err)
	}
	for _, a := range addrs {
		if !isPublic(a) {
			return fmt.Errorf("%w: %s has the address %s", ErrNotAllowed, host, a)
		}
	}
	return nil
}

// dialer returns a dialer for the registry and where it redirects to: it refuses addresses
// that aren't public, unless the registry is listed.
func (r Rules) dialer(host string) *net.Dialer {
	d := &net.Dialer{Timeout: 10 * time.Second}
	if r.Listed(host) {
		return d
	}
	d.Control = func(_, address string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(address)
		if err != nil || !isPublic(at.Addr()) {
			return fmt.Errorf("%w: it leads to %s", ErrNotAllowed, address)
		}
		return nil
	}
	return d
}

// reserved are networks that lead to no public host, beside those that package netip knows.
var reserved = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("198.51.100.0/24"),
	netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("240.0.0.0/4"), netip.MustParsePrefix("64:ff9b::/96"),
	netip.MustParsePrefix("64:ff9b:1::/48"), netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("2002::/16"),
	netip.MustParsePrefix("fec0::/10"),
}

// isPublic reports whether an address is one of the public internet.
func isPublic(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	return a.IsGlobalUnicast() && !a.IsPrivate() && !a.IsLoopback() && !a.IsLinkLocalUnicast() &&
		!slices.ContainsFunc(reserved, func(p netip.Prefix) bool { return p.Contains(a) })
}

// isLoopback reports whether a registry is on this machine, where the engine needs no TLS
// either.
func isLoopback(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	a, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return host == "localhost" || err == nil && a.IsLoopback()
}

// certsDir is where the engine's operator keeps the CAs of registries.
const certsDir = "/etc/docker/certs.d"

// certsOf returns the TLS configuration for a registry: the machine's CAs and those that the
// engine has for it.
func certsOf(host string) *tls.Config {
	files, err := filepath.Glob(filepath.Join(certsDir, filepath.Base(host), "*.crt"))
	if err != nil || len(files) == 0 {
		return nil
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	for _, f := range files {
		if pem, err := os.ReadFile(f); err == nil {
			pool.AppendCertsFromPEM(pem)
		}
	}
	return &tls.Config{RootCAs: pool}
}
