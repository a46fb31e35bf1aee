//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/pkg/stdcopy"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

// chaosService is a service that exists from the beginning to the end.
type chaosService struct {
	name, selector, more string // selector and more are parts of the manifest's spec
	label, value         string // of the pods that it leads to
}

// chaosServices lead to the pods of one rc, which no client changes, and to all pods. Services
// need hosts with network namespaces and engines of their own: two hosts on one engine have the
// same project networks.
var chaosServices = []chaosService{
	{"plain", `{"app":"standing-rc"}`, ``, "app", "standing-rc"},
	{"sticky", `{"app":"standing-rc"}`, `,"sessionAffinity":"ClientIP"`, "app", "standing-rc"},
	{"headless", `{"app":"standing-rc"}`, `,"clusterIP":"None"`, "app", "standing-rc"},
	{"all", `{"of":"chaos"}`, ``, "of", "chaos"},
}

func (s chaosService) manifest() string {
	return fmt.Sprintf(`{"apiVersion":"v1","kind":"Service","metadata":{"name":"%s"},"spec":{"selector":%s%s,`+
		`"ports":[{"port":80,"targetPort":8080}]}}`, s.name, s.selector, s.more)
}

// How long a pod may answer after it has left the API: longer than any fault lasts, after which
// hosts and pods agree again.
const podAnswersAfterDelete = time.Minute

// runningServices are the services of runningContainers. gone has a lock of its own.
type runningServices struct {
	wanted  map[string]string // names by UUID, of those that clients make; guarded by runningContainers.mu
	clients map[string]bool   // containers that nothing stops, and that ask; constant once they run

	mu    sync.Mutex
	asked int                  // requests that were answered while faults ran
	gone  map[string]time.Time // by pod: since when it is not listed; zero while it is
}

// hasServices reports whether hosts are such that services can be reached.
func (c *chaos) hasServices() bool { return c.net != nil && c.net.engines }

// startServices creates what exists from the beginning to the end. Containers that are made
// later ask their hosts for names.
func (l *runningContainers) startServices() {
	l.Helper()
	l.services.wanted, l.services.clients = make(map[string]string), make(map[string]bool)
	if !l.hasServices() {
		return
	}
	for _, s := range chaosServices {
		if _, _, err := l.client.Services().Create(l.ctx(), &structs.ServiceRequest{Bay: l.bay.UUID, Manifest: s.manifest()},
			api.WriteOptions{}); err != nil {
			l.Fatal(err)
		}
	}
}

// workServices creates, changes and deletes services, one after the other, until ctx ends.
func (l *runningContainers) workServices(ctx context.Context, random *rand.Rand) {
	for n := 0; ctx.Err() == nil && l.hasServices(); n++ {
		s := chaosService{name: fmt.Sprint("cycle-service-", n), selector: `{"app":"standing-rc"}`}
		key, id := structs.NewID(), ""
		l.take(ctx, random, []func(){
			func() {
				l.insist("create "+s.name, random, func(ctx context.Context, c *api.Client) error {
					r := &structs.ServiceRequest{Bay: l.bay.UUID, Manifest: s.manifest()}
					b, _, err := c.Services().Create(ctx, r, api.WriteOptions{IdempotencyKey: key})
					if err == nil {
						l.sameObject(s.name, &id, b.UUID)
					}
					return err
				})
				l.mu.Lock()
				defer l.mu.Unlock()
				l.services.wanted[id] = s.name
			},
			func() {
				s.selector = `{"of":"chaos"}`
				l.insist("update "+s.name, random, func(ctx context.Context, c *api.Client) error {
					_, _, err := c.Services().Update(ctx, id, manifestIs(s.manifest()), api.WriteOptions{})
					return err
				})
			},
			func() {
				l.insistGone("delete "+s.name, random, func(ctx context.Context, c *api.Client) error {
					_, err := c.Services().Delete(ctx, id, api.WriteOptions{})
					return err
				})
				l.mu.Lock()
				defer l.mu.Unlock()
				delete(l.services.wanted, id)
			},
		}, &id)
	}
}

// deleteServices deletes some of the services that clients have made. The caller holds mu.
func (l *runningContainers) deleteServices(which func(id string) bool) {
	l.Helper()
	for id, name := range l.services.wanted {
		if !which(id) {
			continue
		}
		l.eventually("service "+name+" is gone", retryFor, func() error {
			_, err := l.client.Services().Delete(l.ctx(), id, api.WriteOptions{})
			if structs.CodeOf(err) == structs.CodeNotFound {
				return nil
			}
			return fmt.Errorf("it was there: %v", err)
		})
		delete(l.services.wanted, id)
	}
}

