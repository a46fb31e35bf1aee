//go:build kubernetes

package kubernetes

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/kubernetes/cluster"
	"github.com/stackforge/magnum/agent/kubernetes/mirror"
	"github.com/stackforge/magnum/internal/kubetest"
	"github.com/stackforge/magnum/structs"
)

// patience bounds waits for what must happen: the machine may be busy.
const patience = 2 * time.Minute

// rig is a Client that follows answers which the test gives, in a real cluster.
type rig struct {
	t         *testing.T
	kube      *kubetest.Cluster
	client    *Client
	owner     backend.Owner
	bay       string
	project   string
	namespace string
	index     uint64
	work      map[string]structs.Assignment

	mu       sync.Mutex
	changed  chan struct{} // closed and replaced with each report
	reports  map[string]structs.ContainerReport
	history  map[string][]structs.ContainerReport
	cluster  structs.KubernetesCluster
	clusters []structs.KubernetesCluster
	full     int // calls of NeedFull
	refuse   error
}

// newRig starts a Client. The namespace of its project goes with the test.
func newRig(t *testing.T, change ...func(*rest.Config)) *rig {
	t.Helper()
	k := kubetest.Open(t)
	conf, err := cluster.Load(k.Dir + "/admin.conf")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range change {
		c(conf)
	}
	r := &rig{
		t: t, kube: k, owner: backend.Owner{ClusterID: structs.NewID(), HostID: structs.NewID()}, bay: structs.NewID(),
		project: strings.ReplaceAll(structs.NewID(), "-", ""), work: map[string]structs.Assignment{}, changed: make(chan struct{}),
		reports: map[string]structs.ContainerReport{}, history: map[string][]structs.ContainerReport{},
	}
	r.namespace = mirror.NamespaceOf(r.project)
	api, err := cluster.New(cluster.Config{Rest: conf, Allowed: func() error {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.refuse
	}})
	if err != nil {
		t.Fatal(err)
	}
	r.client, err = New(Config{Cluster: api, Logger: hclog.New(&hclog.LoggerOptions{Level: hclog.Debug, Output: t.Output()})})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// The test's context has ended.
		err := k.Do(context.Background(), http.MethodDelete, "/api/v1/namespaces/"+r.namespace, nil, nil)
		if err != nil && !strings.Contains(err.Error(), "not found") {
			t.Errorf("delete namespace %s: %v", r.namespace, err)
		}
	})
	r.follow()
	r.take(true)
	return r
}

// follow has the client follow until the test ends or the returned function is called.
func (r *rig) follow() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		if err := r.client.Follow(ctx, r.owner, r); err != nil {
			r.t.Errorf("Follow: %v", err)
		}
	})
	stop = sync.OnceFunc(func() { cancel(); done.Wait() })
	r.t.Cleanup(stop)
	r.until("the cluster is described", func() bool { return len(r.clusters) > 0 })
	return stop
}

// take has the client take all assignments, or the ones named.
func (r *rig) take(full bool, ids ...string) {
	r.index++
	w := &structs.Work{ClusterID: r.owner.ClusterID, Index: r.index, Full: full, Confirmed: full, BayID: &r.bay}
	for id, a := range r.work {
		if full || slices.Contains(ids, id) {
			w.Assignments = append(w.Assignments, a)
		}
	}
	r.client.Take(w)
}

// pod assigns a pod and returns its ID.
func (r *rig) pod(name, spec string) string {
	id := structs.NewID()
	r.work[id] = structs.Assignment{Kind: structs.WorkloadPod, ID: id, ProjectID: r.project, Name: name, Epoch: 1, Generation: 1,
		Desired: structs.DesiredRunning, Pod: &structs.PodAssignment{Manifest: manifestOf("Pod", name, spec)}}
	r.take(false, id)
	return id
}

