package mirror

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/stackforge/magnum/manifest/kubernetes"
	"github.com/stackforge/magnum/structs"
)

const (
	clusterID = "11111111-1111-4111-8111-111111111111"
	hostID    = "22222222-2222-4222-8222-222222222222"
	bayID     = "33333333-3333-4333-8333-333333333333"
	podID     = "44444444-4444-4444-8444-444444444444"
	otherID   = "55555555-5555-4555-8555-555555555555"
	ownerID   = "66666666-6666-4666-8666-666666666666"
	project   = "p1"
	namespace = "magnum-p1"
)

// script is a Mirror with a cluster that the test plays.
type script struct {
	*testing.T
	m       *Mirror
	now     time.Time
	objects map[Key]Object // in the cluster
	version int
	work    map[string]structs.Assignment
	bay     string
	quiet   bool // watches say nothing: what happens shows only in answers

	calls   []*Call // that wait for an outcome
	reports map[string]structs.ContainerReport
	serials map[string]uint64
	said    map[string][]structs.ContainerReport
	forgot  []string
	full    int
	cluster *structs.KubernetesCluster
	wake    time.Time
}

// newScript returns a script whose cluster is empty, and was listed.
func newScript(t *testing.T) *script {
	s := unlistedScript(t)
	s.list()
	return s
}

// unlistedScript returns a script whose cluster was not listed yet.
func unlistedScript(t *testing.T) *script {
	return &script{
		T: t, now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), objects: map[Key]Object{},
		work: map[string]structs.Assignment{}, bay: bayID,
		reports: map[string]structs.ContainerReport{}, serials: map[string]uint64{}, said: map[string][]structs.ContainerReport{},
		m: New(Config{ClusterID: clusterID, HostID: hostID, Address: "https://api", Manifests: Manifests{
			Pod: kubernetes.Pod, Service: kubernetes.Service, RC: kubernetes.RC}}),
	}
}

// list has the mirror list everything that the cluster has.
func (s *script) list() {
	for _, kind := range kinds {
		var all []Object
		for key, o := range s.objects {
			if key.Kind == kind && (kind == Nodes || o.GetLabels()[LabelCluster] == clusterID) {
				all = append(all, o)
			}
		}
		s.m.Replace(kind, all, strconv.Itoa(s.version))
	}
}

// take takes assignments: all of them, or those named.
func (s *script) take(full bool, ids ...string) {
	s.takeWork(&structs.Work{Full: full, Confirmed: true}, ids...)
}

func (s *script) takeWork(w *structs.Work, ids ...string) {
	w.BayID = new(s.bay)
	for id, a := range s.work {
		if w.Full || slices.Contains(ids, id) {
			w.Assignments = append(w.Assignments, a)
		}
	}
	s.m.Take(w)
}

// pod assigns a pod.
func (s *script) pod(id, name, spec string) {
	s.work[id] = structs.Assignment{Kind: structs.WorkloadPod, ID: id, ProjectID: project, Name: name, Epoch: 1, Generation: 1,
		Desired: structs.DesiredRunning, Pod: &structs.PodAssignment{Manifest: "apiVersion: v1\nkind: Pod\nmetadata: {name: " + name +
			", labels: {app: " + name + "}}\nspec:\n" + spec}}
}

// object assigns a service or a replication controller.
func (s *script) object(kind, name, spec string) (id string) {
	id = kind + "/" + ownerID
	word := map[string]string{structs.KindService: "Service", structs.KindRC: "ReplicationController"}[kind]
	s.work[id] = structs.Assignment{Kind: structs.WorkloadObject, ID: id, ProjectID: project, Name: name, Epoch: 1, Generation: 1,
		Desired: structs.DesiredRunning, Object: &structs.ObjectAssignment{Kind: kind, OwnerID: ownerID,
			Manifest: "apiVersion: v1\nkind: " + word + "\nmetadata: {name: " + name + "}\nspec:\n" + spec}}
	return id
}

// change changes an assignment as its next generation, and has it taken.
func (s *script) change(id string, f func(a *structs.Assignment)) {
	a := s.work[id]
	a.Generation++
	if a.Pod != nil {
		a.Pod = new(*a.Pod)
	}
	if a.Object != nil {
		a.Object = new(*a.Object)
	}
	f(&a)
	s.work[id] = a
	s.take(false, id)
}

