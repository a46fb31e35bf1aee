//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	dockerimage "github.com/docker/docker/api/types/image"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

// openstack runs OpenStack's own container client against the cluster.
func (c *cluster) openstack(args ...string) result {
	c.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	all := append([]string{"--os-auth-type", "admin_token", "--os-token", "unused", "--os-endpoint", "http://" + c.addr + "/v1",
		"appcontainer"}, args...)
	cmd := exec.CommandContext(ctx, "openstack", all...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	// The client keeps a cache in its home.
	cmd.Env = append(os.Environ(), "HOME="+c.dir, "PYTHONWARNINGS=ignore", "no_proxy=127.0.0.1")
	err := cmd.Run()
	if _, ended := err.(*exec.ExitError); err != nil && !ended {
		c.Fatalf("openstack appcontainer %v: %v", args, err)
	}
	return result{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// accepted runs an action. The client shows its failure only in its output.
func (c *cluster) accepted(args ...string) {
	c.Helper()
	if out := c.openstack(args...).must(c.TB); !strings.Contains(out, "accepted") {
		c.Fatalf("openstack appcontainer %v: %s", args, out)
	}
}

// fields runs a command that shows one object, and returns the fields.
func (c *cluster) fields(args ...string) map[string]any {
	c.Helper()
	out := c.openstack(slices.Concat(strings.Fields(args[0]), []string{"-f", "json"}, args[1:])...).must(c.TB)
	var m map[string]any
	if err := json.Unmarshal([]byte(out), &m); err != nil {
		c.Fatalf("openstack appcontainer %v: %v: %s", args, err, out)
	}
	return m
}

// memoryOf returns the memory limit of a container on the engine, in bytes.
func (e *engine) memoryOf(hostID, container string) int64 {
	e.Helper()
	list, err := e.list(hostID)
	if err != nil {
		e.Fatal(err)
	}
	for _, s := range list {
		if s.container == container {
			info, err := e.ContainerInspect(context.Background(), s.id)
			if err != nil {
				e.Fatal(err)
			}
			return info.HostConfig.Memory
		}
	}
	e.Fatalf("the engine has no container %s", container)
	return 0
}

// TestLongOpenStackClient runs all container commands of OpenStack's own
// client, and checks the result on the engine.
func TestLongOpenStackClient(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	shows := func(name string, status structs.ContainerStatus) *structs.ContainerBody {
		t.Helper()
		return c.await(name, status)
	}

	// create: the container is not started. Its volume outlives it.
	t.Cleanup(func() { c.engine.removeVolume("data-" + c.bay.UUID[:8]) })
	made := c.fields("create", "--name", "made", "--memory", "64", "--cpu", "0.5",
		"--environment", "GREETING=hello", "--label", "tier=test",
		"--restart", "on-failure:3", "--workdir", "/tmp", "--image-pull-policy", "never", "--mount",
		"source=data-"+c.bay.UUID[:8]+",destination=/data",
		image, "sh", "-c", "echo $GREETING from $PWD; "+strings.ReplaceAll(sleepScript, `"`, `'`))
	if made["name"] != "made" || made["image"] != image || made["memory"] != "64" {
		t.Errorf("create shows %v", made)
	}
	body := shows("made", structs.ContainerStopped)
	if body.UUID != made["uuid"] || body.Memory != 64<<20 || body.MilliCPU != 500 || body.Environment["GREETING"] != "hello" ||
		body.Labels["tier"] != "test" ||
		body.RestartPolicy.String() != "on-failure:3" || body.Workdir != "/tmp" || len(body.Volumes) != 1 ||
		body.Volumes[0].Target != "/data" || body.StartedAt != (structs.Time{}) {
		t.Errorf("create made %+v", body)
	}

	// run: the container is started; the client implements --wait.
	ran := c.fields("run", "--name", "ran", "--wait", image, "sh", "-c",
		"echo started; echo complaint >&2; "+strings.ReplaceAll(sleepScript, `"`, `'`))
	if ran["status"] != "Running" {
		t.Errorf("run shows %v", ran)
	}
	running := shows("ran", structs.ContainerRunning)

	// list and show.
	var list []map[string]any
	if err := json.Unmarshal([]byte(c.openstack("list", "-f", "json").must(t)), &list); err != nil || len(list) != 2 {
		t.Fatalf("list: %v, %v", list, err)
	}
	if list[1]["name"] != "ran" || list[1]["status"] != "Running" || list[1]["addresses"] != strings.Join(running.Addresses, ", ") ||
		list[0]["status"] != "Created" {
		t.Errorf("list: %v", list)
	}
	if out := c.openstack("list", "--name", "made", "-f", "value", "-c", "uuid").must(t); strings.TrimSpace(out) != body.UUID {
		t.Errorf("list by name: %q", out)
	}
	if got := c.fields("show", "ran"); got["uuid"] != running.UUID || got["host"] != "host-1" ||
		got["addresses"] != strings.Join(running.Addresses, ", ") {
		t.Errorf("show: %v", got)
	}
	if r := c.openstack("show", "nope"); r.code == 0 || !strings.Contains(r.stderr, "Container nope could not be found.") {
		t.Errorf("show of nothing: %+v", r)
	}

	// start, pause, unpause, restart, stop.
	c.accepted("start", "made")
	shows("made", structs.ContainerRunning)
	first := c.engine.started(c.hostID())[body.UUID]
	c.accepted("pause", "made")
	shows("made", structs.ContainerPaused)
	c.accepted("unpause", "made")
	shows("made", structs.ContainerRunning)
	c.accepted("restart", "--timeout", "5", "made")
	shows("made", structs.ContainerRunning)
	if again := c.engine.started(c.hostID())[body.UUID]; again == first || first == "" {
		t.Errorf("restart: started at %q, before at %q", again, first)
	}
	if out := c.openstack("unpause", "made").must(t); !strings.Contains(out, "it is Running, not paused") {
		t.Errorf("unpause of a running container: %s", out)
	}

	// logs, exec, stats.
	c.eventually("the logs hold both streams", time.Minute, func() error {
		if out := c.openstack("logs", "ran").must(t); !strings.Contains(out, "started\n") || !strings.Contains(out, "complaint\n") {
			return fmt.Errorf("logs: %q", out)
		}
		return nil
	})
	if out := c.openstack("logs", "--stderr", "ran").must(t); strings.TrimSpace(out) != "complaint" {
		t.Errorf("logs of standard error: %q", out)
	}
	if out := c.openstack("logs", "--tail", "1", "made").must(t); strings.TrimSpace(out) != "hello from /tmp" {
		t.Errorf("logs of made: %q", out)
	}
	r := c.openstack("exec", "made", "sh", "-c", "echo out; exit 3")
	if strings.TrimSpace(r.stdout) != "out" || r.code != 3 {
		t.Errorf("exec: %+v", r)
	}
	stats := c.fields("stats", "made")
	if stats["CONTAINER"] != "made" || stats["MEM LIMIT(MiB)"] != 64.0 || stats["MEM USAGE(MiB)"] == 0.0 {
		t.Errorf("stats: %v", stats)
	}

	// cp, in and out.
	file := filepath.Join(c.dir, "greeting.txt")
	content := strings.Repeat("hello, container\n", 10000)
	if err := os.WriteFile(file, []byte(content), 0o640); err != nil {
		t.Fatal(err)
	}
	c.openstack("cp", file, "made:/data").must(t)
	if out := c.openstack("exec", "made", "wc", "-c", "/data/greeting.txt").must(t); strings.Fields(out)[0] != fmt.Sprint(len(content)) {
		t.Errorf("cp in: %q", out)
	}
	back := filepath.Join(c.dir, "back")
	if err := os.Mkdir(back, 0o755); err != nil {
		t.Fatal(err)
	}
	c.openstack("cp", "made:/data/greeting.txt", back).must(t)
	if got, err := os.ReadFile(filepath.Join(back, "greeting.txt")); err != nil || string(got) != content {
		t.Errorf("cp out: %d bytes, %v", len(got), err)
	}

	// rebuild: the same container and volumes from a new Docker container, also of another image.
	other := "magnum-test/rebuilt-" + c.bay.UUID[:8] + ":1"
	if err := c.engine.ImageTag(c.ctx(), image, other); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.engine.ImageRemove(context.Background(), other, dockerimage.RemoveOptions{}) })
	c.openstack("exec", "made", "touch", "/tmp/goes").must(t)
	for i, args := range [][]string{{"rebuild", "made"}, {"rebuild", "--image", other, "made"}} {
		was := c.onEngine(body.UUID).id
		c.accepted(args...)
		c.eventually("the container is made again and runs", time.Minute, func() error {
			b, _, err := c.client.Containers().Get(c.ctx(), "made", api.QueryOptions{})
			if err == nil && (b.UUID != body.UUID || b.Status != structs.ContainerRunning || b.Epoch != uint64(i)+2 ||
				b.ImageID != args[len(args)-2] && i == 1) {
				err = fmt.Errorf("it is %+v", b)
			}
			return err
		})
		if now := c.onEngine(body.UUID).id; now == was {
			t.Errorf("%v: the engine still has the old Docker container", args)
		}
		if r := c.openstack("exec", "made", "ls", "/data/greeting.txt", "/tmp/goes"); r.code == 0 || strings.TrimSpace(r.stdout) == "" ||
			!strings.Contains(r.stdout, "/data/greeting.txt\n") {
			t.Errorf("%v: it has %+v", args, r)
		}
	}

	// set: the name, and limits while it runs.
	if got := c.fields("set", "--name", "renamed", "--memory", "96", "made"); got["name"] != "renamed" || got["memory"] != "96" {
		t.Errorf("set: %v", got)
	}
	if got := c.engine.memoryOf(c.hostID(), body.UUID); got != 96<<20 {
		t.Errorf("the memory limit on the engine is %d bytes", got)
	}

	// kill: the named signal is sent. TERM ends this process.
	c.accepted("kill", "--signal", "TERM", "ran")
	if b := shows("ran", structs.ContainerStopped); b.ExitCode == nil || *b.ExitCode != 0 {
		t.Errorf("killed: %+v", b)
	}
	c.accepted("stop", "--timeout", "5", "renamed")
	shows("renamed", structs.ContainerStopped)

	// action list: the newest first.
	if out := c.openstack("action", "list", "-f", "value", "-c", "action", "renamed").must(t); strings.Join(strings.Fields(out), " ") !=
		"stop update rebuild rebuild reboot unpause pause start create" {
		t.Errorf("actions: %q", out)
	}
	request := strings.Fields(c.openstack("action", "list", "-f", "value", "-c", "request_id", "renamed").must(t))[0]
	if got := c.fields("action show", "renamed", request); got["action"] != "stop" || got["request_id"] != request {
		t.Errorf("action show: %v", got)
	}

	// hints: a bay by its name, and a label that no host has. A host is refused.
	hinted := c.fields("create", "--name", "hinted", "--hint", "bay="+c.bay.Name, "--hint", "zone=nowhere", image)
	if b := c.awaitReason(hinted["uuid"].(string), "zone=nowhere"); b.BayUUID != c.bay.UUID || b.Status != structs.ContainerCreating ||
		len(b.Constraints) != 1 || b.Constraints["zone"] != "nowhere" {
		t.Errorf("with hints the container is %+v", b)
	}
	c.accepted("delete", "hinted")
	c.awaitGone(hinted["uuid"].(string))
	if r := c.openstack("create", "--name", "refused", "--host", "host-1", image); r.code == 0 ||
		!strings.Contains(r.stderr, "give them as hints") {
		t.Errorf("create on a host: %+v", r)
	}

	// delete: a running container needs --stop or --force.
	c.accepted("start", "ran")
	shows("ran", structs.ContainerRunning)
	if out := c.openstack("delete", "ran").must(t); !strings.Contains(out, "stop it first, or delete it with stop or force") {
		t.Errorf("delete of a running container: %s", out)
	}
	c.accepted("delete", "--stop", "ran")
	c.accepted("delete", "--force", "renamed")
	c.awaitGone(running.UUID)
	c.awaitGone(body.UUID)
	if out := c.openstack("list", "-f", "value").must(t); strings.TrimSpace(out) != "" {
		t.Errorf("containers are left: %s", out)
	}
	c.awaitDesired()
}

// TestOpenStackTop sends the client's request by HTTP: with Python 3 the client
// can't print the answer.
func TestOpenStackTop(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.run("busy", sleepScript)
	r, err := http.NewRequest("GET", "http://"+c.addr+"/v1/containers/busy/top?ps_args=None", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("OpenStack-API-Version", "container 1.40")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var top struct {
		Titles    []string
		Processes [][]string
	}
	if err := json.NewDecoder(resp.Body).Decode(&top); err != nil || resp.StatusCode != 200 {
		t.Fatalf("%d, %v", resp.StatusCode, err)
	}
	if len(top.Titles) == 0 || len(top.Processes) == 0 || len(top.Processes[0]) != len(top.Titles) ||
		!strings.Contains(fmt.Sprint(top.Processes), "sleep 1") {
		t.Errorf("%+v", top)
	}
	if _, err := c.client.Containers().Delete(c.ctx(), "busy", api.DeleteOptions{Force: true}); err != nil {
		t.Error(err)
	}
}

// TestOpenStackTerminal types into the client's interactive commands, each on a
// terminal of its own.
func TestOpenStackTerminal(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	r := c.request("shell", "")
	r.Command, r.TTY, r.Stdin = &structs.Command{Args: []string{"sh"}}, true, true
	c.create(r, structs.ContainerRunning)
	for _, args := range [][]string{{"exec", "--interactive", "shell", "sh"}, {"attach", "shell"}} {
		c.terminal(args, "echo answer $((40+2))\n", "answer 42")
	}
}

// terminal runs an interactive command of OpenStack's client on a terminal,
// types the text until the answer is shown, and ends the client.
func (c *cluster) terminal(args []string, text, answer string) {
	c.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	all := append([]string{"-c", "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))", "openstack",
		"--os-auth-type", "admin_token", "--os-token", "unused", "--os-endpoint", "http://" + c.addr + "/v1", "appcontainer"}, args...)
	cmd := exec.CommandContext(ctx, "python3", all...)
	cmd.Env = append(os.Environ(), "HOME="+c.dir, "PYTHONWARNINGS=ignore", "no_proxy=127.0.0.1", "TERM=xterm")
	in, err := cmd.StdinPipe()
	if err != nil {
		c.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		c.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		c.Fatal(err)
	}
	var seen strings.Builder
	done := false
	// Input before the client has set up its terminal is lost, so the text is repeated.
	var typing sync.WaitGroup
	typing.Go(func() {
		for ctx.Err() == nil {
			fmt.Fprint(in, text) // fails once the client has ended
			select {
			case <-ctx.Done():
			case <-time.After(500 * time.Millisecond):
			}
		}
	})
	buf := make([]byte, 4096)
	for !done {
		n, err := out.Read(buf)
		seen.Write(buf[:n])
		if done = strings.Contains(seen.String(), answer); err != nil {
			break
		}
	}
	cancel()
	typing.Wait()
	_ = cmd.Wait() // killed by cancel
	if !done {
		c.Errorf("openstack appcontainer %v showed %q", args, seen.String())
	}
}
