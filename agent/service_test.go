package agent

import (
	"bytes"
	"context"
	"errors"
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
	"github.com/stackforge/magnum/agent/backend/backendtest"
	"github.com/stackforge/magnum/agent/datapath"
	"github.com/stackforge/magnum/agent/datapath/relay"
	"github.com/stackforge/magnum/agent/redirect"
	"github.com/stackforge/magnum/agent/services"
	"github.com/stackforge/magnum/structs"
)

// served is a data path and a packet filter that take everything.
type served struct {
	mu   sync.Mutex
	conf datapath.Config
	// drained is called when the servers are asked whether a pod is drained; nil means that
	// they don't answer.
	drained func(pod string) error
	asked   []string
	stopped bool
}

func (s *served) Apply(_ context.Context, conf datapath.Config) (datapath.Status, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conf = conf
	return datapath.Status{}, nil
}

func (s *served) Status(context.Context) (datapath.Status, error) { return datapath.Status{}, nil }
func (s *served) Done() <-chan struct{}                           { return nil }
func (s *served) Close()                                          {}
func (s *served) Stop(context.Context) error                      { s.stopped = true; return nil }
func (s *served) Set(redirect.Rules) error                        { return nil }
func (s *served) Check() error                                    { return nil }
func (s *served) Remove() error                                   { return nil }

