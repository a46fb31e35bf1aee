//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

// redisImage is made by scripts/redis-image.
const redisImage = "magnum-test/redis:latest"

// serviceBay is a server and two hosts with an engine each, in network namespaces. Their bay
// is shared by the projects p, whose client and CLI the bay uses, and q.
type serviceBay struct {
	*cluster
	net   *network
	hosts []*hostAgent
	token map[string]string // by project, and of the operator, "admin"
}

func newServiceBay(t testing.TB, serverArgs ...string) *serviceBay {
	t.Helper()
	n := newNet(t)
	n.engines = true
	engines := newOwnEngines(t, n.host("host-1"), n.host("host-2"))
	b := &serviceBay{cluster: &cluster{TB: t, dir: t.TempDir()}, net: n, token: make(map[string]string)}
	on := n.host("s1")
	b.addr = on.ip + ":9511"
	b.server = b.process("s1", append([]string{"server", "-name", "s1", "-data-dir", filepath.Join(b.dir, "s1"), "-bind", on.ip,
		"-insecure", "-auth", "token", "-join-token", testJoinToken, "-log-level", "debug"}, serverArgs...)...)
	b.server.on = on
	b.server.start()
	t.Cleanup(func() { b.end(b.server) })
	var admin string
	b.eventually("there is a first token", time.Minute, func() error {
		r := b.as("", "operator", "bootstrap", "-q")
		if admin = strings.TrimSpace(r.stdout); r.code != 0 {
			return errors.New(r.stderr)
		}
		return nil
	})
	for i, e := range engines {
		a := &hostAgent{dir: filepath.Join(b.dir, e.on.name), own: e, engine: engineAt(t, e.host)}
		a.process = b.process(e.on.name, "agent", "-server", b.addr, "-data-dir", a.dir, "-name", e.on.name, "-join-token", testJoinToken,
			"-gossip=false", "-log-level", "debug", "-image-gc-high", "0", "-docker-host", e.host, "-label", "on="+e.on.name)
		a.on = n.hosts[i]
		a.start()
		t.Cleanup(func() { b.end(a.process) })
		b.hosts = append(b.hosts, a)
	}
	for _, project := range []string{"p", "q"} {
		b.token[project] = strings.TrimSpace(b.as(admin, "token-create", "-name", project, "-project", project, "-q").must(t))
	}
	b.token["admin"] = admin
	b.as(admin, "bay-create", "-name", "b", "-node-count", "2", "-shared", "-wait", "1m").must(t)
	var err error
	if b.client, err = api.New(api.Config{Address: b.addr, Token: b.token["p"]}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.showPods) // while the server runs
	return b
}

// showPods shows the pods of project p, with what has happened to them, if the test has failed.
func (b *serviceBay) showPods() {
	if !b.Failed() {
		return
	}
	list := b.as(b.token["p"], "pod-list", "-format", "{{.uuid}}")
	for _, pod := range strings.Fields(list.stdout) {
		b.Logf("%s%s", b.as(b.token["p"], "pod-show", pod).stdout, list.stderr)
	}
}

// end ends a process, and shows the end of its log if the test has failed.
func (b *serviceBay) end(p *process) {
	p.end()
	if b.Failed() {
		b.Logf("end of the log of %s:\n%s", p.name, tail(p.log, 40))
	}
}

// as runs the CLI with a token.
func (b *serviceBay) as(token string, args ...string) result {
	b.Helper()
	return magnum(b.TB, []string{"MAGNUM_ADDR=" + b.addr, "OS_TOKEN=" + token}, "", args...)
}

// cli runs the CLI for project p.
func (b *serviceBay) cli(args ...string) string {
	b.Helper()
	return b.as(b.token["p"], args...).must(b)
}

// make creates an object of project p from a manifest.
func (b *serviceBay) make(kind, manifest string) {
	b.Helper()
	file := filepath.Join(b.TempDir(), kind+".yaml")
	if err := os.WriteFile(file, []byte(manifest), 0o600); err != nil {
		b.Fatal(err)
	}
	b.cli(kind+"-create", "-manifest", file, "-bay", "b")
}

// service returns a service once that many pods of it are ready.
func (b *serviceBay) service(name string, ready int) *structs.ServiceBody {
	b.Helper()
	var s *structs.ServiceBody
	b.eventually(fmt.Sprintf("service %s has %d ready pods", name, ready), time.Minute, func() (err error) {
		s, _, err = b.client.Services().Get(b.ctx(), name, api.QueryOptions{})
		if err == nil && s.Ready != ready {
			err = fmt.Errorf("it has %d of %d: %s", s.Ready, s.Total, deref(s.StatusReason))
		}
		return err
	})
	return s
}

