package mirror

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/stackforge/magnum/structs"
)

// TestUpdate: an object is changed when its manifest has changed, and only then. What the
// cluster has set stays, and what the manifest no longer has goes.
func TestUpdate(t *testing.T) {
	s := newScript(t)
	id := s.object(structs.KindService, "web", "  type: NodePort\n  selector: {app: web}\n  externalIPs: [192.0.2.9]\n"+
		"  ports: [{name: http, port: 80}]\n")
	a := s.work[id]
	a.Object.Manifest = strings.Replace(a.Object.Manifest, "{name: web}",
		"{name: web, labels: {old: x, app: web}, annotations: {note: x}}", 1)
	s.work[id] = a
	s.take(true)
	s.settle()
	key := Key{Services, namespace, "web"}
	alter(s, key, func(o *corev1.Service) {
		o.Spec.ClusterIP, o.Spec.Ports[0].NodePort, o.Spec.Ports[0].Protocol = "10.96.0.7", 30080, corev1.ProtocolTCP
		o.Labels["somebody"], o.Annotations["else"] = "x", "x"
	})
	s.none()
	s.is(id, structs.ContainerRunning, 1, false, "")
	s.change(id, func(*structs.Assignment) {}) // the same manifest
	s.none()
	s.is(id, structs.ContainerRunning, 2, false, "")
	s.change(id, func(a *structs.Assignment) {
		a.Object.Manifest = strings.NewReplacer("old: x, app: web", "app: other", "port: 80", "port: 80, targetPort: 8080",
			"  externalIPs: [192.0.2.9]\n", "").Replace(a.Object.Manifest)
	})
	c := s.call("update service web").Object.(*corev1.Service)
	s.is(id, structs.ContainerRunning, 2, false, "")
	there := s.objects[key]
	if c.UID != there.GetUID() || c.ResourceVersion != there.GetResourceVersion() {
		t.Errorf("the update is of %s, version %s", c.UID, c.ResourceVersion)
	}
	if c.Spec.ClusterIP != "10.96.0.7" || c.Spec.Ports[0].NodePort != 30080 || c.Spec.Ports[0].TargetPort.IntValue() != 8080 ||
		c.Spec.ExternalIPs != nil || c.Spec.Type != corev1.ServiceTypeNodePort {
		t.Errorf("the service becomes %+v", c.Spec)
	}
	if want := map[string]string{"app": "other", "somebody": "x"}; !reflect.DeepEqual(users(c.Labels), want) {
		t.Errorf("the labels are %v", c.Labels)
	}
	if c.Annotations["note"] != "x" || c.Annotations["else"] != "x" || c.Annotations[annotationGeneration] != "3" {
		t.Errorf("the annotations are %v", c.Annotations)
	}
	s.do()
	s.none()
	s.is(id, structs.ContainerRunning, 3, false, "")
}

// TestUpdateMeetsAnother: somebody has changed the object meanwhile, so it is read again.
func TestUpdateMeetsAnother(t *testing.T) {
	s := startPod(t, onePod)
	s.change(podID, func(a *structs.Assignment) {
		a.Pod.Manifest = strings.Replace(a.Pod.Manifest, "busybox", "busybox:2", 1)
	})
	s.call("update pod web")
	s.quiet = true
	alter(s, podKey("web"), func(pod *corev1.Pod) { pod.Annotations["cni"] = "x" })
	s.do()
	s.call("get pod web")
	s.do()
	c := s.call("update pod web").Object.(*corev1.Pod)
	if c.Annotations["cni"] != "x" || c.Spec.Containers[0].Image != "busybox:2" {
		t.Errorf("the update is %+v", c)
	}
	s.do()
	s.none()
	s.is(podID, structs.ContainerRunning, 2, false, "")
}

