package mirror

import (
	"errors"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/stackforge/magnum/structs"
)

// startPod runs a pod.
func startPod(t *testing.T, spec string) *script {
	s := newScript(t)
	s.pod(podID, "web", spec)
	s.node("node1", corev1.ConditionTrue)
	s.take(true)
	s.settle()
	s.runs("web", true)
	s.none()
	s.is(podID, structs.ContainerRunning, 1, false, "")
	return s
}

func TestPodIsMadeInItsNamespace(t *testing.T) {
	s := newScript(t)
	s.pod(podID, "web", onePod)
	s.take(true)
	ns := s.call("create namespace " + namespace).Object.(*corev1.Namespace)
	for label, want := range map[string]string{LabelCluster: clusterID, LabelProject: project, LabelBay: bayID,
		"pod-security.kubernetes.io/enforce": "baseline"} {
		if ns.Labels[label] != want {
			t.Errorf("label %s of the namespace is %q, want %q", label, ns.Labels[label], want)
		}
	}
	s.is(podID, structs.ContainerCreating, 0, false, "namespace magnum-p1 is being made")
	s.do()
	s.closes()
	pod := s.call("create pod web").Object.(*corev1.Pod)
	if pod.Namespace != namespace || pod.Labels[LabelCluster] != clusterID || pod.Labels[LabelProject] != project ||
		pod.Labels[LabelKind] != "pod" || pod.Labels[LabelID] != podID || pod.Labels["app"] != "web" {
		t.Errorf("the pod is %+v", pod.ObjectMeta)
	}
	s.do()
	s.none()
	r := s.is(podID, structs.ContainerCreating, 1, false, "")
	if r.EngineID == "" || r.Pod == nil {
		t.Errorf("the report is %+v", r)
	}
}

// TestServiceAccountIsAwaited: a namespace that was just made has none.
func TestServiceAccountIsAwaited(t *testing.T) {
	s := newScript(t)
	s.pod(podID, "web", onePod)
	s.take(true)
	s.next()
	s.do()
	s.closes()
	for range accountTries {
		s.call("create pod web")
		s.fail(forbidden(`error looking up service account magnum-p1/default: serviceaccount "default" not found`))
		s.none()
		if r := s.reports[podID]; r.Failed {
			t.Fatalf("a pod that waits for the service account is reported as %+v", r)
		}
		if want := s.now.Add(accountPause); !s.wake.Equal(want) {
			t.Fatalf("it is tried again at %s, want %s", s.wake, want)
		}
		s.now = s.wake
	}
	s.call("create pod web")
	s.fail(forbidden(`error looking up service account magnum-p1/default: serviceaccount "default" not found`))
	s.none()
	s.is(podID, structs.ContainerError, 1, true, "error looking up service account")
}

func forbidden(message string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Code: 403, Reason: metav1.StatusReasonForbidden,
		Message: message}}
}

// TestRefusalIsWordForWord: what the cluster refuses is reported once, as it says it, and
// tried again after longer and longer pauses.
func TestRefusalIsWordForWord(t *testing.T) {
	const quota = `pods "web" is forbidden: exceeded quota: small, requested: pods=1, used: pods=1, limited: pods=1`
	s := newScript(t)
	s.pod(podID, "web", onePod)
	s.take(true)
	s.next()
	s.do()
	s.closes()
	pause := quotaPause
	for range 6 {
		s.call("create pod web")
		s.fail(forbidden(quota))
		s.none()
		r := s.is(podID, structs.ContainerError, 1, true, quota)
		if r.Reason != quota || r.Pod.Code != structs.CodeForbidden {
			t.Errorf("the report is %+v, code %s", r, r.Pod.Code)
		}
		if want := s.now.Add(min(pause, quotaMost)); !s.wake.Equal(want) {
			t.Errorf("it is tried again at %s, want %s", s.wake, want)
		}
		s.now, pause = s.wake, pause*2
	}
	n := 0
	for _, r := range s.said[podID] {
		if r.Failed {
			n++
		}
	}
	if n != 1 {
		t.Errorf("the refusal was reported %d times", n)
	}
	s.settle()
	s.is(podID, structs.ContainerCreating, 1, false, "")
}

