package conductor

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stackforge/magnum/server/conductor/quotas"
	"github.com/stackforge/magnum/server/conductor/scratch"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// quota sets a limit of alice's project.
func (h *harness) quota(r structs.Resource, limit int64) {
	h.Helper()
	must(h, SetQuota{Caller: root, Project: alice.ProjectID, Limits: []structs.QuotaLimit{{Resource: r.String(), Limit: limit}}})
}

// used returns what alice's project uses.
func (h *harness) used(r structs.Resource) int64 {
	return state.Charged(h.store.Snapshot()).Of(alice.ProjectID)[r]
}

// exceeded fails the test unless the request is refused for the resource, and leaves no change.
func exceeded[T any](h *harness, used, limit, more string, resource structs.Resource, r Request[T]) {
	h.Helper()
	err := refuse(h, structs.CodeQuota, r)
	want := fmt.Sprintf("Quota exceeded for %s: the project uses %s of %s, and this would take %s more", resource, used, limit, more)
	if err == nil || !strings.HasPrefix(err.Error(), want) {
		h.Fatalf("%T: %v, not %q", r, err, want)
	}
}

func container(spec structs.ContainerSpec) CreateContainer {
	spec.Image = "i"
	return CreateContainer{Caller: alice, Bay: "bay", Spec: spec}
}

func pod(name string, spec structs.PodSpec) CreatePod {
	return CreatePod{Caller: alice, Bay: "bay", Pod: structs.Pod{Name: name, Spec: spec}, Manifest: "m"}
}

// TestQuotaOfEachResource: the request that would exceed a quota is refused, the one before it
// isn't, and other projects aren't concerned.
func TestQuotaOfEachResource(t *testing.T) {
	h := newHarness(t)
	h.host("a", nil)
	h.bay(alice, "bay", 1)

	h.quota(structs.ResourceBays, 2)
	h.bay(alice, "second", 1)
	exceeded(h, "2", "2", "1", structs.ResourceBays, CreateBay{Caller: alice, Name: "third", NodeCount: 1})
	h.bay(bob, "bobs", 5)
	h.quota(structs.ResourceBays, structs.Unlimited)

	h.quota(structs.ResourceHosts, 4)
	exceeded(h, "2", "4", "3", structs.ResourceHosts, CreateBay{Caller: alice, Name: "third", NodeCount: 3})
	exceeded(h, "2", "4", "3", structs.ResourceHosts, PatchBay{Caller: alice, Ident: "bay", NodeCount: 4})
	must(h, PatchBay{Caller: alice, Ident: "bay", NodeCount: 3})

	h.quota(structs.ResourceContainers, 1)
	must(h, container(structs.ContainerSpec{}))
	exceeded(h, "1", "1", "1", structs.ResourceContainers, container(structs.ContainerSpec{}))
	h.quota(structs.ResourceContainers, structs.Unlimited)

	h.quota(structs.ResourcePods, 0)
	exceeded(h, "0", "0", "1", structs.ResourcePods, pod("p", podSpec(0, 0)))
	h.quota(structs.ResourcePods, 1)
	must(h, pod("p", podSpec(0, 0)))

	h.quota(structs.ResourceRCs, 0)
	exceeded(h, "0", "0", "1", structs.ResourceRCs, CreateRC{Caller: alice, Bay: "bay", RC: structs.RC{Name: "rc"}, Spec: rcSpec("rc", 0)})

	h.quota(structs.ResourceServices, 0)
	exceeded(h, "0", "0", "1", structs.ResourceServices, CreateService{Caller: alice, Bay: "bay", Service: structs.Service{Name: "s"}})

	// Volumes count by name, whoever mounts them.
	h.quota(structs.ResourceVolumes, 2)
	mounts := func(names ...string) (spec structs.ContainerSpec) {
		for _, name := range names {
			spec.Volumes = append(spec.Volumes, structs.Mount{Name: name, Target: "/" + name})
		}
		return spec
	}
	must(h, container(mounts("data", "logs")))
	must(h, container(mounts("data", "logs")))
	exceeded(h, "2", "2", "1", structs.ResourceVolumes, container(mounts("more", "data")))
	claim := podSpec(0, 0)
	claim.Volumes = []structs.PodVolume{{Name: "v", Claim: "more"}}
	h.quota(structs.ResourcePods, structs.Unlimited)
	exceeded(h, "2", "2", "1", structs.ResourceVolumes, pod("q", claim))
	claim.Volumes[0].Claim = "data"
	must(h, pod("q", claim))

	// What is written takes bytes, whatever it is.
	used := h.used(structs.ResourceSpecBytes)
	h.quota(structs.ResourceSpecBytes, used+200)
	big := strings.Repeat("x", 300)
	for _, r := range []Request[*structs.Container]{container(structs.ContainerSpec{Labels: map[string]string{"a": big}}),
		container(structs.ContainerSpec{Environment: map[string]string{"A": big}})} {
		if err := refuse(h, structs.CodeQuota, r); !strings.Contains(err.Error(), "Quota exceeded for spec_bytes: the project uses ") {
			t.Error(err)
		}
	}
	text := pod("r", podSpec(0, 0))
	text.Manifest = big
	refuse(h, structs.CodeQuota, text)
	refuse(h, structs.CodeQuota, CreateRow[structs.BayModel, *structs.BayModel]{Caller: alice, Row: structs.BayModel{ImageID: big}})
	refuse(h, structs.CodeQuota, CreateBay{Caller: alice, NodeCount: 1, Labels: map[string]string{"a": big}})
	must(h, container(structs.ContainerSpec{Labels: map[string]string{"a": "b"}}))
}