// TestRefusedUpdate: the pod runs on, and the generation has failed.
func TestRefusedUpdate(t *testing.T) {
	s := startPod(t, onePod)
	s.change(podID, func(a *structs.Assignment) {
		a.Pod.Manifest = strings.Replace(a.Pod.Manifest, "busybox", "x, command: [sleep]", 1)
	})
	c := s.call("update pod web").Object.(*corev1.Pod)
	if !slices.Equal(c.Spec.Containers[0].Command, []string{"sleep"}) {
		t.Errorf("the update has not what the manifest says: %+v", c.Spec)
	}
	s.fail(forbidden("pod updates may not change fields other than `spec.containers[*].image`"))
	s.none()
	s.is(podID, structs.ContainerRunning, 2, true, "pod updates may not change fields other than")
	if r := s.reports[podID]; r.Pod.Phase != structs.PodRunning || len(r.Parts) != 1 {
		t.Errorf("the report is %+v", r)
	}
	s.change(podID, func(a *structs.Assignment) {
		a.Pod.Manifest = strings.Replace(a.Pod.Manifest, "x, command: [sleep]", "busybox", 1)
	})
	s.none()
	s.is(podID, structs.ContainerRunning, 3, false, "")
}

// TestVanishedServiceIsMadeAgain: it is an object that is kept.
func TestVanishedServiceIsMadeAgain(t *testing.T) {
	s := newScript(t)
	id := s.object(structs.KindService, "web", "  ports: [{port: 80}]\n")
	s.take(true)
	s.settle()
	s.drop(Key{Services, namespace, "web"})
	s.settle()
	s.is(id, structs.ContainerRunning, 1, false, "")
	if s.objects[Key{Services, namespace, "web"}] == nil {
		t.Error("there is no service")
	}
	s.change(id, func(a *structs.Assignment) { a.Desired = structs.DesiredAbsent })
	s.settle()
	s.is(id, structs.ContainerGone, 2, false, "")
}

func TestServiceReport(t *testing.T) {
	s := startPod(t, onePod)
	id := s.object(structs.KindService, "web", "  selector: {app: web}\n"+
		"  ports: [{name: b, port: 81, targetPort: web}, {name: a, port: 80, protocol: UDP}]\n")
	s.take(false, id)
	s.settle()
	key := Key{Services, namespace, "web"}
	alter(s, key, func(o *corev1.Service) {
		o.Spec.ClusterIP, o.Spec.Ports[0].NodePort = "10.96.0.7", 30081
		o.Spec.Ports[0].Protocol, o.Spec.IPFamilies = corev1.ProtocolTCP, []corev1.IPFamily{corev1.IPv4Protocol}
	})
	uid := s.objects[podKey("web")].GetUID()
	slice := func(name string, family discoveryv1.AddressType, address string, ready bool) {
		s.put(&discoveryv1.EndpointSlice{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name,
				Labels: map[string]string{LabelCluster: clusterID, labelService: "web"}},
			AddressType: family,
			Ports: []discoveryv1.EndpointPort{{Name: new("b"), Port: new(int32(8081)), Protocol: new(corev1.ProtocolTCP)},
				{Name: new("a"), Port: new(int32(80)), Protocol: new(corev1.ProtocolTCP)}}, // another protocol
			Endpoints: []discoveryv1.Endpoint{{Addresses: []string{address}, Conditions: discoveryv1.EndpointConditions{Ready: &ready},
				TargetRef: &corev1.ObjectReference{Kind: "Pod", Name: "web", UID: uid}}},
		})
	}
	slice("web-1", discoveryv1.AddressTypeIPv4, "10.0.0.1", false)
	slice("web-6", discoveryv1.AddressTypeIPv6, "fd00::1", true)
	s.none()
	got := s.is(id, structs.ContainerRunning, 1, false, "").Object.Service
	want := &structs.ServiceReport{Address: "10.96.0.7", Matched: 1,
		Ports: []structs.ServicePort{{Name: "b", Port: 81, TargetName: "web", NodePort: 30081, Protocol: "tcp"},
			{Name: "a", Port: 80, Protocol: "udp"}},
		Endpoints: []structs.Endpoint{{PodID: podID, Name: "web", HostID: hostID, Address: "10.0.0.1", Ports: []int{8081, 0}}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the service is %+v, want %+v", got, want)
	}
	slice("web-1", discoveryv1.AddressTypeIPv4, "10.0.0.1", true)
	s.none()
	if got := s.reports[id].Object.Service; !got.Endpoints[0].Ready {
		t.Errorf("the service is %+v", got)
	}
	s.drop(Key{Slices, namespace, "web-1"})
	alter(s, podKey("web"), func(pod *corev1.Pod) { pod.Labels["app"] = "other" })
	s.none()
	if got := s.reports[id].Object.Service; len(got.Endpoints) != 0 || got.Matched != 0 {
		t.Errorf("the service is %+v", got)
	}
}

