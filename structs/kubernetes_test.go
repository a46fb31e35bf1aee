package structs

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestCut(t *testing.T) {
	for in, want := range map[string]string{"": "", "abc": "abc", "a\x1b[31m\nb\tc": "a [31m\nb\tc", "a\u202eb": "a b"} {
		if got := Cut(in, 100); got != want {
			t.Errorf("Cut(%q) is %q, want %q", in, got, want)
		}
	}
	if got := CutLine("a\nb\tc", 100); got != "a b c" {
		t.Errorf("CutLine: %q", got)
	}
	if got := Cut(strings.Repeat("é", 100), 9); got != "éééé" || !utf8.ValidString(got) {
		t.Errorf("a cut text is %q", got)
	}
}

func TestAwayText(t *testing.T) {
	if got := AwayText(nil) + AwayText(&KubernetesCluster{Ready: 3}); got != "" {
		t.Errorf("while the API answers: %q", got)
	}
	since := time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("x", 3600))
	if got := AwayText(&KubernetesCluster{AwaySince: since}); got != "has not answered since 2026-01-02T02:04:05Z" {
		t.Errorf("%q", got)
	}
	if got := AwayText(&KubernetesCluster{AwaySince: since, Away: "refused"}); got !=
		"has not answered since 2026-01-02T02:04:05Z: refused" {
		t.Errorf("%q", got)
	}
}

// TestReadyPodOfACluster: the cluster's condition says whether a pod is ready.
func TestReadyPodOfACluster(t *testing.T) {
	p := &Pod{Spec: PodSpec{Cluster: true, Containers: []PodContainer{{Name: "a"}}}}
	observe := func(phase PodPhase, ready string) {
		r := &ContainerReport{Observed: Observed{Status: ContainerRunning}, Pod: &PodReport{Phase: phase,
			Conditions: []Condition{{Type: "PodScheduled", Status: "True"}, {Type: ConditionReady, Status: ready}}}}
		r.Parts = []PartReport{{Part: "a", State: PartState{State: PartRunning}, Ready: true}}
		p.Observe(r)
	}
	for _, test := range []struct {
		phase PodPhase
		ready string
		want  bool
	}{{PodRunning, "True", true}, {PodRunning, "False", false}, {PodRunning, "Unknown", false}, {PodSucceeded, "True", false}} {
		if observe(test.phase, test.ready); p.Ready() != test.want {
			t.Errorf("%s with Ready %s: ready is %v", test.phase, test.ready, p.Ready())
		}
	}
	if got := p.Demand(); got.Memory != 0 || got.Kind != WorkloadPod || len(got.Ports) != 0 {
		t.Errorf("its demand is %+v", got)
	}
	many := make([]Condition, 100)
	p.Observe(&ContainerReport{Observed: Observed{Status: ContainerRunning}, Pod: &PodReport{Conditions: many}})
	if len(p.Observed.Conditions) != MaxConditions {
		t.Errorf("%d conditions are kept", len(p.Observed.Conditions))
	}
}
