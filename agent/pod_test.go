package agent

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/backend/backendtest"
	"github.com/stackforge/magnum/structs"
)

// sleeper returns a container of a pod whose process runs until it is ended.
func sleeper(name string) structs.PodContainer {
	return structs.PodContainer{Name: name, Image: backendtest.Image, PullPolicy: structs.PullIfNotPresent,
		Command: []string{"sleep", "1000"}}
}

// script returns a container of a pod that runs a script.
func script(name, text string) structs.PodContainer {
	c := sleeper(name)
	c.Command = []string{"sh", "-c", text}
	return c
}

// wantPod returns an assignment of a pod that is to run, with an init container prepare and
// two containers, web and side.
func wantPod(id string, edit ...func(*structs.PodSpec)) structs.Assignment {
	spec := &structs.PodSpec{
		InitContainers: []structs.PodContainer{script("prepare", "exit 0")},
		Containers:     []structs.PodContainer{sleeper("web"), sleeper("side")},
		RestartPolicy:  structs.PodRestartAlways, GracePeriod: 30, Hostname: id,
	}
	for _, e := range edit {
		e(spec)
	}
	return structs.Assignment{Kind: structs.WorkloadPod, ID: id, ProjectID: "p", Name: id, Epoch: 1, Generation: 1, StartGeneration: 1,
		Desired: structs.DesiredRunning, StopTimeout: spec.GracePeriod, Pod: &structs.PodAssignment{Spec: spec}}
}

// noInit removes the init containers.
func noInit(s *structs.PodSpec) { s.InitContainers = nil }

// policy sets the restart policy.
func policy(name string) func(*structs.PodSpec) {
	return func(s *structs.PodSpec) { s.RestartPolicy = name }
}

// change returns the assignment after a change of the manifest.
func change(a structs.Assignment, edit func(*structs.PodSpec)) structs.Assignment {
	spec := *a.Pod.Spec
	spec.Containers = slices.Clone(spec.Containers)
	edit(&spec)
	a.Generation++
	a.Pod = &structs.PodAssignment{Spec: &spec, Labels: a.Pod.Labels, Annotations: a.Pod.Annotations}
	return a
}

// of returns the reference of a part.
func of(a structs.Assignment, name string) structs.Ref {
	ref := a.Ref()
	ref.Part = name
	return ref
}

// part returns the last report of a part.
func (h *host) part(a structs.Assignment, name string) structs.PartReport {
	h.Helper()
	for _, p := range h.last(a.Ref().ID).Parts {
		if p.Part == name {
			return p
		}
	}
	h.Fatalf("no report of %s: %+v", name, h.last(a.Ref().ID))
	return structs.PartReport{}
}

// is fails unless a part has this state and reason.
func (h *host) is(a structs.Assignment, name, state, reason string) structs.PartReport {
	h.Helper()
	p := h.part(a, name)
	if p.State.State != state || p.State.Reason != reason {
		h.Fatalf("%s is %+v (before: %+v), want %s %s", name, p.State, p.Last, state, reason)
	}
	return p
}

// attempt fails unless a part's attempt runs, and returns the engine's container.
func (h *host) attempt(a structs.Assignment, name string, attempt uint64) backend.Container {
	h.Helper()
	c := h.fake.Seen.Containers()[of(a, name)]
	if p := h.is(a, name, structs.PartRunning, ""); c.State != backend.StateRunning || c.Attempt != attempt || p.EngineID != c.EngineID ||
		p.RestartCount != int(attempt)-1 {
		h.Fatalf("%s is attempt %d, %s, reported as %+v; want attempt %d", name, c.Attempt, c.State, p, attempt)
	}
	return c
}

// tally fails unless the containers of a part were created, started and stopped this often.
func (h *host) tally(a structs.Assignment, name string, creates, starts, stops int) {
	h.Helper()
	ref := of(a, name)
	if c, s, e := h.fake.Seen.Creates(ref), h.fake.Seen.Starts(ref), h.fake.Seen.Stops(ref); c != creates || s != starts || e != stops {
		h.Fatalf("%s was created %d times, started %d and stopped %d; want %d, %d and %d", name, c, s, e, creates, starts, stops)
	}
}

// upPod runs a pod and waits until it does.
func (h *host) upPod(a structs.Assignment) structs.Assignment {
	h.Helper()
	h.assign(a)
	h.completed(a, structs.ContainerRunning)
	return a
}

func TestPodRuns(t *testing.T) {
	inHost(t, func(h *host) {
		a := wantPod("a")
		h.upPod(a)
		infra := h.fake.Seen.Containers()[of(a, structs.PodInfra)]
		for _, name := range []string{"web", "side"} {
			c := h.attempt(a, name, 1)
			if c.Infra != infra.EngineID {
				t.Errorf("%s joins %s, want %s", name, c.Infra, infra.EngineID)
			}
			if p := h.part(a, name); !p.Ready || !p.Started || p.Last.State != "" || p.ImageID == "" {
				t.Errorf("%s is %+v", name, p)
			}
		}
		p := h.is(a, "prepare", structs.PartTerminated, structs.ReasonCompleted)
		if p.State.ExitCode == nil || *p.State.ExitCode != 0 {
			t.Errorf("prepare is %+v", p.State)
		}
		r := h.last("a")
		if !slices.Equal(r.Addresses, infra.Addresses) || len(r.Addresses) != 1 || r.Reason != "" || r.StartedAt.IsZero() {
			t.Errorf("the pod is %+v", r)
		}
		for _, name := range []string{structs.PodInfra, "prepare", "web", "side"} {
			h.tally(a, name, 1, 1, 0)
		}
	})
}

// TestPodStartsInOrder holds each container's image, so that the order shows.
func TestPodStartsInOrder(t *testing.T) {
	inHost(t, func(h *host) {
		a := wantPod("a", func(s *structs.PodSpec) {
			s.InitContainers = []structs.PodContainer{script("one", "sleep 9"), script("two", "sleep 9")}
		})
		h.assign(a)
		h.expect(a, structs.ContainerCreating, false)
		h.attempt(a, "one", 1)
		for _, name := range []string{"two", "web", "side"} {
			if p := h.is(a, name, structs.PartWaiting, structs.ReasonInitializing); p.State.Message != "it waits for the init containers" {
				t.Errorf("%s is %+v", name, p.State)
			}
		}
		h.fake.Outside.Exit(of(a, "one"), 0)
		synctest.Wait()
		h.attempt(a, "two", 1)
		h.is(a, "web", structs.PartWaiting, structs.ReasonInitializing)
		h.fake.Outside.Exit(of(a, "two"), 0)
		synctest.Wait()
		h.completed(a, structs.ContainerRunning)
		h.attempt(a, "web", 1)
		h.attempt(a, "side", 1)
	})
}

