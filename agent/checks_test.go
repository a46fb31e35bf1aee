package agent

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/agent/lease"
	"github.com/stackforge/magnum/structs"
)

// execs counts the commands that are executed in the containers of each part.
func (h *host) execs() func(structs.Ref) int {
	var mu sync.Mutex
	counts := make(map[structs.Ref]int)
	h.fake.Fault = func(op string, ref structs.Ref) error {
		if op == "exec" {
			mu.Lock()
			counts[ref]++
			mu.Unlock()
		}
		return h.seam(op, ref)
	}
	return func(ref structs.Ref) int {
		mu.Lock()
		defer mu.Unlock()
		return counts[ref]
	}
}

// execProbe is a probe that runs a command every ten seconds.
func execProbe() *structs.Probe {
	return &structs.Probe{Handler: structs.Handler{Exec: []string{"check"}}, Period: 10, Timeout: 1, Success: 1, Failure: 3}
}

// web changes the first container.
func web(edit func(*structs.PodContainer)) func(*structs.PodSpec) {
	return func(s *structs.PodSpec) { edit(&s.Containers[0]) }
}

func TestReadinessIsReported(t *testing.T) {
	inHost(t, func(h *host) {
		a := wantPod("a", noInit, web(func(c *structs.PodContainer) { c.Readiness = execProbe() }))
		h.fake.Outside.AnswerExec(of(a, "web"), 1, "not yet")
		h.upPod(a)
		h.after(25 * time.Second)
		p := h.attempted(a, "web", 1)
		if p.Ready || !p.Started || !strings.Contains(p.State.Message, "readiness probe failed: exit code 1: not yet") {
			t.Errorf("web is %+v", p)
		}
		if r := h.last("a"); !strings.Contains(r.Reason, "web: readiness probe failed") {
			t.Errorf("the pod is %+v", r.Observed)
		}
		if p := h.part(a, "side"); !p.Ready {
			t.Errorf("side is %+v", p)
		}
		h.fake.Outside.AnswerExec(of(a, "web"), 0, "")
		h.after(10 * time.Second)
		if p := h.attempted(a, "web", 1); !p.Ready || p.State.Message != "" {
			t.Errorf("web is %+v", p)
		}
		h.restart() // it stays ready until a probe says otherwise
		h.full(true, a)
		if p := h.attempted(a, "web", 1); !p.Ready {
			t.Errorf("after a restart of the agent web is %+v", p)
		}
		h.fake.Outside.AnswerExec(of(a, "web"), 1, "broken")
		h.after(41 * time.Second)
		if p := h.attempted(a, "web", 1); p.Ready {
			t.Errorf("web is %+v", p)
		}
		h.tally(a, "web", 1, 1, 0)
	})
}

// TestProbesEndWithTheProcess: nothing is checked after the end, however it has come.
func TestProbesEndWithTheProcess(t *testing.T) {
	for name, end := range map[string]func(*host, structs.Assignment){
		"it ends": func(h *host, a structs.Assignment) { h.fake.Outside.Exit(of(a, "web"), 0) },
		"it is deleted by force": func(h *host, a structs.Assignment) {
			a = next(a, structs.DesiredAbsent)
			a.Force = true
			h.assign(a)
		},
		"it is stopped": func(h *host, a structs.Assignment) { h.assign(next(a, structs.DesiredStopped)) },
	} {
		t.Run(name, func(t *testing.T) {
			inHost(t, func(h *host) {
				execs := h.execs()
				a := wantPod("a", noInit, policy(structs.PodRestartNever), web(func(c *structs.PodContainer) { c.Readiness = execProbe() }))
				h.fake.Outside.AnswerExec(of(a, "web"), 0, "")
				h.upPod(a)
				h.after(time.Minute)
				end(h, a)
				h.after(time.Second)
				n := execs(of(a, "web"))
				h.after(time.Hour)
				if again := execs(of(a, "web")); n < 6 || again != n {
					t.Errorf("%d checks before the end, %d after it", n, again-n)
				}
			})
		})
	}
}

// attempted is attempt for the report.
func (h *host) attempted(a structs.Assignment, name string, attempt uint64) structs.PartReport {
	h.Helper()
	h.attempt(a, name, attempt)
	return h.part(a, name)
}

