//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/internal/freeport"
	"github.com/stackforge/magnum/structs"
)

// image is the busybox image that `make test` has built.
const image = "magnum-test/busybox:latest"

// sleepScript runs until SIGTERM, which ends it at once with exit code 0.
const sleepScript = `trap "exit 0" TERM; while :; do sleep 1 & wait $!; done`

// patience bounds waits for what must happen but has no promised speed: the
// machine may be busy.
const patience = 2 * time.Minute

// program returns the path of the program under test.
func program(t testing.TB) string {
	t.Helper()
	bin := os.Getenv("MAGNUM_BIN")
	if bin == "" {
		t.Fatal("MAGNUM_BIN does not name the magnum to test: run `make test`")
	}
	return bin
}

// cycles returns the number of rounds of each fault: CYCLES, or 10.
func cycles(t testing.TB) int {
	t.Helper()
	n, err := strconv.Atoi(os.Getenv("CYCLES"))
	if os.Getenv("CYCLES") == "" {
		return 10
	}
	if err != nil || n < 1 {
		t.Fatalf("CYCLES=%q is not a number of rounds", os.Getenv("CYCLES"))
	}
	return n
}

// process is one magnum process that a test starts, perhaps several times.
type process struct {
	t    testing.TB
	name string
	bin  string // "" means the program under test
	args []string
	env  []string
	log  string   // file with the output of all its runs
	on   *netHost // where it runs, nil for this machine
	cmd  *exec.Cmd
	done chan struct{} // closed when cmd has ended

	awayMu sync.Mutex
	gone   []span // what away returns
}

// away returns when the process was down or stopped: from the signal that ended
// or stopped it until it ran again.
func (p *process) away() []span {
	p.awayMu.Lock()
	defer p.awayMu.Unlock()
	return slices.Clone(p.gone)
}

// noteAway begins a span of away, unless one is open.
func (p *process) noteAway() {
	p.awayMu.Lock()
	defer p.awayMu.Unlock()
	if n := len(p.gone); n == 0 || !p.gone[n-1].to.IsZero() {
		p.gone = append(p.gone, span{from: time.Now()})
	}
}

// noteBack ends the open span of away.
func (p *process) noteBack() {
	p.awayMu.Lock()
	defer p.awayMu.Unlock()
	if n := len(p.gone); n > 0 && p.gone[n-1].to.IsZero() {
		p.gone[n-1].to = time.Now()
	}
}

// start runs the process.
func (p *process) start() {
	p.t.Helper()
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		p.t.Fatal(err)
	}
	defer log.Close()
	bin := p.bin
	if bin == "" {
		bin = program(p.t)
	}
	p.cmd = exec.Command(bin, p.args...)
	if p.on != nil {
		p.cmd = p.on.command(bin, p.args...)
	}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.Env = append(os.Environ(), p.env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		p.t.Fatalf("start %s: %v", p.name, err)
	}
	p.noteBack()
	cmd, done := p.cmd, make(chan struct{})
	p.done = done
	go func() {
		cmd.Wait()
		close(done)
	}()
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	switch s {
	case syscall.SIGSTOP, syscall.SIGTERM, syscall.SIGKILL:
		p.noteAway()
	}
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Errorf("signal %v to %s: %v", s, p.name, err)
	}
	if s == syscall.SIGCONT {
		p.noteBack()
	}
}

// kill ends the process as a power cut would.
func (p *process) kill() {
	p.t.Helper()
	p.signal(syscall.SIGKILL)
	<-p.done
}

// end kills the process if it runs, also if it is stopped by SIGSTOP.
func (p *process) end() {
	p.t.Helper()
	if p.cmd != nil && p.alive() {
		p.signal(syscall.SIGCONT)
		p.kill()
	}
}

// stop ends the process with SIGTERM and expects exit code 0.
func (p *process) stop() {
	p.t.Helper()
	p.signal(syscall.SIGTERM)
	select {
	case <-p.done:
		if code := p.cmd.ProcessState.ExitCode(); code != 0 {
			p.t.Errorf("%s ended with code %d", p.name, code)
		}
	case <-time.After(time.Minute):
		p.t.Errorf("%s does not end; its log has the stacks of its goroutines", p.name)
		p.signal(syscall.SIGQUIT) // Go then writes all stacks
		select {
		case <-p.done:
		case <-time.After(5 * time.Second):
			p.kill()
		}
	}
}

