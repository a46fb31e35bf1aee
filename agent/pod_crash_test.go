package agent

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stackforge/magnum/structs"
)

// podStep is something that happens to a pod of an init container and two containers, with
// what that takes if it is done exactly once.
type podStep struct {
	name  string
	fresh bool // the pod is not there before
	do    func(*host, structs.Assignment) structs.Assignment
	want  structs.ContainerStatus
	live  map[string]uint64 // the attempts that run in the end
	// The containers of each part that were created, started and stopped, all together.
	tally map[string][3]int
}

var podSteps = []podStep{
	{"create", true, func(_ *host, a structs.Assignment) structs.Assignment { return a }, structs.ContainerRunning,
		map[string]uint64{structs.PodInfra: 1, "web": 1, "side": 1},
		map[string][3]int{structs.PodInfra: {1, 1, 0}, "prepare": {1, 1, 0}, "web": {1, 1, 0}, "side": {1, 1, 0}}},
	{"delete", false, func(_ *host, a structs.Assignment) structs.Assignment { return next(a, structs.DesiredAbsent) },
		structs.ContainerGone, nil,
		map[string][3]int{structs.PodInfra: {1, 1, 1}, "prepare": {1, 1, 0}, "web": {1, 1, 1}, "side": {1, 1, 1}}},
	{"stop", false, func(_ *host, a structs.Assignment) structs.Assignment { return next(a, structs.DesiredStopped) },
		structs.ContainerStopped, nil,
		map[string][3]int{structs.PodInfra: {1, 1, 1}, "prepare": {1, 1, 0}, "web": {1, 1, 1}, "side": {1, 1, 1}}},
	{"another image", false, func(_ *host, a structs.Assignment) structs.Assignment {
		return change(a, func(s *structs.PodSpec) { s.Containers[0].Image = "web:2" })
	}, structs.ContainerRunning, map[string]uint64{structs.PodInfra: 1, "web": 2, "side": 1},
		map[string][3]int{structs.PodInfra: {1, 1, 0}, "prepare": {1, 1, 0}, "web": {2, 2, 1}, "side": {1, 1, 0}}},
	{"a container ends", false, func(h *host, a structs.Assignment) structs.Assignment {
		h.fake.Outside.Exit(of(a, "web"), 1)
		return a
	}, structs.ContainerRunning, map[string]uint64{structs.PodInfra: 1, "web": 2, "side": 1},
		map[string][3]int{structs.PodInfra: {1, 1, 0}, "prepare": {1, 1, 0}, "web": {2, 2, 0}, "side": {1, 1, 0}}},
	{"a container is removed", false, func(h *host, a structs.Assignment) structs.Assignment {
		h.fake.Outside.Remove(of(a, "web"))
		return a
	}, structs.ContainerRunning, map[string]uint64{structs.PodInfra: 1, "web": 2, "side": 1},
		map[string][3]int{structs.PodInfra: {1, 1, 0}, "prepare": {1, 1, 0}, "web": {2, 2, 0}, "side": {1, 1, 0}}},
	{"the infra container is removed", false, func(h *host, a structs.Assignment) structs.Assignment {
		h.fake.Outside.Remove(of(a, structs.PodInfra))
		return a
	}, structs.ContainerRunning, map[string]uint64{structs.PodInfra: 2, "web": 2, "side": 2},
		map[string][3]int{structs.PodInfra: {2, 2, 0}, "prepare": {2, 2, 0}, "web": {2, 2, 1}, "side": {2, 2, 1}}},
}

// TestPodKilledAtEveryInstant kills the agent at each seam of what can happen to a pod, and
// in half of the runs once more soon after. Each attempt is created and started once, no
// container is left out, and none that has nothing to do with it is touched.
func TestPodKilledAtEveryInstant(t *testing.T) {
	for _, s := range podSteps {
		t.Run(s.name, func(t *testing.T) {
			seams := 0
			inHost(t, func(h *host) { seams = h.runStep(s, 0, 0) })
			if seams < 5 {
				t.Fatalf("only %d seams", seams)
			}
			for first := 1; first <= seams && !t.Failed(); first++ {
				inHost(t, func(h *host) { h.runStep(s, first, 0) })
				if first%2 == 0 {
					inHost(t, func(h *host) { h.runStep(s, first, 1+first/2%9) })
				}
			}
		})
	}
}

