package agent

import (
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/structs"
)

func always(a structs.Assignment) structs.Assignment {
	spec := *a.Spec
	spec.RestartPolicy = structs.RestartPolicy{Name: structs.RestartAlways}
	a.Spec = &spec
	return a
}

func command(a structs.Assignment, script string) structs.Assignment {
	spec := *a.Spec
	spec.Command = []string{"sh", "-c", script}
	a.Spec = &spec
	return a
}

// next returns the assignment after another action.
func next(a structs.Assignment, d structs.Desired) structs.Assignment {
	a.Observed = a.Generation
	a.Generation++
	a.Desired = d
	if d == structs.DesiredRunning {
		a.StartGeneration = a.Generation
	}
	return a
}

// same returns the assignment after an action that starts and stops nothing.
func same(a structs.Assignment) structs.Assignment {
	start := a.StartGeneration
	a = next(a, a.Desired)
	a.StartGeneration = start
	return a
}

func reboot(a structs.Assignment) structs.Assignment {
	a = next(a, structs.DesiredRunning)
	a.RebootGeneration = a.Generation
	return a
}

func TestEveryActionFromEveryState(t *testing.T) {
	word := map[structs.Desired]structs.ContainerStatus{
		structs.DesiredCreated: structs.ContainerStopped, structs.DesiredRunning: structs.ContainerRunning,
		structs.DesiredStopped: structs.ContainerStopped, structs.DesiredPaused: structs.ContainerPaused,
	}
	for _, c := range []struct {
		name          string
		steps         []structs.Desired
		starts, stops int
	}{
		{"created", []structs.Desired{structs.DesiredCreated}, 0, 0},
		{"running", []structs.Desired{structs.DesiredRunning}, 1, 0},
		{"never started, stopped", []structs.Desired{structs.DesiredStopped}, 0, 0},
		{"paused at once", []structs.Desired{structs.DesiredPaused}, 1, 0},
		{"start", []structs.Desired{structs.DesiredCreated, structs.DesiredRunning}, 1, 0},
		{"stop", []structs.Desired{structs.DesiredRunning, structs.DesiredStopped}, 1, 1},
		{"stop and start", []structs.Desired{structs.DesiredRunning, structs.DesiredStopped, structs.DesiredRunning}, 2, 1},
		{"pause", []structs.Desired{structs.DesiredRunning, structs.DesiredPaused}, 1, 0},
		{"pause and unpause", []structs.Desired{structs.DesiredRunning, structs.DesiredPaused, structs.DesiredRunning}, 1, 0},
		{"stop of a paused one", []structs.Desired{structs.DesiredRunning, structs.DesiredPaused, structs.DesiredStopped}, 1, 1},
		{"running twice", []structs.Desired{structs.DesiredRunning, structs.DesiredRunning}, 1, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			inHost(t, func(h *host) {
				a := want("a", 0, "")
				for _, d := range c.steps {
					a = next(a, d)
					h.assign(a)
					h.completed(a, word[d])
				}
				h.counts(a, c.starts, c.stops)
				h.after(time.Hour)
				h.restart()
				h.full(true, a)
				h.completed(a, word[a.Desired])
				h.counts(a, c.starts, c.stops)
				a = next(a, structs.DesiredAbsent)
				h.assign(a)
				h.completed(a, structs.ContainerGone)
				if h.exists(a) || len(h.rec.journal.refs()) != 0 || len(h.rec.units.all) != 0 {
					h.Fatalf("left over: container %v, journal %v, %d units", h.exists(a), h.rec.journal.refs(), len(h.rec.units.all))
				}
			})
		})
	}
}

