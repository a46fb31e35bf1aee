//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

// ownEngine is a dockerd of the test's own, which may end at any time. It runs
// on a network host of its own: on this machine it would share interfaces with
// the machine's engine, and leave its bridges behind.
type ownEngine struct {
	t    testing.TB
	dir  string
	host string
	on   *netHost // where it runs; its socket is reachable from everywhere
}

func newOwnEngine(t testing.TB) *ownEngine {
	t.Helper()
	return newOwnEngines(t, newNet(t).host("engine"))[0]
}

// newOwnEngines starts an engine on each of the hosts, all at once.
func newOwnEngines(t testing.TB, on ...*netHost) []*ownEngine {
	t.Helper()
	var all []*ownEngine
	for _, h := range on {
		dir := t.TempDir()
		all = append(all, &ownEngine{t, dir, "unix://" + filepath.Join(dir, "docker.sock"), h})
	}
	t.Cleanup(func() { // all at once, because a stop takes seconds
		var ends sync.WaitGroup
		for _, e := range all {
			ends.Go(func() {
				if err := e.try("peers/docker-down", e.dir); err != nil {
					t.Error(err)
				}
			})
		}
		ends.Wait()
	})
	failed := make(chan error)
	for _, e := range all {
		go func() {
			err := e.try("peers/docker-up", e.dir)
			if err == nil {
				err = e.try("busybox-image", image)
			}
			failed <- err
		}()
	}
	var err error
	for range all {
		err = errors.Join(err, <-failed)
	}
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// script runs one of the project's scripts for the engine.
func (e *ownEngine) script(name string, args ...string) {
	e.t.Helper()
	if err := e.try(name, args...); err != nil {
		e.t.Fatal(err)
	}
}

func (e *ownEngine) try(name string, args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join("..", "..", "scripts", name), args...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST="+e.host, "NETNS="+e.on.namespace())
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, out)
	}
	return nil
}

func (e *ownEngine) start() { e.t.Helper(); e.script("peers/docker-up", e.dir) }

// stop ends the engine and its containers.
func (e *ownEngine) stop() { e.t.Helper(); e.script("peers/docker-down", e.dir) }

// kill ends the engine as a crash does: its containers run on.
func (e *ownEngine) kill() { e.t.Helper(); e.signal(syscall.SIGKILL) }

// signal sends a signal to the engine's process.
func (e *ownEngine) signal(s syscall.Signal) {
	e.t.Helper()
	b, err := os.ReadFile(filepath.Join(e.dir, "dockerd.pid"))
	if err != nil {
		e.t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		e.t.Fatal(err)
	}
	if err := syscall.Kill(pid, s); err != nil {
		e.t.Fatal(err)
	}
}

// TestEngineGoesAway: an engine ends, cleanly or not, and comes back. Meanwhile
// nothing is reported; requests of that time are carried out afterwards, and
// nothing runs twice.
func TestEngineGoesAway(t *testing.T) {
	for name, end := range map[string]func(*ownEngine){"Stopped": (*ownEngine).stop, "Killed": (*ownEngine).kill} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			own := newOwnEngine(t)
			c := newClusterOn(t, engineAt(t, own.host), "-docker-host", own.host)
			no := c.create(c.policy("no", "no"), structs.ContainerRunning)
			always := c.create(c.policy("always", "always"), structs.ContainerRunning)
			leaving := c.create(c.policy("leaving", "always"), structs.ContainerRunning)
			resting := c.create(c.policy("resting", "always"), structs.ContainerRunning)
			c.act(resting.UUID, api.Stop)
			began := c.engine.started(c.hostID())

			end(own)
			c.awaitLog(c.agent, "engine is away", 0)
			for _, b := range []*structs.ContainerBody{no, always} {
				now, _, err := c.client.Containers().Get(c.ctx(), b.UUID, api.QueryOptions{})
				if err != nil {
					t.Fatal(err)
				}
				// A clean end of the engine stops the container first.
				if now.Status != structs.ContainerRunning && now.Status != structs.ContainerStopped {
					t.Errorf("while the engine is away %s is %s (%s)", now.Name, now.Status, deref(now.StatusReason))
				}
			}
			// Requests while the engine is away.
			late, _, err := c.client.Containers().Create(c.ctx(), c.request("late", sleepScript),
				api.CreateOptions{Run: true, WriteOptions: api.WriteOptions{Wait: -1}})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.client.Containers().Action(c.ctx(), leaving.UUID, api.Stop,
				api.ActionOptions{WriteOptions: api.WriteOptions{Wait: -1}}); err != nil {
				t.Fatal(err)
			}
			own.start()

			c.awaitStarted(always.UUID, 1, began[always.UUID])
			b := c.await(no.UUID, structs.ContainerStopped)
			c.checkReason(b, "process")
			if b.ExitCode == nil {
				t.Error("a container that ended with the engine has no exit code")
			}
			c.await(late.UUID, structs.ContainerRunning)
			c.await(leaving.UUID, structs.ContainerStopped)
			c.await(resting.UUID, structs.ContainerStopped)
			c.awaitDesired()
			if now := c.engine.started(c.hostID())[no.UUID]; now != began[no.UUID] {
				t.Errorf("the container without restarts began at %s, and now at %s", began[no.UUID], now)
			}
			c.act(no.UUID, api.Start)
			c.awaitStarted(no.UUID, 1, began[no.UUID])
			c.deleteAll([]string{no.UUID, always.UUID, leaving.UUID, resting.UUID, late.UUID})
			if list, err := c.engine.list(c.hostID()); err != nil || len(list) != 0 {
				t.Errorf("after the deletes the engine has %v, %v", list, err)
			}
		})
	}
}