// TestInvalidWaitsForTheNextGeneration: another manifest is tried at once.
func TestInvalidWaitsForTheNextGeneration(t *testing.T) {
	s := newScript(t)
	s.pod(podID, "web", onePod)
	s.take(true)
	s.next()
	s.do()
	s.closes()
	s.call("create pod web")
	s.fail(apierrors.NewInvalid(schema.GroupKind{Kind: "Pod"}, "web", field.ErrorList{field.Invalid(field.NewPath("spec"), "x", "no")}))
	s.none()
	r := s.is(podID, structs.ContainerError, 1, true, `Pod "web" is invalid: spec: Invalid value: "x": no`)
	if r.Pod.Code != structs.CodeInvalid {
		t.Errorf("the code is %q", r.Pod.Code)
	}
	s.change(podID, func(a *structs.Assignment) { a.Pod.Manifest += "  hostname: web1\n" })
	s.call("create pod web")
	s.do()
	s.none()
	s.is(podID, structs.ContainerCreating, 2, false, "")
}

// TestUnreadableManifest: what the agent can't read is refused without a call.
func TestUnreadableManifest(t *testing.T) {
	s := newScript(t)
	s.pod(podID, "web", "  containerz: []\n")
	s.take(true)
	s.settle()
	r := s.is(podID, structs.ContainerError, 1, true, "containerz")
	if r.Pod.Code != structs.CodeInvalid || len(s.objects) > 1 {
		t.Errorf("code %q, objects %v", r.Pod.Code, s.objects)
	}
	s.change(podID, func(a *structs.Assignment) {
		a.Pod.Manifest = strings.Replace(a.Pod.Manifest, "  containerz: []\n", onePod, 1)
	})
	s.settle()
	s.is(podID, structs.ContainerCreating, 2, false, "")
}

// TestForeignObject: an object of the name that isn't ours is never touched, and the pod is
// made once it is gone.
func TestForeignObject(t *testing.T) {
	s := newScript(t)
	s.pod(podID, "web", onePod)
	s.put(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "web", Labels: map[string]string{"app": "web"}}})
	s.take(true)
	s.settle()
	r := s.is(podID, structs.ContainerError, 1, true, "pod web exists in namespace magnum-p1 of the cluster and is not magnum's")
	if r.Pod.Code != structs.CodeConflict {
		t.Errorf("the code is %q", r.Pod.Code)
	}
	uid := s.objects[podKey("web")].GetUID()
	for range 3 {
		s.now = s.wake
		s.settle()
		s.is(podID, structs.ContainerError, 1, true, "is not magnum's")
	}
	if s.objects[podKey("web")].GetUID() != uid {
		t.Error("the foreign pod was touched")
	}
	s.change(podID, func(a *structs.Assignment) { a.Desired = structs.DesiredAbsent })
	s.settle()
	s.is(podID, structs.ContainerGone, 2, false, "")
	if s.objects[podKey("web")] == nil {
		t.Error("the foreign pod was deleted")
	}
}

// TestForeignNamespace: nothing is made in a namespace that isn't ours.
func TestForeignNamespace(t *testing.T) {
	s := newScript(t)
	s.pod(podID, "web", onePod)
	s.put(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}})
	s.take(true)
	s.settle()
	r := s.is(podID, structs.ContainerError, 1, true, "namespace magnum-p1 exists in the cluster and is not this magnum's")
	if r.Pod.Code != structs.CodeConflict {
		t.Errorf("the code is %q", r.Pod.Code)
	}
	said := len(s.said[podID])
	for range 3 {
		s.now = s.wake
		s.settle()
	}
	if len(s.said[podID]) != said {
		t.Errorf("it was reported again: %+v", s.said[podID][said:])
	}
	s.drop(Key{Kind: Namespaces, Name: namespace})
	s.now = s.now.Add(foreignPause)
	s.settle()
	s.is(podID, structs.ContainerCreating, 1, false, "")
}