// run runs a script in a container of the engine, and returns its output.
func (e *engine) run(ctx context.Context, id, script string) (string, error) {
	var out bytes.Buffer
	err := e.stream(ctx, id, script, &out)
	return out.String(), err
}

// output keeps what a script prints. begun is closed by the first of it.
type output struct {
	bytes.Buffer
	begun chan struct{}
	once  sync.Once
}

func (o *output) Write(b []byte) (int, error) {
	o.once.Do(func() { close(o.begun) })
	return o.Buffer.Write(b)
}

// stream is run that writes the output to a writer.
func (e *engine) stream(ctx context.Context, id, script string, out io.Writer) error {
	made, err := e.ContainerExecCreate(ctx, id, container.ExecOptions{Cmd: []string{"sh", "-c", script}, AttachStdout: true,
		AttachStderr: true})
	if err != nil {
		return err
	}
	at, err := e.ContainerExecAttach(ctx, made.ID, container.ExecAttachOptions{})
	if err != nil {
		return err
	}
	defer at.Close()
	defer context.AfterFunc(ctx, at.Close)()
	if _, err := stdcopy.StdCopy(out, out, at.Reader); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	end, err := e.ContainerExecInspect(ctx, made.ID)
	if err == nil && end.ExitCode != 0 {
		err = fmt.Errorf("the script has ended with exit code %d", end.ExitCode)
	}
	return err
}

// clientOn returns a container of the project on a host, by Docker's ID, that nothing stops.
func (l *runningContainers) clientOn(a *hostAgent) (string, error) {
	list, err := a.engine.list(a.hostID())
	if err != nil {
		return "", err
	}
	for _, s := range list {
		if l.services.clients[s.container] && s.state == "running" {
			return s.id, nil
		}
	}
	return "", fmt.Errorf("no container runs on %s that could ask", a.name)
}

// asks is a script that makes requests to a service, each over a connection of its own, while a
// condition holds; i counts them from 1. It prints a line for each: the UUID of the pod, or
// "failed". nc's own words depend on when a connection is reset, so they are left out.
func asks(while string, s *structs.ServiceBody) string {
	return fmt.Sprintf(`i=1; while %s; do i=$((i+1)); r=$(printf 'GET / HTTP/1.0\r\n\r\n' | nc -w 5 %s 80 2>/dev/null | tail -n 1);`+
		` echo "${r:-failed}"; done`, while, deref(s.Address))
}

// times is a condition for asks.
func times(n int) string { return fmt.Sprintf("[ $i -le %d ]", n) }

// finds is a script that prints the addresses of a name, a line for each.
func finds(name string) string {
	return `nslookup ` + name + ` 2>&1 | sed -n '1,/^Name:/d; s/^Address[ 0-9]*: *\([^ ]*\).*/\1/p'`
}

// checkServices waits until each service answers from exactly the ready pods of its selector, on
// each host, by name and by address, and until its endpoints are these pods. No client may change
// anything meanwhile.
func (l *runningContainers) checkServices() {
	l.Helper()
	if !l.hasServices() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	began, looks := time.Now(), 0
	var last error
	defer func() {
		l.Logf("services were right at look %d, after %v; before: %v", looks, time.Since(began).Round(time.Millisecond), last)
	}()
	l.eventually("services answer from exactly their ready pods", time.Minute, func() (err error) {
		looks++
		defer func() {
			if err != nil {
				last = err
			}
		}()
		pods, _, err := l.client.Pods().List(l.ctx(), api.QueryOptions{Consistent: true, Detail: true})
		if err != nil {
			return err
		}
		all, _, err := l.client.Services().List(l.ctx(), api.QueryOptions{Consistent: true})
		if err != nil {
			return err
		}
		if want := len(chaosServices) + len(l.services.wanted); len(all) != want {
			return fmt.Errorf("I1, I10: %d services are there, of %d: %v", len(all), want, l.services.wanted)
		}
		for _, s := range chaosServices {
			ready := make(map[string]structs.PodBody)
			for _, p := range pods {
				if p.Labels[s.label] == s.value && podIsReady(&p) {
					ready[p.UUID] = p
				}
			}
			body, _, err := l.client.Services().Get(l.ctx(), s.name, api.QueryOptions{Consistent: true})
			if err != nil {
				return err
			}
			if err := endpointsAre(body, ready); err != nil {
				return err
			}
			for _, a := range l.agents {
				if err := l.answersFrom(a, body, ready); err != nil {
					return fmt.Errorf("on %s: %w", a.name, err)
				}
			}
		}
		return nil
	})
}