// alive reports whether the process still runs.
func (p *process) alive() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// rss returns the process's resident memory in bytes.
func (p *process) rss() int64 {
	p.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "VmRSS:" {
			kib, _ := strconv.ParseInt(f[1], 10, 64)
			return kib << 10
		}
	}
	p.t.Fatal("/proc has no VmRSS for " + p.name)
	return 0
}

// cluster is a server, an agent and a bay with its host.
type cluster struct {
	testing.TB
	dir    string
	addr   string
	server *process
	agent  *process
	client *api.Client
	bay    *structs.BayBody
	engine *engine
}

// newCluster starts a server and an agent on the machine's engine. The host's
// containers are removed after the test.
func newCluster(t testing.TB, agentArgs ...string) *cluster {
	t.Helper()
	return newClusterOn(t, newEngine(t), agentArgs...)
}

// newClusterOn is newCluster on another engine. The arguments must name that
// engine to the agent.
func newClusterOn(t testing.TB, e *engine, agentArgs ...string) *cluster {
	t.Helper()
	c := &cluster{TB: t, dir: t.TempDir(), addr: "127.0.0.1:" + freePort(t), engine: e}
	_, port, _ := net.SplitHostPort(c.addr)
	c.server = c.process("server", "server", "-data-dir", filepath.Join(c.dir, "data"), "-http-port", port, "-raft-port", freePort(t),
		"-gossip-port", "-1", "-log-level", "debug")
	c.server.start()
	client, err := api.New(api.Config{Address: c.addr})
	if err != nil {
		t.Fatal(err)
	}
	c.client = client
	c.eventually("the server answers", patience, func() error {
		_, _, err := client.OperatorState(c.ctx())
		return err
	})
	// Other tests use the same engine: no agent may remove images from it.
	c.agent = c.process("agent", append([]string{"agent", "-server", c.addr, "-gossip=false", "-data-dir", filepath.Join(c.dir, "data"),
		"-name", "host-1", "-log-level", "debug", "-image-gc-high", "0"}, agentArgs...)...)
	c.agent.start()
	t.Cleanup(c.cleanup)
	count := 1
	name := "bay-" + port
	c.bay, _, err = client.Bays().Create(c.ctx(), &structs.BayRequest{Name: &name, NodeCount: &count}, api.WriteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	c.eventually("the bay has its host", patience, func() error {
		b, _, err := client.Bays().Get(c.ctx(), c.bay.UUID, api.QueryOptions{})
		if err == nil && b.Status != structs.BayCreated {
			err = fmt.Errorf("the bay is %s: %s", b.Status, deref(b.StatusReason))
		}
		return err
	})
	return c
}

// sharedTest is a test that shares its cluster with others.
type sharedTest struct {
	name string
	test func(*testing.T, *cluster)
}

// shareCluster starts one cluster and runs tests on it, one after the other.
// What a test leaves is deleted before the next one begins.
func shareCluster(t *testing.T, tests ...sharedTest) {
	t.Helper()
	c := newCluster(t)
	for _, p := range tests {
		t.Run(p.name, func(t *testing.T) {
			own := *c
			own.TB = t
			defer own.deleteWhatIsLeft() // before a registry takes its images away
			p.test(t, &own)
		})
	}
}

// deleteWhatIsLeft deletes all containers.
func (c *cluster) deleteWhatIsLeft() {
	c.Helper()
	list, _, err := c.client.Containers().List(c.ctx(), api.QueryOptions{Consistent: true})
	if err != nil {
		c.Fatal(err)
	}
	var ids []string
	for _, b := range list {
		ids = append(ids, b.UUID)
	}
	c.deleteAll(ids)
}

// process prepares a magnum process; its start runs it.
func (c *cluster) process(name string, args ...string) *process {
	return &process{t: c.TB, name: name, args: args, log: filepath.Join(c.dir, name+".log")}
}

// ctx returns a context for one call, with a timeout of two minutes.
func (c *cluster) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	c.Cleanup(cancel)
	return ctx
}

// cleanup ends the processes, removes the host's containers, and shows the logs
// if the test failed.
func (c *cluster) cleanup() {
	for _, p := range []*process{c.agent, c.server} {
		if p != nil && p.cmd != nil && p.alive() {
			p.signal(syscall.SIGCONT)
			p.kill()
		}
	}
	if id := c.hostID(); id != "" {
		c.engine.removeAll(id)
	}
	if !c.Failed() {
		return
	}
	for _, name := range []string{"server", "agent"} {
		c.Logf("end of the log of the %s:\n%s", name, tail(filepath.Join(c.dir, name+".log"), 60))
	}
}