const rcSpec = "  replicas: %d\n  template:\n    metadata: {labels: {app: web}, annotations: {note: x}}\n    spec:\n" +
	"      containers: [{name: main, image: %q}]\n"

// controller plays the cluster's replication controller: it makes pods and deletes those that
// are too many, as the cluster's does.
func (s *script) controller() {
	s.Helper()
	rc := s.objects[Key{RCs, namespace, "web"}].(*corev1.ReplicationController)
	var live []*corev1.Pod
	ready := 0
	for _, o := range s.objects {
		if pod, ok := o.(*corev1.Pod); ok && pod.DeletionTimestamp == nil && metav1.IsControlledBy(pod, rc) {
			live = append(live, pod)
			if podReady(pod) {
				ready++
			}
		}
	}
	slices.SortFunc(live, func(a, b *corev1.Pod) int { return strings.Compare(b.Name, a.Name) })
	for ; len(live) > replicas(rc); live = live[1:] {
		s.drop(KeyOf(live[0]))
	}
	for len(live) < replicas(rc) {
		pod := &corev1.Pod{ObjectMeta: *rc.Spec.Template.ObjectMeta.DeepCopy(), Spec: *rc.Spec.Template.Spec.DeepCopy()}
		pod.Namespace, pod.Name, pod.CreationTimestamp = namespace, fmt.Sprintf("web-%03d", s.version), metav1.NewTime(s.now)
		kind := corev1.SchemeGroupVersion.WithKind("ReplicationController")
		pod.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(rc, kind)}
		pod.Spec.RestartPolicy, pod.Status.Phase = corev1.RestartPolicyAlways, corev1.PodPending
		live = append(live, s.put(pod).(*corev1.Pod))
	}
	alter(s, KeyOf(rc), func(rc *corev1.ReplicationController) {
		rc.Status.ObservedGeneration, rc.Status.Replicas, rc.Status.ReadyReplicas = rc.Generation, int32(len(live)), int32(ready)
	})
}

// rcPods returns the pods that are there and not about to go, by name, with a + for those of
// the present template and a * for those that are ready.
func (s *script) rcPods() (shown []string) {
	rc := s.objects[Key{RCs, namespace, "web"}].(*corev1.ReplicationController)
	for key, o := range s.objects {
		if pod, ok := o.(*corev1.Pod); ok && pod.DeletionTimestamp == nil {
			text := key.Name
			if present(pod, rc) {
				text += "+"
			}
			if podReady(pod) {
				text += "*"
			}
			shown = append(shown, text)
		}
	}
	slices.Sort(shown)
	return shown
}

// ready has all pods of the replication controller that are there get ready.
func (s *script) ready() {
	s.Helper()
	for key, o := range s.objects {
		if pod, ok := o.(*corev1.Pod); ok && pod.DeletionTimestamp == nil && !podReady(pod) {
			s.runs(key.Name, true)
		}
	}
	s.controller()
}

// startRC makes a replication controller whose pods are ready.
func startRC(t *testing.T, replicas int) (*script, string) {
	s := newScript(t)
	s.node("node1", corev1.ConditionTrue)
	id := s.object(structs.KindRC, "web", fmt.Sprintf(rcSpec, replicas, "busybox"))
	s.take(true)
	s.settle()
	s.controller()
	s.ready()
	s.none()
	return s, id
}

