package conductor

import (
	"encoding/json"
	"testing"

	"github.com/stackforge/magnum/server/state/statetest"
	"github.com/stackforge/magnum/structs"
)

// TestQuarantineOfEachKind: a host quarantines a workload of another history, and its agent
// reports it in JSON. An operator has it adopted or removed.
func TestQuarantineOfEachKind(t *testing.T) {
	eachKind(t, func(h *harness, k kind) {
		w := h.workload(k, 1<<30, structs.Policy{})
		was := *w.place()
		host, other := h.store.Snapshot().Host(was.HostID), h.other(was.HostID)
		tell := func(hostID string, report structs.QuarantineReport) {
			t.Helper()
			report.Registration = h.store.Snapshot().Host(hostID).Registration
			b, err := json.Marshal(report)
			if err != nil {
				t.Fatal(err)
			}
			told := ReportQuarantine{HostID: hostID}
			if err := json.Unmarshal(b, &told.QuarantineReport); err != nil {
				t.Fatal(err)
			}
			must(h, told)
		}
		keeps := func(hostID string) (refs []structs.Ref) {
			for _, page := range h.store.Snapshot().Quarantine(hostID) {
				for _, q := range page.Kept {
					refs = append(refs, q.Ref())
				}
			}
			return refs
		}
		ref := structs.Ref{Kind: k.name, ID: w.id, Epoch: was.Epoch + 5}
		kept := structs.QuarantinedOf(ref)
		kept.Name, kept.SpecHash = "web", w.now().SpecHash()
		tell(other, structs.QuarantineReport{Kept: []structs.Quarantined{kept, kept}})
		if got := keeps(other); len(got) != 1 || got[0] != ref {
			t.Fatalf("in quarantine are %v", got)
		}
		unknown := structs.QuarantinedOf(structs.Ref{Kind: "nobody-knows", ID: structs.NewID(), Epoch: 1})
		tell(other, structs.QuarantineReport{Kept: []structs.Quarantined{unknown}})
		if got := keeps(other); len(got) != 1 {
			t.Fatalf("of an unknown kind is %v", got)
		}
		must(h, AdoptContainer{Caller: root, Host: other, Container: w.id})
		if p := w.place(); p.HostID != other || p.Epoch != ref.Epoch || len(p.Priors) != 1 || p.Priors[0].HostID != host.ID {
			t.Fatalf("kept, it is placed as %+v", p)
		}
		tell(other, structs.QuarantineReport{Ended: []structs.QuarantineRef{structs.QuarantineRefOf(ref)}})
		if got := keeps(other); len(got) != 0 {
			t.Fatalf("in quarantine are still %v", got)
		}
		gone := structs.QuarantinedOf(structs.Ref{Kind: k.name, ID: structs.NewID(), Epoch: 2})
		tell(other, structs.QuarantineReport{Kept: []structs.Quarantined{gone}})
		refuse(h, structs.CodeConflict, AdoptContainer{Caller: root, Host: other, Container: gone.Ref().ID})
		must(h, AdoptContainer{Caller: root, Host: other, Container: gone.Ref().ID, Remove: true})
		if q := h.store.Snapshot().Quarantine(other); len(q) != 1 || q[0].Kept[0].Adoption != structs.AdoptionRemove {
			t.Fatalf("the host has %+v", q)
		}
	})
}

// TestReportsOfPartsAreStored: an agent's report of the parts is written to the row.
func TestReportsOfPartsAreStored(t *testing.T) {
	eachKind(t, func(h *harness, k kind) {
		w := h.workload(k, 1<<30, structs.Policy{})
		p := w.place()
		w.says(p.HostID, p.Epoch, structs.ContainerRunning)
		if seen := w.now().Seen(); seen.Status != structs.ContainerRunning {
			t.Errorf("it is seen as %+v", seen)
		}
		parts := 0
		switch now := w.now().(type) {
		case *structs.Pod:
			parts = len(now.Observed.Parts)
		case *statetest.Pair:
			parts = len(now.Observed.Parts)
		}
		if parts != len(k.parts) {
			t.Errorf("of its parts is seen %+v", w.now())
		}
	})
}