func TestInitContainerFails(t *testing.T) {
	for _, c := range []struct {
		policy string
		status structs.ContainerStatus
	}{
		{structs.PodRestartAlways, structs.ContainerRunning},
		{structs.PodRestartOnFailure, structs.ContainerRunning},
		{structs.PodRestartNever, structs.ContainerStopped},
	} {
		t.Run(c.policy, func(t *testing.T) {
			inHost(t, func(h *host) {
				a := wantPod("a", policy(c.policy))
				h.fake.Outside.Script(of(a, "prepare"), 3, 4, 0)
				h.assign(a)
				if c.policy == structs.PodRestartNever {
					h.completed(a, structs.ContainerStopped)
					p := h.is(a, "prepare", structs.PartTerminated, structs.ReasonError)
					if *p.State.ExitCode != 3 || !strings.Contains(p.State.Message, "exit code 3") {
						t.Errorf("prepare is %+v", p.State)
					}
					h.is(a, "web", structs.PartWaiting, structs.ReasonInitializing)
					h.tally(a, "web", 0, 0, 0)
					if c := h.fake.Seen.Containers()[of(a, structs.PodInfra)]; c.Live() {
						t.Error("the infra container still runs")
					}
					h.restart()
					h.full(true, a)
					h.after(time.Hour)
					h.tally(a, "prepare", 1, 1, 0)
					h.tally(a, structs.PodInfra, 1, 1, 1)
					return
				}
				h.expect(a, structs.ContainerCreating, false)
				p := h.is(a, "prepare", structs.PartWaiting, structs.ReasonCrashLoop)
				if *p.Last.ExitCode != 4 || p.RestartCount != 1 {
					t.Errorf("prepare is %+v", p)
				}
				h.is(a, "web", structs.PartWaiting, structs.ReasonInitializing)
				h.after(9 * time.Second)
				h.tally(a, "prepare", 2, 2, 0)
				h.after(2 * time.Second)
				h.completed(a, structs.ContainerRunning)
				h.tally(a, "prepare", 3, 3, 0)
				h.attempt(a, "web", 1)
			})
		})
	}
}

// TestPodBackOff: the pauses between the attempts, and their reset.
// TestProcessCantBeStarted: a container whose process can't be started has ended, as in
// Kubernetes, and its restart policy decides what follows.
func TestProcessCantBeStarted(t *testing.T) {
	faults := map[string]func(*structs.PodContainer){
		"no program":          func(c *structs.PodContainer) { c.Command = []string{backendtest.NoProgram} },
		"workdir is no place": func(c *structs.PodContainer) { c.Workdir = backendtest.FileInImage },
	}
	for name, fault := range faults {
		web := func(s *structs.PodSpec) { fault(&s.Containers[0]) }
		t.Run(name, func(t *testing.T) {
			isStartError := func(s structs.PartState) {
				t.Helper()
				if s.State != structs.PartTerminated || s.Reason != structs.ReasonStartError || s.ExitCode == nil || *s.ExitCode != 128 ||
					!s.StartedAt.IsZero() || s.FinishedAt.IsZero() || !strings.Contains(s.Message, "can't be started: ") {
					t.Errorf("it is %+v", s)
				}
			}
			t.Run("Never", func(t *testing.T) {
				inHost(t, func(h *host) {
					ends := func(s *structs.PodSpec) { s.Containers[1] = script("side", "exit 0") }
					a := wantPod("a", noInit, web, policy(structs.PodRestartNever), ends)
					h.assign(a)
					r := h.completed(a, structs.ContainerStopped)
					isStartError(h.part(a, "web").State)
					if p := podOf(a, r); p.Phase() != structs.PodFailed {
						t.Errorf("the pod is %s", p.Phase())
					}
					h.restart()
					h.full(true, a)
					h.after(time.Hour)
					isStartError(h.part(a, "web").State)
					h.tally(a, structs.PodInfra, 1, 1, 1)
				})
			})
			for _, restart := range []string{structs.PodRestartAlways, structs.PodRestartOnFailure} {
				t.Run(restart, func(t *testing.T) {
					inHost(t, func(h *host) {
						a := wantPod("a", noInit, web, policy(restart))
						h.assign(a)
						r := h.completed(a, structs.ContainerRunning)
						p := h.is(a, "web", structs.PartWaiting, structs.ReasonCrashLoop)
						isStartError(p.Last)
						if !strings.Contains(p.State.Message, "can't be started: ") || !strings.Contains(p.State.Message, "10s after") ||
							p.RestartCount != 1 {
							t.Errorf("web is %+v", p)
						}
						if p := podOf(a, r); p.Phase() != structs.PodRunning || p.Ready() {
							t.Errorf("the pod is %s", p.Phase())
						}
						h.after(10 * time.Second)
						if p := h.is(a, "web", structs.PartWaiting, structs.ReasonCrashLoop); p.RestartCount != 2 ||
							!strings.Contains(p.State.Message, "20s after") {
							t.Errorf("later, web is %+v", p)
						}
						h.attempt(a, "side", 1)
					})
				})
			}
			t.Run("init", func(t *testing.T) {
				inHost(t, func(h *host) {
					a := wantPod("a", policy(structs.PodRestartNever), func(s *structs.PodSpec) { fault(&s.InitContainers[0]) })
					h.assign(a)
					r := h.completed(a, structs.ContainerStopped)
					isStartError(h.part(a, "prepare").State)
					if p := podOf(a, r); p.Phase() != structs.PodFailed {
						t.Errorf("the pod is %s", p.Phase())
					}
				})
			})
		})
	}
}

// podOf returns the row of a pod after a report.
func podOf(a structs.Assignment, r structs.ContainerReport) *structs.Pod {
	p := &structs.Pod{Spec: *a.Pod.Spec}
	p.Observe(&r)
	return p
}

func TestPodBackOff(t *testing.T) {
	inHost(t, func(h *host) {
		a := wantPod("a", noInit)
		h.fake.Outside.Script(of(a, "web"), 1, 1, 1, 1, 1, 1, 1, 1, 1)
		h.assign(a)
		h.completed(a, structs.ContainerRunning)
		starts := 2 // the first end is followed by a start at once
		for _, pause := range []time.Duration{10, 20, 40, 80, 160, 300, 300} {
			pause *= time.Second
			p := h.is(a, "web", structs.PartWaiting, structs.ReasonCrashLoop)
			want := fmt.Sprintf("its process has ended with exit code 1; its logs may say why; it is started again %s after that", pause)
			if p.State.Message != want || *p.Last.ExitCode != 1 || p.Ready || p.RestartCount != starts-1 {
				t.Fatalf("after %d starts it is %+v, want %s", starts, p, want)
			}
			if r := h.last("a"); r.Reason != "web: CrashLoopBackOff: "+want || r.Status != structs.ContainerRunning {
				t.Fatalf("the pod is %+v", r.Observed)
			}
			h.tally(a, "web", starts, starts, 0)
			h.after(pause - time.Second)
			h.tally(a, "web", starts, starts, 0)
			h.after(time.Second)
			starts++
			h.tally(a, "web", starts, starts, 0)
		}
		h.after(6 * time.Minute)
		h.attempt(a, "web", 10)
		if n := len(h.fake.Seen.Attempts(of(a, "web"))); n != 2 {
			t.Errorf("%d containers of web are kept", n)
		}
		h.fake.Outside.Exit(of(a, "web"), 1)
		synctest.Wait()
		h.is(a, "web", structs.PartWaiting, structs.ReasonCrashLoop)
		h.after(6 * time.Minute)
		h.attempt(a, "web", 11)
		h.after(11 * time.Minute)
		h.fake.Outside.Exit(of(a, "web"), 1) // it ran for long: at once
		synctest.Wait()
		h.attempt(a, "web", 12)
		h.fake.Outside.Exit(of(a, "web"), 1)
		synctest.Wait()
		h.after(11 * time.Second)
		h.attempt(a, "web", 13)
		h.tally(a, "side", 1, 1, 0)
		h.tally(a, structs.PodInfra, 1, 1, 0)
	})
}