func TestRCIsMade(t *testing.T) {
	s, id := startRC(t, 2)
	rc := s.objects[Key{RCs, namespace, "web"}].(*corev1.ReplicationController)
	if want := map[string]string{"app": "web"}; !reflect.DeepEqual(rc.Spec.Selector, want) {
		t.Errorf("the selector is %v, want %v", rc.Spec.Selector, want)
	}
	tmpl := rc.Spec.Template
	if tmpl.Labels[LabelOwner] != ownerID || tmpl.Labels[LabelCluster] != clusterID || tmpl.Labels[LabelID] != "" ||
		tmpl.Labels["app"] != "web" ||
		tmpl.Annotations[annotationTemplate] == "" || rc.Labels[LabelID] != ownerID {
		t.Errorf("the template is %+v", tmpl.ObjectMeta)
	}
	got := s.is(id, structs.ContainerRunning, 1, false, "").Object.RC
	if want := (structs.RCObserved{Generation: 1, Current: 2, Ready: 2, Updated: 2}); got.RCObserved != want {
		t.Errorf("the counts are %+v, want %+v", got.RCObserved, want)
	}
}

// TestRCIsScaledByOthers: the number of replicas that the manifest gives is put back; one that it
// doesn't give is left to others.
func TestRCIsScaledByOthers(t *testing.T) {
	s, id := startRC(t, 2)
	key := Key{RCs, namespace, "web"}
	scale := func() {
		alter(s, key, func(rc *corev1.ReplicationController) { rc.Spec.Replicas = new(int32(4)) })
	}
	scale()
	s.call("update rc web")
	s.do()
	s.none()
	if got := s.objects[key].(*corev1.ReplicationController); replicas(got) != 2 {
		t.Errorf("there are %d replicas, want 2", replicas(got))
	}
	s.change(id, func(a *structs.Assignment) {
		a.Object.Manifest = strings.Replace(a.Object.Manifest, "replicas: 2", "minReadySeconds: 1", 1)
	})
	s.call("update rc web")
	s.do()
	scale()
	s.none()
}

// TestRCReason: what the cluster says of a quota comes back word for word, and otherwise what
// the first pod lacks, as on a Docker bay.
func TestRCReason(t *testing.T) {
	s, id := startRC(t, 1)
	var key Key
	for k := range s.objects {
		if k.Kind == Pods {
			key = k
		}
	}
	waiting := func(reason, message string) func(*corev1.PodStatus) {
		return func(status *corev1.PodStatus) {
			status.ContainerStatuses[0].State = corev1.ContainerState{
				Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}
		}
	}
	for _, test := range []struct {
		name   string
		change func(*corev1.PodStatus)
		want   string
	}{
		{"image", waiting("ImagePullBackOff", `Back-off pulling image "nix"`),
			`container main is waiting: ImagePullBackOff: Back-off pulling image "nix"`},
		{"crash", waiting("CrashLoopBackOff", "back-off 10s restarting failed container"), "container main is waiting: CrashLoopBackOff"},
		{"first start", waiting("ContainerCreating", ""), "container main is waiting: ContainerCreating"},
		{"unknown", func(status *corev1.PodStatus) { status.ContainerStatuses = nil }, "container main has not been started yet"},
		{"not ready", func(*corev1.PodStatus) {}, "container main runs and is not ready"},
		{"no node", func(status *corev1.PodStatus) {
			status.Phase, status.ContainerStatuses = corev1.PodPending, nil
			status.Conditions = append(status.Conditions, corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionFalse,
				Reason: "Unschedulable", Message: "0/2 nodes are available"})
		}, "Unschedulable: 0/2 nodes are available"},
		{"gate", func(status *corev1.PodStatus) {
			status.ContainerStatuses[0].Ready = true
			status.Conditions = []corev1.PodCondition{{Type: corev1.ContainersReady, Status: corev1.ConditionTrue},
				{Type: corev1.PodReady, Status: corev1.ConditionFalse, Reason: "ReadinessGatesNotReady", Message: "a gate is shut"}}
		}, "ReadinessGatesNotReady: a gate is shut"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s.runs(key.Name, false)
			alter(s, key, func(pod *corev1.Pod) { test.change(&pod.Status) })
			s.none()
			want := "waits for pod " + key.Name + " to be ready: " + test.want
			if got := s.reports[id].Object.RC.Reason; got != want {
				t.Errorf("the reason is %q, want %q", got, want)
			}
		})
	}
	const quota = `pods "web-x" is forbidden: exceeded quota: small`
	alter(s, Key{RCs, namespace, "web"}, func(rc *corev1.ReplicationController) {
		rc.Status.Conditions = []corev1.ReplicationControllerCondition{{Type: corev1.ReplicationControllerReplicaFailure,
			Status: corev1.ConditionTrue, Reason: "FailedCreate", Message: quota}}
	})
	s.none()
	if got := s.reports[id].Object.RC.Reason; got != quota {
		t.Errorf("the reason is %q, want %q", got, quota)
	}
}

