//go:build e2e

package e2e

import (
	"debug/elf"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// serviceFaults are faults of what hosts serve of services. They need hosts on a network.
var serviceFaults = []fault{
	{name: "data path kill -9", agents: true, alone: true, do: func(c *chaos) (string, func()) {
		a := oneOf(c.random, c.agents)
		pid, err := a.dataPath()
		if err != nil {
			c.Fatalf("the data path of %s: %v", a.name, err)
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			c.Fatalf("kill -9 of the data path of %s: %v", a.name, err)
		}
		c.running.answersAgain(a)
		if now, err := a.dataPath(); err != nil || now == pid {
			c.Errorf("the data path of %s was process %d, and is %d: %v", a.name, pid, now, err)
		}
		return a.name, nil
	}},
	{name: "agent kill -9 under connections", agents: true, alone: true, do: func(c *chaos) (string, func()) {
		a := oneOf(c.random, c.agents)
		pid, _ := a.dataPath()
		c.running.duringRequests(a, func() {
			was, _ := a.registration()
			a.kill()
			a.start()
			c.awaitRegistered(a, was)
		})
		if now, err := a.dataPath(); err != nil || now != pid {
			c.Errorf("the data path of %s was process %d, and is %d: %v", a.name, pid, now, err)
		}
		return a.name, nil
	}},
	{name: "agent upgrade under connections", agents: true, alone: true, do: func(c *chaos) (string, func()) {
		a := oneOf(c.random, c.agents)
		pid, _ := a.dataPath()
		first := a.bin == ""
		c.running.duringRequests(a, func() {
			was, _ := a.registration()
			a.stop()
			if a.bin = ""; first {
				a.bin = otherBuild(c, filepath.Join(a.dir, "magnum"))
			}
			a.start()
			c.awaitRegistered(a, was)
			c.eventually("the data path of "+a.name+" is of the other build", time.Minute, func() error {
				if now, err := a.dataPath(); err != nil || now == pid {
					return fmt.Errorf("it is process %d: %v", now, err)
				}
				return nil
			})
		})
		return a.name, nil
	}},
	onNet("relay between hosts cut", func(c *chaos) netFault {
		a, b := c.agents[0].on, c.agents[1].on
		const match = "tcp sport 9514 counter drop"
		const back = "tcp dport 9514 counter drop"
		return c.net.onWire("the relay of "+a.name+" and "+b.name+" is cut", between(a, b, match), between(b, a, match),
			between(a, b, back), between(b, a, back))
	}),
}

// awaitRegistered waits until an agent has another registration than before.
func (c *cluster) awaitRegistered(a *hostAgent, was uint64) {
	c.Helper()
	c.eventually(a.name+" has registered", time.Minute, func() error {
		now, err := a.registration()
		if err == nil && now == was {
			err = fmt.Errorf("its registration is still %d", now)
		}
		return err
	})
}

// otherBuild makes a copy of the program under test with another build ID.
func otherBuild(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(program(t))
	if err != nil {
		t.Fatal(err)
	}
	f, err := elf.Open(program(t))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	note := f.Section(".note.go.buildid")
	if note == nil || note.Size <= 32 {
		t.Fatal("the program has no build ID")
	}
	b[note.Offset+note.Size-8] ^= 1
	if err := os.WriteFile(path, b, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}
