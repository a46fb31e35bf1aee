package conductor

import (
	"slices"
	"strings"
	"testing"

	"github.com/stackforge/magnum/structs"
)

func hostsOf(h *harness, bayID string) []string {
	var names []string
	for host := range h.store.Snapshot().HostsInBay(bayID) {
		names = append(names, host.Name)
	}
	slices.Sort(names)
	return names
}

func TestBayClaimsHosts(t *testing.T) {
	h := newHarness(t)
	h.host("h1", map[string]string{"disk": "ssd"})
	h.host("h2", nil)
	b := must(h, CreateBay{Caller: alice, Name: "ssd", NodeCount: 2, Labels: map[string]string{"disk": "ssd"},
		Placement: structs.PlacementSpread})
	if b.Status != structs.BayCreating || !strings.Contains(b.StatusReason, "1 of 2 hosts") {
		t.Errorf("%s: %s", b.Status, b.StatusReason)
	}
	other := h.bay(bob, "any", 1)
	if other.Status != structs.BayCreated || other.StatusReason != "" {
		t.Errorf("%s: %s", other.Status, other.StatusReason)
	}
	if got := hostsOf(h, b.ID); !slices.Equal(got, []string{"h1"}) {
		t.Errorf("claimed %v", got)
	}
	h.host("h3", map[string]string{"disk": "ssd"})
	h.settle()
	if now := h.bayNow(b.ID); now.Status != structs.BayCreated || now.StatusReason != "" {
		t.Errorf("%s: %s", now.Status, now.StatusReason)
	}
}

func TestNewHostJoinsTheBayThatWaitsLongest(t *testing.T) {
	h := newHarness(t)
	first, second := h.bay(alice, "first", 1), h.bay(bob, "second", 1)
	waiting := h.create(alice, "", structs.ContainerSpec{})
	h.host("h1", nil)
	h.settle()
	if h.bayNow(first.ID).Status != structs.BayCreated || h.bayNow(second.ID).Status != structs.BayCreating {
		t.Error("the younger bay got the host")
	}
	if c := h.container(waiting.ID); c.HostID == "" || c.PlaceReason != "" {
		t.Errorf("the bay is complete, and its container waits: %s", c.PlaceReason)
	}
}

func TestNodeCount(t *testing.T) {
	h := newHarness(t)
	for _, name := range []string{"h1", "h2", "h3"} {
		h.host(name, nil)
	}
	b := h.bay(alice, "web", 1)
	must(h, PatchBay{Caller: alice, Ident: "web", NodeCount: 3})
	if now := h.bayNow(b.ID); now.Status != structs.BayUpdated || len(hostsOf(h, b.ID)) != 3 {
		t.Fatalf("%s with %v", now.Status, hostsOf(h, b.ID))
	}
	// Two hosts have containers. One of them must be emptied before it leaves the bay.
	var made []*structs.Container
	for range 2 {
		made = append(made, h.create(alice, "", structs.ContainerSpec{}))
	}
	must(h, PatchBay{Caller: alice, Ident: b.ID, NodeCount: 1})
	now := h.bayNow(b.ID)
	if now.Status != structs.BayUpdating || len(hostsOf(h, b.ID)) != 2 || !strings.Contains(now.StatusReason, "1 wanted") {
		t.Fatalf("%s (%s) with %v", now.Status, now.StatusReason, hostsOf(h, b.ID))
	}
	refuse(h, structs.CodeInvalid, PatchBay{Caller: alice, Ident: b.ID, NodeCount: 2}) // in progress
	must(h, DeleteContainer{Caller: alice, Ident: made[0].ID, Force: true})
	h.report(made[0].ID, structs.Observed{Status: structs.ContainerGone})
	h.settle()
	if now = h.bayNow(b.ID); now.Status != structs.BayUpdated || len(hostsOf(h, b.ID)) != 1 {
		t.Errorf("%s with %v", now.Status, hostsOf(h, b.ID))
	}
}

