//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/volume"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

// webPod is a pod whose init container writes a page into a volume. The container web
// serves it, and the container client reads it again and again over the network that
// both share.
const webPod = `
apiVersion: v1
kind: Pod
metadata:
  name: web
  labels: {app: web}
spec:
  terminationGracePeriodSeconds: 2
  volumes:
  - name: pages
    emptyDir: {}
  initContainers:
  - name: page
    image: ` + image + `
    imagePullPolicy: IfNotPresent
    command: ["sh", "-c", "echo $(POD_NAME) is here > /pages/index.html"]
    env:
    - name: POD_NAME
      valueFrom: {fieldRef: {fieldPath: metadata.name}}
    volumeMounts:
    - {name: pages, mountPath: /pages}
  containers:
  - name: web
    image: ` + image + `
    imagePullPolicy: IfNotPresent
    command: ["httpd", "-f", "-p", "8080", "-h", "/pages"]
    resources: {requests: {memory: 16Mi}, limits: {memory: 32Mi}}
    readinessProbe:
      httpGet: {path: /index.html, port: 8080}
      periodSeconds: 1
      timeoutSeconds: 20
    volumeMounts:
    - {name: pages, mountPath: /pages, readOnly: true}
  - name: client
    image: ` + image + `
    imagePullPolicy: IfNotPresent
    command: ["sh", "-c", "trap 'exit 0' TERM; while :; do wget -q -O - http://127.0.0.1:8080/index.html; sleep 1; done"]
`

// podParts are the engine's containers of a pod's newest attempts: the engine's ID and
// start of each running one, by part.
func (c *cluster) podParts(e *engine, podID string) map[string]string {
	c.Helper()
	ctx := context.Background()
	list, err := e.ContainerList(ctx, container.ListOptions{Filters: filters.NewArgs(filters.Arg("label", "magnum.workload="+podID))})
	if err != nil {
		c.Fatal(err)
	}
	parts := make(map[string]string)
	for _, s := range list {
		part := s.Labels["magnum.part"]
		if parts[part] != "" {
			c.Errorf("I4: two containers of part %s run", part)
		}
		info, err := e.ContainerInspect(ctx, s.ID)
		if err == nil {
			parts[part] = s.ID + " " + info.State.StartedAt
		}
	}
	return parts
}

// awaitPod waits until a pod is in a state.
func (c *cluster) awaitPod(ident, what string, is func(*structs.PodBody) bool) *structs.PodBody {
	c.Helper()
	var p *structs.PodBody
	c.eventually("pod "+ident+" "+what, patience, func() (err error) {
		p, _, err = c.client.Pods().Get(c.ctx(), ident, api.QueryOptions{})
		if err == nil && !is(p) {
			err = fmt.Errorf("it is %s (%s), ready %v, with %+v", p.Status, deref(p.StatusReason), p.Ready, p.Containers)
		}
		return err
	})
	return p
}

func podIsReady(p *structs.PodBody) bool { return p.Ready && p.Status == structs.PodRunning }

// restartsOf returns the restarts of a container of a pod.
func restartsOf(p *structs.PodBody, name string) int {
	for _, c := range p.Containers {
		if c.Name == name {
			return c.RestartCount
		}
	}
	return -1
}