func TestReboot(t *testing.T) {
	inHost(t, func(h *host) {
		a := want("a", 1, structs.DesiredRunning)
		h.assign(a)
		before := h.completed(a, structs.ContainerRunning).StartedAt
		h.after(time.Minute)
		a = reboot(a)
		h.assign(a)
		if r := h.completed(a, structs.ContainerRunning); !r.StartedAt.After(before) {
			h.Fatalf("started at %s, before the reboot at %s", r.StartedAt, before)
		}
		h.counts(a, 2, 1)
		// The same once more, with the answer repeated and a restart of the agent.
		h.assign(a)
		h.restart()
		h.full(true, a)
		h.counts(a, 2, 1)
		// The reboot of a stopped container only starts it.
		a = next(a, structs.DesiredStopped)
		h.assign(a)
		a = reboot(a)
		h.assign(a)
		h.completed(a, structs.ContainerRunning)
		h.counts(a, 3, 2)
		// The reboot of a paused container.
		a = next(a, structs.DesiredPaused)
		h.assign(a)
		a = reboot(a)
		h.assign(a)
		h.completed(a, structs.ContainerRunning)
		h.counts(a, 4, 3)
		// A stop overtakes the reboot before the agent gets it.
		a = next(reboot(a), structs.DesiredStopped)
		h.assign(a)
		h.completed(a, structs.ContainerStopped)
		h.counts(a, 4, 4)
	})
}

func TestProcessEndsByItself(t *testing.T) {
	inHost(t, func(h *host) {
		a := command(want("a", 1, structs.DesiredRunning), "exit 3")
		h.assign(a)
		r := h.completed(a, structs.ContainerStopped)
		if r.ExitCode == nil || *r.ExitCode != 3 || !strings.Contains(r.Reason, "3") || r.FinishedAt.IsZero() {
			h.Fatalf("reported %+v", r)
		}
		h.after(time.Hour)
		h.restart()
		h.full(true, a)
		h.completed(a, structs.ContainerStopped)
		h.counts(a, 1, 0)
	})
}

func TestKilledOutside(t *testing.T) {
	t.Run("policy no", func(t *testing.T) {
		inHost(t, func(h *host) {
			a := want("a", 1, structs.DesiredRunning)
			h.assign(a)
			h.fake.Outside.Kill(ref(a))
			h.after(time.Hour)
			if r := h.completed(a, structs.ContainerStopped); r.ExitCode == nil || *r.ExitCode != 137 || r.Reason == "" {
				h.Fatalf("reported %+v", r)
			}
			h.counts(a, 1, 1)
		})
	})
	t.Run("policy always", func(t *testing.T) {
		inHost(t, func(h *host) {
			a := always(want("a", 1, structs.DesiredRunning))
			h.assign(a)
			h.fake.Outside.Kill(ref(a))
			synctest.Wait()
			if r := h.completed(a, structs.ContainerStopped); !strings.Contains(r.Reason, "again") {
				h.Fatalf("reason is %q", r.Reason)
			}
			h.after(time.Second)
			if r := h.completed(a, structs.ContainerRunning); r.RestartCount != 1 {
				h.Fatalf("restart count is %d, want 1", r.RestartCount)
			}
			// Each quick end makes the next restart slower.
			begin := time.Now()
			for range 5 {
				h.fake.Outside.Kill(ref(a))
				synctest.Wait()
				for h.last("a").Status != structs.ContainerRunning {
					h.after(100 * time.Millisecond)
				}
			}
			if d := time.Since(begin); d < 25*time.Second {
				h.Fatalf("five restarts within %s", d)
			}
			// After a long run the restart is quick again.
			h.after(time.Minute)
			h.fake.Outside.Kill(ref(a))
			h.after(time.Second)
			h.completed(a, structs.ContainerRunning)
			h.restart()
			h.full(true, a)
			if r := h.completed(a, structs.ContainerRunning); r.RestartCount != 7 {
				h.Fatalf("restart count is %d, want 7", r.RestartCount)
			}
		})
	})
}

