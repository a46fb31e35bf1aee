package agent

import (
	"context"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/lease"
	"github.com/stackforge/magnum/structs"
)

// exclusive returns an assignment of an exclusive container.
func exclusive(id string, gen uint64, kind structs.Exclusive, policy string) structs.Assignment {
	a := want(id, gen, structs.DesiredRunning)
	spec := *a.Spec
	spec.Exclusive, spec.RestartPolicy = kind, structs.RestartPolicy{Name: policy}
	a.Spec = &spec
	return a
}

// lease gives the host a lease that begins now, as an acknowledged poll does.
func (h *host) lease(length time.Duration) {
	h.rec.exclusive.lease.Renew(time.Now().Add(length), time.Second)
	synctest.Wait()
}

// answer gives the reconciler a confirmed full answer to a poll that was sent in a state.
func (h *host) answer(sent pollState, as ...structs.Assignment) {
	h.rec.apply(&structs.Work{Full: true, Confirmed: true, Assignments: as}, false, sent)
	synctest.Wait()
}

func (h *host) runs(a structs.Assignment) bool {
	c, ok := h.fake.Seen.Containers()[ref(a)]
	return ok && c.State == backend.StateRunning
}

func TestExclusiveStartsOnlyOnAConfirmedAnswer(t *testing.T) {
	for _, kind := range []structs.Exclusive{structs.ExclusiveYes, structs.ExclusiveLease} {
		inHost(t, func(h *host) {
			h.lease(time.Hour)
			a := exclusive("c", 1, kind, structs.RestartAlways)
			h.assign(a)
			h.full(false, a)
			if h.runs(a) || !h.rec.exclusive.pollState().needsConfirmation {
				t.Fatalf("%s: started without proof", kind)
			}
			h.expect(a, structs.ContainerCreating, false)
			h.full(true, a)
			if !h.runs(a) || h.rec.exclusive.pollState().needsConfirmation {
				t.Fatalf("%s: not started", kind)
			}
			h.completed(a, structs.ContainerRunning)
			b := exclusive("d", 1, kind, structs.RestartNo) // what comes later needs no more
			h.assign(b)
			if !h.runs(b) {
				t.Errorf("%s: the second one is not started", kind)
			}
		})
	}
}

func TestExclusiveWaitsForConfirmationAfterARestartOfTheAgent(t *testing.T) {
	inHost(t, func(h *host) {
		a, b := exclusive("a", 1, structs.ExclusiveYes, structs.RestartAlways), exclusive("b", 1, structs.ExclusiveYes,
			structs.RestartAlways)
		h.full(true, a, b)
		h.stop()
		h.fake.Outside.Exit(ref(a), 1)
		h.start()
		h.assign(a, b)
		h.after(5 * time.Minute)
		h.counts(a, 1, 0) // not started again by the engine, nor by the agent
		h.counts(b, 1, 0) // a running container goes on
		h.full(true, a, b)
		h.after(time.Minute)
		h.counts(a, 2, 0)
		h.counts(b, 1, 0)
	})
}

func TestExclusiveWaitsForConfirmationAfterARestartOfTheEngine(t *testing.T) {
	inHost(t, func(h *host) {
		nudges := 0
		h.rec.exclusive.nudge = func() { nudges++ }
		a := exclusive("a", 1, structs.ExclusiveYes, structs.RestartAlways)
		h.full(true, a)
		before := h.rec.exclusive.pollState()
		h.fake.Outside.Down()
		synctest.Wait()
		h.fake.Outside.Up()
		h.after(time.Minute)
		h.counts(a, 1, 0)
		if nudges == 0 || !h.rec.exclusive.pollState().needsConfirmation {
			t.Error("no proof is asked for")
		}
		h.answer(before, a) // the poll was sent before the engine went away
		h.after(time.Minute)
		h.counts(a, 1, 0)
		h.full(true, a)
		h.after(time.Minute)
		h.counts(a, 2, 0)
	})
}

func TestAgentCarriesOutRestartPolicyOfExclusive(t *testing.T) {
	inHost(t, func(h *host) {
		a := exclusive("a", 1, structs.ExclusiveYes, structs.RestartOnFailure)
		a.Spec.RestartPolicy.MaxRetries = 2
		h.full(true, a)
		for range 4 {
			if h.runs(a) {
				h.fake.Outside.Exit(ref(a), 1)
			}
			h.after(2 * time.Minute)
		}
		h.counts(a, 3, 0)
		a.Generation++ // a user's start resets the retries
		a.StartGeneration = a.Generation
		h.assign(a)
		h.fake.Outside.Exit(ref(a), 1)
		h.after(2 * time.Minute)
		h.counts(a, 5, 0)
		h.fake.Outside.Exit(ref(a), 0) // no failure, so no restart
		h.after(2 * time.Minute)
		h.counts(a, 5, 0)
	})
}

