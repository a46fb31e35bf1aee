//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stackforge/magnum/agent"
	"github.com/stackforge/magnum/agent/backend/backendtest"
	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

// fullSize returns the number of agents: the 2,000 that a cluster is made for,
// or a tenth under the race detector, which slows down the agents in this
// process. `make test-faults` runs both.
func fullSize() int {
	if raced {
		return 200
	}
	return 2000
}

// moveTries is how often a move may take too long because the machine is busy.
const moveTries = 3

// startAgents runs n agents in this process, on fake backends.
func (c *threeServers) startAgents(n int) {
	c.Helper()
	var addrs []string
	for _, s := range c.servers {
		addrs = append(addrs, s.addr)
	}
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	c.Cleanup(func() {
		stop()
		running.Wait()
	})
	dir := c.TempDir()
	for i := range n {
		name := fmt.Sprintf("host-%04d", i)
		a, err := agent.New(agent.Config{
			Servers: addrs, DataDir: filepath.Join(dir, name), Name: name, JoinToken: testJoinToken, Backend: backendtest.NewFake(),
		})
		if err != nil {
			c.Fatal(err)
		}
		running.Go(func() {
			if err := a.Run(ctx); err != nil {
				c.Errorf("%s: %v", name, err)
			}
		})
	}
}

var pollsLine = regexp.MustCompile(`(?m)^magnum_agent_polls (\d+)$`)

// polls returns the number of polls that wait at the server, 0 if it does not
// answer.
func (n *clusterServer) polls() int {
	client := http.Client{Timeout: 5 * time.Second}
	resp, err := client.Get("http://" + n.addr + "/v1/metrics")
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if m := pollsLine.FindSubmatch(b); err == nil && m != nil {
		polls, _ := strconv.Atoi(string(m[1])) // digits
		return polls
	}
	return 0
}

// parked waits until that many polls wait at the servers, and returns how long
// that took.
func (c *threeServers) parked(want int, within time.Duration) time.Duration {
	c.Helper()
	began := time.Now()
	for {
		sum := 0
		for _, n := range c.servers {
			if n.alive() {
				sum += n.polls()
			}
		}
		took := time.Since(began)
		if sum >= want {
			return took
		}
		if took > within {
			c.Fatalf("after %v %d polls wait, want %d", took, sum, want)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// readyHosts checks that there are so many hosts, and that all are ready.
func (c *threeServers) readyHosts(want int) error {
	hosts := 0
	for marker := ""; ; {
		page, _, err := c.client.Hosts().List(c.ctx(), api.QueryOptions{Limit: structs.MaxPage, Marker: marker})
		if err != nil {
			return err
		}
		for _, h := range page {
			hosts++
			if h.State != structs.HostReady {
				return fmt.Errorf("%s is %s (%s)", h.Name, h.State, deref(h.StateReason))
			}
		}
		if len(page) < structs.MaxPage {
			break
		}
		marker = page[len(page)-1].UUID
	}
	if hosts != want {
		return fmt.Errorf("there are %d hosts, want %d", hosts, want)
	}
	return nil
}

// TestLongAgentsChangeServersAtFullSize: the agents of a server that ends soon
// poll at the other servers, and no host is lost. The server is a follower that
// is killed, the leader that is killed, and the leader that is stopped.
func TestLongAgentsChangeServersAtFullSize(t *testing.T) {
	size := fullSize()
	c := newThreeServers(t, 0, "-log-level", "warn")
	c.awaitAll()
	began := time.Now()
	c.startAgents(size)
	// A few agents are always between two polls.
	most := size - size/100
	c.parked(most, 3*time.Minute)
	t.Logf("%d agents are registered and parked after %v", size, time.Since(began).Round(time.Millisecond))
	spread := func() string {
		text := ""
		for _, n := range c.servers {
			text += fmt.Sprintf(" %s: %d polls, %d MiB;", n.name, n.polls(), n.rss()>>20)
		}
		return text
	}
	t.Log(spread())

	// A host is lost after 10 s. On a machine of their own the agents need less than one; here
	// the servers and all agents share it.
	const bound = 8 * time.Second
	ctx, stop := context.WithCancel(context.Background())
	var monitor sync.WaitGroup
	monitor.Go(func() {
		for ctx.Err() == nil {
			hosts, _, err := c.servers[0].client.Hosts().List(ctx, api.QueryOptions{Limit: structs.MaxPage})
			if err != nil {
				hosts, _, err = c.servers[1].client.Hosts().List(ctx, api.QueryOptions{Limit: structs.MaxPage})
			}
			for _, h := range hosts {
				if err == nil && h.State == structs.HostLost {
					t.Errorf("%s is lost (%s)", h.Name, deref(h.StateReason))
					return
				}
			}
			time.Sleep(500 * time.Millisecond)
		}
	})
	follower := func() (with *clusterServer) { // the one with more polls
		for _, n := range c.except(c.awaitLeader()) {
			if with == nil || n.polls() > with.polls() {
				with = n
			}
		}
		return with
	}
	for _, f := range []struct {
		name   string
		server func() *clusterServer
		end    func(*clusterServer)
	}{
		{"a follower is killed", follower, func(n *clusterServer) { n.kill() }},
		{"the leader is killed", c.awaitLeader, func(n *clusterServer) { n.kill() }},
		{"the leader is stopped", c.awaitLeader, func(n *clusterServer) { n.stop() }},
	} {
		var took []time.Duration
		for len(took) == 0 || took[len(took)-1] > bound && len(took) < moveTries {
			n := f.server()
			had := n.polls()
			f.end(n)
			took = append(took, c.parked(most, 2*time.Minute).Round(time.Millisecond))
			t.Logf("%s: its %d agents are with the others after %v", f.name, had, took[len(took)-1])
			n.start()
			c.awaitAll()
			c.parked(most, 2*time.Minute)
		}
		if slices.Min(took) > bound {
			t.Errorf("%s: its agents are with the others after %v, each time more than %v", f.name, took, bound)
		}
	}
	// Longer than a host may be silent: a forgotten host is lost by then.
	time.Sleep(11 * time.Second)
	stop()
	monitor.Wait()
	c.eventually("all hosts are ready", time.Minute, func() error { return c.readyHosts(size) })
	t.Log(spread())
	c.sameState()
}