// TestQuotaOfRequests: memory and cpu count what is asked for, and each container has to ask.
func TestQuotaOfRequests(t *testing.T) {
	h := newHarness(t)
	h.host("a", nil)
	h.bay(alice, "bay", 1)
	free := must(h, container(structs.ContainerSpec{}))
	freePod := must(h, pod("free", podSpec(0, 0)))
	h.quota(structs.ResourceMemory, 100<<20)
	for _, c := range []struct {
		field string
		r     Request[*structs.Pod]
	}{{"spec.containers[0].resources.requests.memory", pod("p", podSpec(0, 1<<20))},
		{"spec.containers[1].resources.requests.memory", pod("p", podSpec(1<<20, 0))}} {
		if err := refuse(h, structs.CodeInvalid, c.r); !strings.HasPrefix(err.Error(), c.field+" is missing") {
			t.Errorf("%v doesn't name %s", err, c.field)
		}
	}
	if err := refuse(h, structs.CodeInvalid, container(structs.ContainerSpec{})); !strings.HasPrefix(err.Error(), "memory is missing") {
		t.Error(err)
	}
	rc := CreateRC{Caller: alice, Bay: "bay", RC: structs.RC{Name: "rc"}, Spec: rcSpec("rc", 1)}
	rc.Spec.Template = podSpec(1<<20, 0)
	if err := refuse(h, structs.CodeInvalid, rc); !strings.HasPrefix(err.Error(),
		"spec.template.spec.containers[1].resources.requests.memory") {
		t.Error(err)
	}
	// What was there before may be changed otherwise.
	must(h, PatchContainer{Caller: alice, Ident: free.ID, Name: new("named")})
	must(h, image(freePod, "other", "m"))

	c := must(h, container(structs.ContainerSpec{Memory: 60 << 20}))
	exceeded(h, "62914560", "104857600 bytes", "50331648", structs.ResourceMemory, container(structs.ContainerSpec{Memory: 48 << 20}))
	p := must(h, pod("p", podSpec(10<<20, 30<<20)))
	if got := h.used(structs.ResourceMemory); got != 100<<20 {
		t.Fatalf("%d bytes are used", got)
	}
	exceeded(h, "104857600", "104857600 bytes", "1048576", structs.ResourceMemory,
		ResizeContainer{Caller: alice, Ident: c.ID, Memory: new(int64(61 << 20))})
	refuse(h, structs.CodeInvalid, ResizeContainer{Caller: alice, Ident: c.ID, Memory: new(int64(0))})
	must(h, ResizeContainer{Caller: alice, Ident: c.ID, Memory: new(int64(50 << 20))})
	if got := h.used(structs.ResourceMemory); got != 90<<20 {
		t.Fatalf("%d bytes are used", got)
	}
	h.quota(structs.ResourceMemory, structs.Unlimited)

	h.quota(structs.ResourceCPU, 2500)
	if err := refuse(h, structs.CodeInvalid, container(structs.ContainerSpec{})); !strings.HasPrefix(err.Error(), "cpu is missing") {
		t.Error(err)
	}
	must(h, container(structs.ContainerSpec{MilliCPU: 1500}))
	exceeded(h, "1.5", "2.5 cores", "2", structs.ResourceCPU, container(structs.ContainerSpec{MilliCPU: 2000}))
	_ = p
}