// TestDisconnectedOutside: a container that somebody has disconnected from its network gets
// it back at once, and isn't restarted.
func TestDisconnectedOutside(t *testing.T) {
	t.Run("while it runs", func(t *testing.T) {
		inHost(t, func(h *host) {
			a := want("a", 1, structs.DesiredRunning)
			h.assign(a)
			h.fake.Outside.SetAddress("172.18.0.9")
			h.fake.Outside.Disconnect(ref(a))
			synctest.Wait()
			if r := h.completed(a, structs.ContainerRunning); r.Reason != "" || !slices.Equal(r.Addresses, []string{"172.18.0.9"}) {
				t.Errorf("reported %+v", r)
			}
			if !h.said(func(r structs.ContainerReport) bool {
				return len(r.Addresses) == 0 && strings.Contains(r.Reason, "disconnected")
			}) {
				t.Error("nothing was said of that")
			}
			h.counts(a, 1, 0)
		})
	})
	t.Run("while it is stopped", func(t *testing.T) {
		inHost(t, func(h *host) {
			a := want("a", 1, structs.DesiredRunning)
			h.assign(a)
			a = next(a, structs.DesiredStopped)
			h.assign(a)
			h.completed(a, structs.ContainerStopped)
			h.fake.Outside.Disconnect(ref(a))
			a = next(a, structs.DesiredRunning)
			h.assign(a)
			if r := h.completed(a, structs.ContainerRunning); len(r.Addresses) != 1 {
				t.Errorf("reported %+v", r)
			}
			h.counts(a, 2, 1)
		})
	})
	t.Run("and the engine refuses", func(t *testing.T) {
		inHost(t, func(h *host) {
			a := want("a", 1, structs.DesiredRunning)
			h.assign(a)
			refuse := &backend.Failure{Reason: backend.ErrPortTaken, Msg: "port is already allocated"}
			var refuses atomic.Bool
			refuses.Store(true)
			h.fake.Fault = func(op string, of structs.Ref) error {
				if op == "reconnect" && refuses.Load() {
					return refuse
				}
				return h.seam(op, of)
			}
			h.fake.Outside.Disconnect(ref(a))
			h.after(time.Minute)
			if r := h.completed(a, structs.ContainerRunning); len(r.Addresses) != 0 || !strings.Contains(r.Reason, refuse.Msg) {
				t.Errorf("reported %+v", r)
			}
			refuses.Store(false)
			h.after(10 * time.Minute)
			if r := h.completed(a, structs.ContainerRunning); r.Reason != "" || len(r.Addresses) != 1 {
				t.Errorf("reported %+v", r)
			}
			h.counts(a, 1, 0)
		})
	})
}

func TestRemovedOutside(t *testing.T) {
	inHost(t, func(h *host) {
		a := always(want("a", 1, structs.DesiredRunning))
		h.assign(a)
		h.fake.Outside.Remove(ref(a))
		h.after(time.Hour)
		if r := h.completed(a, structs.ContainerGone); r.Reason == "" {
			h.Fatal("no reason")
		}
		h.restart()
		h.full(true, a)
		h.completed(a, structs.ContainerGone)
		if h.fake.Seen.Creates(ref(a)) != 1 {
			h.Fatal("the same epoch was created again")
		}
		a.Epoch, a.Observed = 2, 0
		h.assign(a)
		h.completed(a, structs.ContainerRunning)
		if refs := h.rec.journal.refs(); len(refs) != 1 || refs[0] != ref(a) {
			h.Fatalf("journal has %v", refs)
		}
	})
}

func TestRemovedWhileTheAgentAndItsJournalAreAway(t *testing.T) {
	inHost(t, func(h *host) {
		a := want("a", 1, structs.DesiredRunning)
		h.assign(a)
		h.fake.Outside.Remove(ref(a))
		h.stop()
		h.path += ".lost"
		h.start()
		a.Observed = 1 // the servers know that it existed
		h.full(true, a)
		h.completed(a, structs.ContainerGone)
		if h.exists(a) {
			h.Fatal("the same epoch was created again")
		}
	})
}

func TestStartOfARemovedContainerFails(t *testing.T) {
	inHost(t, func(h *host) {
		a := want("a", 1, structs.DesiredCreated)
		h.assign(a)
		h.stop()
		h.fake.Outside.Remove(ref(a))
		h.start()
		a = next(a, structs.DesiredRunning)
		h.full(true, a)
		if r := h.expect(a, structs.ContainerGone, true); r.Generation != 2 {
			h.Fatalf("reported %+v", r)
		}
	})
}

func TestNewEpochReplacesTheOld(t *testing.T) {
	inHost(t, func(h *host) {
		old := want("a", 1, structs.DesiredRunning)
		h.assign(old)
		a := old
		a.Epoch = 3
		h.assign(a)
		h.completed(a, structs.ContainerRunning)
		if h.exists(old) || !h.exists(a) {
			h.Fatalf("containers are %v", h.fake.Seen.Containers())
		}
		// An earlier answer doesn't bring the old container back.
		h.assign(old)
		if h.exists(old) || !h.exists(a) {
			h.Fatalf("containers are %v", h.fake.Seen.Containers())
		}
	})
}