func TestFailedProbesEndTheContainer(t *testing.T) {
	short := 5
	for name, c := range map[string]struct {
		edit func(*structs.PodContainer)
		says string
		ends time.Duration // after which the process has ended
	}{
		"liveness": {func(c *structs.PodContainer) { c.Liveness = execProbe() }, "its liveness probe failed: exit code 1: stuck",
			50 * time.Second},
		"with a grace period of its own": {func(c *structs.PodContainer) {
			c.Liveness = execProbe()
			c.Liveness.GracePeriod = &short
		}, "its liveness probe failed", 25 * time.Second},
		"startup": {func(c *structs.PodContainer) { c.Startup = execProbe() }, "its startup probe failed", 50 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			inHost(t, func(h *host) {
				a := wantPod("a", noInit, web(c.edit))
				h.fake.Outside.AnswerExec(of(a, "web"), 1, "stuck")
				h.upPod(a)
				h.fake.Outside.IgnoreStop(of(a, "web"))
				if p := h.part(a, "web"); p.Started != (name != "startup") {
					t.Errorf("web is %+v", p)
				}
				h.after(c.ends - time.Second)
				h.attempt(a, "web", 1)
				h.after(2 * time.Second)
				p := h.attempted(a, "web", 2)
				if !strings.Contains(p.Last.Message, c.says) || p.Last.Reason != structs.ReasonError {
					t.Errorf("before, web was %+v", p.Last)
				}
				h.attempt(a, "side", 1)
				h.tally(a, "web", 2, 2, 1)
			})
		})
	}
}

// TestFailedProbeUnderNever: the pod has failed.
func TestFailedProbeUnderNever(t *testing.T) {
	inHost(t, func(h *host) {
		a := wantPod("a", noInit, policy(structs.PodRestartNever), web(func(c *structs.PodContainer) { c.Liveness = execProbe() }),
			func(s *structs.PodSpec) { s.Containers = s.Containers[:1] })
		h.fake.Outside.AnswerExec(of(a, "web"), 1, "stuck")
		h.upPod(a)
		h.after(time.Minute)
		h.completed(a, structs.ContainerStopped)
		if p := h.is(a, "web", structs.PartTerminated, structs.ReasonError); !strings.Contains(p.State.Message, "liveness probe failed") {
			t.Errorf("web is %+v", p)
		}
		h.tally(a, "web", 1, 1, 1)
	})
}

// TestPostStartHook: the container is started once the hook has succeeded, which runs once.
func TestPostStartHook(t *testing.T) {
	inHost(t, func(h *host) {
		execs := h.execs()
		a := wantPod("a", noInit, web(func(c *structs.PodContainer) {
			c.PostStart = &structs.Handler{Exec: []string{"sleep", "1000"}}
		}))
		h.assign(a)
		if p := h.attempted(a, "web", 1); p.Started || p.Ready {
			t.Errorf("web is %+v", p)
		}
		h.assign(next(a, structs.DesiredAbsent)) // the hook delays no deletion
		h.gonePod(next(a, structs.DesiredAbsent))

		b := wantPod("b", noInit, web(func(c *structs.PodContainer) { c.PostStart = &structs.Handler{Exec: []string{"warm-up"}} }))
		h.fake.Outside.AnswerExec(of(b, "web"), 0, "")
		h.upPod(b)
		if p := h.attempted(b, "web", 1); !p.Started || !p.Ready {
			t.Errorf("web is %+v", p)
		}
		h.restart()
		h.full(true, b)
		h.after(time.Minute)
		if p := h.attempted(b, "web", 1); !p.Started || !p.Ready || execs(of(b, "web")) != 1 {
			t.Errorf("web is %+v after %d hooks", p, execs(of(b, "web")))
		}
	})
}

func TestPostStartHookFails(t *testing.T) {
	inHost(t, func(h *host) {
		a := wantPod("a", noInit, web(func(c *structs.PodContainer) { c.PostStart = &structs.Handler{Exec: []string{"warm-up"}} }))
		h.fake.Outside.AnswerExec(of(a, "web"), 2, "no")
		h.assign(a)
		p := h.is(a, "web", structs.PartWaiting, structs.ReasonCrashLoop)
		if !strings.Contains(p.State.Message, "its postStart hook has failed") || !strings.Contains(p.State.Message, "exit code 2: no") {
			t.Errorf("web is %+v", p)
		}
		h.fake.Outside.AnswerExec(of(a, "web"), 0, "")
		h.after(11 * time.Second)
		h.completed(a, structs.ContainerRunning)
		h.attempt(a, "web", 3)
	})
}