// object assigns a service or a replication controller, and returns its ID.
func (r *rig) object(kind, name, spec string) string {
	owner := structs.NewID()
	id := kind + "/" + owner
	word := map[string]string{structs.KindService: "Service", structs.KindRC: "ReplicationController"}[kind]
	r.work[id] = structs.Assignment{Kind: structs.WorkloadObject, ID: id, ProjectID: r.project, Name: name, Epoch: 1, Generation: 1,
		Desired: structs.DesiredRunning,
		Object:  &structs.ObjectAssignment{Kind: kind, OwnerID: owner, Manifest: manifestOf(word, name, spec)}}
	r.take(false, id)
	return id
}

// change changes an assignment, as its next generation.
func (r *rig) change(id string, f func(a *structs.Assignment)) {
	a := r.work[id]
	a.Generation++
	if a.Pod != nil {
		a.Pod = new(*a.Pod)
	}
	if a.Object != nil {
		a.Object = new(*a.Object)
	}
	f(&a)
	r.work[id] = a
	r.take(false, id)
}

func manifestOf(kind, name, spec string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: %s\nmetadata:\n  name: %s\n  labels: {app: %s}\nspec:\n%s", kind, name, name, spec)
}

// podSpec is the spec of a pod with one container of a shell command.
func podSpec(policy, command string) string {
	return fmt.Sprintf("  restartPolicy: %s\n  terminationGracePeriodSeconds: 1\n  dnsPolicy: Default\n  containers:\n"+
		"  - name: main\n    image: %s\n    imagePullPolicy: Never\n    command: [sh, -c, %q]\n", policy, kubetest.Image, command)
}

// Observe implements backend.Observer.
func (r *rig) Observe(report structs.ContainerReport, taken func()) {
	r.mu.Lock()
	id := report.Ref().ID
	r.reports[id] = report
	r.history[id] = append(r.history[id], report)
	close(r.changed)
	r.changed = make(chan struct{})
	r.mu.Unlock()
	if taken != nil {
		go taken() // a server has taken it
	}
}

// Forget implements backend.Observer.
func (r *rig) Forget(ref structs.Ref) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.reports, ref.ID)
	close(r.changed)
	r.changed = make(chan struct{})
}

// SetCluster implements backend.Observer.
func (r *rig) SetCluster(c structs.KubernetesCluster) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cluster = c
	r.clusters = append(r.clusters, c)
	close(r.changed)
	r.changed = make(chan struct{})
}

// NeedFull implements backend.Observer.
func (r *rig) NeedFull() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.full++
	close(r.changed)
	r.changed = make(chan struct{})
}

// until waits until a condition of what was reported holds. The condition is called under
// the lock.
func (r *rig) until(what string, holds func() bool) {
	r.t.Helper()
	end := time.After(patience)
	for {
		r.mu.Lock()
		ok, changed := holds(), r.changed
		r.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-end:
			r.mu.Lock()
			defer r.mu.Unlock()
			r.t.Fatalf("not so: %s; reports: %+v", what, r.reports)
		}
	}
}

// reported waits until the report of a workload fulfills a condition.
func (r *rig) reported(id, what string, holds func(o *structs.ContainerReport) bool) (found structs.ContainerReport) {
	r.t.Helper()
	r.until(what, func() bool {
		var ok bool
		found, ok = r.reports[id]
		return ok && holds(&found)
	})
	return found
}

// deleted deletes a workload, and waits until it is gone.
func (r *rig) deleted(id string) {
	r.t.Helper()
	r.change(id, func(a *structs.Assignment) { a.Desired = structs.DesiredAbsent })
	r.wasGone(id)
	delete(r.work, id)
}

// wasGone waits until a workload was reported as gone and forgotten.
func (r *rig) wasGone(id string) {
	r.t.Helper()
	r.until(id+" is gone", func() bool {
		_, there := r.reports[id]
		h := r.history[id]
		return !there && h[len(h)-1].Status == structs.ContainerGone
	})
}

func (r *rig) path(collection, name string) string {
	return strings.TrimSuffix("/api/v1/namespaces/"+r.namespace+"/"+collection+"/"+name, "/")
}

// remove deletes an object as kubectl does.
func (r *rig) remove(collection, name string) {
	r.t.Helper()
	if err := r.kube.Do(r.t.Context(), http.MethodDelete, r.path(collection, name), nil, nil); err != nil {
		r.t.Fatal(err)
	}
}