func TestPauseByOthersIsReportedAndKept(t *testing.T) {
	inHost(t, func(h *host) {
		a := want("a", 1, structs.DesiredRunning)
		h.assign(a)
		h.fake.Outside.Pause(ref(a), true)
		h.after(time.Hour)
		if r := h.completed(a, structs.ContainerPaused); r.Reason == "" {
			h.Fatal("no reason")
		}
		a = next(a, structs.DesiredRunning) // unpause
		h.assign(a)
		h.completed(a, structs.ContainerRunning)
		a = next(a, structs.DesiredPaused)
		h.assign(a)
		h.fake.Outside.Pause(ref(a), false)
		h.after(time.Hour)
		h.completed(a, structs.ContainerRunning)
		h.counts(a, 1, 0)
	})
}

func TestStoppedStaysStopped(t *testing.T) {
	inHost(t, func(h *host) {
		a := want("a", 1, structs.DesiredRunning)
		h.assign(a)
		a = next(a, structs.DesiredStopped)
		h.assign(a)
		h.fake.Outside.Start(ref(a))
		h.after(time.Second)
		h.completed(a, structs.ContainerStopped)
	})
}

func TestPauseOfAnEndedContainerFails(t *testing.T) {
	inHost(t, func(h *host) {
		a := command(want("a", 1, structs.DesiredRunning), "exit 0")
		h.assign(a)
		a = next(a, structs.DesiredPaused)
		h.assign(a)
		if r := h.expect(a, structs.ContainerStopped, true); r.Generation != 2 || !strings.Contains(r.Reason, "paused") {
			h.Fatalf("reported %+v", r)
		}
		h.counts(a, 1, 0)
	})
}

func TestMissingImageFailsTheGeneration(t *testing.T) {
	inHost(t, func(h *host) {
		a := want("a", 1, structs.DesiredRunning)
		a.Spec.Image = "none:1"
		h.assign(a)
		if r := h.expect(a, structs.ContainerError, true); r.Generation != 1 || !strings.Contains(r.Reason, "none:1") {
			h.Fatalf("reported %+v", r)
		}
		a.Observed = 1 // a failed create is observed, too
		h.assign(a)
		h.restart()
		h.full(true, a)
		h.expect(a, structs.ContainerError, true)
		h.fake.Outside.AddImage("none:1")
		h.after(10 * time.Minute)
		h.completed(a, structs.ContainerRunning)

		b := want("b", 1, structs.DesiredRunning)
		b.Spec.Image = "none:2"
		h.assign(b)
		h.after(time.Hour)
		h.fake.Outside.AddImage("none:2")
		b = next(b, structs.DesiredRunning)
		h.assign(b) // a new generation is tried at once
		h.completed(b, structs.ContainerRunning)
	})
}

// TestMissingImageIsTriedAgain: the retries are slower each time, and nothing but the
// failure is reported meanwhile.
func TestMissingImageIsTriedAgain(t *testing.T) {
	inHost(t, func(h *host) {
		a := want("a", 1, structs.DesiredRunning)
		a.Spec.Image = "none:1"
		h.assign(a)
		for i, again := range []time.Duration{30 * time.Second, time.Minute, 2 * time.Minute, 4 * time.Minute, 5 * time.Minute,
			5 * time.Minute} {
			if r := h.expect(a, structs.ContainerError, true); !strings.Contains(r.Reason, "tried again in "+again.String()) {
				h.Fatalf("reported %+v, want the next try in %s", r, again)
			}
			if n := h.fake.Seen.Pulls(); n != i+1 {
				h.Fatalf("%d pulls, want %d", n, i+1)
			}
			h.after(again - time.Second)
			h.fake.Outside.ImportImage("other:1") // no reason to try
			h.after(0)
			if n := h.fake.Seen.Pulls(); n != i+1 {
				h.Fatalf("%d pulls before the time, want %d", n, i+1)
			}
			h.after(time.Second)
		}
		if h.said(func(r structs.ContainerReport) bool { return r.Status != structs.ContainerError }) {
			h.Fatal("a try in the background was reported")
		}
	})
}

