package conductor

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stackforge/magnum/structs"
)

// cluster is a host that is a Kubernetes cluster, with the bay "bay" of alice on it, in a
// harness whose steps are taken when their topics fire.
type cluster struct {
	*steps
	hostID string
	bay    *structs.Bay
}

// nodes describes a cluster with the nodes, "!" before the names of those that aren't ready.
func nodes(names ...string) *structs.KubernetesCluster {
	c := &structs.KubernetesCluster{APIAddress: "https://10.0.0.1:6443"}
	for i, name := range names {
		node := structs.KubernetesNode{Name: strings.TrimPrefix(name, "!"), Ready: name[0] != '!',
			Addresses: []string{fmt.Sprint("10.0.1.", i)}}
		if c.Nodes = append(c.Nodes, node); node.Ready {
			c.Ready++
		}
	}
	return c
}

// clusterHost registers the agent of a cluster as a host; id "" means a new one.
func (h *harness) clusterHost(id, name string, is *structs.KubernetesCluster, labels map[string]string) string {
	h.Helper()
	if id == "" {
		id = structs.NewID()
	}
	must(h, h.clusterRegister(id, name, is, labels))
	return id
}

func (h *harness) clusterRegister(id, name string, is *structs.KubernetesCluster, labels map[string]string) RegisterHost {
	return RegisterHost{
		HostRegister: structs.HostRegister{HostID: id, Name: name, Instance: structs.NewID(), Fingerprint: structs.Fingerprint{
			Backend: structs.BackendKubernetes, Cores: 4, Memory: 4 << 30, Labels: labels, Cluster: is,
			Kinds:  []structs.WorkloadKind{structs.WorkloadObject, structs.WorkloadPod},
			Engine: structs.EngineIdentity{ID: "uid of " + name},
		}},
		TokenHash: structs.HashSecret("join"), SecretHash: structs.HashSecret("secret of " + name),
	}
}

func (h *harness) clusterBay(name string, nodes int, labels map[string]string) *structs.Bay {
	h.Helper()
	return must(h, CreateBay{Caller: alice, Name: name, NodeCount: nodes, COE: "kubernetes", Labels: labels,
		Placement: structs.PlacementSpread})
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	s := newSteps(newHarness(t))
	c := &cluster{steps: s, hostID: s.clusterHost("", "kube", nodes("n1", "n2"), nil)}
	c.bay = s.clusterBay("bay", 2, nil)
	c.follow()
	if c.bay.Status != structs.BayCreated {
		t.Fatalf("the bay is %s: %s", c.bay.Status, c.bay.StatusReason)
	}
	t.Cleanup(func() { // before the conductor ends
		c.follow()
		index := c.store.Index()
		if more := must(s.harness, Settle{}); more || c.store.Index() != index {
			t.Error("a step has found something to do that did not wake it")
		}
	})
	return c
}

func (c *cluster) host() *structs.Host { return c.store.Snapshot().Host(c.hostID) }

// send sends a report of the cluster's agent, and takes the steps that it starts.
func (c *cluster) send(r structs.StatusReport) {
	c.Helper()
	host := c.host()
	r.Registration, r.Seq = host.Registration, host.ReportSeq+1
	must(c.harness, ReportStatus{HostID: c.hostID, StatusReport: r})
	c.follow()
}

// says reports a workload, with its present epoch and generation unless the report has others.
func (c *cluster) says(w structs.Workload, status structs.ContainerStatus, change func(*structs.ContainerReport)) {
	c.Helper()
	r := structs.ReportOf(w.Ref())
	r.Status, r.Generation = status, w.Place().Generation
	if change != nil {
		change(&r)
	}
	c.send(structs.StatusReport{Containers: []structs.ContainerReport{r}})
}

func clusterSpec() structs.PodSpec {
	s := podSpec(1<<40, 0) // more memory than the host has: the cluster finds room among its nodes
	s.Cluster = true
	return s
}

func (c *cluster) makePod(name string) CreatePod {
	return CreatePod{Caller: alice, Bay: "bay", Backend: structs.BackendKubernetes, Manifest: "manifest of " + name,
		Pod: structs.Pod{Name: name, Labels: map[string]string{"app": name}, Spec: clusterSpec()}}
}

func (c *cluster) makeService(name string) CreateService {
	return CreateService{Caller: alice, Bay: "bay", Backend: structs.BackendKubernetes, Manifest: "manifest of " + name,
		Service: structs.Service{Name: name, Spec: structs.ServiceSpec{Selector: map[string]string{"app": name}, NodePorts: true,
			Ports: []structs.ServicePort{{Port: 80, TargetPort: 8080, Protocol: "tcp"}}}}}
}

func (c *cluster) makeRC(name string, replicas int) CreateRC {
	spec := rcSpec(name, replicas)
	spec.Template = clusterSpec()
	return CreateRC{Caller: alice, Bay: "bay", Backend: structs.BackendKubernetes, Manifest: "manifest of " + name,
		RC: structs.RC{Name: name}, Spec: spec}
}

func (c *cluster) object(besideID string) *structs.Object {
	o, _ := c.store.Snapshot().Get(structs.TableObjects, besideID).(*structs.Object)
	return o
}

func (c *cluster) rcNow(id string) *structs.RC {
	rc, _ := c.store.Snapshot().Get(structs.TableRCs, id).(*structs.RC)
	return rc
}

func (c *cluster) serviceNow(id string) *structs.Service {
	s, _ := c.store.Snapshot().Get(structs.TableServices, id).(*structs.Service)
	return s
}

func (c *cluster) lose() {
	c.Helper()
	must(c.harness, MarkHosts{Marks: []HostMark{{ID: c.hostID, State: structs.HostLost, Reason: "silent"}}})
	c.follow()
}

