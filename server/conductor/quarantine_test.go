package conductor

import (
	"context"

	"fmt"
	"strings"
	"testing"

	"github.com/stackforge/magnum/structs"
)

// registerAs registers a host that names what it has followed.
func (h *harness) registerAs(id string, follows structs.Following) structs.HostRegistered {
	h.Helper()
	return must(h, RegisterHost{
		HostRegister: structs.HostRegister{
			HostID: id, Name: "host-" + id, Follows: follows,
			Fingerprint: structs.Fingerprint{Backend: structs.BackendDocker, Cores: 4, Memory: 8 << 30},
		},
		TokenHash: structs.HashSecret("join"), SecretHash: "s",
	})
}

// hostRow registers a host and returns its row.
func (h *harness) hostRow(name string) *structs.Host {
	h.Helper()
	id := h.host(name, nil)
	return h.store.Snapshot().Host(id)
}

// newest returns the newest lineage.
func (h *harness) newest() string { return h.store.Snapshot().Lineages().Current() }

// TestEachLeadershipBeginsALineage: a leadership writes its lineage in its first entry, and
// only there.
func TestEachLeadershipBeginsALineage(t *testing.T) {
	h := newHarness(t)
	first := h.newest()
	if !structs.IsID(first) {
		t.Fatalf("the first lineage is %q", first)
	}
	h.bay(alice, "web", 1)
	if h.newest() != first {
		t.Fatal("a leadership has two lineages")
	}
	before := h.store.Index()
	other := newHarnessOn(t, h.store)
	seen := ""
	other.proposer.before = func([]byte) error {
		seen = h.newest()
		return nil
	}
	other.bay(alice, "other", 1)
	if h.store.Index() != before+1 {
		t.Errorf("the bay and the lineage took %d entries", h.store.Index()-before)
	}
	lineages := h.store.Snapshot().Lineages()
	if seen != first || len(lineages.Last) != 2 || lineages.Last[1].First != before+1 || lineages.Current() == first {
		t.Errorf("lineages are %+v", lineages)
	}
	if err := h.proposer.VerifyLeader(t.Context()); err != nil {
		t.Fatal(err)
	}
	// What an earlier schema can't contain isn't written.
	old := newHarnessOf(t, structs.LeastSchema)
	old.bay(alice, "web", 1)
	if old.store.Snapshot().Lineages() != nil {
		t.Error("a cluster of the first schema has lineages")
	}
	if a := old.registerAs(structs.NewID(), structs.Following{ClusterID: old.store.Snapshot().Cluster().ClusterID, Lineage: structs.NewID(),
		Index: 1}); !a.Diverged {
		t.Error("an agent that has seen a lineage passes for one of a state without lineages")
	}
}

// TestRegisterOfAnotherHistory: the leader decides by its own state whether the agent's
// history is another one, and marks the quarantine pending.
func TestRegisterOfAnotherHistory(t *testing.T) {
	h := newHarness(t)
	first := h.newest()
	h.bay(alice, "web", 1)
	last := h.store.Index()
	second := newHarnessOn(t, h.store)
	second.bay(alice, "other", 1)
	cluster := h.store.Snapshot().Cluster()
	at := func(lineage string, index uint64) structs.Following {
		return structs.Following{ClusterID: cluster.ClusterID, Incarnation: cluster.Incarnation, Lineage: lineage, Index: index}
	}
	restored := at(first, last)
	for name, tt := range map[string]struct {
		follows structs.Following
		want    bool
	}{
		"nothing":                          {structs.Following{}, false},
		"no lineage":                       {at("", 1<<40), false},
		"an earlier leadership":            {at(first, last), false},
		"one that ended below":             {at(first, last+1), true},
		"the newest":                       {at(second.newest(), last+1), false},
		"the newest, ahead of the state":   {at(second.newest(), 1<<40), false},
		"an unknown one":                   {at(structs.NewID(), 1), true},
		"an unknown one, ahead":            {at(structs.NewID(), 1<<40), true},
		"an earlier incarnation, the same": {restored, false},
	} {
		id := structs.NewID()
		second.registerAs(id, structs.Following{}) // an unknown host that follows the cluster was deleted
		a := second.registerAs(id, tt.follows)
		pages := h.store.Snapshot().Quarantine(id)
		if a.Diverged != tt.want || (len(pages) == 1 && pages[0].Pending) != tt.want {
			t.Errorf("%s: diverged %v, pages %+v", name, a.Diverged, pages)
		}
		if a.Diverged && (a.Lineage != second.newest() || a.Index == 0) {
			t.Errorf("%s: %+v", name, a)
		}
	}
}