// TestQuotaIsNeverExceededByConcurrency has many clients create at once, of which a quota lets
// few. The requests of a batch see each other.
func TestQuotaIsNeverExceededByConcurrency(t *testing.T) {
	h := newHarness(t)
	h.host("a", nil)
	h.bay(alice, "bay", 1)
	h.quota(structs.ResourceContainers, 10)
	started, release := h.hold()
	defer release()
	results := make(chan error, 64)
	var wg sync.WaitGroup
	create := func() {
		wg.Go(func() {
			_, err := Do(context.Background(), h.Conductor, container(structs.ContainerSpec{}))
			results <- err
		})
	}
	create()
	<-started
	for range 40 {
		create()
	}
	h.queued(40) // one batch
	release()
	wg.Wait()
	close(results)
	made := 0
	for err := range results {
		if err == nil {
			made++
		} else if structs.CodeOf(err) != structs.CodeQuota {
			t.Error(err)
		}
	}
	if made != 10 || h.used(structs.ResourceContainers) != 10 {
		t.Errorf("%d containers were made, and %d are charged", made, h.used(structs.ResourceContainers))
	}
}

// TestQuotaIsGivenBack: a delete gives back, a retried create isn't charged twice, and a lower
// quota removes nothing.
func TestQuotaIsGivenBack(t *testing.T) {
	h := newHarness(t)
	h.host("a", nil)
	h.bay(alice, "bay", 1)
	h.quota(structs.ResourceContainers, 2)
	first := container(structs.ContainerSpec{})
	first.Once = Once{Key: "k", BodyHash: "h"}
	c := must(h, first)
	second := must(h, container(structs.ContainerSpec{}))
	if again := must(h, first); again.ID != c.ID {
		t.Errorf("the retry made %s, not %s", again.ID, c.ID)
	}
	refuse(h, structs.CodeQuota, container(structs.ContainerSpec{}))
	h.quota(structs.ResourceContainers, 1)
	if h.container(c.ID) == nil || h.container(second.ID) == nil {
		t.Fatal("a lower quota has removed a container")
	}
	must(h, PatchContainer{Caller: alice, Ident: c.ID, Name: new("renamed")}) // it takes no more
	refuse(h, structs.CodeQuota, container(structs.ContainerSpec{}))
	for _, id := range []string{c.ID, second.ID} {
		must(h, DeleteContainer{Caller: alice, Ident: id, Force: true})
		refuse(h, structs.CodeQuota, container(structs.ContainerSpec{})) // it is still on its host
		h.report(id, structs.Observed{Status: structs.ContainerGone})
	}
	must(h, container(structs.ContainerSpec{}))
	must(h, DeleteQuota{Caller: root, Project: alice.ProjectID})
	must(h, container(structs.ContainerSpec{}))
	if gone := must(h, DeleteQuota{Caller: root, Project: alice.ProjectID}); gone != nil {
		t.Errorf("deleted twice: %+v", gone)
	}
}