// TestClusterBayClaimsOneCluster: a bay of coe kubernetes claims one host, one with the nodes if
// there is one, and is complete with its ready nodes.
func TestClusterBayClaimsOneCluster(t *testing.T) {
	s := newSteps(newHarness(t))
	bay := s.clusterBay("bay", 3, map[string]string{"zone": "a"})
	status := func(want structs.BayStatus, reason string) {
		t.Helper()
		s.follow()
		if now := s.bayNow(bay.ID); now.Status != want || !strings.HasPrefix(now.StatusReason, reason) ||
			reason == "" && now.StatusReason != "" {
			t.Fatalf("the bay is %s (%s), want %s (%s)", now.Status, now.StatusReason, want, reason)
		}
	}
	status(structs.BayCreating, "waits for Kubernetes clusters that are free and carry its labels; start an agent with -backend kubernetes")
	s.host("docker", map[string]string{"zone": "a"})
	s.clusterHost("", "elsewhere", nodes("n1", "n2", "n3"), map[string]string{"zone": "b"})
	status(structs.BayCreating, "waits for Kubernetes clusters")
	c := &cluster{steps: s, hostID: s.clusterHost("", "kube", nodes("n1", "n2", "!n3"), map[string]string{"zone": "a"})}
	status(structs.BayCreating, "2 of 3 nodes are ready: n3 is not")
	other := s.clusterHost("", "second", nodes("n1", "n2", "n3"), map[string]string{"zone": "a"})
	if s.store.Snapshot().Host(other).BayID != "" || c.host().BayID != bay.ID {
		t.Error("the bay has another host than the first")
	}
	c.send(structs.StatusReport{Cluster: nodes("n1", "n2", "n3")})
	status(structs.BayCreated, "")

	// A complete bay stays complete.
	c.send(structs.StatusReport{Cluster: nodes("n1", "!n2", "!n3")})
	status(structs.BayCreated, "1 of 3 nodes are ready: n2, n3 are not")
	away := nodes("n1", "!n2", "!n3")
	away.AwaySince, away.Away = c.clock, "connection refused"
	c.send(structs.StatusReport{Cluster: away})
	status(structs.BayCreated, "the API of its cluster has not answered since 2026-01-02T03:04:05Z: connection refused")
	c.lose()
	status(structs.BayCreated, "the agent of its cluster, host kube, is lost: silent.")
	if s.store.Snapshot().Host(other).BayID != "" {
		t.Error("a lost cluster was replaced")
	}
	s.clusterHost(c.hostID, "kube", nodes("n1", "n2"), map[string]string{"zone": "a"})
	status(structs.BayCreated, "2 of 3 nodes are ready: the cluster has no others: add nodes to it, or lower node_count")

	must(s.harness, PatchBay{Caller: alice, Ident: bay.ID, NodeCount: 4})
	status(structs.BayUpdating, "2 of 4 nodes are ready")
	c.send(structs.StatusReport{Cluster: nodes("n1", "n2", "n3", "n4")})
	status(structs.BayUpdated, "")
	must(s.harness, PatchBay{Caller: alice, Ident: bay.ID, NodeCount: 1})
	status(structs.BayUpdated, "")

	second := s.clusterBay("second", 3, nil)
	if got := s.bayNow(second.ID); got.Status != structs.BayCreated {
		t.Errorf("a bay with free clusters that have the nodes is %s: %s", got.Status, got.StatusReason)
	}
}

// TestClusterBayPrefersAClusterWithItsNodes chooses among free clusters.
func TestClusterBayPrefersAClusterWithItsNodes(t *testing.T) {
	h := newHarness(t)
	h.clusterHost("", "small", nodes("n1"), nil)
	h.clusterHost("", "half", nodes("n1", "n2", "!n3"), nil)
	large := h.clusterHost("", "large", nodes("n1", "n2", "n3"), nil)
	h.clusterHost("", "largest", nodes("n1", "n2", "n3", "n4"), nil)
	bay := h.clusterBay("bay", 3, nil)
	if h.store.Snapshot().Host(large).BayID != bay.ID || bay.Status != structs.BayCreated {
		t.Errorf("the bay is %s (%s) and has not the first cluster with three nodes", bay.Status, bay.StatusReason)
	}
}

// TestClusterNeedsItsSchema: below the schema no cluster is admitted, and nothing is written
// that an earlier server would lose.
func TestClusterNeedsItsSchema(t *testing.T) {
	h := newHarnessOf(t, structs.SchemaKubernetes-1)
	register := h.clusterRegister(structs.NewID(), "kube", nodes("n1"), nil)
	refuse(h, structs.CodeUnavailable, register)
	h.clusterBay("bay", 1, nil)
	c := &cluster{steps: newSteps(h)}
	refuse(h, structs.CodeUnavailable, c.makePod("web"))
	refuse(h, structs.CodeUnavailable, c.makeService("web"))
	refuse(h, structs.CodeUnavailable, c.makeRC("web", 1))
	must(h, RaiseSchema{Schema: structs.SchemaKubernetes})
	must(h, register)
	must(h, c.makePod("web"))
	must(h, c.makeService("web"))
	must(h, c.makeRC("web", 1))
}