// TestRCReasonOfSidecar: an init container that goes on beside the others is no reason once it has
// started.
func TestRCReasonOfSidecar(t *testing.T) {
	running, yes := corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}, true
	pod := &corev1.Pod{
		Spec: corev1.PodSpec{InitContainers: []corev1.Container{{Name: "log"}}, Containers: []corev1.Container{{Name: "main"}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning,
			InitContainerStatuses: []corev1.ContainerStatus{{Name: "log", State: running}},
			ContainerStatuses:     []corev1.ContainerStatus{{Name: "main", State: running}}}}
	pod.Name = "web-1"
	for _, want := range []string{"init container log runs and is not ready", "container main runs and is not ready"} {
		if got := rcReason(1, 1, 0, pod, ""); got != "waits for pod web-1 to be ready: "+want {
			t.Errorf("the reason is %q, want %q", got, want)
		}
		pod.Status.InitContainerStatuses[0].Started = &yes
	}
}

// TestRCRolls: one old pod goes when all are ready, and the next one when the new one is.
func TestRCRolls(t *testing.T) {
	s, id := startRC(t, 3)
	old := s.rcPods()
	s.change(id, func(a *structs.Assignment) {
		a.Object.Manifest = strings.Replace(a.Object.Manifest, "busybox", "busybox:2", 1)
	})
	s.call("update rc web")
	s.do()
	for i := range old {
		s.controller()
		c := s.next()
		if len(c) != 1 || c[0].Verb != Delete || c[0].UID == "" || !strings.HasPrefix(old[i], c[0].Object.GetName()) {
			t.Fatalf("step %d: the calls are %q, want to delete %s", i, s.shown(), old[i])
		}
		s.do()
		s.none()
		s.controller() // makes a new one, which isn't ready
		s.none()
		got := s.reports[id].Object.RC
		if got.Generation != 2 || got.Updated != i+1 || got.Ready != 2 || got.Current != 3 {
			t.Errorf("step %d: the counts are %+v", i, got)
		}
		rolls := ""
		if i+1 < len(old) {
			rolls = fmt.Sprintf("rolling update: %d of 3 pods are of the new template; ", i+1)
		}
		if !strings.HasPrefix(got.Reason, rolls+"waits for pod web-") {
			t.Errorf("step %d: the reason is %q", i, got.Reason)
		}
		s.ready()
	}
	s.none()
	s.is(id, structs.ContainerRunning, 2, false, "")
	if got := s.rcPods(); len(got) != 3 || !strings.HasSuffix(got[0], "+*") {
		t.Errorf("the pods are %v", got)
	}
}

// TestRCRollsBrokenPodsAtOnce: pods of an old template that never get ready don't block the
// one that mends it.
func TestRCRollsBrokenPodsAtOnce(t *testing.T) {
	s, id := startRC(t, 2)
	for key := range s.objects {
		if key.Kind == Pods {
			s.runs(key.Name, false)
		}
	}
	s.controller()
	s.change(id, func(a *structs.Assignment) {
		a.Object.Manifest = strings.Replace(a.Object.Manifest, "busybox", "busybox:2", 1)
	})
	s.settle() // the update, and both old pods
	for key, o := range s.objects {
		if key.Kind == Pods && o.GetDeletionTimestamp() == nil {
			t.Errorf("pod %s is not deleted", key.Name)
		}
	}
}

