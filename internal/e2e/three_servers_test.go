//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stackforge/magnum/agent/docker/dockertest"
	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

// testJoinToken is the join token of the servers of these tests.
const testJoinToken = "join-token-of-three-servers"

// threeServers is three servers of one cluster, and agents on the machine's
// engine, each of which is a host. What it inherits from cluster asks the first
// server, unless client is set to another one's.
type threeServers struct {
	*cluster
	net     *network // where the processes run, nil for this machine
	gossip  string   // -join of all
	servers []*clusterServer
	agents  []*hostAgent
	loose   []*process // further processes that end with the test
	change  func(*process)
	engines map[string]*ownEngine // started ahead of the agents, by host
	prefix  string                // of the names of waiting containers, for tests that share the servers
}

// node is one of the servers.
type clusterServer struct {
	*process
	dir    string
	addr   string // of its REST API
	gossip string
	client *api.Client
}

// hostAgent is one of the agents.
type hostAgent struct {
	*process
	dir    string
	engine *engine
	own    *ownEngine // the host's own engine, nil if it has none
}

// hostID returns the ID of the agent's host, "" before it has registered.
func (a *hostAgent) hostID() string {
	b, _ := os.ReadFile(filepath.Join(a.dir, "agent", "host_id"))
	return strings.TrimSpace(string(b))
}

// newThreeServers starts three servers with the same flags and that many
// agents, waits for a leader, and creates a bay of all hosts.
func newThreeServers(t testing.TB, agents int, args ...string) *threeServers {
	t.Helper()
	return newThreeServersWith(t, nil, agents, nil, args...)
}

// newThreeServersOn is newThreeServers with each server and each agent on a
// network host of its own, which has the same name.
func newThreeServersOn(t testing.TB, n *network, agents int, args ...string) *threeServers {
	t.Helper()
	return newThreeServersWith(t, n, agents, nil, args...)
}

// newThreeServersOf is newThreeServers that calls change for each process
// before it starts.
func newThreeServersOf(t testing.TB, agents int, change func(*process), args ...string) *threeServers {
	t.Helper()
	return newThreeServersWith(t, nil, agents, change, args...)
}

