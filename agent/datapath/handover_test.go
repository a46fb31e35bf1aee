package datapath

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/stackforge/magnum/structs"
)

// load opens connections to a node port and says a word on each, until stop is called. stop
// returns how many there were, and what failed.
func load(port int) (stop func() (int, []error)) {
	var mu sync.Mutex
	var failed []error
	var made, end atomic.Int64
	var wg sync.WaitGroup
	once := func() error {
		c, err := net.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			return err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(time.Minute))
		if _, err := io.WriteString(c, "word"); err != nil {
			return err
		}
		b := make([]byte, 4)
		if _, err := io.ReadFull(c, b); err != nil {
			return err
		}
		return nil
	}
	for range 4 {
		wg.Go(func() {
			for end.Load() == 0 {
				if err := once(); err != nil {
					mu.Lock()
					failed = append(failed, err)
					mu.Unlock()
				}
				made.Add(1)
			}
		})
	}
	return func() (int, []error) {
		end.Store(1)
		wg.Wait()
		return int(made.Load()), failed
	}
}

// resolve asks a data path for the address of the service.
func resolve(t testing.TB, conf Config) string {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion("echo.", dns.TypeA)
	at := net.JoinHostPort(conf.Projects[0].Gateway.Addr().String(), fmt.Sprint(dnsPort))
	for range 5 { // a datagram may be lost
		a, err := dns.Exchange(m, at)
		if err == nil && len(a.Answer) == 1 {
			return a.Answer[0].(*dns.A).A.String()
		}
	}
	return ""
}

// Another build takes over under load: no connection fails, sockets stay, and the earlier
// process ends when its last connection has.
func TestAnotherBuildTakesOver(t *testing.T) {
	dir := dataDir(t)
	one := openDataPath(t, dir, "one")
	conf, port := echo(t)
	before := apply(t, one, conf)
	conn := dialPort(t, port)
	say(t, conn, "before")
	if got := resolve(t, conf); got != "10.127.0.1" {
		t.Errorf("the name leads to %q", got)
	}
	stop := load(port)
	two := openDataPath(t, dir, "two")
	after := status(t, two)
	made, failed := stop()
	if made == 0 || len(failed) > 0 {
		t.Errorf("of %d connections %d failed: %v", made, len(failed), failed[:min(len(failed), 3)])
	}
	select {
	case <-one.Done():
	case <-time.After(time.Minute):
		t.Error("the client of the earlier data path wasn't told")
	}
	if after.Version != "two" || after.PID == before.PID || fmt.Sprint(after.TCP, after.UDP) != fmt.Sprint(before.TCP, before.UDP) ||
		len(after.Problems) > 0 {
		t.Errorf("status %+v, before %+v", after, before)
	}
	if got := resolve(t, conf); got != "10.127.0.1" {
		t.Errorf("after the handover the name leads to %q", got)
	}
	say(t, conn, "still")
	if !runs(before.PID) {
		t.Error("the earlier process has ended before its connection")
	}
	conf.Services[0].Spec.Ports = conf.Services[0].Spec.Ports[:1]
	if s := apply(t, two, conf); len(s.UDP) > 0 || len(s.Problems) > 0 {
		t.Errorf("status %+v of a service without a UDP port", s)
	}
	_ = conn.Close()
	eventually(t, "the earlier process ends", func() bool { return !runs(before.PID) })
	say(t, dialPort(t, port), "new")
	if _, err := os.Stat(filepath.Join(dir, fileSocket)); err != nil {
		t.Errorf("the earlier process removed the control socket: %v", err)
	}
}

// Another build takes over while clients of a UDP port send: each stays with its pod, although
// the service has no affinity.
func TestUDPClientsKeepTheirPodsInAHandover(t *testing.T) {
	dir := dataDir(t)
	one := openDataPath(t, dir, "one")
	conf, _ := echo(t)
	s := &conf.Services[0]
	s.Spec = structs.ServiceSpec{Ports: []structs.ServicePort{{Port: 53, Protocol: "udp"}}}
	s.Endpoints = nil
	for i := range 5 {
		pod, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = pod.Close() })
		go func() {
			b := make([]byte, 100)
			for {
				_, from, err := pod.ReadFrom(b)
				if err != nil {
					return
				}
				_, _ = pod.WriteTo([]byte{byte(i)}, from)
			}
		}()
		s.Endpoints = append(s.Endpoints, structs.Endpoint{PodID: fmt.Sprint("pod-", i), HostID: "host-1", Address: "127.0.0.1",
			Ready: true, Ports: []int{pod.LocalAddr().(*net.UDPAddr).Port}})
	}
	at := apply(t, one, conf)
	if len(at.UDP) != 1 || len(at.Problems) > 0 {
		t.Fatalf("status %+v", at)
	}
	ask := func(c net.Conn) byte {
		b := make([]byte, 10)
		for range 300 { // a datagram may be lost
			_, _ = c.Write([]byte("?"))
			_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
			if n, err := c.Read(b); err == nil && n == 1 {
				return b[0]
			}
		}
		t.Error("no answer")
		return 255
	}
	var clients []net.Conn
	var was []byte
	for range 20 {
		c, err := net.Dial("udp4", net.JoinHostPort(conf.Projects[0].Gateway.Addr().String(), fmt.Sprint(at.UDP[0].Local)))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		clients, was = append(clients, c), append(was, ask(c))
	}
	var end atomic.Bool
	var wg sync.WaitGroup
	for i, c := range clients {
		wg.Go(func() {
			for first := true; first || !end.Load(); first = false {
				if got := ask(c); got != was[i] {
					t.Errorf("a client of pod %d was led to pod %d", was[i], got)
					return
				}
			}
		})
	}
	two := openDataPath(t, dir, "two")
	end.Store(true)
	wg.Wait()
	for i, c := range clients {
		if got := ask(c); got != was[i] {
			t.Errorf("after the handover a client of pod %d was led to pod %d", was[i], got)
		}
	}
	if now := status(t, two); now.PID == at.PID || fmt.Sprint(now.UDP) != fmt.Sprint(at.UDP) {
		t.Errorf("status %+v, before %+v", now, at)
	}
}