// TestRCRollsWithOtherReplicas: the number changes with the template.
func TestRCRollsWithOtherReplicas(t *testing.T) {
	for _, want := range []int{0, 1, 5} {
		s, id := startRC(t, 3)
		s.change(id, func(a *structs.Assignment) {
			a.Object.Manifest = strings.NewReplacer("busybox", "busybox:2", "replicas: 3", fmt.Sprintf("replicas: %d", want)).
				Replace(a.Object.Manifest)
		})
		s.call("update rc web")
		s.do()
		s.none() // not before the cluster has seen it
		for range 30 {
			s.controller()
			if len(s.next()) > 0 {
				s.do()
			} else {
				s.ready()
			}
			n := 0
			for _, pod := range s.rcPods() {
				if strings.HasSuffix(pod, "*") {
					n++
				}
			}
			if n < min(want, 3)-1 {
				t.Fatalf("of %d only %v are ready", want, s.rcPods())
			}
		}
		s.none()
		got := s.is(id, structs.ContainerRunning, 2, false, "").Object.RC
		if want := (structs.RCObserved{Generation: 2, Current: want, Ready: want, Updated: want}); got.RCObserved != want {
			t.Errorf("the counts are %+v, want %+v", got.RCObserved, want)
		}
	}
}

// TestRCHonoursMinReadySeconds: a pod counts once it has been ready for so long.
func TestRCHonoursMinReadySeconds(t *testing.T) {
	s, id := startRC(t, 1)
	alter(s, Key{RCs, namespace, "web"}, func(rc *corev1.ReplicationController) { rc.Spec.MinReadySeconds = 10 })
	s.change(id, func(a *structs.Assignment) {
		a.Object.Manifest = strings.Replace(a.Object.Manifest, "busybox", "busybox:2", 1)
	})
	s.call("update rc web")
	s.do()
	s.controller()
	s.none()
	if want := s.now.Add(10 * time.Second); !s.wake.Equal(want) {
		t.Fatalf("the next look is at %s, want %s", s.wake, want)
	}
	s.now = s.wake
	if s.next(); !strings.HasPrefix(s.shown(), "delete pod web-") {
		t.Errorf("the calls are %q", s.shown())
	}
}

// TestFoundPods: a pod of a replication controller is reported as found until an assignment
// names it, and as gone until a server has taken that.
func TestFoundPods(t *testing.T) {
	s, rc := startRC(t, 1)
	key, id := s.rcPod()
	found := s.is(id, structs.ContainerRunning, 1, false, "").Pod.Found
	want := &structs.FoundPod{RCID: ownerID, Name: key.Name, Labels: map[string]string{"app": "web"},
		Annotations: map[string]string{"note": "x"},
		Updated:     true, Spec: &structs.PodSpec{Cluster: true, RestartPolicy: "Always",
			Containers: []structs.PodContainer{{Name: "main", Image: "busybox"}}}}
	if !reflect.DeepEqual(found, want) {
		t.Errorf("found %+v, want %+v", found, want)
	}
	if s.reports[id].Epoch != 1 || s.full != 0 {
		t.Errorf("epoch %d, full answers asked for: %d", s.reports[id].Epoch, s.full)
	}
	s.assignFound(id, key.Name)
	s.take(true)
	s.none()
	if r := s.is(id, structs.ContainerRunning, 1, false, ""); r.Pod.Found != nil {
		t.Errorf("found still: %+v", r.Pod.Found)
	}
	if pod := s.m.Locate(structs.WorkloadPod, id); pod == nil || pod.Name != key.Name {
		t.Errorf("located %+v", pod)
	}
	// A full answer without it is from before its row.
	a := s.work[id]
	delete(s.work, id)
	s.take(true)
	s.none()
	if s.reports[id].Pod.Found == nil {
		t.Error("it is not reported as found again")
	}
	s.work[id] = a
	// A user deletes it: the cluster makes another.
	s.change(id, func(a *structs.Assignment) { a.Desired = structs.DesiredAbsent })
	s.call("delete pod " + key.Name)
	s.do()
	s.drop(key)
	s.none()
	s.is(id, structs.ContainerGone, 2, false, "")
	s.controller()
	_, other := s.rcPod()
	s.none()
	s.is(other, structs.ContainerCreating, 1, false, "")
	s.taken(id)
	s.none()
	if !slices.Equal(s.forgot, []string{id}) {
		t.Errorf("forgot %v", s.forgot)
	}
	if s.m.work[name{structs.WorkloadObject, rc}] == nil {
		t.Error("the replication controller is forgotten")
	}
}