// TestImageEventEndsTheBackoff: all containers that wait for the image are created at once.
func TestImageEventEndsTheBackoff(t *testing.T) {
	inHost(t, func(h *host) {
		a, b, c := want("a", 1, structs.DesiredRunning), want("b", 1, structs.DesiredCreated), want("c", 1, structs.DesiredRunning)
		a.Spec.Image, b.Spec.Image, c.Spec.Image = "none", "docker.io/library/none:latest", "none:2"
		h.assign(a, b, c)
		h.fake.Outside.ImportImage("none:latest")
		h.after(0)
		h.completed(a, structs.ContainerRunning)
		h.completed(b, structs.ContainerStopped)
		h.expect(c, structs.ContainerError, true)
		if n := h.fake.Seen.Pulls(); n != 3 {
			h.Fatalf("%d pulls, want one for each container", n)
		}
	})
}

// TestLongPullIsReported: a slow retry is reported, and doesn't count as success.
func TestLongPullIsReported(t *testing.T) {
	inHost(t, func(h *host) {
		a := want("a", 1, structs.DesiredRunning)
		a.Spec.Image = "none:1"
		h.assign(a)
		release := h.fake.Outside.HoldPulls()
		h.after(30 * time.Second)
		h.fake.Outside.Say("pulling none:1: hardly begun")
		h.after(0)
		if r := h.expect(a, structs.ContainerError, true); !strings.Contains(r.Reason, "tried again") {
			h.Fatalf("reported %+v", r)
		}
		h.after(quietRetry + time.Second)
		h.fake.Outside.Say("pulling none:1: half of it")
		h.after(0)
		if r := h.expect(a, structs.ContainerError, true); !strings.Contains(r.Reason, "half of it") || r.Generation != 1 {
			h.Fatalf("reported %+v", r)
		}
		h.fake.Outside.AddImage("none:1")
		release()
		h.after(0)
		h.completed(a, structs.ContainerRunning)
	})
}

// TestActionDuringAPull: an action that comes while a pull fails is carried out at
// once, not after the backoff.
func TestActionDuringAPull(t *testing.T) {
	inHost(t, func(h *host) {
		release := h.fake.Outside.HoldPulls()
		a := want("a", 1, structs.DesiredRunning)
		a.Spec.Image = "none:1"
		h.assign(a)
		a = next(a, structs.DesiredRunning)
		h.assign(a)
		h.expect(a, structs.ContainerCreating, false)
		release()
		h.after(0)
		if r := h.expect(a, structs.ContainerError, true); r.Generation != 2 || h.fake.Seen.Pulls() != 2 {
			h.Fatalf("reported %+v after %d pulls", r, h.fake.Seen.Pulls())
		}
	})
}

// TestStopOfAContainerThatWasNeverCreated: no process runs, so the stop is done. The
// container is created when that is possible, and not started.
func TestStopOfAContainerThatWasNeverCreated(t *testing.T) {
	inHost(t, func(h *host) {
		a := want("a", 1, structs.DesiredRunning)
		a.Spec.Image = "none:1"
		h.assign(a)
		h.expect(a, structs.ContainerError, true)
		a = next(a, structs.DesiredStopped)
		h.assign(a)
		if r := h.completed(a, structs.ContainerError); !strings.Contains(r.Reason, "none:1") {
			h.Fatalf("reported %+v", r)
		}
		h.restart()
		h.full(true, a)
		h.completed(a, structs.ContainerError)
		h.fake.Outside.ImportImage("none:1")
		h.after(0)
		h.completed(a, structs.ContainerStopped)
		h.counts(a, 0, 0)
	})
}

func TestPullIsReportedAndCanBeInterrupted(t *testing.T) {
	inHost(t, func(h *host) {
		release := h.fake.Outside.HoldPulls()
		a := want("a", 1, structs.DesiredRunning)
		a.Spec.PullPolicy = structs.PullAlways
		h.assign(a)
		if r := h.expect(a, structs.ContainerCreating, false); !strings.Contains(r.Reason, "pulling") || r.Generation != 0 {
			h.Fatalf("reported %+v", r)
		}
		a = next(a, structs.DesiredStopped) // waits for the pull
		h.assign(a)
		h.expect(a, structs.ContainerCreating, false)
		release()
		synctest.Wait()
		h.completed(a, structs.ContainerStopped)
		h.counts(a, 0, 0)

		h.fake.Outside.HoldPulls()
		b := want("b", 1, structs.DesiredRunning)
		b.Spec.PullPolicy = structs.PullAlways
		h.assign(b)
		b = next(b, structs.DesiredAbsent)
		h.assign(b)
		h.completed(b, structs.ContainerGone)
	})
}