// nodePort returns the node port of a service's port.
func (b *serviceBay) nodePort(s *structs.ServiceBody, i int) string {
	b.Helper()
	if s.Ports[i].NodePort == nil {
		b.Fatalf("port %d of %s has no node port", i, s.Name)
	}
	return fmt.Sprint(*s.Ports[i].NodePort)
}

// at returns an address of a host.
func (b *serviceBay) at(host int, port string) string {
	return net.JoinHostPort(b.hosts[host].on.ip, port)
}

// get asks for the page of a pod over a connection of its own: the pod's name.
func get(addr string) (string, error) {
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + addr + "/")
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status)
	}
	return strings.TrimSpace(string(page)), err
}

// answered fails unless ten requests are answered by all of these, and by nobody else.
func answered(addr string, want ...string) error {
	who := make(map[string]bool)
	for range 10 {
		name, err := get(addr)
		if err != nil {
			return err
		}
		who[name] = true
	}
	if got := slices.Sorted(maps.Keys(who)); !slices.Equal(got, want) {
		return fmt.Errorf("%v answer, want %v", got, want)
	}
	return nil
}

// exec executes a script in a container of a project.
func (b *serviceBay) exec(project, name, script string) (string, error) {
	r := b.as(b.token[project], "container-execute", name, "sh", "-c", script)
	if r.code != 0 {
		return r.stdout, fmt.Errorf("exit code %d: %s%s", r.code, r.stdout, r.stderr)
	}
	return r.stdout, nil
}

// firstAndLast returns the ends of a list that has more than two entries.
func firstAndLast(errs []error) []error {
	if len(errs) > 2 {
		return []error{errs[0], errs[len(errs)-1]}
	}
	return errs
}

// webRC has two pods, which answer requests and datagrams with their names. A pod is ready
// while it has the file /ready. No preStop hook delays its end: a pod that ends gets no new
// connections, whatever it does.
func webRC(version string) string {
	return `
apiVersion: v1
kind: ReplicationController
metadata: {name: web}
spec:
  replicas: 2
  selector: {app: web}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 20
      containers:
      - name: web
        image: ` + webImage + `
        imagePullPolicy: IfNotPresent
        command: ["sh", "-c", "touch /ready; exec /web"]
        env: [{name: VERSION, value: "` + version + `"}]
        readinessProbe:
          exec: {command: ["test", "-e", "/ready"]}
          periodSeconds: 1
          timeoutSeconds: 20 # a busy machine makes no pod unready
          failureThreshold: 1
      - name: echo
        image: ` + echoImage + `
        imagePullPolicy: IfNotPresent
        command: ["/echo"]
`
}

// echoImage and webImage have the programs of testdata, beside busybox.
const (
	echoImage = "magnum-test/echo:1"
	webImage  = "magnum-test/web:1"
)

// makeWeb creates the service and the replication controller web, and returns them once both pods
// answer at each host.
func (b *serviceBay) makeWeb() (*structs.RCBody, *structs.ServiceBody) {
	b.Helper()
	b.loadPrograms(map[string]string{echoImage: "echo", webImage: "web"})
	b.make("service", webService)
	b.make("rc", webRC("1"))
	rc, _, err := b.client.RCs().Get(b.ctx(), "web", api.QueryOptions{})
	if err != nil {
		b.Fatal(err)
	}
	s := b.service("web", 2)
	for host := range b.hosts {
		b.eventually(fmt.Sprintf("both pods answer at node port of host %d", host+1), time.Minute, func() error {
			return answered(b.at(host, b.nodePort(s, 0)), podsOf(s)...) // one of them by the relay
		})
	}
	return rc, s
}

// loadPrograms makes images of programs of testdata, by the images' names, on the engines of
// all hosts.
func (b *serviceBay) loadPrograms(programs map[string]string) {
	b.Helper()
	dir := b.TempDir()
	var all sync.WaitGroup
	for of, name := range programs {
		all.Go(func() {
			build := exec.Command("go", "build", "-o", filepath.Join(dir, name), "./testdata/"+name)
			build.Env = append(os.Environ(), "CGO_ENABLED=0")
			if out, err := build.CombinedOutput(); err != nil {
				b.Errorf("go build: %v\n%s", err, out)
				return
			}
			for _, a := range b.hosts {
				all.Go(func() {
					load := exec.Command("sh", "-ec", "id=$(docker create "+image+"); docker cp "+name+" $id:/; docker commit $id "+of+
						"; docker rm $id")
					load.Dir, load.Env = dir, append(os.Environ(), "DOCKER_HOST="+a.own.host)
					if out, err := load.CombinedOutput(); err != nil {
						b.Errorf("an image with %s: %v\n%s", name, err, out)
					}
				})
			}
		})
	}
	if all.Wait(); b.Failed() {
		b.FailNow()
	}
}

