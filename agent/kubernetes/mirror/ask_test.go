package mirror

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"github.com/stackforge/magnum/structs"
)

// TestRoom: a user who waits for the namespace of a project gets one, as a workload does.
func TestRoom(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	until := now.Add(time.Minute)
	m, bay := New(Config{ClusterID: "c1"}), "b1"
	waits := func(says string) {
		t.Helper()
		if ok, waits, refused := m.Room("p1", until); ok || refused != nil || !strings.Contains(waits, says) {
			t.Fatalf("%v, %q, %v; want to wait since %q", ok, waits, refused, says)
		}
	}
	waits("has not seen yet")
	m.Away("connection refused", now)
	waits("has not answered since 2026-01-02T03:04:05Z: connection refused")
	m.Back()
	for _, kind := range kinds {
		m.Replace(kind, nil, "1")
	}
	waits("which bay")
	m.Take(&structs.Work{Index: 1, Full: true, Confirmed: true, ClusterID: "c1", BayID: &bay})
	waits("is being made")
	out := m.Next(now)
	if len(out.Calls) != 1 || out.Calls[0].Verb != Create {
		t.Fatalf("the calls are %+v", out.Calls)
	}
	ns := out.Calls[0].Object.(*corev1.Namespace)
	if ns.Name != "magnum-p1" || ns.Labels[LabelCluster] != "c1" || ns.Labels[LabelProject] != "p1" || ns.Labels[LabelBay] != "b1" ||
		ns.Labels[labelSecurity] != "baseline" {
		t.Errorf("the namespace is %+v", ns)
	}
	waits("is being made")
	made := ns.DeepCopy()
	made.UID, made.ResourceVersion = "u1", "2"
	m.Done(out.Calls[0], made, nil, now)
	waits("is being closed to other projects")
	out = m.Next(now)
	if len(out.Calls) != 1 || KindOf(out.Calls[0].Object) != Policies {
		t.Fatalf("the calls are %+v", out.Calls)
	}
	closed := out.Calls[0].Object.DeepCopyObject().(*networkingv1.NetworkPolicy)
	closed.UID, closed.ResourceVersion = "u2", "3"
	m.Done(out.Calls[0], closed, nil, now)
	if ok, waits, refused := m.Room("p1", until); !ok {
		t.Errorf("%q, %v", waits, refused)
	}
	if out := m.Next(now); len(out.Calls) != 0 {
		t.Errorf("once it is there: %+v", out.Calls)
	}
	// Deleted in the cluster, it is made again for who asks, and for nobody else.
	m.Unsee(made)
	if out := m.Next(until.Add(time.Second)); len(out.Calls) != 0 {
		t.Errorf("nobody waits: %+v", out.Calls)
	}
	until = until.Add(time.Minute)
	waits("is being made")
	if out := m.Next(until.Add(-time.Second)); len(out.Calls) != 1 || out.Calls[0].Verb != Create {
		t.Errorf("it is not made again: %+v", out.Calls)
	}
}

// TestRoomOfAnother: a namespace that isn't magnum's is left alone.
func TestRoomOfAnother(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	m, bay := New(Config{ClusterID: "c1"}), "b1"
	for _, kind := range kinds {
		m.Replace(kind, nil, "1")
	}
	m.Take(&structs.Work{Index: 1, Full: true, Confirmed: true, ClusterID: "c1", BayID: &bay})
	m.Room("p1", now.Add(time.Minute))
	out := m.Next(now)
	theirs := &corev1.Namespace{}
	theirs.Name, theirs.UID, theirs.ResourceVersion = "magnum-p1", "u9", "2"
	m.Done(out.Calls[0], theirs, nil, now)
	if ok, _, refused := m.Room("p1", now.Add(time.Minute)); ok || structs.CodeOf(refused) != structs.CodeConflict ||
		!strings.Contains(refused.Error(), "is not this magnum's") {
		t.Errorf("%v, %v", ok, refused)
	}
}