func running(o *structs.ContainerReport) bool {
	return o.Status == structs.ContainerRunning && len(o.Parts) > 0 && o.Parts[0].Ready
}

const sleeps = `trap "exit 0" TERM; while :; do sleep 1 & wait $!; done`

// TestPodLifeCycle: a pod is made, runs, is shown as the cluster has it, and is deleted.
func TestPodLifeCycle(t *testing.T) {
	r := newRig(t)
	id := r.pod("web", podSpec("Always", sleeps))
	seen := r.reported(id, "the pod runs", running)
	if seen.Generation != 1 || seen.Failed || seen.Pod.Phase != structs.PodRunning || seen.Pod.Node == "" || seen.Pod.NodeIP == "" ||
		len(seen.Addresses) != 1 || seen.StartedAt.IsZero() || len(seen.Pod.Conditions) < 4 || seen.Parts[0].EngineID == "" {
		t.Errorf("the report is %+v, pod %+v", seen, seen.Pod)
	}
	at := r.client.Locate(structs.Ref{Kind: structs.WorkloadPod, ID: id})
	if want := r.namespace + "/web/" + seen.EngineID + "/main"; at != want {
		t.Errorf("Locate: %q, want %q", at, want)
	}
	r.deleted(id)
	kubetest.Await(t, r.kube, r.path("pods", ""), "web", "is gone", func(p *corev1.Pod) bool { return p == nil })
}

// TestService: a service gets its address and node port from the cluster, and leads to the
// pods that are ready.
func TestService(t *testing.T) {
	r := newRig(t)
	service := r.object(structs.KindService, "web",
		"  type: NodePort\n  selector: {app: web}\n  ports: [{name: http, port: 80, targetPort: 8080}]\n")
	seen := r.reported(service, "the service is there", func(o *structs.ContainerReport) bool {
		return o.Status == structs.ContainerRunning && o.Object != nil && o.Object.Service.Address != ""
	})
	s := seen.Object.Service
	if len(s.Ports) != 1 || len(s.Endpoints) != 0 || seen.Generation != 1 {
		t.Fatalf("the service is %+v", seen)
	}
	nodePort := s.Ports[0].NodePort
	if want := (structs.ServicePort{Name: "http", Port: 80, TargetPort: 8080, NodePort: nodePort, Protocol: "tcp"}); s.Ports[0] != want ||
		nodePort == 0 {
		t.Errorf("the port is %+v", s.Ports[0])
	}
	pod := r.pod("web", podSpec("Always", sleeps))
	seen = r.reported(service, "the service leads to the pod", func(o *structs.ContainerReport) bool {
		e := o.Object.Service.Endpoints
		return len(e) == 1 && e[0].Ready
	})
	e := seen.Object.Service.Endpoints[0]
	if e.PodID != pod || e.Name != "web" || e.HostID != r.owner.HostID || len(e.Ports) != 1 || e.Ports[0] != 8080 ||
		seen.Object.Service.Matched != 1 {
		t.Errorf("the endpoint is %+v", seen.Object.Service)
	}
	r.change(service, func(a *structs.Assignment) {
		a.Object.Manifest = strings.ReplaceAll(a.Object.Manifest, "targetPort: 8080", "targetPort: 8081")
	})
	seen = r.reported(service, "the change is made", func(o *structs.ContainerReport) bool { return o.Generation == 2 })
	if now := seen.Object.Service; now.Address != s.Address || now.Ports[0].TargetPort != 8081 || now.Ports[0].NodePort != nodePort ||
		seen.Failed {
		t.Errorf("the changed service is %+v, was %+v (node port %d)", seen, s, nodePort)
	}
	r.deleted(service)
	r.deleted(pod)
}