// endpointsAre fails unless the ready endpoints of a service are these pods.
func endpointsAre(s *structs.ServiceBody, pods map[string]structs.PodBody) error {
	found := make(map[string]bool)
	for _, e := range *s.Endpoints {
		if !e.Ready {
			continue
		}
		found[e.PodUUID] = true
		if p, ok := pods[e.PodUUID]; !ok || deref(p.Host) != deref(e.Host) || deref(p.Address) != e.Address {
			return fmt.Errorf("service %s leads to %+v, and the pod is ready: %v, %s on %s", s.Name, e, ok, deref(p.Address), deref(p.Host))
		}
	}
	if len(found) != len(pods) || s.Ready != len(pods) {
		return fmt.Errorf("service %s leads to %d ready pods and counts %d, of %d", s.Name, len(found), s.Ready, len(pods))
	}
	return nil
}

// answersFrom fails unless a service answers, on a host, from these pods only, and from each.
func (l *runningContainers) answersFrom(a *hostAgent, s *structs.ServiceBody, pods map[string]structs.PodBody) error {
	ctx, cancel := context.WithTimeout(l.ctx(), 30*time.Second)
	defer cancel()
	id, err := l.clientOn(a)
	if err != nil {
		return err
	}
	out, err := a.engine.run(ctx, id, finds(s.Name))
	if err != nil {
		return err
	}
	addresses := strings.Fields(out)
	slices.Sort(addresses)
	if s.Headless {
		var local []string // those of other hosts have no route
		for _, p := range pods {
			if deref(p.Host) == a.name {
				local = append(local, deref(p.Address))
			}
		}
		if slices.Sort(local); !slices.Equal(addresses, local) {
			return fmt.Errorf("the name %s leads to %v, and its pods there are %v", s.Name, addresses, local)
		}
		return nil
	}
	if !slices.Equal(addresses, []string{deref(s.Address)}) {
		return fmt.Errorf("the name %s leads to %q, and not to %s", s.Name, out, deref(s.Address))
	}
	// Pods are taken in turn, by several goroutines: twice as many requests meet all.
	out, err = a.engine.run(ctx, id, asks(times(2*len(pods)+2), s))
	if err != nil {
		return err
	}
	who := make(map[string]int)
	for line := range strings.Lines(out) {
		who[strings.TrimSpace(line)]++
	}
	if len(pods) == 0 {
		delete(who, "failed")
	}
	for pod := range who {
		if _, ok := pods[pod]; !ok {
			return fmt.Errorf("%q answers at %s, which has the ready pods %v", pod, s.Name, slices.Sorted(maps.Keys(pods)))
		}
	}
	if want := len(pods); s.ClientIPTimeout == 0 && len(who) != want || s.ClientIPTimeout > 0 && len(who) != min(want, 1) {
		return fmt.Errorf("%d of %d pods answer at %s: %v", len(who), want, s.Name, who)
	}
	return nil
}

// watchServices asks a service on each host all the time, until ctx ends. No pod may answer that
// is unknown, or that was deleted long ago.
func (l *runningContainers) watchServices(ctx context.Context) {
	if !l.hasServices() {
		return
	}
	l.services.gone = make(map[string]time.Time)
	var watching sync.WaitGroup
	watching.Go(func() {
		for ctx.Err() == nil {
			l.notePods(ctx)
			pause(ctx, 500*time.Millisecond)
		}
	})
	for _, a := range l.agents {
		watching.Go(func() {
			for ctx.Err() == nil {
				l.watchService(ctx, a)
				pause(ctx, 200*time.Millisecond) // the container may be gone, or its engine away
			}
		})
	}
	watching.Wait()
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// notePods notes which pods are listed.
func (l *runningContainers) notePods(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for _, c := range l.clients {
		pods, _, err := c.Pods().List(ctx, api.QueryOptions{Consistent: true})
		if err != nil {
			continue
		}
		now, listed := time.Now(), make(map[string]bool)
		l.services.mu.Lock()
		defer l.services.mu.Unlock()
		for _, p := range pods {
			listed[p.UUID] = true
			l.services.gone[p.UUID] = time.Time{}
		}
		for id, since := range l.services.gone {
			if !listed[id] && since.IsZero() {
				l.services.gone[id] = now
			}
		}
		return
	}
}

// watchService asks a service on a host until a container there ends.
func (l *runningContainers) watchService(ctx context.Context, a *hostAgent) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, _, err := oneOf(rand.New(rand.NewPCG(1, 1)), l.clients).Services().Get(ctx, "all", api.QueryOptions{})
	if err != nil {
		return
	}
	id, err := l.clientOn(a)
	if err != nil {
		return
	}
	r, w := io.Pipe()
	go func() {
		w.CloseWithError(a.engine.stream(ctx, id, asks("usleep 100000 && "+times(1000), s), w))
	}()
	unknown := make(map[string]time.Time)
	for lines := bufio.NewScanner(r); lines.Scan(); {
		pod, now := strings.TrimSpace(lines.Text()), time.Now()
		if !structs.IsID(pod) {
			continue // a fault may make requests fail
		}
		l.services.mu.Lock()
		l.services.asked++
		gone, known := l.services.gone[pod]
		l.services.mu.Unlock()
		switch {
		case known && !gone.IsZero() && now.Sub(gone) > podAnswersAfterDelete:
			l.Errorf("pod %s answers on %s %v after it was gone", pod, a.name, now.Sub(gone))
			return
		case !known && unknown[pod].IsZero():
			unknown[pod] = now
		case !known && now.Sub(unknown[pod]) > podAnswersAfterDelete: // no server may have listed it during a fault
			l.Errorf("pod %s answers on %s, and is in no list of the project's pods", pod, a.name)
			return
		}
	}
}