// TestClusterRefusals: what only Docker bays have is refused by the field.
func TestClusterRefusals(t *testing.T) {
	c := newCluster(t)
	says := func(err error, texts ...string) {
		t.Helper()
		for _, text := range texts {
			if !strings.Contains(err.Error(), text) {
				t.Errorf("%q does not say %q", err, text)
			}
		}
	}
	for field, change := range map[string]func(*structs.PodSpec, *structs.Secrets){
		"exclusive":   func(s *structs.PodSpec, _ *structs.Secrets) { s.Exclusive = structs.ExclusiveLease },
		"infra_image": func(s *structs.PodSpec, _ *structs.Secrets) { s.InfraImage = "pause" },
		"registry":    func(_ *structs.PodSpec, s *structs.Secrets) { s.Registry = &structs.Registry{Username: "u"} },
	} {
		pod, rc := c.makePod("web"), c.makeRC("web", 1)
		change(&pod.Pod.Spec, &pod.Pod.Secrets)
		says(refuse(c.harness, structs.CodeInvalid, pod), field+": bay bay is of coe kubernetes", "leave it out")
		change(&rc.Spec.Template, &rc.RC.Secrets)
		says(refuse(c.harness, structs.CodeInvalid, rc), field+": bay bay is of coe kubernetes", "leave it out")
	}
	for _, bay := range []string{"bay", ""} {
		says(refuse(c.harness, structs.CodeInvalid, CreateContainer{Caller: alice, Bay: bay}), "bay bay is of coe kubernetes", "use a pod")
	}

	must(c.harness, c.makeRC("web", 1))
	overlapping := c.makeRC("web2", 1)
	overlapping.Spec.Selector = map[string]string{"app": "web"}
	says(refuse(c.harness, structs.CodeInvalid, overlapping), "spec.selector")
	says(refuse(c.harness, structs.CodeConflict, c.makeRC("web", 1)), "already")
	must(c.harness, c.makePod("web"))
	says(refuse(c.harness, structs.CodeConflict, c.makePod("web")), "already")
	must(c.harness, c.makeService("web"))
	says(refuse(c.harness, structs.CodeConflict, c.makeService("web")), "already")

	// A manifest that was read for another backend is read again.
	for _, backend := range []structs.Backend{"", structs.BackendDocker, Unread} {
		pod, service, rc := c.makePod("x"), c.makeService("x"), c.makeRC("x", 1)
		pod.Backend, service.Backend, rc.Backend = backend, backend, backend
		for _, err := range []error{refuse(c.harness, structs.CodeConflict, pod), refuse(c.harness, structs.CodeConflict, service),
			refuse(c.harness, structs.CodeConflict, rc)} {
			if !isBackend(err) {
				t.Errorf("%v", err)
			}
		}
	}
	must(c.harness, CreateBay{Caller: alice, Name: "docker", NodeCount: 1})
	pod := c.makePod("x")
	pod.Bay = "docker"
	if err := refuse(c.harness, structs.CodeConflict, pod); !isBackend(err) {
		t.Errorf("%v", err)
	}
	for _, patch := range []Request[*structs.Pod]{PatchPod{Caller: alice, Ident: "web", Manifest: "other"}} {
		if err := refuse(c.harness, structs.CodeConflict, patch); !isBackend(err) {
			t.Errorf("%v", err)
		}
	}
	if err := refuse(c.harness, structs.CodeConflict, PatchRC{Caller: alice, Ident: "web", Manifest: "other"}); !isBackend(err) {
		t.Errorf("%v", err)
	}
	if err := refuse(c.harness, structs.CodeConflict, PatchService{Caller: alice, Ident: "web", Manifest: "other"}); !isBackend(err) {
		t.Errorf("%v", err)
	}
}

func isBackend(err error) bool { return errors.Is(err, ErrBackend) }

// TestPodInACluster: a pod is placed in the one cluster, reserves nothing, and shows what the
// agent reports.
func TestPodInACluster(t *testing.T) {
	c := newCluster(t)
	p := must(c.harness, c.makePod("web"))
	if p.HostID != c.hostID || p.Epoch == 0 || p.Spec.Hostname != "" || c.manifestOf(p) != "manifest of web" {
		t.Fatalf("the pod is on %q, waits: %s; hostname %q", p.HostID, p.PlaceReason, p.Spec.Hostname)
	}
	if used := c.store.Snapshot().Usage(c.hostID); used.Memory != 0 || used.Workloads != 1 {
		t.Errorf("reserved are %+v", used)
	}
	conditions := []structs.Condition{{Type: "PodScheduled", Status: "True"}, {Type: "Ready", Status: "True"}}
	c.says(p, structs.ContainerRunning, func(r *structs.ContainerReport) {
		r.Pod = &structs.PodReport{Phase: structs.PodRunning, Node: "n1", NodeIP: "10.0.1.0", Conditions: conditions}
		r.Addresses, r.EngineID = []string{"10.244.0.2"}, "uid"
	})
	if now := c.podNow(p.ID); now.Phase() != structs.PodRunning || !now.Ready() || now.Observed.Node != "n1" ||
		now.Observed.Address != "10.244.0.2" || !structs.Done(now) {
		t.Errorf("observed: %+v", now.Observed)
	}

	// The cluster decides about changes. The same text is no change.
	patch := PatchPod{Caller: alice, Ident: p.ID, Backend: structs.BackendKubernetes, Manifest: "manifest of web",
		Apply: func(p *structs.Pod) error { return nil }}
	if same := must(c.harness, patch); same.Generation != 1 || !same.UpdatedAt.IsZero() {
		t.Errorf("the same manifest makes generation %d", same.Generation)
	}
	patch.Manifest = "another"
	if other := must(c.harness, patch); other.Generation != 2 || c.manifestOf(other) != "another" || !other.Spec.Cluster {
		t.Errorf("another manifest makes generation %d", other.Generation)
	}
	c.says(c.podNow(p.ID), structs.ContainerError, func(r *structs.ContainerReport) {
		r.Failed, r.Reason = true, `Pod "web" is invalid: spec: Forbidden`
		r.Pod = &structs.PodReport{Phase: structs.PodRunning, Node: "n1", Code: structs.CodeInvalid}
	})
	if now := c.podNow(p.ID); now.Phase() != structs.PodRunning || now.Observed.Code != structs.CodeInvalid ||
		structs.StatusReasonOf(now) != `Pod "web" is invalid: spec: Forbidden` {
		t.Errorf("after a refusal: %s, %+v", now.Phase(), now.Observed)
	}

	// Somebody deletes it in the cluster: it is shown as gone, and as running if the agent has made it again.
	epoch := p.Epoch
	c.says(c.podNow(p.ID), structs.ContainerGone, func(r *structs.ContainerReport) { r.Reason = "it was deleted in the cluster" })
	if now := c.podNow(p.ID); now.Phase() != structs.PodFailed || now.Epoch != epoch || now.HostID != c.hostID ||
		!strings.HasPrefix(structs.StatusReasonOf(now), "it was deleted in the cluster; delete it") {
		t.Errorf("a pod that is gone: %s on %q, epoch %d, %s", now.Phase(), now.HostID, now.Epoch, structs.StatusReasonOf(now))
	}
	c.says(c.podNow(p.ID), structs.ContainerRunning, func(r *structs.ContainerReport) {
		r.Pod = &structs.PodReport{Phase: structs.PodRunning}
	})
	if now := c.podNow(p.ID); now.Phase() != structs.PodRunning {
		t.Errorf("a pod that was made again is %s", now.Phase())
	}

	must(c.harness, DeletePod{Caller: alice, Ident: p.ID})
	if now := c.podNow(p.ID); now.Desired != structs.DesiredAbsent {
		t.Fatalf("the deleted pod is desired %s", now.Desired)
	}
	c.says(c.podNow(p.ID), structs.ContainerGone, nil)
	if c.podNow(p.ID) != nil || c.manifestOf(p) != "" {
		t.Error("the pod is gone and its row is not")
	}
}

