package agent

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stackforge/magnum/structs"
)

// step is one action, with the starts and stops that it takes if it happens exactly once.
type step struct {
	name          string
	do            func(structs.Assignment) structs.Assignment
	status        structs.ContainerStatus
	starts, stops int
}

func to(d structs.Desired) func(structs.Assignment) structs.Assignment {
	return func(a structs.Assignment) structs.Assignment { return next(a, d) }
}

// steps returns the actions that are possible in a state.
func steps(now structs.ContainerStatus) []step {
	start := step{"start", to(structs.DesiredRunning), structs.ContainerRunning, 1, 0}
	remove := step{"delete", to(structs.DesiredAbsent), structs.ContainerGone, 0, 0}
	if now == structs.ContainerRunning || now == structs.ContainerPaused {
		remove.stops = 1
	}
	stop := step{"stop", to(structs.DesiredStopped), structs.ContainerStopped, 0, 1}
	restart := step{"reboot", reboot, structs.ContainerRunning, 1, 1}
	switch now {
	case structs.ContainerRunning:
		return []step{stop, restart, remove, {"pause", to(structs.DesiredPaused), structs.ContainerPaused, 0, 0}}
	case structs.ContainerPaused:
		return []step{stop, restart, remove, {"unpause", to(structs.DesiredRunning), structs.ContainerRunning, 0, 0}}
	}
	return []step{start, remove, {"reboot", reboot, structs.ContainerRunning, 1, 0}}
}

// completeAfterCrashes restarts a dead agent, which may die again, until the action is
// reported as done.
func (h *host) completeAfterCrashes(a structs.Assignment, crash func() int) {
	h.Helper()
	for range 50 {
		h.mu.Lock()
		dead, reported := h.dead, h.reported[a.Ref().ID]
		h.mu.Unlock()
		if !dead && reported.Generation == a.Generation && reported.Epoch == a.Epoch {
			return
		}
		if dead {
			h.stop()
			h.start()
			h.mu.Lock()
			h.crashAt, h.seams = crash(), 0
			h.mu.Unlock()
			h.full(true, a)
		} else {
			h.after(time.Second)
		}
	}
	h.Fatalf("generation %d is never done; reported %+v", a.Generation, h.last(a.Ref().ID))
}

// TestKilledAtEveryInstant kills the agent at each seam of each action, and at each
// pair of seams in a row. The action happens exactly once.
func TestKilledAtEveryInstant(t *testing.T) {
	killedAtEveryInstant(t, structs.WorkloadContainer, 10, 5)
}

// TestKilledAtEveryInstantOfTwoParts does the same with a workload of two parts.
func TestKilledAtEveryInstantOfTwoParts(t *testing.T) { killedAtEveryInstant(t, kindPair, 18, 3) }

// killedAtEveryInstant kills the agent at each of the first seams, and after that at
// none or at one of the next seams.
func killedAtEveryInstant(t *testing.T, kind structs.WorkloadKind, first, second int) {
	for _, before := range []structs.ContainerStatus{"", structs.ContainerRunning, structs.ContainerPaused, structs.ContainerStopped} {
		for _, s := range steps(before) {
			for first := range first {
				for second := range second + 1 {
					inHost(t, func(h *host) {
						a, starts, stops := prepared(h, kind, before)
						h.mu.Lock()
						h.crashAt, h.seams = first+1, 0
						h.mu.Unlock()
						a = s.do(a)
						h.assign(a)
						crashes := []int{second}
						h.completeAfterCrashes(a, func() int {
							if len(crashes) == 0 {
								return 0
							}
							c := crashes[0]
							crashes = nil
							return c
						})
						if t.Failed() {
							return
						}
						h.check(a, s, starts, stops, before != "",
							fmt.Sprintf("%s of %q, killed at %d and %d", s.name, before, first+1, second))
					})
				}
			}
		}
	}
}

// check fails unless the step was carried out once, for each container of the workload.
func (h *host) check(a structs.Assignment, s step, starts, stops int, existed bool, what string) {
	h.Helper()
	if got := h.last("a").Status; got != s.status {
		h.Fatalf("%s: it is %s, want %s", what, got, s.status)
	}
	creates := 1
	if s.status == structs.ContainerGone && !existed {
		creates = 0
	}
	for _, ref := range partRefs(a) {
		if g, e := h.fake.Seen.Starts(ref), h.fake.Seen.Stops(ref); g != starts+s.starts || e != stops+s.stops {
			h.Fatalf("%s: %d starts and %d stops of %s, want %d and %d", what, g, e, ref, starts+s.starts, stops+s.stops)
		}
		if n := h.fake.Seen.Creates(ref); n != creates {
			h.Fatalf("%s: %s created %d times", what, ref, n)
		}
	}
	if s.status != structs.ContainerGone {
		return
	}
	synctest.Wait()
	if left, refs := h.fake.Seen.Containers(), h.rec.journal.refs(); len(left) != 0 || len(refs) != 0 || len(h.rec.units.all) != 0 ||
		len(h.rec.units.parts) != 0 {
		h.Fatalf("%s: left are containers %v, records %v, %d units", what, left, refs, len(h.rec.units.all))
	}
}

