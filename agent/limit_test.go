package agent

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/structs"
)

func limited(a structs.Assignment, memory, milliCPU int64) structs.Assignment {
	a = same(a)
	a.LimitGeneration = a.Generation
	spec := *a.Spec
	spec.Memory, spec.MilliCPU = structs.Bytes(memory), structs.MilliCPU(milliCPU)
	a.Spec = &spec
	return a
}

func TestLimitsChange(t *testing.T) {
	inHost(t, func(h *host) {
		a := want("a", 1, structs.DesiredRunning)
		h.assign(a)
		for _, l := range []backend.Limits{{Memory: 64 << 20, MilliCPU: 500}, {Memory: 32 << 20}, {}} {
			a = limited(a, l.Memory, l.MilliCPU)
			h.assign(a)
			h.completed(a, structs.ContainerRunning)
			if got := h.fake.Seen.Containers()[ref(a)].Limits; got != l {
				h.Fatalf("limits are %+v, want %+v", got, l)
			}
		}
		a = limited(next(a, structs.DesiredStopped), 32<<20, 0)
		h.assign(a)
		h.completed(a, structs.ContainerStopped)
		h.restart()
		h.full(true, a)
		h.completed(a, structs.ContainerStopped)
		h.counts(a, 1, 1)
		if n := h.fake.Seen.Updates(ref(a)); n != 4 {
			h.Fatalf("changed %d times, want 4", n)
		}
	})
}

// TestLimitsDoNotChangeTheSpecHash: an agent that died after a create finds its
// container, although the desired limits have changed.
func TestLimitsDoNotChangeTheSpecHash(t *testing.T) {
	inHost(t, func(h *host) {
		h.fake.Fault = func(op string, r structs.Ref) error {
			if op == "create done" {
				h.mu.Lock()
				h.crashAt = 1
				h.mu.Unlock()
			}
			return h.seam(op, r)
		}
		a := want("a", 1, structs.DesiredRunning)
		h.assign(a)
		h.fake.Fault = h.seam
		a = limited(a, 64<<20, 0)
		a.Observed = 0 // the first generation was not reported
		h.completeAfterCrashes(a, func() int { return 0 })
		h.completed(a, structs.ContainerRunning)
		h.counts(a, 1, 0)
	})
}

func TestRefusedLimits(t *testing.T) {
	inHost(t, func(h *host) {
		a := want("a", 1, structs.DesiredRunning)
		h.assign(a)
		a = limited(a, 1, 0)
		h.assign(a)
		if r := h.expect(a, structs.ContainerRunning, true); r.Generation != 2 || !strings.Contains(r.Reason, "memory") {
			h.Fatalf("reported %+v", r)
		}
		// Changed limits start nothing.
		h.fake.Outside.Exit(ref(a), 1)
		h.after(time.Hour)
		h.expect(a, structs.ContainerStopped, true)
		h.counts(a, 1, 0)
		// A later action is carried out and has not failed. The limits are reported.
		for _, d := range []structs.Desired{structs.DesiredRunning, structs.DesiredPaused, structs.DesiredRunning, structs.DesiredStopped,
			structs.DesiredRunning} {
			a = next(a, d)
			h.assign(a)
			status := map[structs.Desired]structs.ContainerStatus{structs.DesiredRunning: structs.ContainerRunning,
				structs.DesiredPaused: structs.ContainerPaused, structs.DesiredStopped: structs.ContainerStopped}[d]
			if r := h.completed(a, status); !strings.Contains(r.Reason, "memory") || r.Memory != 0 {
				h.Fatalf("reported %+v", r)
			}
		}
		a = killWith(a, "SIGHUP")
		h.assign(a)
		h.completed(a, structs.ContainerRunning)
		h.counts(a, 3, 1)
		h.restart()
		h.full(true, a)
		h.completed(a, structs.ContainerRunning)
		// Servers that don't send LimitGeneration: any generation may be about limits.
		a = same(a)
		a.LimitGeneration = 0
		h.assign(a)
		h.expect(a, structs.ContainerRunning, true)
		a = limited(a, 64<<20, 0)
		h.assign(a)
		if r := h.completed(a, structs.ContainerRunning); r.Memory != 64<<20 || r.Reason != "" {
			h.Fatalf("reported %+v", r)
		}
	})
}

// TestRefusedLimitsAreTriedAgain: the engine refuses limits for a while.
func TestRefusedLimitsAreTriedAgain(t *testing.T) {
	inHost(t, func(h *host) {
		var refuse atomic.Bool // read by the timer's goroutine
		refuse.Store(true)
		h.fake.Fault = func(op string, _ structs.Ref) error {
			if op == "update" && refuse.Load() {
				return errors.New("device or resource busy")
			}
			return nil
		}
		a := want("a", 1, structs.DesiredRunning)
		h.assign(a)
		a = limited(a, 64<<20, 0)
		h.assign(a)
		h.expect(a, structs.ContainerRunning, true)
		refuse.Store(false)
		h.after(2 * limitRetry)
		h.completed(a, structs.ContainerRunning)
		h.counts(a, 1, 0)
	})
}