// TestServiceInACluster: a service has an object, whose reports fill the rows. Servers choose
// nothing.
func TestServiceInACluster(t *testing.T) {
	c := newCluster(t)
	s := must(c.harness, c.makeService("web"))
	c.follow()
	o := c.object(s.BesideID())
	if s.Address != "" || s.Spec.Ports[0].NodePort != 0 {
		t.Errorf("a server has chosen address %q and node port %d", s.Address, s.Spec.Ports[0].NodePort)
	}
	if o == nil || o.HostID != c.hostID || o.Generation != 1 || o.Kind != structs.KindService || o.OwnerID != s.ID || o.Name != "web" {
		t.Fatalf("the object is %+v", o)
	}
	report := &structs.ObjectReport{Service: &structs.ServiceReport{Address: "10.96.0.7", Matched: 2,
		Ports:     []structs.ServicePort{{Port: 80, NodePort: 30123, Protocol: "tcp"}},
		Endpoints: []structs.Endpoint{{PodID: "p", Name: "web-1", Address: "10.244.0.3", Ports: []int{8080}, Ready: true}}}}
	running := func(r *structs.ContainerReport) { r.Object = report }
	c.says(o, structs.ContainerRunning, running)
	now, e := c.serviceNow(s.ID), c.store.Snapshot().Endpoints(s.ID)
	if now.Address != "10.96.0.7" || now.Spec.Ports[0].NodePort != 30123 || now.Spec.Ports[0].TargetPort != 8080 ||
		!now.UpdatedAt.IsZero() {
		t.Errorf("the service is %+v", now)
	}
	if e.Matched != 2 || len(e.Pods) != 1 || e.Pods[0].HostID != c.hostID || !e.Pods[0].Ready {
		t.Errorf("the endpoints are %+v", e)
	}
	if !structs.Done(c.object(s.BesideID())) {
		t.Error("the object is not done")
	}
	// A pod of the bay changes nothing: the cluster keeps the endpoints.
	p := must(c.harness, c.makePod("web"))
	c.says(p, structs.ContainerRunning, func(r *structs.ContainerReport) { r.Addresses = []string{"10.244.0.9"} })
	if again := c.store.Snapshot().Endpoints(s.ID); len(again.Pods) != 1 || again.Pods[0].Name != "web-1" {
		t.Errorf("servers have written endpoints: %+v", again)
	}
	index := now.ModifyIndex
	c.says(c.object(s.BesideID()), structs.ContainerRunning, running)
	if c.serviceNow(s.ID).ModifyIndex != index {
		t.Error("a report that says the same has written the service")
	}

	patch := PatchService{Caller: alice, Ident: s.ID, Backend: structs.BackendKubernetes, Manifest: "manifest of web", Service: *now}
	if same := must(c.harness, patch); c.object(s.BesideID()).Generation != 1 || !same.UpdatedAt.IsZero() {
		t.Error("the same manifest is a change")
	}
	patch.Manifest, patch.Service.Spec.Headless = "another", true
	patch.Service.Spec.Ports = []structs.ServicePort{{Port: 80, TargetPort: 81, Protocol: "tcp"}}
	other := must(c.harness, patch)
	if o := c.object(s.BesideID()); o.Generation != 2 || other.Spec.Ports[0].NodePort != 30123 || other.Address != "10.96.0.7" {
		t.Errorf("generation %d, %+v", o.Generation, other)
	}
	c.says(c.object(s.BesideID()), structs.ContainerError, func(r *structs.ContainerReport) {
		r.Failed, r.Reason, r.Object = true, "spec.clusterIP: field is immutable", &structs.ObjectReport{Code: structs.CodeInvalid}
	})
	if o := c.object(s.BesideID()); o.Observed.Code != structs.CodeInvalid || o.Observed.Reason != "spec.clusterIP: field is immutable" ||
		c.serviceNow(s.ID).Address != "10.96.0.7" {
		t.Errorf("after a refusal: %+v", o.Observed)
	}

	// The row goes at once, the object when the cluster has none. Another service of the name waits for that.
	must(c.harness, DeleteService{Caller: alice, Ident: s.ID})
	gone := c.object(s.BesideID())
	if c.serviceNow(s.ID) != nil || gone == nil || gone.Desired != structs.DesiredAbsent {
		t.Fatalf("after the delete: service %v, object %+v", c.serviceNow(s.ID), gone)
	}
	again := c.makeService("web")
	again.UUID = s.ID
	refuse(c.harness, structs.CodeConflict, again)
	elsewhere := again
	elsewhere.Caller, elsewhere.Bay = root, c.host().BayID
	elsewhere.Caller.ProjectID = "p2"
	refuse(c.harness, structs.CodeInvalid, elsewhere)                         // which doesn't tell that it was another project's
	must(c.harness, DrainHost{Caller: root, Ident: c.hostID, Draining: true}) // so that both wait
	second := must(c.harness, c.makeService("web"))
	third := must(c.harness, c.makeService("third"))
	must(c.harness, DrainHost{Caller: root, Ident: c.hostID})
	c.follow()
	if o := c.object(second.BesideID()); o.HostID != "" || !strings.Contains(o.PlaceReason, "earlier one of its name") {
		t.Errorf("the second one of the name is on %q: %s", o.HostID, o.PlaceReason)
	}
	if o := c.object(third.BesideID()); o.HostID != c.hostID {
		t.Errorf("another service waits, too: %s", o.PlaceReason)
	}
	c.says(gone, structs.ContainerGone, nil)
	if o := c.object(second.BesideID()); o.HostID != c.hostID || c.object(s.BesideID()) != nil {
		t.Errorf("once the first is gone, the second one is on %q: %s", o.HostID, o.PlaceReason)
	}
}

