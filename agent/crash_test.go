package agent

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stackforge/magnum/structs"
)

// step is one action with what it costs if it happens exactly once.
type step struct {
	name          string
	do            func(structs.Assignment) structs.Assignment
	status        structs.ContainerStatus
	starts, stops int
}

func to(d structs.Desired) func(structs.Assignment) structs.Assignment {
	return func(a structs.Assignment) structs.Assignment { return next(a, d) }
}

// steps are the actions that are possible in a state, and what they cost.
func steps(now structs.ContainerStatus) []step {
	start := step{"start", to(structs.DesiredRunning), structs.ContainerRunning, 1, 0}
	stop := step{"stop", to(structs.DesiredStopped), structs.ContainerStopped, 0, 1}
	restart := step{"reboot", reboot, structs.ContainerRunning, 1, 1}
	switch now {
	case structs.ContainerRunning:
		return []step{stop, restart, {"pause", to(structs.DesiredPaused), structs.ContainerPaused, 0, 0}}
	case structs.ContainerPaused:
		return []step{stop, restart, {"unpause", to(structs.DesiredRunning), structs.ContainerRunning, 0, 0}}
	}
	return []step{start, {"reboot", reboot, structs.ContainerRunning, 1, 0}}
}

// settle restarts a dead agent, maybe to die again, until the action is told
// to be done.
func (h *host) settle(a structs.Assignment, crash func() int) {
	h.Helper()
	for range 50 {
		h.mu.Lock()
		dead, told := h.dead, h.told[a.ContainerID]
		h.mu.Unlock()
		if !dead && told.Generation == a.Generation && told.Epoch == a.Epoch {
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
	h.Fatalf("generation %d is never done; told %+v", a.Generation, h.last(a.ContainerID))
}

// TestKilledAtEveryInstant kills the agent at each seam of each action, and at
// each pair of seams in a row: whatever it was about, it happens exactly once.
func TestKilledAtEveryInstant(t *testing.T) {
	for _, before := range []structs.ContainerStatus{"", structs.ContainerRunning, structs.ContainerPaused, structs.ContainerStopped} {
		for _, s := range steps(before) {
			for first := 1; first <= 10; first++ {
				for _, second := range []int{0, 1, 2, 3, 4, 5} {
					inHost(t, func(h *host) {
						a, starts, stops := prepared(h, before)
						h.mu.Lock()
						h.crashAt, h.seams = first, 0
						h.mu.Unlock()
						a = s.do(a)
						h.assign(a)
						crashes := []int{second}
						h.settle(a, func() int {
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
						what := fmt.Sprintf("%s of %q, killed at %d and %d", s.name, before, first, second)
						if got := h.last("a").Status; got != s.status {
							h.Fatalf("%s: it is %s, want %s", what, got, s.status)
						}
						if g, e := h.fake.Starts(ref(a)), h.fake.Stops(ref(a)); g != starts+s.starts || e != stops+s.stops {
							h.Fatalf("%s: %d starts and %d stops, want %d and %d", what, g, e, starts+s.starts, stops+s.stops)
						}
						if n := h.fake.Creates(ref(a)); n != 1 {
							h.Fatalf("%s: created %d times", what, n)
						}
					})
				}
			}
		}
	}
}

// prepared brings container a into a state, with no crash.
func prepared(h *host, s structs.ContainerStatus) (a structs.Assignment, starts, stops int) {
	a = want("a", 0, structs.DesiredCreated)
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
		h.settled(a, wordOf(d))
	}
	return a, starts, stops
}

// wordOf is the status of a desired state that is reached.
func wordOf(d structs.Desired) structs.ContainerStatus {
	return map[structs.Desired]structs.ContainerStatus{structs.DesiredRunning: structs.ContainerRunning,
		structs.DesiredPaused: structs.ContainerPaused, structs.DesiredStopped: structs.ContainerStopped}[d]
}

// TestKilledAtRandom goes through random lives with an agent that dies often,
// and checks after each action that it has happened exactly once.
func TestKilledAtRandom(t *testing.T) {
	for seed := range uint64(150) {
		rng := rand.New(rand.NewPCG(seed, 1))
		inHost(t, func(h *host) {
			a := want("a", 0, structs.DesiredCreated)
			var now structs.ContainerStatus
			starts, stops := 0, 0
			for i := range 12 {
				all := steps(now)
				s := all[rng.IntN(len(all))]
				h.mu.Lock()
				h.crashAt, h.seams = rng.IntN(8), 0
				h.mu.Unlock()
				a = s.do(a)
				h.assign(a)
				h.settle(a, func() int { return rng.IntN(8) })
				h.mu.Lock()
				h.crashAt = 0
				h.mu.Unlock()
				if h.Failed() {
					return
				}
				now, starts, stops = s.status, starts+s.starts, stops+s.stops
				if g, e := h.fake.Starts(ref(a)), h.fake.Stops(ref(a)); g != starts || e != stops || h.last("a").Status != now {
					h.Fatalf("seed %d step %d, %s: %d starts, %d stops, %s; want %d, %d, %s", seed, i, s.name, g, e, h.last("a").Status, starts, stops, now)
				}
			}
		})
		if t.Failed() {
			return
		}
	}
}
