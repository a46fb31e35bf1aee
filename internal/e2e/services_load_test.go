//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

// wrkScript makes wrk pause before each request, because other tests run on this machine too, and
// print its counters in one line.
const wrkScript = `
function delay() return 20 end
function done(s)
  local e = s.errors
  print(string.format("COUNTED %d connect=%d read=%d write=%d status=%d timeout=%d", s.requests, e.connect, e.read, e.write,
    e.status, e.timeout))
end
`

// wrk is a run of the program wrk: requests on four connections at a time, until it is ended. It
// repeats none. An answer that comes after 10 s counts as failed; one that never comes doesn't.
type wrk struct {
	testing.TB
	name string
	cmd  *exec.Cmd
	out  bytes.Buffer
}

// wrk starts the program. kept: it asks again on the same connection for as long as the server
// allows, and else once on each.
func (b *serviceBay) wrk(addr string, kept bool) *wrk {
	b.Helper()
	if _, err := exec.LookPath("wrk"); err != nil {
		b.Fatalf("%v: run `make test`, which installs it", err)
	}
	script := filepath.Join(b.TempDir(), "wrk.lua")
	if err := os.WriteFile(script, []byte(wrkScript), 0o600); err != nil {
		b.Fatal(err)
	}
	w := &wrk{TB: b.TB, name: "wrk at " + addr + ", a connection for each request"}
	args := []string{"-t", "1", "-c", "4", "-d", "10m", "--timeout", "10s", "-s", script}
	if kept {
		w.name = "wrk at " + addr + ", kept connections"
	} else {
		args = append(args, "-H", "Connection: close")
	}
	w.cmd = exec.Command("wrk", append(args, "http://"+addr+"/")...)
	w.cmd.Stdout, w.cmd.Stderr = &w.out, &w.out
	w.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := w.cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if w.cmd.ProcessState == nil {
			_ = w.cmd.Process.Kill()
			_ = w.cmd.Wait()
		}
	})
	return w
}

// end ends wrk. It is an error if a request failed, or if there were fewer than some.
func (w *wrk) end(some int) {
	w.Helper()
	if err := w.cmd.Process.Signal(syscall.SIGINT); err != nil {
		w.Fatalf("%s has ended by itself: %v\n%s", w.name, err, &w.out)
	}
	if err := w.cmd.Wait(); err != nil {
		w.Fatalf("%s: %v\n%s", w.name, err, &w.out)
	}
	_, counted, _ := strings.Cut(w.out.String(), "COUNTED ")
	counted, _, _ = strings.Cut(counted, "\n")
	number, failed, _ := strings.Cut(counted, " ")
	requests, err := strconv.Atoi(number)
	w.Logf("%s: %s", w.name, counted)
	if err != nil || requests < some || failed != "connect=0 read=0 write=0 status=0 timeout=0" {
		w.Errorf("%s: requests failed, or there were fewer than %d:\n%s", w.name, some, &w.out)
	}
}

// lastHeard finds in the output of ss how many milliseconds ago a connection has got something.
var lastHeard = regexp.MustCompile(`lastrcv:(\d+)`)

// noneHangs waits until all connections of this machine to addresses have got an answer lately, or
// are new.
func (b *serviceBay) noneHangs(addrs ...string) {
	b.Helper()
	b.eventually("all connections get answers", patience, func() error {
		for _, addr := range addrs {
			out, err := exec.Command("ss", "-HtniO", "state", "established", "state", "syn-sent", "dst", addr).CombinedOutput()
			if err != nil || len(out) == 0 {
				return fmt.Errorf("ss for %s: %v: %s", addr, err, out)
			}
			for line := range strings.Lines(string(out)) {
				m := lastHeard.FindStringSubmatch(line)
				if m == nil {
					continue // less than a millisecond ago
				}
				if ms, _ := strconv.Atoi(m[1]); ms > 5000 {
					return fmt.Errorf("a connection gets no answer: %s", line)
				}
			}
		}
		return nil
	})
}

// asker makes requests, one after the other, until it is ended, and notes those that fail. It
// repeats none.
type asker struct {
	addr  string
	kept  bool // it asks on one connection for as long as the server allows, and else once on each
	conn  net.Conn
	stop  context.CancelFunc
	ended chan struct{}

	mu     sync.Mutex // guards what follows
	asked  int
	pod    string // that answered last
	failed []failure
}

// failure is a request that failed.
type failure struct {
	sent time.Time
	err  error
}

func (f failure) String() string { return f.sent.Format(time.TimeOnly+".000") + ": " + f.err.Error() }