// rcPod returns the only pod that is there.
func (s *script) rcPod() (Key, string) {
	s.Helper()
	for key, o := range s.objects {
		if key.Kind == Pods && o.GetDeletionTimestamp() == nil {
			return key, string(o.GetUID())
		}
	}
	s.Fatal("there is no pod")
	return Key{}, ""
}

// assignFound assigns a pod that a replication controller has made.
func (s *script) assignFound(id, name string) {
	s.work[id] = structs.Assignment{Kind: structs.WorkloadPod, ID: id, ProjectID: project, Name: name, Epoch: 1, Generation: 1, Observed: 1,
		Desired: structs.DesiredRunning, EngineID: id, Pod: &structs.PodAssignment{Found: true}}
}

// TestFoundPodIsGone: one that went while no agent looked.
func TestFoundPodIsGone(t *testing.T) {
	s := newScript(t)
	s.assignFound("uid-9", "web-x")
	s.take(true)
	s.none()
	s.is("uid-9", structs.ContainerGone, 1, false, "")
}

// TestRCGoesBeforeItsPods: it would make others.
func TestRCGoesBeforeItsPods(t *testing.T) {
	s, rc := startRC(t, 1)
	key, id := s.rcPod()
	s.assignFound(id, key.Name)
	for _, one := range []string{id, rc} {
		a := s.work[one]
		a.Generation, a.Desired, a.Force = 2, structs.DesiredAbsent, true
		s.work[one] = a
	}
	s.take(true)
	s.call("delete rc web")
	s.do()
	s.call("delete pod " + key.Name + " grace=0")
	s.do()
	s.none()
	s.is(rc, structs.ContainerGone, 2, false, "")
	s.is(id, structs.ContainerGone, 2, false, "")
}

// TestRCPodsAreNotUnknown: the cluster deletes them with their owner. One that was orphaned is
// nobody's.
func TestRCPodsAreNotUnknown(t *testing.T) {
	s, _ := startRC(t, 1)
	key, _ := s.rcPod()
	s.work = map[string]structs.Assignment{}
	s.take(true)
	s.call("delete rc web")
	s.do()
	s.none()
	alter(s, key, func(pod *corev1.Pod) { pod.OwnerReferences = nil })
	s.take(true)
	s.call("delete pod " + key.Name)
}

// TestAdoptedPod: a bare pod that the cluster's replication controller counts is its to end.
func TestAdoptedPod(t *testing.T) {
	s := startPod(t, onePod)
	alter(s, podKey("web"), func(pod *corev1.Pod) {
		pod.OwnerReferences = []metav1.OwnerReference{{Kind: "ReplicationController", Name: "x", UID: "x", Controller: new(true)}}
	})
	s.drop(podKey("web"))
	s.none()
	s.is(podID, structs.ContainerGone, 1, false, "a replication controller of the cluster")
}

