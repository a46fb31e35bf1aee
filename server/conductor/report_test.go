package conductor

import (
	"slices"
	"testing"

	"github.com/stackforge/magnum/structs"
)

// rowsOf returns the rows that a report may change.
func (h *harness) rowsOf(host, id string) [2]uint64 {
	h.Helper()
	snap := h.store.Snapshot()
	return [2]uint64{snap.Host(host).ModifyIndex, snap.Container(id).ModifyIndex}
}

// TestRepeatedReportChangesNothing: an agent repeats a report whose answer was lost. The
// repetition must not undo a later report, and each registration counts from the beginning.
func TestRepeatedReportChangesNothing(t *testing.T) {
	h := newHarness(t)
	host := h.host("h1", nil)
	h.bay(alice, "b", 1)
	h.settle()
	c := h.create(alice, "", structs.ContainerSpec{})
	send := func(registration, seq uint64, status structs.ContainerStatus) structs.StatusReported {
		t.Helper()
		return must(h, ReportStatus{HostID: host, StatusReport: structs.StatusReport{Registration: registration, Seq: seq,
			Containers: []structs.ContainerReport{{ContainerID: c.ID, Epoch: 1,
				Observed: structs.Observed{Status: status, Generation: c.Generation}}}}}).StatusReported
	}
	is := func(want structs.ContainerStatus, seq uint64) {
		t.Helper()
		if got, row := h.container(c.ID).Observed.Status, h.store.Snapshot().Host(host); got != want || row.ReportSeq != seq {
			t.Errorf("the container is %s after report %d, not %s after %d", got, row.ReportSeq, want, seq)
		}
	}
	if got := send(1, 1, structs.ContainerRunning); got.Seq != 1 {
		t.Errorf("the answer is for report %d", got.Seq)
	}
	if got := send(1, 2, structs.ContainerStopped); got.Seq != 2 {
		t.Errorf("the answer is for report %d", got.Seq)
	}
	is(structs.ContainerStopped, 2)
	before := h.rowsOf(host, c.ID)
	for _, seq := range []uint64{0, 1, 2} {
		if got := send(1, seq, structs.ContainerError); got.Seq != 2 {
			t.Errorf("report %d again: the answer is for report %d", seq, got.Seq)
		}
		is(structs.ContainerStopped, 2)
	}
	if after := h.rowsOf(host, c.ID); after != before {
		t.Errorf("reports that were sent again have written %v, before %v", after, before)
	}
	send(1, 5, structs.ContainerRunning) // the reports in between are lost for good
	is(structs.ContainerRunning, 5)

	h.register(host, "h1", nil)
	refuse(h, structs.CodeConflict, ReportStatus{HostID: host, StatusReport: structs.StatusReport{Registration: 1, Seq: 6,
		Containers: []structs.ContainerReport{{ContainerID: c.ID, Epoch: 1, Observed: structs.Observed{Status: structs.ContainerError}}}}})
	is(structs.ContainerRunning, 0)
	send(2, 1, structs.ContainerStopped)
	is(structs.ContainerStopped, 1)
}

// TestReportOfAnotherEpoch: a host's report of another placement than its present one
// doesn't change that one.
func TestReportOfAnotherEpoch(t *testing.T) {
	for _, seen := range []structs.Observed{running, stopped, gone, {Status: structs.ContainerError, Failed: true, Reason: "no"}} {
		h := newHarness(t)
		hosts := []string{h.host("h1", nil), h.host("h2", nil)}
		h.bay(alice, "b", 2)
		h.settle()
		c := h.running(always())
		first := c.HostID
		h.reportFrom(first, c.ID, 1, gone) // removed behind magnum's back: it is placed again
		h.settle()
		c = h.container(c.ID)
		if c.Epoch != 2 || c.HostID == "" {
			t.Fatalf("epoch %d on host %q: this test needs a second placement", c.Epoch, c.HostID)
		}
		h.report(c.ID, structs.Observed{Status: structs.ContainerRunning, Generation: c.Generation, RestartCount: 7})
		c = h.container(c.ID)
		other := hosts[1-slices.Index(hosts, c.HostID)]
		for _, r := range []struct {
			host  string
			epoch uint64
		}{{c.HostID, 0}, {c.HostID, 1}, {c.HostID, 3}, {other, 1}, {other, 2}, {other, 3}} {
			h.reportFrom(r.host, c.ID, r.epoch, seen)
			now := h.container(c.ID)
			if now == nil {
				t.Fatalf("%s of epoch %d from host %s has deleted it", seen.Status, r.epoch, r.host)
			}
			if now.ModifyIndex != c.ModifyIndex || now.Epoch != 2 || now.HostID != c.HostID || now.Status() != structs.ContainerRunning ||
				now.Observed.RestartCount != 7 {
				t.Errorf("%s of epoch %d from host %s has changed it: %s, epoch %d on host %s, index %d, not %d", seen.Status, r.epoch,
					r.host, now.Status(), now.Epoch, now.HostID, now.ModifyIndex, c.ModifyIndex)
			}
		}
	}
}
