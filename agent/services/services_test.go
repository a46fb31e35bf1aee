package services

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/datapath"
	"github.com/stackforge/magnum/agent/redirect"
	"github.com/stackforge/magnum/structs"
)

// host is a host with a data path and a packet filter in memory.
type host struct {
	*testing.T
	s      *Services
	cancel context.CancelFunc
	over   chan struct{}

	mu       sync.Mutex
	networks []backend.ProjectNetwork
	opened   int
	path     *fakePath // that runs; nil if none does
	rules    *redirect.Rules
	checks   int
	fail     map[string]error // by call
	hold     chan struct{}    // Apply waits for its end; nil for no wait
	drained  func(podID string) error
	asked    []string
	reports  [][]datapath.Problem
	resolver Resolver
	hangs    bool               // the engine doesn't answer
	apart    []datapath.Problem // with other hosts
}

// fakePath is one run of a data path.
type fakePath struct {
	h       *host
	conf    datapath.Config
	applies int
	done    chan struct{}
}

func (h *host) failure(call string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.fail[call]
}

func (p *fakePath) Apply(ctx context.Context, conf datapath.Config) (datapath.Status, error) {
	p.h.mu.Lock()
	hold := p.h.hold
	p.h.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return datapath.Status{}, ctx.Err()
		}
	}
	if err := p.h.failure("apply"); err != nil {
		return datapath.Status{}, err
	}
	p.h.mu.Lock()
	p.conf = conf
	p.applies++
	p.h.mu.Unlock()
	return p.Status(ctx)
}

func (p *fakePath) Status(context.Context) (datapath.Status, error) {
	p.h.mu.Lock()
	defer p.h.mu.Unlock()
	s := datapath.Status{TCP: make(map[string]int)}
	for i, project := range p.conf.Projects {
		s.TCP[project.ID] = 40000 + i
	}
	for _, service := range p.conf.Services {
		if service.Name == "broken" {
			s.Problems = append(s.Problems, datapath.Problem{ServiceID: service.ID, Reason: "node port 30000 is taken"})
		}
	}
	s.Problems = append(s.Problems, p.h.apart...)
	return s, nil
}

func (p *fakePath) Done() <-chan struct{} { return p.done }

func (p *fakePath) Close() {}

func (p *fakePath) Stop(context.Context) error { p.h.kill(); return nil }

// kill ends the data path.
func (h *host) kill() {
	h.mu.Lock()
	defer h.mu.Unlock()
	close(h.path.done)
	h.path = nil
}

// filter is the packet filter of a host.
type filter struct{ h *host }

func (f filter) Set(r redirect.Rules) error {
	if err := f.h.failure("set"); err != nil {
		return err
	}
	f.h.mu.Lock()
	defer f.h.mu.Unlock()
	f.h.rules = &r
	return nil
}

func (f filter) Check() error {
	f.h.mu.Lock()
	f.h.checks++
	f.h.mu.Unlock()
	return f.h.failure("check")
}

func (f filter) Remove() error {
	f.h.mu.Lock()
	f.h.rules = nil
	f.h.mu.Unlock()
	return f.h.failure("remove")
}

// inHost runs a test in a bubble with a host that has a network of project p.
func inHost(t *testing.T, test func(*host)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := &host{T: t, fail: make(map[string]error), networks: []backend.ProjectNetwork{network("p", 1)}}
		h.start()
		defer h.stop()
		test(h)
	})
}

func network(project string, n byte) backend.ProjectNetwork {
	return backend.ProjectNetwork{ProjectID: project, Bridge: "br-" + project,
		Gateway: netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 18, n, 1}), 24)}
}