const webService = `
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  ports:
  - {name: http, port: 80, targetPort: 8080}
  - {name: ping, port: 5353, protocol: UDP}
`

// reachesFromContainers runs a container client-1 or -2 on each host, of the project and of
// another one. Those of the project reach the service by its variables and find its names; the
// others reach nothing of it. What can't be reached doesn't answer, so all ask at once.
func (b *serviceBay) reachesFromContainers(s *structs.ServiceBody, nodePort string) {
	b.Helper()
	const page = `printf 'GET / HTTP/1.0\r\n\r\n' | nc -w 3 `
	const gateway = `$(ip route | sed -n 's/default via \([^ ]*\).*/\1/p')`
	var all sync.WaitGroup
	for i := range b.hosts {
		name := fmt.Sprint("client-", i+1)
		run := func(project string) bool {
			r := b.as(b.token[project], "container-run", "-d", "-name", name, "-constraint", fmt.Sprint("on=host-", i+1), image, "sh",
				"-c", sleepScript)
			if r.code != 0 {
				b.Errorf("%s of %s: exit code %d: %s", name, project, r.code, r.stderr)
			}
			return r.code == 0
		}
		all.Go(func() {
			if !run("p") {
				return
			}
			all.Go(func() {
				out, err := b.exec("p", name, page+"$WEB_SERVICE_HOST $WEB_SERVICE_PORT")
				if err != nil || !strings.Contains(out, "200 OK") {
					b.Errorf("%s, by the variables: %q, %v", name, out, err)
				}
			})
			for _, of := range []string{"web", "web.p.svc.cluster.local"} {
				all.Go(func() {
					if out, err := b.exec("p", name, "nslookup "+of); err != nil || !strings.Contains(out, *s.Address) {
						b.Errorf("%s finds %s: %q, %v", name, of, out, err)
					}
				})
			}
		})
		all.Go(func() {
			if !run("q") {
				return
			}
			all.Go(func() {
				if out, err := b.exec("q", name, "ping -c 1 -W 5 "+gateway); err != nil {
					b.Errorf("%s of another project doesn't reach its gateway: %s, %v", name, out, err)
				}
			})
			for _, script := range []string{
				page + *s.Address + " 80", page + b.hosts[i].on.ip + " " + nodePort, page + gateway + " " + nodePort,
				"nslookup web | grep " + *s.Address, "nslookup web.p.svc.cluster.local | grep " + *s.Address,
			} {
				all.Go(func() {
					if out, err := b.exec("q", name, script); err == nil && out != "" {
						b.Errorf("%s of another project: %s gives %q", name, script, out)
					}
				})
			}
		})
	}
	all.Wait()
	if b.Failed() {
		b.FailNow()
	}
}

// TestServices: a service with a pod on each of two hosts, from its first connection to its
// deletion. In between, its pods are replaced under load.
func TestServices(t *testing.T) {
	t.Parallel()
	b := newServiceBay(t)
	rc, s := b.makeWeb()
	pods, byHost := podsOf(s), make(map[string]string)
	for _, e := range *s.Endpoints {
		byHost[deref(e.Host)] = e.Pod
	}
	if len(byHost) != 2 {
		t.Fatalf("the pods are on %v", byHost)
	}
	port, ping := b.nodePort(s, 0), b.nodePort(s, 1)
	for host := range b.hosts {
		echoed := make(map[string]bool)
		b.eventually("both pods answer datagrams", time.Minute, func() error {
			c, err := net.DialTimeout("udp", b.at(host, ping), time.Second)
			if err != nil {
				return err
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(time.Second))
			fmt.Fprint(c, "ping")
			line, err := bufio.NewReader(c).ReadString('\n')
			echoed[strings.TrimSpace(line)] = true
			if who := slices.Sorted(maps.Keys(echoed)); err == nil && !slices.Equal(who, pods) {
				err = fmt.Errorf("%v answer", who)
			}
			return err
		})
	}

	b.reachesFromContainers(s, port)

	// A pod that isn't ready gets nothing.
	away, stays := byHost["host-1"], byHost["host-2"]
	b.as(b.token["p"], "pod-execute", away, "rm", "/ready").must(t)
	b.service("web", 1)
	for host := range b.hosts {
		b.eventually("only the ready pod answers", time.Minute, func() error {
			return answered(b.at(host, port), stays)
		})
	}
	b.as(b.token["p"], "pod-execute", away, "touch", "/ready").must(t)
	b.eventually("both answer again", time.Minute, func() error { return answered(b.at(0, port), pods...) })

	b.replaceUnderLoad(rc, s)

	b.cli("service-delete", "web")
	b.eventually("the node port is closed", time.Minute, func() error {
		if name, err := get(b.at(0, port)); err == nil {
			return fmt.Errorf("%s answers", name)
		}
		return nil
	})
	if out, err := b.exec("p", "client-1", "nslookup web"); err == nil {
		t.Errorf("it is still found: %s", out)
	}
}

