//go:build e2e

package e2e

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

// engineFaults end the engine of a host, which must be its own, and change its
// containers behind its back. They are also combined with faults of servers.
var engineFaults = []fault{
	{name: "engine kill -9", agents: true, most: 2 * time.Second, do: func(c *chaos) (string, func()) {
		a := oneOf(c.random, c.agents)
		a.own.kill()
		return a.name, c.engineBack(a)
	}},
	{name: "engine clean stop", agents: true, most: 2 * time.Second, do: func(c *chaos) (string, func()) {
		a := oneOf(c.random, c.agents)
		a.own.stop()
		return a.name, c.engineBack(a)
	}},
	{name: "docker kill behind its back", agents: true, most: time.Second, do: func(c *chaos) (string, func()) {
		return c.behind(func(a *hostAgent, id string) error { return a.engine.ContainerKill(c.ctx(), id, "KILL") })
	}},
	{name: "docker restart behind its back", agents: true, most: time.Second, do: func(c *chaos) (string, func()) {
		return c.behind(func(a *hostAgent, id string) error {
			now := 0
			return a.engine.ContainerRestart(c.ctx(), id, container.StopOptions{Timeout: &now})
		})
	}},
}

// engineBack returns what starts an engine again.
func (c *chaos) engineBack(a *hostAgent) func() {
	c.healed = append(c.healed, func() { c.running.revive(a) })
	return a.own.start
}

// behind does something to a container on its engine. Its restart policy or its
// owner then starts it again.
func (c *chaos) behind(do func(a *hostAgent, id string) error) (string, func()) {
	a := oneOf(c.random, c.agents)
	list, err := a.engine.list(a.hostID())
	// Whoever starts an earlier attempt of a part of a pod has two of them run.
	list = slices.DeleteFunc(list, func(s seen) bool { return s.part != "" && s.state != "running" })
	if err != nil || len(list) == 0 {
		return a.name + " has none", nil
	}
	s := oneOf(c.random, list)
	_ = do(a, s.id) // the container may be gone by now
	c.healed = append(c.healed, func() { c.running.revive(a) })
	return fmt.Sprintf("%.12s on %s", s.id, a.name), nil
}

// revive waits until containers that were ended on a host run again. As their
// owner would, it starts those that the restart policy does not. No client may
// change anything meanwhile.
func (l *runningContainers) revive(a *hostAgent) {
	l.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	restarted := false
	l.eventually("what ended on "+a.name+" runs again", retryFor, func() error {
		list, _, err := l.client.Containers().List(l.ctx(), api.QueryOptions{Consistent: true, Detail: true})
		if err != nil {
			return err
		}
		on, err := a.engine.list(a.hostID())
		if err != nil {
			return err
		}
		runs := make(map[string]bool)
		for _, s := range on {
			runs[s.container] = runs[s.container] || s.state == "running"
		}
		for _, b := range list {
			if deref(b.Host) != a.name || l.wanted[b.UUID] != structs.ContainerRunning {
				continue
			}
			if b.Status == structs.ContainerStopped {
				if _, err := l.client.Containers().Action(l.ctx(), b.UUID, api.Start,
					api.ActionOptions{WriteOptions: api.WriteOptions{Wait: -1}}); err != nil {
					return err
				}
			}
			if stuck(deref(b.StatusReason)) && !restarted {
				// Only a restart of the engine removes such a task.
				l.Logf("the engine of %s can't start %s and is started again: %s", a.name, b.Name, deref(b.StatusReason))
				restarted = true
				a.own.stop()
				a.own.start()
			}
			if b.Status != structs.ContainerRunning || !runs[b.UUID] {
				return fmt.Errorf("%s is %s (%s), and runs on the engine: %v", b.Name, b.Status, deref(b.StatusReason), runs[b.UUID])
			}
		}
		return nil
	})
	l.endBackoffs()
	// These containers were started again within their epochs, as they should be.
	for id, was := range l.longRunning {
		was.began = ""
		l.longRunning[id] = was
	}
	clear(l.pods.standing)
}

// stuck reports whether an engine can't start a container because its containerd
// has kept the ended task of the last process. That happens after a kill -9 of a busy
// engine 20.10, and lasts until the engine is restarted.
func stuck(reason string) bool {
	return strings.Contains(reason, "the engine has kept the ended process of this container")
}
