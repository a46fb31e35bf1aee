package agent

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/structs"
)

// killWith returns the assignment after a user's kill.
func killWith(a structs.Assignment, signal string) structs.Assignment {
	a = same(a)
	a.KillGeneration, a.Signal = a.Generation, signal
	return a
}

// sent fails unless exactly these signals were sent to the container's process.
func (h *host) sent(a structs.Assignment, signals ...string) {
	h.Helper()
	if got := h.fake.Seen.Signals(ref(a)); strings.Join(got, " ") != strings.Join(signals, " ") {
		h.Fatalf("signals sent are %v, want %v", got, signals)
	}
}

func TestKillSendsTheSignalOnce(t *testing.T) {
	inHost(t, func(h *host) {
		a := want("a", 1, structs.DesiredRunning)
		h.assign(a)
		a = killWith(a, "SIGHUP")
		h.assign(a)
		h.completed(a, structs.ContainerRunning)
		h.assign(a)
		h.restart()
		h.full(true, a)
		h.after(time.Hour)
		h.sent(a, "SIGHUP")
		h.counts(a, 1, 0)
		// SIGKILL is the default.
		a = killWith(a, "")
		h.assign(a)
		r := h.completed(a, structs.ContainerStopped)
		if r.ExitCode == nil || *r.ExitCode != 137 || !strings.Contains(r.Reason, "a user sent it signal SIGKILL") {
			h.Fatalf("reported %+v", r)
		}
		h.after(time.Hour)
		h.restart()
		h.full(true, a)
		h.completed(a, structs.ContainerStopped)
		h.sent(a, "SIGHUP", "SIGKILL")
		h.counts(a, 1, 0)
		// A later start gets no signal.
		a = next(a, structs.DesiredRunning)
		h.assign(a)
		h.completed(a, structs.ContainerRunning)
		h.sent(a, "SIGHUP", "SIGKILL")
	})
}

func TestKillWithRestartPolicyAlways(t *testing.T) {
	inHost(t, func(h *host) {
		a := always(want("a", 1, structs.DesiredRunning))
		h.assign(a)
		a = killWith(a, "SIGKILL")
		h.assign(a)
		if r := h.completed(a, structs.ContainerStopped); !strings.Contains(r.Reason, "start it again") {
			h.Fatalf("reported %+v", r)
		}
		h.after(time.Second)
		if r := h.completed(a, structs.ContainerRunning); r.RestartCount != 1 {
			h.Fatalf("reported %+v", r)
		}
		h.counts(a, 2, 0)
		h.sent(a, "SIGKILL")
	})
}

func TestKillOfAPausedContainer(t *testing.T) {
	inHost(t, func(h *host) {
		a := want("a", 1, structs.DesiredPaused)
		h.assign(a)
		a = killWith(a, "SIGHUP")
		h.assign(a)
		h.completed(a, structs.ContainerRunning) // the engine thaws it
		a = next(a, structs.DesiredPaused)
		h.assign(a)
		h.completed(a, structs.ContainerPaused)
		a = killWith(a, "SIGKILL")
		h.assign(a)
		h.completed(a, structs.ContainerStopped)
		h.counts(a, 1, 0)
	})
}

// TestKillThatFails: the signal fails, and nothing else does.
func TestKillThatFails(t *testing.T) {
	t.Run("ended", func(t *testing.T) {
		inHost(t, func(h *host) {
			a := command(want("a", 1, structs.DesiredRunning), "exit 3")
			h.assign(a)
			a = killWith(a, "SIGHUP")
			h.assign(a)
			if r := h.expect(a, structs.ContainerStopped, true); r.Generation != 2 || !strings.Contains(r.Reason, "not sent") {
				h.Fatalf("reported %+v", r)
			}
			h.after(time.Hour)
			h.restart()
			h.full(true, a)
			h.expect(a, structs.ContainerStopped, true)
			h.counts(a, 1, 0)
		})
	})
	t.Run("unknown signal", func(t *testing.T) {
		inHost(t, func(h *host) {
			a := want("a", 1, structs.DesiredRunning)
			h.assign(a)
			a = killWith(a, "SIGNONE")
			h.assign(a)
			if r := h.expect(a, structs.ContainerRunning, true); !strings.Contains(r.Reason, "SIGNONE") {
				h.Fatalf("reported %+v", r)
			}
			h.fake.Outside.Exit(ref(a), 0)
			h.after(time.Hour)
			h.expect(a, structs.ContainerStopped, true)
			h.counts(a, 1, 0)
		})
	})
	t.Run("start in progress", func(t *testing.T) {
		inHost(t, func(h *host) {
			a := want("a", 1, structs.DesiredRunning)
			a.Spec.PullPolicy = structs.PullAlways
			release := h.fake.Outside.HoldPulls()
			h.assign(a)
			a = killWith(a, "SIGKILL")
			a.Observed = 0
			h.assign(a)
			release()
			h.after(time.Second)
			if r := h.expect(a, structs.ContainerRunning, true); r.Generation != 2 {
				h.Fatalf("reported %+v", r)
			}
			h.sent(a)
			h.counts(a, 1, 0)
		})
	})
	t.Run("engine away", func(t *testing.T) {
		inHost(t, func(h *host) {
			a := want("a", 1, structs.DesiredRunning)
			h.assign(a)
			h.fake.Fault = func(op string, _ structs.Ref) error {
				if op == "signal" {
					return &backend.Failure{Reason: backend.ErrAway, Msg: "away"}
				}
				return nil
			}
			a = killWith(a, "SIGHUP")
			h.assign(a)
			h.after(time.Minute)
			if r := h.expect(a, structs.ContainerRunning, true); !strings.Contains(r.Reason, "not known") {
				h.Fatalf("reported %+v", r)
			}
			h.sent(a)
		})
	})
}

// TestKillOfAnEarlierPlacement: the signal of an earlier epoch is not sent to the
// process of a new one.
func TestKillOfAnEarlierPlacement(t *testing.T) {
	for _, d := range []structs.Desired{structs.DesiredRunning, structs.DesiredPaused} {
		inHost(t, func(h *host) {
			a := want("a", 1, structs.DesiredRunning)
			h.assign(a)
			a = killWith(a, "SIGKILL")
			h.assign(a)
			a = next(a, d)
			a.Epoch, a.Observed = 2, 0
			h.assign(a)
			h.completed(a, statusOf(d))
			h.sent(a)
		})
	}
}

// TestKilledAtEveryInstantOfAKill kills the agent at each seam of a kill. The signal is
// sent at most once, and the kill is reported as done.
func TestKilledAtEveryInstantOfAKill(t *testing.T) {
	for _, before := range []structs.Desired{structs.DesiredRunning, structs.DesiredPaused} {
		for _, signal := range []string{"SIGHUP", "SIGKILL"} {
			for first := range 8 {
				for second := range 5 {
					inHost(t, func(h *host) {
						a := want("a", 1, before)
						h.assign(a)
						h.mu.Lock()
						h.crashAt, h.seams = first, 0
						h.mu.Unlock()
						a = killWith(a, signal)
						h.assign(a)
						crashes := []int{second}
						h.completeAfterCrashes(a, func() (c int) {
							if len(crashes) > 0 {
								c, crashes = crashes[0], nil
							}
							return c
						})
						what := fmt.Sprintf("%s of one %s, killed at %d and %d", signal, before, first, second)
						n := len(h.fake.Seen.Signals(ref(a)))
						if n > 1 || first == 0 && n != 1 {
							h.Fatalf("%s: sent %d times", what, n)
						}
						h.counts(a, 1, 0)
					})
				}
			}
		}
	}
}