// TestLimitsStartNoProcess: a change of limits at the moment when a process ends by
// itself doesn't start the process, whatever was refused before.
func TestLimitsStartNoProcess(t *testing.T) {
	for _, refused := range []bool{false, true} {
		inHost(t, func(h *host) {
			a := want("a", 1, structs.DesiredRunning)
			h.assign(a)
			h.fake.Outside.Exit(ref(a), 0)
			if refused { // a user's signal was refused, too
				a = killWith(a, "SIGHUP")
				h.assign(a)
				h.expect(a, structs.ContainerStopped, true)
			}
			a = limited(a, 64<<20, 0)
			h.assign(a)
			if r := h.completed(a, structs.ContainerStopped); !strings.Contains(r.Reason, "its process has ended") {
				h.Fatalf("reported %+v", r)
			}
			h.after(time.Hour)
			h.restart()
			h.full(true, a)
			h.completed(a, structs.ContainerStopped)
			h.counts(a, 1, 0)
			if got := h.fake.Seen.Containers()[ref(a)].Limits; got.Memory != 64<<20 {
				h.Fatalf("limits are %+v", got)
			}
			// Limits that come before the agent knows of a start don't undo the start.
			a = limited(next(a, structs.DesiredRunning), 32<<20, 0)
			h.assign(a)
			h.completed(a, structs.ContainerRunning)
			h.counts(a, 2, 0)
		})
	}
}

// TestLimitsOfEarlierServers: without StartGeneration any generation may be a start.
func TestLimitsOfEarlierServers(t *testing.T) {
	inHost(t, func(h *host) {
		a := want("a", 1, structs.DesiredRunning)
		a.StartGeneration = 0
		h.assign(a)
		h.completed(a, structs.ContainerRunning)
		h.counts(a, 1, 0)
		a = next(a, structs.DesiredStopped)
		h.assign(a)
		h.completed(a, structs.ContainerStopped)
		a = next(a, structs.DesiredRunning)
		a.StartGeneration = 0
		h.assign(a)
		h.completed(a, structs.ContainerRunning)
		h.counts(a, 2, 1)
	})
}

// TestLimitsInARestartPause: limits are changed at once, and the restart comes after
// its pause.
func TestLimitsInARestartPause(t *testing.T) {
	inHost(t, func(h *host) {
		a := always(want("a", 1, structs.DesiredRunning))
		h.assign(a)
		a = killWith(a, "SIGKILL") // the engine's own restarts rest now
		h.assign(a)
		a = limited(a, 64<<20, 0)
		h.assign(a)
		h.completed(a, structs.ContainerStopped)
		h.counts(a, 1, 0)
		h.after(time.Minute)
		h.completed(a, structs.ContainerRunning)
		h.counts(a, 2, 0)
	})
}

// TestLimitsOfAContainerPausedByOthers: a change of limits leaves it paused.
func TestLimitsOfAContainerPausedByOthers(t *testing.T) {
	inHost(t, func(h *host) {
		a := want("a", 1, structs.DesiredRunning)
		h.assign(a)
		if err := h.fake.Pause(t.Context(), h.fake.Seen.Containers()[ref(a)].EngineID); err != nil {
			t.Fatal(err)
		}
		a = limited(a, 64<<20, 0)
		h.assign(a)
		h.completed(a, structs.ContainerPaused)
		a = next(a, structs.DesiredRunning)
		h.assign(a)
		h.completed(a, structs.ContainerRunning)
		h.counts(a, 1, 0)
	})
}

// TestRebuild: another image is placed under a new epoch. The old container is removed
// first, and volumes stay.
func TestRebuild(t *testing.T) {
	inHost(t, func(h *host) {
		const other = "other:1"
		h.fake.Outside.AddImage(other)
		old := want("a", 1, structs.DesiredRunning)
		old.Spec.Volumes = []structs.Mount{{Name: "data", Target: "/data"}}
		h.assign(old)
		both := false
		h.fake.Fault = func(op string, r structs.Ref) error {
			if op == "create" && h.exists(old) {
				both = true
			}
			return nil
		}
		a := next(old, structs.DesiredRunning)
		spec := *a.Spec
		spec.Image = other
		a.Spec, a.Epoch, a.Observed = &spec, 2, 0
		h.assign(a)
		h.completed(a, structs.ContainerRunning)
		if both || h.exists(old) || h.fake.Seen.ImageOf(ref(a)) != other {
			h.Fatalf("old one there at the create: %v, now: %v; image %s", both, h.exists(old), h.fake.Seen.ImageOf(ref(a)))
		}
		h.counts(a, 1, 0)
		h.counts(old, 1, 1)
	})
}

