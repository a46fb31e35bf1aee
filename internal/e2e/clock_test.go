//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

// A clock that jumps, for one process: its time.Now is off by the number of
// seconds in a file. Monotonic time and timers are not changed, as on a machine
// whose clock is set. The change is in Go's own package time, so that nothing in
// the process can go around it.
const (
	jumpInTime = `package time

import "sync/atomic"

// Jump is the offset of the wall clock in seconds.
var Jump atomic.Int64
`
	jumpInMain = `package main

import (
	"os"
	"strconv"
	"strings"
	"time"
)

func init() {
	read := func() {
		b, _ := os.ReadFile(os.Getenv("MAGNUM_TEST_CLOCK"))
		if n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64); err == nil {
			time.Jump.Store(n)
		}
	}
	read()
	go func() {
		for {
			time.Sleep(20 * time.Millisecond)
			read()
		}
	}()
}
`
)

// jumpingProgram builds a magnum whose clock is set by the file that
// MAGNUM_TEST_CLOCK names.
func jumpingProgram(t testing.TB) string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	std := filepath.Join(strings.TrimSpace(string(out)), "src", "time")
	source, err := os.ReadFile(filepath.Join(std, "time.go"))
	if err != nil {
		t.Fatal(err)
	}
	const seam = "\tsec, nsec, mono := runtimeNow()\n"
	if strings.Count(string(source), seam) != 1 {
		t.Fatalf("this version of Go reads the clock elsewhere: find what has replaced %q", seam)
	}
	dir := t.TempDir()
	replace := make(map[string]string)
	for path, text := range map[string]string{
		filepath.Join(std, "time.go"):  strings.Replace(string(source), seam, seam+"\tsec += Jump.Load()\n", 1),
		filepath.Join(std, "jump.go"):  jumpInTime,
		filepath.Join(root, "jump.go"): jumpInMain,
	} {
		to := filepath.Join(dir, fmt.Sprintf("%d.go", len(replace)))
		if err := os.WriteFile(to, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		replace[path] = to
	}
	overlay := filepath.Join(dir, "overlay.json")
	b, err := json.Marshal(map[string]any{"Replace": replace})
	if err == nil {
		err = os.WriteFile(overlay, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return build(t, "-overlay", overlay)
}

// setClock sets the process's clock off from the true time, negative for
// behind.
func (p *process) setClock(off time.Duration) {
	p.t.Helper()
	// Replaced as a whole, because the process may read the file at any time.
	path := strings.TrimPrefix(p.env[0], "MAGNUM_TEST_CLOCK=")
	if err := os.WriteFile(path+".new", fmt.Append(nil, int64(off.Seconds())), 0o600); err != nil {
		p.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		p.t.Fatal(err)
	}
}

// TestLongClockJumps: clocks of servers and agents jump by an hour, forward and
// back, one after another and all at once. No host is lost, no lease ends, no
// container is restarted, and timestamps do not go back.
func TestLongClockJumps(t *testing.T) {
	t.Parallel()
	bin := jumpingProgram(t)
	// Longer than an election takes beside other tests, which uses up a part of the lease.
	const lostAfter = 8 * time.Second
	c := newThreeServersOf(t, 2, func(p *process) {
		p.bin, p.env = bin, append(p.env, "MAGNUM_TEST_CLOCK="+filepath.Join(t.TempDir(), "clock"))
	}, "-host-lost-after", lostAfter.String())
	for i := range 3 {
		c.run(fmt.Sprintf("steady-%d", i), sleepScript)
	}
	c.create(c.exclusive("leased", "lease"), structs.ContainerRunning)
	c.create(c.policy("always", "always"), structs.ContainerRunning)
	began := make(map[string]map[string]string) // start times by container, by host
	count := 0
	for _, a := range c.agents {
		began[a.hostID()] = c.engine.started(a.hostID())
		count += len(began[a.hostID()])
	}
	if count != 5 {
		t.Fatalf("%d containers run", count)
	}

	stop := make(chan struct{})
	var monitor sync.WaitGroup
	monitor.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(50 * time.Millisecond):
			}
			hosts, _, err := c.client.Hosts().List(c.ctx(), api.QueryOptions{})
			if err != nil {
				continue // while there is no leader
			}
			for _, h := range hosts {
				if h.State == structs.HostLost { // on a busy machine an agent may be silent long enough to be suspect
					t.Errorf("%s is %s (%s)", h.Name, h.State, deref(h.StateReason))
					return
				}
			}
		}
	})
	var last time.Time
	made := 0
	// over waits for as long as makes a silent host lost, and writes through
	// all servers meanwhile.
	over := func(what string) {
		t.Helper()
		for until := time.Now().Add(2 * lostAfter); time.Now().Before(until); {
			for _, n := range c.servers {
				made++
				b, _, err := n.client.Containers().Create(c.ctx(), c.waiting(fmt.Sprintf("made-%d", made)), api.CreateOptions{})
				if err != nil {
					t.Errorf("%s: create through %s: %v", what, n.name, err)
					continue
				}
				if b.CreatedAt.Before(last) {
					t.Errorf("%s: created at %v, after a row created at %v", what, b.CreatedAt, last)
				}
				last = b.CreatedAt.Time
			}
			time.Sleep(200 * time.Millisecond)
		}
		for _, a := range c.agents {
			for id, at := range began[a.hostID()] {
				if now := c.engine.started(a.hostID())[id]; now != at {
					t.Errorf("%s: container %s began at %s, and now at %q", what, id, at, now)
				}
			}
		}
	}
	leader := c.awaitLeader()
	follower := c.servers[0]
	if follower == leader {
		follower = c.servers[1]
	}
	// Forward, then back: the second jump is of two hours.
	for _, off := range []time.Duration{time.Hour, -time.Hour} {
		leader.setClock(off)
		over(fmt.Sprintf("the leader's clock jumps to %v", off))
		if off > 0 && time.Until(last) < off/2 {
			t.Errorf("the leader's clock is %v ahead, but its last row is from %v: the clock did not jump", off, last)
		}
		follower.setClock(off)
		over(fmt.Sprintf("a follower's clock jumps to %v", off))
		c.agents[0].setClock(off)
		over(fmt.Sprintf("an agent's clock jumps to %v", off))
	}
	// Leadership moves while the clocks disagree, and processes start with a wrong
	// clock.
	leader.stop()
	leader.start()
	c.awaitAll() // the others elect a leader while this server restarts
	c.agents[0].kill()
	c.agents[0].start()
	over("a server and an agent start with clocks that are behind")
	for _, p := range []*process{leader.process, follower.process, c.agents[0].process} {
		p.setClock(0)
	}
	over("the clocks are set right")
	close(stop)
	monitor.Wait()
	c.awaitAll()
	for _, a := range c.agents {
		c.awaitHost(a.name, structs.HostReady, patience)
	}
	c.sameState()
	c.run("after-the-jumps", sleepScript)
}