func TestDeleteBayEmptiesAndFrees(t *testing.T) {
	h := newHarness(t)
	host := h.host("h1", nil)
	b := h.bay(alice, "web", 1)
	var made []*structs.Container
	for range 250 { // more than one request of Settle can change
		made = append(made, h.create(alice, "", structs.ContainerSpec{}))
	}
	waiting := h.create(alice, "", structs.ContainerSpec{Memory: 1 << 40})
	must(h, DeleteBay{Caller: alice, Ident: "web"})
	must(h, DeleteBay{Caller: alice, Ident: "web"})
	h.settle()
	if h.bayNow(b.ID).Status != structs.BayDeleting || h.container(waiting.ID) != nil {
		t.Error("not on its way")
	}
	for _, c := range made {
		if h.container(c.ID).Desired != structs.DesiredAbsent {
			t.Fatal("a container stays")
		}
		h.report(c.ID, structs.Observed{Status: structs.ContainerGone})
	}
	h.settle()
	if h.bayNow(b.ID) != nil || h.store.Snapshot().Host(host).BayID != "" {
		t.Error("the bay or its claim is still there")
	}
}

func TestBayCreateTimeout(t *testing.T) {
	h := newHarness(t)
	b := must(h, CreateBay{Caller: alice, Name: "web", NodeCount: 1, Timeout: 5, Placement: structs.PlacementSpread})
	must(h, FailBay{ID: b.ID})
	now := h.bayNow(b.ID)
	if now.Status != structs.BayCreateFailed || !strings.Contains(now.StatusReason, "5 minutes") {
		t.Errorf("%s: %s", now.Status, now.StatusReason)
	}
	must(h, FailBay{ID: b.ID})
	must(h, FailBay{ID: structs.NewID()})
}

func TestBayModel(t *testing.T) {
	h := newHarness(t)
	m := must(h, CreateRow[structs.BayModel, *structs.BayModel]{Caller: alice, Row: structs.BayModel{Name: "bm", COE: "swarm"}})
	b := must(h, CreateBay{Caller: alice, BayModel: "bm", NodeCount: 1, Placement: structs.PlacementSpread})
	if b.COE != "swarm" || b.BayModelID != m.ID || b.Backend() != structs.BackendDocker {
		t.Errorf("%+v", b)
	}
	refuse(h, structs.CodeInvalid, CreateBay{Caller: bob, BayModel: m.ID, NodeCount: 1})
	refuse(h, structs.CodeInvalid, DeleteBayModel{Caller: alice, Ident: "bm"}) // referenced
	must(h, DeleteBay{Caller: alice, Ident: b.ID})
	h.settle()
	must(h, DeleteBayModel{Caller: alice, Ident: "bm"})
}

func TestHostLostAndBack(t *testing.T) {
	h := newHarness(t)
	host := h.host("h1", nil)
	h.bay(alice, "web", 1)
	var made []*structs.Container
	for range 150 {
		c := h.create(alice, "", structs.ContainerSpec{})
		h.report(c.ID, structs.Observed{Status: structs.ContainerRunning})
		made = append(made, c)
	}
	must(h, MarkHosts{Marks: []HostMark{{ID: host, State: structs.HostLost, Reason: "silent"}}})
	h.settle()
	for _, c := range made {
		if now := h.container(c.ID); now.Status() != structs.ContainerUnknown || !strings.Contains(now.StatusReason(), "h1") {
			t.Fatalf("%s: %s", now.Status(), now.StatusReason())
		}
	}
	late := h.create(alice, "", structs.ContainerSpec{})
	if h.container(late.ID).HostID != "" {
		t.Error("placed on a lost host")
	}
	must(h, DeleteContainer{Caller: alice, Ident: made[1].ID, Force: true})
	if h.container(made[1].ID) != nil {
		t.Error("force does not forget what is on a lost host")
	}
	must(h, MarkHosts{Marks: []HostMark{{ID: host, State: structs.HostReady}}})
	h.settle()
	h.report(made[0].ID, structs.Observed{Status: structs.ContainerRunning})
	if h.container(made[0].ID).Status() != structs.ContainerRunning || h.container(late.ID).HostID != host {
		t.Error("the host is back, and its containers are not")
	}
}

