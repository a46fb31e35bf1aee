package structs

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// twin is a workload of another kind than container.
type twin struct{ Container }

func (w *twin) Ref() Ref { return Ref{Kind: "twin", ID: w.ID, Epoch: w.Epoch} }

// TestAssignmentRefs checks that an assignment names its placement, and that an agent
// that knows only containers can't act on one of another kind.
func TestAssignmentRefs(t *testing.T) {
	c := &Container{Meta: Meta{ID: "c"}, Placement: Placement{HostID: "h", Epoch: 3, Priors: []Prior{{HostID: "old", Epoch: 2}}}}
	pair := &twin{Container: *c}
	for _, want := range []struct {
		w    Workload
		host string
		ref  Ref
	}{
		{c, "h", ContainerRef("c", 3)}, {c, "old", ContainerRef("c", 2)},
		{pair, "h", Ref{Kind: "twin", ID: "c", Epoch: 3}}, {pair, "old", Ref{Kind: "twin", ID: "c", Epoch: 2}},
	} {
		a := AssignmentOf(want.w, want.host)
		sent, err := json.Marshal(Work{Confirmed: true, Assignments: []Assignment{a}})
		if err != nil {
			t.Fatal(err)
		}
		if a.Ref() != want.ref {
			t.Errorf("%v on %s: the assignment is of %v", want.ref, want.host, a.Ref())
		}
		isContainer := want.ref.Kind == WorkloadContainer
		if strings.Contains(string(sent), `"kind"`) == isContainer {
			t.Errorf("%v is sent as %s", want.ref, sent)
		}
		var got Work
		if err := json.Unmarshal(sent, &got); err != nil {
			t.Fatal(err)
		}
		if !got.Confirmed || len(got.Assignments) != 1 || got.Assignments[0].Ref() != want.ref {
			t.Errorf("%v arrives as %+v", want.ref, got)
		}
		// Agents that know only containers find no name in such an assignment. They
		// drop it, and the answer is no longer confirmed for them.
		var named struct {
			Assignments []struct {
				ContainerID string `json:"container_id"`
			}
		}
		if err := json.Unmarshal(sent, &named); err != nil || (named.Assignments[0].ContainerID != "") != isContainer {
			t.Errorf("%v names container %q to them, %v", want.ref, named.Assignments[0].ContainerID, err)
		}
	}
}

// TestSessionRefs checks that an offer keeps its reference when it is sent.
func TestSessionRefs(t *testing.T) {
	for _, ref := range []Ref{{}, ContainerRef("c", 4), {Kind: WorkloadPod, ID: "p", Epoch: 1}, {Kind: WorkloadPod, ID: "p", Epoch: 1,
		Part: "web"}} {
		var offer, got SessionOffer
		offer.About(ref)
		sent, err := json.Marshal(offer)
		if err != nil || json.Unmarshal(sent, &got) != nil {
			t.Fatal(err)
		}
		if got.Ref() != ref {
			t.Errorf("%v arrives as %v: %s", ref, got.Ref(), sent)
		}
		if ref.Kind != WorkloadPod && strings.Contains(string(sent), "workload") {
			t.Errorf("%v is sent as %s: agents of earlier builds know no such field", ref, sent)
		}
	}
	if got := (Ref{Kind: WorkloadPod, ID: "p", Epoch: 7, Part: "web"}).String(); got != "pod/p/7/web" {
		t.Errorf("a reference is written as %s", got)
	}
}

// TestReady: a workload is ready once it runs and its checks, if it has any, have succeeded.
func TestReady(t *testing.T) {
	for _, tt := range []struct {
		status ContainerStatus
		health string
		want   bool
	}{
		{ContainerRunning, "", true}, {ContainerRunning, "healthy", true}, {ContainerRunning, "starting", false},
		{ContainerRunning, "unhealthy", false}, {ContainerStopped, "", false}, {"", "", false}, {ContainerPaused, "healthy", false},
	} {
		c := &Container{Observed: Observed{Status: tt.status, Health: tt.health}}
		if c.Ready() != tt.want {
			t.Errorf("status %q, health %q: ready is %v", tt.status, tt.health, c.Ready())
		}
	}
}

// TestStartTime: the time is what the checks allow for the start, of the slowest container.
func TestStartTime(t *testing.T) {
	c := &Container{}
	if got := c.StartTime(); got != 0 {
		t.Errorf("without a check: %v", got)
	}
	c.Spec.Healthcheck = &Healthcheck{Interval: 30, StartPeriod: 100, Timeout: 7}
	if got := c.StartTime(); got != 130*time.Second {
		t.Errorf("of a health check: %v", got)
	}
	p := &Pod{Spec: PodSpec{Containers: []PodContainer{{Liveness: &Probe{InitialDelay: 1000, Period: 1000, Success: 1, Failure: 3}}}}}
	if got := p.StartTime(); got != 0 {
		t.Errorf("of a liveness probe: %v", got)
	}
	p.Spec.Containers = append(p.Spec.Containers,
		PodContainer{Readiness: &Probe{InitialDelay: 5, Period: 10, Success: 2, Failure: 3}},
		PodContainer{Startup: &Probe{InitialDelay: 1, Period: 10, Success: 1, Failure: 30}, Readiness: &Probe{Period: 3, Success: 1}})
	if got := p.StartTime(); got != 304*time.Second {
		t.Errorf("of the slowest container: %v", got)
	}
}
