package structs

import "testing"

// TestPhaseAfterTheDeadline: a pod that has run for as long as it may has failed, whatever
// its restart policy says and whichever of its containers were started.
func TestPhaseAfterTheDeadline(t *testing.T) {
	code := 137
	ended := PartState{State: PartTerminated, Reason: ReasonDeadline, ExitCode: &code}
	for _, policy := range []string{PodRestartAlways, PodRestartOnFailure, PodRestartNever} {
		p := &Pod{Spec: PodSpec{RestartPolicy: policy, InitContainers: []PodContainer{{Name: "prepare"}},
			Containers: []PodContainer{{Name: "web"}, {Name: "side"}}}}
		for name, parts := range map[string][]PartObserved{
			"all ran": {{Name: "prepare", PartState: PartState{State: PartTerminated, ExitCode: new(int)}},
				{Name: "web", PartState: ended}, {Name: "side", PartState: ended}},
			"one was not begun": {{Name: "prepare", PartState: ended},
				{Name: "web", PartState: PartState{State: PartTerminated, Reason: ReasonDeadline}}},
		} {
			p.Observed = PodObserved{Seen: Seen{Status: ContainerStopped}, Parts: parts}
			if got := p.Phase(); got != PodFailed {
				t.Errorf("%s, %s: %s", policy, name, got)
			}
		}
	}
}