const onePod = "  containers: [{name: main, image: busybox}]\n"

// next lets the mirror decide, and returns the calls that it wants to have made.
func (s *script) next() []*Call {
	s.Helper()
	out := s.m.Next(s.now)
	for _, r := range out.Reports {
		id := r.Ref().ID
		s.reports[id], s.serials[id] = r.ContainerReport, r.Serial
		s.said[id] = append(s.said[id], r.ContainerReport)
	}
	for _, ref := range out.Forget {
		s.forgot = append(s.forgot, ref.ID)
		delete(s.reports, ref.ID)
	}
	if out.NeedFull {
		s.full++
	}
	if out.Cluster != nil {
		s.cluster = out.Cluster
	}
	s.wake = out.Wake
	s.calls = append(s.calls, out.Calls...)
	return s.calls
}

// call lets the mirror decide, and returns the one call that it wants to have made.
func (s *script) call(want string) *Call {
	s.Helper()
	s.next()
	if got := s.shown(); got != want {
		s.Fatalf("the calls are %q, want %q", got, want)
	}
	return s.calls[0]
}

// closes expects the network policy of a new namespace to be made, and makes it.
func (s *script) closes() {
	s.Helper()
	s.call("create network policy " + policyName)
	s.do()
}

// none checks that no calls are to be made.
func (s *script) none() {
	s.Helper()
	s.next()
	if got := s.shown(); got != "" {
		s.Fatalf("the calls are %q, want none", got)
	}
}