func TestTakenPortIsTriedAgain(t *testing.T) {
	inHost(t, func(h *host) {
		h.fake.Outside.TakePort(80, true)
		a := want("a", 1, structs.DesiredRunning)
		a.Spec.Ports = []structs.Port{{ContainerPort: 80, HostPort: 80, Protocol: "tcp"}}
		h.assign(a)
		if r := h.expect(a, structs.ContainerError, true); r.Generation != 1 || !strings.Contains(r.Reason, "80") {
			h.Fatalf("reported %+v", r)
		}
		h.restart()
		h.full(true, a)
		h.expect(a, structs.ContainerError, true)
		h.counts(a, 0, 0)
		h.fake.Outside.TakePort(80, false)
		h.after(10 * time.Minute)
		h.completed(a, structs.ContainerRunning)
		h.counts(a, 1, 0)
	})
}

func TestTakenPortOfARestart(t *testing.T) {
	inHost(t, func(h *host) {
		a := always(want("a", 1, structs.DesiredRunning))
		a.Spec.Ports = []structs.Port{{ContainerPort: 80, HostPort: 80, Protocol: "tcp"}}
		h.assign(a)
		h.fake.Outside.TakePort(80, true)
		h.fake.Outside.Kill(ref(a))
		h.after(time.Second)
		if r := h.completed(a, structs.ContainerError); !strings.Contains(r.Reason, "80") {
			h.Fatalf("reported %+v", r)
		}
		h.fake.Outside.TakePort(80, false)
		h.after(10 * time.Minute)
		if r := h.completed(a, structs.ContainerRunning); r.Reason != "" {
			h.Fatalf("reason is left: %q", r.Reason)
		}
	})
}

func TestTakenNameIsTriedAgain(t *testing.T) {
	inHost(t, func(h *host) {
		a := want("a", 1, structs.DesiredRunning)
		h.fake.Outside.TakeName(ref(a), true)
		h.assign(a)
		if r := h.expect(a, structs.ContainerError, true); !strings.Contains(r.Reason, backend.NameOf(ref(a))) {
			h.Fatalf("reported %+v", r)
		}
		h.fake.Outside.TakeName(ref(a), false)
		h.after(2 * time.Minute)
		h.completed(a, structs.ContainerRunning)
	})
}

func TestEngineAway(t *testing.T) {
	inHost(t, func(h *host) {
		a, b := want("a", 1, structs.DesiredRunning), always(want("b", 1, structs.DesiredRunning))
		h.assign(a, b)
		h.fake.Outside.Down()
		reported := h.reportCount()
		h.after(time.Minute)
		if h.reportCount() != reported {
			h.Fatalf("reported %+v while the engine was away, and nothing was asked for", h.history[reported:])
		}
		c := want("c", 1, structs.DesiredRunning)
		a = next(a, structs.DesiredStopped)
		h.assign(a, c)
		h.after(time.Minute)
		// A waiting action is reported once, and the status stays.
		was := map[string]structs.ContainerStatus{"a": structs.ContainerRunning, "c": structs.ContainerCreating}
		for _, r := range h.history[reported:] {
			if r.Status != was[r.ContainerID] || r.Failed || r.Generation != map[string]uint64{"a": a.Generation - 1}[r.ContainerID] ||
				!strings.Contains(r.Reason, "what was asked for is done once it does") {
				h.Errorf("reported %+v while the engine was away", r)
			}
			delete(was, r.ContainerID)
		}
		if len(was) != 0 || h.reportCount() != reported+2 {
			h.Fatalf("reported %+v while the engine was away", h.history[reported:])
		}
		h.fake.Outside.Up()
		h.after(10 * time.Second)
		h.completed(a, structs.ContainerStopped)
		h.completed(b, structs.ContainerRunning)
		h.completed(c, structs.ContainerRunning)
		h.counts(b, 2, 0)
	})
}

