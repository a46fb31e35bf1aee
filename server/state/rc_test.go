package state

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stackforge/magnum/structs"
)

// rcRow returns a replication controller of the bay with the UUID testID(n).
func rcRow(n uint64, bay string) *structs.RC {
	return &structs.RC{Meta: structs.Meta{ID: testID(n), Seq: n, ProjectID: "p1"}, Name: fmt.Sprint("rc", n), BayID: bay, Generation: 1}
}

func TestRCsInBay(t *testing.T) {
	s := New()
	mustApply(t, s, 1, put(rcRow(1, testID(100)), 0), put(rcRow(2, testID(101)), 0), put(rcRow(3, testID(100)), 0))
	var got []string
	for rc := range RCsInBay(s.Snapshot(), testID(100)) {
		got = append(got, rc.Name)
	}
	if want := []string{"rc1", "rc3"}; !slices.Equal(got, want) {
		t.Errorf("the bay has %v, not %v", got, want)
	}
	checkDerived(t, s.Snapshot())
}

// TestTopicReplicas: the topic fires for what decides how many replicas there are, and for
// nothing else.
func TestTopicReplicas(t *testing.T) {
	pod := func(change func(*structs.Pod)) *structs.Pod {
		p := largePod(7, 10)
		p.Owner = testID(1)
		p.Spec = structs.PodSpec{Containers: []structs.PodContainer{{Name: "web", Image: "i"}}}
		change(p)
		return p
	}
	none := func(*structs.Pod) {}
	running := func(p *structs.Pod) {
		p.Observed.Status = structs.ContainerRunning
		p.Observed.Parts = []structs.PartObserved{{Name: "web", PartState: structs.PartState{State: structs.PartRunning}, Ready: true}}
	}
	rc := func(change func(*structs.RC)) *structs.RC {
		r := rcRow(1, testID(100))
		change(r)
		return r
	}
	for name, test := range map[string]struct {
		from, to structs.Row // nil: there is none
		want     bool
	}{
		"an rc is created":     {nil, rc(func(*structs.RC) {}), true},
		"an rc is counted":     {rc(func(*structs.RC) {}), rc(func(r *structs.RC) { r.Observed.Ready = 1 }), false},
		"an rc is changed":     {rc(func(*structs.RC) {}), rc(func(r *structs.RC) { r.Generation, r.Replicas = 2, 3 }), true},
		"a pod is created":     {nil, pod(none), true},
		"a pod is deleted":     {pod(none), nil, true},
		"a pod is to go":       {pod(none), pod(func(p *structs.Pod) { p.Desired = structs.DesiredAbsent }), true},
		"a pod is ready":       {pod(none), pod(running), true},
		"a pod's memory":       {pod(running), pod(func(p *structs.Pod) { running(p); p.Observed.Memory = 7 }), false},
		"a pod's labels":       {pod(none), pod(func(p *structs.Pod) { p.Labels = map[string]string{"a": "b"} }), true},
		"a pod's annotations":  {pod(none), pod(func(p *structs.Pod) { p.Annotations = map[string]string{"a": "b"} }), false},
		"a pod is adopted":     {pod(func(p *structs.Pod) { p.Owner = "" }), pod(none), true},
		"a pod's generation":   {pod(none), pod(func(p *structs.Pod) { p.Generation++ }), false},
		"what a pod waits for": {pod(none), pod(func(p *structs.Pod) { p.PlaceReason = "waits for a host" }), true},
		"a container":          {nil, largeContainer(9, 10), false},
	} {
		t.Run(name, func(t *testing.T) {
			s := New()
			mustApply(t, s, 1, put(rcRow(2, testID(100)), 0))
			version := uint64(0)
			if test.from != nil {
				mustApply(t, s, 2, put(test.from, 0))
				version = 2
			}
			sub := s.Subscribe(TopicReplicas())
			defer sub.Close()
			if test.to == nil {
				mustApply(t, s, 3, drop(test.from, version))
			} else {
				mustApply(t, s, 3, put(test.to, version))
			}
			fired := false
			select {
			case <-sub.C():
				fired = true
			default:
			}
			if fired != test.want {
				t.Errorf("fired: %v, not %v", fired, test.want)
			}
		})
	}
	// Without a replication controller nothing counts.
	s := New()
	sub := s.Subscribe(TopicReplicas())
	defer sub.Close()
	mustApply(t, s, 1, put(pod(none), 0))
	select {
	case <-sub.C():
		t.Error("fired without a replication controller")
	default:
	}
}
