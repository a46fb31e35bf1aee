//go:build e2e

package e2e

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"time"
)

// fault is something that is done to the servers and agents, and undone.
type fault struct {
	name   string
	agents bool // done to agents; may be combined with a fault of servers
	alone  bool // never combined with another fault
	// The duration is between least and most, in a long run up to long; 0 for long means most.
	least, most, long time.Duration
	// do applies the fault. It returns the target, and what undoes the fault,
	// nil if nothing does.
	do func(c *chaos) (on string, undo func())
}

// faults are those of every run of TestLongChaos. Longer runs, and runs as
// root, have more.
var faults = []fault{
	{name: "leader kill -9", most: 2 * time.Second, do: func(c *chaos) (string, func()) {
		return kill(c.awaitLeader())
	}},
	{name: "follower kill -9", most: 2 * time.Second, do: func(c *chaos) (string, func()) {
		return kill(c.follower())
	}},
	{name: "two servers kill -9", most: 2 * time.Second, do: func(c *chaos) (string, func()) {
		return kill(c.awaitLeader(), c.follower())
	}},
	{name: "all servers kill -9", most: 2 * time.Second, do: func(c *chaos) (string, func()) {
		return kill(c.servers...)
	}},
	{name: "leaders kill -9, three in a row", do: func(c *chaos) (string, func()) {
		var names []string
		for range 3 {
			n := c.awaitLeader()
			n.kill()
			c.eventually("another server leads", time.Minute, func() error {
				if now, err := c.leader(); err != nil || now == n {
					return fmt.Errorf("%s does, %v", n.name, err)
				}
				return nil
			})
			n.start()
			names = append(names, n.name)
		}
		return strings.Join(names, ", then "), nil
	}},
	{name: "everything kill -9", alone: true, most: 2 * time.Second, do: func(c *chaos) (string, func()) {
		for _, a := range c.agents {
			a.signal(syscall.SIGKILL)
		}
		on, back := kill(c.servers...)
		for _, a := range c.agents {
			<-a.done
			on += ", " + a.name
		}
		return on, func() {
			for _, a := range c.agents {
				a.start()
			}
			back()
		}
	}},
	{name: "leader SIGSTOP", least: 200 * time.Millisecond, most: 3 * time.Second, long: 30 * time.Second,
		do: func(c *chaos) (string, func()) {
			return hold(c.awaitLeader().process)
		}},
	{name: "follower SIGSTOP", least: 200 * time.Millisecond, most: 3 * time.Second, long: 30 * time.Second,
		do: func(c *chaos) (string, func()) {
			return hold(c.follower().process)
		}},
	{name: "leader clean stop", most: 2 * time.Second, do: func(c *chaos) (string, func()) {
		n := c.awaitLeader()
		n.stop()
		return n.name, n.start
	}},
	{name: "SIGHUP to servers", do: func(c *chaos) (string, func()) {
		var all []*process
		for _, n := range c.servers {
			all = append(all, n.process)
		}
		return hangUp(all)
	}},
	{name: "SIGHUP to agents", agents: true, do: func(c *chaos) (string, func()) {
		var all []*process
		for _, a := range c.agents {
			all = append(all, a.process)
		}
		return hangUp(all)
	}},
	{name: "agent kill -9", agents: true, most: 2 * time.Second, do: func(c *chaos) (string, func()) {
		a := oneOf(c.random, c.agents)
		a.kill()
		return a.name, a.start
	}},
	{name: "agent clean stop", agents: true, most: 2 * time.Second, do: func(c *chaos) (string, func()) {
		a := oneOf(c.random, c.agents)
		a.stop()
		return a.name, a.start
	}},
	{name: "agent SIGSTOP", agents: true, least: 200 * time.Millisecond, most: 3 * time.Second, do: func(c *chaos) (string, func()) {
		return hold(oneOf(c.random, c.agents).process)
	}},
	{name: "agent SIGSTOP until its host is lost", agents: true, least: 6 * time.Second, most: 8 * time.Second, long: 20 * time.Second,
		do: func(c *chaos) (string, func()) {
			return hold(oneOf(c.random, c.agents).process)
		}},
}

// kill ends servers as a power cut does, and returns what starts them again.
func kill(nodes ...*clusterServer) (string, func()) {
	var names []string
	for _, n := range nodes {
		n.signal(syscall.SIGKILL) // all at once
		names = append(names, n.name)
	}
	for _, n := range nodes {
		<-n.done
	}
	return strings.Join(names, ", "), func() {
		for _, n := range nodes {
			n.start()
		}
	}
}

// hangUp sends SIGHUP to processes, which reload their files and go on.
func hangUp(all []*process) (string, func()) {
	var names []string
	for _, p := range all {
		p.signal(syscall.SIGHUP)
		names = append(names, p.name)
	}
	return strings.Join(names, ", "), nil
}

// hold stops a process with SIGSTOP, and returns what continues it.
func hold(p *process) (string, func()) {
	p.signal(syscall.SIGSTOP)
	return fmt.Sprintf("%s (pid %d)", p.name, p.cmd.Process.Pid), func() { p.signal(syscall.SIGCONT) }
}

// follower returns a server that does not lead. It draws one random number,
// whichever server leads.
func (c *chaos) follower() *clusterServer {
	c.Helper()
	return oneOf(c.random, c.except(c.awaitLeader()))
}

func oneOf[T any](random *rand.Rand, list []T) T { return list[random.IntN(len(list))] }