// TestAnswerIsLost: a pod that was made although no answer came is taken for what it is.
func TestAnswerIsLost(t *testing.T) {
	s := newScript(t)
	s.pod(podID, "web", onePod)
	s.take(true)
	s.next()
	s.do()
	s.closes()
	c := s.call("create pod web")
	s.quiet = true
	made, err := s.carryOut(c)
	if err != nil {
		t.Fatal(err)
	}
	s.fail(errors.New("connection reset by peer"))
	s.none()
	s.is(podID, structs.ContainerCreating, 0, false, "connection reset by peer")
	s.now = s.wake
	s.call("create pod web")
	s.do() // AlreadyExists
	s.call("get pod web")
	s.do()
	s.none()
	if r := s.is(podID, structs.ContainerCreating, 1, false, ""); r.EngineID != string(made.GetUID()) {
		t.Errorf("the pod is %s, want %s", r.EngineID, made.GetUID())
	}
}

// TestAbsentWithoutObject: what never existed is gone at once, but not before the cluster was
// listed. It is reported until a server has taken that.
func TestAbsentWithoutObject(t *testing.T) {
	s := unlistedScript(t)
	s.pod(podID, "web", onePod)
	s.object(structs.KindService, "web", "  ports: [{port: 80}]\n")
	for id, a := range s.work {
		a.Desired = structs.DesiredAbsent
		s.work[id] = a
	}
	s.take(true)
	s.none()
	if len(s.reports) > 0 {
		t.Errorf("reported before the cluster was listed: %+v", s.reports)
	}
	s.list()
	s.none()
	for id := range s.work {
		s.is(id, structs.ContainerGone, 1, false, "")
		s.m.Taken(structs.Ref{Kind: s.work[id].Kind, ID: id}, 0) // of another report
	}
	s.none()
	if len(s.forgot) > 0 {
		t.Errorf("forgot %v", s.forgot)
	}
	for id := range s.work {
		s.taken(id)
	}
	s.none()
	if len(s.forgot) != 2 {
		t.Errorf("forgot %v", s.forgot)
	}
}

// TestDelete: a pod is deleted with its UID and its own grace period, and killed if that is
// asked for later.
func TestDelete(t *testing.T) {
	s := startPod(t, onePod)
	uid := s.objects[podKey("web")].GetUID()
	s.change(podID, func(a *structs.Assignment) { a.Desired = structs.DesiredAbsent })
	if c := s.call("delete pod web"); c.UID != uid {
		t.Errorf("the delete is of %q, want %q", c.UID, uid)
	}
	s.do()
	s.none()
	s.is(podID, structs.ContainerRunning, 1, false, "")
	s.change(podID, func(a *structs.Assignment) { a.Force = true })
	s.call("delete pod web grace=0")
	s.do()
	s.none()
	s.is(podID, structs.ContainerGone, 3, false, "")
	s.taken(podID)
	s.none()
	if len(s.forgot) != 1 {
		t.Errorf("forgot %v", s.forgot)
	}
}

