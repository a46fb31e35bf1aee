//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

// acked is the containers whose creation was acknowledged.
type acked struct {
	mu  sync.Mutex
	ids map[string]bool
}

func (a *acked) add(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ids[id] = true
}

func (a *acked) all() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Collect(maps.Keys(a.ids))
}

// createUnderFaults has workers create containers until stop is closed. If run
// is false, no host fits the containers. Errors are expected.
func (c *cluster) createUnderFaults(cycle, workers int, run bool, stop chan struct{}) (*acked, *sync.WaitGroup) {
	a := &acked{ids: make(map[string]bool)}
	var wg sync.WaitGroup
	for w := range workers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				r := c.request(fmt.Sprintf("load-%d-%d-%d", cycle, w, i), sleepScript)
				if !run {
					r.Constraints = map[string]string{"no": "such host"} // never placed
				}
				ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
				body, _, err := c.client.Containers().Create(ctx, r, api.CreateOptions{Run: run})
				cancel()
				if err == nil {
					a.add(body.UUID)
				}
				if run {
					time.Sleep(time.Duration(rand.IntN(300)) * time.Millisecond) // an engine starts few containers a second
				}
			}
		}()
	}
	return a, &wg
}

// expectListed checks that every acknowledged container is in the list (I1),
// and that no name is in it twice (I10).
func (c *cluster) expectListed(ids []string) {
	c.Helper()
	list, _, err := c.client.Containers().List(c.ctx(), api.QueryOptions{Consistent: true})
	if err != nil {
		c.Fatal(err)
	}
	there := make(map[string]bool, len(list))
	names := make(map[string]int, len(list))
	for _, b := range list {
		there[b.UUID] = true
		names[b.Name]++
	}
	for _, id := range ids {
		if !there[id] {
			c.Errorf("I1: container %s was acknowledged and is lost", id)
		}
	}
	for name, n := range names {
		if n > 1 {
			c.Errorf("I10: one create made %d containers named %s", n, name)
		}
	}
}

// acknowledged fails the test if no create was acknowledged: then nothing could
// be lost.
func (c *cluster) acknowledged(creates int) {
	c.Helper()
	c.Logf("%d creates were acknowledged", creates)
	if creates == 0 {
		c.Fatal("nothing was acknowledged, so nothing was tested")
	}
}

// deleteAll deletes containers and waits until they are gone.
func (c *cluster) deleteAll(ids []string) {
	c.Helper()
	for _, id := range ids {
		_, err := c.client.Containers().Delete(c.ctx(), id, api.DeleteOptions{Force: true, WriteOptions: api.WriteOptions{Wait: -1}})
		if err != nil && structs.CodeOf(err) != structs.CodeNotFound {
			c.Fatal(err)
		}
	}
	for _, id := range ids {
		c.awaitGone(id)
	}
}

// state returns the index and the hash of the server's state.
func (c *cluster) state() (index uint64, hash string) {
	c.Helper()
	s, _, err := c.client.OperatorState(c.ctx())
	if err != nil {
		c.Fatal(err)
	}
	return s.Index, s.Hash
}

// awaitServer waits until the server answers consistent reads.
func (c *cluster) awaitServer() {
	c.Helper()
	c.eventually("the server leads", time.Minute, func() error {
		_, _, err := c.client.Containers().List(c.ctx(), api.QueryOptions{Consistent: true, Limit: 1})
		return err
	})
}

// TestLongKillServerUnderCreates: creates go on while the server is killed. I1,
// I3, I10.
func TestLongKillServerUnderCreates(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	total := 0
	for cycle := range cycles(t) {
		stop := make(chan struct{})
		made, wg := c.createUnderFaults(cycle, 8, false, stop)
		time.Sleep(time.Duration(200+rand.IntN(600)) * time.Millisecond)
		c.server.kill()
		c.server.start()
		time.Sleep(time.Duration(rand.IntN(300)) * time.Millisecond) // some creates arrive while the server starts
		c.awaitServer()
		close(stop)
		wg.Wait()
		ids := made.all()
		total += len(ids)
		c.expectListed(ids)
	}
	c.acknowledged(total)
	// A clean restart and a full replay come to the same state. The agent is stopped
	// because nothing else may write. The server itself may write: then the states
	// have different indexes, and are not compared.
	c.agent.stop()
	c.eventually("nothing is written around a restart", 2*patience, func() error {
		index, before := c.state()
		c.server.stop()
		c.server.start()
		c.awaitServer()
		now, after := c.state()
		if now != index {
			return fmt.Errorf("the state was at index %d, and now is at %d", index, now)
		}
		if after != before {
			t.Errorf("I3: at index %d the state is %s before the restart, %s after it", index, before, after)
		}
		return nil
	})
}

