package conductor

import (
	"testing"

	"github.com/stackforge/magnum/structs"
)

// TestRowProvesWhichContainer: the engine's ID of an epoch's container stays in the row as
// long as the epoch does, and is part of the assignment.
func TestRowProvesWhichContainer(t *testing.T) {
	h := newHarness(t)
	h.host("h1", nil)
	h.bay(alice, "b", 2)
	c := h.create(alice, "", structs.ContainerSpec{RestartPolicy: structs.RestartPolicy{Name: structs.RestartAlways}})
	assigned := func(hostID string) structs.Assignment {
		t.Helper()
		return structs.AssignmentOf(h.container(c.ID), hostID)
	}
	first := h.container(c.ID).HostID
	if got := assigned(first).EngineID; got != "" {
		t.Errorf("before it was seen it is %q", got)
	}
	h.report(c.ID, structs.Observed{Status: structs.ContainerRunning, EngineID: "e1"})
	h.report(c.ID, structs.Observed{Status: structs.ContainerError, Reason: "nothing of it can be seen"})
	if got := assigned(first).EngineID; got != "e1" {
		t.Errorf("then it is %q", got)
	}
	// On another host the container has another ID, and the first host has to know its own.
	second := h.host("h2", nil)
	h.settle()
	must(h, MarkHosts{Marks: []HostMark{{ID: first, State: structs.HostLost, Reason: "silent"}}})
	h.settle()
	if got := h.container(c.ID); got.HostID != second {
		t.Fatalf("it is on %s", got.HostID)
	}
	if mine, prior := assigned(second), assigned(first); mine.EngineID != "" || prior.EngineID != "e1" || prior.Epoch != 1 ||
		prior.Desired != structs.DesiredAbsent {
		t.Errorf("the new host has %q, and the old one %q", mine.EngineID, prior.EngineID)
	}
	// Removed by hand, the container is created again under the next epoch, so its old
	// engine ID no longer counts.
	h.report(c.ID, structs.Observed{Status: structs.ContainerRunning, EngineID: "e2"})
	h.report(c.ID, structs.Observed{Status: structs.ContainerGone, Reason: "removed"})
	if got := h.container(c.ID); got.Epoch != 3 || got.Observed.EngineID != "" {
		t.Errorf("epoch %d begins with %q", got.Epoch, got.Observed.EngineID)
	}
	// A container that isn't created again by itself keeps its engine ID while it is gone.
	once := h.create(alice, "", structs.ContainerSpec{})
	h.report(once.ID, structs.Observed{Status: structs.ContainerRunning, EngineID: "e3"})
	h.report(once.ID, structs.Observed{Status: structs.ContainerGone, Reason: "removed"})
	if got := h.container(once.ID); !got.Gone || got.Observed.EngineID != "e3" {
		t.Errorf("gone %v, with %q", got.Gone, got.Observed.EngineID)
	}
}

// TestHostShowsReportedCopies: the host's row shows the copies of the last report that
// mentions copies, within one registration.
func TestHostShowsReportedCopies(t *testing.T) {
	h := newHarness(t)
	id := h.host("h1", nil)
	tell := func(copies *structs.Copies) *structs.Host {
		t.Helper()
		was := h.store.Snapshot().Host(id)
		must(h, ReportStatus{HostID: id, StatusReport: structs.StatusReport{Registration: was.Registration, Seq: was.ReportSeq + 1,
			Copies: copies}})
		return h.store.Snapshot().Host(id)
	}
	one := structs.Copy{EngineID: "e", Name: "web2", ContainerID: structs.NewID(), Epoch: 1}
	if got := tell(&structs.Copies{Count: 30, First: []structs.Copy{one}}); got.CopyCount != 30 || len(got.Copies) != 1 ||
		got.Copies[0] != one {
		t.Errorf("%+v", got)
	}
	if got := tell(nil); got.CopyCount != 30 || len(got.Copies) != 1 {
		t.Errorf("after a report without a word of them: %+v", got)
	}
	h.register(id, "h1", nil)
	if got := tell(nil); got.CopyCount != 0 || len(got.Copies) != 0 {
		t.Errorf("after a registration: %+v", got)
	}
	tell(&structs.Copies{Count: 1, First: []structs.Copy{one}})
	if got := tell(&structs.Copies{First: []structs.Copy{}}); got.CopyCount != 0 || len(got.Copies) != 0 {
		t.Errorf("with none left: %+v", got)
	}
}

// TestHostShowsReportedProblems: the host's row shows what it doesn't serve, of the last
// report that mentions it, within one registration.
func TestHostShowsReportedProblems(t *testing.T) {
	h := newHarness(t)
	id := h.host("h1", nil)
	tell := func(problems *[]structs.ServiceProblem) []structs.ServiceProblem {
		t.Helper()
		was := h.store.Snapshot().Host(id)
		must(h, ReportStatus{HostID: id, StatusReport: structs.StatusReport{Registration: was.Registration, Seq: was.ReportSeq + 1,
			Problems: problems}})
		return h.store.Snapshot().Host(id).Problems
	}
	one := structs.ServiceProblem{ServiceID: structs.NewID(), Reason: "node port 30000 is taken"}
	if got := tell(&[]structs.ServiceProblem{one}); len(got) != 1 || got[0] != one {
		t.Errorf("%+v", got)
	}
	if got := tell(nil); len(got) != 1 {
		t.Errorf("after a report without a word of them: %+v", got)
	}
	h.register(id, "h1", nil)
	if got := tell(nil); len(got) != 0 {
		t.Errorf("after a registration: %+v", got)
	}
	tell(&[]structs.ServiceProblem{one})
	if got := tell(&[]structs.ServiceProblem{}); len(got) != 0 {
		t.Errorf("with none left: %+v", got)
	}
}