func TestLeaseContainerStopsWithTheLease(t *testing.T) {
	for _, policy := range []string{structs.RestartAlways, structs.RestartNo} {
		inHost(t, func(h *host) {
			a := exclusive("a", 1, structs.ExclusiveLease, policy)
			h.full(true, a)
			h.after(time.Minute)
			if h.runs(a) || !h.rec.exclusive.pollState().needsLease {
				t.Fatal("started without a lease")
			}
			h.lease(7 * time.Second)
			if h.runs(a) || !h.rec.exclusive.pollState().needsConfirmation {
				t.Fatal("started on an answer to a poll that was sent without a lease")
			}
			in := h.rec.exclusive.pollState()
			h.full(true, a)
			h.counts(a, 1, 0)
			h.after(6900 * time.Millisecond)
			if !h.runs(a) {
				t.Fatal("stopped before its lease has ended")
			}
			h.after(1200 * time.Millisecond) // the end of its grace
			if h.runs(a) {
				t.Fatal("it runs on without a lease")
			}
			h.expect(a, structs.ContainerStopped, false)
			h.after(time.Hour)
			h.answer(in, a) // the poll was in progress all the time
			h.lease(7 * time.Second)
			h.answer(in, a)
			h.counts(a, 1, h.fake.Seen.Stops(ref(a)))
			h.full(true, a)
			if !h.runs(a) {
				t.Fatal("it does not go on under the new lease")
			}
			h.completed(a, structs.ContainerRunning)
			h.after(8100 * time.Millisecond)
			h.lease(7 * time.Second)
			h.full(true) // the container was placed elsewhere meanwhile
			if h.exists(a) {
				t.Error("it is another host's and still here")
			}
		})
	}
}

func TestRenewedLeaseStopsNothing(t *testing.T) {
	inHost(t, func(h *host) {
		a := exclusive("a", 1, structs.ExclusiveLease, structs.RestartAlways)
		h.assign(a)
		h.lease(7 * time.Second)
		h.full(true, a)
		for range 100 {
			h.after(3 * time.Second)
			h.lease(7 * time.Second)
		}
		h.counts(a, 1, 0)
		h.rec.exclusive.lease.Renew(time.Now().Add(-time.Second), time.Second) // an old acknowledgement that comes late
		h.rec.exclusive.lease.Renew(time.Now().Add(time.Second), time.Second)
		h.after(5 * time.Second)
		h.counts(a, 1, 0)
	})
}

// TestUserStopsContainerWhoseLeaseHasEnded: a process that ignores the request to end
// is killed after the grace. A container that a user stops meanwhile stays stopped.
func TestUserStopsContainerWhoseLeaseHasEnded(t *testing.T) {
	inHost(t, func(h *host) {
		a := exclusive("a", 1, structs.ExclusiveLease, structs.RestartAlways)
		h.assign(a)
		h.lease(7 * time.Second)
		h.full(true, a)
		h.after(10 * time.Second)
		if h.runs(a) {
			t.Fatal("it runs on")
		}
		a.Generation, a.Desired = 2, structs.DesiredStopped
		h.lease(7 * time.Second)
		h.full(true, a)
		h.completed(a, structs.ContainerStopped)
		a.Generation, a.Desired = 3, structs.DesiredRunning
		h.assign(a)
		h.completed(a, structs.ContainerRunning)
		h.counts(a, 2, h.fake.Seen.Stops(ref(a)))
	})
}

func TestLeaseOutlivesTheAgent(t *testing.T) {
	for name, left := range map[string]time.Duration{"valid": time.Hour, "over": -time.Second} {
		inHost(t, func(h *host) {
			file := lease.NewFile(filepath.Join(t.TempDir(), "lease"))
			if err := h.rec.exclusive.lease.Restore(file); err != nil {
				t.Fatal(err)
			}
			a := exclusive("a", 1, structs.ExclusiveLease, structs.RestartAlways)
			h.assign(a)
			h.lease(time.Hour)
			h.full(true, a)
			h.counts(a, 1, 0)
			h.restart()
			if err := file.Write(left, time.Second); err != nil {
				t.Fatal(err)
			}
			if err := h.rec.exclusive.lease.Restore(file); err != nil {
				t.Fatal(err)
			}
			h.assign(a)
			h.after(2 * time.Second)
			if h.runs(a) != (left > 0) {
				t.Errorf("%s: it runs: %v", name, h.runs(a))
			}
			if left > 0 {
				h.counts(a, 1, 0)
			}
		})
	}
}