// counted is a container that counts its own starts.
type counted struct {
	*structs.ContainerBody
	starts int // requested
}

// newCounted runs a container that writes a line for each of its starts.
func (c *cluster) newCounted(name string) *counted {
	c.Helper()
	r := c.request(name, "echo start >> /starts/log; "+sleepScript)
	r.Volumes = []structs.Mount{{Name: name, Target: "/starts"}}
	return &counted{c.create(r, structs.ContainerRunning), 1}
}

// check expects the container to have been started as often as requested: I6.
// It waits for a reboot that the agent has not received yet. More starts than
// requested are a failure at any time.
func (k *counted) check(c *cluster) {
	c.Helper()
	c.eventually(fmt.Sprintf("%s was started %d times", k.Name, k.starts), patience, func() error {
		out, _, err := c.client.Containers().Execute(c.ctx(), k.UUID, structs.ExecRequest{Command: []string{"cat", "/starts/log"}})
		if err != nil {
			return err // the container is being started
		}
		got := strings.Count(out.Output, "start")
		if got > k.starts {
			c.Fatalf("I6: %s was started %d times, and %d starts were requested", k.Name, got, k.starts)
		}
		if got < k.starts {
			return fmt.Errorf("I6: it was started %d times", got)
		}
		return nil
	})
}

// TestLongKillAgentUnderLoad: the agent is killed while containers are created
// and rebooted. I4, I5, I6, I9.
func TestLongKillAgentUnderLoad(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	bystander := c.run("bystander", sleepScript)
	var rebooted []*counted
	for i := range 3 {
		rebooted = append(rebooted, c.newCounted(fmt.Sprintf("counted-%s-%d", c.bay.UUID[:8], i)))
	}
	began := c.engine.started(c.hostID())[bystander.UUID]
	total := 0
	for cycle := range cycles(t) {
		stop := make(chan struct{})
		made, wg := c.createUnderFaults(cycle, 2, true, stop)
		for _, k := range rebooted {
			action := api.Reboot
			if cycle%2 == 1 {
				action = api.Stop
			}
			if _, err := c.client.Containers().Action(c.ctx(), k.UUID, action,
				api.ActionOptions{WriteOptions: api.WriteOptions{Wait: -1}}); err != nil {
				t.Fatal(err)
			}
			if action == api.Reboot {
				k.starts++
			}
		}
		time.Sleep(time.Duration(rand.IntN(800)) * time.Millisecond)
		c.agent.kill()
		if err := c.engine.noDuplicates(c.hostID()); err != nil {
			t.Error(err)
		}
		c.agent.start()
		time.Sleep(time.Duration(rand.IntN(500)) * time.Millisecond)
		close(stop)
		wg.Wait()
		for _, k := range rebooted {
			if cycle%2 == 1 {
				if _, err := c.client.Containers().Action(c.ctx(), k.UUID, api.Start,
					api.ActionOptions{WriteOptions: api.WriteOptions{Wait: time.Minute}}); err != nil {
					t.Fatal(err)
				}
				k.starts++
			}
		}
		c.awaitDesired()
		for _, k := range rebooted {
			k.check(c)
		}
		if now := c.engine.started(c.hostID())[bystander.UUID]; now != began {
			t.Fatalf("I6: the bystander began at %s, and now at %s", began, now)
		}
		total += len(made.all())
		c.deleteAll(made.all())
	}
	c.acknowledged(total)
}