// TestBackOffOutlivesTheAgent: a restart of the agent starts nothing early.
func TestBackOffOutlivesTheAgent(t *testing.T) {
	inHost(t, func(h *host) {
		a := wantPod("a", noInit)
		h.fake.Outside.Script(of(a, "web"), 1, 1, 1)
		h.assign(a)
		h.after(15 * time.Second)
		h.tally(a, "web", 3, 3, 0)
		h.restart()
		h.full(true, a)
		h.after(14 * time.Second)
		p := h.is(a, "web", structs.PartWaiting, structs.ReasonCrashLoop)
		if !strings.Contains(p.State.Message, "20s") {
			t.Errorf("web is %+v", p.State)
		}
		h.tally(a, "web", 3, 3, 0)
		h.after(time.Second)
		h.tally(a, "web", 4, 4, 0)
	})
}

// TestOutsideInterference: what somebody does with docker to one container is mended at
// once, and the others go on.
func TestOutsideInterference(t *testing.T) {
	for name, meddle := range map[string]func(*host, structs.Ref){
		"kill":   func(h *host, ref structs.Ref) { h.fake.Outside.Kill(ref) },
		"exit":   func(h *host, ref structs.Ref) { h.fake.Outside.Exit(ref, 0) },
		"remove": func(h *host, ref structs.Ref) { h.fake.Outside.Remove(ref) },
		"memory": func(h *host, ref structs.Ref) { h.fake.Outside.OutOfMemory(ref) },
	} {
		t.Run(name, func(t *testing.T) {
			inHost(t, func(h *host) {
				a := h.upPod(wantPod("a"))
				meddle(h, of(a, "web"))
				synctest.Wait()
				h.completed(a, structs.ContainerRunning)
				h.attempt(a, "web", 2)
				reason := map[string]string{"kill": structs.ReasonError, "exit": structs.ReasonCompleted, "remove": structs.ReasonGone,
					"memory": structs.ReasonOOMKilled}[name]
				last := h.part(a, "web").Last
				if last.State != structs.PartTerminated || last.Reason != reason || last.FinishedAt.IsZero() {
					t.Errorf("before, it was %+v", last)
				}
				h.attempt(a, "side", 1)
				h.tally(a, structs.PodInfra, 1, 1, 0)
				h.tally(a, "prepare", 1, 1, 0)
			})
		})
	}
}

// TestContainerOfAPodIsRestartedByOthers: that is a restart, too, although the attempt stays.
func TestContainerOfAPodIsRestartedByOthers(t *testing.T) {
	inHost(t, func(h *host) {
		a := h.upPod(wantPod("a"))
		restarts := func(attempt uint64, count int) structs.PartReport {
			h.Helper()
			p := h.is(a, "web", structs.PartRunning, "")
			c := h.fake.Seen.Containers()[of(a, "web")]
			if c.Attempt != attempt || p.RestartCount != count || !p.State.StartedAt.Equal(c.StartedAt) {
				h.Fatalf("of attempt %d, begun at %s, %+v is reported; want attempt %d, %d restarts", c.Attempt, c.StartedAt, p,
					attempt, count)
			}
			return p
		}
		began := h.part(a, "web").State.StartedAt
		for i := range 2 {
			h.after(time.Minute)
			h.fake.Outside.Restart(of(a, "web"))
			synctest.Wait()
			p := restarts(1, i+1)
			if l := p.Last; l.State != structs.PartTerminated || l.Reason != structs.ReasonGone || !l.StartedAt.Equal(began) ||
				!strings.Contains(l.Message, "not by magnum") {
				t.Errorf("before, it was %+v", l)
			}
			began = p.State.StartedAt
		}
		h.restart()
		h.full(true, a)
		restarts(1, 2)
		h.stop()
		h.fake.Outside.Restart(of(a, "web"))
		h.start()
		h.full(true, a)
		restarts(1, 3)
		h.fake.Outside.Kill(of(a, "web"))
		synctest.Wait()
		restarts(2, 4)
		h.attempt(a, "side", 1)
	})
}

func TestPausedContainerOfAPod(t *testing.T) {
	inHost(t, func(h *host) {
		a := h.upPod(wantPod("a"))
		h.fake.Outside.Pause(of(a, "web"), true)
		synctest.Wait()
		p := h.is(a, "web", structs.PartRunning, "")
		if p.Ready || !strings.Contains(p.State.Message, "paused on its host by somebody else") ||
			!strings.Contains(h.last("a").Reason, "web: it was paused") {
			t.Errorf("web is %+v in %+v", p, h.last("a"))
		}
		h.fake.Outside.Pause(of(a, "web"), false)
		synctest.Wait()
		if p := h.is(a, "web", structs.PartRunning, ""); !p.Ready || p.State.Message != "" {
			t.Errorf("web is %+v", p)
		}
		h.tally(a, "web", 1, 1, 0)
		h.fake.Outside.Pause(of(a, "web"), true)
		h.assign(next(a, structs.DesiredAbsent))
		h.gonePod(next(a, structs.DesiredAbsent))
	})
}

// gonePod fails unless nothing of the pod is left, and the servers know it.
func (h *host) gonePod(a structs.Assignment) {
	h.Helper()
	if r := h.last(a.Ref().ID); r.Status != structs.ContainerGone || r.Generation != a.Generation {
		h.Fatalf("reported is %+v", r)
	}
	if left, volumes := h.fake.Seen.Containers(), h.fake.Seen.PodVolumes(a.Ref()); len(left) != 0 || len(volumes) != 0 ||
		len(h.rec.journal.refs()) != 0 || len(h.rec.units.all) != 0 {
		h.Fatalf("left are %v, volumes %v, records %v, %d units", left, volumes, h.rec.journal.refs(), len(h.rec.units.all))
	}
}

// TestInfraContainerEnds: all other containers are made again in another one.
func TestInfraContainerEnds(t *testing.T) {
	for name, meddle := range map[string]func(*host, structs.Ref){
		"kill":   func(h *host, ref structs.Ref) { h.fake.Outside.Kill(ref) },
		"remove": func(h *host, ref structs.Ref) { h.fake.Outside.Remove(ref) },
		// It runs on, but nothing reaches the pod any more.
		"disconnect": func(h *host, ref structs.Ref) { h.fake.Outside.Disconnect(ref) },
		"restart":    func(h *host, ref structs.Ref) { h.fake.Outside.Restart(ref) },
	} {
		t.Run(name, func(t *testing.T) {
			inHost(t, func(h *host) {
				a := h.upPod(wantPod("a", func(s *structs.PodSpec) { s.Volumes = []structs.PodVolume{{Name: "v", Memory: true}} }))
				h.fake.Outside.SetAddress("172.18.0.9")
				meddle(h, of(a, structs.PodInfra))
				synctest.Wait()
				h.completed(a, structs.ContainerRunning)
				infra := h.fake.Seen.Containers()[of(a, structs.PodInfra)]
				for _, name := range []string{"web", "side"} {
					if c := h.attempt(a, name, 2); c.Infra != infra.EngineID {
						t.Errorf("%s joins %s, want %s", name, c.Infra, infra.EngineID)
					}
					h.tally(a, name, 2, 2, 1)
				}
				h.tally(a, "prepare", 2, 2, 0)
				if r := h.last("a"); infra.Attempt != 2 || !slices.Equal(r.Addresses, []string{"172.18.0.9"}) {
					t.Errorf("infra is attempt %d, the pod %+v", infra.Attempt, r)
				}
				if n := len(h.fake.Seen.Attempts(of(a, structs.PodInfra))); n != 1 {
					t.Errorf("%d infra containers are kept", n)
				}
				if last := h.part(a, "web").Last; !strings.Contains(last.Message, "infra container") {
					t.Errorf("before, web was %+v", last)
				}
				if v := h.fake.Seen.PodVolumes(a.Ref()); len(v) != 1 {
					t.Errorf("volumes are %v", v)
				}
			})
		})
	}
}