// redisExample is a Redis master with a service, and two replicas that find it by the
// service's name.
var redisExample = map[string]string{
	"pod": `
apiVersion: v1
kind: Pod
metadata: {name: redis-master, labels: {app: redis, role: master}}
spec:
  containers:
  - name: redis
    image: ` + redisImage + `
    imagePullPolicy: IfNotPresent
    command: ["redis-server", "--protected-mode", "no", "--repl-diskless-sync-delay", "0"]
    ports: [{name: redis, containerPort: 6379}]
    readinessProbe: {tcpSocket: {port: redis}, periodSeconds: 1, timeoutSeconds: 20}
`, "service": `
apiVersion: v1
kind: Service
metadata: {name: redis-master}
spec:
  type: NodePort
  selector: {app: redis, role: master}
  ports: [{port: 6379, targetPort: redis}]
`, "rc": `
apiVersion: v1
kind: ReplicationController
metadata: {name: redis-replica}
spec:
  replicas: 2
  selector: {app: redis, role: replica}
  template:
    metadata: {labels: {app: redis, role: replica}}
    spec:
      containers:
      - name: redis
        image: ` + redisImage + `
        imagePullPolicy: IfNotPresent
        command: ["redis-server", "--protected-mode", "no", "--replicaof", "redis-master", "6379"]
        readinessProbe:
          exec: {command: ["sh", "-c", "redis-cli info replication | grep -q master_link_status:up"]}
          periodSeconds: 1
          timeoutSeconds: 20
`, "replicas": `
apiVersion: v1
kind: Service
metadata: {name: redis-replica}
spec:
  type: NodePort
  selector: {app: redis, role: replica}
  ports: [{port: 6379}]
`}

