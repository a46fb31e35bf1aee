//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// Networks are numbered. Number N has the addresses 10.213.N.0/24, the interface
// mgN on this machine, and namespaces that begin with mgN-. The process that has
// locked the file N in netLocks owns all of them. A lock ends with its process,
// so what exists under an unlocked number is left over from a killed run.
const (
	netLocks = "/run/magnum-e2e"
	netCount = 200
)

// network is an Ethernet segment of a test's own. Each of its hosts is a
// network namespace. The segment is a bridge in one more namespace, where this
// machine's packet filter, which drops what Docker does not know, has no
// effect. This machine is on the segment too, with the address gateway.
type network struct {
	testing.TB
	number  int
	gateway string
	engines bool // each agent's host has an engine of its own; set before servers start

	mu     sync.Mutex
	hosts  []*netHost
	faults atomic.Int64 // faults so far; numbers the tables
	hits   atomic.Int64 // packets that met the rules of ended faults
}

// netHost is a host of a network.
type netHost struct {
	net  *network
	name string
	ip   string
}

// sweep removes what killed runs have left, once per process.
var sweep = sync.OnceValue(func() error {
	left, err := filepath.Glob("/run/netns/mg*-*")
	if err != nil {
		return err
	}
	for _, path := range left {
		number, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(path), "mg"), "-")
		n, err := strconv.Atoi(number)
		if err != nil || n >= netCount {
			continue // not made by these tests
		}
		lock, err := lockNet(n)
		if err != nil {
			return err
		}
		if lock == nil {
			continue
		}
		err = removeNet(n)
		lock.Close()
		if err != nil {
			return err
		}
	}
	return nil
})

// lockNet locks a number. It returns nil if another process has it.
func lockNet(n int) (*os.File, error) {
	if err := os.MkdirAll(netLocks, 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(netLocks, strconv.Itoa(n)), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, nil
	}
	return f, nil
}

// reserveNet reserves a number until the test has ended, and then removes what
// has its names.
func reserveNet(t testing.TB) int {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("network namespaces are root's: run it with sudo")
	}
	if err := sweep(); err != nil {
		t.Fatalf("what a killed run has left can't be removed: %v", err)
	}
	for number := range netCount {
		lock, err := lockNet(number)
		if err != nil {
			t.Fatal(err)
		}
		if lock == nil {
			continue
		}
		if taken(number) {
			lock.Close()
			continue
		}
		t.Cleanup(func() {
			if err := removeNet(number); err != nil {
				t.Errorf("remove network %d: %v", number, err)
			}
			lock.Close()
		})
		return number
	}
	t.Fatalf("all of the %d networks are in use", netCount)
	return 0
}

// newNet makes a network without hosts.
func newNet(t testing.TB) *network {
	t.Helper()
	number := reserveNet(t)
	n := &network{TB: t, number: number, gateway: fmt.Sprintf("10.213.%d.1", number)}
	wire, here := n.namespace("wire"), fmt.Sprintf("mg%d", number)
	n.ip("netns", "add", wire)
	n.ip("-n", wire, "link", "set", "lo", "up")
	n.ip("-n", wire, "link", "add", "bridge", "type", "bridge")
	n.ip("-n", wire, "link", "set", "bridge", "up")
	n.ip("link", "add", here, "type", "veth", "peer", "name", "machine", "netns", wire)
	n.ip("-n", wire, "link", "set", "machine", "master", "bridge", "up")
	n.ip("addr", "add", n.gateway+"/24", "dev", here)
	n.ip("link", "set", here, "up")
	return n
}

// taken reports whether this machine already has addresses of a network.
func taken(number int) bool {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return true
	}
	_, own, _ := net.ParseCIDR(fmt.Sprintf("10.213.%d.0/24", number))
	for _, a := range addrs {
		if other, ok := a.(*net.IPNet); ok && (own.Contains(other.IP) || len(other.Mask) == 4 && other.Contains(own.IP)) {
			return true
		}
	}
	return false
}