// startAsking starts an asker, which ends with the test at the latest.
func (b *serviceBay) startAsking(addr string, kept bool) *asker {
	ctx, stop := context.WithCancel(context.Background())
	a := &asker{addr: addr, kept: kept, stop: stop, ended: make(chan struct{})}
	b.Cleanup(func() { a.end() })
	go func() {
		defer close(a.ended)
		for ctx.Err() == nil {
			sent := time.Now()
			pod, err := a.ask()
			a.mu.Lock()
			if a.asked++; err == nil {
				a.pod = pod
			} else {
				a.failed = append(a.failed, failure{sent, err})
			}
			a.mu.Unlock()
			pause(ctx, 10*time.Millisecond)
		}
		if a.conn != nil {
			_ = a.conn.Close()
		}
	}()
	return a
}

// ask makes one request, and returns the page: the pod's name.
func (a *asker) ask() (page string, err error) {
	if a.conn == nil {
		if a.conn, err = net.DialTimeout("tcp", a.addr, 10*time.Second); err != nil {
			a.conn = nil
			return "", err
		}
	}
	last := false
	defer func() {
		if err != nil || last {
			_ = a.conn.Close()
			a.conn = nil
		}
	}()
	header := ""
	if !a.kept {
		header = "Connection: close\r\n"
	}
	_ = a.conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := fmt.Fprintf(a.conn, "GET / HTTP/1.1\r\nHost: web\r\n%s\r\n", header); err != nil {
		return "", err
	}
	resp, err := http.ReadResponse(bufio.NewReader(a.conn), nil)
	if err != nil {
		return "", err
	}
	last = resp.Close
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status)
	}
	return strings.TrimSpace(string(b)), err
}

func (a *asker) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.asked
}

// answers returns the pod that has answered last; "" before the first answer.
func (a *asker) answers() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.pod
}

// end ends the asker, and returns the number of its requests and those that failed.
func (a *asker) end() (asked int, failed []failure) {
	a.stop()
	<-a.ended
	return a.asked, a.failed
}

// serviceLoad is all kinds of requests at once.
type serviceLoad struct {
	b      *serviceBay
	addrs  []string
	wrks   []*wrk
	askers []*asker
}

// wantRequests is the least number of requests of each kind. wrk makes more than an asker.
const wantRequests = 200

// startLoad begins requests at the node ports of hosts.
func (b *serviceBay) startLoad(addrs ...string) *serviceLoad {
	b.Helper()
	l := &serviceLoad{b: b, addrs: addrs}
	for _, addr := range addrs {
		for _, kept := range []bool{false, true} {
			l.wrks = append(l.wrks, b.wrk(addr, kept))
			l.askers = append(l.askers, b.startAsking(addr, kept))
		}
	}
	return l
}

// end ends the requests. None may have failed.
func (l *serviceLoad) end() {
	l.b.Helper()
	l.b.eventually("there were some hundred requests", time.Minute, func() error {
		for _, a := range l.askers {
			if n := a.count(); n < wantRequests {
				return fmt.Errorf("%d at %s", n, a.addr)
			}
		}
		return nil
	})
	l.b.noneHangs(l.addrs...)
	for _, w := range l.wrks {
		w.end(wantRequests)
	}
	for _, a := range l.askers {
		if asked, failed := a.end(); len(failed) > 0 || asked < wantRequests {
			l.b.Errorf("%d of %d requests at %s failed (kept connections: %v): %v", len(failed), asked, a.addr, a.kept,
				failed[:min(5, len(failed))])
		}
	}
}

// replaceUnderLoad replaces the pods of the rc and service web while requests are made at each host:
// by a rolling update, and by deleting them. Then the agents are killed and start again. No request
// fails.
func (b *serviceBay) replaceUnderLoad(rc *structs.RCBody, s *structs.ServiceBody) {
	b.Helper()
	port := b.nodePort(s, 0)
	others := func(than ...string) func([]structs.PodBody) error {
		return func(now []structs.PodBody) error {
			for i := range now {
				if slices.Contains(than, now[i].Name) {
					return fmt.Errorf("%s is still there", now[i].Name)
				}
			}
			return nil
		}
	}
	l := b.startLoad(b.at(0, port), b.at(1, port))
	if _, _, err := b.client.RCs().Update(b.ctx(), rc.UUID, manifestIs(webRC("2")), api.WriteOptions{}); err != nil {
		b.Fatal(err)
	}
	for _, p := range b.awaitReplicas(rc, "has pods of the new template", others(podsOf(s)...)) {
		b.cli("pod-delete", p.Name, "-wait", "1m")
		b.awaitReplicas(rc, "has replaced a pod", others(p.Name))
	}
	for _, a := range b.hosts {
		path, err := a.dataPath()
		if err != nil {
			b.Fatal(err)
		}
		was, _ := a.registration()
		a.kill()
		a.start()
		b.awaitRegistered(a, was)
		if now, err := a.dataPath(); err != nil || now != path {
			b.Errorf("the data path of %s was process %d, and is %d: %v", a.name, path, now, err)
		}
	}
	b.eventually("the pods that were replaced have ended", time.Minute, func() error {
		list, _, err := b.client.Pods().List(b.ctx(), api.QueryOptions{Consistent: true})
		if err == nil && len(list) != 2 {
			err = fmt.Errorf("there are %d", len(list))
		}
		return err
	})
	l.end()
}