// shown describes the calls that wait.
func (s *script) shown() string {
	var all []string
	for _, c := range s.calls {
		key := KeyOf(c.Object)
		text := fmt.Sprintf("%s %s %s", c.Verb, key.Kind, key.Name)
		if c.Grace != nil {
			text += fmt.Sprintf(" grace=%d", *c.Grace)
		}
		all = append(all, text)
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// fail answers the call that waits with an error.
func (s *script) fail(err error) {
	s.Helper()
	c := s.calls[0]
	s.calls = s.calls[1:]
	s.m.Done(c, nil, err, s.now)
}

// do carries out the call that waits, as a cluster does, and answers it.
func (s *script) do() {
	s.Helper()
	c := s.calls[0]
	s.calls = s.calls[1:]
	o, err := s.carryOut(c)
	s.m.Done(c, o, err, s.now)
}

// settle carries out all calls until none are left.
func (s *script) settle() {
	s.Helper()
	for range 100 {
		if len(s.next()) == 0 {
			return
		}
		s.do()
	}
	s.Fatalf("the calls have no end: %s", s.shown())
}

func (s *script) carryOut(c *Call) (Object, error) {
	key := KeyOf(c.Object)
	is := schema.GroupResource{Resource: string(key.Kind) + "s"}
	there := s.objects[key]
	switch {
	case c.Verb == Create && there != nil:
		return nil, apierrors.NewAlreadyExists(is, key.Name)
	case c.Verb == Create:
		o := c.Object.DeepCopyObject().(Object)
		o.SetUID(types.UID(fmt.Sprintf("uid-%d", s.version+1)))
		o.SetCreationTimestamp(metav1.NewTime(s.now))
		if pod, ok := o.(*corev1.Pod); ok && pod.Spec.RestartPolicy == "" {
			pod.Spec.RestartPolicy = corev1.RestartPolicyAlways
		}
		return s.put(o), nil
	case there == nil:
		return nil, apierrors.NewNotFound(is, key.Name)
	case c.Verb == Get:
		return there, nil
	case c.Verb == Update:
		if c.Object.GetResourceVersion() != there.GetResourceVersion() || c.Object.GetUID() != there.GetUID() {
			return nil, apierrors.NewConflict(is, key.Name, fmt.Errorf("the object has been modified"))
		}
		o := c.Object.DeepCopyObject().(Object)
		keepStatus(o, there)
		o.SetCreationTimestamp(there.GetCreationTimestamp())
		return s.put(o), nil
	case c.Verb == Delete:
		if c.UID != there.GetUID() || c.Version != "" && c.Version != there.GetResourceVersion() {
			return nil, apierrors.NewConflict(is, key.Name, fmt.Errorf("the UID in the precondition does not match"))
		}
		if key.Kind != Pods || c.Grace != nil && *c.Grace == 0 {
			s.drop(key)
			return nil, nil
		}
		o := there.DeepCopyObject().(Object)
		o.SetDeletionTimestamp(new(metav1.NewTime(s.now)))
		return s.put(o), nil
	}
	return nil, nil
}

// keepStatus sets the status of an object to that of what it replaces, as a cluster does.
func keepStatus(o, was Object) {
	switch o := o.(type) {
	case *corev1.Pod:
		o.Status = was.(*corev1.Pod).Status
	case *corev1.Service:
		o.Status = was.(*corev1.Service).Status
	case *corev1.ReplicationController:
		o.Status = was.(*corev1.ReplicationController).Status
	}
}

// put has the cluster have an object.
func (s *script) put(o Object) Object {
	s.version++
	o.SetResourceVersion(strconv.Itoa(s.version))
	if o.GetUID() == "" {
		o.SetUID(types.UID(fmt.Sprintf("uid-%d", s.version)))
	}
	s.objects[KeyOf(o)] = o
	if !s.quiet && (KindOf(o) == Nodes || o.GetLabels()[LabelCluster] == clusterID) {
		s.m.See(o)
	}
	return o
}

// drop has the cluster have an object no more; with a namespace goes all that is in it.
func (s *script) drop(key Key) {
	o := s.objects[key]
	delete(s.objects, key)
	for inside := range s.objects {
		if key.Kind == Namespaces && inside.Namespace == key.Name {
			s.drop(inside)
		}
	}
	if o != nil && !s.quiet {
		s.version++
		s.m.Unsee(o)
	}
}

// alter changes an object in the cluster.
func alter[T Object](s *script, key Key, f func(T)) {
	s.Helper()
	o := s.objects[key].DeepCopyObject().(T)
	f(o)
	s.put(o)
}

func podKey(name string) Key { return Key{Pods, namespace, name} }

// runs has a pod of the cluster run, ready or not.
func (s *script) runs(name string, ready bool) {
	s.Helper()
	alter(s, podKey(name), func(pod *corev1.Pod) {
		pod.Spec.NodeName = "node1"
		pod.Status.Phase, pod.Status.PodIP, pod.Status.HostIP = corev1.PodRunning, "10.0.0.1", "192.0.2.1"
		pod.Status.StartTime = new(metav1.NewTime(s.now))
		status := corev1.ConditionFalse
		if ready {
			status = corev1.ConditionTrue
		}
		pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: status, LastTransitionTime: metav1.NewTime(s.now)}}
		began := &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(s.now)}
		pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "main", Ready: ready, Started: new(ready),
			ContainerID: "containerd://c",
			ImageID:     "sha256:i", State: corev1.ContainerState{Running: began}}}
	})
}

// node has the cluster have a node.
func (s *script) node(name string, status corev1.ConditionStatus) {
	s.put(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: corev1.NodeStatus{
		Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: status, LastTransitionTime: metav1.NewTime(s.now)}},
		Addresses:  []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.0.2.1"}, {Type: corev1.NodeHostName, Address: name}},
	}})
}

// is checks the last report of a workload: status, generation, whether it has failed, and a
// part of the reason.
func (s *script) is(id string, status structs.ContainerStatus, generation uint64, failed bool, reason string) structs.ContainerReport {
	s.Helper()
	r, ok := s.reports[id]
	if !ok {
		s.Fatalf("%s was not reported", id)
	}
	if r.Status != status || r.Generation != generation || r.Failed != failed || reason == "" && r.Reason != "" ||
		!strings.Contains(r.Reason, reason) {
		s.Fatalf("%s is %s of generation %d, failed %v, reason %q; want %s, %d, %v, %q", id, r.Status, r.Generation, r.Failed, r.Reason,
			status, generation, failed, reason)
	}
	return r
}

// taken says that a server has taken the last report of a workload.
func (s *script) taken(id string) {
	r := s.reports[id]
	s.m.Taken(r.Ref(), s.serials[id])
}