// If the other process fails before it serves, the data path goes on as if nothing was.
func TestAFailedHandoverChangesNothing(t *testing.T) {
	dir := dataDir(t)
	c := openDataPath(t, dir, "one")
	conf, port := echo(t)
	before := apply(t, c, conf)
	for range 2 {
		in, err := inherit(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		_ = in.conn.Close()
		_ = in.lock.Close()
		_ = in.control.Close()
		closeAll(in.sockets)
	}
	if after := apply(t, c, conf); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("status %+v, before %+v", after, before)
	}
	say(t, dialPort(t, port), "word")
}

func TestManySocketsAreHandedOver(t *testing.T) {
	dir := dataDir(t)
	c := openDataPath(t, dir, "one")
	conf, _ := echo(t)
	for i := range 3 * filesPerMessage / 2 {
		s := conf.Services[0]
		s.ID, s.Name, s.Address = fmt.Sprintf("many-%d", i), fmt.Sprintf("many-%d", i), fmt.Sprintf("10.127.%d.%d", 1+i/250, 1+i%250)
		s.Spec = structs.ServiceSpec{Ports: []structs.ServicePort{{Port: 53, Protocol: "udp"}}}
		conf.Services = append(conf.Services, s)
	}
	before := apply(t, c, conf)
	open := func(pid int) int {
		all, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		if err != nil {
			t.Fatal(err)
		}
		return len(all)
	}
	had := open(before.PID)
	after := status(t, openDataPath(t, dir, "two"))
	eventually(t, "the new process has as many descriptors as the old one had", func() bool { return open(after.PID) <= had })
	if len(before.UDP) != 1+3*filesPerMessage/2 || fmt.Sprint(after.TCP, after.UDP) != fmt.Sprint(before.TCP, before.UDP) {
		t.Errorf("%d sockets after, %d before, or others", len(after.UDP), len(before.UDP))
	}
}

// Who has the lock and can't be asked keeps others from serving.
func TestTheLockKeepsASecondDataPathOut(t *testing.T) {
	dir := dataDir(t)
	lock, err := os.Create(filepath.Join(dir, fileLock))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	err = serve(ctx, dir, hclog.NewNullLogger(), 1024, func() { t.Error("it serves") })
	if err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("a second data path says %v", err)
	}
}

func TestAHungDataPathIsReplaced(t *testing.T) {
	dir := dataDir(t)
	c := openDataPath(t, dir, "one")
	pid := status(t, c).PID
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer unix.Kill(pid, unix.SIGCONT) // so that it can be stopped if the test fails
	eventually(t, "all threads of the process have stopped", func() bool {
		threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		for _, thread := range threads {
			if b, err := os.ReadFile(thread); err == nil && !strings.Contains(string(b), ") T ") {
				return false
			}
		}
		return len(threads) > 0
	})
	o := program("one")
	o.greet = 200 * time.Millisecond
	again, err := o.open(t.Context(), dir, hclog.NewNullLogger())
	if err != nil {
		_ = unix.Kill(pid, unix.SIGKILL)
		t.Fatal(err)
	}
	if s := status(t, again); s.PID == pid {
		t.Error("the hung process still serves")
	}
	if err := again.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	<-c.Done()
	eventually(t, "the hung process is gone", func() bool { return !runs(pid) })
}

func TestAProgramThatFailsSaysWhy(t *testing.T) {
	dir := dataDir(t)
	if err := os.Mkdir(filepath.Join(dir, fileLock), 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := program("one").open(t.Context(), dir, hclog.NewNullLogger())
	if err == nil || !strings.Contains(err.Error(), fileLock) {
		t.Errorf("opening says %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := program("one").open(ctx, dir, hclog.NewNullLogger()); !errors.Is(err, context.Canceled) {
		t.Errorf("opening with a context that has ended says %v", err)
	}
}

func TestTheLogIsBounded(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, fileLog)
	if err := os.WriteFile(path, append(make([]byte, maxLog), "last line\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	trimLog(dir)
	b, err := os.ReadFile(path)
	if err != nil || len(b) != maxLog/2 || !strings.HasSuffix(string(b), "last line\n") {
		t.Errorf("%d bytes are left, %v", len(b), err)
	}
}