// TestVanishedPodIsMadeAgain: a bare pod that somebody deletes is made again, after longer and
// longer pauses if that goes on, and its report says so.
func TestVanishedPodIsMadeAgain(t *testing.T) {
	s := startPod(t, onePod)
	first := s.objects[podKey("web")].GetUID()
	alter(s, podKey("web"), func(pod *corev1.Pod) { pod.DeletionTimestamp = new(metav1.NewTime(s.now)) })
	s.none()
	s.is(podID, structs.ContainerRunning, 1, false, "it is being deleted in the cluster")
	s.drop(podKey("web"))
	s.call("create pod web")
	s.is(podID, structs.ContainerCreating, 1, false, "it was deleted in the cluster; it is made again")
	s.do()
	s.none()
	s.is(podID, structs.ContainerCreating, 1, false, "")
	if s.objects[podKey("web")].GetUID() == first {
		t.Error("the pod is the first one")
	}
	for _, want := range []time.Duration{againFirst, 2 * againFirst, 4 * againFirst} {
		s.drop(podKey("web"))
		s.none()
		if got := s.wake.Sub(s.now); got != want {
			t.Errorf("it is made again in %s, want %s", got, want)
		}
		s.now = s.wake
		s.settle()
	}
}

// TestVanishedPodIsNotMadeAgain: its restart policy says that it runs once.
func TestVanishedPodIsNotMadeAgain(t *testing.T) {
	for _, policy := range []string{"Never", "OnFailure"} {
		s := startPod(t, "  restartPolicy: "+policy+"\n"+onePod)
		s.drop(podKey("web"))
		s.none()
		s.is(podID, structs.ContainerGone, 1, false, "not made again, because its restartPolicy is "+policy)
		s.taken(podID)
		s.none()
		s.take(true)
		s.none()
		// A start places it again.
		a := s.work[podID]
		a.Epoch, a.Generation, a.Observed, a.EngineID = 2, 2, 0, ""
		s.work[podID] = a
		s.take(false, podID)
		s.call("create pod web")
		s.do()
		s.none()
		s.is(podID, structs.ContainerCreating, 2, false, "")
	}
}

// TestRestartedAgentFindsNoPod: an agent that has just become the active one goes by what
// the servers know.
func TestRestartedAgentFindsNoPod(t *testing.T) {
	for policy, want := range map[string]string{"Always": "create namespace magnum-p1", "Never": ""} {
		s := newScript(t)
		s.pod(podID, "web", "  restartPolicy: "+policy+"\n"+onePod)
		a := s.work[podID]
		a.Observed, a.EngineID = 1, "uid-of-before"
		s.work[podID] = a
		s.take(true)
		s.next()
		if got := s.shown(); got != want {
			t.Errorf("restartPolicy %s: the calls are %q, want %q", policy, got, want)
		}
		if r := s.reports[podID]; (r.Status == structs.ContainerGone) != (want == "") {
			t.Errorf("restartPolicy %s: the report is %+v", policy, r)
		}
	}
}

// TestRestartedAgentFindsPod: nothing is done to a pod that is as it should be.
func TestRestartedAgentFindsPod(t *testing.T) {
	s := startPod(t, onePod)
	after := newScript(t)
	after.objects, after.version, after.work = s.objects, s.version, s.work
	after.list()
	after.take(true)
	after.none()
	after.is(podID, structs.ContainerRunning, 1, false, "")
	if after.full != 0 {
		t.Error("a full answer is asked for")
	}
}

// TestEvictedPodIsMadeAgain: what the cluster has ended is shown, and then replaced.
func TestEvictedPodIsMadeAgain(t *testing.T) {
	s := startPod(t, onePod)
	evict := func(pod *corev1.Pod) {
		pod.Status.Phase, pod.Status.Reason, pod.Status.Message = corev1.PodFailed, "Evicted", "The node was low on resource: memory."
	}
	alter(s, podKey("web"), evict)
	c := s.call("delete pod web")
	r := s.is(podID, structs.ContainerStopped, 1, false, "Evicted: The node was low on resource: memory.")
	if r.Pod.Phase != structs.PodFailed {
		t.Errorf("the phase is %s", r.Pod.Phase)
	}
	if c.Version == "" || c.Version != s.objects[podKey("web")].GetResourceVersion() {
		t.Errorf("the delete is of version %q", c.Version)
	}
	s.do()
	s.drop(podKey("web"))
	s.now = s.now.Add(againFirst)
	s.call("create pod web")
	s.is(podID, structs.ContainerCreating, 1, false, "Evicted: The node was low on resource: memory.; it is made again")

	over := startPod(t, "  activeDeadlineSeconds: 5\n"+onePod)
	alter(over, podKey("web"), func(pod *corev1.Pod) { pod.Status.Phase, pod.Status.Reason = corev1.PodFailed, structs.ReasonDeadline })
	over.none()
	over.is(podID, structs.ContainerStopped, 1, false, structs.ReasonDeadline)
}

