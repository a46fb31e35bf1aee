// Command bench measures magnum against the bare Docker engine, side by side
// in one run: the machines are noisy, so only ratios of interleaved pairs are
// worth quoting. `make bench` runs it.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"
	docker "github.com/docker/docker/client"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

var (
	binary = flag.String("bin", "bin/magnum", "the magnum to measure")
	image  = flag.String("image", "magnum-test/busybox:latest", "an image that the engine has")
	rounds = flag.Int("rounds", 15, "pairs of one container on each side")
	many   = flag.Int("many", 20, "running containers for the agent's memory")
)

// napping runs until it is told to end, and ends at once.
var napping = []string{"sh", "-c", `trap "exit 0" TERM; while :; do sleep 1 & wait $!; done`}

func main() {
	flag.Parse()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// bench is a server, an agent and the engine below them.
type bench struct {
	ctx    context.Context
	dir    string
	client *api.Client
	engine *docker.Client
	server *exec.Cmd
	agent  *exec.Cmd
	net    string // the network that the project's containers are on
}

func run(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "magnum-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &bench{ctx: ctx, dir: dir}
	defer b.end()
	if err := b.start(); err != nil {
		return err
	}
	version, err := b.engine.ServerVersion(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("machine: %d cores, load average %s; Docker engine %s; %s\n", runtime.NumCPU(), loadAverage(), version.Version, runtime.Version())
	if err := b.createAndRun(); err != nil {
		return err
	}
	return b.memory()
}

// start starts a server and an agent, as operators do, and a bay.
func (b *bench) start() (err error) {
	const addr = "127.0.0.1:19511"
	data := filepath.Join(b.dir, "data")
	if b.engine, err = docker.NewClientWithOpts(docker.FromEnv, docker.WithAPIVersionNegotiation()); err != nil {
		return err
	}
	if b.server, err = b.process("server", "server", "-data-dir", data, "-http-port", "19511", "-raft-port", "19512"); err != nil {
		return err
	}
	if b.client, err = api.New(api.Config{Address: addr}); err != nil {
		return err
	}
	if err := b.until(func() bool { _, _, err := b.client.OperatorState(b.ctx); return err == nil }); err != nil {
		return fmt.Errorf("the server does not answer; its log is %s", b.log("server"))
	}
	if b.agent, err = b.process("agent", "agent", "-server", addr, "-data-dir", data, "-name", "bench"); err != nil {
		return err
	}
	name, one := "bench", structs.Int(1)
	bay, _, err := b.client.Bays().Create(b.ctx, &structs.BayRequest{Name: &name, NodeCount: &one}, api.WriteOptions{})
	if err != nil {
		return err
	}
	err = b.until(func() bool {
		now, _, err := b.client.Bays().Get(b.ctx, bay.UUID, api.QueryOptions{})
		return err == nil && now.Status == structs.BayCreated
	})
	if err != nil {
		return fmt.Errorf("the bay gets no host; the agent's log is %s", b.log("agent"))
	}
	return nil
}

func (b *bench) process(name string, args ...string) (*exec.Cmd, error) {
	log, err := os.Create(filepath.Join(b.dir, name+".log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.CommandContext(b.ctx, *binary, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd, cmd.Start()
}

// log returns the end of a process's log.
func (b *bench) log(name string) string {
	out, _ := os.ReadFile(filepath.Join(b.dir, name+".log"))
	return string(out[max(0, len(out)-2000):])
}

func (b *bench) until(ready func() bool) error {
	for deadline := time.Now().Add(30 * time.Second); !ready(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("not ready after 30 s")
		}
	}
	return nil
}

// end stops the processes and removes what they have run.
func (b *bench) end() {
	for _, cmd := range []*exec.Cmd{b.agent, b.server} {
		if cmd != nil && cmd.Process != nil {
			cmd.Process.Signal(syscall.SIGTERM)
			cmd.Wait()
		}
	}
	host, err := os.ReadFile(filepath.Join(b.dir, "data", "agent", "host_id"))
	if err != nil {
		return
	}
	ctx := context.Background()
	list, _ := b.engine.ContainerList(ctx, container.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("label", "magnum.host="+strings.TrimSpace(string(host))))})
	for _, c := range list {
		b.engine.ContainerRemove(ctx, c.ID, container.RemoveOptions{Force: true})
	}
}

// createAndRun measures one container at a time: from the POST until the API
// says Running, against create and start on the engine, on the same network
// and with the same log settings.
func (b *bench) createAndRun() error {
	// The project's network lives as long as there is a container on it.
	_, meta, err := b.client.Containers().Create(b.ctx, b.request("resident"), api.CreateOptions{Run: true, WriteOptions: api.WriteOptions{Wait: time.Minute}})
	if err != nil {
		return err
	}
	if !meta.Done() {
		return fmt.Errorf("the first container does not run")
	}
	if _, err := b.throughMagnum("warm"); err != nil {
		return err
	}
	if err := b.findNetwork(); err != nil {
		return err
	}
	if _, err := b.onEngine(); err != nil {
		return err
	}
	var ours, theirs, ratios []float64
	for i := range *rounds {
		var m, e time.Duration
		// Whoever goes second finds warmer caches: take turns.
		for turn := range 2 {
			if (i+turn)%2 == 0 {
				m, err = b.throughMagnum(fmt.Sprintf("run-%d", i))
			} else {
				e, err = b.onEngine()
			}
			if err != nil {
				return err
			}
		}
		ours, theirs = append(ours, m.Seconds()*1000), append(theirs, e.Seconds()*1000)
		ratios = append(ratios, m.Seconds()/e.Seconds())
	}
	fmt.Printf("create and run, %d pairs: magnum %.0f ms, engine %.0f ms (medians); ratio median %.2f, from %.2f to %.2f; aim 1.10; load average %s\n",
		*rounds, median(ours), median(theirs), median(ratios), slices.Min(ratios), slices.Max(ratios), loadAverage())
	return nil
}

// throughMagnum runs a container and returns how long the API took to say so.
func (b *bench) throughMagnum(name string) (time.Duration, error) {
	began := time.Now()
	body, meta, err := b.client.Containers().Create(b.ctx, b.request(name), api.CreateOptions{Run: true, WriteOptions: api.WriteOptions{Wait: time.Minute}})
	took := time.Since(began)
	if err != nil {
		return 0, err
	}
	if !meta.Done() || body.Status != structs.ContainerRunning {
		return 0, fmt.Errorf("%s is %s after %v", name, body.Status, took)
	}
	_, err = b.client.Containers().Delete(b.ctx, body.UUID, api.DeleteOptions{Force: true, WriteOptions: api.WriteOptions{Wait: time.Minute}})
	return took, err
}

func (b *bench) request(name string) *structs.ContainerRequest {
	return &structs.ContainerRequest{Name: &name, Image: *image, Command: &structs.Command{Args: napping}}
}

// findNetwork finds the network that magnum has made for the project.
func (b *bench) findNetwork() error {
	list, err := b.engine.NetworkList(b.ctx, network.ListOptions{})
	if err != nil {
		return err
	}
	for _, n := range list {
		if n.Name == "mg-"+structs.DefaultProject {
			b.net = n.Name
			return nil
		}
	}
	return fmt.Errorf("the project's network is not on the engine")
}

// onEngine does the same on the engine itself.
func (b *bench) onEngine() (time.Duration, error) {
	began := time.Now()
	made, err := b.engine.ContainerCreate(b.ctx,
		&container.Config{Image: *image, Cmd: napping},
		&container.HostConfig{
			NetworkMode: container.NetworkMode(b.net),
			LogConfig:   container.LogConfig{Type: "json-file", Config: map[string]string{"max-size": "10m", "max-file": "3"}},
		}, nil, nil, "")
	if err != nil {
		return 0, err
	}
	if err := b.engine.ContainerStart(b.ctx, made.ID, container.StartOptions{}); err != nil {
		return 0, err
	}
	took := time.Since(began)
	return took, b.engine.ContainerRemove(b.ctx, made.ID, container.RemoveOptions{Force: true})
}

// memory measures the agent's resident memory with running containers.
func (b *bench) memory() error {
	idle, err := rss(b.agent.Process.Pid)
	if err != nil {
		return err
	}
	for i := range *many {
		_, meta, err := b.client.Containers().Create(b.ctx, b.request(fmt.Sprintf("many-%d", i)), api.CreateOptions{Run: true, WriteOptions: api.WriteOptions{Wait: time.Minute}})
		if err != nil {
			return err
		}
		if !meta.Done() {
			return fmt.Errorf("container %d of %d does not run", i, *many)
		}
	}
	agent, err := rss(b.agent.Process.Pid)
	if err != nil {
		return err
	}
	server, err := rss(b.server.Process.Pid)
	if err != nil {
		return err
	}
	fmt.Printf("memory: agent %.1f MB idle, %.1f MB with %d running containers (aim under 30); server %.1f MB\n", mb(idle), mb(agent), *many, mb(server))
	return nil
}

func mb(bytes int64) float64 { return float64(bytes) / 1e6 }

// rss returns a process's resident memory in bytes.
func rss(pid int) (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "VmRSS:" {
			kib, err := strconv.ParseInt(f[1], 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("process %d has no VmRSS", pid)
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}

func loadAverage() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(b))[:3], " ")
}