// TestPreStopHook: it runs once, before the process is asked to end, and its time is part
// of the grace period.
func TestPreStopHook(t *testing.T) {
	inHost(t, func(h *host) {
		execs := h.execs()
		a := h.upPod(wantPod("a", noInit, web(func(c *structs.PodContainer) { c.PreStop = &structs.Handler{Sleep: 20} }),
			func(s *structs.PodSpec) { s.Containers[1].PreStop = &structs.Handler{Exec: []string{"bye"}} }))
		h.fake.Outside.AnswerExec(of(a, "side"), 1, "a failed hook delays nothing")
		h.fake.Outside.IgnoreStop(of(a, "web"))
		gone := next(a, structs.DesiredAbsent)
		h.assign(gone)
		if n := execs(of(a, "side")); n != 1 {
			t.Errorf("the hook ran %d times", n)
		}
		if _, there := h.fake.Seen.Containers()[of(a, "side")]; there {
			t.Error("side is there")
		}
		h.after(19 * time.Second)
		h.tally(a, "web", 1, 1, 0)
		h.after(10 * time.Second)
		h.tally(a, "web", 1, 1, 0)
		h.after(2 * time.Second)
		h.gonePod(gone)
	})
}

// TestPreStopHookTakesTheGracePeriod: the process gets a moment after it.
func TestPreStopHookTakesTheGracePeriod(t *testing.T) {
	inHost(t, func(h *host) {
		a := h.upPod(wantPod("a", noInit, web(func(c *structs.PodContainer) { c.PreStop = &structs.Handler{Sleep: 3600} })))
		h.fake.Outside.IgnoreStop(of(a, "web"))
		gone := next(a, structs.DesiredAbsent)
		h.assign(gone)
		h.after(31 * time.Second)
		h.tally(a, "web", 1, 1, 0)
		h.after(2 * time.Second)
		h.gonePod(gone)
	})
}

// TestVariablesOfAPod: a container gets the pod's address and its own limits.
func TestVariablesOfAPod(t *testing.T) {
	inHost(t, func(h *host) {
		h.rec.host.name = "host-1"
		a := wantPod("a", noInit, web(func(c *structs.PodContainer) {
			c.Limits.Memory = 64 << 20
			c.Env = []structs.EnvVar{{Name: "IP", Field: "status.podIP"}, {Name: "NODE", Field: "spec.nodeName"},
				{Name: "LABEL", Field: "metadata.labels['app']"}, {Name: "URL", Value: "http://$(IP)/"},
				{Name: "MEMORY", Resource: &structs.ResourceRef{Container: "web", Resource: "limits.memory"}}}
			c.Args = []string{"$(URL)", "$$(URL)", "$(NONE)"}
		}))
		a.Pod.Labels = map[string]string{"app": "shop"}
		h.upPod(a)
		spec := h.fake.Seen.SpecOf(of(a, "web"))
		for name, want := range map[string]string{"IP": "172.18.0.2", "NODE": "host-1", "LABEL": "shop", "URL": "http://172.18.0.2/",
			"MEMORY": "67108864"} {
			if got := spec.Environment[name]; got != want {
				t.Errorf("%s is %q, want %q", name, got, want)
			}
		}
		if want := []string{"http://172.18.0.2/", "$(URL)", "$(NONE)"}; !slices.Equal(spec.Command, want) {
			t.Errorf("it runs %q, want %q", spec.Command, want)
		}
	})
}

func TestVariableOfAPodIsTooLong(t *testing.T) {
	inHost(t, func(h *host) {
		a := wantPod("a", noInit, web(func(c *structs.PodContainer) {
			c.Env = []structs.EnvVar{{Name: "A", Value: strings.Repeat("a", structs.MaxVariable/2)}, {Name: "B", Value: "$(A)$(A)"}}
		}))
		h.assign(a)
		h.expect(a, structs.ContainerError, true)
		if p := h.is(a, "web", structs.PartWaiting, structs.ReasonConfigError); !strings.Contains(p.State.Message, `variable "B"`) {
			t.Errorf("web is %+v", p)
		}
		h.attempt(a, "side", 1)
	})
}

// TestImageRunsAsRoot: a container that must not run as root waits for another image.
func TestImageRunsAsRoot(t *testing.T) {
	inHost(t, func(h *host) {
		a := wantPod("a", noInit, web(func(c *structs.PodContainer) { c.Security.RunAsNonRoot = true }))
		h.assign(a)
		h.expect(a, structs.ContainerError, true)
		if p := h.is(a, "web", structs.PartWaiting, structs.ReasonConfigError); !strings.Contains(p.State.Message, "runAsNonRoot") {
			t.Errorf("web is %+v", p)
		}
		h.fake.Outside.SetUser("fixed:1", "nobody")
		h.fake.Outside.AddImage("fixed:1")
		a = change(a, func(s *structs.PodSpec) { s.Containers[0].Image = "fixed:1" })
		h.assign(a)
		h.completed(a, structs.ContainerRunning)
		h.attempt(a, "web", 1)
	})
}

