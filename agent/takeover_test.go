package agent

import (
	"os"
	"testing"
	"time"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/structs"
)

// TestJournalOfBuildsWithoutKindsIsRead takes over the engine and journal of a build
// that knew only containers, killed between an intent and its start. Only the action in
// progress is carried out.
func TestJournalOfBuildsWithoutKindsIsRead(t *testing.T) {
	inHost(t, func(h *host) {
		h.stop()
		b, err := os.ReadFile("testdata/containers.journal")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(h.path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		born := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
		put := func(id, engineID string, state backend.State) structs.Assignment {
			a := want(id, 1, structs.DesiredRunning)
			if id == "always" {
				a.Spec.RestartPolicy.Name = structs.RestartAlways
			}
			c := backend.Container{Entry: backend.Entry{Ref: ref(a), EngineID: engineID, Name: backend.NameOf(ref(a)), CreatedAt: born},
				SpecHash: backend.Hash(a.Spec), State: state}
			if state != backend.StateCreated {
				c.StartedAt = born
			}
			h.fake.Outside.Put(h.owner, c, *a.Spec)
			return a
		}
		running := put("running", "e2", backend.StateRunning)
		stopped := next(put("stopped", "e3", backend.StateExited), structs.DesiredStopped)
		killed := put("killed", "e4", backend.StateRunning)
		killed.Generation, killed.KillGeneration, killed.Signal = 2, 2, "SIGHUP"
		always := put("always", "e5", backend.StateRunning)
		kept := put("kept", "e6", backend.StateRunning)
		dying := put("dying", "e8", backend.StateCreated)
		dying.Generation, dying.StartGeneration = 2, 2
		h.start()
		if at := h.rec.journal.position(); at != (position{ClusterID: "c1", Incarnation: 1, Index: 42, Lineage: "l1", BayID: "b1"}) {
			t.Errorf("it has followed %+v", at)
		}
		all := []structs.Assignment{running, stopped, killed, always, dying}
		h.full(true, all...) // the answer doesn't name the quarantine
		for _, a := range all {
			status := structs.ContainerRunning
			if a.Desired == structs.DesiredStopped {
				status = structs.ContainerStopped
			}
			h.completed(a, status)
			starts := 0
			if a.ContainerID == "dying" {
				starts = 1
			}
			h.counts(a, starts, 0)
		}
		if sent := h.fake.Seen.Signals(ref(killed)); len(sent) != 0 {
			t.Errorf("%q was sent again", sent)
		}
		if got := h.last("always").RestartCount; got != 1 {
			t.Errorf("%d restarts are reported, want that of the journal", got)
		}
		h.counts(kept, 0, 0)
		if c := h.fake.Seen.Containers()[ref(kept)]; c.State != backend.StateRunning {
			t.Errorf("what is in quarantine is %+v", c)
		}
		if n := len(h.fake.Seen.Containers()); n != 6 {
			t.Errorf("%d containers are there", n)
		}
		// The rewritten journal says the same.
		h.restart()
		h.full(true, all...)
		h.counts(dying, 1, 0)
		h.counts(running, 0, 0)
		h.counts(kept, 0, 0)
	})
}