// TestLeaseEndsBeforeTheFirstAnswer: an agent that reaches no server after a restart
// stops its containers at the end of their lease.
func TestLeaseEndsBeforeTheFirstAnswer(t *testing.T) {
	inHost(t, func(h *host) {
		a, b := exclusive("a", 1, structs.ExclusiveLease, structs.RestartAlways), exclusive("b", 1, structs.ExclusiveYes,
			structs.RestartAlways)
		h.assign(a, b)
		h.lease(time.Hour)
		h.full(true, a, b)
		h.restart()
		file := lease.NewFile(filepath.Join(t.TempDir(), "lease"))
		if err := file.Write(time.Minute, time.Second); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		guard := newGuard(h.fake, h.owner, h.rec.journal, file, hclog.NewNullLogger())
		ended := make(chan struct{})
		go func() { guard.Run(ctx); close(ended) }()
		h.after(59 * time.Second)
		if !h.runs(a) {
			t.Fatal("stopped before its lease has ended")
		}
		h.after(3 * time.Second)
		<-ended
		if h.runs(a) || !h.runs(b) {
			t.Errorf("with the lease runs %v, the other one %v", h.runs(a), h.runs(b))
		}
		h.assign(a, b)
		h.lease(time.Hour)
		h.full(true, a, b)
		if !h.runs(a) {
			t.Error("it does not go on under the new lease")
		}
	})
}

// TestAnswerThatTakesAContainerAwayStartsNothing: a pass begins before an answer that
// gives the container to another host. The answer also confirms the lease, but the pass
// must not start the container.
func TestAnswerThatTakesAContainerAwayStartsNothing(t *testing.T) {
	for name, away := range map[string]func(h *host, a structs.Assignment){
		"to go": func(h *host, a structs.Assignment) {
			a.Desired, a.Generation = structs.DesiredAbsent, 2
			h.full(true, a)
		},
		"of the same generation": func(h *host, a structs.Assignment) {
			a.Desired = structs.DesiredAbsent
			h.full(true, a)
		},
		"not named": func(h *host, _ structs.Assignment) { h.full(true) },
	} {
		inHost(t, func(h *host) {
			a := exclusive("a", 1, structs.ExclusiveLease, structs.RestartAlways)
			h.lease(7 * time.Second)
			h.assign(a)
			h.full(true, a)
			h.after(10 * time.Second)
			if h.runs(a) {
				t.Fatalf("%s: it runs without a lease", name)
			}
			h.lease(time.Minute)
			inspecting, goOn := make(chan struct{}), make(chan struct{})
			var once sync.Once
			h.fake.Fault = func(op string, r structs.Ref) error {
				if op == "inspect done" && r == ref(a) {
					once.Do(func() { close(inspecting); <-goOn })
				}
				return h.seam(op, r)
			}
			h.assign(a) // a pass that looks and then waits
			h.rec.kickExclusive()
			<-inspecting
			away(h, a)
			close(goOn)
			synctest.Wait()
			h.after(time.Minute)
			if n := h.fake.Seen.Starts(ref(a)); n != 1 {
				t.Errorf("%s: it was started %d times", name, n)
			}
		})
	}
}

// TestLongStopEndsWithTheLease: a stop with a long timeout ends when the lease and its
// grace end.
func TestLongStopEndsWithTheLease(t *testing.T) {
	for name, next := range map[string]func(a *structs.Assignment){
		"stop":   func(a *structs.Assignment) { a.Desired = structs.DesiredStopped },
		"delete": func(a *structs.Assignment) { a.Desired = structs.DesiredAbsent },
		"reboot": func(a *structs.Assignment) { a.RebootGeneration = 2 },
	} {
		inHost(t, func(h *host) {
			a := exclusive("a", 1, structs.ExclusiveLease, structs.RestartAlways)
			a.StopTimeout = 600
			h.lease(7 * time.Second)
			h.assign(a)
			h.full(true, a)
			h.fake.Outside.IgnoreStop(ref(a))
			a.Generation = 2
			next(&a)
			h.assign(a)
			h.after(6 * time.Second)
			if !h.runs(a) {
				t.Fatalf("%s: it has ended under its lease, before its timeout", name)
			}
			h.after(2100 * time.Millisecond)
			if h.runs(a) {
				t.Errorf("%s: it runs on without a lease", name)
			}
		})
	}
	inHost(t, func(h *host) { // a lease that is renewed doesn't shorten the stop
		a := exclusive("a", 1, structs.ExclusiveLease, structs.RestartAlways)
		a.StopTimeout = 60
		h.lease(time.Hour)
		h.assign(a)
		h.full(true, a)
		h.fake.Outside.IgnoreStop(ref(a))
		a.Generation, a.Desired = 2, structs.DesiredStopped
		h.assign(a)
		h.after(59 * time.Second)
		h.lease(2 * time.Hour)
		h.full(true, a)
		if !h.runs(a) {
			t.Fatal("it has ended before its timeout")
		}
		h.after(2 * time.Second)
		h.counts(a, 1, 1)
	})
}