// TestRC: the pods of a replication controller are found, rolled one by one when the
// template changes, and go with it.
func TestRC(t *testing.T) {
	r := newRig(t)
	spec := func(replicas int, command string) string {
		return fmt.Sprintf("  replicas: %d\n  selector: {app: web}\n  template:\n    metadata: {labels: {app: web}}\n    spec:\n%s",
			replicas, indent(podSpec("Always", command)))
	}
	rc := r.object(structs.KindRC, "web", spec(2, sleeps))
	seen := r.reported(rc, "both pods are ready", func(o *structs.ContainerReport) bool {
		return o.Object != nil && o.Object.RC.Ready == 2 && o.Object.RC.Updated == 2
	})
	if seen.Generation != 1 || seen.Object.RC.Generation != 1 || seen.Object.RC.Current != 2 || seen.Object.RC.Reason != "" {
		t.Errorf("the report is %+v, %+v", seen, seen.Object.RC)
	}
	var first []structs.ContainerReport
	r.until("both pods are found", func() bool {
		first = nil
		for _, o := range r.reports {
			if o.Pod != nil && o.Pod.Found != nil && running(&o) {
				first = append(first, o)
			}
		}
		return len(first) == 2
	})
	f := first[0].Pod.Found
	if "rc/"+f.RCID != rc || !f.Updated || !f.Spec.Cluster || f.Labels["app"] != "web" || len(f.Labels) != 1 || len(f.Annotations) != 0 ||
		len(f.Spec.Containers) != 1 || first[0].Epoch != 1 || first[0].Generation != 1 {
		t.Errorf("the pod was found as %+v", f)
	}
	// The servers make rows of them.
	for _, o := range first {
		r.work[o.ID] = structs.Assignment{Kind: structs.WorkloadPod, ID: o.ID, ProjectID: r.project, Name: o.Pod.Found.Name,
			Epoch: 1, Generation: 1, Observed: 1, Desired: structs.DesiredRunning, EngineID: o.ID,
			Pod: &structs.PodAssignment{Spec: o.Pod.Found.Spec, Found: true}}
		r.take(false, o.ID)
		r.reported(o.ID, "the found pod is a pod", func(o *structs.ContainerReport) bool { return o.Pod.Found == nil })
	}
	least := 2
	r.change(rc, func(a *structs.Assignment) {
		a.Object.Manifest = manifestOf("ReplicationController", "web", spec(3, "echo new; "+sleeps))
	})
	r.reported(rc, "all pods are of the new template", func(o *structs.ContainerReport) bool {
		if o.Object.RC.Generation == 2 && o.Object.RC.Current == 3 {
			least = min(least, o.Object.RC.Ready)
		}
		seen := o.Object.RC
		return o.Generation == 2 && seen.Generation == 2 && seen.Updated == 3 && seen.Ready == 3 && seen.Current == 3
	})
	for _, h := range r.history[rc] {
		if o := h.Object; o != nil && h.Generation == 2 {
			least = min(least, o.RC.Ready)
		}
	}
	if least < 1 {
		t.Errorf("at some time %d pods were ready", least)
	}
	for _, o := range first {
		r.wasGone(o.ID)
		delete(r.work, o.ID)
	}
	r.change(rc, func(a *structs.Assignment) {
		a.Object.Manifest = manifestOf("ReplicationController", "web", spec(0, "echo new; "+sleeps))
	})
	r.reported(rc, "no pods are left", func(o *structs.ContainerReport) bool {
		return o.Object.RC.Generation == 3 && o.Object.RC.Current == 0
	})
	r.change(rc, func(a *structs.Assignment) {
		a.Object.Manifest = manifestOf("ReplicationController", "web", spec(1, "echo new; "+sleeps))
	})
	r.reported(rc, "a pod is there again", func(o *structs.ContainerReport) bool {
		return o.Object.RC.Generation == 4 && o.Object.RC.Ready == 1
	})
	r.deleted(rc)
	there := func(o *corev1.ReplicationController) bool { return o == nil }
	kubetest.Await(t, r.kube, r.path("replicationcontrollers", ""), "web", "is gone", there)
	r.until("no pod is reported", func() bool {
		for _, o := range r.reports {
			if o.Kind == structs.WorkloadPod && o.Status != structs.ContainerGone {
				return false
			}
		}
		return true
	})
}

// indent moves a text by four columns.
func indent(text string) string {
	return "    " + strings.TrimSuffix(strings.ReplaceAll(text, "\n", "\n    "), "    ")
}
