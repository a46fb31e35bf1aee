//go:build kubernetes

package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
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
	stop      func() // ends Follow

	mu       sync.Mutex
	changed  chan struct{} // closed and replaced with each report
	reports  map[string]structs.ContainerReport
	history  map[string][]structs.ContainerReport
	cluster  structs.KubernetesCluster
	clusters []structs.KubernetesCluster
	full     int // calls of NeedFull
	refuse   error
}

// newRig starts a Client. The namespace of its project goes with the test, which runs beside
// others: all wait more than they work.
func newRig(t *testing.T, change ...func(*rest.Config)) *rig {
	t.Helper()
	t.Parallel()
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

// follow has the client follow until the test ends, or stop is called.
func (r *rig) follow() {
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		if err := r.client.Follow(ctx, r.owner, r); err != nil {
			r.t.Errorf("Follow: %v", err)
		}
	})
	r.stop = sync.OnceFunc(func() { cancel(); done.Wait() })
	r.t.Cleanup(r.stop)
	r.until("the cluster is described", func() bool { return len(r.clusters) > 0 })
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
func (r *rig) pod(name, spec string) string { return r.podOf(name, manifestOf("Pod", name, spec)) }

// podOf assigns a pod of a whole manifest.
func (r *rig) podOf(name, manifest string) string {
	id := structs.NewID()
	r.work[id] = structs.Assignment{Kind: structs.WorkloadPod, ID: id, ProjectID: r.project, Name: name, Epoch: 1, Generation: 1,
		Desired: structs.DesiredRunning, Pod: &structs.PodAssignment{Manifest: manifest}}
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
		return !there && len(h) > 0 && h[len(h)-1].Status == structs.ContainerGone
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

// TestPodEnds: exit codes, restarts and the reason of an end are those of the cluster.
func TestPodEnds(t *testing.T) {
	r := newRig(t)
	done := r.pod("done", podSpec("Never", "exit 0"))
	failed := r.pod("failed", podSpec("Never", "exit 3"))
	crash := r.pod("crash", podSpec("Always", "exit 4"))
	killed := r.pod("killed", podSpec("Never", "head -c 64m /dev/zero | tail")+"    resources: {limits: {memory: 16Mi}}\n")
	ended := func(o *structs.ContainerReport) bool {
		return o.Status == structs.ContainerStopped && len(o.Parts) == 1
	}
	for id, want := range map[string]struct {
		phase  structs.PodPhase
		code   int
		reason string
	}{
		done:   {structs.PodSucceeded, 0, structs.ReasonCompleted},
		failed: {structs.PodFailed, 3, structs.ReasonError},
		killed: {structs.PodFailed, 137, structs.ReasonOOMKilled},
	} {
		seen := r.reported(id, "the pod has ended", ended)
		s := seen.Parts[0].State
		if seen.Pod.Phase != want.phase || s.ExitCode == nil || *s.ExitCode != want.code || s.Reason != want.reason ||
			seen.FinishedAt.IsZero() {
			t.Errorf("%s: phase %s, state %+v; want %+v", r.work[id].Name, seen.Pod.Phase, s, want)
		}
	}
	seen := r.reported(crash, "the pod is started again", func(o *structs.ContainerReport) bool {
		return o.RestartCount > 0 && o.Parts[0].State.Reason == structs.ReasonCrashLoop
	})
	if last := seen.Parts[0].Last; seen.Status != structs.ContainerRunning || last.ExitCode == nil || *last.ExitCode != 4 {
		t.Errorf("the report is %+v", seen)
	}
	for id := range r.work {
		r.deleted(id)
	}
}

// TestBarePodIsMadeAgain: kubectl deletes a pod; it is made again if its restart policy says so.
func TestBarePodIsMadeAgain(t *testing.T) {
	r := newRig(t)
	always, never := r.pod("always", podSpec("Always", sleeps)), r.pod("never", podSpec("Never", sleeps))
	first := r.reported(always, "it runs", running)
	r.reported(never, "it runs", running)
	r.remove("pods", "always")
	r.remove("pods", "never")
	r.reported(always, "it runs again", func(o *structs.ContainerReport) bool { return running(o) && o.EngineID != first.EngineID })
	r.until("the other one is gone", func() bool {
		o := r.history[never][len(r.history[never])-1]
		return o.Status == structs.ContainerGone && strings.Contains(o.Reason, "restartPolicy is Never")
	})
	r.until("the first one was shown", func() bool {
		return slices.ContainsFunc(r.history[always], func(o structs.ContainerReport) bool {
			return strings.Contains(o.Reason, "deleted in the cluster")
		})
	})
	r.deleted(always)
}

// TestRefusals: what the cluster doesn't want is told in its words, and nothing of others is
// touched.
func TestRefusals(t *testing.T) {
	r := newRig(t)
	first := r.pod("first", podSpec("Always", sleeps)) // makes the namespace
	r.reported(first, "it runs", running)
	foreign := map[string]any{"apiVersion": "v1", "kind": "Service", "metadata": map[string]any{"name": "taken"},
		"spec": map[string]any{"ports": []any{map[string]any{"port": 80}}}}
	quota := map[string]any{"apiVersion": "v1", "kind": "ResourceQuota", "metadata": map[string]any{"name": "small"},
		"spec": map[string]any{"hard": map[string]any{"services": "1"}}}
	var made corev1.Service
	if err := r.kube.Do(t.Context(), http.MethodPost, r.path("services", ""), foreign, &made); err != nil {
		t.Fatal(err)
	}
	taken := r.object(structs.KindService, "taken", "  ports: [{port: 80}]\n")
	seen := r.reported(taken, "the name is taken", func(o *structs.ContainerReport) bool { return o.Failed })
	if seen.Status != structs.ContainerError || seen.Generation != 1 || seen.Object.Code != structs.CodeConflict ||
		!strings.Contains(seen.Reason, "is not magnum's") {
		t.Errorf("the report is %+v", seen)
	}
	if err := r.kube.Do(t.Context(), http.MethodPost, r.path("resourcequotas", ""), quota, nil); err != nil {
		t.Fatal(err)
	}
	type resourceQuota = corev1.ResourceQuota
	kubetest.Await(t, r.kube, r.path("resourcequotas", ""), "small", "counts", func(q *resourceQuota) bool {
		if q == nil {
			return false
		}
		used := q.Status.Used[corev1.ResourceServices]
		return !used.IsZero()
	})
	more := r.object(structs.KindService, "more", "  ports: [{port: 80}]\n")
	seen = r.reported(more, "the quota is full", func(o *structs.ContainerReport) bool { return o.Failed })
	const want = `services "more" is forbidden: exceeded quota: small, requested: services=1, used: services=1, limited: services=1`
	if seen.Reason != want || seen.Object.Code != structs.CodeForbidden {
		t.Errorf("the reason is %q, want %q", seen.Reason, want)
	}
	privileged := r.pod("privileged", podSpec("Always", sleeps)+"    securityContext: {privileged: true}\n")
	seen = r.reported(privileged, "it is refused", func(o *structs.ContainerReport) bool { return o.Failed })
	if !strings.Contains(seen.Reason, `violates PodSecurity "baseline:latest": privileged`) || seen.Pod.Code != structs.CodeForbidden {
		t.Errorf("the report is %+v", seen)
	}
	r.deleted(taken)
	var now corev1.Service
	if err := r.kube.Do(t.Context(), http.MethodGet, r.path("services", "taken"), nil, &now); err != nil || now.UID != made.UID ||
		len(now.Labels) > 0 {
		t.Errorf("the foreign service is %+v, %v", now.ObjectMeta, err)
	}
	r.remove("services", "taken") // makes room, which nobody tells
	r.reported(more, "it is made", func(o *structs.ContainerReport) bool { return o.Status == structs.ContainerRunning && !o.Failed })
}

// relay leads connections to the API server, and can be cut.
type relay struct {
	net.Listener
	to    string
	mu    sync.Mutex
	cut   bool
	conns map[net.Conn]bool
}

func newRelay(t *testing.T, to string) *relay {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{Listener: l, to: to, conns: map[net.Conn]bool{}}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { r.serve(in) })
		}
	})
	t.Cleanup(func() { l.Close(); r.set(true); all.Wait() })
	return r
}

