//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMakeCluster: the scripts of `make cluster` start a cluster, leave it as
// it is on a second run, restart what has ended, and leave nothing behind after
// `make cluster-down`.
func TestMakeCluster(t *testing.T) {
	t.Parallel()
	number := reserveNet(t)
	name, dir := fmt.Sprintf("mg%d", number), t.TempDir()
	run := func(dir, script string, env ...string) (string, error) {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, filepath.Join("..", "..", "scripts", script))
		cmd.Env = append(os.Environ(), append(env, "MAGNUM_BIN="+program(t), "MAGNUM_CLUSTER_DIR="+dir,
			"MAGNUM_CLUSTER_NAME="+name, fmt.Sprintf("MAGNUM_CLUSTER_NET=10.213.%d", number))...)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	must := func(script string, env ...string) string {
		t.Helper()
		out, err := run(dir, script, env...)
		if err != nil {
			t.Fatalf("%s: %v\n%s", script, err, out)
		}
		return out
	}
	pids := func() map[string]int {
		t.Helper()
		all := make(map[string]int)
		for _, d := range []string{"s1", "s2", "s3", "h1", "h2", "h3", "h1/docker/dockerd", "h2/docker/dockerd", "h3/docker/dockerd"} {
			b, err := os.ReadFile(filepath.Join(dir, d+".pid"))
			if err != nil {
				t.Fatal(err)
			}
			all[d], _ = strconv.Atoi(strings.TrimSpace(string(b)))
			if err := syscall.Kill(all[d], 0); err != nil {
				t.Fatalf("%s, pid %d: %v", d, all[d], err)
			}
		}
		return all
	}
	t.Cleanup(func() { must("cluster-down", "CLEAN=1") })

	if out := must("cluster"); !strings.Contains(out, "The cluster runs") {
		t.Errorf("cluster printed:\n%s", out)
	}
	first := pids()
	env := []string{fmt.Sprintf("MAGNUM_ADDR=10.213.%d.12", number)}
	magnum(t, env, "", "container-run", "-d", "--name", "napping", "--restart", "always", "busybox", "sh", "-c", sleepScript).must(t)
	must("cluster")
	if again := pids(); fmt.Sprint(again) != fmt.Sprint(first) {
		t.Errorf("a second run made %v of %v", again, first)
	}

	syscall.Kill(first["s1"], syscall.SIGKILL)
	syscall.Kill(first["h1"], syscall.SIGKILL)
	must("cluster")
	for d, pid := range pids() {
		if died := d == "s1" || d == "h1"; died == (pid == first[d]) {
			t.Errorf("%s had pid %d, and has %d", d, first[d], pid)
		}
	}
	// Under any epoch: if a busy machine needed ten seconds, the host was lost and
	// the container has moved.
	if out := magnum(t, env, "", "container-show", "-format", "{{.status}}", "napping").must(t); strings.TrimSpace(out) != "Running" {
		t.Errorf("the container is %s", out)
	}

	// Another cluster can't use the same names.
	other := t.TempDir()
	if out, err := run(other, "cluster"); err == nil || !strings.Contains(out, "of the cluster in "+dir) {
		t.Errorf("another cluster of that name: %v\n%s", err, out)
	}
	for env, want := range map[string]string{
		"MAGNUM_CLUSTER_NET=10.0.0.1":       "three numbers",
		"MAGNUM_CLUSTER_NAME=a/b":           "1 to 15",
		"MAGNUM_CLUSTER_NAME=" + name + "x": "are in use",
	} {
		cmd := exec.Command(filepath.Join("..", "..", "scripts", "cluster"))
		cmd.Env = append(os.Environ(), "MAGNUM_BIN="+program(t), "MAGNUM_CLUSTER_DIR="+other,
			fmt.Sprintf("MAGNUM_CLUSTER_NET=10.213.%d", number), "MAGNUM_CLUSTER_NAME="+name, env)
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v\n%s", env, err, out)
		}
	}

	must("cluster-down")
	after := must("cluster")
	for until := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		r := magnum(t, env, "", "container-show", "-format", "{{.name}}", "napping")
		if r.code == 0 && strings.TrimSpace(r.stdout) == "napping" {
			break
		}
		// Servers on a busy machine may elect another leader just now.
		if !strings.Contains(r.stderr, "HTTP 503") || time.Now().After(until) {
			t.Fatalf("after a stop and a start the cluster prints %s; it shows %+v", after, r)
		}
	}
	last := pids()
	must("cluster-down", "CLEAN=1")
	for d, pid := range last {
		// A process that has ended but is not reaped has no command line.
		if line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); len(line) > 0 {
			t.Errorf("%s still runs, pid %d", d, pid)
		}
	}
	left, _ := filepath.Glob("/run/netns/" + name + "-*")
	if files, _ := os.ReadDir(dir); len(files)+len(left) != 0 {
		t.Errorf("cluster-down left %v and the files %v", left, files)
	}
	if _, err := os.Stat("/sys/class/net/" + name); err == nil {
		t.Errorf("cluster-down left the interface %s", name)
	}
}