// serve makes the host one that serves services, and gives it those of an answer.
func (h *host) serve(list ...structs.ServiceAssignment) *served {
	h.Helper()
	s := new(served)
	h.rec.services = services.New(services.Config{
		HostID: h.owner.HostID, Filter: s, Log: hclog.NewNullLogger(),
		Networks: func(ctx context.Context) ([]backend.ProjectNetwork, error) {
			return h.fake.ProjectNetworks(ctx, h.owner)
		},
		Open:     func(context.Context) (services.DataPath, error) { return s, nil },
		Running:  func() bool { return false },
		Resolver: func() services.Resolver { return services.Resolver{} },
		Drained: func(ctx context.Context, pod string, _ time.Duration) error {
			s.mu.Lock()
			s.asked = append(s.asked, pod)
			drained := s.drained
			s.mu.Unlock()
			if drained == nil {
				<-ctx.Done()
				return ctx.Err()
			}
			return drained(pod)
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan struct{})
	go func() { defer close(over); _ = h.rec.services.Run(ctx) }()
	h.Cleanup(func() { cancel(); <-over })
	h.rec.services.Take(&structs.Work{Full: true, Services: &structs.ServiceWork{Full: true, Services: list}})
	synctest.Wait()
	return s
}

// redis is a service of project p.
func redis() structs.ServiceAssignment {
	return structs.ServiceAssignment{ID: "s", ProjectID: "p", Name: "redis-master", Address: "10.127.0.9", Spec: structs.ServiceSpec{
		Selector: map[string]string{"app": "redis"}, Ports: []structs.ServicePort{{Port: 6379, Protocol: "tcp"}}}}
}

func TestContainersAreToldOfServices(t *testing.T) {
	inHost(t, func(h *host) {
		before := want("before", 1, structs.DesiredRunning)
		h.assign(before)
		served := h.serve(redis())
		a := want("a", 1, structs.DesiredRunning)
		a.Spec.Environment = map[string]string{"REDIS_MASTER_PORT": "mine"}
		h.assign(a)
		h.completed(a, structs.ContainerRunning)
		env := h.fake.Seen.SpecOf(ref(a)).Environment
		if env["REDIS_MASTER_SERVICE_HOST"] != "10.127.0.9" || env["REDIS_MASTER_PORT"] != "mine" {
			t.Errorf("its environment is %v", env)
		}
		names := h.fake.Seen.NamesOf(ref(a))
		if names == nil || !slices.Equal(names.Search, []string{"p.svc.cluster.local"}) {
			t.Errorf("it finds names by %+v", names)
		}
		if c := h.fake.Seen.Containers()[ref(a)]; c.SpecHash != backend.Hash(a.Spec) {
			t.Error("services change the hash of its spec")
		}
		if len(served.conf.Projects) != 1 {
			t.Errorf("the data path serves %+v", served.conf.Projects)
		}
		// What runs is not told, and made again for that as little.
		if h.fake.Seen.NamesOf(ref(before)) != nil || h.fake.Seen.SpecOf(ref(before)).Environment != nil {
			t.Error("a container that ran before was told")
		}
		h.rec.services.Take(&structs.Work{Full: true})
		h.restart()
		h.full(true, before, a)
		h.counts(a, 1, 0)
		h.counts(before, 1, 0)
	})
}

func TestPodsWithoutServiceLinks(t *testing.T) {
	inHost(t, func(h *host) {
		h.serve(redis())
		a := h.upPod(wantPod("a", noInit, func(s *structs.PodSpec) {
			s.NoServiceLinks = true
			s.Containers[0].Env = []structs.EnvVar{{Name: "URL", Value: "$(REDIS_MASTER_SERVICE_HOST)"}}
		}))
		for _, part := range []string{"web", "side"} {
			for name, value := range h.fake.Seen.SpecOf(of(a, part)).Environment {
				if name != "URL" || value != "$(REDIS_MASTER_SERVICE_HOST)" {
					t.Errorf("%s has the variable %s=%s", part, name, value)
				}
			}
		}
	})
}

func TestPodsAreToldOfServices(t *testing.T) {
	inHost(t, func(h *host) {
		h.serve(redis())
		a := h.upPod(wantPod("a", noInit, func(s *structs.PodSpec) {
			s.Containers[0].Env = []structs.EnvVar{
				{Name: "URL", Value: "redis://$(REDIS_MASTER_SERVICE_HOST):$(REDIS_MASTER_SERVICE_PORT)"},
				{Name: "REDIS_MASTER_SERVICE_PORT", Value: "mine"},
			}
		}))
		env := h.fake.Seen.SpecOf(of(a, "web")).Environment
		if env["URL"] != "redis://10.127.0.9:6379" || env["REDIS_MASTER_SERVICE_PORT"] != "mine" ||
			env["REDIS_MASTER_PORT_6379_TCP_ADDR"] != "10.127.0.9" {
			t.Errorf("its environment is %v", env)
		}
		if h.fake.Seen.NamesOf(of(a, structs.PodInfra)) == nil || h.fake.Seen.NamesOf(of(a, "web")) != nil {
			t.Error("names are found by the infra container, whose network the others have")
		}
	})
}

// labelled gives a pod the label of the service redis.
func labelled(a structs.Assignment) structs.Assignment {
	a.Pod.Labels = map[string]string{"app": "redis"}
	return a
}

// TestPodIsDrainedBeforeItEnds: its processes get TERM when no host leads to it, or after two
// seconds, and have their whole grace period then.
func TestPodIsDrainedBeforeItEnds(t *testing.T) {
	for _, desired := range []structs.Desired{structs.DesiredAbsent, structs.DesiredStopped} {
		t.Run(string(desired), func(t *testing.T) {
			inHost(t, func(h *host) {
				served := h.serve(redis())
				a := h.upPod(labelled(wantPod("a", noInit)))
				h.fake.Outside.IgnoreStop(of(a, "web"))
				a.Generation, a.Desired = 2, desired
				h.assign(a)
				h.after(1900 * time.Millisecond)
				h.tally(a, "web", 1, 1, 0)
				h.tally(a, "side", 1, 1, 0)
				h.after(200 * time.Millisecond)
				h.tally(a, "side", 1, 1, 1)
				h.after(29 * time.Second)
				if c := h.fake.Seen.Containers()[of(a, "web")]; !c.Live() {
					t.Error("the wait was taken from the grace period")
				}
				h.after(time.Second)
				if c := h.fake.Seen.Containers()[of(a, "web")]; c.Live() {
					t.Error("its process still runs")
				}
				if !slices.Equal(served.asked, []string{"a"}) {
					t.Errorf("asked for %v", served.asked)
				}
			})
		})
	}
}

// TestPodEndsOnceItIsDrained: it waits no longer than necessary, and not at all if nobody
// leads connections to it, if it is forced, or if the servers refuse to answer.
func TestPodEndsOnceItIsDrained(t *testing.T) {
	for what, c := range map[string]struct {
		edit    func(*structs.Assignment)
		drained func(string) error
		asked   int
	}{
		"drained":      {drained: func(string) error { return nil }, asked: 1},
		"refused":      {drained: func(string) error { return errors.New("no") }, asked: 1},
		"forced":       {edit: func(a *structs.Assignment) { a.Force = true }},
		"no service's": {edit: func(a *structs.Assignment) { a.Pod.Labels = map[string]string{"app": "other"} }},
		"at once":      {edit: func(a *structs.Assignment) { a.StopTimeout = 0 }},
	} {
		t.Run(what, func(t *testing.T) {
			inHost(t, func(h *host) {
				served := h.serve(redis())
				served.drained = c.drained
				a := h.upPod(labelled(wantPod("a", noInit)))
				a.Generation, a.Desired = 2, structs.DesiredAbsent
				if c.edit != nil {
					c.edit(&a)
				}
				began := time.Now()
				h.assign(a)
				h.completed(a, structs.ContainerGone)
				if time.Since(began) > 0 || len(served.asked) != c.asked {
					t.Errorf("it took %s, and asked for %v", time.Since(began), served.asked)
				}
			})
		})
	}
}

// TestRestartsAreNotDrained: only the end of a pod is.
func TestRestartsAreNotDrained(t *testing.T) {
	inHost(t, func(h *host) {
		served := h.serve(redis())
		a := h.upPod(labelled(wantPod("a", noInit)))
		h.fake.Outside.Exit(of(a, "web"), 1)
		synctest.Wait()
		h.fake.Outside.AddImage("new:1")
		a = change(a, func(s *structs.PodSpec) { s.Containers[1].Image = "new:1" })
		h.assign(a)
		h.tally(a, "side", 2, 2, 1)
		if len(served.asked) > 0 {
			t.Errorf("asked for %v", served.asked)
		}
	})
}

func TestRelayIsRegistered(t *testing.T) {
	fake := backendtest.NewFake()
	dir := t.TempDir()
	_, pin, err := relay.Key(filepath.Join(dir, "relay.pem"))
	if err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		relay Relay
		want  structs.Relay
	}{
		"default":   {Relay{Port: 9514}, structs.Relay{Key: pin, Addr: "192.0.2.1:9514"}},
		"elsewhere": {Relay{Port: 95, Addr: "fd00::1"}, structs.Relay{Key: pin, Addr: "[fd00::1]:95"}},
		"closed":    {Relay{Port: 9514, Closed: true}, structs.Relay{Key: pin}},
		"none":      {Relay{Port: 9514, None: true}, structs.Relay{}},
	} {
		a := &Agent{conf: Config{Backend: fake, DataDir: dir, Addresses: []string{"192.0.2.1", "192.0.2.2"}, Relay: c.relay}}
		f, err := a.describe(t.Context())
		if err != nil || !reflect.DeepEqual(f.Relay, c.want) {
			t.Errorf("%s: registers %+v, %v", what, f.Relay, err)
		}
	}
	// A key that can't be used keeps no host from its containers.
	if err := os.WriteFile(filepath.Join(dir, "relay.pem"), []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	a := &Agent{conf: Config{Backend: fake, DataDir: dir, Logger: hclog.New(&hclog.LoggerOptions{Output: &log})}}
	if f, err := a.describe(t.Context()); err != nil || f.Relay != (structs.Relay{}) || !strings.Contains(log.String(), "relay.pem") {
		t.Errorf("with a damaged key it registers %+v, %v, and says %q", f.Relay, err, &log)
	}
}