// TestEvents: a pod that doesn't get on shows the newest warning about it.
func TestEvents(t *testing.T) {
	s := newScript(t)
	s.node("node1", corev1.ConditionTrue)
	s.pod(podID, "web", onePod)
	s.take(true)
	s.settle()
	alter(s, podKey("web"), func(pod *corev1.Pod) { pod.Spec.NodeName, pod.Status.Phase = "node1", corev1.PodPending })
	s.none()
	if want := s.now.Add(eventFirst); !s.wake.Equal(want) {
		t.Fatalf("the next look is at %s, want %s", s.wake, want)
	}
	s.now = s.wake
	c := s.call("events pod web")
	s.calls = nil
	s.m.Done(c, &corev1.Event{Reason: "FailedMount", Message: `configmap "x" not found`}, nil, s.now)
	s.none()
	s.is(podID, structs.ContainerCreating, 1, false, `FailedMount: configmap "x" not found`)
	s.runs("web", true)
	s.now = s.now.Add(time.Hour)
	s.none()
	s.is(podID, structs.ContainerRunning, 1, false, "")
}

// TestParts: the containers of a pod are shown in the words of the cluster, and how a process
// has ended in those of Docker bays.
func TestParts(t *testing.T) {
	at := metav1.NewTime(time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC))
	ended := func(code int32, reason string) corev1.ContainerState {
		return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, Reason: reason,
			StartedAt: at, FinishedAt: at}}
	}
	waits := func(reason, message string) corev1.ContainerState {
		return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}
	}
	for _, c := range []struct {
		name   string
		seen   corev1.ContainerStatus
		status structs.ContainerStatus
		state  structs.PartState
		reason string // of the pod
	}{
		{"it waits", corev1.ContainerStatus{State: waits("ContainerCreating", "")},
			structs.ContainerCreating, structs.PartState{State: "waiting", Reason: "ContainerCreating"}, ""},
		{"it crashes", corev1.ContainerStatus{State: waits("CrashLoopBackOff", "back-off 10s"),
			LastTerminationState: ended(1, "Error"), RestartCount: 1},
			structs.ContainerRunning, structs.PartState{State: "waiting", Reason: "CrashLoopBackOff", Message: "back-off 10s"},
			"main: CrashLoopBackOff: back-off 10s"},
		{"it runs", corev1.ContainerStatus{State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: at}}},
			structs.ContainerRunning, structs.PartState{State: "running", StartedAt: at.Time}, ""},
		{"it has ended well", corev1.ContainerStatus{State: ended(0, "Completed")}, structs.ContainerStopped,
			structs.PartState{State: "terminated", Reason: "Completed", ExitCode: new(0), StartedAt: at.Time, FinishedAt: at.Time}, ""},
		{"it has failed", corev1.ContainerStatus{State: ended(3, "Error")}, structs.ContainerStopped,
			structs.PartState{State: "terminated", Reason: "Error", Message: "its process has ended with exit code 3; its logs may say why",
				ExitCode: new(3), StartedAt: at.Time, FinishedAt: at.Time},
			"main: its process has ended with exit code 3; its logs may say why"},
		{"it was killed", corev1.ContainerStatus{State: ended(137, "OOMKilled")}, structs.ContainerStopped,
			structs.PartState{State: "terminated", Reason: "OOMKilled", ExitCode: new(137), StartedAt: at.Time, FinishedAt: at.Time,
				Message: "its process was killed because it needed more than its memory limit; raise resources.limits.memory"},
			"main: its process was killed because it needed more than its memory limit"},
	} {
		s := startPod(t, onePod)
		alter(s, podKey("web"), func(pod *corev1.Pod) {
			c.seen.Name = "main"
			pod.Status.ContainerStatuses = []corev1.ContainerStatus{c.seen}
		})
		s.none()
		r := s.reports[podID]
		if len(r.Parts) != 1 || r.Parts[0].Status != c.status || !reflect.DeepEqual(r.Parts[0].State, c.state) ||
			!strings.HasPrefix(r.Reason, c.reason) || c.reason == "" && r.Reason != "" {
			t.Errorf("%s: %+v, reason %q; want %s, %+v, %q", c.name, r.Parts, r.Reason, c.status, c.state, c.reason)
		}
		if r.RestartCount != int(c.seen.RestartCount) {
			t.Errorf("%s: %d restarts", c.name, r.RestartCount)
		}
	}
}