// TestQuotaOfHugeRequests: no sum of requests overflows, so that a quota which is set later
// binds.
func TestQuotaOfHugeRequests(t *testing.T) {
	c := newCluster(t)
	for i := range 16 {
		rc := c.makeRC(fmt.Sprint("rc", i), structs.MaxReplicas)
		rc.Spec.Selector = map[string]string{"app": rc.RC.Name}
		rc.Spec.Template.Containers[0].Requests = structs.Resources{Memory: structs.MaxMemory, MilliCPU: structs.MaxMilliCPU}
		must(c.harness, rc)
	}
	memory, cpu := c.used(structs.ResourceMemory), c.used(structs.ResourceCPU)
	if memory != 16*structs.MaxMemory || cpu != 16*structs.MaxMilliCPU {
		t.Errorf("%d bytes and %d milli CPU are used", memory, cpu)
	}
	c.quota(structs.ResourceMemory, 1<<40)
	p := c.makePod("p")
	p.Pod.Spec = podSpec(1<<20, 1<<20)
	refuse(c.harness, structs.CodeQuota, p)
}

// TestQuotaDefaults: a project's own limit goes before that of all projects, which goes before
// the one that a server ships with.
func TestQuotaDefaults(t *testing.T) {
	h := newHarness(t)
	h.host("a", nil)
	h.bay(alice, "bay", 1)
	shipped := structs.UnlimitedAmounts()
	shipped[structs.ResourceContainers] = 1
	h.Conductor.quota = shipped // read by its loop, which waits for a request
	c := must(h, container(structs.ContainerSpec{}))
	refuse(h, structs.CodeQuota, container(structs.ContainerSpec{}))
	must(h, SetQuota{Caller: root, Limits: []structs.QuotaLimit{{Resource: "containers", Limit: 2}}})
	must(h, container(structs.ContainerSpec{}))
	refuse(h, structs.CodeQuota, container(structs.ContainerSpec{}))
	must(h, SetQuota{Caller: root, Project: alice.ProjectID, Limits: []structs.QuotaLimit{{Resource: "pods", Limit: 0}}})
	refuse(h, structs.CodeQuota, container(structs.ContainerSpec{}))
	h.quota(structs.ResourceContainers, structs.Unlimited)
	must(h, container(structs.ContainerSpec{}))
	must(h, DeleteQuota{Caller: root, Project: alice.ProjectID})
	must(h, DeleteQuota{Caller: root})
	exceeded(h, "3", "1", "1", structs.ResourceContainers, container(structs.ContainerSpec{}))
	_ = c
}

// TestQuotaOfAnEarlierSchema: a server that doesn't know quotas may be elected.
func TestQuotaOfAnEarlierSchema(t *testing.T) {
	h := newHarnessOf(t, structs.SchemaQuotas-1)
	h.Conductor.quota = structs.Amounts{}
	refuse(h, structs.CodeUnavailable, SetQuota{Caller: root, Limits: []structs.QuotaLimit{{Resource: "bays", Limit: 1}}})
	h.bay(alice, "bay", 1)
}