// found returns the report of a pod that the cluster has made for a replication controller.
func found(rc *structs.RC, id, name string) structs.ContainerReport {
	r := structs.ReportOf(structs.Ref{Kind: structs.WorkloadPod, ID: id, Epoch: 1})
	r.Status, r.Addresses = structs.ContainerRunning, []string{"10.244.0.4"}
	spec := clusterSpec()
	r.Pod = &structs.PodReport{Phase: structs.PodRunning, Node: "n2", Found: &structs.FoundPod{RCID: rc.ID, Name: name,
		Labels: map[string]string{"app": "web"}, Spec: &spec, Updated: true}}
	return r
}

// TestRCInACluster: the cluster keeps the pods of a replication controller. They have rows,
// which come and go with the agent's reports.
func TestRCInACluster(t *testing.T) {
	c := newCluster(t)
	rc := must(c.harness, c.makeRC("web", 2))
	c.follow()
	snap := c.store.Snapshot()
	for w := range snap.InBay(c.bay.ID) {
		if w.Ref().Kind == structs.WorkloadPod {
			t.Fatal("a server has made a pod")
		}
	}
	o := c.object(rc.BesideID())
	if o == nil || o.HostID != c.hostID || o.Generation != rc.Generation {
		t.Fatalf("the object is %+v", o)
	}
	c.says(o, structs.ContainerRunning, func(r *structs.ContainerReport) {
		r.Object = &structs.ObjectReport{RC: &structs.RCReport{
			RCObserved: structs.RCObserved{Generation: 1, Current: 2, Ready: 1, Updated: 2}}}
	})
	if now := c.rcNow(rc.ID); now.Observed != (structs.RCObserved{Generation: 1, Current: 2, Ready: 1, Updated: 2}) {
		t.Errorf("observed: %+v", now.Observed)
	}

	one, two := structs.NewID(), structs.NewID()
	c.send(structs.StatusReport{Containers: []structs.ContainerReport{found(rc, one, "web-aaaaa"), found(rc, two, "web-bbbbb")}})
	p := c.podNow(one)
	if p == nil || p.Owner != rc.ID || p.HostID != c.hostID || p.BayID != c.bay.ID || p.ProjectID != "p1" || !p.Found() ||
		!structs.Done(p) || p.Phase() != structs.PodRunning || p.Observed.Node != "n2" || p.Name != "web-aaaaa" || p.AssignIndex == 0 {
		t.Fatalf("the found pod is %+v", p)
	}
	if p.Spec.Containers[0].Requests.Memory != 0 {
		t.Error("its row has more of the spec than is shown")
	}
	refuse(c.harness, structs.CodeConflict, PatchPod{Caller: alice, Ident: one, Backend: structs.BackendKubernetes, Manifest: "x"})
	c.send(structs.StatusReport{Containers: []structs.ContainerReport{found(rc, one, "web-aaaaa")}}) // once more
	if now := c.podNow(one); now == nil || now.Epoch != p.Epoch || now.Generation != 1 || !structs.Done(now) {
		t.Errorf("after a second report: %+v", now)
	}

	// One that the cluster has removed goes, also if nobody has asked for it.
	c.says(c.podNow(two), structs.ContainerGone, nil)
	if c.podNow(two) != nil {
		t.Error("the row of a pod that is gone stays")
	}
	must(c.harness, DeletePod{Caller: alice, Ident: one})
	if now := c.podNow(one); now.Desired != structs.DesiredAbsent {
		t.Errorf("desired %s", now.Desired)
	}
	c.says(c.podNow(one), structs.ContainerGone, nil)
	if c.podNow(one) != nil {
		t.Error("the row of a deleted pod stays")
	}

	// Another manifest raises both generations; a refusal is its reason.
	patch := PatchRC{Caller: alice, Ident: rc.ID, Backend: structs.BackendKubernetes, Manifest: rc.Name, Spec: c.makeRC("web", 3).Spec}
	patch.Manifest = "manifest of web"
	patch.Spec.Replicas = 2
	if same := must(c.harness, patch); same.Generation != 1 || c.object(rc.BesideID()).Generation != 1 {
		t.Error("the same manifest is a change")
	}
	patch.Manifest, patch.Spec.Replicas = "another", 3
	if other := must(c.harness, patch); other.Generation != 2 || c.object(rc.BesideID()).Generation != 2 || other.Replicas != 3 {
		t.Errorf("generations %d and %d", other.Generation, c.object(rc.BesideID()).Generation)
	}
	c.says(c.object(rc.BesideID()), structs.ContainerError, func(r *structs.ContainerReport) {
		r.Failed, r.Reason = true, "exceeded quota: pods=2"
		r.Object = &structs.ObjectReport{Code: structs.CodeForbidden}
	})
	if now := c.rcNow(rc.ID); now.Observed.Reason != "exceeded quota: pods=2" || now.Observed.Current != 2 || now.Observed.Generation != 1 {
		t.Errorf("after a refusal: %+v", now.Observed)
	}

	// It goes with its object and its last pod.
	last := structs.NewID()
	c.send(structs.StatusReport{Containers: []structs.ContainerReport{found(rc, last, "web-ccccc")}})
	must(c.harness, DeleteRC{Caller: alice, Ident: rc.ID})
	c.follow()
	o = c.object(rc.BesideID())
	if now := c.rcNow(rc.ID); now == nil || !now.Deleting || o.Desired != structs.DesiredAbsent || now.Observed.Reason == "" ||
		c.podNow(last).Desired == structs.DesiredAbsent {
		t.Fatalf("%+v, object %+v", now, o)
	}
	c.send(structs.StatusReport{Containers: []structs.ContainerReport{found(rc, structs.NewID(), "web-ddddd")}})
	c.says(o, structs.ContainerGone, nil)
	if now := c.podNow(last); c.rcNow(rc.ID) == nil || c.object(rc.BesideID()) != nil || now.Desired != structs.DesiredAbsent {
		t.Fatal("the replication controller goes before its pod, or the pod stays")
	}
	c.says(c.podNow(last), structs.ContainerGone, nil)
	if c.rcNow(rc.ID) != nil || c.store.Snapshot().Manifest(rc.BesideID()) != nil {
		t.Error("the replication controller stays")
	}
	for w := range c.store.Snapshot().InBay(c.bay.ID) {
		t.Errorf("%s is left", w.Ref())
	}
}

