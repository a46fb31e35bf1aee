package conductor

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// mark sets the states of hosts, as the liveness loop does, and settles.
func (h *harness) mark(s structs.HostState, ids ...string) {
	h.Helper()
	var marks []HostMark
	for _, id := range ids {
		m := HostMark{ID: id, State: s}
		if s != structs.HostReady {
			m.Reason = "silent"
		}
		marks = append(marks, m)
	}
	must(h, MarkHosts{Marks: marks})
	h.settle()
}

// reportFrom reports a host's observation of a placement, whether or not it is the newest.
func (h *harness) reportFrom(hostID, id string, epoch uint64, seen structs.Observed) {
	h.Helper()
	host := h.store.Snapshot().Host(hostID)
	if c := h.container(id); seen.Generation == 0 && c != nil {
		seen.Generation = c.Generation
	}
	must(h, ReportStatus{HostID: hostID, StatusReport: structs.StatusReport{
		Registration: host.Registration, Seq: host.ReportSeq + 1,
		Containers: []structs.ContainerReport{{ContainerID: id, Epoch: epoch, Observed: seen}},
	}})
	h.settle()
}

var (
	running = structs.Observed{Status: structs.ContainerRunning}
	stopped = structs.Observed{Status: structs.ContainerStopped}
	gone    = structs.Observed{Status: structs.ContainerGone}
)

// always returns the spec of a container that runs until a user stops it.
func always(change ...func(*structs.ContainerSpec)) structs.ContainerSpec {
	s := structs.ContainerSpec{RestartPolicy: structs.RestartPolicy{Name: structs.RestartAlways}}
	for _, f := range change {
		f(&s)
	}
	return s
}

// running creates a container and reports it running.
func (h *harness) running(spec structs.ContainerSpec) *structs.Container {
	h.Helper()
	c := h.create(alice, "", spec)
	h.report(c.ID, running)
	return h.container(c.ID)
}

// assignedOn returns the host's assignment of the container. ok is false if there is none.
func (h *harness) assignedOn(hostID, id string) (structs.Assignment, bool) {
	for w := range h.store.Snapshot().OnHost(hostID) {
		if w.Base().ID == id {
			return structs.AssignmentOf(w, hostID), true
		}
	}
	return structs.Assignment{}, false
}

// reserved checks that the reservations on a host are those of its placements.
func (h *harness) reserved(hostID string, containers int) state.Usage {
	h.Helper()
	u := h.store.Snapshot().Usage(hostID)
	if u.Workloads != containers {
		h.Fatalf("%d containers are reserved on %s, not %d", u.Workloads, hostID, containers)
	}
	return u
}

func TestLostHostsContainersArePlacedAgain(t *testing.T) {
	h := newHarness(t)
	a, b := h.host("a", nil), h.host("b", nil)
	bay := h.bay(alice, "bay", 2)
	free := h.host("free", nil)
	h.settle()
	c := h.running(always())
	other := map[string]string{a: b, b: a}[c.HostID]

	h.mark(structs.HostSuspect, c.HostID)
	if now := h.container(c.ID); now.HostID != c.HostID || now.Status() != structs.ContainerRunning {
		t.Fatalf("a suspect host's container was touched: %+v", now)
	}
	h.mark(structs.HostLost, c.HostID)
	moved := h.container(c.ID)
	if moved.HostID != other && moved.HostID != free || moved.Epoch != 2 || moved.Status() != structs.ContainerCreating ||
		moved.Name != c.Name {
		t.Fatalf("%+v", moved)
	}
	if !strings.Contains(moved.StatusReason(), "rescheduled from host") {
		t.Errorf("reason %q", moved.StatusReason())
	}
	if got := len(hostsOf(h, bay.ID)); got != 3 {
		t.Errorf("the bay has %d hosts, not the lost one and two others", got)
	}
	if b := h.bayNow(bay.ID); b.Status != structs.BayCreated || b.StatusReason != "" {
		t.Errorf("bay is %s: %q", b.Status, b.StatusReason)
	}
	h.reserved(c.HostID, 1)
	h.reserved(moved.HostID, 1)
	h.report(c.ID, running)

	h.mark(structs.HostReady, c.HostID)
	if want, ok := h.assignedOn(c.HostID, c.ID); !ok || want.Epoch != 1 || want.Desired != structs.DesiredAbsent {
		t.Errorf("the old host has %+v, %v", want, ok)
	}
	if want, ok := h.assignedOn(moved.HostID, c.ID); !ok || want.Epoch != 2 || want.Desired != structs.DesiredRunning {
		t.Errorf("the new host has %+v, %v", want, ok)
	}
	h.reportFrom(c.HostID, c.ID, 1, running) // not the newest placement: the container doesn't change
	if now := h.container(c.ID); now.Epoch != 2 || len(now.Priors) != 1 {
		t.Errorf("%+v", now)
	}
	h.reportFrom(c.HostID, c.ID, 1, gone)
	if now := h.container(c.ID); now.Status() != structs.ContainerRunning || len(now.Priors) != 0 {
		t.Errorf("%+v", now)
	}
	h.reserved(c.HostID, 0)
	// The host has returned to a bay that has enough hosts.
	if got := hostsOf(h, bay.ID); len(got) != 2 {
		t.Errorf("the bay still has %v", got)
	}
	list := h.store.Snapshot().Get(structs.TableActions, c.ID).(*structs.Actions).List
	if last := list[len(list)-1]; last.Action != "reschedule" || last.Result != structs.ActionSucceeded {
		t.Errorf("last action is %+v", last)
	}
}

