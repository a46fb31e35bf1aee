package conductor

import (
	"testing"

	"github.com/stackforge/magnum/structs"
)

func TestRebuild(t *testing.T) {
	h := newHarness(t)
	host := h.host("h1", nil)
	h.bay(alice, "web", 1)
	for _, tc := range []struct {
		seen structs.ContainerStatus
		want structs.Desired
	}{
		{structs.ContainerRunning, structs.DesiredRunning},
		{structs.ContainerStopped, structs.DesiredCreated}, // it has exited by itself: a rebuild doesn't start it
		{structs.ContainerError, structs.DesiredRunning},
	} {
		c := h.create(alice, "", structs.ContainerSpec{})
		h.report(c.ID, structs.Observed{Status: tc.seen})
		must(h, RebuildContainer{Caller: alice, Ident: c.ID, Image: "other"})
		now := h.container(c.ID)
		if now.Epoch != 2 || now.HostID != host || now.Spec.Image != "other" || now.Desired != tc.want || now.Observed.Status != "" ||
			(now.StartGeneration == now.Generation) != (tc.want == structs.DesiredRunning) {
			t.Errorf("%s: %+v", tc.seen, now)
		}
	}
	waiting := h.create(alice, "", structs.ContainerSpec{Memory: 1 << 40})
	must(h, RebuildContainer{Caller: alice, Ident: waiting.ID})
	if now := h.container(waiting.ID); now.Spec.Image != "busybox" || now.Epoch != 0 {
		t.Errorf("%+v", now)
	}
	refuse(h, structs.CodeNotFound, RebuildContainer{Caller: bob, Ident: waiting.ID})
	gone := h.create(alice, "", structs.ContainerSpec{})
	must(h, DeleteContainer{Caller: alice, Ident: gone.ID, Force: true})
	refuse(h, structs.CodeConflict, RebuildContainer{Caller: alice, Ident: gone.ID})
	refuse(h, structs.CodeConflict, ResizeContainer{Caller: alice, Ident: gone.ID})
}

func TestResizeStaysWithinTheHost(t *testing.T) {
	h := newHarness(t)
	host := h.host("h1", nil)
	h.bay(alice, "web", 1)
	c := h.create(alice, "", structs.ContainerSpec{Memory: 1 << 30, MilliCPU: 1000})
	h.create(alice, "", structs.ContainerSpec{Memory: 2 << 30, MilliCPU: 2000})
	memory := func(n int64) *int64 { return &n }
	refuse(h, structs.CodeConflict, ResizeContainer{Caller: alice, Ident: c.ID, Memory: memory(3 << 30)})
	refuse(h, structs.CodeConflict, ResizeContainer{Caller: alice, Ident: c.ID, MilliCPU: memory(2001)})
	refuse(h, structs.CodeNotFound, ResizeContainer{Caller: bob, Ident: c.ID})
	must(h, ResizeContainer{Caller: alice, Ident: c.ID, Memory: memory(2 << 30), MilliCPU: memory(2000)})
	if used := h.store.Snapshot().Usage(host); used.Memory != 4<<30 || used.MilliCPU != 4000 {
		t.Errorf("%+v", used)
	}
	if now := h.container(c.ID); now.Generation != 2 || now.StartGeneration != 1 || now.Desired != structs.DesiredRunning {
		t.Errorf("%+v", now)
	}
	// A smaller limit always fits, and waiting containers get the room.
	waiting := h.create(alice, "", structs.ContainerSpec{Memory: 1 << 30})
	must(h, ResizeContainer{Caller: alice, Ident: c.ID, Memory: memory(1 << 30)})
	h.settle()
	if h.container(waiting.ID).HostID != host {
		t.Error("the room was not used")
	}
	h.report(c.ID, structs.Observed{Status: structs.ContainerStopped})
	must(h, ResizeContainer{Caller: alice, Ident: c.ID, MilliCPU: memory(500)})
	if now := h.container(c.ID); now.Desired != structs.DesiredStopped {
		t.Errorf("it had exited, and its desired state is now %s", now.Desired)
	}
	// Between two runs of a container that is always restarted.
	restarting := h.create(alice, "", structs.ContainerSpec{RestartPolicy: structs.RestartPolicy{Name: structs.RestartAlways}})
	h.report(restarting.ID, structs.Observed{Status: structs.ContainerStopped})
	must(h, ResizeContainer{Caller: alice, Ident: restarting.ID, MilliCPU: memory(500)})
	if now := h.container(restarting.ID); now.Desired != structs.DesiredRunning {
		t.Errorf("its policy is about to start it, but its desired state is now %s", now.Desired)
	}
}