// TestRedisExample: what is written through the node port of one host is read from a replica
// through that of the other. No write that the master has acknowledged is lost when a replica is
// killed, and when the host without the master is cut off for good.
func TestRedisExample(t *testing.T) {
	t.Parallel()
	b := newServiceBay(t, "-host-lost-after", "5s")
	if out, err := exec.Command(filepath.Join("..", "..", "scripts", "redis-image"), redisImage).CombinedOutput(); err != nil {
		t.Fatalf("redis-image: %v\n%s", err, out)
	}
	for _, a := range b.hosts {
		load := exec.Command("sh", "-c", "docker save "+redisImage+" | docker -H "+a.own.host+" load")
		if out, err := load.CombinedOutput(); err != nil {
			t.Fatalf("docker load: %v\n%s", err, out)
		}
	}
	b.make("service", redisExample["service"])
	b.make("pod", redisExample["pod"])
	b.make("service", redisExample["replicas"])
	b.make("rc", redisExample["rc"])
	master, replicas := b.service("redis-master", 1), b.service("redis-replica", 2)
	set := func(host int, key, value string) error {
		return says(b.at(host, b.nodePort(master, 0)), "SET "+key+" "+value, "+OK")
	}
	read := func(host int, key, value string) {
		t.Helper()
		b.eventually(key+" is read from a replica", patience, func() error {
			return says(b.at(host, b.nodePort(replicas, 0)), "GET "+key, value)
		})
	}
	if err := set(0, "here", "1"); err != nil {
		t.Fatal(err)
	}
	for range 4 { // of both replicas
		read(1, "here", "1")
	}

	// A replica is killed, and replaced.
	lives := slices.IndexFunc(b.hosts, func(a *hostAgent) bool { return a.name == deref((*master.Endpoints)[0].Host) })
	w := keepWriting(b.at(lives, b.nodePort(master, 0)))
	end := (*replicas.Endpoints)[0].Pod
	b.cli("pod-delete", end, "-force", "-wait", "1m")
	if err := set(1, "there", "2"); err != nil {
		t.Fatal(err)
	}
	b.eventually("it is replaced", time.Minute, func() error {
		now := b.service("redis-replica", 2)
		if slices.ContainsFunc(*now.Endpoints, func(e structs.EndpointBody) bool { return e.Pod == end }) {
			return fmt.Errorf("%s is still there", end)
		}
		return nil
	})
	for range 4 {
		read(0, "there", "2")
	}

	// The host without the master is lost, with a replica.
	lost := b.hosts[1-lives]
	on := func(s *structs.ServiceBody, host string) (pods []string) {
		for _, e := range *s.Endpoints {
			if deref(e.Host) == host {
				pods = append(pods, e.Pod)
			}
		}
		return pods
	}
	if len(on(b.service("redis-replica", 2), lost.name)) == 0 {
		t.Fatalf("there is no replica on %s", lost.name)
	}
	cut, before := time.Now(), w.count.Load()
	heal := b.net.with(b.net.isolate(lost.on))
	var pods []string
	b.eventually("both replicas are on the other host", time.Minute, func() error {
		if pods = on(b.service("redis-replica", 2), b.hosts[lives].name); len(pods) != 2 {
			return fmt.Errorf("there are only %v", pods)
		}
		return nil
	})
	acked, failed := w.end()
	if before == 0 || int64(len(acked)) == before {
		t.Errorf("%d writes were acknowledged, %d of them before the host was cut off; failed: %v", len(acked), before,
			firstAndLast(failed))
	}
	for _, pod := range append([]string{"redis-master"}, pods...) {
		within := 30 * time.Second
		if pod == "redis-master" {
			within = 0
		}
		b.eventually(pod+" has all writes that were acknowledged", within, func() error {
			r := b.as(b.token["p"], "pod-execute", pod, "redis-cli", "LRANGE", writes, "0", "-1")
			if r.code != 0 {
				return errors.New(r.stderr)
			}
			has := make(map[string]bool)
			for n := range strings.FieldsSeq(r.stdout) {
				has[n] = true
			}
			lacks := slices.DeleteFunc(slices.Clone(acked), func(n int) bool { return has[fmt.Sprint(n)] })
			if len(lacks) > 0 {
				return fmt.Errorf("it lacks %d of %d, such as number %d", len(lacks), len(acked), lacks[0])
			}
			return nil
		})
	}
	t.Logf("%d writes were acknowledged and %d failed; all are on the replicas %v after the cut", len(acked), len(failed),
		time.Since(cut).Round(100*time.Millisecond))
	heal()
}

// writes is the list to which keepWriting appends.
const writes = "writes"

// writer writes to a Redis server all the time.
type writer struct {
	count atomic.Int64 // writes that were acknowledged
	// end ends the writing. It returns the numbers that were acknowledged, and what has failed.
	end func() (acked []int, failed []error)
}

// keepWriting appends numbers to a list, one after the other, each over a connection of its own.
func keepWriting(addr string) *writer {
	w := new(writer)
	ctx, cancel := context.WithCancel(context.Background())
	var writing sync.WaitGroup
	var acked []int
	var failed []error
	writing.Go(func() {
		for n := 0; ctx.Err() == nil; n++ {
			switch line, err := ask(addr, fmt.Sprint("RPUSH ", writes, " ", n)); {
			case err != nil:
				failed = append(failed, err)
			case !strings.HasPrefix(line, ":"): // the length of the list
				failed = append(failed, errors.New(line))
			default:
				acked = append(acked, n)
				w.count.Add(1)
			}
		}
	})
	w.end = func() ([]int, []error) {
		cancel()
		writing.Wait()
		return acked, failed
	}
	return w
}

// says fails unless a Redis server answers a command with a line.
func says(addr, command, want string) error {
	line, err := ask(addr, command)
	if err == nil && line != want {
		err = fmt.Errorf("%s answers %q to %s", addr, line, command)
	}
	return err
}

// ask returns the line with which a Redis server answers a command.
func ask(addr, command string) (string, error) {
	c, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return "", err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintf(c, "%s\r\n", command); err != nil {
		return "", err
	}
	r := bufio.NewReader(c)
	line, err := r.ReadString('\n')
	if strings.HasPrefix(line, "$") && line != "$-1\r\n" && err == nil {
		line, err = r.ReadString('\n')
	}
	return strings.TrimSpace(line), err
}