// quarantined returns the host's quarantine with the decisions.
func (h *harness) quarantined(hostID string) map[string]structs.Adoption {
	all := make(map[string]structs.Adoption)
	n := 0
	for i, page := range h.store.Snapshot().Quarantine(hostID) {
		if len(page.Kept) > structs.QuarantinePage || page.ID != structs.QuarantineID(hostID, i) {
			h.Errorf("page %s has %d containers", page.ID, len(page.Kept))
		}
		for _, k := range page.Kept {
			all[fmt.Sprintf("%s/%d", k.ContainerID, k.Epoch)] = k.Adoption
			if k.Adoption != structs.AdoptionRemove {
				n++
			}
		}
	}
	if got := h.store.Snapshot().Host(hostID).Quarantined; got != n {
		h.Errorf("the host's row counts %d, there are %d", got, n)
	}
	return all
}

func (h *harness) tellQuarantine(host *structs.Host, r structs.QuarantineReport) error {
	r.Registration = h.store.Snapshot().Host(host.ID).Registration
	return TakeQuarantine(h.Context(), h.Conductor, ReportQuarantine{HostID: host.ID, QuarantineReport: r})
}

// TestQuarantineInPages: thousands of containers with the longest names are reported in
// hundreds and ended again. Nothing is left, and no entry is too large.
func TestQuarantineInPages(t *testing.T) {
	h := newHarness(t)
	host := h.hostRow("h1")
	var refs []structs.QuarantineRef
	for range 1050 {
		refs = append(refs, structs.QuarantineRef{ContainerID: structs.NewID(), Epoch: 1})
	}
	report := func(refs []structs.QuarantineRef) (r structs.QuarantineReport) {
		for _, ref := range refs {
			r.Kept = append(r.Kept, structs.Quarantined{ContainerID: ref.ContainerID, Epoch: ref.Epoch,
				Name: strings.Repeat("ü", structs.MaxName), ProjectID: strings.Repeat("p", 64), SpecHash: "0123456789abcdef",
				State: "running"})
		}
		return r
	}
	for n := 0; n < len(refs); n += 100 {
		if err := h.tellQuarantine(host, report(refs[n:min(n+100, len(refs))])); err != nil {
			t.Fatal(err)
		}
	}
	if got := len(h.quarantined(host.ID)); got != len(refs) {
		t.Fatalf("%d of %d are in quarantine", got, len(refs))
	}
	index := h.store.Index()
	if err := h.tellQuarantine(host, report(refs[500:600])); err != nil || h.store.Index() != index {
		t.Errorf("the same again: %v, and %d entries", err, h.store.Index()-index)
	}
	// The references come from all pages: each entry would contain all pages.
	for n := range 11 {
		var ended []structs.QuarantineRef
		for i := n; i < len(refs); i += 11 {
			ended = append(ended, refs[i])
		}
		if err := h.tellQuarantine(host, structs.QuarantineReport{Ended: ended}); err != nil {
			t.Fatal(err)
		}
	}
	if left := h.store.Snapshot().Quarantine(host.ID); len(left) != 0 {
		t.Errorf("%d pages are left", len(left))
	}
	h.quarantined(host.ID)
	if h.proposer.largest > structs.MaxEntry {
		t.Errorf("an entry had %d bytes", h.proposer.largest)
	}
}