// serve leads one connection.
func (r *relay) serve(in net.Conn) {
	defer in.Close()
	out, err := net.Dial("tcp", r.to)
	if err != nil {
		return
	}
	defer out.Close()
	r.mu.Lock()
	if r.cut {
		r.mu.Unlock()
		return
	}
	r.conns[in], r.conns[out] = true, true
	r.mu.Unlock()
	var both sync.WaitGroup
	for _, pair := range [][2]net.Conn{{in, out}, {out, in}} {
		both.Go(func() {
			_, _ = io.Copy(pair[0], pair[1]) // until either side ends
			pair[0].Close()
			pair[1].Close()
		})
	}
	both.Wait()
	r.mu.Lock()
	delete(r.conns, in)
	delete(r.conns, out)
	r.mu.Unlock()
}

// set cuts all connections and refuses new ones, or takes them again.
func (r *relay) set(cut bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cut = cut
	for c := range r.conns {
		c.Close()
	}
}

// TestAPIAway: while the API server is away, the last known state is shown with its age, and
// what waits says why. All of it is true soon after the API server is back.
func TestAPIAway(t *testing.T) {
	var way *relay
	r := newRig(t, func(conf *rest.Config) {
		u, err := url.Parse(conf.Host)
		if err != nil {
			t.Fatal(err)
		}
		way = newRelay(t, u.Host)
		conf.TLSClientConfig.ServerName = u.Hostname()
		conf.Host = "https://" + way.Addr().String()
	})
	id := r.pod("web", podSpec("Never", sleeps))
	r.reported(id, "it runs", running)
	way.set(true)
	r.until("it is away", func() bool { return !r.cluster.AwaySince.IsZero() && r.cluster.Away != "" && r.cluster.Ready > 0 })
	r.mu.Lock()
	said := len(r.history[id])
	r.mu.Unlock()
	late := r.pod("late", podSpec("Always", sleeps))
	r.reported(late, "it waits", func(o *structs.ContainerReport) bool {
		return o.Status == structs.ContainerCreating && strings.Contains(o.Reason, "API, which does not answer")
	})
	r.remove("pods", "web") // beside the relay
	kubetest.Await(t, r.kube, r.path("pods", ""), "web", "is gone", func(p *corev1.Pod) bool { return p == nil })
	r.mu.Lock()
	if len(r.history[id]) != said {
		t.Errorf("reported while the API is away: %+v", r.history[id][said:])
	}
	r.mu.Unlock()
	way.set(false)
	r.until("it is back", func() bool { return r.cluster.AwaySince.IsZero() })
	r.until("the pod is gone", func() bool {
		h := r.history[id]
		return h[len(h)-1].Status == structs.ContainerGone
	})
	r.reported(late, "it runs", running)
}

