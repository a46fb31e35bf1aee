package conductor

import (
	"reflect"
	"testing"
	"time"

	"github.com/stackforge/magnum/structs"
)

// TestObservationOutlivesTheContainer: a pruned container keeps its observation, and a
// container that is created again begins without one.
func TestObservationOutlivesTheContainer(t *testing.T) {
	h := newHarness(t)
	h.host("h1", nil)
	h.bay(alice, "b", 1)
	code := 4
	seen := structs.Observed{
		Status: structs.ContainerStopped, Reason: "its process has ended", Health: "healthy", ExitCode: &code,
		StartedAt: time.Unix(100, 0).UTC(), FinishedAt: time.Unix(200, 0).UTC(), RestartCount: 3,
		Addresses: []string{"10.0.0.2"}, Ports: []structs.Port{{ContainerPort: 80, HostPort: 32768, Protocol: "tcp"}},
		Memory: 64 << 20, MilliCPU: 500, EngineID: "e1",
	}
	c := h.create(alice, "", structs.ContainerSpec{})
	h.report(c.ID, seen)
	// Every field of an observation, present or future, has to be kept or named here.
	want := h.container(c.ID).Observed
	want.Status, want.Reason = structs.ContainerError, "pruned; start it to create it again, or delete it"
	want.Health, want.Memory, want.MilliCPU = "", 0, 0
	for range 2 { // a restarted agent reports it again
		h.report(c.ID, structs.Observed{Status: structs.ContainerGone, Reason: "pruned"})
		if got := h.container(c.ID).Observed; !reflect.DeepEqual(got, want) {
			t.Fatalf("known of a pruned container is\n%+v, want\n%+v", got, want)
		}
	}
	for i, v := 0, reflect.ValueOf(seen); i < v.NumField(); i++ {
		switch name := v.Type().Field(i).Name; name {
		case "_struct", "Generation", "Failed":
		default:
			if v.Field(i).IsZero() {
				t.Errorf("the test does not cover %s", name)
			}
		}
	}
	must(h, ActOnContainer{Caller: alice, Ident: c.ID, Action: ActionStart})
	if got := h.container(c.ID); got.Epoch != 2 || !reflect.DeepEqual(got.Observed, structs.Observed{}) {
		t.Errorf("epoch %d begins with %+v", got.Epoch, got.Observed)
	}
}
