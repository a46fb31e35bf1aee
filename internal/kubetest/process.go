package kubetest

import (
	"context"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Nodes are the names of the cluster's nodes.
var Nodes = []string{"node1", "node2"}

// Pid returns the pid of one of the cluster's processes on this machine, such as
// kube-apiserver, etcd or node1.
func (c *Cluster) Pid(t testing.TB, name string) int {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(c.Dir, "pids", name))
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(content)))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Signal sends a signal to one of the cluster's processes.
func (c *Cluster) Signal(t testing.TB, name string, s syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(c.Pid(t, name), s); err != nil {
		t.Fatalf("signal %v to %s: %v", s, name, err)
	}
}

// Up starts again what was killed of the cluster. It returns when all of it is ready.
func (c *Cluster) Up(t testing.TB) {
	t.Helper()
	c.script(t, nil, "kubernetes-up")
}

// Down stops the whole cluster. Up starts it with all that it had.
func (c *Cluster) Down(t testing.TB) {
	t.Helper()
	c.script(t, []string{"KEEP=1"}, "kubernetes-down")
}

func (c *Cluster) script(t testing.TB, env []string, name string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute) // t's may have ended
	defer cancel()
	root := "." // a test runs in the directory of its package
	for ; ; root = filepath.Join("..", root) {
		if _, err := os.Stat(filepath.Join(root, "go.mod")); err == nil {
			break
		}
		if len(root) > 100 {
			t.Fatal("the test doesn't run in the module's tree")
		}
	}
	cmd := exec.CommandContext(ctx, filepath.Join(root, "scripts", "peers", name), c.Dir)
	cmd.Env = append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// Load gives all nodes the images of an archive, as docker save writes it.
func (c *Cluster) Load(t testing.TB, archive string) {
	t.Helper()
	for _, node := range Nodes {
		socket := filepath.Join(c.Dir, node, "containerd.sock")
		cmd := exec.CommandContext(t.Context(), "ctr", "--address", socket, "--namespace", "k8s.io", "image", "import", archive)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("load %s into %s: %v\n%s", archive, node, err, out)
		}
	}
}

// NodeAddress returns the address of a node, at which node ports are open.
func (c *Cluster) NodeAddress(t testing.TB, node string) string {
	t.Helper()
	var got struct {
		Status struct {
			Addresses []struct{ Type, Address string }
		}
	}
	if err := c.Do(t.Context(), "GET", "/api/v1/nodes/"+node, nil, &got); err != nil {
		t.Fatal(err)
	}
	for _, a := range got.Status.Addresses {
		if a.Type == "InternalIP" {
			return a.Address
		}
	}
	t.Fatalf("node %s has no address: %+v", node, got.Status.Addresses)
	return ""
}

// Machine returns this machine's address in the cluster's network, which pods can reach.
func (c *Cluster) Machine(t testing.TB) string {
	t.Helper()
	at, err := netip.ParseAddrPort(strings.TrimPrefix(c.URL, "https://"))
	if err != nil {
		t.Fatal(err)
	}
	ip := at.Addr().As4()
	ip[3] = 254
	return netip.AddrFrom4(ip).String()
}

// Kubectl runs kubectl as the cluster's administrator and returns its output.
func (c *Cluster) Kubectl(t testing.TB, stdin string, args ...string) string {
	t.Helper()
	out, err := c.TryKubectl(t, stdin, args...)
	if err != nil {
		t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// TryKubectl is Kubectl for commands that may fail.
func (c *Cluster) TryKubectl(t testing.TB, stdin string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience) // t's may have ended
	defer cancel()
	args = append([]string{"--kubeconfig", filepath.Join(c.Dir, "admin.conf"), "--cache-dir", filepath.Join(c.Dir, "cache")}, args...)
	cmd := exec.CommandContext(ctx, filepath.Join(c.Dir, "bin", "kubectl"), args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}