// TestLeaseIsOver: an agent that may not write writes nothing, and does what it has to once
// it may again.
func TestLeaseIsOver(t *testing.T) {
	r := newRig(t)
	r.mu.Lock()
	r.refuse = errors.New("another agent is active")
	r.mu.Unlock()
	id := r.pod("web", podSpec("Always", sleeps))
	r.reported(id, "it is not made", func(o *structs.ContainerReport) bool { return o.Status == structs.ContainerCreating && !o.Failed })
	if err := r.kube.Do(t.Context(), http.MethodGet, "/api/v1/namespaces/"+r.namespace, nil, nil); err == nil {
		t.Error("the namespace was made")
	}
	r.mu.Lock()
	r.refuse = nil
	r.mu.Unlock()
	r.reported(id, "it runs", running)
}

// TestFingerprint: the host is the cluster.
func TestFingerprint(t *testing.T) {
	r := newRig(t)
	var system corev1.Namespace
	if err := r.kube.Do(t.Context(), http.MethodGet, "/api/v1/namespaces/kube-system", nil, &system); err != nil {
		t.Fatal(err)
	}
	f, err := r.client.Fingerprint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if f.Backend != structs.BackendKubernetes || f.Engine.ID != string(system.UID) || f.Cores < 2 || f.Memory == 0 || f.Cluster == nil ||
		len(f.Cluster.Nodes) != 2 || f.Cluster.Ready != 2 || f.Cluster.APIAddress != r.kube.URL || len(f.Cluster.Nodes[0].Addresses) == 0 ||
		!strings.HasPrefix(f.EngineVersion, "v1.") {
		t.Errorf("the fingerprint is %+v, cluster %+v", f, f.Cluster)
	}
}

// TestAnotherAgent: an agent that becomes the active one takes what it finds for what it is.
// What the servers no longer name goes, and so does the namespace with its bay.
func TestAnotherAgent(t *testing.T) {
	r := newRig(t)
	kept, dropped := r.pod("kept", podSpec("Never", sleeps)), r.pod("dropped", podSpec("Never", sleeps))
	rc := r.object(structs.KindRC, "web", "  replicas: 1\n  selector: {app: web}\n  template:\n"+
		"    metadata: {labels: {app: web}}\n    spec:\n"+indent(podSpec("Always", sleeps)))
	first := r.reported(kept, "it runs", running)
	r.reported(dropped, "it runs", running)
	r.reported(rc, "its pod is ready", func(o *structs.ContainerReport) bool { return o.Object != nil && o.Object.RC.Ready == 1 })
	r.stop()
	r.mu.Lock()
	clear(r.reports)
	clear(r.history)
	r.clusters = nil
	r.mu.Unlock()
	for id, a := range r.work {
		a.Observed, a.EngineID = 1, "known"
		r.work[id] = a
	}
	delete(r.work, dropped)
	r.follow()
	r.take(true)
	seen := r.reported(kept, "it runs", running)
	if seen.EngineID != first.EngineID || !seen.StartedAt.Equal(first.StartedAt) || seen.Generation != 1 || len(r.history[kept]) != 1 {
		t.Errorf("the other agent reports %+v, the first one has %+v", r.history[kept], first)
	}
	// The lists may have come after the answer.
	r.until("what is too much goes, or is asked for", func() bool { return r.full > 0 || len(r.reports) > 0 })
	r.take(true)
	kubetest.Await(t, r.kube, r.path("pods", ""), "dropped", "is gone", func(p *corev1.Pod) bool { return p == nil })

	r.work, r.bay = map[string]structs.Assignment{}, structs.NewID()
	r.take(true)
	kubetest.Await(t, r.kube, "/api/v1/namespaces", r.namespace, "is gone", func(n *corev1.Namespace) bool { return n == nil })
}
