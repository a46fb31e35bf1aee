package networks

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stackforge/magnum/structs"
)

func TestParsePool(t *testing.T) {
	pool, err := ParsePool("10.99.0.0/23, 192.168.7.0/24")
	if err != nil || len(pool) != 2 {
		t.Fatalf("%v, %v", pool, err)
	}
	var all []string
	cut(pool, func(p netip.Prefix) bool { all = append(all, p.String()); return true })
	if got := strings.Join(all, " "); got != "10.99.0.0/24 10.99.1.0/24 192.168.7.0/24" {
		t.Errorf("it is cut into %s", got)
	}
	whole, err := ParsePool(DefaultPool)
	n := 0
	cut(whole, func(netip.Prefix) bool { n++; return true })
	if err != nil || n != 4096 {
		t.Errorf("the default pool has %d networks, %v", n, err)
	}
	for _, bad := range []string{
		"", "10.0.0.0", "10.0.0.0/25", "10.0.0.0/7", "10.0.0.1/16", "fd00::/64", "127.0.0.0/8", "224.0.0.0/8",
		"169.254.0.0/16", "0.0.0.0/8", "x", "10.0.0.0/16,10.0.4.0/24", "10.0.0.0/16,",
	} {
		if _, err := ParsePool(bad); structs.CodeOf(err) != structs.CodeInvalid {
			t.Errorf("%q: %v, want invalid", bad, err)
		}
	}
}

func TestRoutesAndResolversAreRead(t *testing.T) {
	write := func(text string) string {
		path := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	text := func(all []netip.Prefix) string {
		var s []string
		for _, p := range all {
			s = append(s, p.String())
		}
		return strings.Join(s, " ")
	}
	// The form of a little-endian machine.
	table := write("Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n" +
		"eth0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n" +
		"eth0\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n" +
		"tun0\t000010AC\t00000000\t0001\t0\t0\t0\t0000F0FF\t0\t0\t0\n" + "short\n")
	if got := text(routes(table)); got != "192.168.1.0/24 172.16.0.0/12" {
		t.Errorf("routes are %s", got)
	}
	if got := text(resolvers(write("# comment\nsearch x\nnameserver 172.16.5.3\nnameserver fe80::1%eth0\nnameserver " +
		"junk\n"))); got != "172.16.5.3/32 fe80::1/128" {
		t.Errorf("resolvers are %s", got)
	}
	if routes("/none") != nil || resolvers("/none") != nil {
		t.Error("a file that isn't there has something in it")
	}
}

func TestOverlaps(t *testing.T) {
	p := netip.MustParsePrefix("10.1.2.0/24")
	for other, want := range map[string]bool{"10.1.2.7/32": true, "10.0.0.0/8": true, "10.1.3.0/24": false, "10.1.2.128/25": true,
		"fd00::/8": false} {
		if overlaps(p, []netip.Prefix{netip.MustParsePrefix(other)}) != want {
			t.Errorf("%s and %s: want %v", p, other, want)
		}
	}
}