// TestRebuildFromAMissingImage: the old container runs on.
func TestRebuildFromAMissingImage(t *testing.T) {
	rebuilt := func(old structs.Assignment, epoch uint64, image, policy string) structs.Assignment {
		a := next(old, structs.DesiredRunning)
		spec := *a.Spec
		spec.Image, spec.PullPolicy = image, policy
		a.Spec, a.Epoch, a.Observed = &spec, epoch, 0
		return a
	}
	inHost(t, func(h *host) {
		old := want("a", 1, structs.DesiredRunning)
		h.assign(old)
		old = limited(old, 64<<20, 0)
		h.assign(old)
		h.completed(old, structs.ContainerRunning)
		runs := func() bool { return h.fake.Seen.Containers()[ref(old)].State == backend.StateRunning }
		a := rebuilt(old, 2, "nowhere:1", structs.PullIfNotPresent)
		for range 2 { // a restart of the agent changes nothing
			h.full(true, a)
			if r := h.expect(a, structs.ContainerError, true); r.Generation != a.Generation || r.Memory != 64<<20 ||
				!strings.Contains(r.Reason, "nowhere:1") || !strings.Contains(r.Reason, "runs on") {
				h.Fatalf("reported %+v", r)
			}
			h.after(time.Hour)
			if !runs() || h.exists(a) {
				h.Fatal("the old one does not run on")
			}
			h.restart()
		}
		// A stop is for the old container.
		a = next(a, structs.DesiredStopped)
		h.assign(a)
		if runs() || !h.exists(old) {
			h.Fatal("a stop left the old one running, or removed it")
		}
		// The image is fetched once, also with pull policy always.
		h.fake.Outside.AddImage("there:1")
		pulls := h.fake.Seen.Pulls()
		a = rebuilt(a, 3, "there:1", structs.PullAlways)
		h.assign(a)
		h.completed(a, structs.ContainerRunning)
		if h.exists(old) || h.fake.Seen.ImageOf(ref(a)) != "there:1" || h.fake.Seen.Pulls() != pulls+1 {
			h.Fatalf("the old one is there: %v; %d pulls", h.exists(old), h.fake.Seen.Pulls()-pulls)
		}
		// A delete removes the old container.
		a = rebuilt(a, 4, "nowhere:1", structs.PullIfNotPresent)
		h.assign(a)
		h.expect(a, structs.ContainerError, true)
		a = next(a, structs.DesiredAbsent)
		h.assign(a)
		if n := len(h.fake.Seen.Containers()); n != 0 {
			h.Fatalf("%d containers are left", n)
		}
	})
}

// TestStopDuringTheFetchOfARebuild: the stop does not wait for the image.
func TestStopDuringTheFetchOfARebuild(t *testing.T) {
	inHost(t, func(h *host) {
		old := want("a", 1, structs.DesiredRunning)
		h.assign(old)
		release := h.fake.Outside.HoldPulls()
		defer release()
		a := next(old, structs.DesiredRunning)
		spec := *a.Spec
		spec.Image = "slow:1"
		a.Spec, a.Epoch, a.Observed = &spec, 2, 0
		h.assign(a)
		h.expect(a, structs.ContainerCreating, false)
		if h.fake.Seen.Containers()[ref(old)].State != backend.StateRunning {
			h.Fatal("the old one does not run on")
		}
		a = next(a, structs.DesiredStopped)
		h.assign(a)
		if h.fake.Seen.Containers()[ref(old)].State == backend.StateRunning {
			h.Fatal("the old one runs on")
		}
		a = next(a, structs.DesiredAbsent)
		h.assign(a)
		if n := len(h.fake.Seen.Containers()); n != 0 {
			h.Fatalf("%d containers are left", n)
		}
	})
}

// TestRebuildWithALease: the old container is removed first, because its lease may end
// meanwhile.
func TestRebuildWithALease(t *testing.T) {
	inHost(t, func(h *host) {
		a := exclusive("a", 1, structs.ExclusiveLease, structs.RestartAlways)
		h.rec.exclusive.lease.Renew(time.Now().Add(time.Hour), time.Second)
		h.full(true, a)
		h.full(true, a)
		h.completed(a, structs.ContainerRunning)
		spec := *a.Spec
		spec.Image = "nowhere:1"
		b := next(a, structs.DesiredRunning)
		b.Spec, b.Epoch, b.Observed = &spec, 2, 0
		h.assign(b)
		h.expect(b, structs.ContainerError, true)
		if h.exists(a) {
			h.Fatal("the old one is there")
		}
	})
}