// TestFoundPodsAreBounded: no report makes a row that no replication controller of the host's
// bay accounts for, or more of them than it may have.
func TestFoundPodsAreBounded(t *testing.T) {
	c := newCluster(t)
	rc := must(c.harness, c.makeRC("web", 1))
	other := &cluster{steps: c.steps, hostID: c.clusterHost("", "other", nodes("n1"), nil)}
	free := found(rc, structs.NewID(), "web-1")
	other.send(structs.StatusReport{Containers: []structs.ContainerReport{free}})
	otherBay := must(c.harness, CreateBay{Caller: bob, Name: "other", COE: "kubernetes", NodeCount: 1})
	if otherBay.Status != structs.BayCreated {
		t.Fatal(otherBay.StatusReason)
	}
	other.send(structs.StatusReport{Containers: []structs.ContainerReport{free}})
	docker := c.harness.host("docker", nil)
	host := c.store.Snapshot().Host(docker)
	must(c.harness, ReportStatus{HostID: docker, StatusReport: structs.StatusReport{Registration: host.Registration, Seq: 1,
		Cluster: nodes("n1"), Containers: []structs.ContainerReport{free}}})
	if c.store.Snapshot().Host(docker).Fingerprint.Cluster != nil {
		t.Error("a Docker host has become a cluster")
	}
	bad := []func(*structs.ContainerReport){
		func(r *structs.ContainerReport) { r.ID = "x" },
		func(r *structs.ContainerReport) { r.Pod.Found.Name = "" },
		func(r *structs.ContainerReport) { r.Pod.Found.Name = strings.Repeat("x", 300) },
		func(r *structs.ContainerReport) { r.Pod.Found.Spec = nil },
		func(r *structs.ContainerReport) { r.Pod.Found.Spec.Containers = nil },
		func(r *structs.ContainerReport) { r.Pod.Found.RCID = structs.NewID() },
		func(r *structs.ContainerReport) { r.Status = structs.ContainerGone },
		func(r *structs.ContainerReport) {
			r.Pod.Found.Labels = map[string]string{"a": strings.Repeat("x", structs.MaxRowLabels)}
		},
		func(r *structs.ContainerReport) {
			r.Pod.Found.Spec.Containers[0].Image = strings.Repeat("x", structs.MaxSpec)
		},
	}
	for _, change := range bad {
		r := found(rc, structs.NewID(), "web-1")
		change(&r)
		c.send(structs.StatusReport{Containers: []structs.ContainerReport{r}})
	}
	count := func() (n int) {
		for _, bay := range []string{c.bay.ID, otherBay.ID} {
			for w := range c.store.Snapshot().InBay(bay) {
				if w.Ref().Kind == structs.WorkloadPod {
					n++
				}
			}
		}
		return n
	}
	if n := count(); n != 0 {
		t.Fatalf("%d pods were made", n)
	}
	long := found(rc, structs.NewID(), "web-1")
	long.Pod.Found.Annotations = map[string]string{"a": strings.Repeat("x", structs.MaxRowLabels)}
	c.send(structs.StatusReport{Containers: []structs.ContainerReport{long}})
	if p := c.podNow(long.ID); p == nil || p.Annotations != nil {
		t.Errorf("a pod with large annotations: %+v", p)
	}
	for n := 0; n < structs.MaxReplicas+50; {
		var batch []structs.ContainerReport
		for range 50 {
			batch = append(batch, found(rc, structs.NewID(), fmt.Sprint("web-", n)))
			n++
		}
		c.send(structs.StatusReport{Containers: batch})
	}
	if n := count(); n != structs.MaxReplicas {
		t.Errorf("%d pods were made, want %d", n, structs.MaxReplicas)
	}
}

