//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

// TestPausedLeaderDoesNotGoOnLeading: a leader is stopped by SIGSTOP until
// another one leads, and then goes on. Of the requests that it got meanwhile it
// acknowledges only those that are committed, and its consistent reads are
// current: I1, I2.
func TestPausedLeaderDoesNotGoOnLeading(t *testing.T) {
	t.Parallel()
	c := newThreeServers(t, 0)
	c.awaitAll()
	zombie := c.awaitLeader()
	made, _, err := zombie.client.Containers().Create(c.ctx(), c.waiting("before"), api.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	zombie.signal(syscall.SIGSTOP)
	held := time.Now()
	next := c.except(zombie)[0]
	// A new client for each request, so that none asks for an index.
	fresh := func() *api.Client {
		client, err := api.New(api.Config{Address: zombie.addr, RetryFor: time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		return client
	}
	ops := []structs.PatchOp{{Op: "replace", Path: "/name", Value: "after"}}
	c.eventually("the other servers rename the container", patience, func() error {
		_, _, err := next.client.Containers().Update(c.ctx(), made.UUID, ops, api.WriteOptions{})
		return err
	})
	t.Logf("the other servers wrote %v after the leader was stopped", time.Since(held).Round(time.Millisecond))

	// The kernel accepts these requests, and the zombie reads them when it goes on.
	const each = 10
	var asking sync.WaitGroup
	var mu sync.Mutex
	acknowledged := make(map[string]string) // name by UUID
	answered := 0
	for range each {
		asking.Go(func() {
			r := c.waiting("asked-of-the-zombie")
			b, _, err := fresh().Containers().Create(c.ctx(), r, api.CreateOptions{})
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				acknowledged[b.UUID] = *r.Name
			} else if code := structs.CodeOf(err); code != structs.CodeUnavailable && code != structs.CodeNoLeader {
				t.Errorf("a create by the zombie: %v", err)
			}
		})
		asking.Go(func() {
			b, _, err := fresh().Containers().Get(c.ctx(), made.UUID, api.QueryOptions{Consistent: true})
			mu.Lock()
			defer mu.Unlock()
			if err == nil && b.Name != "after" {
				t.Errorf("I2: the zombie's consistent read says %q", b.Name)
			}
			if err == nil {
				answered++
			}
		})
	}
	time.Sleep(5*time.Second - time.Since(held)) // the fault itself
	zombie.signal(syscall.SIGCONT)
	asking.Wait()
	t.Logf("the zombie acknowledged %d of %d creates and answered %d of %d consistent reads", len(acknowledged), each, answered, each)
	c.awaitLeader()
	c.awaitAll()
	for _, n := range c.servers {
		for id, name := range acknowledged {
			got, _, err := n.client.Containers().Get(c.ctx(), id, api.QueryOptions{Consistent: true})
			if err != nil || got.Name != name {
				t.Errorf("I1: %s was acknowledged, and %s says %+v, %v", name, n.name, got, err)
			}
		}
		got, _, err := n.client.Containers().Get(c.ctx(), made.UUID, api.QueryOptions{Consistent: true})
		if err != nil || got.Name != "after" {
			t.Errorf("I1: the renamed container is %+v on %s, %v", got, n.name, err)
		}
	}
	c.sameState()
}

// use has the functions that threeServers inherits ask a server.
func (c *threeServers) use(n *clusterServer) { c.addr, c.client = n.addr, n.client }

// awaitPoll waits until the only agent polls at a server, and returns that
// server.
func (c *threeServers) awaitPoll() *clusterServer {
	c.Helper()
	var holder *clusterServer
	c.eventually("a server has the agent's poll", patience, func() error {
		for _, n := range c.servers {
			resp, err := http.Get("http://" + n.addr + "/v1/metrics")
			if err != nil {
				continue
			}
			b, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err == nil && strings.Contains(string(b), "\nmagnum_agent_polls 1\n") {
				holder = n
				return nil
			}
		}
		return errors.New("no server has it")
	})
	return holder
}

// TestLongContainersOutliveServers: an agent's containers run on while the
// leader is down, and while all servers are. Changes of that time are reported
// once servers are back (I5, I6).
func TestLongContainersOutliveServers(t *testing.T) {
	t.Parallel()
	c := newThreeServers(t, 1)
	host := c.agents[0]
	id := host.hostID()
	runs, ends := c.run("runs", sleepScript), c.run("ends", sleepScript)
	began := c.engine.started(id)

	leader := c.awaitLeader()
	leader.kill()
	c.use(c.except(leader)[0])
	// The agent still polls and gets work.
	made := c.create(c.request("made-without-the-leader", sleepScript), structs.ContainerRunning)
	if now := c.engine.started(id); now[runs.UUID] != began[runs.UUID] || now[ends.UUID] != began[ends.UUID] {
		t.Errorf("I6: started at %v, and now at %v", began, now)
	}
	leader.start()
	c.awaitAll()

	for _, n := range c.servers {
		n.kill()
	}
	c.endOutside(id, ends.UUID)
	time.Sleep(2 * time.Second) // without any server
	if now := c.engine.started(id); now[runs.UUID] != began[runs.UUID] {
		t.Errorf("I6: without a server the container was started at %s, before at %s", now[runs.UUID], began[runs.UUID])
	}
	for _, n := range c.servers {
		n.start()
	}
	c.awaitAll()
	c.await(ends.UUID, structs.ContainerStopped)
	c.await(runs.UUID, structs.ContainerRunning)
	c.await(made.UUID, structs.ContainerRunning)
	if now := c.engine.started(id); now[runs.UUID] != began[runs.UUID] {
		t.Errorf("I6: the container was started at %s, and now at %s", began[runs.UUID], now[runs.UUID])
	}
	c.deleteAll([]string{runs.UUID, ends.UUID, made.UUID})
	c.sameState()
}

// endOutside ends a container on the engine behind the agent's back.
func (c *threeServers) endOutside(hostID, id string) {
	c.Helper()
	list, err := c.engine.list(hostID)
	if err != nil {
		c.Fatal(err)
	}
	for _, s := range list {
		if s.container != id {
			continue
		}
		if err := c.engine.ContainerStop(context.Background(), s.id, container.StopOptions{}); err != nil {
			c.Fatal(err)
		}
		return
	}
	c.Fatalf("the engine has no container of %s", id)
}

// TestSessionsAcrossServers: sessions work whichever server the CLI uses and
// whichever has the agent's poll. If the CLI's server ends, the CLI says so and
// ends.
func TestSessionsAcrossServers(t *testing.T) {
	t.Parallel()
	c := newThreeServers(t, 1)
	b := c.run("talks", `trap "exit 0" TERM; i=0; while :; do echo line $i; i=$((i+1)); sleep 0.2 & wait $!; done`)
	for _, n := range c.servers {
		c.use(n)
		if out := c.magnum("container-execute", b.UUID, "echo", "through", n.name).must(t); !strings.Contains(out, "through "+n.name) {
			t.Errorf("execute through %s says %q", n.name, out)
		}
	}
	holder := c.awaitPoll()
	through := c.except(holder)[0]
	c.use(through)
	t.Logf("%s has the agent's poll, the CLI talks to %s, and %s leads", holder.name, through.name, c.awaitLeader().name)
	logs := c.follow(through, "container-logs", "--follow", b.UUID)
	logs.awaitLines(3)
	term := (&commandLine{c.cluster}).atTerminal(80, 24, "container-execute", "-it", b.UUID, "sh")
	term.types("echo $((40 + 2)) here\r")
	term.shows("42 here")

	// The agent has dialled the CLI's server: sessions do not go through the server with the poll.
	holder.kill()
	logs.awaitLines(10)
	term.types("echo $((50 + 3)) here\r")
	term.shows("53 here")
	holder.start()
	c.awaitAll()

	through.kill()
	code, said := logs.ended()
	if code == 0 || strings.TrimSpace(said) == "" {
		t.Errorf("container-logs ended with code %d and says %q", code, said)
	}
	t.Logf("container-logs ended with code %d: %s", code, strings.TrimSpace(said))
	select {
	case <-term.done:
	case <-time.After(time.Minute):
		t.Fatalf("container-execute does not end; the terminal shows %q", term.shown())
	}
	if code := term.cmd.ProcessState.ExitCode(); code == 0 || code == 130 {
		t.Errorf("container-execute ended with code %d", code)
	}
	term.shows("ERROR: ")
	t.Logf("container-execute ended with code %d: %q", term.cmd.ProcessState.ExitCode(), term.shown())

	// New sessions work through another server, and the container was not disturbed.
	c.use(holder)
	logs = c.follow(holder, "container-logs", "--follow", b.UUID)
	logs.awaitLines(3)
	logs.cmd.Process.Signal(syscall.SIGINT)
	logs.ended()
	if out := c.magnum("container-execute", b.UUID, "echo", "again").must(t); !strings.Contains(out, "again") {
		t.Errorf("execute says %q", out)
	}
	through.start()
	c.awaitAll()
	c.deleteAll([]string{b.UUID})
}

// following is a run of the CLI in the background.
type following struct {
	t      testing.TB
	cmd    *exec.Cmd
	lines  chan string
	errors strings.Builder
}

// follow starts the CLI with the address of a server.
func (c *threeServers) follow(n *clusterServer, args ...string) *following {
	c.Helper()
	return follow(c.TB, n.addr, args...)
}

// follow starts the CLI with an address.
func follow(t testing.TB, addr string, args ...string) *following {
	t.Helper()
	f := &following{t: t, cmd: exec.Command(program(t), args...), lines: make(chan string, 1000)}
	f.cmd.Env = append(os.Environ(), "MAGNUM_ADDR="+addr)
	f.run()
	return f
}

// run starts the CLI.
func (f *following) run() {
	t := f.t
	t.Helper()
	f.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	f.cmd.Stderr = &f.errors
	out, err := f.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := f.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(f.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			f.lines <- s.Text()
		}
	}()
}

// awaitLines waits for n more lines.
func (f *following) awaitLines(n int) {
	f.t.Helper()
	late := time.After(patience)
	for range n {
		select {
		case _, ok := <-f.lines:
			if !ok {
				f.t.Fatalf("the CLI has ended: %s", f.errors.String())
			}
		case <-late:
			f.t.Fatal("the CLI writes no line")
		}
	}
}

// ended waits for the CLI's end, and returns its exit code and its standard
// error.
func (f *following) ended() (int, string) {
	f.t.Helper()
	late := time.After(patience)
	for {
		select {
		case _, ok := <-f.lines:
			if !ok {
				f.cmd.Wait()
				return f.cmd.ProcessState.ExitCode(), f.errors.String()
			}
		case <-late:
			f.cmd.Process.Kill()
			f.t.Fatal("the CLI does not end")
		}
	}
}

// TestKilledAgentIsAcceptedAtOnce: a killed agent that starts again keeps its
// host and its containers, and nothing waits for its host to be lost.
func TestKilledAgentIsAcceptedAtOnce(t *testing.T) {
	t.Parallel()
	c := newThreeServers(t, 1, "-host-lost-after", "1m")
	host := c.agents[0]
	b := c.run("stays", sleepScript)
	began := c.engine.started(host.hostID())[b.UUID]
	id := host.hostID()
	for range 3 {
		host.kill()
		host.start()
		at := time.Now()
		made := c.create(c.request("made", sleepScript), structs.ContainerRunning)
		took := time.Since(at)
		t.Logf("a container ran %v after the agent was started again", took.Round(time.Millisecond))
		if took > 50*time.Second { // an engine may take seconds; the host would be lost after a minute
			t.Errorf("the agent was accepted only after %v", took)
		}
		c.deleteAll([]string{made.UUID})
	}
	now := c.await(b.UUID, structs.ContainerRunning)
	if host.hostID() != id || now.Epoch != b.Epoch || c.engine.started(id)[b.UUID] != began {
		t.Errorf("I6: host %s, epoch %d, began at %s; was host %s, epoch %d, at %s", host.hostID(), now.Epoch,
			c.engine.started(id)[b.UUID], id, b.Epoch, began)
	}
	c.deleteAll([]string{b.UUID})
}