// TestQuarantineIsBounded: reports beyond the limit are refused, and the host's row shows
// the number of recorded ones.
func TestQuarantineIsBounded(t *testing.T) {
	h := newHarness(t)
	host := h.hostRow("h1")
	for range structs.MaxQuarantinePages {
		var r structs.QuarantineReport
		for range structs.QuarantinePage {
			r.Kept = append(r.Kept, structs.Quarantined{ContainerID: structs.NewID(), Epoch: 1})
		}
		if err := h.tellQuarantine(host, r); err != nil {
			t.Fatal(err)
		}
	}
	err := h.tellQuarantine(host, structs.QuarantineReport{Kept: []structs.Quarantined{{ContainerID: structs.NewID(), Epoch: 1}}})
	if structs.CodeOf(err) != structs.CodeTooLarge || !strings.Contains(err.Error(), "host-adopt") {
		t.Errorf("one too many: %v", err)
	}
	if n := len(h.quarantined(host.ID)); n != structs.QuarantinePage*structs.MaxQuarantinePages {
		t.Errorf("%d are in quarantine", n)
	}
}

func TestReportQuarantineRefusals(t *testing.T) {
	h := newHarness(t)
	host := h.hostRow("h1")
	err := TakeQuarantine(context.Background(), h.Conductor, ReportQuarantine{HostID: host.ID})
	if structs.CodeOf(err) != structs.CodeConflict {
		t.Errorf("of no registration: %v", err)
	}
	err = TakeQuarantine(context.Background(), h.Conductor, ReportQuarantine{HostID: structs.NewID()})
	if structs.CodeOf(err) != structs.CodeNotFound {
		t.Errorf("of no host: %v", err)
	}
	old := newHarnessOf(t, structs.LeastSchema)
	host = old.hostRow("h1")
	if err := old.tellQuarantine(host, structs.QuarantineReport{Judged: true,
		Kept: []structs.Quarantined{{ContainerID: "x"}}}); err != nil || len(old.store.Snapshot().Quarantine(host.ID)) > 0 {
		t.Errorf("in a cluster of the first schema: %v", err)
	}
}

// TestNextEpochPassesQuarantine: a new placement never gets the epoch of a quarantined one
// of a lost history.
func TestNextEpochPassesQuarantine(t *testing.T) {
	h := newHarness(t)
	old, other := h.hostRow("h1"), h.hostRow("h2")
	h.bay(alice, "web", 2)
	c := h.create(alice, "", structs.ContainerSpec{Image: "i"})
	kept := []structs.Quarantined{{ContainerID: c.ID, Epoch: c.Epoch + 1, Name: "web"},
		{ContainerID: structs.NewID(), Epoch: 99, Name: "another"}}
	if err := h.tellQuarantine(old, structs.QuarantineReport{Kept: kept}); err != nil {
		t.Fatal(err)
	}
	if err := h.tellQuarantine(other, structs.QuarantineReport{Kept: []structs.Quarantined{{ContainerID: c.ID, Epoch: c.Epoch + 4,
		Name: "web"}}}); err != nil {
		t.Fatal(err)
	}
	must(h, RebuildContainer{Caller: alice, Ident: c.ID})
	if now := h.store.Snapshot().Container(c.ID); now.Epoch != c.Epoch+5 {
		t.Errorf("the next placement has epoch %d, and %d to %d are in quarantine", now.Epoch, c.Epoch+1, c.Epoch+4)
	}
}