// TestPodKilledAtRandom: an agent that dies often, and somebody who meddles with the
// containers. After each change all runs as desired. At no instant does a part have two
// live containers, or more than the present one and the one before.
func TestPodKilledAtRandom(t *testing.T) {
	names := []string{structs.PodInfra, "web", "side"}
	for seed := range uint64(30) {
		rng := rand.New(rand.NewPCG(seed, 2))
		inHost(t, func(h *host) {
			a := wantPod("a")
			h.fake.Fault = func(op string, ref structs.Ref) error {
				live, all := 0, 0
				if ref.Part != "" {
					attempts := h.fake.Seen.Attempts(ref)
					for _, c := range attempts {
						if c.Live() {
							live++
						}
					}
					all = len(attempts)
				}
				if live > 1 || all > 2 {
					h.Errorf("seed %d: at %s %s has %d containers, %d of them live", seed, op, ref, all, live)
				}
				return h.seam(op, ref)
			}
			for i := range 10 {
				name := names[rng.IntN(len(names))]
				_, there := h.fake.Seen.Containers()[of(a, name)]
				switch what := rng.IntN(5); {
				case i == 0 || !there:
				case what == 0:
					h.fake.Outside.Remove(of(a, name))
				case what == 1:
					h.fake.Outside.Exit(of(a, name), rng.IntN(2))
				case what == 2:
					image := fmt.Sprintf("web:%d", i)
					h.fake.Outside.AddImage(image)
					a = change(a, func(s *structs.PodSpec) { s.Containers[0].Image = image })
				default:
					h.fake.Outside.Kill(of(a, name))
				}
				h.mu.Lock()
				h.crashAt, h.seams = rng.IntN(30), 0
				h.mu.Unlock()
				h.assign(a)
				for range 50 {
					h.mu.Lock()
					dead := h.dead
					h.mu.Unlock()
					if dead {
						h.stop()
						h.start()
						h.mu.Lock()
						h.crashAt, h.seams = rng.IntN(60), 0
						h.mu.Unlock()
						h.full(true, a)
					} else if h.allRun(a) {
						break
					}
					h.after(30 * time.Second)
				}
				h.mu.Lock()
				h.crashAt = 0
				h.mu.Unlock()
				if !h.allRun(a) {
					h.Fatalf("seed %d, change %d: reported is %+v; containers %v", seed, i, h.last("a"), h.fake.Seen.Containers())
				}
			}
			a = next(a, structs.DesiredAbsent)
			h.assign(a)
			h.gonePod(a)
		})
		if t.Failed() {
			return
		}
	}
}

// allRun reports whether the pod is reported as it is desired, and runs.
func (h *host) allRun(a structs.Assignment) bool {
	r, all := h.last("a"), h.fake.Seen.Containers()
	for _, name := range []string{structs.PodInfra, "web", "side"} {
		if c := all[of(a, name)]; !c.Live() || c.Infra != "" && c.Infra != all[of(a, structs.PodInfra)].EngineID {
			return false
		}
	}
	return r.Status == structs.ContainerRunning && r.Generation == a.Generation && r.Reason == "" &&
		h.fake.Seen.ImageOf(of(a, "web")) == a.Pod.Spec.Containers[0].Image
}

// TestStartIsNotForgotten: the agent dies right after a start, and the container is removed
// before it is back. Under the restart policy Never nothing runs twice.
func TestStartIsNotForgotten(t *testing.T) {
	for _, seam := range []string{"start", "start done"} {
		inHost(t, func(h *host) {
			a := wantPod("a", noInit, policy(structs.PodRestartNever))
			h.fake.Fault = func(op string, ref structs.Ref) error {
				if op == seam && ref.Part == "web" {
					h.mu.Lock()
					h.crashAt = 1
					h.mu.Unlock()
				}
				return h.seam(op, ref)
			}
			h.assign(a)
			h.stop()
			h.fake.Outside.Remove(of(a, "web"))
			h.fake.Fault = h.seam
			h.start()
			h.full(true, a)
			p := h.is(a, "web", structs.PartTerminated, structs.ReasonGone)
			if *p.State.ExitCode != 137 || !strings.Contains(p.State.Message, "removed from the host, not by magnum") {
				t.Errorf("%s: web is %+v", seam, p.State)
			}
			if starts := h.fake.Seen.Starts(of(a, "web")); starts != len(strings.Fields(seam))-1 {
				t.Errorf("%s: it was started %d times", seam, starts)
			}
			h.attempt(a, "side", 1)
		})
	}
}

// runStep carries out the step with an agent that dies at the first seam, and after its
// restart at the second; 0 for never. It returns how many seams there were.
func (h *host) runStep(s podStep, first, second int) (seams int) {
	h.Helper()
	h.fake.Outside.AddImage("web:2")
	a := wantPod("a", func(s *structs.PodSpec) { s.Volumes = []structs.PodVolume{{Name: "v"}} })
	if !s.fresh {
		h.upPod(a)
	}
	h.mu.Lock()
	h.crashAt, h.seams = first, 0
	h.mu.Unlock()
	a = s.do(h, a)
	h.assign(a)
	for range 50 {
		h.mu.Lock()
		dead := h.dead
		seams = max(seams, h.seams)
		h.mu.Unlock()
		if !dead && h.reached(s, a) {
			break
		}
		if !dead {
			h.after(time.Second)
			continue
		}
		h.stop()
		h.start()
		h.mu.Lock()
		h.crashAt, h.seams, second = second, 0, 0
		h.mu.Unlock()
		h.full(true, a)
	}
	h.after(time.Second)
	if !h.reached(s, a) {
		h.Fatalf("killed at %d and %d: reported is %+v; containers %v", first, second, h.last("a"), h.fake.Seen.Containers())
	}
	for name, n := range s.tally {
		h.tally(a, name, n[0], n[1], n[2])
	}
	if s.want == structs.ContainerGone {
		h.gonePod(a)
	}
	return seams
}

// reached reports whether the step is reported as done, and its containers run.
func (h *host) reached(s podStep, a structs.Assignment) bool {
	r := h.last("a")
	if r.Status != s.want || r.Generation != a.Generation || r.Failed {
		return false
	}
	all := h.fake.Seen.Containers()
	live := 0
	for _, c := range all {
		if c.Live() {
			live++
		}
	}
	for name, attempt := range s.live {
		if c := all[of(a, name)]; !c.Live() || c.Attempt != attempt {
			return false
		}
	}
	return live == len(s.live)
}
