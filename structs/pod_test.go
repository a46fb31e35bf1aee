package structs

import (
	"slices"
	"testing"
)

// TestPodPhase: the phase follows from the states of the containers and the restart policy.
func TestPodPhase(t *testing.T) {
	code := func(n int) PartState { return PartState{State: PartTerminated, ExitCode: &n} }
	running, waiting := PartState{State: PartRunning}, PartState{State: PartWaiting}
	unknown, creating := func(p *Pod) { p.Observed.Status = ContainerUnknown }, func(p *Pod) { p.Observed.Status = ContainerCreating }
	gone, absent := func(p *Pod) { p.Gone = true }, func(p *Pod) { p.Desired = DesiredAbsent }
	for name, tt := range map[string]struct {
		policy   string
		init     []PartState
		parts    []PartState
		restarts bool // the first container was restarted
		change   func(*Pod)
		want     PodPhase
	}{
		"not reported":      {want: PodPending},
		"starts":            {parts: []PartState{running, waiting}, want: PodPending},
		"runs":              {parts: []PartState{running, running}, want: PodRunning},
		"init runs":         {init: []PartState{running}, parts: []PartState{waiting, waiting}, want: PodPending},
		"init is restarted": {init: []PartState{code(1)}, parts: []PartState{waiting, waiting}, want: PodPending},
		"init fails for good": {policy: PodRestartNever, init: []PartState{code(1)}, parts: []PartState{waiting, waiting},
			want: PodFailed},
		"init is done":             {init: []PartState{code(0)}, parts: []PartState{running, running}, want: PodRunning},
		"one ended, is restarted":  {parts: []PartState{code(0), code(0)}, want: PodRunning},
		"one ended with an error":  {policy: PodRestartOnFailure, parts: []PartState{code(1), code(0)}, want: PodRunning},
		"crash loop":               {parts: []PartState{waiting, running}, restarts: true, want: PodRunning},
		"all ended":                {policy: PodRestartOnFailure, parts: []PartState{code(0), code(0)}, want: PodSucceeded},
		"all ended, one in error":  {policy: PodRestartNever, parts: []PartState{code(0), code(137)}, want: PodFailed},
		"one ended, another runs":  {policy: PodRestartNever, parts: []PartState{code(0), running}, want: PodRunning},
		"on a lost host":           {parts: []PartState{running, running}, change: unknown, want: PodUnknown},
		"gone from its host":       {parts: []PartState{running, running}, change: gone, want: PodFailed},
		"being deleted":            {parts: []PartState{running, running}, change: absent, want: "Deleting"},
		"exit code is not known":   {policy: PodRestartNever, parts: []PartState{{State: PartTerminated}, code(0)}, want: PodSucceeded},
		"is created on its host":   {parts: []PartState{running, running}, change: creating, want: PodPending},
		"only one was ever listed": {parts: []PartState{running}, want: PodPending},
	} {
		p := &Pod{Placement: Placement{Desired: DesiredRunning}, Spec: PodSpec{RestartPolicy: PodRestartAlways}}
		if tt.policy != "" {
			p.Spec.RestartPolicy = tt.policy
		}
		p.Spec.Containers = []PodContainer{{Name: "a"}, {Name: "b"}}
		var reports []PartReport
		for i, s := range tt.parts {
			reports = append(reports, PartReport{Part: []string{"a", "b"}[i], State: s, Ready: s.State == PartRunning})
		}
		if tt.restarts {
			reports[0].Last = code(1)
		}
		for _, s := range tt.init {
			p.Spec.InitContainers = append(p.Spec.InitContainers, PodContainer{Name: "init"})
			reports = append(reports, PartReport{Part: "init", State: s})
		}
		if reports != nil {
			p.Observe(&ContainerReport{Observed: Observed{Status: ContainerRunning}, Parts: reports})
		}
		if tt.change != nil {
			tt.change(p)
		}
		if got := p.Status(); got != tt.want {
			t.Errorf("%s: %s, not %s", name, got, tt.want)
		}
		all := len(tt.parts) == 2 && !slices.ContainsFunc(tt.parts, func(s PartState) bool { return s.State != PartRunning })
		if ready := all && p.Phase() == PodRunning; p.Ready() != ready {
			t.Errorf("%s: ready is %v, not %v", name, p.Ready(), ready)
		}
	}
}

// TestPodObserve: a report changes what it has, and adds nothing that the spec doesn't have.
func TestPodObserve(t *testing.T) {
	p := &Pod{Spec: PodSpec{Containers: []PodContainer{{Name: "a"}, {Name: "b"}}}}
	p.Observe(&ContainerReport{Observed: Observed{Status: ContainerRunning, EngineID: "e", Addresses: []string{"10.0.0.2"}},
		Parts: []PartReport{
			{Part: "a", State: PartState{State: PartRunning}, Ready: true, ImageID: "i"}, {Part: "b", State: PartState{State: PartWaiting}},
			{Part: PodInfra}, {Part: "other"}}})
	before := p.Observed.Parts
	r := PartReport{Part: "b", State: PartState{State: PartRunning}, Started: true, Last: PartState{State: PartTerminated}}
	r.RestartCount, r.EngineID = 3, "eb"
	p.Observe(&ContainerReport{Observed: Observed{Status: ContainerRunning}, Parts: []PartReport{r}})
	if p.Observed.EngineID != "e" || p.Observed.Address != "" || len(p.Observed.Parts) != 2 || len(before) != 2 {
		t.Errorf("%+v", p.Observed)
	}
	if a := p.Part("a"); a == nil || !a.Ready || a.ImageID != "i" || a.State != PartRunning {
		t.Errorf("a is %+v", a)
	}
	if b := p.Part("b"); b == nil || b.Restarts != 3 || b.EngineID != "eb" || b.Last.State != PartTerminated || !b.Started {
		t.Errorf("b is %+v", b)
	}
	if before[1].State != PartWaiting {
		t.Error("the list of an earlier row has changed")
	}
	if p.Forget(); p.Observed.Status != "" || p.Observed.Parts != nil {
		t.Errorf("%+v", p.Observed)
	}
}

// TestPodDemand: what is reserved is the sum of the containers' requests, or the largest
// init container's; limits and ports that publish nothing aren't reserved.
func TestPodDemand(t *testing.T) {
	port := func(container, host int) PodPort {
		return PodPort{Port: Port{ContainerPort: container, HostPort: host, Protocol: "tcp"}}
	}
	s := PodSpec{
		NodeSelector:   map[string]string{"disk": "ssd"},
		InitContainers: []PodContainer{{Requests: Resources{Memory: 10, MilliCPU: 1}}, {Requests: Resources{Memory: 1, MilliCPU: 900}}},
		Containers: []PodContainer{
			{Requests: Resources{Memory: 3, MilliCPU: 100}, Limits: Resources{Memory: 1000}, Ports: []PodPort{port(80, 8080), port(81, 0)}},
			{Requests: Resources{Memory: 4, MilliCPU: 200}}},
	}
	d := s.Demand()
	if d.Memory != 10 || d.MilliCPU != 900 || len(d.Ports) != 1 || d.Ports[0].HostPort != 8080 || d.Constraints["disk"] != "ssd" {
		t.Errorf("%+v", d)
	}
	s.InitContainers = nil
	if d = s.Demand(); d.Memory != 7 || d.MilliCPU != 300 {
		t.Errorf("without init containers: %+v", d)
	}
}
