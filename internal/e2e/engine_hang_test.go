//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

// TestLongEngineHangs: an engine accepts connections but answers nothing, and
// then is restarted, under a cluster of three servers. Requests to it fail with
// an error that says so. Actions say what they wait for and are done once the
// engine answers again. Nothing runs twice.
func TestLongEngineHangs(t *testing.T) {
	t.Parallel()
	own := newOwnEngine(t)
	c := newThreeServers(t, 0)
	c.engine = engineAt(t, own.host)
	c.addAgent("host-1", "-docker-host", own.host)
	agent := c.agents[0]
	steady, stopping := c.run("steady", sleepScript), c.run("stopping", sleepScript)
	began := c.engine.started(agent.hostID())

	own.signal(syscall.SIGSTOP)
	t.Cleanup(func() { own.signal(syscall.SIGCONT) }) // a stopped engine could not be ended
	// The first one finds out that the engine hangs; the later ones know it.
	const bound = time.Minute
	for _, args := range [][]string{
		{"container-logs", steady.UUID}, {"container-execute", steady.UUID, "echo", "hi"},
		{"container-stats", steady.UUID}, {"container-top", steady.UUID}, {"container-cp", steady.UUID + ":/etc/passwd", "-"},
	} {
		from := time.Now()
		r := c.magnum(args...)
		took := time.Since(from)
		if r.code != 1 || took > bound || args[0] != "container-logs" && !strings.Contains(r.stderr, "Docker engine") {
			t.Errorf("%s: code %d after %v: %s", args[0], r.code, took.Round(time.Millisecond), r.stderr)
		}
	}
	c.awaitLog(agent.process, "engine is away", 0)
	if r := c.magnum("image-list"); !strings.Contains(r.stderr, "Host host-1 is left out: the Docker engine does not answer") {
		t.Errorf("image-list says %q, %q", r.stdout, r.stderr)
	}
	late, _, err := c.client.Containers().Create(c.ctx(), c.request("late", sleepScript),
		api.CreateOptions{Run: true, WriteOptions: api.WriteOptions{Wait: -1}})
	if err != nil {
		t.Fatal(err)
	}
	r := c.magnum("container-stop", "-wait", "12s", stopping.UUID)
	if !strings.Contains(r.stderr, "engine") {
		t.Errorf("stop says %q, %q and ends with %d", r.stdout, r.stderr, r.code)
	}
	c.eventually("waiting containers say what they wait for", patience, func() error {
		for _, id := range []string{late.UUID, stopping.UUID} {
			b, _, err := c.client.Containers().Get(c.ctx(), id, api.QueryOptions{})
			if err == nil && !strings.Contains(deref(b.StatusReason), "what was asked for is done once it does") {
				err = fmt.Errorf("%s is %s (%s)", b.Name, b.Status, deref(b.StatusReason))
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if b, _, err := c.client.Containers().Get(c.ctx(), steady.UUID, api.QueryOptions{}); err != nil ||
		b.Status != structs.ContainerRunning {
		t.Errorf("the container without a request is %+v, %v", b, err)
	}

	own.signal(syscall.SIGCONT)
	c.await(stopping.UUID, structs.ContainerStopped)
	for _, id := range []string{late.UUID, steady.UUID} {
		if b := c.await(id, structs.ContainerRunning); deref(b.StatusReason) != "" {
			t.Errorf("%s runs, with reason %q", b.Name, deref(b.StatusReason))
		}
	}
	if now := c.engine.started(agent.hostID()); now[steady.UUID] != began[steady.UUID] {
		t.Errorf("I6: the container began at %s, and now at %s", began[steady.UUID], now[steady.UUID])
	}
	c.magnum("container-execute", steady.UUID, "true").must(t)

	// The engine is killed and started again; the container's process may outlive that.
	own.kill()
	own.start()
	c.eventually("a container runs on the engine that was started again", time.Minute, func() error {
		if r := c.magnum("container-execute", steady.UUID, "true"); r.code != 0 {
			b, _, err := c.client.Containers().Get(c.ctx(), steady.UUID, api.QueryOptions{})
			if err == nil && b.Status == structs.ContainerStopped {
				_, err = c.client.Containers().Action(c.ctx(), steady.UUID, api.Start, api.ActionOptions{})
			}
			return fmt.Errorf("%s, %v", r.stderr, err)
		}
		return nil
	})
	if err := c.engine.noDuplicates(agent.hostID()); err != nil {
		t.Error(err)
	}
}