// TestInfraContainerEndsUnderSlowOnes: containers that take their time to end aren't ready
// while they do, for nothing can reach them.
func TestInfraContainerEndsUnderSlowOnes(t *testing.T) {
	inHost(t, func(h *host) {
		a := h.upPod(wantPod("a", noInit, func(s *structs.PodSpec) { s.GracePeriod = 20 }))
		for _, name := range []string{"web", "side"} {
			h.fake.Outside.IgnoreStop(of(a, name))
		}
		h.fake.Outside.Kill(of(a, structs.PodInfra))
		synctest.Wait()
		for _, name := range []string{"web", "side"} {
			if p := h.is(a, name, structs.PartRunning, ""); p.Ready || !strings.Contains(p.State.Message, "infra container has ended") {
				t.Errorf("%s is %+v", name, p)
			}
		}
		if r := h.last("a"); !strings.Contains(r.Reason, "infra container has ended") {
			t.Errorf("the pod's reason is %q", r.Reason)
		}
		time.Sleep(30 * time.Second) // their grace period is over
		synctest.Wait()
		for _, name := range []string{"web", "side"} {
			if p := h.part(a, name); !p.Ready || p.State.Message != "" {
				t.Errorf("in the next infra container, %s is %+v", name, p)
			}
		}
	})
}

// TestInfraContainerEndsUnderNever: nothing is run twice.
func TestInfraContainerEndsUnderNever(t *testing.T) {
	inHost(t, func(h *host) {
		a := h.upPod(wantPod("a", policy(structs.PodRestartNever)))
		h.fake.Outside.Kill(of(a, structs.PodInfra))
		synctest.Wait()
		h.completed(a, structs.ContainerStopped)
		for _, name := range []string{"prepare", "web", "side"} {
			h.tally(a, name, 1, 1, map[string]int{"web": 1, "side": 1}[name])
		}
		h.is(a, "web", structs.PartTerminated, structs.ReasonError)
		h.after(time.Hour)
		h.tally(a, structs.PodInfra, 1, 1, 1)
	})
}

func TestAgentRestartAdoptsAPod(t *testing.T) {
	for _, lost := range []bool{false, true} {
		inHost(t, func(h *host) {
			a := h.upPod(wantPod("a"))
			h.fake.Outside.Exit(of(a, "web"), 1)
			synctest.Wait()
			before := h.fake.Seen.Containers()
			if lost {
				h.loseJournal()
			} else {
				h.restart()
			}
			a.Observed = 1
			h.full(true, a)
			h.after(time.Minute)
			h.completed(a, structs.ContainerRunning)
			for ref, c := range h.fake.Seen.Containers() {
				if was := before[ref]; was.EngineID != c.EngineID || !was.StartedAt.Equal(c.StartedAt) {
					t.Errorf("%s is %+v, was %+v", ref, c, was)
				}
			}
			if p := h.part(a, "web"); p.RestartCount != 1 || p.Last.State != structs.PartTerminated || *p.Last.ExitCode != 1 || !p.Ready {
				t.Errorf("lost journal %v: web is %+v", lost, p)
			}
			h.tally(a, "web", 2, 2, 0)
			if n := len(h.fake.Seen.Attempts(of(a, "web"))); n != 2 {
				t.Errorf("%d containers of web are left", n)
			}
			h.assign(next(a, structs.DesiredAbsent))
			h.gonePod(next(a, structs.DesiredAbsent))
		})
	}
}

// TestEngineRestartsUnderAPod: all containers have died, and are made again.
func TestEngineRestartsUnderAPod(t *testing.T) {
	inHost(t, func(h *host) {
		a := h.upPod(wantPod("a"))
		reports := h.reportCount()
		h.fake.Outside.Down()
		h.after(10 * time.Second)
		if n := h.reportCount(); n != reports {
			t.Errorf("while the engine was away it was reported as %+v", h.last("a"))
		}
		h.fake.Outside.Up()
		h.after(10 * time.Second)
		h.completed(a, structs.ContainerRunning)
		h.attempt(a, "web", 2)
		h.attempt(a, "side", 2)
		for _, name := range []string{structs.PodInfra, "prepare", "web", "side"} {
			h.tally(a, name, 2, 2, 0)
		}
	})
}

// TestImageOfAPodChanges: only that container is made again, and runs on until its image
// is there.
func TestImageOfAPodChanges(t *testing.T) {
	for _, restart := range []string{structs.PodRestartAlways, structs.PodRestartNever} {
		inHost(t, func(h *host) {
			a := h.upPod(wantPod("a", policy(restart)))
			a = change(a, func(s *structs.PodSpec) { s.Containers[0].Image = "web:2" })
			h.assign(a)
			r := h.expect(a, structs.ContainerRunning, true)
			if !strings.Contains(r.Reason, "web: image web:2 can't be pulled") || !strings.Contains(r.Reason, "the old container runs on") {
				t.Errorf("the pod is %+v", r.Observed)
			}
			h.attempt(a, "web", 1)
			h.fake.Outside.ImportImage("web:2")
			synctest.Wait()
			h.completed(a, structs.ContainerRunning)
			h.attempt(a, "web", 2)
			if image := h.fake.Seen.ImageOf(of(a, "web")); image != "web:2" {
				t.Errorf("web has image %s", image)
			}
			h.tally(a, "web", 2, 2, 1)
			for _, name := range []string{structs.PodInfra, "prepare", "side"} {
				h.tally(a, name, 1, 1, 0)
			}
			if last := h.part(a, "web").Last; !strings.Contains(last.Message, "another image") {
				t.Errorf("before, it was %+v", last)
			}
		})
	}
}

// TestLabelsOfAPodChange: nothing happens on the engine.
func TestLabelsOfAPodChange(t *testing.T) {
	inHost(t, func(h *host) {
		a := h.upPod(wantPod("a"))
		a = change(a, func(s *structs.PodSpec) { s.ActiveDeadline = 3600 })
		a.Pod.Labels, a.Pod.Annotations = map[string]string{"a": "b"}, map[string]string{"c": "d"}
		h.assign(a)
		h.completed(a, structs.ContainerRunning)
		for _, name := range []string{structs.PodInfra, "prepare", "web", "side"} {
			h.tally(a, name, 1, 1, 0)
		}
	})
}

