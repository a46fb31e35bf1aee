//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	dockerimage "github.com/docker/docker/api/types/image"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

// This file changes containers on a host's engine behind magnum's back.

// policy is a request with a restart policy.
func (c *cluster) policy(name, policy string) *structs.ContainerRequest {
	r := c.request(name, sleepScript)
	r.RestartPolicy = structs.RestartPolicyOf(policy)
	return r
}

// checkReason expects all the words in the status reason.
func (c *cluster) checkReason(b *structs.ContainerBody, words ...string) {
	c.Helper()
	for _, w := range words {
		if !strings.Contains(deref(b.StatusReason), w) {
			c.Errorf("%s is %s with reason %q, which does not have %q", b.Name, b.Status, deref(b.StatusReason), w)
		}
	}
}

// act requests an action and waits until it is done.
func (c *cluster) act(id string, action api.Action) {
	c.Helper()
	if _, err := c.client.Containers().Action(c.ctx(), id, action,
		api.ActionOptions{WriteOptions: api.WriteOptions{Wait: time.Minute}}); err != nil {
		c.Fatalf("%s: %v", action, err)
	}
}

// onEngine returns the only Docker container of a container.
func (c *cluster) onEngine(id string) seen {
	c.Helper()
	var found []seen
	list, err := c.engine.list(c.hostID())
	if err != nil {
		c.Fatal(err)
	}
	for _, s := range list {
		if s.container == id {
			found = append(found, s)
		}
	}
	if len(found) != 1 {
		c.Fatalf("the engine has %d containers of %s, want 1", len(found), id)
	}
	return found[0]
}

// picture returns the engine's containers and their start times, for
// comparison.
func (c *cluster) picture() string {
	c.Helper()
	list, err := c.engine.list(c.hostID())
	if err != nil {
		c.Fatal(err)
	}
	return fmt.Sprint(list, c.engine.started(c.hostID()))
}

// awaitStarted waits until the container runs under the epoch, in another run
// than the one that began at not.
func (c *cluster) awaitStarted(id string, epoch uint64, not string) *structs.ContainerBody {
	c.Helper()
	var b *structs.ContainerBody
	c.eventually("container "+id+" runs again", time.Minute, func() (err error) {
		b, _, err = c.client.Containers().Get(c.ctx(), id, api.QueryOptions{})
		switch now := c.engine.started(c.hostID())[id]; {
		case err != nil:
			return err
		case b.Status != structs.ContainerRunning || b.Epoch != epoch || now == "" || now == not:
			return fmt.Errorf("it is %s under epoch %d since %s (%s)", b.Status, b.Epoch, now, deref(b.StatusReason))
		}
		return nil
	})
	return b
}

// TestChangesOnEngine: the agent notices what is changed on the engine, and
// corrects what differs from desired.
func TestChangesOnEngine(t *testing.T) {
	t.Parallel()
	shareCluster(t,
		sharedTest{"removed", containerRemoved}, sharedTest{"killed", containerKilled}, sharedTest{"stopped", containerStopped},
		sharedTest{"paused", containerPaused},
		sharedTest{"name taken", containerNameTaken}, sharedTest{"host port taken", hostPortTaken},
		sharedTest{"image missing", imageMissing},
		sharedTest{"start without image", startWithoutImage})
}

func containerRemoved(t *testing.T, c *cluster) {
	remove := func(id string) {
		t.Helper()
		if err := c.engine.ContainerRemove(c.ctx(), c.onEngine(id).id, container.RemoveOptions{Force: true}); err != nil {
			t.Fatal(err)
		}
	}
	no := c.create(c.policy("no", "no"), structs.ContainerRunning)
	remove(no.UUID)
	c.checkReason(c.await(no.UUID, structs.ContainerError), "removed from the host", "start it")
	c.act(no.UUID, api.Start)
	if b := c.await(no.UUID, structs.ContainerRunning); b.Epoch != 2 {
		t.Errorf("it is made again under epoch %d, want 2", b.Epoch)
	}

	always := c.create(c.policy("always", "always"), structs.ContainerRunning)
	began := c.engine.started(c.hostID())[always.UUID]
	remove(always.UUID)
	c.awaitStarted(always.UUID, 2, began)

	// A stopped container is removed, and then deleted.
	stopped := c.run("stopped", sleepScript)
	c.act(stopped.UUID, api.Stop)
	remove(stopped.UUID)
	c.checkReason(c.await(stopped.UUID, structs.ContainerError), "removed from the host")
	c.deleteAll([]string{stopped.UUID})
	c.awaitDesired()
}