// TestAdoptContainer: a container is adopted only if it matches the cluster's row, and if
// there is no newer placement.
func TestAdoptContainer(t *testing.T) {
	spec := structs.ContainerSpec{Image: "i", Memory: 1 << 30}
	const huge = 1 << 20 // an epoch above all that the cluster uses in this test
	for name, tt := range map[string]struct {
		epoch  uint64
		hash   string
		change func(h *harness, c *structs.Container) // nil: placed on the host
		refuse string                                 // part of the refusal; "" if it is adopted
	}{
		"the same placement":      {epoch: 1},
		"another spec":            {epoch: 1, hash: "other", refuse: "another spec"},
		"an unreported spec":      {epoch: 1, hash: "none", refuse: "try again"},
		"a newer placement here":  {epoch: 0, refuse: "as new or newer (epoch 1 on host"},
		"an older placement here": {epoch: huge},
		"no row": {epoch: 1, refuse: "no container of that uuid", change: func(h *harness, c *structs.Container) {
			must(h, DeleteContainer{Caller: alice, Ident: c.ID, Force: true})
			h.report(c.ID, structs.Observed{Status: structs.ContainerGone, Generation: c.Generation + 1})
		}},
		"a row that goes": {epoch: 1, refuse: "being deleted", change: func(h *harness, c *structs.Container) {
			must(h, DeleteContainer{Caller: alice, Ident: c.ID, Force: true})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t)
			host := h.hostRow("h1")
			h.bay(alice, "web", 1)
			c := h.create(alice, "", spec)
			if tt.change != nil {
				tt.change(h, c)
			}
			hash := structs.SpecHash(&c.Spec.ContainerSpec)
			switch tt.hash {
			case "other":
				hash = "0000000000000000"
			case "none":
				hash = ""
			}
			k := structs.Quarantined{ContainerID: c.ID, Epoch: tt.epoch, Name: "web", SpecHash: hash}
			if err := h.tellQuarantine(host, structs.QuarantineReport{Kept: []structs.Quarantined{k}}); err != nil {
				t.Fatal(err)
			}
			_, err := Do(context.Background(), h.Conductor, AdoptContainer{Caller: root, Host: host.ID, Container: "web"})
			key := fmt.Sprintf("%s/%d", c.ID, tt.epoch)
			if tt.refuse != "" {
				if structs.CodeOf(err) != structs.CodeConflict || !strings.Contains(err.Error(), tt.refuse) ||
					h.quarantined(host.ID)[key] != structs.AdoptionNone {
					t.Fatalf("error %v, quarantine %v", err, h.quarantined(host.ID))
				}
				if tt.hash == "none" {
					return
				}
				must(h, AdoptContainer{Caller: root, Host: host.ID, Container: c.ID, Remove: true})
				if h.quarantined(host.ID)[key] != structs.AdoptionRemove {
					t.Errorf("quarantine %v", h.quarantined(host.ID))
				}
				return
			}
			if err != nil || h.quarantined(host.ID)[key] != structs.AdoptionKeep {
				t.Fatalf("error %v, quarantine %v", err, h.quarantined(host.ID))
			}
			after := h.store.Snapshot().Container(c.ID)
			if after.HostID != host.ID || after.Epoch != tt.epoch || after.AssignIndex != h.store.Index() {
				t.Errorf("the row is %+v", after)
			}
			index := h.store.Index()
			must(h, AdoptContainer{Caller: root, Host: host.ID, Container: c.ID})
			if _, err := Do(context.Background(), h.Conductor, AdoptContainer{Caller: root, Host: host.ID, Container: c.ID,
				Remove: true}); structs.CodeOf(err) != structs.CodeConflict {
				t.Errorf("the cluster's own was removed: %v, index %d after %d", err, h.store.Index(), index)
			}
		})
	}
}