func TestPodCompletes(t *testing.T) {
	for _, c := range []struct {
		policy    string
		web, side int
		starts    int // of side
	}{
		{structs.PodRestartNever, 0, 0, 1},
		{structs.PodRestartNever, 0, 7, 1},
		{structs.PodRestartOnFailure, 0, 7, 2},
	} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			inHost(t, func(h *host) {
				a := wantPod("a", policy(c.policy))
				h.fake.Outside.Script(of(a, "web"), c.web)
				h.fake.Outside.Script(of(a, "side"), c.side, 0)
				h.assign(a)
				h.completed(a, structs.ContainerStopped)
				h.is(a, "web", structs.PartTerminated, structs.ReasonCompleted)
				code := *h.part(a, "side").State.ExitCode
				if c.starts == 1 && code != c.side || c.starts == 2 && code != 0 {
					t.Errorf("side is %+v", h.part(a, "side"))
				}
				check := func(when string) {
					t.Helper()
					h.tally(a, "side", c.starts, c.starts, 0)
					h.tally(a, "web", 1, 1, 0)
					h.tally(a, structs.PodInfra, 1, 1, 1)
					if all := h.fake.Seen.Containers(); len(all) != 4 {
						t.Errorf("%s: containers are %v", when, all)
					}
				}
				check("completed")
				h.after(time.Hour)
				h.restart()
				h.full(true, a)
				h.after(time.Hour)
				check("after a restart")
				h.fake.Outside.Remove(of(a, "web")) // as a prune does
				h.after(time.Minute)
				h.is(a, "web", structs.PartTerminated, structs.ReasonCompleted)
				h.tally(a, "web", 1, 1, 0)
				h.assign(next(a, structs.DesiredAbsent))
				h.gonePod(next(a, structs.DesiredAbsent))
			})
		})
	}
}

func TestActiveDeadline(t *testing.T) {
	limit := func(s *structs.PodSpec) { s.ActiveDeadline = 60 }
	ended := func(h *host, a structs.Assignment, names ...string) {
		h.Helper()
		h.completed(a, structs.ContainerStopped)
		for _, name := range names {
			p := h.is(a, name, structs.PartTerminated, structs.ReasonDeadline)
			if !strings.Contains(p.State.Message, "60 s, its activeDeadlineSeconds") {
				h.Errorf("%s is %+v", name, p.State)
			}
		}
		for ref, c := range h.fake.Seen.Containers() {
			if c.Live() {
				h.Errorf("%s runs", ref)
			}
		}
	}
	t.Run("running", func(t *testing.T) {
		inHost(t, func(h *host) {
			a := h.upPod(wantPod("a", limit))
			h.after(30 * time.Second)
			h.restart()
			h.full(true, a)
			h.after(29 * time.Second)
			h.attempt(a, "web", 1)
			h.after(2 * time.Second)
			ended(h, a, "web", "side")
			h.is(a, "prepare", structs.PartTerminated, structs.ReasonCompleted)
			h.restart()
			h.full(true, a)
			h.after(time.Hour)
			ended(h, a, "web", "side")
			h.tally(a, "web", 1, 1, 1)
		})
	})
	t.Run("waiting for an image", func(t *testing.T) {
		inHost(t, func(h *host) {
			release := h.fake.Outside.HoldPulls()
			defer release()
			a := wantPod("a", limit, noInit, func(s *structs.PodSpec) { s.Containers[0].Image = "slow:1" })
			h.assign(a)
			h.is(a, "web", structs.PartWaiting, structs.ReasonCreating)
			h.after(61 * time.Second)
			ended(h, a, "web", "side")
			h.tally(a, "web", 0, 0, 0)
		})
	})
	t.Run("waiting for an image after a run", func(t *testing.T) {
		inHost(t, func(h *host) {
			a := h.upPod(wantPod("a", limit, noInit, func(s *structs.PodSpec) { s.Containers[0].PullPolicy = structs.PullAlways }))
			began := h.part(a, "web").State.StartedAt
			release := h.fake.Outside.HoldPulls()
			defer release()
			h.after(30 * time.Second)
			h.fake.Outside.Exit(of(a, "web"), 3)
			h.after(31 * time.Second)
			ended(h, a, "web", "side")
			if p := h.part(a, "web").State; *p.ExitCode != 3 || !p.StartedAt.Equal(began) || p.FinishedAt.IsZero() {
				t.Errorf("web is %+v", p)
			}
		})
	})
	t.Run("raised in time", func(t *testing.T) {
		inHost(t, func(h *host) {
			a := h.upPod(wantPod("a", limit))
			h.after(50 * time.Second)
			a = change(a, func(s *structs.PodSpec) { s.ActiveDeadline = 100 })
			h.assign(a)
			h.after(40 * time.Second)
			h.attempt(a, "web", 1)
			h.after(20 * time.Second)
			h.completed(a, structs.ContainerStopped)
		})
	})
	t.Run("completed in time", func(t *testing.T) {
		inHost(t, func(h *host) {
			a := wantPod("a", limit, policy(structs.PodRestartNever))
			h.fake.Outside.Script(of(a, "web"), 0)
			h.fake.Outside.Script(of(a, "side"), 0)
			h.assign(a)
			h.after(time.Hour)
			h.is(a, "web", structs.PartTerminated, structs.ReasonCompleted)
		})
	})
}

// TestPodIsDeletedInOrder: the infra container is removed after all others, and then the
// volumes.
func TestPodIsDeletedInOrder(t *testing.T) {
	inHost(t, func(h *host) {
		a := h.upPod(wantPod("a", func(s *structs.PodSpec) { s.Volumes = []structs.PodVolume{{Name: "v"}} }))
		h.fake.Outside.IgnoreStop(of(a, "web"))
		gone := next(a, structs.DesiredAbsent)
		h.assign(gone)
		h.after(29 * time.Second)
		all := h.fake.Seen.Containers()
		if len(all) != 2 || all[of(a, structs.PodInfra)].State != backend.StateRunning || all[of(a, "web")].State != backend.StateRunning {
			t.Fatalf("containers are %v", all)
		}
		h.is(a, "prepare", structs.PartTerminated, structs.ReasonCompleted)
		h.is(a, "side", structs.PartTerminated, structs.ReasonGone)
		if v := h.fake.Seen.PodVolumes(a.Ref()); len(v) != 1 {
			t.Errorf("volumes are %v", v)
		}
		h.after(2 * time.Second)
		h.gonePod(gone)
	})
}

// TestPodIsDeletedAfterRestarts: the infra container waits for the containers of earlier
// attempts, too, and for no longer.
func TestPodIsDeletedAfterRestarts(t *testing.T) {
	inHost(t, func(h *host) {
		a := wantPod("a", noInit, func(s *structs.PodSpec) { s.Containers = s.Containers[:1] })
		h.fake.Outside.Script(of(a, "web"), 1, 1)
		h.upPod(a)
		if n := len(h.fake.Seen.Attempts(of(a, "web"))); n != 2 {
			t.Fatalf("%d containers of web", n)
		}
		h.fake.Fault = func(op string, ref structs.Ref) error {
			if op == "remove" && ref.Part == "web" {
				time.Sleep(time.Second) // the infra container's pass comes in between
			}
			return nil
		}
		gone := next(a, structs.DesiredAbsent)
		h.assign(gone)
		h.after(time.Minute)
		h.gonePod(gone)
	})
}

func TestPodIsDeletedByForce(t *testing.T) {
	inHost(t, func(h *host) {
		a := h.upPod(wantPod("a"))
		h.fake.Outside.IgnoreStop(of(a, "web"))
		gone := next(a, structs.DesiredAbsent)
		gone.Force = true
		h.assign(gone)
		h.gonePod(gone)
	})
}

// TestUnknownPodIsRemoved: in order, and with its volumes, even if the agent was killed
// between the infra container and the volumes.
func TestUnknownPodIsRemoved(t *testing.T) {
	inHost(t, func(h *host) {
		a := h.upPod(wantPod("a", func(s *structs.PodSpec) { s.Volumes = []structs.PodVolume{{Name: "v"}} }))
		h.restart()
		h.full(true)
		if left, v := h.fake.Seen.Containers(), h.fake.Seen.PodVolumes(a.Ref()); len(left) != 0 || len(v) != 0 {
			t.Errorf("left are %v, volumes %v", left, v)
		}
		if refs := h.rec.journal.refs(); len(refs) != 0 || len(h.rec.units.all) != 0 {
			t.Errorf("left are records %v, %d units", refs, len(h.rec.units.all))
		}
	})
}