// TestGuardEndsPods: after a restart of the agent, with and without its journal, all
// containers of a pod end with the lease.
func TestGuardEndsPods(t *testing.T) {
	for _, lost := range []bool{false, true} {
		inHost(t, func(h *host) {
			a := wantPod("a", func(s *structs.PodSpec) { s.Exclusive = structs.ExclusiveLease })
			h.assign(a)
			h.lease(time.Hour)
			h.full(true, a)
			h.completed(a, structs.ContainerRunning)
			h.fake.Outside.Exit(of(a, "web"), 1)
			synctest.Wait()
			h.stop()
			if lost {
				if err := os.Remove(h.path); err != nil {
					t.Fatal(err)
				}
			}
			j, _, err := openJournal(h.path)
			if err != nil {
				t.Fatal(err)
			}
			file := lease.NewFile(filepath.Join(t.TempDir(), "lease")) // there is no lease
			newGuard(h.fake, h.owner, j, file, hclog.NewNullLogger()).Run(h.Context())
			if err := j.close(); err != nil {
				t.Fatal(err)
			}
			for ref, c := range h.fake.Seen.Containers() {
				if c.Live() {
					t.Errorf("journal lost %v: %s runs without a lease", lost, ref)
				}
			}
			h.start()
			h.lease(time.Hour)
			a.Observed = 1
			h.full(true, a)
			h.completed(a, structs.ContainerRunning)
			h.attempt(a, "web", 3)
			h.attempt(a, "side", 2)
		})
	}
}

// TestLeaseOfAPod: without a lease all containers of a pod end, the infra container, too.
// With another one they run again, whatever the restart policy.
func TestLeaseOfAPod(t *testing.T) {
	for _, restart := range []string{structs.PodRestartAlways, structs.PodRestartNever} {
		inHost(t, func(h *host) {
			a := wantPod("a", policy(restart), func(s *structs.PodSpec) { s.Exclusive = structs.ExclusiveLease })
			h.assign(a)
			h.lease(10 * time.Second)
			h.full(false, a)
			h.tally(a, structs.PodInfra, 0, 0, 0)
			h.full(true, a)
			h.completed(a, structs.ContainerRunning)
			h.attempt(a, "web", 1)
			h.fake.Outside.IgnoreStop(of(a, "web"))
			h.after(12 * time.Second)
			for ref, c := range h.fake.Seen.Containers() {
				if c.Live() {
					t.Errorf("%s runs without a lease", ref)
				}
				if !c.Lease {
					t.Errorf("%s has no label", ref)
				}
			}
			r := h.expect(a, structs.ContainerRunning, false)
			if !strings.Contains(r.Reason, "could not reach the servers in time") {
				t.Errorf("the pod is %+v", r.Observed)
			}
			h.after(time.Hour)
			h.tally(a, structs.PodInfra, 1, 1, 1)
			h.lease(time.Hour)
			h.full(true, a)
			synctest.Wait()
			h.completed(a, structs.ContainerRunning)
			h.attempt(a, "web", 2)
			h.attempt(a, "side", 2)
			h.tally(a, "prepare", 2, 2, 0)
		})
	}
}

// TestChecksEndWithTheirPlacement: nothing is executed in a container that the agent
// leaves alone.
func TestChecksEndWithTheirPlacement(t *testing.T) {
	for name, c := range map[string]struct {
		leave func(h *host, a structs.Assignment)
		back  bool // the next full answer names the pod as before
	}{
		"quarantine": {func(h *host, a structs.Assignment) {
			h.diverged = true
			h.full(true)
		}, false},
		"unreadable": {func(h *host, a structs.Assignment) {
			a.Unreadable = "of a newer version"
			h.assign(a)
		}, true},
		"older": {func(h *host, a structs.Assignment) {
			a.Epoch = 1
			h.assign(a)
		}, true},
		"removed": {func(h *host, a structs.Assignment) {
			a.Desired, a.Generation = structs.DesiredAbsent, 2
			h.assign(a)
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			inHost(t, func(h *host) {
				execs := h.execs()
				a := wantPod("a", noInit, web(func(c *structs.PodContainer) { c.Liveness = execProbe() }))
				a.Epoch = 2
				h.fake.Outside.AnswerExec(of(a, "web"), 0, "")
				h.upPod(a)
				h.after(time.Minute)
				n := execs(of(a, "web"))
				if n < 5 {
					t.Fatalf("probed %d times", n)
				}
				c.leave(h, a)
				n = execs(of(a, "web"))
				h.after(time.Hour)
				if now := execs(of(a, "web")); now != n {
					t.Errorf("probed %d times more", now-n)
				}
				if !c.back {
					return
				}
				h.full(true, a)
				h.after(time.Minute)
				if now := execs(of(a, "web")); now < n+5 {
					t.Errorf("probed %d times more once it is back", now-n)
				}
				h.attempted(a, "web", 1)
			})
		})
	}
}