func TestContainersThatStayOnALostHost(t *testing.T) {
	for name, tc := range map[string]struct {
		spec structs.ContainerSpec
		stop bool
		why  string
	}{
		"restart policy": {spec: structs.ContainerSpec{RestartPolicy: structs.RestartPolicy{Name: structs.RestartOnFailure, MaxRetries: 3}},
			why: "its restart policy is on-failure:3"},
		"volume": {spec: always(func(s *structs.ContainerSpec) {
			s.Volumes = []structs.Mount{{Type: structs.MountVolume, Name: "data", Target: "/data"}}
		}), why: "its volume data is on that host"},
		"stopped by user": {spec: always(), stop: true, why: "is lost"},
		"nothing fits": {spec: always(func(s *structs.ContainerSpec) { s.Constraints = map[string]string{"disk": "ssd"} }),
			why: "waits for a host with room for disk=ssd"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t)
			h.host("a", map[string]string{"disk": "ssd"})
			h.bay(alice, "bay", 2)
			c := h.running(tc.spec)
			h.host("b", nil)
			h.settle()
			if tc.stop {
				must(h, ActOnContainer{Caller: alice, Ident: c.ID, Action: ActionStop})
				h.report(c.ID, stopped)
			}
			h.mark(structs.HostLost, c.HostID)
			now := h.container(c.ID)
			if now.HostID != c.HostID || now.Epoch != 1 || now.Status() != structs.ContainerUnknown ||
				!strings.Contains(now.StatusReason(), tc.why) {
				t.Fatalf("%s on %s, epoch %d: %q", now.Status(), now.HostID, now.Epoch, now.StatusReason())
			}
			index := h.store.Index()
			h.settle()
			if h.store.Index() != index {
				t.Error("a second settle writes again")
			}
			// The container continues unchanged: nothing is restarted.
			h.mark(structs.HostReady, c.HostID)
			h.report(c.ID, running)
			if now := h.container(c.ID); now.Epoch != 1 || now.Status() != structs.ContainerRunning || now.StatusReason() != "" {
				t.Errorf("%s, epoch %d: %q", now.Status(), now.Epoch, now.StatusReason())
			}
		})
	}
}

func TestLostContainerIsPlacedWhenRoomAppears(t *testing.T) {
	h := newHarness(t)
	a := h.host("a", nil)
	h.bay(alice, "bay", 1)
	c := h.running(always())
	h.mark(structs.HostLost, a)
	if now := h.container(c.ID); now.HostID != a {
		t.Fatalf("%+v", now)
	}
	b := h.host("b", nil) // replaces the lost host
	h.settle()
	if now := h.container(c.ID); now.HostID != b || now.Epoch != 2 {
		t.Errorf("%+v", now)
	}
}