// TestPodOfAnotherEpoch: the earlier placement goes first, its infra container and its
// volumes last.
func TestPodOfAnotherEpoch(t *testing.T) {
	inHost(t, func(h *host) {
		old := h.upPod(wantPod("a", func(s *structs.PodSpec) { s.Volumes = []structs.PodVolume{{Name: "v"}} }))
		h.fake.Outside.IgnoreStop(of(old, "side"))
		a := old
		a.Epoch, a.Generation, a.StartGeneration = 2, 2, 2
		h.assign(a)
		h.after(29 * time.Second)
		if all := h.fake.Seen.Containers(); len(all) != 2 || all[of(old, structs.PodInfra)].State != backend.StateRunning {
			t.Errorf("containers are %v", all)
		}
		h.after(2 * time.Second)
		h.completed(a, structs.ContainerRunning)
		if all := h.fake.Seen.Containers(); len(all) != 4 {
			t.Errorf("containers are %v", all)
		}
		if was, is := h.fake.Seen.PodVolumes(old.Ref()), h.fake.Seen.PodVolumes(a.Ref()); len(was) != 0 || len(is) != 1 {
			t.Errorf("volumes are %v and %v", was, is)
		}
	})
}

// TestPodIsStoppedAndRunsAgain: a host that is drained stops a pod that can't move.
func TestPodIsStoppedAndRunsAgain(t *testing.T) {
	for _, restart := range []string{structs.PodRestartAlways, structs.PodRestartNever} {
		inHost(t, func(h *host) {
			a := h.upPod(wantPod("a", policy(restart)))
			stop := a
			stop.Desired = structs.DesiredStopped
			h.assign(stop)
			h.completed(stop, structs.ContainerStopped)
			for ref, c := range h.fake.Seen.Containers() {
				if c.Live() {
					t.Errorf("%s runs", ref)
				}
			}
			if p := h.part(a, "web"); !strings.Contains(p.State.Message, "stopped with its pod") {
				t.Errorf("web is %+v", p)
			}
			h.restart()
			h.full(true, a)
			h.completed(a, structs.ContainerRunning)
			h.attempt(a, "web", 2)
			h.tally(a, "prepare", 2, 2, 0)
		})
	}
}

func TestImageOfAPodIsMissing(t *testing.T) {
	inHost(t, func(h *host) {
		a := wantPod("a", noInit, func(s *structs.PodSpec) { s.Containers[0].Image = "none:1" })
		h.assign(a)
		r := h.expect(a, structs.ContainerError, true)
		if want := "web: ErrImagePull: image none:1 can't be pulled: not found; it is tried again in 30s"; r.Reason != want {
			t.Errorf("the pod is %q, want %q", r.Reason, want)
		}
		h.is(a, "web", structs.PartWaiting, structs.ReasonImagePull)
		h.attempt(a, "side", 1)
		h.after(31 * time.Second)
		p := h.is(a, "web", structs.PartWaiting, structs.ReasonImagePullBackOff)
		if !strings.Contains(p.State.Message, "tried again in 1m0s") {
			t.Errorf("web is %+v", p.State)
		}
		h.fake.Outside.ImportImage("none:1")
		synctest.Wait()
		h.completed(a, structs.ContainerRunning)
		h.attempt(a, "web", 1)
		h.tally(a, "side", 1, 1, 0)
	})
}

// TestEarlierAttemptRunsAtAStart: docker restart starts a container again whose next attempt
// the agent is creating already.
func TestImageOfAPodIsNeverPulled(t *testing.T) {
	inHost(t, func(h *host) {
		a := wantPod("a", noInit, func(s *structs.PodSpec) {
			s.Containers[0].Image, s.Containers[0].PullPolicy = "none:1", structs.PullNever
		})
		h.assign(a)
		r := h.expect(a, structs.ContainerError, true)
		if !strings.Contains(r.Reason, "web: ErrImageNeverPull: image none:1 is not on the host, and imagePullPolicy is Never") ||
			strings.Contains(r.Reason, "image_pull_policy") {
			t.Errorf("the pod is %q", r.Reason)
		}
		h.after(31 * time.Second)
		h.is(a, "web", structs.PartWaiting, structs.ReasonNeverPull)
		h.fake.Outside.ImportImage("none:1")
		synctest.Wait()
		h.completed(a, structs.ContainerRunning)
	})
}

func TestEarlierAttemptRunsAtAStart(t *testing.T) {
	inHost(t, func(h *host) {
		a := h.upPod(wantPod("a", noInit))
		web := of(a, "web")
		var seen []backend.Container
		h.fake.Fault = func(op string, ref structs.Ref) error {
			switch {
			case ref == web && op == "create":
				h.fake.Outside.Start(web)
			case ref == web && op == "start":
				seen = h.fake.Seen.Attempts(web)
			}
			return h.seam(op, ref)
		}
		h.fake.Outside.Exit(web, 1)
		synctest.Wait()
		h.completed(a, structs.ContainerRunning)
		if len(seen) != 2 || seen[0].Live() || seen[1].Live() {
			t.Errorf("at the start of the next attempt there were %+v", seen)
		}
	})
}

// TestPullOfAPodIsInterrupted: a pull may hang for minutes. It ends once its image is not
// wanted any more, and goes on else.
func TestPullOfAPodIsInterrupted(t *testing.T) {
	for name, c := range map[string]struct {
		edit   func(*structs.Assignment)
		status structs.ContainerStatus // while the registry still hangs; "" if the pull goes on
	}{
		"another image": {func(a *structs.Assignment) {
			*a = change(*a, func(s *structs.PodSpec) { s.Containers[0].Image = backendtest.Image })
		}, structs.ContainerRunning},
		"stopped": {func(a *structs.Assignment) { a.Generation, a.Desired = 2, structs.DesiredStopped }, structs.ContainerStopped},
		"deleted": {func(a *structs.Assignment) { a.Generation, a.Desired = 2, structs.DesiredAbsent }, structs.ContainerGone},
		"other labels": {func(a *structs.Assignment) {
			*a = change(*a, func(*structs.PodSpec) {})
			a.Pod.Labels = map[string]string{"a": "b"}
		}, ""},
		"an image of another container": {func(a *structs.Assignment) {
			*a = change(*a, func(s *structs.PodSpec) { s.Containers[1].Image = "none:1" })
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			inHost(t, func(h *host) {
				release := h.fake.Outside.HoldPulls()
				a := wantPod("a", noInit, func(s *structs.PodSpec) { s.Containers[0].Image = "web:1" })
				h.assign(a)
				if p := h.is(a, "web", structs.PartWaiting, structs.ReasonCreating); !strings.Contains(p.State.Message, "pulling") {
					t.Fatalf("web is %+v", p)
				}
				h.attempt(a, "side", 1)
				c.edit(&a)
				h.assign(a)
				if c.status != "" {
					h.completed(a, c.status)
					return
				}
				h.is(a, "web", structs.PartWaiting, structs.ReasonCreating)
				h.fake.Outside.ImportImage("web:1")
				h.fake.Outside.ImportImage("none:1")
				release()
				synctest.Wait()
				h.completed(a, structs.ContainerRunning)
				h.attempt(a, "web", 1)
			})
		})
	}
}