// TestLongAgentUpgradeUnderLoad: agents of another build take the place of those that run, and so do
// their data paths, while requests are made at each host. No request fails. The data paths from
// before end with their connections.
func TestLongAgentUpgradeUnderLoad(t *testing.T) {
	t.Parallel()
	b := newServiceBay(t)
	_, s := b.makeWeb()
	port := b.nodePort(s, 0)
	l := b.startLoad(b.at(0, port), b.at(1, port))
	var before []int
	for _, a := range b.hosts {
		path, err := a.dataPath()
		if err != nil {
			t.Fatal(err)
		}
		before = append(before, path)
		was, _ := a.registration()
		a.stop()
		a.bin = otherBuild(t, filepath.Join(a.dir, "magnum"))
		a.start()
		b.awaitRegistered(a, was)
		b.eventually("the data path of "+a.name+" is of the other build", time.Minute, func() error {
			if now, err := a.dataPath(); err != nil || now == path {
				return fmt.Errorf("it is process %d: %v", now, err)
			}
			return nil
		})
	}
	for host := range b.hosts {
		b.eventually("both pods answer", time.Minute, func() error { return answered(b.at(host, port), podsOf(s)...) })
	}
	l.end()
	for _, pid := range before {
		b.eventually("the data path from before has ended", time.Minute, func() error {
			if line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err == nil && len(line) > 0 {
				return fmt.Errorf("process %d is %q", pid, line)
			}
			return nil
		})
	}
}

// TestLongHostWithServicesIsLost: a host is lost with its pods. Once that is noticed, no request
// that is sent then fails, whether on a new connection or on one from before. The pods come up on
// the other host.
func TestLongHostWithServicesIsLost(t *testing.T) {
	t.Parallel()
	b := newServiceBay(t)
	rc, s := b.makeWeb()
	addr := b.at(0, b.nodePort(s, 0))
	stays, lost := b.hosts[0], b.hosts[1]
	endpoint := (*s.Endpoints)[slices.IndexFunc(*s.Endpoints, func(e structs.EndpointBody) bool { return deref(e.Host) == lost.name })]
	path, err := lost.dataPath()
	if err != nil {
		t.Fatal(err)
	}
	askers := []*asker{b.startAsking(addr, false)}
	b.eventually("a kept connection leads to the host that will be lost", time.Minute, func() error {
		a := b.startAsking(addr, true)
		askers = append(askers, a)
		b.eventually("a pod answers", time.Minute, func() error {
			if a.answers() == "" {
				return errors.New("none does")
			}
			return nil
		})
		if pod := a.answers(); pod != endpoint.Pod {
			return fmt.Errorf("it leads to %s", pod)
		}
		return nil
	})

	b.net.with(b.net.onWire(lost.name+" is cut from all", "ip saddr "+lost.on.ip+" counter drop", "ip daddr "+lost.on.ip+" counter drop"))
	lost.kill()
	if err := syscall.Kill(path, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	list, err := lost.engine.ContainerList(b.ctx(), container.ListOptions{})
	if err != nil || len(list) == 0 {
		t.Fatalf("the engine of %s has %v, %v", lost.name, list, err)
	}
	for _, c := range list {
		if err := lost.engine.ContainerKill(b.ctx(), c.ID, "KILL"); err != nil {
			t.Fatal(err)
		}
	}
	b.eventually("the loss is noticed", time.Minute, func() error {
		s, _, err := b.client.Services().Get(b.ctx(), "web", api.QueryOptions{})
		if err != nil {
			return err
		}
		for _, e := range *s.Endpoints {
			if e.Ready && deref(e.Host) == lost.name {
				return fmt.Errorf("the service leads to %s on %s", e.Pod, lost.name)
			}
		}
		return nil
	})
	noticed := time.Now()
	l := b.startLoad(addr)
	b.awaitReplicas(rc, "has its pods on the host that is left", onHosts(stays.name, stays.name))
	b.eventually("both pods answer", time.Minute, func() error { return answered(addr, podsOf(b.service("web", 2))...) })
	l.end()
	for _, a := range askers {
		asked, failed := a.end()
		all := len(failed)
		failed = slices.DeleteFunc(failed, func(f failure) bool { return f.sent.Before(noticed) })
		t.Logf("%d requests (kept connections: %v); before the loss was noticed, %d were sent that failed", asked, a.kept, all-len(failed))
		if len(failed) > 0 || asked < 50 {
			t.Errorf("%d of %d requests failed that were sent after %s, when the loss had been noticed (kept connections: %v): %v",
				len(failed), asked, noticed.Format(time.TimeOnly+".000"), a.kept, failed[:min(5, len(failed))])
		}
	}
}