// removeNet ends the processes in the namespaces of a network and removes the
// namespaces. The bridge and all interfaces go with them.
func removeNet(number int) error {
	spaces, err := filepath.Glob(fmt.Sprintf("/run/netns/mg%d-*", number))
	if err != nil {
		return err
	}
	// An engine has 15 s for its containers, then some more for itself. Only the
	// engine can unmount what it has mounted.
	endAll(spaces, "dockerd", syscall.SIGTERM, 30*time.Second)
	endAll(spaces, "", syscall.SIGKILL, 10*time.Second)
	for _, space := range spaces {
		if out, err := exec.Command("ip", "netns", "del", filepath.Base(space)).CombinedOutput(); err != nil {
			return fmt.Errorf("ip netns del %s: %w: %s", filepath.Base(space), err, out)
		}
	}
	// A namespace that a dying process still holds keeps the other end of the interface.
	exec.Command("ip", "link", "del", fmt.Sprintf("mg%d", number)).Run()
	return nil
}

// endAll signals the processes of a name, "" for all, in the network
// namespaces, and waits until they have ended.
func endAll(spaces []string, name string, s syscall.Signal, within time.Duration) {
	sent := make(map[int]bool)
	for deadline := time.Now().Add(within); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		left := 0
		for _, space := range spaces {
			out, _ := exec.Command("ip", "netns", "pids", filepath.Base(space)).Output()
			for f := range strings.FieldsSeq(string(out)) {
				comm, _ := os.ReadFile("/proc/" + f + "/comm")
				pid, err := strconv.Atoi(f)
				if err != nil || name != "" && strings.TrimSpace(string(comm)) != name {
					continue
				}
				left++
				if !sent[pid] {
					syscall.Kill(pid, s)
					syscall.Kill(pid, syscall.SIGCONT)
					sent[pid] = true
				}
			}
		}
		if left == 0 {
			return
		}
	}
}

func (n *network) namespace(name string) string { return fmt.Sprintf("mg%d-%s", n.number, name) }

// ip runs the command ip.
func (n *network) ip(args ...string) {
	n.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		n.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// host returns the host of a name, and makes it if there is none. The name has
// at most 15 characters.
func (n *network) host(name string) *netHost {
	n.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, h := range n.hosts {
		if h.name == name {
			return h
		}
	}
	h := &netHost{net: n, name: name, ip: fmt.Sprintf("10.213.%d.%d", n.number, 11+len(n.hosts))}
	space, wire := h.namespace(), n.namespace("wire")
	n.ip("netns", "add", space)
	n.ip("-n", space, "link", "set", "lo", "up")
	n.ip("-n", space, "link", "add", "eth0", "type", "veth", "peer", "name", name, "netns", wire)
	n.ip("-n", wire, "link", "set", name, "master", "bridge", "up")
	n.ip("-n", space, "addr", "add", h.ip+"/24", "dev", "eth0")
	n.ip("-n", space, "link", "set", "eth0", "up")
	n.ip("-n", space, "route", "add", "default", "via", n.gateway)
	n.hosts = append(n.hosts, h)
	return h
}

func (h *netHost) namespace() string { return h.net.namespace(h.name) }

// command prepares a program that runs on the host. nsenter executes it, so the
// process is the program's own. `ip netns exec` would give it another /sys,
// without cgroups.
func (h *netHost) command(program string, args ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{"--net=/run/netns/" + h.namespace(), program}, args...)...)
}

// nft runs commands on the packet filter of a namespace, all or none, and
// returns their output.
func (n *network) nft(space, script string) (string, error) {
	cmd := exec.Command("nsenter", "--net=/run/netns/"+space, "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(script)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("nft in %s: %w: %s\n%s", space, err, &errs, script)
	}
	return out.String(), nil
}
