//go:build e2e

package e2e

import (
	"context"
	"time"
)

// netFaults are the further faults of runs in which each server and each agent
// has a network host of its own. The clients reach all of them all the time.
var netFaults = []fault{
	onNet("leader alone", func(c *chaos) netFault { return c.net.isolate(c.awaitLeader().on) }),
	onNet("follower alone", func(c *chaos) netFault { return c.net.isolate(c.follower().on) }),
	onNet("leader deaf", func(c *chaos) netFault {
		leader := c.awaitLeader()
		return c.net.deafen(leader.on, hostsOf(c.except(leader))...)
	}),
	onNet("leader mute", func(c *chaos) netFault {
		leader := c.awaitLeader()
		return c.net.cutOneWay(leader.on, hostsOf(c.except(leader))...)
	}),
	onNet("leader cut from a follower", func(c *chaos) netFault { return c.net.cut(c.awaitLeader().on, c.follower().on) }),
	onNet("30 % loss on the Raft link", func(c *chaos) netFault {
		return c.onRaft("30 % loss", func(a, b *netHost) netFault { return c.net.loss(a, b, 30, 9512) })
	}),
	onNet("100 ms delay on the Raft link", func(c *chaos) netFault {
		return c.onRaft("100 ms delay each way", func(a, b *netHost) netFault {
			return together("", c.net.delay(a, b, 9512, 100*time.Millisecond), c.net.delay(b, a, 9512, 100*time.Millisecond))
		})
	}),
	ofAgents(onNet("agent cut from a server", func(c *chaos) netFault {
		return c.net.cut(oneOf(c.random, c.agents).on, oneOf(c.random, c.servers).on)
	})),
	ofAgents(onNet("agent alone", func(c *chaos) netFault { return c.net.isolate(oneOf(c.random, c.agents).on) })),
	ofAgents(untilLost(onNet(firstFault, func(c *chaos) netFault { return c.net.isolate(oneOf(c.random, c.agents).on) }))),
}

// firstFault comes first if there is a network: a short run, too, has
// containers move away from a host on which they go on running.
const firstFault = "agent alone until its host is lost"

// untilLost lets a fault last until its host is lost.
func untilLost(f fault) fault {
	f.least, f.most = 6*time.Second, 8*time.Second
	return f
}

// onNet makes a fault of a network fault.
func onNet(name string, of func(c *chaos) netFault) fault {
	return fault{name: name, least: 200 * time.Millisecond, most: 4 * time.Second, long: 20 * time.Second,
		do: func(c *chaos) (string, func()) {
			f := of(c)
			undo, err := f.do(context.Background())
			if err != nil {
				c.Fatalf("%s: %v", f.name, err)
			}
			return f.name, undo
		}}
}

// ofAgents marks a fault as one of agents.
func ofAgents(f fault) fault {
	f.agents = true
	return f
}
