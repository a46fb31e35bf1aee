package agent

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/structs"
)

// TestSessionsWaitForTheFirstLook: an agent that has just started doesn't deny a
// container before it has listed its engine.
func TestSessionsWaitForTheFirstLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		over, cancel := context.WithCancel(t.Context())
		cancel()
		r := newReconciler(nil, backend.Owner{}, new(journal), nil, nil, hclog.NewNullLogger())
		r.ctx = over // the pass over the found container does nothing
		ref := structs.ContainerRef("c", 2)
		found := make(chan string, 1)
		go func() { found <- r.engineID(t.Context(), ref, false) }()
		synctest.Wait()
		select {
		case id := <-found:
			t.Fatalf("before the engine was asked, %q is found", id)
		default:
		}
		r.takeList([]backend.Entry{{Ref: ref, EngineID: "e"}})
		if id := <-found; id != "e" {
			t.Errorf("%q is found", id)
		}
		if id := r.engineID(t.Context(), structs.ContainerRef("c", 3), false); id != "" {
			t.Errorf("what isn't there is found as %q", id)
		}
		// The wait for an engine that is away is bounded.
		r = newReconciler(nil, backend.Owner{}, new(journal), nil, nil, hclog.NewNullLogger())
		if id := r.engineID(t.Context(), ref, false); id != "" {
			t.Errorf("%q is found on an engine that was never listed", id)
		}
	})
}
