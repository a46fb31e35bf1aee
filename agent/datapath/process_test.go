package datapath

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

	"github.com/stackforge/magnum/internal/freeport"
	"github.com/stackforge/magnum/structs"
)

// envBuild makes the test binary say that it is another build.
const envBuild = "MAGNUM_TEST_BUILD"

// TestMain lets the test binary run as a data path.
func TestMain(m *testing.M) {
	dnsPort = 10053 // ports below 1024 are root's
	if id := os.Getenv(envBuild); id != "" {
		build = func() (string, error) { return id, nil }
	}
	if len(os.Args) == 4 && os.Args[1] == Subcommand {
		log := hclog.New(&hclog.LoggerOptions{Output: os.Stderr})
		if err := Run(context.Background(), os.Args[3], log); err != nil {
			log.Error("data path has failed", "error", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if len(os.Args) == 3 && os.Args[1] == "agent" {
		runAgent(os.Args[2])
	}
	if len(os.Args) > 1 && os.Args[1] == "pod" {
		runPod(os.Args[2:])
	}
	os.Exit(m.Run())
}

// runAgent opens the data path of a directory, applies the Config that it reads, says so,
// and waits to be killed.
func runAgent(dir string) {
	var conf Config
	c, err := program("one").open(context.Background(), dir, hclog.NewNullLogger())
	if err == nil {
		err = json.NewDecoder(os.Stdin).Decode(&conf)
	}
	if err == nil {
		_, err = c.Apply(context.Background(), conf)
	}
	fmt.Println("applied", err)
	select {}
}

// program opens data paths of a build of this test binary.
func program(id string) *opener {
	return &opener{program: self, args: []string{"magnum", Subcommand}, env: []string{envBuild + "=" + id}, build: id, greet: greetAllow}
}

// openDataPath opens the data path of a directory, and stops it after the test.
func openDataPath(t testing.TB, dir, id string) *Client {
	t.Helper()
	return openProgram(t, program(id), dir)
}

func openProgram(t testing.TB, o *opener, dir string) *Client {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := o.open(ctx, dir, hclog.NewNullLogger())
	if err != nil {
		b, _ := os.ReadFile(filepath.Join(dir, fileLog))
		t.Fatalf("%v\n%s", err, b)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := c.Stop(ctx); err != nil {
			t.Errorf("the data path can't be stopped: %v", err)
		}
		if t.Failed() {
			b, _ := os.ReadFile(filepath.Join(dir, fileLog))
			t.Logf("log of the data path:\n%s", b)
		}
	})
	return c
}

// status asks a data path what it serves.
func status(t testing.TB, c *Client) Status {
	t.Helper()
	s, err := c.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// apply hands a data path a configuration.
func apply(t testing.TB, c *Client, conf Config) Status {
	t.Helper()
	s, err := c.Apply(t.Context(), conf)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// dataDir returns a directory whose path is longer than that of a Unix socket may be.
func dataDir(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 30))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !holds(); <-time.After(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

// runs reports whether a process exists. A data path that this process has started is
// reaped when it ends.
func runs(pid int) bool { return !errors.Is(unix.Kill(pid, 0), unix.ESRCH) }

// echo starts a server that repeats what it gets, as a pod with a node port in front of it.
func echo(t testing.TB) (conf Config, nodePort int) {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	nodePort = freeport.Take(t)
	// Other tests have other gateways. All of 127/8 is local.
	gateway := netip.AddrFrom4([4]byte{127, byte(1 + rand.N(250)), byte(rand.N(250)), byte(1 + rand.N(250))})
	return Config{
		HostID:   "host-1",
		Projects: []Project{{ID: "project-1", Gateway: netip.PrefixFrom(gateway, 8)}},
		Services: []Service{{ID: "service-1", ProjectID: "project-1", Name: "echo", Address: "10.127.0.1",
			Spec: structs.ServiceSpec{NodePorts: true, Ports: []structs.ServicePort{
				{Name: "tcp", Port: 80, NodePort: nodePort, Protocol: "tcp"}, {Name: "udp", Port: 53, Protocol: "udp"}}},
			Endpoints: []structs.Endpoint{{PodID: "pod-1", HostID: "host-1", Address: "127.0.0.1", Ready: true,
				Ports: []int{ln.Addr().(*net.TCPAddr).Port, 9}}}}},
	}, nodePort
}

// dialPort dials a node port.
func dialPort(t testing.TB, port int) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// say checks that a connection repeats a word.
func say(t testing.TB, c net.Conn, word string) {
	t.Helper()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	if _, err := io.WriteString(c, word); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, len(word))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != word {
		t.Fatalf("the connection said %q, %v, want %q", b, err, word)
	}
}

func TestADataPathOutlivesItsAgent(t *testing.T) {
	dir := dataDir(t)
	c := openDataPath(t, dir, "one")
	conf, port := echo(t)
	before := apply(t, c, conf)
	if before.Version != "one" || before.PID == os.Getpid() || before.TCP["project-1"] == 0 || len(before.UDP) != 1 ||
		len(before.Problems) > 0 {
		t.Fatalf("status %+v", before)
	}
	conn := dialPort(t, port)
	say(t, conn, "before")
	c.Close()
	say(t, conn, "alone")
	say(t, dialPort(t, port), "new")
	again := openDataPath(t, dir, "one")
	if after := status(t, again); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("status %+v, before %+v", after, before)
	}
}

// The agent is killed while clients make one connection after the other.
func TestNoConnectionFailsWhenTheAgentIsKilled(t *testing.T) {
	dir := dataDir(t)
	conf, port := echo(t)
	text, err := json.Marshal(conf)
	if err != nil {
		t.Fatal(err)
	}
	agent := exec.Command(self, "agent", dir)
	agent.Stdin = bytes.NewReader(text)
	out, err := agent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "applied <nil>\n" {
		_ = agent.Process.Kill()
		t.Fatalf("the agent says %q, %v", line, err)
	}
	conn := dialPort(t, port)
	say(t, conn, "before")
	stop := load(port)
	_ = agent.Process.Kill()
	_ = agent.Wait()
	c := openDataPath(t, dir, "one") // the next agent
	apply(t, c, conf)
	made, failed := stop()
	if made == 0 || len(failed) > 0 {
		t.Errorf("of %d connections %d failed: %v", made, len(failed), failed[:min(len(failed), 3)])
	}
	say(t, conn, "after")
}

// A data path that was killed is noticed at once. The next one has the same ports.
func TestAKilledDataPathIsReplaced(t *testing.T) {
	dir := dataDir(t)
	c := openDataPath(t, dir, "one")
	conf, port := echo(t)
	before := apply(t, c, conf)
	if err := unix.Kill(before.PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	select {
	case <-c.Done():
	case <-time.After(time.Minute):
		t.Fatal("nobody said that the data path was killed")
	}
	if _, err := c.Status(t.Context()); !errors.Is(err, errGone) {
		t.Errorf("a call of a dead data path: %v", err)
	}
	c = openDataPath(t, dir, "one")
	after := apply(t, c, conf)
	if fmt.Sprint(after.TCP, after.UDP) != fmt.Sprint(before.TCP, before.UDP) {
		t.Errorf("ports %v %v, before %v %v", after.TCP, after.UDP, before.TCP, before.UDP)
	}
	say(t, dialPort(t, port), "again")
}

// Connect takes the data path that runs, of whatever build it is, and starts none.
func TestConnect(t *testing.T) {
	dir := dataDir(t)
	if c, err := Connect(t.Context(), dir); err == nil {
		t.Fatalf("there is none: %+v", c)
	}
	if _, err := os.Stat(filepath.Join(dir, fileSocket)); err == nil {
		t.Error("Connect has started one")
	}
	first := openDataPath(t, dir, "earlier build")
	c, err := Connect(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer c.conn.Close()
	want, err := first.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if s, err := c.Status(t.Context()); err != nil || s.PID != want.PID || s.Version != "earlier build" {
		t.Errorf("status %+v, %v; want process %d", s, err, want.PID)
	}
}

func TestStopEndsTheProcess(t *testing.T) {
	dir := dataDir(t)
	c := openDataPath(t, dir, "one")
	pid := status(t, c).PID
	if err := c.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the process ends", func() bool { return !runs(pid) })
	if _, err := os.Stat(filepath.Join(dir, fileSocket)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the control socket is left: %v", err)
	}
}

func TestADataPathEndsWithItsDirectory(t *testing.T) {
	for what, remove := range map[string]func(dir string) error{
		"directory": os.RemoveAll,
		"socket":    func(dir string) error { return os.Remove(filepath.Join(dir, fileSocket)) },
	} {
		dir := dataDir(t)
		c := openDataPath(t, dir, "one")
		pid := status(t, c).PID
		if err := remove(dir); err != nil {
			t.Fatal(err)
		}
		<-c.Done()
		eventually(t, "the process ends with its "+what, func() bool { return !runs(pid) })
	}
}

func TestTheProcessIsSetUp(t *testing.T) {
	t.Setenv("MAGNUM_JOIN_TOKEN", "secret")
	dir := dataDir(t)
	t.Chdir(filepath.Dir(dir))
	c := openDataPath(t, filepath.Base(dir), "one") // a relative path
	pid := status(t, c).PID
	if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid)); err != nil || strings.Contains(string(b), "secret") {
		t.Errorf("the environment is %q, %v", b, err)
	}
	if sid, err := unix.Getsid(pid); err != nil || sid != pid {
		t.Errorf("session %d, %v, want one of its own", sid, err)
	}
	at, err := os.Stat(filepath.Join(dir, fileSocket))
	if err != nil || at.Mode().Perm() != 0o600 {
		t.Errorf("control socket: %v, %v", at.Mode(), err)
	}
	var limit unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &limit); err != nil || limit.Cur != limit.Max {
		t.Errorf("limit of open files %+v, %v", limit, err)
	}
}