// prepared brings workload a of a kind into a state, without crashes.
func prepared(h *host, kind structs.WorkloadKind, s structs.ContainerStatus) (a structs.Assignment, starts, stops int) {
	a = wantKind(kind, "a", 0, structs.DesiredCreated)
	var path []structs.Desired
	switch s {
	case "":
		return a, 0, 0
	case structs.ContainerRunning:
		path, starts = []structs.Desired{structs.DesiredRunning}, 1
	case structs.ContainerPaused:
		path, starts = []structs.Desired{structs.DesiredPaused}, 1
	case structs.ContainerStopped:
		path, starts, stops = []structs.Desired{structs.DesiredRunning, structs.DesiredStopped}, 1, 1
	}
	for _, d := range path {
		a = next(a, d)
		h.assign(a)
		h.completed(a, statusOf(d))
	}
	return a, starts, stops
}

// statusOf returns the status of a reached desired state.
func statusOf(d structs.Desired) structs.ContainerStatus {
	return map[structs.Desired]structs.ContainerStatus{structs.DesiredRunning: structs.ContainerRunning,
		structs.DesiredPaused: structs.ContainerPaused, structs.DesiredStopped: structs.ContainerStopped}[d]
}

// TestKilledWhileTwoPartsAreReplaced kills the agent at each seam while a workload of
// two parts is placed again on its host. Neither part runs beside its successor, and
// each is created and started once.
func TestKilledWhileTwoPartsAreReplaced(t *testing.T) {
	for first := range 24 {
		for second := range 4 {
			inHost(t, func(h *host) {
				old, _, _ := prepared(h, kindPair, structs.ContainerRunning)
				h.mu.Lock()
				h.crashAt, h.seams = first+1, 0
				h.mu.Unlock()
				a := next(old, structs.DesiredRunning)
				a.Epoch, a.Observed = 2, 0
				h.assign(a)
				h.completeAfterCrashes(a, func() int { c := second; second = 0; return c })
				h.completed(a, structs.ContainerRunning)
				for i, ref := range partRefs(a) {
					gone := partRefs(old)[i]
					if h.fake.Seen.Creates(ref) != 1 || h.fake.Seen.Starts(ref) != 1 || h.fake.Seen.Stops(ref) != 0 ||
						h.fake.Seen.Starts(gone) != 1 || h.fake.Seen.Stops(gone) != 1 {
						h.Fatalf("killed at %d: %s was made %d times, started %d and stopped %d; %s started %d and stopped %d", first+1,
							ref, h.fake.Seen.Creates(ref), h.fake.Seen.Starts(ref), h.fake.Seen.Stops(ref), gone,
							h.fake.Seen.Starts(gone), h.fake.Seen.Stops(gone))
					}
				}
				if n := len(h.fake.Seen.Containers()); n != 2 {
					h.Fatalf("killed at %d: %d containers are left", first+1, n)
				}
			})
			if t.Failed() {
				return
			}
		}
	}
}

// TestKilledAtRandom carries out random actions with an agent that dies often, and
// checks after each action that it has happened exactly once.
func TestKilledAtRandom(t *testing.T) { killedAtRandom(t, structs.WorkloadContainer, 150) }

// TestKilledAtRandomOfTwoParts does the same with a workload of two parts.
func TestKilledAtRandomOfTwoParts(t *testing.T) { killedAtRandom(t, kindPair, 100) }

func killedAtRandom(t *testing.T, kind structs.WorkloadKind, seeds uint64) {
	crashes := 8
	if kind == kindPair {
		crashes = 14
	}
	for seed := range seeds {
		rng := rand.New(rand.NewPCG(seed, 1))
		inHost(t, func(h *host) {
			a := wantKind(kind, "a", 0, structs.DesiredCreated)
			var now structs.ContainerStatus
			starts, stops := 0, 0
			for i := range 12 {
				// delete only as the last action
				all := slices.DeleteFunc(steps(now), func(s step) bool { return s.status == structs.ContainerGone && i < 11 })
				s := all[rng.IntN(len(all))]
				h.mu.Lock()
				h.crashAt, h.seams = rng.IntN(crashes), 0
				h.mu.Unlock()
				a = s.do(a)
				h.assign(a)
				h.completeAfterCrashes(a, func() int { return rng.IntN(crashes) })
				h.mu.Lock()
				h.crashAt = 0
				h.mu.Unlock()
				if h.Failed() {
					return
				}
				h.check(a, s, starts, stops, now != "", fmt.Sprintf("seed %d step %d, %s", seed, i, s.name))
				now, starts, stops = s.status, starts+s.starts, stops+s.stops
			}
		})
		if t.Failed() {
			return
		}
	}
}