// TestLostClusterReturns: nothing of a lost cluster is moved or started, and it is as before
// once its agent reports again.
func TestLostClusterReturns(t *testing.T) {
	c := newCluster(t)
	other := c.clusterHost("", "other", nodes("n1", "n2"), nil)
	p := must(c.harness, c.makePod("web"))
	s, rc := must(c.harness, c.makeService("web")), must(c.harness, c.makeRC("web", 1))
	c.follow()
	id := structs.NewID()
	c.send(structs.StatusReport{Containers: []structs.ContainerReport{found(rc, id, "web-1")}})
	all := func() []structs.Workload {
		return []structs.Workload{c.podNow(p.ID), c.podNow(id), c.object(s.BesideID()), c.object(rc.BesideID())}
	}
	report := func() {
		for _, w := range all() {
			c.says(w, structs.ContainerRunning, func(r *structs.ContainerReport) {
				r.Pod = &structs.PodReport{Phase: structs.PodRunning, Node: "n1"}
			})
		}
	}
	report()
	before := all()
	c.lose()
	check := func(what string) {
		t.Helper()
		for i, w := range all() {
			was, now := before[i].Place(), w.Place()
			if now.HostID != was.HostID || now.Epoch != was.Epoch || now.Generation != was.Generation || len(now.Priors) != 0 || now.Gone ||
				now.DrainStop || now.Desired != was.Desired {
				t.Errorf("%s: %s has changed: %+v", what, w.Ref(), now)
			}
			if what != "returned" && w.Seen().Status != structs.ContainerUnknown {
				t.Errorf("%s: %s is %s", what, w.Ref(), w.Seen().Status)
			}
		}
	}
	check("lost")
	must(c.harness, FenceHost{Caller: root, Ident: c.hostID})
	c.follow()
	check("fenced")
	if c.store.Snapshot().Host(other).BayID != "" {
		t.Error("another cluster was claimed")
	}

	// What is created meanwhile waits for it.
	waits := must(c.harness, c.makePod("later"))
	if waits.HostID != "" || waits.PlaceReason == "" {
		t.Errorf("a pod was placed in a lost cluster")
	}
	c.clusterHost(c.hostID, "kube", nodes("n1", "n2"), nil)
	c.follow()
	if now := c.podNow(waits.ID); now.HostID != c.hostID {
		t.Errorf("the pod still waits: %s", now.PlaceReason)
	}
	report()
	check("returned")
	for _, w := range all() {
		if w.Seen().Status != structs.ContainerRunning {
			t.Errorf("%s is %s: %s", w.Ref(), w.Seen().Status, structs.StatusReasonOf(w))
		}
	}
}

// TestAgentsOfAClusterTakeTurns: the next active agent registers as the same host, also if it
// was active before; the reports of the one before are refused.
func TestAgentsOfAClusterTakeTurns(t *testing.T) {
	c := newCluster(t)
	first := c.host()
	c.clusterHost(c.hostID, "kube", nil, nil)
	second := c.host()
	if second.Registration != first.Registration+1 || second.BayID != c.bay.ID || second.Fingerprint.Cluster.Ready != 2 {
		t.Errorf("registration %d, bay %q, cluster %+v", second.Registration, second.BayID, second.Fingerprint.Cluster)
	}
	refuse(c.harness, structs.CodeConflict, ReportStatus{HostID: c.hostID, StatusReport: structs.StatusReport{
		Registration: first.Registration, Seq: first.ReportSeq + 1}})
	again := c.clusterRegister(c.hostID, "kube", nodes("n1"), nil)
	again.Instance, again.Registration = first.Instance, first.Registration
	must(c.harness, again)
	if now := c.host(); now.Registration != 3 || now.Fingerprint.Cluster.Ready != 1 {
		t.Errorf("registration %d, cluster %+v", now.Registration, now.Fingerprint.Cluster)
	}
}

// TestDrainedClusterRunsOn: a drain keeps new workloads away, and stops or moves nothing, also
// after its deadline.
func TestDrainedClusterRunsOn(t *testing.T) {
	c := newCluster(t)
	p := must(c.harness, c.makePod("web"))
	rc := must(c.harness, c.makeRC("web", 1))
	c.follow()
	for _, w := range []structs.Workload{p, c.object(rc.BesideID())} {
		c.says(w, structs.ContainerRunning, nil)
	}
	must(c.harness, DrainHost{Caller: root, Ident: c.hostID, Draining: true, Force: true})
	c.follow()
	for _, w := range []structs.Workload{c.podNow(p.ID), c.object(rc.BesideID())} {
		if at := w.Place(); at.DrainStop || at.HostID != c.hostID || at.Generation != 1 ||
			structs.AssignmentOf(w, c.hostID).Desired != structs.DesiredRunning {
			t.Errorf("%s is touched by the drain: %+v", w.Ref(), at)
		}
		if why := structs.Movable(w); why != "it is in the cluster of that host" {
			t.Errorf("%s: %q", w.Ref(), why)
		}
	}
	waits := must(c.harness, c.makeService("later"))
	if o := c.object(waits.BesideID()); o.HostID != "" || !strings.Contains(o.PlaceReason, "draining") {
		t.Errorf("placed on %q: %s", o.HostID, o.PlaceReason)
	}
	must(c.harness, DrainHost{Caller: root, Ident: c.hostID})
	c.follow()
	if o := c.object(waits.BesideID()); o.HostID != c.hostID {
		t.Errorf("after the drain: %s", o.PlaceReason)
	}
}

