package conductor

import (
	"strings"
	"testing"

	"github.com/stackforge/magnum/structs"
)

// refusal returns a host's report that it has no network for the container.
func (h *harness) refusal(id string) {
	h.Helper()
	c := h.container(id)
	host := h.store.Snapshot().Host(c.HostID)
	full := true
	must(h, ReportStatus{HostID: host.ID, StatusReport: structs.StatusReport{
		Registration: host.Registration, Seq: host.ReportSeq + 1, NetworksFull: &full,
		Containers: []structs.ContainerReport{{ContainerID: id, Epoch: c.Epoch, Refused: true, Observed: structs.Observed{
			Status: structs.ContainerError, Reason: "the host has no room", Generation: c.Generation, Failed: true,
		}}},
	}})
	h.settle()
}

// room reports whether the host has room for another project's network.
func (h *harness) room(hostID string, room bool) {
	h.Helper()
	host := h.store.Snapshot().Host(hostID)
	full := !room
	must(h, ReportStatus{HostID: host.ID, StatusReport: structs.StatusReport{Registration: host.Registration, Seq: host.ReportSeq + 1,
		NetworksFull: &full}})
	h.settle()
}

// TestNoNetworkLeft: a container whose host has no network for it is placed on another
// host, or waits with the reason until there is room.
func TestNoNetworkLeft(t *testing.T) {
	h := newHarness(t)
	h.host("h1", nil)
	h.host("h2", nil)
	bay := must(h, CreateBay{Caller: root, Name: "b", NodeCount: 2, Placement: structs.PlacementSpread, Shared: true})
	of := func(project string) *structs.Container {
		return h.create(structs.Caller{ProjectID: project, Roles: []structs.Role{structs.RoleMember}}, bay.ID, structs.ContainerSpec{})
	}
	// One project has a container on each host, and then no more networks are left.
	a1, a2 := of("a"), of("a")
	h.report(a1.ID, running)
	h.report(a2.ID, running)
	b := of("b")
	first := b.HostID
	h.refusal(b.ID)
	moved := h.container(b.ID)
	if moved.HostID == first || moved.HostID == "" || moved.Epoch != 2 || moved.Status() != structs.ContainerCreating {
		t.Fatalf("refused by %s: %+v", first, moved)
	}
	if p := moved.PriorOn(first); p == nil || p.Epoch != 1 || structs.AssignmentOf(moved, first).Desired != structs.DesiredAbsent {
		t.Fatalf("its host is not told to remove it: %+v", moved.Priors)
	}
	h.refusal(b.ID)
	waits := h.container(b.ID)
	if waits.HostID != "" || waits.Status() != structs.ContainerCreating ||
		!strings.Contains(waits.StatusReason(), "of 2 hosts, 2 without room for another project's network") {
		t.Fatalf("refused by both: %+v: %s", waits, waits.StatusReason())
	}
	// A project with a network on the host has room there. Another project's container
	// waits from the beginning.
	if a3 := of("a"); a3.HostID == "" {
		t.Errorf("a project with a network on the host waits: %s", a3.PlaceReason)
	}
	c1, c2 := of("c"), of("c")
	if c1.HostID != "" || c2.HostID != "" {
		t.Errorf("placed on hosts that are full: %s, %s", c1.HostID, c2.HostID)
	}
	// Both containers of a project may be refused. Neither is a reason to return to the
	// host.
	h.room(first, true)
	for _, id := range []string{c1.ID, c2.ID} {
		if h.container(id).HostID != first {
			t.Fatalf("there is room on %s, but it is on %q", first, h.container(id).HostID)
		}
	}
	h.refusal(c1.ID)
	h.refusal(c2.ID)
	for _, id := range []string{c1.ID, c2.ID} {
		if c := h.container(id); c.HostID != "" {
			t.Errorf("it came back to the host that has refused it: %+v", c)
		}
	}
	// The hosts report that nothing of it is there. It is placed once there is room, and
	// runs.
	for _, p := range h.container(b.ID).Priors {
		h.reportFrom(p.HostID, b.ID, p.Epoch, gone)
	}
	if c := h.container(b.ID); c == nil || len(c.Priors) > 0 {
		t.Fatalf("after its hosts have left it: %+v", c)
	}
	h.room(first, true)
	h.report(b.ID, running)
	if c := h.container(b.ID); c.HostID != first || c.Status() != structs.ContainerRunning {
		t.Errorf("there is room again: %+v", c)
	}
	// The next registration is tried again.
	h.register(first, "h1", nil)
	if h.store.Snapshot().Host(first).NetworksFull {
		t.Error("the report of an earlier registration still counts")
	}
}

// TestRefusedContainerThatIsDeleted: a refused container can be deleted wherever it waits.
func TestRefusedContainerThatIsDeleted(t *testing.T) {
	h := newHarness(t)
	id := h.host("h1", nil)
	h.bay(alice, "b", 1)
	c := h.create(alice, "", structs.ContainerSpec{})
	h.refusal(c.ID)
	must(h, DeleteContainer{Caller: alice, Ident: c.ID})
	h.reportFrom(id, c.ID, 1, gone)
	if c := h.container(c.ID); c != nil {
		t.Errorf("it is left: %+v", c)
	}
	// A container with a volume that existed before stays where its volume is.
	v := h.create(alice, "", structs.ContainerSpec{Volumes: []structs.Mount{{Type: structs.MountVolume, Name: "v", Target: "/v"}}})
	if v.HostID != "" {
		t.Fatalf("placed on a host that is full: %+v", v)
	}
}