// TestQuotaOfReplicas: a replication controller keeps what fits, says so, and goes on once there
// is room: when anything of the project is deleted, or its quota is raised.
func TestQuotaOfReplicas(t *testing.T) {
	s := newSteps(twoHosts(t))
	other := must(s.harness, pod("other", podSpec(1<<20, 1<<20)))
	s.quota(structs.ResourcePods, 3)
	c := s.rc("web", rcSpec("web", 4))
	s.run()
	c.counts(2, 2, 2)
	o := c.now().Observed
	if want := "2 of 4 pods are not created: quota exceeded for pods: the project uses 3 of 3, and a pod takes 1 more"; !o.OverQuota ||
		!strings.HasPrefix(o.Reason, want) {
		t.Errorf("over quota %v, and the reason is %q, not %q", o.OverQuota, o.Reason, want)
	}
	if c.now().Settled() {
		t.Error("it is settled")
	}
	must(s.harness, DeletePod{Caller: alice, Ident: other.ID, Force: true})
	s.run()
	c.counts(3, 3, 3)
	s.quota(structs.ResourcePods, 4)
	s.run()
	c.counts(4, 4, 4)
	if o := c.now().Observed; o.OverQuota || o.Reason != "" || !c.now().Settled() {
		t.Errorf("with room: %+v", o)
	}

	// A scale beyond the quota is taken, as a create is; so is a rolling update, which needs one
	// pod more for a while.
	c.patch(rcSpec("web", 5))
	s.run()
	c.counts(4, 4, 4)
	c.patch(rcSpec("web", 3))
	s.run()
	c.patch(withImage(rcSpec("web", 3), "j"))
	s.run()
	c.counts(3, 3, 3)

	// Memory frees pods too, that of a container as well.
	s.quota(structs.ResourcePods, structs.Unlimited)
	m := must(s.harness, container(structs.ContainerSpec{Memory: 8 << 20}))
	s.quota(structs.ResourceMemory, 3*2<<20+8<<20)
	c.patch(withImage(rcSpec("web", 5), "j"))
	s.run()
	c.counts(3, 3, 3)
	if o := c.now().Observed; !o.OverQuota || !strings.Contains(o.Reason, "quota exceeded for memory") {
		t.Errorf("%+v", o)
	}
	must(s.harness, DeleteContainer{Caller: alice, Ident: m.ID, Force: true})
	s.report(m.ID, structs.Observed{Status: structs.ContainerGone})
	s.run()
	c.counts(5, 5, 5)
}

// TestQuotaOfTemplateWithoutRequests: a template from before there was such a quota is kept back
// as well, and says what it lacks.
func TestQuotaOfTemplateWithoutRequests(t *testing.T) {
	s := newSteps(twoHosts(t))
	spec := rcSpec("web", 1)
	spec.Template = podSpec(0, 0)
	c := s.rc("web", spec)
	s.run()
	s.quota(structs.ResourceMemory, 1<<30)
	spec.Replicas = 2
	c.patch(spec)
	s.run()
	c.counts(1, 1, 1)
	if o := c.now().Observed; !o.OverQuota || !strings.Contains(o.Reason, "spec.template.spec.containers[0].resources.requests.memory") {
		t.Errorf("%+v", o)
	}
}

// TestQuotaDoesNotBindWhatWasCharged: a drain, a move and the loss of a host are no reason to
// refuse anything, even if a quota is exceeded, and they change no charge.
func TestQuotaDoesNotBindWhatWasCharged(t *testing.T) {
	s := newSteps(twoHosts(t))
	c := s.rc("web", rcSpec("web", 4))
	s.run()
	must(s.harness, container(structs.ContainerSpec{Memory: 8 << 20, RestartPolicy: structs.RestartPolicy{Name: structs.RestartAlways}}))
	for _, r := range []structs.Resource{structs.ResourcePods, structs.ResourceContainers, structs.ResourceMemory,
		structs.ResourceHosts, structs.ResourceSpecBytes} {
		s.quota(r, 0)
	}
	before := *state.Charged(s.store.Snapshot()).Of(alice.ProjectID)
	lost := c.pods()[0].HostID
	must(s.harness, DrainHost{Caller: root, Ident: lost, Draining: true})
	s.run()
	c.counts(4, 4, 4)
	must(s.harness, DrainHost{Caller: root, Ident: lost})
	s.mark(structs.HostLost, s.other(lost))
	s.run()
	c.counts(4, 4, 4)
	for _, p := range c.pods() {
		if p.HostID != lost {
			t.Errorf("pod %s hasn't moved: %+v", p.Name, p.Placement)
		}
	}
	if now := *state.Charged(s.store.Snapshot()).Of(alice.ProjectID); now != before {
		t.Errorf("%v are charged, %v before", now, before)
	}
}