func TestDeletingAMovedContainer(t *testing.T) {
	setup := func(t *testing.T) (h *harness, c, moved *structs.Container) {
		h = newHarness(t)
		h.host("a", nil)
		h.host("b", nil)
		h.bay(alice, "bay", 2)
		c = h.running(always())
		h.mark(structs.HostLost, c.HostID)
		h.report(c.ID, running)
		return h, c, h.container(c.ID)
	}
	t.Run("old host stays lost", func(t *testing.T) {
		h, c, _ := setup(t)
		must(h, DeleteContainer{Caller: alice, Ident: c.ID, Force: true})
		h.report(c.ID, gone)
		if h.container(c.ID) != nil {
			t.Error("it waits for a host that may never return")
		}
		h.reserved(c.HostID, 0)
	})
	t.Run("old host is back", func(t *testing.T) {
		h, c, moved := setup(t)
		h.mark(structs.HostReady, c.HostID)
		must(h, DeleteContainer{Caller: alice, Ident: c.ID, Force: true})
		h.reportFrom(moved.HostID, c.ID, 2, gone)
		if now := h.container(c.ID); now == nil || now.Status() != structs.ContainerDeleting {
			t.Fatal("deleted while the old host still has it")
		}
		h.reserved(moved.HostID, 0)
		h.reserved(c.HostID, 1)
		h.reportFrom(c.HostID, c.ID, 1, gone)
		if h.container(c.ID) != nil {
			t.Error("it is gone from both hosts, but the row is still there")
		}
		h.reserved(c.HostID, 0)
	})
	t.Run("old host is lost again", func(t *testing.T) {
		h, c, moved := setup(t)
		h.mark(structs.HostReady, c.HostID)
		must(h, DeleteContainer{Caller: alice, Ident: c.ID, Force: true})
		h.reportFrom(moved.HostID, c.ID, 2, gone)
		h.mark(structs.HostLost, c.HostID)
		if h.container(c.ID) != nil {
			t.Error("it waits for the lost host")
		}
	})
	t.Run("new host is lost and forced", func(t *testing.T) {
		h, c, moved := setup(t)
		h.mark(structs.HostReady, c.HostID)
		must(h, MarkHosts{Marks: []HostMark{{ID: moved.HostID, State: structs.HostLost}}})
		must(h, DeleteContainer{Caller: alice, Ident: c.ID, Force: true})
		if h.container(c.ID) == nil {
			t.Fatal("deleted while the old host still has it")
		}
		h.reportFrom(c.HostID, c.ID, 1, gone)
		if h.container(c.ID) != nil {
			t.Error("it is still there")
		}
	})
}

// A container that moves back to a host with an earlier placement of it needs no second
// reservation there: the earlier placement is removed before the new one is created.
func TestMovingBackToAnEarlierHost(t *testing.T) {
	h := newHarness(t)
	h.host("a", nil)
	h.host("b", nil)
	h.bay(alice, "bay", 2)
	c := h.running(always(func(s *structs.ContainerSpec) {
		s.Memory, s.Ports = 3<<30, []structs.Port{{ContainerPort: 80, HostPort: 80, Protocol: "tcp"}}
	}))
	h.mark(structs.HostLost, c.HostID)
	moved := h.container(c.ID)
	h.mark(structs.HostReady, c.HostID)
	h.mark(structs.HostLost, moved.HostID)
	back := h.container(c.ID)
	if back.HostID != c.HostID || back.Epoch != 3 || len(back.Priors) != 1 || back.Priors[0].HostID != moved.HostID {
		t.Fatalf("%+v", back)
	}
	if u := h.reserved(c.HostID, 1); u.Memory != 3<<30 || u.Ports() != 1 {
		t.Errorf("%+v", u)
	}
}

func TestLostHostWithManyContainersIsEmptiedInSteps(t *testing.T) {
	h := newHarness(t)
	a := h.host("a", nil)
	h.bay(alice, "bay", 2)
	const n = 250
	for i := range n {
		must(h, CreateContainer{Caller: alice, Name: fmt.Sprint("c", i), Run: true,
			Spec: always(func(s *structs.ContainerSpec) { s.Image = "i" })})
	}
	b := h.host("b", nil)
	h.settle()
	h.mark(structs.HostLost, a)
	if got := h.store.Snapshot().Usage(b); got.Workloads != n {
		t.Errorf("%d of %d are placed again", got.Workloads, n)
	}
}

// A bay's deletion waits for no lost host, no matter how its containers were deleted.
func TestBayWithALostHostIsDeleted(t *testing.T) {
	h := newHarness(t)
	a := h.host("a", nil)
	bay := h.bay(alice, "bay", 1)
	c, d := h.running(structs.ContainerSpec{}), h.running(structs.ContainerSpec{})
	must(h, DeleteContainer{Caller: alice, Ident: c.ID, Stop: true}) // not forced
	must(h, DeleteContainer{Caller: alice, Ident: d.ID, Force: true})
	h.mark(structs.HostLost, a)
	must(h, DeleteBay{Caller: alice, Ident: bay.ID})
	h.settle()
	if h.container(c.ID) != nil || h.container(d.ID) != nil || h.bayNow(bay.ID) != nil {
		t.Error("it waits for a host that may never return")
	}
}
