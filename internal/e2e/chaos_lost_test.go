//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/docker/docker/api/types/container"
)

// lostFaults lose disks, put old ones back, change the membership, and change
// containers behind magnum's back, all under load. A lost disk is replaced
// before the next fault: without two of three disks a cluster is lost.
var lostFaults = []fault{
	{name: "follower's disk lost while the other is behind", alone: true, least: 500 * time.Millisecond, most: 3 * time.Second,
		do: func(c *chaos) (string, func()) {
			leader := c.awaitLeader()
			all := c.except(leader)
			behind, loses := all[0], all[1]
			if c.random.IntN(2) == 0 {
				behind, loses = loses, behind
			}
			behind.signal(syscall.SIGSTOP)
			time.Sleep(300 * time.Millisecond) // writes that it misses
			loses.kill()
			leader.kill()
			c.wipe(loses)
			loses.start()
			return fmt.Sprintf("%s, %s behind, leader %s down", loses.name, behind.name, leader.name), func() {
				behind.signal(syscall.SIGCONT)
				leader.start()
				c.awaitVoters(3)
				c.onlyVoters()
			}
		}},
	{name: "an older copy put back", alone: true, do: func(c *chaos) (string, func()) {
		n := c.follower()
		n.stop()
		old := n.dir + ".old"
		c.must("cp", "-a", n.dir, old)
		n.start()
		c.awaitAll()
		time.Sleep(300 * time.Millisecond) // writes that the copy lacks
		n.stop()
		c.must("rm", "-rf", n.dir)
		c.must("mv", old, n.dir)
		n.noteAway()
		n.start()
		select {
		case <-n.done:
			if code := n.cmd.ProcessState.ExitCode(); code == 0 {
				c.Errorf("I1: %s ended with 0 on an older copy of its directory", n.name)
			}
		case <-time.After(30 * time.Second):
			c.Errorf("I1: %s runs on an older copy of its directory", n.name)
		}
		return n.name, func() {
			c.removePeer(n)
			c.wipe(n)
			n.start()
			c.awaitVoters(3)
			c.onlyVoters()
		}
	}},
	{name: "server replaced", alone: true, do: func(c *chaos) (string, func()) {
		n := c.follower()
		n.stop()
		c.removePeer(n)
		c.wipe(n)
		return n.name, func() {
			n.start()
			c.awaitVoters(3)
			c.onlyVoters()
		}
	}},
	{name: "leadership handed over, five in a row", do: func(c *chaos) (string, func()) {
		var to []string
		for range 5 {
			n := c.follower()
			// The transfer may be refused: another fault may move leadership, too.
			c.on(n, "operator", "raft", "transfer-leader", n.name)
			to = append(to, n.name)
		}
		return strings.Join(to, ", then "), nil
	}},
	{name: "impatient rolling restart", alone: true, do: func(c *chaos) (string, func()) {
		for _, n := range c.servers {
			n.stop()
			n.start() // the next one is stopped whether this one is back or not
		}
		for _, a := range c.agents {
			a.stop()
			a.start()
		}
		return "all", nil
	}},
	{name: "agent's journal lost", agents: true, most: time.Second, do: func(c *chaos) (string, func()) {
		a := oneOf(c.random, c.agents)
		a.kill()
		if err := os.Remove(filepath.Join(a.dir, "agent", "agent.journal")); err != nil && !os.IsNotExist(err) {
			c.Error(err)
		}
		return a.name, a.start
	}},
	{name: "docker rename and pause behind its back", agents: true, most: time.Second, do: func(c *chaos) (string, func()) {
		a := oneOf(c.random, c.agents)
		list, err := a.engine.list(a.hostID())
		if err != nil || len(list) == 0 {
			return a.name + " has none", nil
		}
		s := oneOf(c.random, list)
		// The container may be gone by now.
		_ = a.engine.ContainerRename(c.ctx(), s.id, "renamed-"+s.id[:12])
		_ = a.engine.ContainerPause(c.ctx(), s.id)
		return fmt.Sprintf("%.12s on %s", s.id, a.name), func() {
			if info, err := a.engine.ContainerInspect(c.ctx(), s.id); err == nil && info.State.Status == container.StatePaused {
				_ = a.engine.ContainerUnpause(c.ctx(), s.id)
			}
		}
	}},
}

// wipe empties the data directory of a stopped server.
func (c *chaos) wipe(n *clusterServer) {
	c.Helper()
	if err := os.RemoveAll(n.dir); err != nil {
		c.Fatal(err)
	}
}

func (c *chaos) must(name string, args ...string) {
	c.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		c.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
}

// removePeer has the other servers remove a stopped one from the cluster.
func (c *chaos) removePeer(n *clusterServer) {
	c.Helper()
	others := c.except(n)
	c.eventually(n.name+" is removed from the cluster", time.Minute, func() error {
		if r := c.on(others[0], "operator", "raft", "remove-peer", n.name); r.code != 0 &&
			!strings.Contains(r.stderr, "is not one of the cluster's") && !strings.Contains(r.stderr, "could not be found") {
			return fmt.Errorf("%s", r.stderr)
		}
		return nil
	})
}

// onlyVoters waits until the configuration has exactly the three servers, all
// voters: those that lost their disks are gone.
func (c *chaos) onlyVoters() {
	c.Helper()
	c.eventually("the configuration has three voters and no others", 2*time.Minute, func() error {
		got := c.on(c.awaitLeader(), "operator", "raft", "list-peers", "-format", "{{.name}} {{.voter}}")
		if lines := strings.Split(strings.TrimSpace(got.stdout), "\n"); got.code != 0 || len(lines) != 3 ||
			strings.Count(got.stdout, " true") != 3 {
			return fmt.Errorf("%d: %s%s", got.code, got.stdout, got.stderr)
		}
		return nil
	})
}