// TestQuotaOfPodsOnALostHost: pods that don't move are replaced although they count until their
// host has returned.
func TestQuotaOfPodsOnALostHost(t *testing.T) {
	s := newSteps(twoHosts(t))
	spec := podSpec(1<<20, 1<<20)
	spec.RestartPolicy = structs.PodRestartNever
	var pods []*structs.Pod
	for _, name := range []string{"one", "two"} {
		pods = append(pods, must(s.harness, CreatePod{Caller: alice, Bay: "bay",
			Pod: structs.Pod{Name: name, Labels: map[string]string{"app": "web"}, Spec: spec}}))
	}
	s.quota(structs.ResourcePods, 2)
	c := s.rc("web", rcSpec("web", 2))
	s.run()
	lost := pods[0].HostID
	s.mark(structs.HostLost, lost)
	s.run()
	c.counts(2, 2, 2)
	refuse(s.harness, structs.CodeQuota, pod("more", spec))
	s.mark(structs.HostReady, lost)
	s.run()
	c.counts(2, 2, 2)
	if got := s.used(structs.ResourcePods); got != 2 {
		t.Errorf("%d pods are charged", got)
	}
}

// TestQuotaOfARefusedRequest: what it wrote is charged while it is decided, and not after it.
func TestQuotaOfARefusedRequest(t *testing.T) {
	h := newHarness(t)
	h.host("a", nil)
	h.bay(alice, "bay", 1)
	before := *state.Charged(h.store.Snapshot()).Of(alice.ProjectID)
	h.quota(structs.ResourceContainers, 0)
	tx := scratch.New(h.store.Snapshot(), h.clock)
	if fits, err := tx.Do(func() error {
		if _, err := container(structs.ContainerSpec{}).decide(tx); err != nil {
			return err
		}
		if got := tx.Quotas.Uses(alice.ProjectID)[structs.ResourceContainers]; got != 1 {
			t.Errorf("%d containers are used within the request", got)
		}
		return quotas.Check(tx)
	}); !fits || structs.CodeOf(err) != structs.CodeQuota {
		t.Fatal(fits, err)
	}
	if got := *tx.Quotas.Uses(alice.ProjectID); got != before {
		t.Errorf("a refused request is charged: %v, %v before", got, before)
	}
}

// BenchmarkQuota is the cost of a create without the check of quotas, and with it.
func BenchmarkQuota(b *testing.B) {
	caller := structs.Caller{ProjectID: structs.NewID(), UserID: structs.NewID(), Roles: []structs.Role{structs.RoleMember}}
	for _, on := range []bool{false, true} {
		b.Run(fmt.Sprint("on=", on), func(b *testing.B) {
			store, now := state.New(), time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
			cluster := &structs.Cluster{Meta: structs.Meta{ID: structs.ClusterRowID}, Schema: structs.SchemaVersion}
			bay := &structs.Bay{Meta: structs.Meta{ID: structs.NewID(), Seq: 1, ProjectID: caller.ProjectID}, Name: "bay",
				COE: string(structs.BackendDocker), Placement: structs.PlacementSpread}
			if err := store.Apply(1, []structs.Change{{Table: structs.TableCluster, ID: cluster.ID, Row: cluster},
				{Table: structs.TableBays, ID: bay.ID, Row: bay}}); err != nil {
				b.Fatal(err)
			}
			limits := structs.ShippedQuota()
			var t *scratch.Tx
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if i%64 == 0 {
					t = scratch.New(store.Snapshot(), now)
					t.Quotas.SetShipped(&limits)
				}
				if _, err := t.Do(func() error {
					_, err := CreateContainer{Caller: caller, UUID: structs.NewID(), Name: "web",
						Spec: structs.ContainerSpec{Image: "nginx", Memory: 256 << 20, Command: []string{"nginx", "-g", "daemon off;"},
							Environment: map[string]string{"MODE": "production"}}}.decide(t)
					if err == nil && on {
						err = quotas.Check(t)
					}
					return err
				}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
