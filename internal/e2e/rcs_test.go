//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	dockerimage "github.com/docker/docker/api/types/image"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

// rcManifest is a replication controller of pods that are ready a moment after their
// start.
func rcManifest(name string, replicas int, image string) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: ReplicationController
metadata: {name: %[1]s}
spec:
  replicas: %[2]d
  selector: {app: %[1]s}
  template:
    metadata: {labels: {app: %[1]s}}
    spec:
      terminationGracePeriodSeconds: 2
      containers:
      - name: web
        image: %[3]s
        imagePullPolicy: IfNotPresent
        command: ["sh", "-c", "touch /ready; trap 'exit 0' TERM; while :; do sleep 1 & wait; done"]
        resources: {requests: {memory: 8Mi}}
        readinessProbe: {exec: {command: ["test", "-e", "/ready"]}, periodSeconds: 1, timeoutSeconds: 20}
`, name, replicas, image)
}

// replicasOf returns the pods that count for a replication controller, in creation order.
func (c *cluster) replicasOf(rc *structs.RCBody) ([]structs.PodBody, error) {
	pods, _, err := c.client.Pods().List(c.ctx(), api.QueryOptions{Consistent: true, Detail: true})
	return slices.DeleteFunc(pods, func(p structs.PodBody) bool {
		return deref(p.RCUUID) != rc.UUID || p.Status == structs.PodPhase(structs.ContainerDeleting)
	}), err
}

// awaitReplicas waits until a replication controller has as many pods as it wants, all
// ready, and the pods are as wanted.
func (c *cluster) awaitReplicas(rc *structs.RCBody, what string, are func([]structs.PodBody) error) []structs.PodBody {
	c.Helper()
	var pods []structs.PodBody
	c.eventually("rc "+rc.Name+" "+what, patience, func() error {
		now, _, err := c.client.RCs().Get(c.ctx(), rc.UUID, api.QueryOptions{Consistent: true})
		if err != nil {
			return err
		}
		if pods, err = c.replicasOf(rc); err != nil {
			return err
		}
		if now.Current != now.Replicas || now.Ready != now.Replicas || now.Updated != now.Replicas || len(pods) != now.Replicas {
			return fmt.Errorf("of %d pods %d are there, %d ready, %d of the template, %d shown (%s)", now.Replicas, now.Current, now.Ready,
				now.Updated, len(pods), deref(now.StatusReason))
		}
		return are(pods)
	})
	return pods
}

// onHosts expects pods on exactly these hosts, in any order.
func onHosts(hosts ...string) func([]structs.PodBody) error {
	return func(pods []structs.PodBody) error {
		var on []string
		for i := range pods {
			on = append(on, deref(pods[i].Host))
		}
		slices.Sort(on)
		if !slices.Equal(on, hosts) {
			return fmt.Errorf("the pods are on %v", on)
		}
		return nil
	}
}

// neverBelow watches until stop is called: a replication controller never has fewer ready
// pods than wanted, nor more than one pod too many.
func (c *cluster) neverBelow(rc *structs.RCBody, wanted int) (stop func()) {
	done := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		for looks := 1; ; looks++ {
			pods, err := c.replicasOf(rc)
			ready := 0
			for i := range pods {
				if pods[i].Ready {
					ready++
				}
			}
			if err != nil || ready < wanted || len(pods) > wanted+1 {
				c.Errorf("look %d at a rolling update: %d of %d pods are ready, %v", looks, ready, len(pods), err)
				return
			}
			select {
			case <-done:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
	return func() {
		close(done)
		watching.Wait()
	}
}

// TestReplicationControllers takes a replication controller of two hosts from its manifest
// to its deletion: pods are killed and deleted, the template and the number of replicas
// change, and a host is lost.
func TestReplicationControllers(t *testing.T) {
	t.Parallel()
	l := &commandLine{newCluster(t)}
	h := l.addHost()
	file := filepath.Join(l.dir, "web.yaml")
	write := func(replicas int, image string) {
		if err := os.WriteFile(file, []byte(rcManifest("web", replicas, image)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	both := onHosts("host-1", "host-2")

	write(2, image)
	l.says([]string{"rc-create", "-manifest", file}, "web")
	rc, _, err := l.client.RCs().Get(l.ctx(), "web", api.QueryOptions{})
	if err != nil {
		t.Fatal(err)
	}
	pods := l.awaitReplicas(rc, "has a pod on each host", both)
	l.says([]string{"rc-list", "-wide"}, "web", `"app":"web"`)

	// A container that is killed starts again in its pod. A pod that is deleted is replaced.
	engineOf := map[string]*engine{"host-1": l.engine, "host-2": h.engine}
	killed, deleted := pods[0], pods[1]
	id, _, _ := strings.Cut(l.podParts(engineOf[deref(killed.Host)], killed.UUID)["web"], " ")
	if err := engineOf[deref(killed.Host)].ContainerKill(t.Context(), id, "KILL"); err != nil {
		t.Fatal(err)
	}
	l.says([]string{"pod-delete", deleted.Name})
	pods = l.awaitReplicas(rc, "has replaced a pod", func(pods []structs.PodBody) error {
		if pods[0].UUID != killed.UUID || restartsOf(&pods[0], "web") != 1 || pods[1].UUID == deleted.UUID {
			return fmt.Errorf("there are %s with %d restarts, and %s", pods[0].Name, restartsOf(&pods[0], "web"), pods[1].Name)
		}
		return both(pods)
	})

	// Another image.
	other := "magnum-test/busybox:" + filepath.Base(l.dir) + "-" + l.bay.UUID[:8]
	for _, e := range engineOf {
		if err := e.ImageTag(t.Context(), image, other); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _, _ = l.engine.ImageRemove(context.Background(), other, dockerimage.RemoveOptions{}) })
	stop := l.neverBelow(rc, 2)
	write(2, other)
	l.says([]string{"rc-update", "web", "replace", "manifest=" + file}, other)
	stop()
	l.awaitReplicas(rc, "has pods of the other image", func(now []structs.PodBody) error {
		for i := range now {
			if now[i].UUID == pods[0].UUID || now[i].UUID == pods[1].UUID || !slices.Equal(now[i].Images, []string{other}) {
				return fmt.Errorf("pod %s is of %v", now[i].Name, now[i].Images)
			}
		}
		return both(now)
	})

	write(0, other)
	l.says([]string{"rc-update", "web", "replace", "manifest=" + file}, "replicas")
	l.awaitReplicas(rc, "has no pods", onHosts())
	write(2, other)
	l.says([]string{"rc-update", "web", "replace", "manifest=" + file}, "replicas")
	pods = l.awaitReplicas(rc, "has pods again", both)

	h.agent.kill()
	l.awaitReplicas(rc, "has both pods on the host that is left", func(now []structs.PodBody) error {
		for i := range now {
			if now[i].UUID != pods[i].UUID || (deref(pods[i].Host) == "host-2") != (now[i].Epoch == 2) {
				return fmt.Errorf("pod %s of epoch %d, before pod %s of %d", now[i].Name, now[i].Epoch, pods[i].Name, pods[i].Epoch)
			}
		}
		return onHosts("host-1", "host-1")(now)
	})
	h.agent.start()

	l.says([]string{"rc-delete", "web"})
	l.refused(1, []string{"rc-show", "web"}, "could not be found")
	l.eventually("the engines have nothing of the pods", patience, func() error {
		mine, err := l.engine.list(l.hostID())
		its, err2 := h.engine.ContainerList(t.Context(), container.ListOptions{All: true})
		if err := errors.Join(err, err2); err != nil || len(mine)+len(its) > 0 {
			return fmt.Errorf("they have %v and %v, %w", mine, its, err)
		}
		return nil
	})
}