func containerKilled(t *testing.T, c *cluster) {
	no := c.create(c.policy("no", "no"), structs.ContainerRunning)
	always := c.create(c.policy("always", "always"), structs.ContainerRunning)
	began := c.engine.started(c.hostID())
	for _, id := range []string{no.UUID, always.UUID} {
		if err := c.engine.ContainerKill(c.ctx(), c.onEngine(id).id, "KILL"); err != nil {
			t.Fatal(err)
		}
	}
	b := c.await(no.UUID, structs.ContainerStopped)
	c.checkReason(b, "signal 9", "not by magnum")
	if b.ExitCode == nil || *b.ExitCode != 137 {
		t.Errorf("exit code is %v, want 137", b.ExitCode)
	}
	c.awaitStarted(always.UUID, 1, began[always.UUID])
	c.eventually("the restart is reported", patience, func() error {
		if b := c.status(always.UUID); b.Status != structs.ContainerRunning || b.RestartCount != 1 {
			return fmt.Errorf("it is %s after %d restarts, want one", b.Status, b.RestartCount)
		}
		return nil
	})
	c.act(no.UUID, api.Start)
	c.awaitStarted(no.UUID, 1, began[no.UUID])
	c.awaitDesired()
}

func containerStopped(t *testing.T, c *cluster) {
	no := c.create(c.policy("no", "no"), structs.ContainerRunning)
	always := c.create(c.policy("always", "always"), structs.ContainerRunning)
	began := c.engine.started(c.hostID())
	for _, id := range []string{no.UUID, always.UUID} {
		if err := c.engine.ContainerStop(c.ctx(), c.onEngine(id).id, container.StopOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	b := c.await(no.UUID, structs.ContainerStopped)
	c.checkReason(b, "has ended")
	if b.ExitCode == nil || *b.ExitCode != 0 {
		t.Errorf("exit code is %v, want 0", b.ExitCode)
	}
	c.awaitStarted(always.UUID, 1, began[always.UUID])

	// A container that magnum has stopped is stopped again if it is started on the engine.
	if err := c.engine.ContainerStart(c.ctx(), c.onEngine(no.UUID).id, container.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	c.await(no.UUID, structs.ContainerRunning) // desired is still running
	c.act(no.UUID, api.Stop)
	if err := c.engine.ContainerStart(c.ctx(), c.onEngine(no.UUID).id, container.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	c.eventually("the container is stopped again", time.Minute, func() error {
		if s := c.onEngine(no.UUID); s.state != "exited" {
			return fmt.Errorf("it is %s", s.state)
		}
		return nil
	})
	c.await(no.UUID, structs.ContainerStopped)
	c.awaitDesired()
}

func containerPaused(t *testing.T, c *cluster) {
	b := c.run("napper", sleepScript)
	began := c.engine.started(c.hostID())[b.UUID]
	id := c.onEngine(b.UUID).id
	if err := c.engine.ContainerPause(c.ctx(), id); err != nil {
		t.Fatal(err)
	}
	c.checkReason(c.await(b.UUID, structs.ContainerPaused), "paused on its host", "unpause")
	if err := c.engine.ContainerUnpause(c.ctx(), id); err != nil {
		t.Fatal(err)
	}
	if b := c.await(b.UUID, structs.ContainerRunning); deref(b.StatusReason) != "" {
		t.Errorf("the reason %q is left", deref(b.StatusReason))
	}
	if err := c.engine.ContainerPause(c.ctx(), id); err != nil {
		t.Fatal(err)
	}
	c.await(b.UUID, structs.ContainerPaused)
	c.act(b.UUID, api.Unpause)
	c.await(b.UUID, structs.ContainerRunning)
	if now := c.engine.started(c.hostID())[b.UUID]; now != began {
		t.Errorf("it began at %s, and now at %s", began, now)
	}
}

// imageMissing: the create fails soon, and the container runs as soon as the
// engine has the image.
func imageMissing(t *testing.T, c *cluster) {
	r := c.request("imageless", sleepScript)
	r.Image = "127.0.0.1:1/none-" + c.bay.UUID + ":1" // nothing listens there
	_, _, err := c.client.Containers().Create(c.ctx(), r, api.CreateOptions{Run: true, WriteOptions: api.WriteOptions{Wait: time.Minute}})
	if err == nil || !strings.Contains(err.Error(), r.Image) {
		t.Fatalf("the create with wait ends with %v", err)
	}
	b := c.await("imageless", structs.ContainerError)
	c.checkReason(b, r.Image, "doesn't answer", "registry can be reached", "tried again in 30s")

	t.Cleanup(func() {
		if _, err := c.engine.ImageRemove(context.Background(), r.Image, dockerimage.RemoveOptions{Force: true}); err != nil {
			t.Error(err)
		}
	})
	began := time.Now()
	if err := c.engine.ImageTag(c.ctx(), image, r.Image); err != nil {
		t.Fatal(err)
	}
	c.await(b.UUID, structs.ContainerRunning)
	if took := time.Since(began); took > 25*time.Second { // it is tried again after 30 s in any case
		t.Errorf("the image was there for %s before it was used", took)
	}
	c.awaitDesired()
}

// startWithoutImage: a start by the user tries again at once and fails.
func startWithoutImage(t *testing.T, c *cluster) {
	r := c.request("imageless", sleepScript)
	r.Image, r.PullPolicy = "magnum-test/none-"+c.bay.UUID+":1", "never"
	b := c.create(r, structs.ContainerError)
	c.checkReason(b, r.Image, "never", "start it")
	_, err := c.client.Containers().Action(c.ctx(), b.UUID, api.Start, api.ActionOptions{WriteOptions: api.WriteOptions{Wait: time.Minute}})
	if err == nil || !strings.Contains(err.Error(), r.Image) {
		t.Fatalf("the start ends with %v", err)
	}
	c.await(b.UUID, structs.ContainerError)
	c.act(b.UUID, api.Stop) // nothing runs, so the stop is done at once
	c.deleteAll([]string{b.UUID})
}

// containerNameTaken: another Docker container has the name that magnum would
// use.
func containerNameTaken(t *testing.T, c *cluster) {
	r := c.request("clash", sleepScript)
	r.UUID = structs.NewID()
	name := "mg-" + r.UUID + "-1"
	foreign, err := c.engine.ContainerCreate(c.ctx(), &container.Config{Image: image}, nil, nil, nil, name)
	if err != nil {
		t.Fatal(err)
	}
	gone := false
	remove := func() {
		if !gone {
			gone = true
			if err := c.engine.ContainerRemove(context.Background(), foreign.ID, container.RemoveOptions{Force: true}); err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(remove)
	c.checkReason(c.create(r, structs.ContainerError), name, "docker rm")
	if _, err := c.engine.ContainerInspect(c.ctx(), foreign.ID); err != nil {
		t.Fatalf("the other container: %v", err)
	}
	remove()
	if b := c.await(r.UUID, structs.ContainerRunning); b.Epoch != 1 {
		t.Errorf("it runs under epoch %d, want 1", b.Epoch)
	}
	c.awaitDesired()
}

// hostPortTaken: a process of the host listens on the port.
func hostPortTaken(t *testing.T, c *cluster) {
	for _, heals := range []bool{true, false} {
		l, err := net.Listen("tcp", ":0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		port := l.Addr().(*net.TCPAddr).Port
		r := c.request(fmt.Sprintf("port-%d", port), sleepScript)
		r.Ports = []structs.Port{{ContainerPort: 80, HostPort: port, Protocol: "tcp"}}
		_, _, err = c.client.Containers().Create(c.ctx(), r, api.CreateOptions{Run: true,
			WriteOptions: api.WriteOptions{Wait: time.Minute}})
		if err == nil || !strings.Contains(err.Error(), strconv.Itoa(port)) {
			t.Fatalf("the create with wait ends with %v", err)
		}
		b := c.await(*r.Name, structs.ContainerError)
		c.checkReason(b, strconv.Itoa(port), "address already in use")
		l.Close()
		if !heals {
			c.act(b.UUID, api.Start) // at once
		}
		b = c.await(b.UUID, structs.ContainerRunning)
		if len(b.Ports) != 1 || b.Ports[0].HostPort != port {
			t.Errorf("ports are %v, want %d", b.Ports, port)
		}
		if s := c.onEngine(b.UUID); s.epoch != "1" {
			t.Errorf("it runs under epoch %s, want 1", s.epoch)
		}
	}
	c.awaitDesired()
}