// TestSupersededAgentIsRefused: of two agents with copies of one data directory, the one
// that registered last works, and the other is refused. An agent that has just started is
// always admitted, and so is one that lost the answer to its last registration.
func TestSupersededAgentIsRefused(t *testing.T) {
	h := newHarness(t)
	id, first, copied := structs.NewID(), structs.NewID(), structs.NewID()
	as := func(instance string, had uint64) RegisterHost {
		return RegisterHost{
			HostRegister: structs.HostRegister{HostID: id, Name: "h", Instance: instance, Registration: had,
				Fingerprint: structs.Fingerprint{Backend: structs.BackendDocker}},
			TokenHash: structs.HashSecret("join"), SecretHash: structs.HashSecret("s"),
		}
	}
	registers := func(r RegisterHost, want uint64) {
		t.Helper()
		if got := must(h, r); got.Registration != want {
			t.Errorf("registration %d, want %d", got.Registration, want)
		}
	}
	registers(as(first, 0), 1)
	registers(as(first, 1), 2) // its answer is lost
	registers(as(first, 1), 3)
	registers(as(copied, 0), 4)
	if err := refuse(h, structs.CodeConflict, as(first, 3)); !strings.Contains(err.Error(), "was copied") ||
		!strings.Contains(err.Error(), "after a restart") {
		t.Errorf("refused with %v", err)
	}
	must(h, NoteHost{ID: id, Reason: "there is a copy"})
	must(h, NoteHost{ID: structs.NewID(), Reason: "nobody's"})
	if got := h.store.Snapshot().Host(id); got.Registration != 4 || got.StateReason != "there is a copy" || got.State != structs.HostReady {
		t.Errorf("%+v", got)
	}
	registers(as(copied, 4), 5) // the server was restored, say
	registers(as(structs.NewID(), 0), 6)
	refuse(h, structs.CodeConflict, as(copied, 5))
	registers(as("", 4), 7) // an agent that sends no instance
	if got := h.store.Snapshot().Host(id).StateReason; got != "" {
		t.Errorf("after a registration the host's reason is %q", got)
	}
	// A server that was restored to a state with fewer registrations than the agent's.
	registers(as(first, 99), 8)
	must(h, MarkHosts{Marks: []HostMark{{ID: id, State: structs.HostLost, Reason: "silent"}}})
	must(h, NoteHost{ID: id, Reason: "there is a copy"})
	if got := h.store.Snapshot().Host(id).StateReason; got != "silent" {
		t.Errorf("the reason of a lost host is %q", got)
	}
}

func TestRegister(t *testing.T) {
	h := newHarness(t)
	id := h.host("h1", nil)
	again := h.register(id, "h1", nil)
	if again.Registration != 2 {
		t.Errorf("registration %d", again.Registration)
	}
	refuse(h, structs.CodeUnauthenticated, RegisterHost{HostRegister: structs.HostRegister{HostID: id},
		TokenHash: structs.HashSecret("join"), SecretHash: structs.HashSecret("another")})
	refuse(h, structs.CodeUnauthenticated, RegisterHost{HostRegister: structs.HostRegister{HostID: structs.NewID()},
		TokenHash: structs.HashSecret("wrong"), SecretHash: structs.HashSecret("s")})
	refuse(h, structs.CodeConflict, ReportStatus{HostID: id, StatusReport: structs.StatusReport{Registration: 1, Seq: 1}})
	must(h, ReportStatus{HostID: id, StatusReport: structs.StatusReport{Registration: 2, Seq: 5}})
	before := h.proposer.entries
	if got := must(h, ReportStatus{HostID: id, StatusReport: structs.StatusReport{Registration: 2, Seq: 4}}); got.Seq != 5 ||
		h.proposer.entries != before {
		t.Errorf("a repeat was taken: %+v", got)
	}
}