func newThreeServersWith(t testing.TB, n *network, agents int, change func(*process), args ...string) *threeServers {
	t.Helper()
	c := &threeServers{cluster: &cluster{TB: t, dir: t.TempDir(), engine: newEngine(t)}, net: n, change: change}
	var names []string
	for i := range agents {
		names = append(names, fmt.Sprintf("host-%d", i+1))
	}
	if n != nil && n.engines {
		var on []*netHost
		for _, name := range names {
			on = append(on, n.host(name))
		}
		c.engines = make(map[string]*ownEngine)
		for i, e := range newOwnEngines(t, on...) {
			c.engines[names[i]] = e
		}
	}
	t.Cleanup(c.cleanup)
	c.startServers(args...)
	c.awaitAll()
	for _, name := range names {
		c.addAgent(name)
	}
	name := "bay-" + filepath.Base(filepath.Dir(c.dir))
	if agents == 0 {
		agents = 1 // for a host that never comes, so its containers wait
	}
	count := agents
	var err error
	c.bay, _, err = c.client.Bays().Create(c.ctx(), &structs.BayRequest{Name: &name, NodeCount: &count}, api.WriteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(c.agents) > 0 {
		c.eventually("the bay has its hosts", time.Minute, func() error {
			b, _, err := c.client.Bays().Get(c.ctx(), c.bay.UUID, api.QueryOptions{})
			if err == nil && b.Status != structs.BayCreated {
				err = fmt.Errorf("the bay is %s: %s", b.Status, deref(b.StatusReason))
			}
			return err
		})
	}
	return c
}

// startServers starts three servers with the same flags.
func (c *threeServers) startServers(args ...string) {
	c.Helper()
	var join []string
	for i := range 3 {
		n := c.newServer(fmt.Sprintf("s%d", i+1))
		c.servers, join = append(c.servers, n), append(join, n.gossip)
	}
	c.gossip = strings.Join(join, ",")
	c.addr, c.client = c.servers[0].addr, c.servers[0].client
	for _, n := range c.servers {
		n.args = append(n.args, "-bootstrap-expect", "3", "-join", c.gossip)
		n.args = append(n.args, args...)
		n.start()
	}
}

// newServer prepares a server without -join or -bootstrap-expect.
func (c *threeServers) newServer(name string) *clusterServer {
	c.Helper()
	n := &clusterServer{dir: filepath.Join(c.dir, name)}
	n.process = c.process(name, "server", "-name", name, "-data-dir", n.dir, "-join-token", testJoinToken, "-log-level", "debug")
	if c.net != nil {
		n.on = c.net.host(name)
		n.addr, n.gossip = n.on.ip+":9511", n.on.ip+":9513"
		n.args = append(n.args, "-bind", n.on.ip, "-insecure")
	} else {
		port, gossip := freePort(c), freePort(c)
		n.addr, n.gossip = "127.0.0.1:"+port, "127.0.0.1:"+gossip
		n.args = append(n.args, "-http-port", port, "-raft-port", freePort(c), "-gossip-port", gossip)
	}
	client, err := api.New(api.Config{Address: n.addr})
	if err != nil {
		c.Fatal(err)
	}
	n.client = client
	if c.change != nil {
		c.change(n.process)
	}
	return n
}

// addAgent starts an agent with the addresses of all servers.
func (c *threeServers) addAgent(name string, args ...string) *hostAgent {
	c.Helper()
	var addrs []string
	for _, n := range c.servers {
		addrs = append(addrs, n.addr)
	}
	a := &hostAgent{dir: filepath.Join(c.dir, name), engine: c.engine}
	// Other tests use the same engine: no agent may remove images from it.
	a.process = c.process(name, append([]string{"agent", "-server", strings.Join(addrs, ","), "-data-dir", a.dir, "-name", name,
		"-join-token", testJoinToken, "-join", c.gossip, "-log-level", "debug", "-image-gc-high", "0"}, args...)...)
	if c.net != nil {
		a.on = c.net.host(name)
		a.args = append(a.args, "-bind", a.on.ip)
	} else {
		a.args = append(a.args, "-gossip-port", "-1")
	}
	if c.net != nil && c.net.engines {
		if a.own = c.engines[name]; a.own == nil {
			a.own = newOwnEngines(c, a.on)[0]
		}
		a.engine = engineAt(c, a.own.host)
		a.args = append(a.args, "-docker-host", a.own.host)
		// The agent ends before its engine, or it would restart the containers that end.
		c.Cleanup(a.end)
	} else if len(c.agents) > 0 && !slices.Contains(args, "-docker-host") {
		// An engine is one host of a cluster. A front makes it another engine for this agent.
		front, err := dockertest.NewFront(filepath.Join(c.dir, name+".sock"), name)
		if err != nil {
			c.Fatal(err)
		}
		c.Cleanup(func() { _ = front.Close() })
		a.args = append(a.args, "-docker-host", front.Host)
	}
	if c.change != nil {
		c.change(a.process)
	}
	a.start()
	c.agents = append(c.agents, a)
	return a
}

// cleanup ends the processes, removes the hosts' containers, and shows the logs
// if the test failed.
func (c *threeServers) cleanup() {
	all := c.loose
	for _, a := range c.agents {
		all = append(all, a.process)
	}
	for _, n := range c.servers {
		all = append(all, n.process)
	}
	for _, p := range all {
		p.end()
	}
	for _, a := range c.agents {
		if id := a.hostID(); id != "" && a.own == nil { // an own engine has ended
			c.engine.removeAll(id)
		}
	}
	if !c.Failed() {
		return
	}
	for _, p := range all {
		c.Logf("end of the log of %s:\n%s", p.name, tail(p.log, 40))
	}
}

// leader returns the leader, if a majority answers and all answers agree.
func (c *threeServers) leader() (*clusterServer, error) {
	var said string
	answered := 0
	for _, n := range c.servers {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		l, _, err := n.client.Leader(ctx)
		cancel()
		if err != nil {
			continue
		}
		answered++
		if said != "" && said != l.Name {
			return nil, fmt.Errorf("one server names %s as leader, another %s", said, l.Name)
		}
		said = l.Name
	}
	for _, n := range c.servers {
		if n.name == said && answered > len(c.servers)/2 {
			return n, nil
		}
	}
	return nil, fmt.Errorf("%d of %d servers answer, with leader %q", answered, len(c.servers), said)
}

// awaitLeader waits until the servers agree on one that leads.
func (c *threeServers) awaitLeader() *clusterServer {
	c.Helper()
	var leader *clusterServer
	c.eventually("the servers have a leader", time.Minute, func() (err error) {
		leader, err = c.leader()
		return err
	})
	return leader
}

// awaitAll waits until each server answers consistent reads.
func (c *threeServers) awaitAll() {
	c.Helper()
	for _, n := range c.servers {
		c.eventually(n.name+" answers consistent reads", time.Minute, func() error {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			_, _, err := n.client.Containers().List(ctx, api.QueryOptions{Consistent: true, Limit: 1})
			return err
		})
	}
}

// awaitVoters waits until each server counts that many voters.
func (c *threeServers) awaitVoters(want int) {
	c.Helper()
	line := fmt.Sprintf("\nmagnum_raft_peers %d\n", want-1)
	for _, n := range c.servers {
		c.eventually(fmt.Sprintf("%s counts %d voters", n.name, want), time.Minute, func() error {
			resp, err := http.Get("http://" + n.addr + "/v1/metrics")
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			b, err := io.ReadAll(resp.Body)
			if err == nil && !strings.Contains(string(b), line) {
				err = fmt.Errorf("the metrics have no line %q", strings.TrimSpace(line))
			}
			return err
		})
	}
}

// sameState waits until all servers are at one index, and compares their states
// there: I3.
func (c *threeServers) sameState() structs.OperatorState {
	c.Helper()
	byIndex := make(map[uint64]map[string]string) // state hash by server
	var last structs.OperatorState
	c.eventually("all servers are at one index", time.Minute, func() error {
		at := make(map[uint64]int)
		for _, n := range c.servers {
			s, _, err := n.client.OperatorState(c.ctx())
			if err != nil {
				return fmt.Errorf("%s: %w", n.name, err)
			}
			if byIndex[s.Index] == nil {
				byIndex[s.Index] = make(map[string]string)
			}
			byIndex[s.Index][n.name] = s.Hash
			for other, hash := range byIndex[s.Index] {
				if hash != s.Hash {
					c.Fatalf("I3: at index %d the state of %s is %s, and that of %s %s", s.Index, n.name, s.Hash, other, hash)
				}
			}
			last = s.OperatorState
			at[s.Index]++
		}
		if at[last.Index] != len(c.servers) {
			return fmt.Errorf("they are at %v", at)
		}
		return nil
	})
	return last
}

// clusterIDs returns the cluster IDs that the servers have on disk, by name.
func (c *threeServers) clusterIDs() map[string]string {
	ids := make(map[string]string)
	for _, n := range c.servers {
		ids[n.name] = clusterIDOf(n.dir)
	}
	return ids
}

// clusterIDOf returns the cluster ID in the member record of a data directory,
// "" if there is none.
func clusterIDOf(dir string) string {
	var record struct {
		ClusterID string `json:"cluster_id"`
	}
	b, err := os.ReadFile(filepath.Join(dir, "server", "member.json"))
	if err != nil || json.Unmarshal(b, &record) != nil {
		return ""
	}
	return record.ClusterID
}

// waitingNames counts the requests made by waiting.
var waitingNames atomic.Int64

// waiting is a request for a container that no host fits. No two requests have the
// same name, so that two containers with one name show that one create was applied
// twice: a refused create may be applied later.
func (c *threeServers) waiting(name string) *structs.ContainerRequest {
	r := c.request(fmt.Sprintf("%s%s-%d", c.prefix, name, waitingNames.Add(1)), sleepScript)
	r.Constraints = map[string]string{"no": "such host"}
	return r
}

// writeThroughEach writes through each server and reads that through all
// servers.
func (c *threeServers) writeThroughEach(round string) {
	c.Helper()
	for _, n := range c.servers {
		made, _, err := n.client.Containers().Create(c.ctx(), c.waiting("through-"+n.name+"-"+round), api.CreateOptions{})
		if err != nil {
			c.Fatalf("create through %s: %v", n.name, err)
		}
		for _, other := range c.servers {
			got, _, err := other.client.Containers().Get(c.ctx(), made.UUID, api.QueryOptions{Consistent: true})
			if err != nil || got.Name != made.Name {
				c.Errorf("the container created through %s is not read through %s: %+v, %v", n.name, other.name, got, err)
			}
		}
	}
}

// TestServersBootstrapOneCluster: three servers with the same flags become one
// cluster, also after a power cut. A server of another cluster name is refused,
// and a later server joins.
func TestServersBootstrapOneCluster(t *testing.T) {
	t.Parallel()
	c := newThreeServers(t, 0)
	c.awaitAll()
	first := c.clusterIDs()
	for name, id := range first {
		if id == "" || id != first["s1"] {
			t.Fatalf("%s belongs to cluster %q, and s1 to %q", name, id, first["s1"])
		}
	}
	c.writeThroughEach("first")
	before := c.sameState()

	// All at once, as a power cut does, with unchanged flags.
	for _, n := range c.servers {
		n.kill()
	}
	for _, n := range c.servers {
		n.start()
	}
	c.awaitAll()
	for name, id := range c.clusterIDs() {
		if id != first[name] {
			t.Errorf("%s belonged to cluster %q, and now to %q", name, first[name], id)
		}
	}
	if after := c.sameState(); after.Index < before.Index {
		t.Errorf("I1: the state was at index %d, and now is at %d", before.Index, after.Index)
	}
	list, _, err := c.client.Containers().List(c.ctx(), api.QueryOptions{Consistent: true})
	if err != nil || len(list) != 3 {
		t.Errorf("of 3 containers %d are left, %v", len(list), err)
	}
	c.writeThroughEach("second")

	// A server of another cluster name is refused.
	stranger := c.newServer("stranger")
	c.loose = append(c.loose, stranger.process)
	stranger.args = append(stranger.args, "-cluster", "other", "-join", c.gossip)
	stranger.start()
	c.eventually("a server logs that it refuses a member of another cluster", time.Minute, func() error {
		for _, n := range c.servers {
			b, err := os.ReadFile(n.log)
			if err != nil {
				return err
			}
			if strings.Contains(string(b), "with unacceptable label") {
				return nil
			}
		}
		return errors.New("no server has logged it")
	})

	c.awaitVoters(3)

	// A later server has -join only.
	late := c.newServer("s4")
	late.args = append(late.args, "-join", c.gossip)
	late.start()
	c.servers = append(c.servers, late)
	c.awaitAll()
	c.writeThroughEach("third")
	c.sameState()
	if id := c.clusterIDs()["s4"]; id != first["s1"] {
		t.Errorf("s4 belongs to cluster %q", id)
	}
	if id := clusterIDOf(stranger.dir); id != "" {
		t.Errorf("the stranger belongs to cluster %q", id)
	}
	c.awaitVoters(4)
	// Without one of the first three, the later one is needed for a majority.
	all := "MAGNUM_ADDR=" + c.servers[0].addr + "," + c.servers[1].addr + "," + c.servers[2].addr
	c.servers[0].kill()
	magnum(t, []string{all}, "", "bay-list").must(t) // asks the next address
	c.servers = c.servers[1:]
	c.awaitLeader()
	c.client = c.servers[0].client
	c.writeThroughEach("fourth")
	c.sameState()
}