// hostID returns the ID of the agent's host, "" before the host has registered.
func (c *cluster) hostID() string {
	b, _ := os.ReadFile(filepath.Join(c.dir, "data", "agent", "host_id"))
	return strings.TrimSpace(string(b))
}

func tail(path string, lines int) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	all := bytes.Split(bytes.TrimSpace(b), []byte("\n"))
	return string(bytes.Join(all[max(0, len(all)-lines):], []byte("\n")))
}

// eventually waits until f returns nil.
func (c *cluster) eventually(what string, within time.Duration, f func() error) {
	c.Helper()
	deadline := time.Now().Add(within)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			c.Fatalf("after %v not yet true: %s: %v", within, what, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// request returns a request for a container that runs a shell script.
func (c *cluster) request(name, script string) *structs.ContainerRequest {
	return &structs.ContainerRequest{
		Name: &name, BayUUID: c.bay.UUID, Image: image,
		Command: &structs.Command{Args: []string{"sh", "-c", script}},
	}
}

// run creates a container and waits until it runs.
func (c *cluster) run(name, script string) *structs.ContainerBody {
	c.Helper()
	return c.create(c.request(name, script), structs.ContainerRunning)
}

// create creates and starts a container, and waits until it has the status.
func (c *cluster) create(r *structs.ContainerRequest, status structs.ContainerStatus) *structs.ContainerBody {
	c.Helper()
	body, _, err := c.client.Containers().Create(c.ctx(), r, api.CreateOptions{Run: true})
	if err != nil {
		c.Fatalf("create %s: %v", *r.Name, err)
	}
	return c.await(body.UUID, status)
}

// await waits until a container has the status.
func (c *cluster) await(id string, status structs.ContainerStatus) *structs.ContainerBody {
	c.Helper()
	var body *structs.ContainerBody
	c.eventually(fmt.Sprintf("container %s is %s", id, status), patience, func() (err error) {
		body, _, err = c.client.Containers().Get(c.ctx(), id, api.QueryOptions{})
		if err == nil && body.Status != status {
			err = fmt.Errorf("its status is %s (%s)", body.Status, deref(body.StatusReason))
		}
		return err
	})
	return body
}

// awaitGone waits until a container's row is gone.
func (c *cluster) awaitGone(id string) {
	c.Helper()
	c.eventually("container "+id+" is gone", patience, func() error {
		b, _, err := c.client.Containers().Get(c.ctx(), id, api.QueryOptions{})
		switch {
		case structs.CodeOf(err) == structs.CodeNotFound:
			return nil
		case err != nil:
			return err
		}
		return fmt.Errorf("its status is %s", b.Status)
	})
}

// awaitDesired waits until the engine has what the API says (I5). It returns
// the containers by UUID.
func (c *cluster) awaitDesired() map[string]structs.ContainerBody {
	c.Helper()
	all := make(map[string]structs.ContainerBody)
	c.eventually("the engine has what the API says", 2*patience, func() error {
		list, _, err := c.client.Containers().List(c.ctx(), api.QueryOptions{Detail: true})
		if err != nil {
			return err
		}
		clear(all)
		for _, b := range list {
			all[b.UUID] = b
			switch b.Status {
			case structs.ContainerRunning, structs.ContainerStopped, structs.ContainerPaused:
			default:
				return fmt.Errorf("%s is %s (%s)", b.Name, b.Status, deref(b.StatusReason))
			}
		}
		return c.engine.agrees(c.hostID(), all)
	})
	return all
}

// magnum runs the CLI against the cluster.
func (c *cluster) magnum(args ...string) result {
	c.Helper()
	return magnum(c.TB, []string{"MAGNUM_ADDR=" + c.addr}, "", args...)
}

// result is the outcome of one run of the CLI.
type result struct {
	stdout, stderr string
	code           int
}

func magnum(t testing.TB, env []string, stdin string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program(t), args...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	cmd.Env = append(os.Environ(), env...)
	err := cmd.Run()
	if _, ended := err.(*exec.ExitError); err != nil && !ended {
		t.Fatalf("magnum %v: %v", args, err)
	}
	return result{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// must expects exit code 0, and returns the standard output.
func (r result) must(t testing.TB) string {
	t.Helper()
	if r.code != 0 {
		t.Fatalf("exit code %d\nstdout: %s\nstderr: %s", r.code, r.stdout, r.stderr)
	}
	return r.stdout
}

// freePort returns a port that nobody listens on.
func freePort(t testing.TB) string {
	t.Helper()
	return strconv.Itoa(freeport.Take(t))
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