// TestLostNode: what runs on a node that doesn't answer is unknown.
func TestLostNode(t *testing.T) {
	s := startPod(t, onePod)
	s.node("node1", corev1.ConditionUnknown)
	alter(s, podKey("web"), func(pod *corev1.Pod) {
		pod.DeletionTimestamp = new(metav1.NewTime(s.now))
		pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{
			Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue,
			Reason: "DeletionByTaintManager", Message: "Taint manager: deleting due to NoExecute taint"})
	})
	s.none()
	r := s.is(podID, structs.ContainerRunning, 1, false, "its node node1 has not answered since 2026-01-02T03:04:05Z")
	if r.Pod.Phase != structs.PodUnknown || !strings.Contains(r.Reason, "DeletionByTaintManager") {
		t.Errorf("phase %s, reason %q", r.Pod.Phase, r.Reason)
	}
	if s.cluster.Ready != 0 || len(s.cluster.Nodes) != 1 || s.cluster.Nodes[0].Ready {
		t.Errorf("the cluster is %+v", s.cluster)
	}
	s.node("node1", corev1.ConditionTrue)
	s.none()
	if r := s.reports[podID]; r.Pod.Phase != structs.PodRunning {
		t.Errorf("the phase is %s", r.Pod.Phase)
	}
}

// TestAway: while the API is away no calls are made and what was seen stays, and what waits
// says why.
func TestAway(t *testing.T) {
	s := startPod(t, onePod)
	said := len(s.said[podID])
	s.m.Away("connection refused", s.now)
	s.pod(otherID, "new", onePod)
	s.take(false, otherID)
	s.none()
	s.is(otherID, structs.ContainerCreating, 0, false, "connection refused")
	if len(s.said[podID]) != said {
		t.Errorf("the pod was reported again: %+v", s.reports[podID])
	}
	if c := s.cluster; !c.AwaySince.Equal(s.now) || c.Away != "connection refused" || c.Ready != 1 {
		t.Errorf("the cluster is %+v", c)
	}
	s.change(podID, func(a *structs.Assignment) { a.Desired = structs.DesiredAbsent })
	s.none()
	s.is(podID, structs.ContainerRunning, 1, false, "connection refused")
	s.now = s.now.Add(time.Minute)
	s.m.Away("still refused", s.now)
	s.none()
	if s.cluster.AwaySince.Equal(s.now) {
		t.Error("away since the second reason")
	}
	s.m.Back()
	s.none()
	s.quiet = true
	s.drop(podKey("web")) // meanwhile
	s.quiet = false
	s.list()
	s.call("create pod new")
	s.is(podID, structs.ContainerGone, 2, false, "")
	if !s.cluster.AwaySince.IsZero() {
		t.Errorf("the cluster is %+v", s.cluster)
	}
}

// TestAwayFromTheBeginning: an agent that has not seen the cluster says nothing of it that
// would hide what the servers know.
func TestAwayFromTheBeginning(t *testing.T) {
	s := unlistedScript(t)
	s.pod(podID, "web", onePod)
	a := s.work[podID]
	a.Observed, a.EngineID = 1, "uid-of-before"
	s.work[podID] = a
	s.pod(otherID, "new", onePod)
	s.take(true)
	s.m.Away("connection refused", s.now)
	s.none()
	if s.cluster != nil || len(s.said[podID]) > 0 {
		t.Errorf("the cluster is %+v, the pod %+v", s.cluster, s.said[podID])
	}
	s.is(otherID, structs.ContainerCreating, 0, false, "connection refused")
}

