//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

// TestOneAgentForEachHost: a host has one agent. A second agent on its data
// directory is refused. Of two agents with copies of the directory the one that
// registered last works; the other is refused, and the API and the log say so.
// A killed agent is accepted at once when it starts again, also without a join
// token.
func TestOneAgentForEachHost(t *testing.T) {
	t.Parallel()
	// Servers hold an agent's poll for a third of this time: 20 s.
	c := newThreeServers(t, 1, "-host-lost-after", "1m")
	first := c.agents[0]
	steady := c.run("steady", sleepScript)
	began := c.engine.started(first.hostID())
	untouched := func(when string) {
		t.Helper()
		if now := c.engine.started(first.hostID()); len(now) != len(began) || now[steady.UUID] != began[steady.UUID] {
			t.Errorf("I6: %s: containers began at %v, and now at %v", when, began, now)
		}
	}
	// another prepares an agent on a data directory.
	another := func(name, dir string) *process {
		p := c.process(name, append([]string{}, first.args...)...)
		for i := range p.args {
			if p.args[i] == first.dir {
				p.args[i] = dir
			}
		}
		c.loose = append(c.loose, p)
		return p
	}

	second := another("second", first.dir)
	second.start()
	c.eventually("the second agent ends", patience, func() error {
		if second.alive() {
			return errors.New("it still runs")
		}
		return nil
	})
	says := tail(second.log, 1)
	if code := second.cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(says, filepath.Join(first.dir, "agent")) ||
		!strings.Contains(says, fmt.Sprintf("(process %d)", first.cmd.Process.Pid)) {
		t.Errorf("the second agent ended with code %d and %q", code, says)
	}
	untouched("after a second agent")

	// A copy of the directory, made while the agent runs.
	copied := filepath.Join(c.dir, "copied")
	if err := os.CopyFS(copied, os.DirFS(first.dir)); err != nil {
		t.Fatal(err)
	}
	twin := another("twin", copied)
	twin.start()
	c.awaitLog(twin, "registered", 0)
	c.awaitLog(first.process, "another agent has registered as host "+first.hostID(), 0)
	c.awaitLog(first.process, "this one is admitted again after a restart", 0)
	c.eventually("a server's log says which host's agent is refused", time.Minute, func() error {
		for _, n := range c.servers {
			if b, err := os.ReadFile(n.log); err == nil && strings.Contains(string(b),
				"an agent is refused: another agent has since registered with a copy of its data directory: host_id="+first.hostID()) {
				return nil
			}
		}
		return errors.New("no log has it")
	})
	c.eventually("host-show says that there is a copy", patience, func() error {
		if out := c.magnum("host-show", "host-1").must(t); !strings.Contains(out, "an agent with a copy of its data directory") {
			return errors.New(out)
		}
		return nil
	})
	// The twin works as the same host.
	c.run("by-the-twin", sleepScript)
	began = c.engine.started(first.hostID())
	said := twin.logged()
	time.Sleep(6 * time.Second) // longer than the first agent's pause between two tries
	if b, _ := os.ReadFile(twin.log); strings.Contains(string(b[said:]), "registering again") {
		t.Error("the two agents keep taking the host from each other")
	}
	untouched("with a twin")

	// The operator ends the twin, and starts the first agent again.
	twin.kill()
	first.stop()
	first.start()
	c.eventually("the host is ready, without a word of a copy", patience, func() error {
		h, _, err := c.client.Hosts().Get(c.ctx(), "host-1", api.QueryOptions{})
		if err == nil && (h.State != structs.HostReady || deref(h.StateReason) != "") {
			err = fmt.Errorf("it is %s (%s)", h.State, deref(h.StateReason))
		}
		return err
	})
	c.run("after-the-twin", sleepScript)
	began = c.engine.started(first.hostID())

	// The agent is killed during a poll and started again: neither the agent nor a
	// command waits for the abandoned poll to end.
	fastest := time.Duration(math.MaxInt64)
	for range 3 {
		first.kill()
		said = first.logged()
		from := time.Now()
		first.start()
		c.awaitLog(first.process, "registered", said)
		if out := c.magnum("container-execute", steady.UUID, "echo", "here").must(t); strings.TrimSpace(out) != "here" {
			t.Errorf("execute prints %q", out)
		}
		fastest = min(fastest, time.Since(from))
	}
	if fastest > 15*time.Second {
		t.Errorf("an agent that was killed is back after %v at the earliest", fastest)
	}
	t.Logf("an agent that was killed is back after %v", fastest.Round(time.Millisecond))
	untouched("after three kills")
	first.kill()
	said = first.logged()
	at := slices.Index(first.args, "-join-token")
	first.args = slices.Delete(first.args, at, at+2)
	first.start()
	c.awaitLog(first.process, "registered", said)
	untouched("without a join token")
	if err := c.engine.noDuplicates(first.hostID()); err != nil {
		t.Error(err)
	}
}