// TestAdoptFromAnotherHost: the row's placement on another host is replaced if it is older,
// and stays if it is newer.
func TestAdoptFromAnotherHost(t *testing.T) {
	h := newHarness(t)
	hosts := []*structs.Host{h.hostRow("h1"), h.hostRow("h2")}
	h.bay(alice, "web", 2)
	c := h.create(alice, "", structs.ContainerSpec{Image: "i", Memory: 1 << 30})
	on, other := hosts[0], hosts[1]
	if c.HostID != on.ID {
		on, other = other, on
	}
	for _, epoch := range []uint64{c.Epoch, c.Epoch + 5} {
		k := structs.Quarantined{ContainerID: c.ID, Epoch: epoch, SpecHash: structs.SpecHash(&c.Spec.ContainerSpec)}
		if err := h.tellQuarantine(other, structs.QuarantineReport{Kept: []structs.Quarantined{k}}); err != nil {
			t.Fatal(err)
		}
		_, err := Do(context.Background(), h.Conductor, AdoptContainer{Caller: root, Host: other.ID, Container: c.ID})
		if epoch == c.Epoch {
			if structs.CodeOf(err) != structs.CodeConflict {
				t.Errorf("another host has the epoch: %v", err)
			}
			if err := h.tellQuarantine(other, structs.QuarantineReport{Ended: []structs.QuarantineRef{{ContainerID: c.ID,
				Epoch: epoch}}}); err != nil {
				t.Fatal(err)
			}
			continue
		}
		after := h.store.Snapshot().Container(c.ID)
		if err != nil || after.HostID != other.ID || after.Epoch != epoch || after.PriorOn(on.ID) == nil {
			t.Fatalf("error %v, row %+v", err, after)
		}
	}
	// No room: the demand of the container exceeds the host's free resources.
	big := h.create(alice, "", structs.ContainerSpec{Image: "i", Memory: 3 << 30})
	to := other
	if big.HostID == other.ID {
		to = on
	}
	h.create(alice, "", structs.ContainerSpec{Image: "i", Memory: 3 << 30})
	k := structs.Quarantined{ContainerID: big.ID, Epoch: big.Epoch + 1, SpecHash: structs.SpecHash(&big.Spec.ContainerSpec)}
	if err := h.tellQuarantine(to, structs.QuarantineReport{Kept: []structs.Quarantined{k}}); err != nil {
		t.Fatal(err)
	}
	if h.store.Snapshot().Usage(to.ID).Memory+int64(big.Spec.Memory) > to.Fingerprint.Memory {
		if _, err := Do(context.Background(), h.Conductor, AdoptContainer{Caller: root, Host: to.ID,
			Container: big.ID}); structs.CodeOf(err) != structs.CodeConflict || !strings.Contains(err.Error(), "no room") {
			t.Errorf("more than the host has: %v", err)
		}
	} else {
		t.Errorf("the host has room: %+v", h.store.Snapshot().Usage(to.ID))
	}
}

// TestHostWithQuarantineStaysInItsBay: another project's bay must not claim the host with
// the containers that run there. A lost host whose containers are to be removed may leave.
func TestHostWithQuarantineStaysInItsBay(t *testing.T) {
	h := newHarness(t)
	host := h.hostRow("h1")
	bay := h.bay(alice, "web", 1)
	id := structs.NewID()
	if err := h.tellQuarantine(host, structs.QuarantineReport{Kept: []structs.Quarantined{{ContainerID: id, Epoch: 1}}}); err != nil {
		t.Fatal(err)
	}
	h.hostRow("h2")
	must(h, PatchBay{Caller: alice, Ident: bay.ID, NodeCount: 2})
	h.settle()
	must(h, PatchBay{Caller: alice, Ident: bay.ID, NodeCount: 1})
	h.settle()
	if h.store.Snapshot().Host(host.ID).BayID != bay.ID {
		t.Error("it has left a bay that shrank")
	}
	must(h, DeleteBay{Caller: alice, Ident: bay.ID})
	h.settle()
	b := h.store.Snapshot().Bay(bay.ID)
	if b == nil || !strings.Contains(b.StatusReason, "host-adopt") || h.store.Snapshot().Host(host.ID).BayID != bay.ID {
		t.Fatalf("the bay is %+v", b)
	}
	must(h, AdoptContainer{Caller: root, Host: host.ID, Container: id, Remove: true})
	h.settle()
	if h.store.Snapshot().Bay(bay.ID) == nil {
		t.Fatal("the bay is gone before the agent has removed the container")
	}
	must(h, MarkHosts{Marks: []HostMark{{ID: host.ID, State: structs.HostLost}}})
	h.settle()
	if h.store.Snapshot().Bay(bay.ID) != nil {
		t.Error("the bay waits for a host that is lost")
	}
	if h.quarantined(host.ID)[id+"/1"] != structs.AdoptionRemove {
		t.Error("the host would not be told to remove it")
	}
}
