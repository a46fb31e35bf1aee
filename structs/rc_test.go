package structs

import "testing"

func TestOverlap(t *testing.T) {
	for _, test := range []struct {
		a, b map[string]string
		want bool
	}{
		{map[string]string{"app": "a"}, map[string]string{"app": "a"}, true},
		{map[string]string{"app": "a"}, map[string]string{"app": "b"}, false},
		{map[string]string{"app": "a"}, map[string]string{"tier": "x"}, true}, // a pod may have both
		{map[string]string{"app": "a"}, map[string]string{"app": "a", "tier": "x"}, true},
		{map[string]string{"app": "a", "tier": "x"}, map[string]string{"app": "a", "tier": "y"}, false},
		{map[string]string{}, map[string]string{"app": "a"}, true},
	} {
		if got := Overlap(test.a, test.b); got != test.want {
			t.Errorf("Overlap(%v, %v) is %v", test.a, test.b, got)
		}
		if got := Overlap(test.b, test.a); got != test.want {
			t.Errorf("Overlap(%v, %v) is %v", test.b, test.a, got)
		}
	}
}

// TestRevision: only what pods are made from decides the revision.
func TestRevision(t *testing.T) {
	spec := func(change func(*RCSpec)) string {
		s := RCSpec{Replicas: 1, Selector: map[string]string{"app": "a"}, Labels: map[string]string{"app": "a", "b": "c"},
			Template: PodSpec{Containers: []PodContainer{{Name: "web", Image: "i"}}}}
		change(&s)
		revision, err := s.Revision()
		if err != nil {
			t.Fatal(err)
		}
		return revision
	}
	is := spec(func(*RCSpec) {})
	for name, test := range map[string]struct {
		change func(*RCSpec)
		same   bool
	}{
		"replicas":    {func(s *RCSpec) { s.Replicas = 7 }, true},
		"selector":    {func(s *RCSpec) { s.Selector = map[string]string{"b": "c"} }, true},
		"labels":      {func(s *RCSpec) { s.Labels["b"] = "d" }, false},
		"annotations": {func(s *RCSpec) { s.Annotations = map[string]string{"a": "b"} }, false},
		"image":       {func(s *RCSpec) { s.Template.Containers[0].Image = "j" }, false},
		"exclusive":   {func(s *RCSpec) { s.Template.Exclusive = ExclusiveYes }, false},
	} {
		if got := spec(test.change); (got == is) != test.same {
			t.Errorf("%s: the revision is %s, before it was %s", name, got, is)
		}
	}
}

func TestObstacle(t *testing.T) {
	zero := 0
	p := &Pod{Placement: Placement{HostID: "h"}, Spec: PodSpec{InitContainers: []PodContainer{{Name: "init"}},
		Containers: []PodContainer{{Name: "web"}, {Name: "log"}}}}
	part := func(name, state, reason string, ready bool) PartObserved {
		o := PartObserved{Name: name, PartState: PartState{State: state, Reason: reason}, Ready: ready}
		if state == PartTerminated {
			o.ExitCode = &zero
		}
		return o
	}
	for _, test := range []struct {
		status ContainerStatus
		parts  []PartObserved
		want   string
	}{
		{"", nil, "init container init has not been started yet"},
		{ContainerCreating, []PartObserved{part("init", PartWaiting, ReasonImagePull, false)},
			"init container init is waiting: ErrImagePull"},
		{ContainerCreating, []PartObserved{part("init", PartTerminated, ReasonCompleted, false)},
			"container web has not been started yet"},
		{ContainerRunning, []PartObserved{part("init", PartTerminated, ReasonCompleted, false), part("web", PartRunning, "", true),
			part("log", PartWaiting, ReasonCrashLoop, false)}, "container log is waiting: CrashLoopBackOff"},
		{ContainerRunning, []PartObserved{part("init", PartTerminated, ReasonCompleted, false), part("web", PartRunning, "", true),
			part("log", PartRunning, "", false)}, "container log runs and is not ready"},
		{ContainerRunning, []PartObserved{part("init", PartTerminated, ReasonCompleted, false), part("web", PartRunning, "", true),
			part("log", PartRunning, "", true)}, ""},
	} {
		p.Spec.RestartPolicy = PodRestartAlways
		p.Observed.Status, p.Observed.Parts = test.status, test.parts
		if got := p.Obstacle(); got != test.want {
			t.Errorf("%v: %q, not %q", test.parts, got, test.want)
		}
	}
	p.PlaceReason = "waits for a host"
	p.Observed = PodObserved{}
	if got := p.Obstacle(); got != p.PlaceReason {
		t.Errorf("%q, not %q", got, p.PlaceReason)
	}
}