func TestPortOfAPodIsTaken(t *testing.T) {
	inHost(t, func(h *host) {
		a := wantPod("a", noInit, func(s *structs.PodSpec) {
			s.Containers[0].Ports = []structs.PodPort{{Port: structs.Port{ContainerPort: 80, HostPort: 8080, Protocol: "tcp"}},
				{Port: structs.Port{ContainerPort: 81, Protocol: "tcp"}}}
		})
		h.fake.Outside.TakePort(8080, true)
		h.assign(a)
		r := h.expect(a, structs.ContainerError, true)
		if !strings.Contains(r.Reason, "infra container: RunContainerError: starting it failed: ") || !strings.Contains(r.Reason, "8080") {
			t.Errorf("the pod is %+v", r.Observed)
		}
		if p := h.is(a, "web", structs.PartWaiting, structs.ReasonCreating); !strings.Contains(p.State.Message, "infra container") {
			t.Errorf("web is %+v", p)
		}
		h.fake.Outside.TakePort(8080, false)
		h.after(10 * time.Second)
		r = h.completed(a, structs.ContainerRunning)
		if len(r.Ports) != 1 || r.Ports[0].HostPort != 8080 {
			t.Errorf("ports are %v", r.Ports)
		}
		h.tally(a, structs.PodInfra, 1, 1, 0)
	})
}

// TestHostHasNoNetworkForAPod: the servers place it elsewhere.
func TestHostHasNoNetworkForAPod(t *testing.T) {
	inHost(t, func(h *host) {
		h.fake.Outside.LimitNetworks(1)
		h.upPod(wantPod("a"))
		b := wantPod("b")
		b.ProjectID = "q"
		h.assign(b)
		if r := h.last("b"); !r.Refused || !h.noRoom {
			t.Errorf("reported is %+v", r)
		}
		h.assign(next(b, structs.DesiredAbsent))
		if r := h.last("b"); r.Status != structs.ContainerGone {
			t.Errorf("reported is %+v", r)
		}
	})
}

// TestPodIsKeptInQuarantine until an operator decides.
func TestPodIsKeptInQuarantine(t *testing.T) {
	inHost(t, func(h *host) {
		a := h.upPod(wantPod("a", func(s *structs.PodSpec) { s.Volumes = []structs.PodVolume{{Name: "v"}} }))
		h.fake.Outside.Exit(of(a, "web"), 1)
		synctest.Wait()
		h.diverged = true
		h.full(true)
		h.full(true)
		h.restart()
		h.full(true)
		for _, name := range []string{structs.PodInfra, "web", "side"} {
			if c := h.fake.Seen.Containers()[of(a, name)]; c.State != backend.StateRunning || h.fake.Seen.Stops(of(a, name)) != 0 {
				t.Errorf("in quarantine %s is %+v", name, c)
			}
		}
		if kept := h.rec.journal.allKept(); len(kept) != 1 || kept[0].Ref != a.Ref() {
			t.Fatalf("kept are %v", kept)
		}
		decided := structs.QuarantinedOf(a.Ref())
		decided.Adoption = structs.AdoptionRemove
		h.rec.apply(&structs.Work{Quarantine: []structs.Quarantined{decided}}, false, pollState{})
		h.after(time.Minute)
		if left, v := h.fake.Seen.Containers(), h.fake.Seen.PodVolumes(a.Ref()); len(left) != 0 || len(v) != 0 ||
			len(h.rec.journal.allKept()) != 0 {
			t.Errorf("left are %v, volumes %v, kept %v", left, v, h.rec.journal.allKept())
		}
	})
}

func TestPodsAreIndependent(t *testing.T) {
	inHost(t, func(h *host) {
		a, b := wantPod("a"), wantPod("b", func(s *structs.PodSpec) { s.Containers[0].Image = "none:1" })
		h.assign(a, b)
		h.completed(a, structs.ContainerRunning)
		h.expect(b, structs.ContainerError, true)
		h.fake.Outside.Kill(of(a, structs.PodInfra))
		h.after(time.Second)
		h.attempt(a, "web", 2)
		h.tally(b, structs.PodInfra, 1, 1, 0)
		h.tally(b, "side", 1, 1, 0)
		h.assign(next(b, structs.DesiredAbsent))
		h.completed(a, structs.ContainerRunning)
		h.tally(a, "web", 2, 2, 1)
	})
}

// TestCopyOfAContainerOfAPod: a container that only looks like one of magnum's is left
// alone, whichever attempt it looks like.
func TestCopyOfAContainerOfAPod(t *testing.T) {
	for _, inherited := range []bool{true, false} {
		inHost(t, func(h *host) {
			a := h.upPod(wantPod("a"))
			h.fake.Outside.Copy(of(a, "web"), inherited)
			h.fake.Outside.Exit(of(a, "web"), 1)
			synctest.Wait()
			h.fake.Outside.Copy(of(a, "web"), inherited)
			synctest.Wait()
			h.restart()
			h.full(true, a)
			h.attempt(a, "web", 2)
			gone := next(a, structs.DesiredAbsent)
			h.assign(gone)
			h.full(true)
			h.restart()
			h.full(true)
			if copies, touched := h.fake.Seen.Copies(), h.fake.Seen.Touched(); len(copies) != 2 || len(touched) != 0 {
				t.Errorf("inherited %v: copies are %v, touched were %v", inherited, copies, touched)
			}
			if left := h.fake.Seen.Containers(); len(left) != 0 {
				t.Errorf("left are %v", left)
			}
		})
	}
}

// TestSessionsOfAPod reach the current attempt of a container, or the one before.
func TestSessionsOfAPod(t *testing.T) {
	inHost(t, func(h *host) {
		a := h.upPod(wantPod("a"))
		find := func(name string, previous bool) string { return h.rec.engineID(t.Context(), of(a, name), previous) }
		first := h.fake.Seen.Containers()[of(a, "web")].EngineID
		if got := find("web", false); got != first {
			t.Errorf("web is %q, want %q", got, first)
		}
		if got := find("", false); got != first {
			t.Errorf("the pod is %q, want that of its first container, %q", got, first)
		}
		if got := find("web", true); got != "" {
			t.Errorf("before it, there was %q", got)
		}
		h.fake.Outside.Exit(of(a, "web"), 1)
		synctest.Wait()
		second := h.fake.Seen.Containers()[of(a, "web")].EngineID
		if now, was := find("web", false), find("web", true); now != second || was != first || first == second {
			t.Errorf("web is %q, before %q; want %q and %q", now, was, second, first)
		}
		h.fake.Outside.Exit(of(a, "web"), 1) // now it waits: the one that has ended is the last one
		synctest.Wait()
		if now, was := find("web", false), find("web", true); now != second || was != second {
			t.Errorf("web is %q, before %q; want %q", now, was, second)
		}
		h.fake.Outside.Remove(of(a, "web"))
		h.after(15 * time.Second)
		third := h.fake.Seen.Containers()[of(a, "web")].EngineID
		if now, was := find("web", false), find("web", true); now != third || was != "" {
			t.Errorf("web is %q, before %q; want %q and none", now, was, third)
		}
	})
}