// start starts the agent's part, as a restart of the agent does.
func (h *host) start() {
	h.s = New(Config{
		HostID: "h1", Filter: filter{h}, Log: hclog.NewNullLogger(),
		Networks: func(ctx context.Context) ([]backend.ProjectNetwork, error) {
			h.mu.Lock()
			list, err, hangs := slices.Clone(h.networks), h.fail["networks"], h.hangs
			h.mu.Unlock()
			if hangs {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return list, err
		},
		Open: func(context.Context) (DataPath, error) {
			if err := h.failure("open"); err != nil {
				return nil, err
			}
			h.mu.Lock()
			defer h.mu.Unlock()
			h.opened++
			if h.path == nil {
				h.path = &fakePath{h: h, done: make(chan struct{})}
			}
			return h.path, nil
		},
		Running:  func() bool { h.mu.Lock(); defer h.mu.Unlock(); return h.path != nil },
		Resolver: func() Resolver { h.mu.Lock(); defer h.mu.Unlock(); return h.resolver },
		Relay:    datapath.Relay{Listen: ":9514", KeyFile: "relay.pem"},
		Drained: func(ctx context.Context, podID string, wait time.Duration) error {
			h.mu.Lock()
			h.asked = append(h.asked, podID)
			drained := h.drained
			h.mu.Unlock()
			if drained == nil {
				<-ctx.Done()
				return ctx.Err()
			}
			return drained(podID)
		},
		Report: func(p []datapath.Problem) { h.mu.Lock(); h.reports = append(h.reports, p); h.mu.Unlock() },
	})
	var ctx context.Context
	ctx, h.cancel = context.WithCancel(context.Background())
	h.over = make(chan struct{})
	go func() { defer close(h.over); _ = h.s.Run(ctx) }()
	synctest.Wait()
}

// after lets time pass in the bubble.
func (h *host) after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (h *host) stop() { h.cancel(); <-h.over }

// service returns a service of project p.
func service(name string, pods ...string) structs.ServiceAssignment {
	a := structs.ServiceAssignment{ID: "id-" + name, ProjectID: "p", Name: name, Address: "10.127.0.1",
		Spec: structs.ServiceSpec{Selector: map[string]string{"app": name}, Ports: []structs.ServicePort{{Port: 80, Protocol: "tcp"}}}}
	for _, pod := range pods {
		a.Endpoints = append(a.Endpoints, structs.Endpoint{PodID: pod, HostID: "h1", Ready: true, Ports: []int{8080}})
	}
	return a
}

// answer is what servers answer to a poll.
func answer(full bool, list ...structs.ServiceAssignment) *structs.Work {
	return &structs.Work{Full: full, Services: &structs.ServiceWork{Full: full, Services: list}}
}

func (h *host) take(w *structs.Work) { h.s.Take(w); synctest.Wait() }

// serves fails unless the data path has exactly these services.
func (h *host) serves(names ...string) {
	h.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.path == nil {
		h.Fatalf("no data path runs, want %v", names)
	}
	got := []string{}
	for _, s := range h.path.conf.Services {
		got = append(got, s.Name)
	}
	slices.Sort(got)
	if !slices.Equal(got, names) {
		h.Fatalf("the data path serves %v, want %v", got, names)
	}
}

func (h *host) runs() bool { return h.s.conf.Running() }

func TestNothingRunsWithoutServices(t *testing.T) {
	inHost(t, func(h *host) {
		h.take(&structs.Work{Full: true})
		h.take(&structs.Work{})
		h.after(time.Hour)
		if h.opened > 0 || h.s.Names(h.Context(), "p") != nil || len(h.s.Variables("p")) > 0 {
			t.Errorf("opened %d times", h.opened)
		}
		if err := h.s.Stop(h.Context()); err != nil || h.opened > 0 {
			t.Errorf("ending nothing: %v, opened %d times", err, h.opened)
		}
	})
}

func TestServe(t *testing.T) {
	inHost(t, func(h *host) {
		h.take(answer(true, service("web", "a"), service("db")))
		h.serves("db", "web")
		if h.path.conf.HostID != "h1" || len(h.path.conf.Projects) != 1 || h.path.conf.Projects[0].Bridge != "br-p" {
			t.Errorf("the data path has %+v", h.path.conf)
		}
		want := redirect.Target{Bridge: "br-p", Addr: netip.MustParseAddr("10.127.0.1"), Protocol: redirect.TCP, Port: 80}
		if h.rules == nil || h.rules.Ports[want] != 40000 {
			t.Errorf("the rules are %+v", h.rules)
		}
		// A difference: what it doesn't name stays.
		h.take(&structs.Work{Services: &structs.ServiceWork{Services: []structs.ServiceAssignment{service("web", "a", "b")},
			Peers: []structs.RelayPeer{{HostID: "h2"}}}})
		h.serves("db", "web")
		if n := len(h.path.conf.Services[1].Endpoints); n != 2 || len(h.path.conf.Relay.Peers) != 1 {
			t.Errorf("%d endpoints, relay %+v", n, h.path.conf.Relay)
		}
		h.take(&structs.Work{}) // of assignments only
		h.serves("db", "web")
		h.take(answer(false, service("mail")))
		h.serves("db", "mail", "web")
		h.take(&structs.Work{Services: &structs.ServiceWork{Full: true, Services: []structs.ServiceAssignment{service("mail")}}})
		h.serves("mail")
		// An unchanged answer changes nothing.
		applies := h.path.applies
		h.take(answer(true, service("mail")))
		if h.path.applies != applies {
			t.Error("the data path was given again what it has")
		}
	})
}

// TestAnotherBay: services of the bay before are forgotten, whatever the answer lists.
func TestAnotherBay(t *testing.T) {
	bay := func(w *structs.Work, id string) *structs.Work { w.BayID = &id; return w }
	inHost(t, func(h *host) {
		h.take(bay(answer(true, service("web")), "one"))
		h.serves("web")
		h.take(bay(&structs.Work{}, "one"))
		h.serves("web")
		h.take(bay(answer(false, service("db")), "two"))
		h.serves("db")
		h.take(bay(&structs.Work{}, ""))
		h.serves() // names are still asked for
		h.take(bay(answer(true, service("web")), "one"))
		h.serves("web")
		h.take(&structs.Work{Full: true}) // another history, without services
		h.serves()
	})
}

// TestDataPathStaysForNames: containers that were made while there were services ask this
// host for names.
func TestDataPathStaysForNames(t *testing.T) {
	inHost(t, func(h *host) {
		h.take(answer(true, service("web")))
		h.take(answer(true))
		h.serves()
		h.after(time.Hour)
		if !h.runs() || h.rules == nil {
			t.Fatal("the data path has ended while there is a network")
		}
		h.stop()
		h.start()
		h.take(&structs.Work{Full: true})
		h.serves()
		h.mu.Lock()
		h.networks = nil
		h.mu.Unlock()
		h.after(lookInterval + time.Second)
		if h.runs() || h.rules != nil {
			t.Error("the data path goes on without a network")
		}
	})
}

// TestRestartedAgent: what served before does so until an answer says otherwise.
func TestRestartedAgent(t *testing.T) {
	inHost(t, func(h *host) {
		h.take(answer(true, service("web")))
		path, applies := h.path, h.path.applies
		h.stop()
		h.start()
		h.after(time.Hour)
		h.serves("web")
		if h.path != path || path.applies != applies {
			t.Fatal("the data path was given something before the first answer")
		}
		h.take(answer(true, service("web"), service("db")))
		h.serves("db", "web")
		if h.path != path {
			t.Error("another data path was started")
		}
		h.stop()
		if err := h.s.Stop(h.Context()); err != nil || h.runs() || h.rules != nil {
			t.Errorf("not ended: %v", err)
		}
		h.start()
	})
}

// TestEngineIsAway: what has changed elsewhere is served all the same.
func TestEngineIsAway(t *testing.T) {
	for what, fail := range map[string]func(*host){
		"away":  func(h *host) { h.fail["networks"] = &backend.Failure{Reason: backend.ErrAway} },
		"hangs": func(h *host) { h.hangs = true },
	} {
		t.Run(what, func(t *testing.T) {
			inHost(t, func(h *host) {
				h.take(answer(true, service("web")))
				h.mu.Lock()
				fail(h)
				h.mu.Unlock()
				h.take(answer(false, service("db")))
				h.after(listTimeout)
				h.serves("db", "web")
				if len(h.path.conf.Projects) != 1 || len(h.reports) > 0 {
					t.Errorf("it serves %+v, and reports %v", h.path.conf.Projects, h.reports)
				}
			})
		})
	}
}

func TestDataPathEnds(t *testing.T) {
	inHost(t, func(h *host) {
		h.take(answer(true, service("web")))
		h.kill()
		synctest.Wait()
		h.serves("web")
		if h.opened != 2 || h.path.applies != 1 {
			t.Errorf("opened %d times, given %d configurations", h.opened, h.path.applies)
		}
	})
}

// TestFailures: each failure is reported, and tried again.
func TestFailures(t *testing.T) {
	for _, call := range []string{"open", "apply", "set", "networks"} {
		t.Run(call, func(t *testing.T) {
			inHost(t, func(h *host) {
				h.fail[call] = errors.New("no " + call)
				h.take(answer(true, service("web")))
				h.after(time.Minute)
				h.mu.Lock()
				if len(h.reports) != 1 || len(h.reports[0]) != 1 || !strings.Contains(h.reports[0][0].Reason, "no "+call) {
					t.Errorf("reported %v", h.reports)
				}
				delete(h.fail, call)
				h.mu.Unlock()
				if h.s.Names(h.Context(), "p") != nil {
					t.Error("a container is told to ask a host that doesn't answer")
				}
				h.after(retryMax + time.Second)
				h.serves("web")
				if h.rules == nil || len(h.rules.Ports) != 1 {
					t.Errorf("the rules are %+v", h.rules)
				}
				if last := h.reports[len(h.reports)-1]; len(last) > 0 {
					t.Errorf("still reported: %v", last)
				}
			})
		})
	}
}

func TestProblemsAreReported(t *testing.T) {
	inHost(t, func(h *host) {
		h.take(answer(true, service("broken")))
		if len(h.reports) != 1 || len(h.reports[0]) != 1 || h.reports[0][0].ServiceID != "id-broken" {
			t.Fatalf("reported %v", h.reports)
		}
		h.after(time.Hour)
		if len(h.reports) != 1 || h.checks == 0 {
			t.Errorf("reported %v, %d checks of the filter", h.reports, h.checks)
		}
		h.take(answer(true, service("web")))
		if len(h.reports) != 2 || len(h.reports[1]) != 0 {
			t.Errorf("reported %v", h.reports)
		}
	})
}

// TestHostsApartAreReported: once it lasts, and until it is over.
func TestHostsApartAreReported(t *testing.T) {
	inHost(t, func(h *host) {
		set := func(p ...datapath.Problem) { h.mu.Lock(); h.apart = p; h.mu.Unlock() }
		apart := datapath.Problem{HostID: "h2", Reason: "its relay doesn't answer"}
		set(apart)
		h.take(answer(true, service("web")))
		set()
		h.after(time.Hour)
		if len(h.reports) != 0 {
			t.Errorf("reported %v", h.reports)
		}
		set(apart)
		h.after(lookInterval + 2*soonInterval)
		if len(h.reports) != 1 || !slices.Equal(h.reports[0], []datapath.Problem{apart}) {
			t.Fatalf("reported %v", h.reports)
		}
		set()
		h.after(soonInterval + time.Second)
		if len(h.reports) != 2 || len(h.reports[1]) != 0 {
			t.Errorf("reported %v", h.reports)
		}
	})
}

// TestAwait: the next poll is sent once the host serves what the last answer said, or after a
// short time.
func TestAwait(t *testing.T) {
	inHost(t, func(h *host) {
		h.hold = make(chan struct{})
		h.s.Take(answer(true, service("web")))
		began := time.Now()
		serves := h.s.Await(h.Context())
		if waited := time.Since(began); serves || waited != applyWait {
			t.Errorf("it serves: %v; waited %s for a data path that is stuck", serves, waited)
		}
		done := make(chan struct{})
		go func() { defer close(done); serves = h.s.Await(h.Context()) }()
		synctest.Wait()
		close(h.hold)
		synctest.Wait()
		select {
		case <-done:
		default:
			t.Error("it still waits")
		}
		began = time.Now()
		if !serves || !h.s.Await(h.Context()) || time.Since(began) > 0 {
			t.Error("it doesn't serve what it was told, or waits for nothing")
		}
	})
}

func TestPrepare(t *testing.T) {
	inHost(t, func(h *host) {
		h.take(answer(true, service("web")))
		h.s.Prepare(h.Context(), "p")
		h.mu.Lock()
		h.networks = append(h.networks, network("q", 2))
		h.mu.Unlock()
		began := time.Now()
		h.s.Prepare(h.Context(), "q") // was made a moment ago
		if len(h.path.conf.Projects) != 2 || time.Since(began) > 0 {
			t.Errorf("the data path has %+v", h.path.conf.Projects)
		}
		h.s.Prepare(h.Context(), "r") // has no network, for whatever reason
		if time.Since(began) != serveWait {
			t.Errorf("waited %s", time.Since(began))
		}
	})
}

func TestNames(t *testing.T) {
	inHost(t, func(h *host) {
		h.resolver = Resolver{Search: []string{"a", "b", "c", "d", "e", "f"},
			Servers: []netip.Addr{netip.MustParseAddr("127.0.0.53"), netip.MustParseAddr("10.0.0.2")}}
		h.take(answer(true, service("web")))
		names := h.s.Names(h.Context(), "p")
		want := &backend.Names{Servers: []string{"10.0.0.2"}, Search: []string{"p.svc.cluster.local", "a", "b", "c", "d", "e"}}
		if !reflect.DeepEqual(names, want) {
			t.Errorf("names %+v, want %+v", names, want)
		}
		if up := h.path.conf.Upstreams; !slices.Equal(up, []string{"127.0.0.53:53", "10.0.0.2:53"}) {
			t.Errorf("the data path asks %v", up)
		}
	})
}

func TestVariables(t *testing.T) {
	inHost(t, func(h *host) {
		web := service("my-web")
		web.Spec.Ports = []structs.ServicePort{{Name: "http-main", Port: 80, Protocol: "tcp"}, {Name: "dns", Port: 53, Protocol: "udp"}}
		headless := service("headless")
		headless.Address = ""
		other := service("other")
		other.ProjectID = "q"
		h.take(answer(true, web, headless, other))
		want := map[string]string{
			"MY_WEB_SERVICE_HOST": "10.127.0.1", "MY_WEB_SERVICE_PORT": "80", "MY_WEB_SERVICE_PORT_HTTP_MAIN": "80",
			"MY_WEB_SERVICE_PORT_DNS": "53", "MY_WEB_PORT": "tcp://10.127.0.1:80",
			"MY_WEB_PORT_80_TCP": "tcp://10.127.0.1:80", "MY_WEB_PORT_80_TCP_PROTO": "tcp", "MY_WEB_PORT_80_TCP_PORT": "80",
			"MY_WEB_PORT_80_TCP_ADDR": "10.127.0.1",
			"MY_WEB_PORT_53_UDP":      "udp://10.127.0.1:53", "MY_WEB_PORT_53_UDP_PROTO": "udp", "MY_WEB_PORT_53_UDP_PORT": "53",
			"MY_WEB_PORT_53_UDP_ADDR": "10.127.0.1",
		}
		if got := h.s.Variables("p"); !maps.Equal(got, want) {
			t.Errorf("variables %v, want %v", got, want)
		}
		var many []structs.ServiceAssignment
		for range 3000 {
			many = append(many, service(strings.Repeat("a", 40)+"-"+structs.NewID()))
		}
		h.take(answer(true, many...))
		size := 0
		for k, v := range h.s.Variables("p") {
			size += len(k) + len(v) + 2
		}
		if size > maxVariables || size < maxVariables/2 {
			t.Errorf("the variables have %d bytes", size)
		}
	})
}

// TestDrain: a pod ends once the servers say that no other host leads to it, and this one
// doesn't either.
func TestDrain(t *testing.T) {
	pod, labels := structs.Ref{Kind: structs.WorkloadPod, ID: "a", Epoch: 1}, map[string]string{"app": "web", "x": "y"}
	waits := func(h *host, generation uint64) time.Duration {
		began := time.Now()
		h.s.Drain(h.Context(), pod, generation, "p", labels)
		return time.Since(began)
	}
	inHost(t, func(h *host) {
		if waited := waits(h, 1); waited > 0 || len(h.asked) > 0 {
			t.Errorf("waited %s, asked for %v without a service", waited, h.asked)
		}
		h.take(answer(true, service("web", "a", "b"), service("db")))
		if waited := waits(h, 1); waited != drainWait { // nobody answers
			t.Errorf("waited %s", waited)
		}
		if waited := waits(h, 1); waited > 0 || len(h.asked) != 1 { // another container of the pod
			t.Errorf("waited %s again, asked for %v", waited, h.asked)
		}
		h.drained = func(string) error { return errors.New("no route") }
		if waited := waits(h, 2); waited > 0 || len(h.asked) != 2 {
			t.Errorf("waited %s after a failure, asked for %v", waited, h.asked)
		}
		// The other hosts know, and this one learns a second later.
		h.drained = func(string) error { return nil }
		time.AfterFunc(time.Second, func() { h.s.Take(answer(false, service("web", "b"))) })
		if waited := waits(h, 3); waited != time.Second {
			t.Errorf("waited %s for this host", waited)
		}
		if waited := waits(h, 4); waited > 0 {
			t.Errorf("waited %s for a pod that no service leads to", waited)
		}
		// Not an endpoint of it, and never was.
		asked := len(h.asked)
		labels = map[string]string{"app": "else"}
		if waits(h, 5); len(h.asked) != asked {
			t.Error("asked for a pod of no service")
		}
		labels = map[string]string{"app": "web"}
		h.s.Drain(h.Context(), pod, 6, "another", labels)
		if len(h.asked) != asked {
			t.Error("asked for a pod of another project")
		}
		h.after(drainKeep + time.Second)
		if waits(h, 7); len(h.s.drains) != 1 {
			t.Errorf("%d ends are kept", len(h.s.drains))
		}
	})
}

func TestResolver(t *testing.T) {
	write := func(text string) string {
		file := filepath.Join(t.TempDir(), "resolv.conf")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	local := write("# systemd\nnameserver 127.0.0.53\noptions edns0\nsearch example.org\n")
	both := write("nameserver 10.0.0.2\nnameserver 10.0.0.2\nnameserver ::1\nnameserver x\ndomain a b\n")
	absent := filepath.Join(t.TempDir(), "none")
	addrs := func(list ...string) (all []netip.Addr) {
		for _, a := range list {
			all = append(all, netip.MustParseAddr(a))
		}
		return all
	}
	for _, c := range []struct {
		file, behind string
		want         Resolver
	}{
		{local, absent, Resolver{addrs("127.0.0.53"), []string{"example.org"}}},
		{local, both, Resolver{addrs("10.0.0.2", "::1"), []string{"a", "b"}}},
		{both, local, Resolver{addrs("10.0.0.2", "::1"), []string{"a", "b"}}},
		{absent, both, Resolver{}},
	} {
		if got := readResolver(c.file, c.behind); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s gives %+v, want %+v", c.file, got, c.want)
		}
	}
	if got := readResolver(both, local).routable(); !slices.Equal(got, addrs("10.0.0.2")) {
		t.Errorf("containers ask %v", got)
	}
}

// TestNil: a host that serves none.
func TestNil(t *testing.T) {
	var s *Services
	s.Take(answer(true, service("web")))
	s.Await(t.Context())
	s.Kick()
	s.Prepare(t.Context(), "p")
	s.Drain(t.Context(), structs.Ref{}, 1, "p", nil)
	if s.Names(t.Context(), "p") != nil || s.Variables("p") != nil || s.Run(t.Context()) != nil || s.Stop(t.Context()) != nil {
		t.Error("it serves something")
	}
}