// checkAsked fails if watchServices got no answer.
func (l *runningContainers) checkAsked() {
	l.Helper()
	l.services.mu.Lock()
	defer l.services.mu.Unlock()
	l.Logf("pods answered %d requests while faults ran", l.services.asked)
	if l.hasServices() && l.services.asked == 0 {
		l.Error("no pod answered while faults ran, so none was checked")
	}
}

// dataPath returns the process ID of the data path of a host.
func (a *hostAgent) dataPath() (int, error) {
	b, err := os.ReadFile(filepath.Join(a.dir, "agent", "datapath.lock"))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(b)))
}

// duringRequests has a container on a host make requests all the while that something is done
// to the host. None may fail, unless the endpoints have changed meanwhile.
func (l *runningContainers) duringRequests(a *hostAgent, do func()) {
	l.Helper()
	before, _, err := l.client.Services().Get(l.ctx(), "plain", api.QueryOptions{Consistent: true})
	if err != nil {
		l.Fatal(err)
	}
	id, err := l.clientOn(a)
	if err != nil {
		l.Fatal(err)
	}
	out := &output{begun: make(chan struct{})}
	var asking sync.WaitGroup
	end := "/tmp/" + structs.NewID()
	asking.Go(func() {
		err = a.engine.stream(l.ctx(), id, asks("[ ! -e "+end+" ]", before), out)
		out.once.Do(func() { close(out.begun) })
	})
	<-out.begun // a busy engine may take longer for a process than what is done
	do()
	_, ended := a.engine.run(l.ctx(), id, "touch "+end)
	asking.Wait()
	if err := errors.Join(err, ended); err != nil {
		l.Errorf("requests on %s: %v", a.name, err)
		return
	}
	after, _, err := l.client.Services().Get(l.ctx(), "plain", api.QueryOptions{Consistent: true})
	if err != nil {
		l.Fatal(err)
	}
	answered, bad := 0, 0
	for line := range strings.Lines(out.String()) {
		if structs.IsID(strings.TrimSpace(line)) {
			answered++
		} else {
			bad++
		}
	}
	l.Logf("%d requests on %s were answered, and %d failed", answered, a.name, bad)
	if !slices.EqualFunc(*before.Endpoints, *after.Endpoints, func(x, y structs.EndpointBody) bool {
		return x.PodUUID == y.PodUUID && x.Ready == y.Ready && x.Address == y.Address
	}) {
		l.Logf("the endpoints have changed meanwhile, which excuses it")
		return
	}
	if bad > 0 || answered == 0 {
		l.Errorf("%d requests failed on %s although the endpoints stayed, %d did not", bad, a.name, answered)
	}
}

// answersAgain waits until a service answers on a host, at least from its own pods.
func (l *runningContainers) answersAgain(a *hostAgent) {
	l.Helper()
	l.eventually("the data path of "+a.name+" is back", patience, func() error {
		s, _, err := l.client.Services().Get(l.ctx(), "plain", api.QueryOptions{})
		if err != nil {
			return err
		}
		id, err := l.clientOn(a)
		if err != nil {
			return err
		}
		out, err := a.engine.run(l.ctx(), id, asks(times(1), s))
		if err == nil && !structs.IsID(strings.TrimSpace(out)) {
			err = errors.New(out)
		}
		return err
	})
}