// TestDataDirOnAnotherEngine: an agent with a copy of a data directory and
// another engine is another host. It reports nothing about the containers of
// the first host: an exclusive container starts there only once an operator has
// fenced the first host.
func TestDataDirOnAnotherEngine(t *testing.T) {
	t.Parallel()
	c := newThreeServers(t, 1, "-host-lost-after", "3s")
	first := c.agents[0]
	only := c.create(c.exclusive("only", structs.ExclusiveYes), structs.ContainerRunning)
	ops := []structs.PatchOp{{Op: "replace", Path: "/node_count", Value: 2}}
	if _, _, err := c.client.Bays().Update(c.ctx(), c.bay.UUID, ops, api.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	copied, own := filepath.Join(c.dir, "copied"), newOwnEngine(t)
	if err := os.CopyFS(copied, os.DirFS(first.dir)); err != nil {
		t.Fatal(err)
	}
	second := c.process("copied", append([]string{}, first.args...)...)
	for i := range second.args {
		switch second.args[i] {
		case first.dir:
			second.args[i] = copied
		case first.name:
			second.args[i] = "host-2"
		}
	}
	second.args = append(second.args, "-docker-host", own.host)
	t.Cleanup(second.end) // before its engine ends
	token := slices.Index(second.args, "-join-token")
	bare := slices.Delete(slices.Clone(second.args), token, token+2)
	if r := magnum(t, nil, "", bare...); r.code != 1 || !strings.Contains(r.stderr, first.hostID()) ||
		!strings.Contains(r.stderr, "host-fence "+first.hostID()) {
		t.Errorf("without a token the agent ends with %+v", r)
	}
	second.start()
	c.eventually("the second host is in the bay", time.Minute, func() error {
		h, _, err := c.client.Hosts().Get(c.ctx(), "host-2", api.QueryOptions{})
		if err == nil && (h.State != structs.HostReady || deref(h.BayUUID) != c.bay.UUID || h.UUID == first.hostID()) {
			err = fmt.Errorf("it is %+v", h)
		}
		return err
	})
	stays := func(when string, status structs.ContainerStatus) {
		t.Helper()
		c.eventually(when+" the container is "+string(status), patience, func() error {
			got, _, err := c.client.Containers().Get(c.ctx(), only.UUID, api.QueryOptions{})
			if err == nil && (got.Status != status || got.Epoch != only.Epoch) {
				err = fmt.Errorf("it is %s (%s) in epoch %d", got.Status, deref(got.StatusReason), got.Epoch)
			}
			return err
		})
	}
	stays("beside the copy", structs.ContainerRunning)
	first.kill()
	stays("with its host lost", structs.ContainerUnknown)
	if out := c.magnum("host-show", "host-1").must(t); !strings.Contains(out, "magnum host-fence "+first.hostID()) {
		t.Errorf("host-show says %s", out)
	}
	// The restarted agent gets a full answer, which changes nothing.
	second.kill()
	said := second.logged()
	second.start()
	c.awaitLog(second, "registered", said)
	stays("after a restart of the copy", structs.ContainerUnknown)
	c.magnum("host-fence", "host-1").must(t)
	c.eventually("it is started on the second host", patience, func() error {
		got, _, err := c.client.Containers().Get(c.ctx(), only.UUID, api.QueryOptions{})
		if err == nil && (got.Status != structs.ContainerRunning || got.Epoch == only.Epoch) {
			err = fmt.Errorf("it is %s (%s) in epoch %d", got.Status, deref(got.StatusReason), got.Epoch)
		}
		return err
	})
}

// TestLostHostID: an agent whose host_id is damaged or lost ends as long as
// containers of the host are on the engine, and says how to go on. Each of the
// ways works.
func TestLostHostID(t *testing.T) {
	t.Parallel()
	c := newThreeServers(t, 1)
	first := c.agents[0]
	id, path := first.hostID(), filepath.Join(first.dir, "agent", "host_id")
	steady := c.run("steady", sleepScript)
	began := c.engine.started(id)
	first.kill()
	ends := func(when string, words ...string) {
		t.Helper()
		r := magnum(t, nil, "", first.args...)
		for _, w := range words {
			if !strings.Contains(r.stderr, w) {
				t.Errorf("%s: the message does not have %q", when, w)
			}
		}
		if r.code != 1 || t.Failed() {
			t.Fatalf("%s: the agent ends with %+v", when, r)
		}
		if now := c.engine.started(id); len(now) != 1 || now[steady.UUID] != began[steady.UUID] {
			t.Fatalf("%s: containers began at %v, and now at %v", when, began, now)
		}
	}
	write := func(content string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	flipped := "0" + id[1:]
	if flipped == id {
		flipped = "1" + id[1:]
	}
	for _, content := range []string{"", flipped + "\n", id[:20]} {
		write(content)
		ends(fmt.Sprintf("with %q", content), path, "of host "+id)
	}
	// Without the engine's record, as an earlier version left it, the disk has no right ID.
	if err := os.Remove(filepath.Join(first.dir, "agent", "agent.engine")); err != nil {
		t.Fatal(err)
	}
	write(flipped)
	ends("without the engine's record", "write "+id+" into it", "magnum.host="+id, "host-fence "+id)
	if err := os.RemoveAll(filepath.Join(first.dir, "agent")); err != nil {
		t.Fatal(err)
	}
	ends("with nothing left", "write "+id+" into it", "magnum.host="+id, "host-fence "+id)
	if hosts := c.magnum("host-list", "-format", "{{.uuid}}").must(t); hosts != id+"\n" {
		t.Errorf("hosts are %q", hosts)
	}

	// The containers are removed, as the message says: a new host joins once the old one is lost.
	c.engine.removeAll(id)
	first.start()
	c.eventually("a new host is ready", time.Minute, func() error {
		hosts, _, err := c.client.Hosts().List(c.ctx(), api.QueryOptions{Detail: true})
		for _, h := range hosts {
			if h.UUID != id && h.State == structs.HostReady {
				return nil
			}
		}
		return fmt.Errorf("%v, %w", hosts, errors.Join(err, errors.New("no new host")))
	})
}
