//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	dockerimage "github.com/docker/docker/api/types/image"
)

// TestTwoProjectsOnOneHost: on a host of a shared bay, beta neither runs nor sees the private
// image that alpha has fetched there: by no name, and with no password of its own. Both run
// what the operator has put into the engine.
func TestTwoProjectsOnOneHost(t *testing.T) {
	r := newRegistry(t, "hush")
	private := r.push("private", 1000)
	c := &cluster{TB: t, dir: t.TempDir(), addr: "127.0.0.1:" + freePort(t), engine: newEngine(t)}
	t.Cleanup(c.cleanup)
	file := func(name string) string { return filepath.Join(c.dir, name) }
	_, port, _ := net.SplitHostPort(c.addr)
	c.server = c.process("server", "server", "-data-dir", file("data"), "-http-port", port, "-raft-port", freePort(t), "-gossip-port",
		"-1", "-log-level", "debug", "-auth", "token", "-join-token", testJoinToken)
	c.server.start()
	with := func(token, stdin string, args ...string) result {
		t.Helper()
		return magnum(t, []string{"MAGNUM_ADDR=" + c.addr, "OS_TOKEN=" + token}, stdin, args...)
	}
	as := func(token string, args ...string) result { return with(token, "", args...) }
	var admin string
	c.eventually("there is a first token", time.Minute, func() error {
		r := as("", "operator", "bootstrap", "-q")
		if admin = strings.TrimSpace(r.stdout); r.code != 0 {
			return fmt.Errorf("%s", r.stderr)
		}
		return nil
	})
	alpha := strings.TrimSpace(as(admin, "token-create", "-project", "alpha", "-q").must(t))
	beta := strings.TrimSpace(as(admin, "token-create", "-project", "beta", "-q").must(t))
	c.agent = c.process("agent", "agent", "-server", c.addr, "-gossip=false", "-data-dir", file("data"), "-name", "host-1", "-log-level",
		"debug", "-join-token", testJoinToken, "-registry", r.addr, "-image-gc-high", "0")
	c.agent.start()
	as(admin, "bay-create", "-name", "b", "-shared", "-wait", "2m").must(t)

	run := func(token, name, image, password string, more ...string) result {
		t.Helper()
		args := append([]string{"container-run", "-d", "-name", name}, more...)
		if password != "" {
			args = append(args, "-registry-username", r.username, "-registry-password-stdin")
		}
		return with(token, password, append(args, image, "sh", "-c", sleepScript)...)
	}
	run(alpha, "a1", private.ref, r.password).must(t)
	raw, err := c.engine.ImageInspect(context.Background(), private.ref)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, _ = c.engine.ImageRemove(context.Background(), raw.ID, dockerimage.RemoveOptions{Force: true})
	})
	for i, name := range []string{private.ref, raw.RepoDigests[0], strings.TrimPrefix(raw.ID, "sha256:")[:12]} {
		for _, policy := range []string{"ifnotpresent", "never", "always"} {
			for j, password := range []string{"", "wrong"} {
				if got := run(beta, fmt.Sprintf("b%d-%s-%d", i, policy, j), name, password, "-pull", policy); got.code == 0 {
					t.Errorf("beta runs %s, policy %s, with the password %q", name, policy, password)
				}
			}
		}
	}
	if list := as(beta, "image-list").must(t); strings.Contains(list, private.ref) {
		t.Errorf("beta sees\n%s", list)
	}
	if list := as(alpha, "image-list").must(t); !strings.Contains(list, private.ref) {
		t.Errorf("alpha sees\n%s", list)
	}
	// The same holds for pods, their init containers, and the replicas of a controller.
	manifest := func(kind, name, policy string, initial bool) string {
		t.Helper()
		of := func(name, image, script string) map[string]any {
			return map[string]any{"name": name, "image": image, "imagePullPolicy": policy, "command": []string{"sh", "-c", script}}
		}
		spec := map[string]any{"containers": []any{of("main", private.ref, sleepScript)}}
		if initial {
			spec = map[string]any{"initContainers": []any{of("first", private.ref, "true")},
				"containers": []any{of("main", image, sleepScript)}}
		}
		all := map[string]any{"apiVersion": "v1", "kind": kind, "metadata": map[string]any{"name": name}, "spec": spec}
		if kind == "ReplicationController" {
			labels := map[string]any{"of": name}
			all["spec"] = map[string]any{"replicas": 1, "selector": labels, "template": map[string]any{"metadata": map[string]any{
				"labels": labels}, "spec": spec}}
		}
		if err := os.WriteFile(file(name), r.json(all), 0o600); err != nil {
			t.Fatal(err)
		}
		return file(name)
	}
	apply := func(token, password, manifest string) {
		t.Helper()
		args := []string{"apply", "-d", "-bay", "b", "-f", manifest}
		if password != "" {
			args = append(args, "-registry-username", r.username, "-registry-password-stdin", "-registry-server", r.addr)
		}
		with(token, password, args...).must(t)
	}
	pods := func(token string, want int, status string) {
		t.Helper()
		c.eventually(fmt.Sprintf("%d pods say %s", want, status), 2*time.Minute, func() error {
			if list := as(token, "pod-list", "-wide").must(t); strings.Count(list, status) != want {
				return fmt.Errorf("%s", list)
			}
			return nil
		})
	}
	for i, policy := range []string{"IfNotPresent", "Never", "Always"} {
		apply(beta, "", manifest("Pod", fmt.Sprint("bp", i), policy, false))
	}
	apply(beta, "wrong", manifest("Pod", "bp-init", "IfNotPresent", true))
	apply(beta, "", manifest("ReplicationController", "brc", "IfNotPresent", false))
	apply(alpha, r.password, manifest("Pod", "ap", "Never", false))
	apply(alpha, r.password, manifest("Pod", "ap-init", "IfNotPresent", true))
	apply(alpha, r.password, manifest("ReplicationController", "arc", "IfNotPresent", false))
	pods(alpha, 3, "Running")
	pods(beta, 5, "Image")
	all, err := c.engine.ContainerList(context.Background(), container.ListOptions{All: true,
		Filters: filters.NewArgs(filters.Arg("label", "magnum.project=beta"))})
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range all {
		if b.ImageID == raw.ID {
			t.Errorf("beta has the container %v of alpha's image", b.Names)
		}
	}
	run(alpha, "a2", private.ref, r.password).must(t)
	run(alpha, "a3", image, "").must(t)
	run(beta, "b3", image, "").must(t)
}