// TestPods takes a pod from its manifest to its deletion, with what happens to it in
// between.
func TestPods(t *testing.T) {
	t.Parallel()
	l := &commandLine{newCluster(t)}
	file := filepath.Join(l.dir, "web.yaml")
	if err := os.WriteFile(file, []byte(webPod), 0o600); err != nil {
		t.Fatal(err)
	}
	l.says([]string{"pod-create", "-manifest", file}, "web")
	pod := l.awaitPod("web", "is ready", podIsReady)
	l.refused(1, []string{"pod-create", "-manifest", file}, "web", "already")
	l.says([]string{"pod-list", "-wide"}, "web", "Running", "2/2")
	l.says([]string{"pod-show", "web"}, "host-1", "client")
	l.eventually("the client has read the page", patience, func() error {
		return has(l.says([]string{"pod-logs", "-container", "client", "web"}), "web is here")
	})
	if out := l.says([]string{"pod-execute", "-container", "web", "web", "cat", "/pages/index.html"}); out != "web is here\n" {
		t.Errorf("the page is %q", out)
	}

	l.podSessions(file)

	parts := l.podParts(l.engine, pod.UUID)
	if len(parts) != 3 {
		t.Fatalf("the engine runs %v, want infra, web and client", parts)
	}
	ctx := context.Background()
	id := func(parts map[string]string, name string) string { return strings.Fields(parts[name] + " ")[0] }

	// A container that ends is made again, and the others are left alone.
	if err := l.engine.ContainerKill(ctx, id(parts, "client"), "KILL"); err != nil {
		t.Fatal(err)
	}
	l.awaitPod("web", "has restarted the client", func(p *structs.PodBody) bool { return podIsReady(p) && restartsOf(p, "client") == 1 })
	l.says([]string{"pod-logs", "-previous", "-container", "client", "web"}, "web is here")
	now := l.podParts(l.engine, pod.UUID)
	if now["web"] != parts["web"] || now[structs.PodInfra] != parts[structs.PodInfra] || now["client"] == parts["client"] {
		t.Errorf("after the client was killed there is %v, before %v", now, parts)
	}

	// A new agent adopts what runs.
	l.agent.kill()
	l.agent.start()
	if err := l.engine.ContainerRemove(ctx, id(now, "client"), container.RemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	p := l.awaitPod("web", "has a client again", func(p *structs.PodBody) bool { return podIsReady(p) && restartsOf(p, "client") == 2 })
	after := l.podParts(l.engine, pod.UUID)
	if after["web"] != now["web"] || after[structs.PodInfra] != now[structs.PodInfra] || p.Epoch != 1 {
		t.Errorf("epoch %d has %v, before %v", p.Epoch, after, now)
	}

	// Without the infra container the pod's network is gone: all containers are made again.
	if err := l.engine.ContainerKill(ctx, id(now, structs.PodInfra), "KILL"); err != nil {
		t.Fatal(err)
	}
	l.eventually("all containers are made again", patience, func() error {
		after := l.podParts(l.engine, pod.UUID)
		for _, name := range []string{structs.PodInfra, "web", "client"} {
			if after[name] == "" || after[name] == now[name] {
				return fmt.Errorf("there is %v, before %v", after, now)
			}
		}
		return nil
	})
	l.awaitPod("web", "is ready in its new network", podIsReady)

	l.says([]string{"delete", "-f", file}, "pod/web deleted")
	l.refused(1, []string{"pod-show", "web"}, "could not be found")
	its := filters.NewArgs(filters.Arg("label", "magnum.workload="+pod.UUID))
	list, err := l.engine.ContainerList(ctx, container.ListOptions{All: true, Filters: its})
	volumes, err2 := l.engine.VolumeList(ctx, volume.ListOptions{Filters: its})
	if err := errors.Join(err, err2); err != nil || len(list) > 0 || len(volumes.Volumes) > 0 {
		var names []string
		for _, s := range list {
			names = append(names, fmt.Sprint(s.Names, s.State, s.Status))
		}
		t.Errorf("after the delete the engine has containers %v and volumes %v, %v", names, volumes.Volumes, err)
	}
}

// podSessions looks into the pod web of the manifest in file, and connects to it.
func (l *commandLine) podSessions(file string) {
	l.Helper()
	l.says([]string{"apply", "-f", file}, "pod/web unchanged")
	l.says([]string{"pod-top", "web", "-o", "args"}, "httpd")
	l.says([]string{"pod-stats", "-no-stream", "web"}, "| web/web ", "| web/client ")
	page := filepath.Join(l.dir, "page")
	if l.says([]string{"pod-cp", "-c", "client", "web:/etc/hostname", page}); readFile(l, page) != "web\n" {
		l.Errorf("pod-cp copies %q", readFile(l, page))
	}
	f := follow(l.TB, l.addr, "port-forward", "web", ":8080")
	_, to, _ := strings.Cut(<-f.lines, "Forwarding from ")
	to, _, _ = strings.Cut(to, " ")
	resp, err := http.Get("http://" + to + "/index.html")
	if err != nil {
		l.Fatal(err)
	}
	defer resp.Body.Close()
	if text, err := io.ReadAll(resp.Body); string(text) != "web is here\n" || err != nil {
		l.Errorf("through the forwarded port comes %q, %v", text, err)
	}
	if err := f.cmd.Process.Signal(os.Interrupt); err != nil {
		l.Fatal(err)
	}
	if code, text := f.ended(); code != 0 || text != "" {
		l.Errorf("port-forward ends with %d, %s", code, text)
	}
}

func readFile(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestPodOfLostHostMoves: a pod with the restart policy Always runs on another host once
// its own is lost, and its containers go from the old host when that returns.
func TestPodOfLostHostMoves(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	h := c.addHost()
	c.magnum("host-drain", "-detach", "host-1").must(c)
	// The second agent is outside of its engine's network, so it can't reach the pod's address.
	manifest := strings.NewReplacer("name: web\n  labels", "name: moves\n  labels", "httpGet: {path: /index.html, port: 8080}",
		`exec: {command: ["wget", "-q", "-O", "-", "http://127.0.0.1:8080/index.html"]}`).Replace(webPod)
	made, _, err := c.client.Pods().Create(c.ctx(), &structs.PodRequest{Bay: c.bay.UUID, Manifest: manifest}, api.WriteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p := c.awaitPod(made.UUID, "is ready", podIsReady)
	if deref(p.Host) != "host-2" {
		t.Fatalf("the pod is on %s", deref(p.Host))
	}
	c.magnum("host-undrain", "host-1").must(c)
	before := c.podParts(h.engine, made.UUID)

	h.cut.Store(true)
	c.awaitPod(made.UUID, "runs on the other host", func(p *structs.PodBody) bool {
		return podIsReady(p) && deref(p.Host) == "host-1" && p.Epoch == 2
	})
	if now := c.podParts(h.engine, made.UUID); !maps.Equal(now, before) {
		t.Errorf("on the host that was cut off %v ran, and now %v", before, now)
	}
	moved := c.podParts(c.engine, made.UUID)
	h.cut.Store(false)
	c.eventually("the old host has removed its containers", patience, func() error {
		if left := c.podParts(h.engine, made.UUID); len(left) > 0 {
			return fmt.Errorf("it has %v", left)
		}
		return nil
	})
	if now := c.podParts(c.engine, made.UUID); !maps.Equal(now, moved) {
		t.Errorf("%v ran, and now %v", moved, now)
	}
}
