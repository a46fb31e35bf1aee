//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

// newerProgram builds a magnum that understands one schema more than the program
// under test.
func newerProgram(t testing.TB) string {
	t.Helper()
	return build(t, "-ldflags", fmt.Sprintf("-s -w -X %s/structs.schemaVersion=%d -X %s/command.Version=99.0.0", module,
		structs.SchemaVersion+1, module))
}

const module = "github.com/stackforge/magnum"

// build builds a magnum with further flags of go build, and returns its path. A build may
// have to compile the standard library again. It leaves the processors to the tests that run
// beside it.
func build(t testing.TB, flags ...string) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "magnum")
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Minute)
	defer cancel()
	args := append([]string{"-n", "10", "go", "build", "-trimpath", "-buildvcs=false"}, flags...)
	cmd := exec.CommandContext(ctx, "nice", append(args, "-o", bin, module)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building another magnum: %v\n%s", err, out)
	}
	return bin
}

// writeThroughAll has a client for each server create containers that wait for
// ever, until stop is closed. It returns the acknowledged ones.
func (c *threeServers) writeThroughAll(stop chan struct{}) (*acked, *sync.WaitGroup) {
	a := &acked{ids: make(map[string]bool)}
	var wg sync.WaitGroup
	for _, n := range c.servers {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				case <-time.After(5 * time.Millisecond): // 200 a second at most
				}
				ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
				b, _, err := n.client.Containers().Create(ctx, c.waiting(fmt.Sprintf("load-%s-%d", n.name, i)), api.CreateOptions{})
				cancel()
				if err == nil {
					a.add(b.UUID)
				}
			}
		})
	}
	return a, &wg
}

// schemas returns the schema in use on each server that answers.
func (c *threeServers) schemas() map[string]int {
	all := make(map[string]int)
	for _, n := range c.servers {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		if s, _, err := n.client.OperatorState(ctx); err == nil {
			all[n.name] = s.Schema
		}
		cancel()
	}
	return all
}

// replaceServer stops a server and starts another program on its data, "" for
// the program under test.
func (c *threeServers) replaceServer(n *clusterServer, bin string) {
	c.Helper()
	n.stop()
	n.bin = bin
	n.start()
	c.awaitAll()
}

// TestLongRollingUpgrade: servers of two versions run side by side while
// clients write and containers run. The newer schema is used once all three
// servers understand it. From then on the older version is refused.
func TestLongRollingUpgrade(t *testing.T) {
	t.Parallel()
	newer := newerProgram(t)
	old, raised := structs.SchemaVersion, structs.SchemaVersion+1
	c := newThreeServers(t, 2)
	c.awaitAll()
	for i := range 4 {
		c.run(fmt.Sprintf("steady-%d", i), sleepScript)
	}
	began := make(map[string]map[string]string) // start times by container, by host
	for _, a := range c.agents {
		began[a.hostID()] = c.engine.started(a.hostID())
	}
	stop := make(chan struct{})
	written, writers := c.writeThroughAll(stop)

	// The schema must not be raised before the last server is replaced.
	var last atomic.Bool
	var monitor sync.WaitGroup
	monitor.Go(func() {
		for !last.Load() {
			// Read the schemas first, then whether it was too early.
			for name, schema := range c.schemas() {
				if schema != old && !last.Load() {
					t.Errorf("%s uses schema %d while a server understands only %d", name, schema, old)
					return
				}
			}
			time.Sleep(20 * time.Millisecond)
		}
	})
	// Time for the leader to check twice which schemas the servers understand.
	waitForChecks := func() { time.Sleep(5 * time.Second) }
	leader := c.awaitLeader()
	order := []*clusterServer{leader}
	for _, n := range c.servers {
		if n != leader {
			order = append([]*clusterServer{n}, order...)
		}
	}
	c.replaceServer(order[0], newer)
	waitForChecks()
	c.replaceServer(order[0], "") // a downgrade works until the schema is raised
	c.replaceServer(order[0], newer)
	c.replaceServer(order[1], newer)
	waitForChecks()
	s, _, err := order[0].client.OperatorState(c.ctx())
	if err != nil || s.Schema != old || s.Understood != raised {
		t.Errorf("with two of three replaced the first says %+v, %v", s, err)
	}
	last.Store(true)
	monitor.Wait()
	c.replaceServer(order[2], newer)
	c.eventually("all servers use the newer schema", time.Minute, func() error {
		for _, n := range c.servers {
			if got := c.schemas()[n.name]; got != raised {
				return fmt.Errorf("%s uses schema %d", n.name, got)
			}
		}
		return nil
	})
	c.writeThroughEach("raised")
	before := len(written.all())
	c.eventually("writes go on", time.Minute, func() error {
		if now := len(written.all()); now == before {
			return fmt.Errorf("still %d were acknowledged", now)
		}
		return nil
	})
	close(stop)
	writers.Wait()
	c.client = order[1].client
	c.expectListed(written.all())
	c.sameState()
	t.Logf("%d creates were acknowledged during the upgrade", len(written.all()))

	// The agents still run the older version.
	for _, a := range c.agents {
		for id, at := range began[a.hostID()] {
			if now := c.engine.started(a.hostID())[id]; now != at {
				t.Errorf("I6: container %s began at %s, and after the upgrade at %q", id, at, now)
			}
		}
	}
	c.run("after-the-upgrade", sleepScript)

	// The older version ends because it can't read the newer entries.
	back := order[0]
	back.stop()
	back.bin = ""
	back.start()
	c.eventually("the older version ends", time.Minute, func() error {
		if back.alive() {
			return fmt.Errorf("it still runs")
		}
		return nil
	})
	text := tail(back.log, 1)
	if code := back.cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(text, "ERROR: ") ||
		!strings.Contains(text, "raft/raft.db") ||
		!strings.Contains(text, fmt.Sprintf("of schema %d; this binary reads up to %d: "+
			"run the version of magnum that wrote it, or a newer one", raised, old)) {
		t.Errorf("the older version ended with code %d and %s", code, text)
	}
	back.bin = newer
	back.start()
	c.awaitAll()

	// An older server without state is not accepted either.
	late := c.newServer("late")
	c.loose = append(c.loose, late.process)
	late.args = append(late.args, "-join", c.gossip)
	late.start()
	c.eventually("the leader names the older server", time.Minute, func() error {
		leader, err := c.leader()
		if err != nil {
			return err
		}
		b, err := os.ReadFile(leader.log)
		if err == nil && !strings.Contains(string(b), "server not added: its version is older") {
			err = fmt.Errorf("the log of %s does not name it", leader.name)
		}
		return err
	})
	c.awaitVoters(3)
	c.sameState()
}