// TestLongKillServerAndAgent: both are killed, in either order. I1, I4, I5, I6.
func TestLongKillServerAndAgent(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	bystander := c.run("bystander", sleepScript)
	began := c.engine.started(c.hostID())[bystander.UUID]
	total := 0
	for cycle := range cycles(t) {
		stop := make(chan struct{})
		made, wg := c.createUnderFaults(cycle, 2, true, stop)
		time.Sleep(time.Duration(rand.IntN(700)) * time.Millisecond)
		first, second := c.server, c.agent
		if cycle%2 == 1 {
			first, second = second, first
		}
		first.kill()
		second.kill()
		second.start()
		time.Sleep(time.Duration(rand.IntN(500)) * time.Millisecond)
		first.start()
		c.awaitServer()
		close(stop)
		wg.Wait()
		c.expectListed(made.all())
		c.awaitDesired()
		if now := c.engine.started(c.hostID())[bystander.UUID]; now != began {
			t.Fatalf("I6: the bystander began at %s, and now at %s", began, now)
		}
		total += len(made.all())
		c.deleteAll(made.all())
	}
	c.acknowledged(total)
}

// TestLongServerIsPaused: a server that was stopped by SIGSTOP for 20 s goes
// on, and no host is lost. I1, I5, I6, I7.
func TestLongServerIsPaused(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	bystander := c.run("bystander", sleepScript)
	began := c.engine.started(c.hostID())[bystander.UUID]
	made := &acked{ids: map[string]bool{bystander.UUID: true}}
	for cycle := range cycles(t) {
		c.server.signal(syscall.SIGSTOP)
		waiting := make(chan error, 1)
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			body, _, err := c.client.Containers().Create(ctx, c.request(fmt.Sprintf("late-%d", cycle), sleepScript),
				api.CreateOptions{Run: true})
			if err == nil {
				made.add(body.UUID)
			}
			waiting <- err
		}()
		time.Sleep(20 * time.Second) // the fault itself
		c.server.signal(syscall.SIGCONT)
		if err := <-waiting; err != nil {
			t.Errorf("a create sent to the stopped server: %v", err)
		}
		c.awaitServer()
		hosts, _, err := c.client.Hosts().List(c.ctx(), api.QueryOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range hosts {
			if h.State != structs.HostReady {
				t.Errorf("host %s is %s, although only the server was stopped", h.Name, h.State)
			}
		}
		c.awaitDesired()
		if now := c.engine.started(c.hostID())[bystander.UUID]; now != began {
			t.Fatalf("I6: the bystander began at %s, and now at %s", began, now)
		}
	}
	c.expectListed(made.all())
}

// TestLostHostComesBack: containers of a lost host are Unknown, and Running
// again after its next heartbeat. A container that was deleted by force
// meanwhile is then removed from the host. I5, I6, I7.
func TestLostHostComesBack(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	kept, forgotten := c.run("kept", sleepScript), c.run("forgotten", sleepScript)
	began := c.engine.started(c.hostID())[kept.UUID]
	c.agent.signal(syscall.SIGSTOP)
	lost := c.await(kept.UUID, structs.ContainerUnknown)
	if !strings.Contains(deref(lost.StatusReason), "host-1") {
		t.Errorf("the reason is %q", deref(lost.StatusReason))
	}
	if _, err := c.client.Containers().Delete(c.ctx(), forgotten.UUID, api.DeleteOptions{Force: true}); err != nil {
		t.Error(err)
	}
	late, _, err := c.client.Containers().Create(c.ctx(), c.request("late", sleepScript), api.CreateOptions{Run: true})
	if err != nil {
		t.Fatal(err)
	}
	if late.Status != structs.ContainerCreating || late.Host != nil || deref(late.StatusReason) == "" {
		t.Errorf("placed on a lost host: %+v", late)
	}
	c.agent.signal(syscall.SIGCONT)
	c.await(kept.UUID, structs.ContainerRunning)
	c.await(late.UUID, structs.ContainerRunning)
	all := c.awaitDesired()
	if len(all) != 2 {
		t.Errorf("%d containers are left, want 2", len(all))
	}
	if now := c.engine.started(c.hostID())[kept.UUID]; now != began {
		t.Errorf("I6: it began at %s, and now at %s", began, now)
	}
}
