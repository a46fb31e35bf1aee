package conductor

import (
	"testing"

	"github.com/stackforge/magnum/structs"
)

// cleanable registers a host of a cluster that keeps projects apart.
func (h *harness) cleanable(name string, cleans bool) string {
	h.Helper()
	id := structs.NewID()
	must(h, RegisterHost{HostRegister: structs.HostRegister{HostID: id, Name: name, Fingerprint: structs.Fingerprint{
		Backend: structs.BackendDocker, Cores: 4, Memory: 4 << 30, Cleans: cleans}},
		TokenHash: structs.HashSecret("join"), SecretHash: structs.HashSecret(name), Separate: true})
	return id
}

// cleaned reports how the host was cleaned.
func (h *harness) cleaned(id string, r structs.CleanReport) {
	h.Helper()
	host := h.store.Snapshot().Host(id)
	must(h, ReportStatus{HostID: id, StatusReport: structs.StatusReport{Registration: host.Registration, Seq: host.ReportSeq + 1,
		Cleaned: &r}})
}

// TestHostIsCleanedForAnotherProject: a host that a bay gives back goes to another project
// only once its agent has removed what was left.
func TestHostIsCleanedForAnotherProject(t *testing.T) {
	h := newHarness(t)
	id := h.cleanable("h1", true)
	host := func() *structs.Host { return h.store.Snapshot().Host(id) }
	a := h.bay(alice, "a", 1)
	b := h.bay(bob, "b", 1) // waits
	if host().BayID != a.ID || host().Cleaning != nil {
		t.Fatalf("the host is %+v", host())
	}
	must(h, DeleteBay{Caller: alice, Ident: "a"})
	h.settle()
	c := host().Cleaning
	if c == nil || c.Epoch != 1 || c.ProjectID != "p1" || host().BayID != "" {
		t.Fatalf("the freed host is %+v", host())
	}
	h.cleaned(id, structs.CleanReport{Epoch: 1, Error: "a volume is in use"})
	h.cleaned(id, structs.CleanReport{Epoch: 7})
	h.settle()
	if c := host().Cleaning; c == nil || c.Attempts != 1 || c.Reason != "a volume is in use" || host().BayID != "" {
		t.Fatalf("after a failure the host is %+v", host())
	}
	h.cleaned(id, structs.CleanReport{Epoch: 1})
	h.settle()
	if host().Cleaning != nil || host().CleanedAt.IsZero() || host().BayID != b.ID {
		t.Fatalf("the clean host is %+v", host())
	}
	// Lowering node_count frees hosts, too, and a later cleaning is another one.
	second := h.cleanable("h2", true)
	must(h, PatchBay{Caller: bob, Ident: "b", NodeCount: 2})
	h.settle()
	must(h, PatchBay{Caller: bob, Ident: "b", NodeCount: 1})
	h.settle()
	freed := 0
	for _, id := range []string{id, second} {
		if h := h.store.Snapshot().Host(id); h.BayID == "" && h.Cleaning != nil {
			freed++
		}
	}
	if freed != 1 {
		t.Errorf("%d hosts are being cleaned", freed)
	}
}

// TestHostThatCantBeCleaned: the same project gets it back, and nobody else does.
func TestHostThatCantBeCleaned(t *testing.T) {
	h := newHarness(t)
	id := h.cleanable("h1", false)
	bay := func() string { return h.store.Snapshot().Host(id).BayID }
	h.bay(alice, "a", 1)
	must(h, DeleteBay{Caller: alice, Ident: "a"})
	h.settle()
	h.bay(bob, "b", 1)
	must(h, CreateBay{Caller: alice, Name: "common", NodeCount: 1, Shared: true, Placement: structs.PlacementSpread})
	h.settle()
	if bay() != "" {
		t.Fatalf("bay %s has the host", bay())
	}
	own := h.bay(alice, "a2", 1)
	h.settle()
	if bay() != own.ID || h.store.Snapshot().Host(id).Cleaning != nil {
		t.Errorf("the host is %+v", h.store.Snapshot().Host(id))
	}
	must(h, DeleteBay{Caller: alice, Ident: "a2"})
	h.settle()
	if c := h.store.Snapshot().Host(id).Cleaning; c == nil || c.Epoch != 2 {
		t.Errorf("the cleaning is %+v", c)
	}
}

// TestNothingIsCleanedWithoutTenants: without authentication there is one project only, and a
// cluster of an earlier schema doesn't know cleanings.
func TestNothingIsCleanedWithoutTenants(t *testing.T) {
	for schema, register := range map[int]func(*harness) string{
		structs.SchemaVersion:   func(h *harness) string { return h.host("h1", nil) },
		structs.SchemaHosts - 1: func(h *harness) string { return h.cleanable("h1", true) },
	} {
		h := newHarnessOf(t, schema)
		id := register(h)
		h.bay(alice, "a", 1)
		must(h, DeleteBay{Caller: alice, Ident: "a"})
		h.settle()
		if host := h.store.Snapshot().Host(id); host.Cleaning != nil || host.BayID != "" || host.Cleanings != 0 || host.Fingerprint.Cleans {
			t.Errorf("schema %d: the host is %+v", schema, host)
		}
	}
}