// TestListIsRefused: an API that answers and refuses is as one that is away, until it lists.
func TestListIsRefused(t *testing.T) {
	s := startPod(t, onePod)
	s.m.Trouble(Services, "services is forbidden", s.now)
	s.drop(podKey("web"))
	s.none()
	if s.cluster.Away != "services is forbidden" || !s.cluster.Refuses {
		t.Errorf("the cluster is %+v", s.cluster)
	}
	// Two kinds are refused in turn, which is one state.
	s.m.Trouble(RCs, "rcs too", s.now)
	s.none()
	since := s.cluster.AwaySince
	for range 3 {
		s.now = s.now.Add(time.Second)
		s.m.Trouble(Services, "services is forbidden", s.now)
		s.m.Trouble(RCs, "rcs too", s.now)
		s.cluster = nil
		s.none()
		if s.cluster != nil {
			t.Errorf("the cluster is reported again as %+v", s.cluster)
		}
	}
	s.pod(otherID, "new", onePod)
	s.take(false, otherID)
	s.none()
	s.is(otherID, structs.ContainerCreating, 0, false, "until the agent may see all of the cluster that it has to: rcs too; services")
	s.m.Replace(RCs, nil, "98")
	s.none()
	if s.cluster.Away != "services is forbidden" || !s.cluster.AwaySince.Equal(since) {
		t.Errorf("the cluster is %+v", s.cluster)
	}
	s.m.Replace(Services, nil, "99")
	s.call("create pod new, create pod web")
	if s.cluster.Away != "" {
		t.Errorf("the cluster is %+v", s.cluster)
	}
}

// TestLateAnswers: neither an answer nor an event that is late undoes what is newer.
func TestLateAnswers(t *testing.T) {
	s := newScript(t)
	s.pod(podID, "web", "  restartPolicy: Never\n"+onePod)
	s.take(true)
	s.next()
	s.do()
	s.closes()
	c := s.call("create pod web")
	made, err := s.carryOut(c)
	if err != nil {
		t.Fatal(err)
	}
	s.now = s.now.Add(time.Hour) // nothing has happened for long
	s.drop(podKey("web"))        // before the answer
	s.calls = nil
	s.none()
	s.m.Done(c, made, nil, s.now)
	s.none()
	s.is(podID, structs.ContainerGone, 1, false, "it was deleted in the cluster")

	s = startPod(t, onePod)
	old := s.objects[podKey("web")]
	s.change(podID, func(a *structs.Assignment) {
		a.Pod.Manifest = strings.Replace(a.Pod.Manifest, "busybox", "busybox:2", 1)
	})
	s.call("update pod web")
	s.do()
	s.none()
	s.m.See(old)
	s.none()
	s.is(podID, structs.ContainerRunning, 2, false, "")
	// A list that began before an answer doesn't hide what the answer has shown.
	s.m.Replace(Pods, nil, old.GetResourceVersion())
	s.none()
	s.is(podID, structs.ContainerRunning, 2, false, "")
}

// TestNewEpoch: a pod of an earlier placement makes room for the new one.
func TestNewEpoch(t *testing.T) {
	s := startPod(t, onePod)
	a := s.work[podID]
	a.Epoch, a.Generation, a.Observed, a.EngineID = 2, 5, 0, ""
	s.work[podID] = a
	s.take(false, podID)
	s.call("delete pod web")
	s.do()
	s.none()
	s.drop(podKey("web"))
	s.now = s.now.Add(againFirst)
	s.settle()
	r := s.is(podID, structs.ContainerCreating, 5, false, "")
	if r.Epoch != 2 || epochOf(s.objects[podKey("web")]) != 2 {
		t.Errorf("the pod is %+v", r)
	}
}