// TestCredentialsStayWithTheirRegistry: no registry gets the credentials for another one.
func TestCredentialsStayWithTheirRegistry(t *testing.T) {
	inHost(t, func(h *host) {
		const mine, other, next = "mine.example/web:1", "busybox:other", "other.example/web:2"
		for _, image := range []string{mine, other, next, "mine.example/pause:1"} {
			h.fake.Outside.AddImage(image)
		}
		a := wantPod("a", noInit, func(s *structs.PodSpec) {
			s.InfraImage, s.Containers[0].Image, s.Containers[1].Image = "mine.example/pause:1", mine, other
		})
		a.Registry = &structs.Registry{Username: "u", Password: "p", Server: "mine.example"}
		h.upPod(a)
		a = change(a, func(s *structs.PodSpec) { s.Containers[0].Image = next })
		a.Registry = &structs.Registry{Username: "u", Password: "p", Server: "mine.example"}
		h.upPod(a)
		b := wantPod("b", noInit, func(s *structs.PodSpec) {
			s.Containers[0].Image, s.Containers[1].Image = "one.example/b:1", "two.example/b:1"
		})
		b.Registry = &structs.Registry{Username: "u", Password: "p"}
		h.fake.Outside.AddImage("one.example/b:1")
		h.fake.Outside.AddImage("two.example/b:1")
		h.upPod(b)
		for image, want := range map[string]bool{
			mine: true, "mine.example/pause:1": true, other: false, next: false, "one.example/b:1": false, "two.example/b:1": false,
		} {
			if creds, asked := h.fake.Seen.Credentials(image); !asked || (creds != nil) != want {
				t.Errorf("%s: asked for %v, with the credentials %v", image, asked, creds != nil)
			}
		}
	})
}

// TestChildOutOfMemory: the end of a child for want of memory isn't the end of the process,
// whose own end doesn't read as one.
func TestChildOutOfMemory(t *testing.T) {
	ends := map[string]func(h *host, a structs.Assignment, ref structs.Ref) structs.Assignment{
		"by itself": func(h *host, a structs.Assignment, ref structs.Ref) structs.Assignment {
			h.fake.Outside.Exit(ref, 0)
			return a
		},
		"with an error": func(h *host, a structs.Assignment, ref structs.Ref) structs.Assignment {
			h.fake.Outside.Exit(ref, 3)
			return a
		},
		"by magnum": func(h *host, a structs.Assignment, ref structs.Ref) structs.Assignment {
			h.fake.Outside.IgnoreStop(ref)
			if a.Pod != nil {
				return change(a, func(s *structs.PodSpec) { s.Containers[0].Image = "next:1" })
			}
			a.Generation, a.Desired = 2, structs.DesiredStopped
			return a
		},
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			inHost(t, func(h *host) {
				h.fake.Outside.AddImage("next:1")
				a, pod := want("a", 1, structs.DesiredRunning), wantPod("p", noInit)
				h.assign(a)
				h.upPod(pod)
				h.fake.Outside.ChildOutOfMemory(ref(a))
				h.fake.Outside.ChildOutOfMemory(of(pod, "web"))
				synctest.Wait()
				a, pod = end(h, a, ref(a)), end(h, pod, of(pod, "web"))
				h.assign(a, pod)
				h.after(time.Minute)
				if r := h.completed(a, structs.ContainerStopped); strings.Contains(r.Reason, "memory") {
					t.Errorf("the container is %+v", r.Observed)
				}
				last := h.part(pod, "web").Last
				if last.State != structs.PartTerminated || last.Reason == structs.ReasonOOMKilled ||
					strings.Contains(last.Message, "memory") {
					t.Errorf("web was %+v", last)
				}
				if name == "by magnum" && (*last.ExitCode != 137 || !strings.Contains(last.Message, "names another image")) {
					t.Errorf("web was %+v", last)
				}
			})
		})
	}
}

// TestOutOfMemory: the reason of such an end stays when the container is stopped later.
func TestOutOfMemory(t *testing.T) {
	inHost(t, func(h *host) {
		a := want("a", 1, structs.DesiredRunning)
		h.assign(a)
		h.fake.Outside.OutOfMemory(ref(a))
		synctest.Wait()
		for i, desired := range []structs.Desired{structs.DesiredRunning, structs.DesiredStopped} {
			a.Generation, a.Desired = uint64(i+1), desired
			h.assign(a)
			if r := h.expect(a, structs.ContainerStopped, false); !strings.Contains(r.Reason, "more than its memory limit") {
				t.Errorf("%s: %+v", desired, r.Observed)
			}
		}
	})
}

// TestEarlierAttemptIsStartedByOthers while the next one can't be created: it doesn't run
// beside it, nor instead of it.
func TestEarlierAttemptIsStartedByOthers(t *testing.T) {
	inHost(t, func(h *host) {
		a := h.upPod(wantPod("a", noInit))
		web, refused := of(a, "web"), true
		h.fake.Fault = func(op string, ref structs.Ref) error {
			if h.mu.Lock(); op == "create" && ref == web && refused {
				h.mu.Unlock()
				return &backend.Failure{Reason: backend.ErrInvalid, Msg: "not now"}
			}
			h.mu.Unlock()
			return h.seam(op, ref)
		}
		h.fake.Outside.Exit(web, 1)
		synctest.Wait()
		h.is(a, "web", structs.PartWaiting, structs.ReasonCreateError)
		h.tally(a, "web", 1, 1, 0)
		for _, restart := range []bool{false, true} {
			h.fake.Outside.Start(web)
			if restart {
				h.restart()
				h.full(true, a)
			}
			synctest.Wait()
			if c := h.fake.Seen.Containers()[web]; c.Live() || c.Attempt != 1 {
				t.Fatalf("restart %v: attempt %d is %s", restart, c.Attempt, c.State)
			}
			h.is(a, "web", structs.PartWaiting, structs.ReasonCreateError)
		}
		h.mu.Lock()
		refused = false
		h.mu.Unlock()
		h.after(10 * time.Minute)
		h.completed(a, structs.ContainerRunning)
		h.attempt(a, "web", 2)
		if c := h.fake.Seen.Attempts(web); len(c) != 2 {
			t.Errorf("there are %+v", c)
		}
	})
}

// TestVolumesCantBeRemoved: the user learns why a pod isn't gone yet.
func TestVolumesCantBeRemoved(t *testing.T) {
	inHost(t, func(h *host) {
		a := h.upPod(wantPod("a", func(s *structs.PodSpec) { s.Volumes = []structs.PodVolume{{Name: "v"}} }))
		stuck := true
		h.fake.Fault = func(op string, ref structs.Ref) error {
			if h.mu.Lock(); op == "volumes drop" && stuck {
				h.mu.Unlock()
				return &backend.Failure{Reason: backend.ErrInUse, Msg: "volume v is in use"}
			}
			h.mu.Unlock()
			return h.seam(op, ref)
		}
		a.Desired, a.Generation = structs.DesiredAbsent, 2
		h.assign(a)
		for range 3 { // the first failure is that of the pass that has removed the container
			r := h.expect(a, structs.ContainerStopped, false)
			if !strings.Contains(r.Reason, "removing it failed, and is tried again: volume v is in use") || r.Generation == a.Generation {
				t.Errorf("the pod is %+v", r.Observed)
			}
			h.after(time.Minute)
		}
		if n := len(h.fake.Seen.Containers()); n != 0 {
			t.Errorf("%d containers are left", n)
		}
		h.mu.Lock()
		stuck = false
		h.mu.Unlock()
		h.after(time.Minute)
		h.completed(a, structs.ContainerGone)
	})
}