func TestEngineTakesProcessesWithIt(t *testing.T) {
	inHost(t, func(h *host) {
		a := want("a", 1, structs.DesiredRunning)
		h.assign(a)
		h.fake.Outside.Down()
		h.fake.Outside.Up()
		h.after(10 * time.Second)
		h.completed(a, structs.ContainerStopped)
		h.counts(a, 1, 0)
	})
}

// foreignRequest returns a container of the host that no answer names.
func (h *host) unknown(id string) structs.Assignment {
	a := want(id, 1, structs.DesiredRunning)
	h.fake.Outside.Add(backend.CreateRequest{Owner: h.owner, Ref: ref(a), ProjectID: "p", Spec: a.Spec})
	h.fake.Outside.Start(ref(a))
	return a
}

func TestUnknownContainersGoOnlyOnAConfirmedFullAnswer(t *testing.T) {
	inHost(t, func(h *host) {
		a := want("a", 1, structs.DesiredRunning)
		h.assign(a)
		x := h.unknown("x")
		other := h.owner
		other.HostID = "h2"
		foreign := want("f", 1, structs.DesiredRunning)
		h.fake.Outside.Add(backend.CreateRequest{Owner: other, Ref: ref(foreign), ProjectID: "p", Spec: foreign.Spec})
		synctest.Wait()
		h.mu.Lock()
		if h.askedFor == 0 {
			h.Error("nobody was asked whose it is")
		}
		h.mu.Unlock()
		h.assign(a)
		h.full(false, a)
		h.full(false)
		h.rec.apply(&structs.Work{Confirmed: true}, false, pollState{})
		h.after(time.Hour)
		h.counts(x, 1, 0)
		h.counts(a, 1, 0)
		h.restart()
		h.after(time.Hour)
		h.counts(x, 1, 0)
		h.full(true, a)
		if h.exists(x) || !h.exists(a) || !h.exists(foreign) {
			h.Fatalf("containers are %v", h.fake.Seen.Containers())
		}
		h.counts(a, 1, 0)
		if h.said(func(r structs.ContainerReport) bool { return r.ContainerID == "x" }) {
			h.Fatal("a container of another host was reported")
		}
		// This container was assigned once and no longer is.
		h.full(true)
		if h.exists(a) || len(h.rec.journal.refs()) != 0 {
			h.Fatalf("containers are %v, journal %v", h.fake.Seen.Containers(), h.rec.journal.refs())
		}
	})
}

func TestForcedDelete(t *testing.T) {
	inHost(t, func(h *host) {
		a := want("a", 1, structs.DesiredRunning)
		h.assign(a)
		a = next(a, structs.DesiredAbsent)
		a.Force = true
		h.assign(a)
		h.completed(a, structs.ContainerGone)
		if h.exists(a) {
			h.Fatal("it is still there")
		}
	})
}

func TestGoneIsReportedUntilItIsTaken(t *testing.T) {
	inHost(t, func(h *host) {
		a := want("a", 1, structs.DesiredRunning)
		h.assign(a)
		h.mu.Lock()
		h.rejectsReports = true
		h.mu.Unlock()
		a = next(a, structs.DesiredAbsent)
		h.assign(a)
		h.mu.Lock()
		h.rejectsReports = false
		h.mu.Unlock()
		h.restart()
		h.full(true, a)
		h.completed(a, structs.ContainerGone)
	})
}

func TestJournalLost(t *testing.T) {
	inHost(t, func(h *host) {
		a := reboot(want("a", 0, structs.DesiredRunning))
		h.assign(a)
		h.completed(a, structs.ContainerRunning)
		h.counts(a, 1, 0)
		h.stop()
		h.path += ".lost"
		h.start()
		a.Observed = a.Generation
		h.full(true, a)
		h.completed(a, structs.ContainerRunning)
		h.counts(a, 1, 0)
	})
}

func TestManyAtOnce(t *testing.T) {
	inHost(t, func(h *host) {
		var as []structs.Assignment
		for i := range 300 {
			as = append(as, want(strings.Repeat("x", i+1), 1, structs.DesiredRunning))
		}
		h.full(true, as...)
		for _, a := range as {
			h.completed(a, structs.ContainerRunning)
		}
		h.full(true)
		if n := len(h.fake.Seen.Containers()); n != 0 {
			h.Fatalf("%d containers are left", n)
		}
	})
}