// TestNameIsTaken: a pod waits until the earlier one of its name is gone.
func TestNameIsTaken(t *testing.T) {
	s := startPod(t, onePod)
	s.change(podID, func(a *structs.Assignment) { a.Desired = structs.DesiredAbsent })
	s.pod(otherID, "web", onePod)
	s.take(false, otherID)
	s.call("delete pod web")
	s.is(otherID, structs.ContainerCreating, 0, false, "another pod of magnum's has the name")
	s.do()
	s.none()
	s.is(otherID, structs.ContainerCreating, 0, false, "an earlier pod of the name is being deleted")
	s.drop(podKey("web"))
	s.call("create pod web")
	s.do()
	s.none()
	s.is(otherID, structs.ContainerCreating, 1, false, "")
	s.is(podID, structs.ContainerGone, 2, false, "")
}

// TestUnknownObjects: what no assignment names is removed by a full, confirmed answer, and
// only by one.
func TestUnknownObjects(t *testing.T) {
	s := startPod(t, onePod)
	work := s.work
	s.work = map[string]structs.Assignment{}
	for what, w := range map[string]*structs.Work{
		"a part":                 {Confirmed: true},
		"an unconfirmed answer":  {Full: true},
		"one of another history": {Full: true, Confirmed: true, Pending: true},
	} {
		s.takeWork(w)
		s.next()
		if got := s.shown(); got != "" {
			t.Errorf("%s led to %s", what, got)
		}
	}
	s.work = work
	s.take(true)
	s.none()
	// An agent that has just become the active one sees it before it knows what it is.
	after := newScript(t)
	after.take(true)
	after.none()
	for _, o := range s.objects {
		after.put(o)
	}
	after.none()
	if after.full != 1 {
		t.Errorf("a full answer was asked for %d times", after.full)
	}
	after.take(true)
	after.call("delete pod web")
	after.do()
	after.drop(podKey("web"))
	after.none()
	if len(after.reports) > 0 {
		t.Errorf("reported: %+v", after.reports)
	}
}

// TestNamespacesOfOtherBays: they go once it is certain which bay the host has.
func TestNamespacesOfOtherBays(t *testing.T) {
	s := startPod(t, onePod)
	s.work, s.bay = map[string]structs.Assignment{}, otherID
	s.take(false)
	s.none()
	if s.full == 0 {
		t.Error("no full answer is asked for")
	}
	s.take(true)
	s.next()
	if got := s.shown(); got != "delete namespace magnum-p1, delete pod web" {
		t.Errorf("the calls are %s", got)
	}
	for _, c := range s.calls {
		if c.UID == "" {
			t.Errorf("%s has no UID", c.Verb)
		}
	}
	s.settle()
	s.drop(podKey("web"))
	s.settle()
	// The new bay's work is for the same project: its namespace is made again.
	s.pod(otherID, "web", onePod)
	s.take(true)
	s.call("create namespace " + namespace)
	s.do()
	s.closes()
	s.call("create pod web")
}

// TestNoNamespaceWithoutABay: before the servers have said whose the host is, nothing is made.
func TestNoNamespaceWithoutABay(t *testing.T) {
	s := newScript(t)
	s.pod(podID, "web", onePod)
	a := s.work[podID]
	s.m.Take(&structs.Work{Full: true, Confirmed: true, Assignments: []structs.Assignment{a}})
	s.none()
	s.is(podID, structs.ContainerCreating, 0, false, "have not said yet which bay")
	s.take(false)
	s.call("create namespace " + namespace)
}

// TestPodSecurityLevel: an operator's other level is set in the namespaces that are there.
func TestPodSecurityLevel(t *testing.T) {
	s := startPod(t, onePod)
	s.m.conf.PodSecurity = "restricted"
	s.m.touchSpace(namespace)
	s.call("update namespace " + namespace)
	s.do()
	s.none()
	if got := s.objects[Key{Kind: Namespaces, Name: namespace}].GetLabels()[labelSecurity]; got != "restricted" {
		t.Errorf("the level is %s", got)
	}
}