// TestRefusedLimitsStayReserved: the engine's limits count until lower ones are observed,
// whatever the spec says.
func TestRefusedLimitsStayReserved(t *testing.T) {
	h := newHarness(t)
	host := h.host("h1", nil)
	h.bay(alice, "web", 1)
	number := func(n int64) *int64 { return &n }
	used := func(step string, memory, milliCPU int64) {
		t.Helper()
		if u := h.store.Snapshot().Usage(host); u.Memory != memory || u.MilliCPU != milliCPU {
			t.Fatalf("%s: %d bytes and %d of 1000 cores are reserved, want %d and %d", step, u.Memory, u.MilliCPU, memory, milliCPU)
		}
	}
	c := h.create(alice, "", structs.ContainerSpec{Memory: 3 << 30, MilliCPU: 3000})
	h.report(c.ID, structs.Observed{Status: structs.ContainerRunning, Memory: 3 << 30, MilliCPU: 3000})
	must(h, ResizeContainer{Caller: alice, Ident: c.ID, Memory: number(1 << 30), MilliCPU: number(1000)})
	used("wanted", 3<<30, 3000)
	if now := h.container(c.ID); now.LimitGeneration != now.Generation {
		t.Errorf("%+v", now)
	}
	h.report(c.ID, structs.Observed{Status: structs.ContainerRunning, Failed: true, Memory: 3 << 30, MilliCPU: 3000})
	used("refused", 3<<30, 3000)
	waiting := h.create(alice, "", structs.ContainerSpec{Memory: 2 << 30})
	if waiting.HostID != "" {
		t.Error("the room was used")
	}
	// The container's own reservation is not counted against it.
	must(h, ResizeContainer{Caller: alice, Ident: c.ID, Memory: number(4 << 30)})
	used("more", 4<<30, 3000)
	must(h, ResizeContainer{Caller: alice, Ident: c.ID, Memory: number(1 << 30)})
	must(h, RebuildContainer{Caller: alice, Ident: c.ID})
	used("rebuilt, and the old one is still there", 3<<30, 3000)
	h.report(c.ID, structs.Observed{Status: structs.ContainerRunning, Memory: 1 << 30, MilliCPU: 1000})
	used("applied", 1<<30, 1000)
	h.settle()
	if h.container(waiting.ID).HostID != host {
		t.Error("the room was not used")
	}
}

func TestKill(t *testing.T) {
	h := newHarness(t)
	h.host("h1", nil)
	h.bay(alice, "web", 1)
	c := h.create(alice, "", structs.ContainerSpec{})
	h.report(c.ID, structs.Observed{Status: structs.ContainerRunning})
	must(h, ActOnContainer{Caller: alice, Ident: c.ID, Action: ActionKill, Signal: "SIGHUP"})
	if now := h.container(c.ID); now.KillGeneration != 2 || now.Generation != 2 || now.Signal != "SIGHUP" ||
		now.Desired != structs.DesiredRunning {
		t.Errorf("%+v", now)
	}
	h.report(c.ID, structs.Observed{Status: structs.ContainerStopped})
	refuse(h, structs.CodeConflict, ActOnContainer{Caller: alice, Ident: c.ID, Action: ActionKill, Signal: "SIGHUP"})
}