// TestDeletedClusterBay: the bay's objects and pods go from the cluster, then it is free; of a
// lost cluster all is forgotten.
func TestDeletedClusterBay(t *testing.T) {
	for _, lost := range []bool{false, true} {
		t.Run(fmt.Sprint("lost ", lost), func(t *testing.T) {
			c := newCluster(t)
			p := must(c.harness, c.makePod("web"))
			s, rc := must(c.harness, c.makeService("web")), must(c.harness, c.makeRC("web", 1))
			id := structs.NewID()
			c.send(structs.StatusReport{Containers: []structs.ContainerReport{found(rc, id, "web-1")}})
			if lost {
				c.lose()
			}
			must(c.harness, DeleteBay{Caller: alice, Ident: c.bay.ID})
			c.follow()
			if !lost {
				for _, w := range []structs.Workload{c.podNow(p.ID), c.podNow(id), c.object(s.BesideID()), c.object(rc.BesideID())} {
					if w.Place().Desired != structs.DesiredAbsent {
						t.Errorf("%s is desired %s", w.Ref(), w.Place().Desired)
					}
					c.says(w, structs.ContainerGone, nil)
				}
			}
			if c.bayNow(c.bay.ID) != nil || c.host().BayID != "" || c.serviceNow(s.ID) != nil || c.rcNow(rc.ID) != nil ||
				c.store.Snapshot().Usage(c.hostID).Workloads != 0 {
				t.Errorf("the bay is %+v, the host in %q", c.bayNow(c.bay.ID), c.host().BayID)
			}
		})
	}
}

// TestForcedDeleteForgetsWhatALostClusterHas: operators and users aren't stuck with a dead
// cluster.
func TestForcedDeleteForgetsWhatALostClusterHas(t *testing.T) {
	c := newCluster(t)
	p, rc := must(c.harness, c.makePod("web")), must(c.harness, c.makeRC("web", 1))
	id := structs.NewID()
	c.send(structs.StatusReport{Containers: []structs.ContainerReport{found(rc, id, "web-1")}})
	c.lose()
	must(c.harness, DeleteRC{Caller: alice, Ident: rc.ID})
	c.follow()
	if now := c.rcNow(rc.ID); now == nil || !strings.Contains(now.Observed.Reason, "delete with force to forget it") {
		t.Fatalf("%+v", now)
	}
	must(c.harness, DeleteRC{Caller: alice, Ident: rc.ID, Force: true})
	must(c.harness, DeletePod{Caller: alice, Ident: p.ID, Force: true})
	c.follow()
	if c.rcNow(rc.ID) != nil || c.podNow(id) != nil || c.podNow(p.ID) != nil || c.object(rc.BesideID()) != nil {
		t.Error("something of the lost cluster is left")
	}
}

// TestForcedDeleteBeforeTheClusterIsLost: a delete with force forgets also if the cluster is lost
// after it.
func TestForcedDeleteBeforeTheClusterIsLost(t *testing.T) {
	c := newCluster(t)
	rc := must(c.harness, c.makeRC("web", 1))
	id := structs.NewID()
	c.send(structs.StatusReport{Containers: []structs.ContainerReport{found(rc, id, "web-1")}})
	must(c.harness, DeleteRC{Caller: alice, Ident: rc.ID, Force: true})
	c.follow()
	if c.rcNow(rc.ID) == nil || c.object(rc.BesideID()) == nil {
		t.Fatal("it is forgotten while the cluster is there")
	}
	c.lose()
	if c.rcNow(rc.ID) != nil || c.podNow(id) != nil || c.object(rc.BesideID()) != nil {
		t.Error("something of the lost cluster is left")
	}
}

// TestClusterIsBounded: a report can't make the host's row large.
func TestClusterIsBounded(t *testing.T) {
	c := newCluster(t)
	is := nodes(strings.Fields(strings.Repeat("n ", 500))...)
	is.APIAddress, is.Away = strings.Repeat("x", 1<<20), strings.Repeat("é\n", 1<<20)
	is.AwaySince = time.Now()
	is.Nodes[0].Name, is.Nodes[0].Addresses = strings.Repeat("y", 1<<20), make([]string, 1000)
	c.send(structs.StatusReport{Cluster: is})
	got := c.host().Fingerprint.Cluster
	if len(got.Nodes) != structs.MaxKubernetesNodes || got.Ready != 500 || len(got.APIAddress) > structs.MaxText || len(got.Away) > 1024 ||
		strings.Contains(got.Away, "\n") || len(got.Nodes[0].Name) > 255 || len(got.Nodes[0].Addresses) > 10 {
		t.Errorf("%d nodes, %d bytes of address, %d of the reason", len(got.Nodes), len(got.APIAddress), len(got.Away))
	}
	if reason := c.bayNow(c.bay.ID).StatusReason; len(reason) > maxReason {
		t.Errorf("the bay's reason has %d bytes", len(reason))
	}
}

// TestDockerHostsReportNothingOfClusters: what only a cluster's agent reports is dropped if a
// Docker host sends it.
func TestDockerHostsReportNothingOfClusters(t *testing.T) {
	h := newHarness(t)
	id := h.host("docker", nil)
	must(h, CreateBay{Caller: alice, Name: "bay", NodeCount: 1})
	p := h.pod("web", podSpec(1, 1))
	c := &cluster{steps: newSteps(h), hostID: id}
	c.says(p, structs.ContainerRunning, func(r *structs.ContainerReport) {
		r.Pod = &structs.PodReport{Phase: structs.PodSucceeded, Node: "n", Conditions: []structs.Condition{{Type: "Ready"}}}
		r.Object = &structs.ObjectReport{}
	})
	if now := h.podNow(p.ID); now.Observed.Status != structs.ContainerRunning || now.Observed.Phase != "" || now.Observed.Node != "" ||
		now.Observed.Conditions != nil {
		t.Errorf("observed: %+v", now.Observed)
	}
}
