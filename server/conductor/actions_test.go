package conductor

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stackforge/magnum/structs"
)

// actions returns the recorded actions of a container in short form.
func (h *harness) actions(id string) string {
	h.Helper()
	a, _ := h.store.Snapshot().Get(structs.TableActions, id).(*structs.Actions)
	if a == nil {
		return ""
	}
	var out []string
	for _, r := range a.List {
		out = append(out, fmt.Sprintf("%s by %s: %s", r.Action, r.UserID, r.Result))
		if (r.Result == structs.ActionPending) != r.FinishedAt.IsZero() && r.Action != "create" {
			h.Errorf("%s is %s and finished at %v", r.Action, r.Result, r.FinishedAt)
		}
	}
	return strings.Join(out, ", ")
}

func TestActionsAreKept(t *testing.T) {
	h := newHarness(t)
	h.host("h1", nil)
	h.bay(alice, "web", 1)
	c := h.create(alice, "", structs.ContainerSpec{})
	h.report(c.ID, structs.Observed{Status: structs.ContainerRunning})
	if got := h.actions(c.ID); got != "" {
		t.Errorf("a creation has written %s", got)
	}
	step := func(want string) {
		t.Helper()
		if got := h.actions(c.ID); !strings.HasSuffix(got, want) {
			t.Errorf("actions %s, want %s", got, want)
		}
	}
	carol := alice
	carol.UserID, carol.RequestID = "carol", "req-1"
	must(h, ActOnContainer{Caller: carol, Ident: c.ID, Action: ActionStop})
	step("create by alice: success, stop by carol: in_progress")
	h.report(c.ID, structs.Observed{Status: structs.ContainerStopped})
	step("stop by carol: success")
	must(h, ActOnContainer{Caller: alice, Ident: c.ID, Action: ActionStop}) // it is stopped already
	step("stop by carol: success")
	must(h, ActOnContainer{Caller: alice, Ident: c.ID, Action: ActionStart})
	must(h, RebuildContainer{Caller: alice, Ident: c.ID})
	step("start by alice: superseded, rebuild by alice: in_progress")
	name := "new"
	must(h, PatchContainer{Caller: alice, Ident: c.ID, Name: &name})
	step("rebuild by alice: in_progress, update by alice: success")
	h.report(c.ID, structs.Observed{Status: structs.ContainerError, Failed: true, Reason: "no such image"})
	step("rebuild by alice: error, update by alice: success")
	list := h.store.Snapshot().Get(structs.TableActions, c.ID).(*structs.Actions)
	if r := list.List[3]; r.Message != "no such image" || r.RequestID != "" || list.List[1].RequestID != "req-1" || list.ProjectID != "p1" {
		t.Errorf("%+v", list)
	}
	for range structs.MaxActions + 5 {
		must(h, PatchContainer{Caller: alice, Ident: c.ID, Name: &name})
	}
	if n := len(h.store.Snapshot().Get(structs.TableActions, c.ID).(*structs.Actions).List); n != structs.MaxActions {
		t.Errorf("%d actions are kept", n)
	}
	must(h, DeleteContainer{Caller: alice, Ident: c.ID, Force: true})
	step("delete by alice: in_progress")
	h.report(c.ID, structs.Observed{Status: structs.ContainerGone})
	if h.store.Snapshot().Get(structs.TableActions, c.ID) != nil {
		t.Error("the actions are left after their container")
	}
}

// TestReportOfAllContainersEndsActions: a report of the largest number of containers fits
// in one request even if each of them ends an action.
func TestReportOfAllContainersEndsActions(t *testing.T) {
	h := newHarness(t)
	host := h.host("h1", nil)
	h.bay(alice, "web", 1)
	var report structs.StatusReport
	for range structs.MaxReport {
		c := h.create(alice, "", structs.ContainerSpec{})
		must(h, ActOnContainer{Caller: alice, Ident: c.ID, Action: ActionReboot})
		report.Containers = append(report.Containers, structs.ContainerReport{
			ContainerID: c.ID, Epoch: 1, Observed: structs.Observed{Status: structs.ContainerRunning, Generation: 2},
		})
	}
	report.Registration, report.Seq = 1, 1
	must(h, ReportStatus{HostID: host, StatusReport: report})
	for _, c := range report.Containers {
		if got := h.actions(c.ContainerID); got != "create by alice: superseded, reboot by alice: success" {
			t.Fatalf("actions %s", got)
		}
	}
}

// TestActionIsCarriedOutOnce: a server retries an action of unknown outcome. A later action
// of another user stays in effect.
func TestActionIsCarriedOutOnce(t *testing.T) {
	h := newHarness(t)
	h.host("h1", nil)
	h.bay(alice, "web", 1)
	c := h.create(alice, "", structs.ContainerSpec{})
	h.report(c.ID, structs.Observed{Status: structs.ContainerStopped})
	carol := alice
	carol.RequestID = "req-1"
	start := ActOnContainer{Caller: carol, Ident: c.ID, Action: ActionStart}
	if first := must(h, start); first.Desired != structs.DesiredRunning {
		t.Errorf("wanted is %s", first.Desired)
	}
	other := alice
	other.RequestID = "req-2"
	stopped := must(h, ActOnContainer{Caller: other, Ident: c.ID, Action: ActionStop})
	if again := must(h, start); again.Desired != structs.DesiredStopped || again.Generation != stopped.Generation {
		t.Errorf("the repeated start has undone the stop: %+v", again)
	}
	start.Caller.RequestID = "req-3"
	if later := must(h, start); later.Desired != structs.DesiredRunning {
		t.Errorf("another start wants %s", later.Desired)
	}
}
