package conductor

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stackforge/magnum/structs"
)

// drain drains a host and settles.
func (h *harness) drain(hostID string, force bool) {
	h.Helper()
	must(h, DrainHost{Caller: root, Ident: hostID, Draining: true, Force: force})
	h.settle()
}

func (h *harness) undrain(hostID string) {
	h.Helper()
	must(h, DrainHost{Caller: root, Ident: hostID})
	h.settle()
}

// twoHosts returns a bay of two hosts with room.
func twoHosts(t *testing.T) *harness {
	h := newHarness(t)
	h.host("a", nil)
	h.host("b", nil)
	h.bay(alice, "bay", 2)
	return h
}

func TestDrainStopsAContainerOnceItsReplacementRuns(t *testing.T) {
	h := twoHosts(t)
	c := h.running(always(func(s *structs.ContainerSpec) { s.Memory = 3 << 30 }))
	h.drain(c.HostID, false)
	moved := h.container(c.ID)
	if moved.HostID == c.HostID || moved.Epoch != 2 {
		t.Fatalf("not moved: %+v", moved)
	}
	is := func(hostID string, epoch uint64, desired structs.Desired) {
		t.Helper()
		if got, ok := h.assignedOn(hostID, c.ID); !ok || got.Epoch != epoch || got.Desired != desired {
			t.Fatalf("host has epoch %d %s, %v; not %d %s", got.Epoch, got.Desired, ok, epoch, desired)
		}
	}
	is(c.HostID, 1, structs.DesiredRunning)
	is(moved.HostID, 2, structs.DesiredRunning)
	for _, host := range []string{c.HostID, moved.HostID} {
		if u := h.reserved(host, 1); u.Memory != 3<<30 {
			t.Errorf("%+v", u)
		}
	}
	h.report(c.ID, structs.Observed{Status: structs.ContainerError, Failed: true, Reason: "no image"})
	h.settle()
	is(c.HostID, 1, structs.DesiredRunning) // the old placement still runs
	h.report(c.ID, running)
	is(c.HostID, 1, structs.DesiredAbsent)
	if now := h.container(c.ID); !now.LeftOn(c.HostID) {
		t.Error("done before the host has reported it")
	}
	h.reportFrom(c.HostID, c.ID, 1, gone)
	if now := h.container(c.ID); now.LeftOn(c.HostID) || len(now.Priors) != 0 || now.Status() != structs.ContainerRunning {
		t.Errorf("%+v", now)
	}
	h.reserved(c.HostID, 0)
}

// checked is a kind of workload that has checks, with reports by which it runs and is ready
// or not.
type checked struct {
	make    func(s *steps) structs.Workload
	now     func(s *steps, id string) structs.Workload
	reports func(s *steps, id string, ready bool)
}

var checkedKinds = map[string]checked{
	"container": {
		make: func(s *steps) structs.Workload {
			return s.create(alice, "", always(func(c *structs.ContainerSpec) { c.Healthcheck = new(structs.Healthcheck) }))
		},
		now: func(s *steps, id string) structs.Workload { return s.container(id) },
		reports: func(s *steps, id string, ready bool) {
			s.report(id, structs.Observed{Status: structs.ContainerRunning,
				Health: map[bool]string{true: "healthy", false: "starting"}[ready]})
			s.follow()
		},
	},
	"pod": {
		make:    func(s *steps) structs.Workload { return s.labelled("a") },
		now:     func(s *steps, id string) structs.Workload { return s.podNow(id) },
		reports: func(s *steps, id string, ready bool) { s.reportPod(id, structs.PartRunning, ready, 0) },
	},
}

// moving has a workload with checks drained away from its host, and returns its ID and the
// host. Its replacement runs and is not ready.
func (k checked) moving(s *steps) (id, from string) {
	s.Helper()
	w := k.make(s)
	id, from = w.Base().ID, w.Place().HostID
	k.reports(s, id, true)
	must(s.harness, DrainHost{Caller: root, Ident: from, Draining: true})
	s.follow()
	k.reports(s, id, false)
	k.runs(s, id, from, structs.DesiredRunning)
	return id, from
}

// runs checks what the host is to do with its earlier placement.
func (k checked) runs(s *steps, id, host string, want structs.Desired) {
	s.Helper()
	if got, ok := s.assignedOn(host, id); !ok || got.Epoch != 1 || got.Desired != want {
		s.Fatalf("host has epoch %d %s, %v; not 1 %s", got.Epoch, got.Desired, ok, want)
	}
}

// TestDrainWaitsForReadiness: the earlier placement goes when the new one is ready, not when
// it runs.
func TestDrainWaitsForReadiness(t *testing.T) {
	for name, k := range checkedKinds {
		t.Run(name, func(t *testing.T) {
			s := newSteps(twoHosts(t))
			id, from := k.moving(s)
			must(s.harness, DrainHost{Caller: root, Ident: from}) // a drain that ends changes nothing for it
			s.follow()
			k.runs(s, id, from, structs.DesiredRunning)
			k.reports(s, id, true)
			k.runs(s, id, from, structs.DesiredAbsent)
			k.reports(s, id, false)
			k.runs(s, id, from, structs.DesiredAbsent)
		})
	}
}

// TestMovesEnd: the earlier placement goes although the new one isn't ready, by EndMoves for
// that very placement and by force.
func TestMovesEnd(t *testing.T) {
	for name, k := range checkedKinds {
		t.Run(name, func(t *testing.T) {
			s := newSteps(twoHosts(t))
			id, from := k.moving(s)
			ref := k.now(s, id).Ref()
			earlier, unknown := ref, ref
			earlier.Epoch, unknown.ID = 1, structs.NewID()
			if n := must(s.harness, EndMoves{Refs: []structs.Ref{earlier, unknown}}); n != 2 {
				t.Errorf("%d of 2 are over", n)
			}
			k.runs(s, id, from, structs.DesiredRunning)
			if n := must(s.harness, EndMoves{Refs: []structs.Ref{unknown, ref}}); n != 2 {
				t.Errorf("%d of 2 are over", n)
			}
			k.runs(s, id, from, structs.DesiredAbsent)
			index := s.store.Index()
			must(s.harness, EndMoves{Refs: []structs.Ref{ref}})
			if s.store.Index() != index {
				t.Error("a move that is over was ended again")
			}
		})
		t.Run(name+" by force", func(t *testing.T) {
			s := newSteps(twoHosts(t))
			id, from := k.moving(s)
			must(s.harness, DrainHost{Caller: root, Ident: from, Draining: true, Force: true})
			s.follow()
			k.runs(s, id, from, structs.DesiredAbsent)
		})
		t.Run(name+" that moves on", func(t *testing.T) {
			s := newSteps(twoHosts(t))
			id, from := k.moving(s)
			third := s.host("c", nil) // takes the place of the lost one
			s.follow()
			must(s.harness, MarkHosts{Marks: []HostMark{{ID: k.now(s, id).Place().HostID, State: structs.HostLost, Reason: "silent"}}})
			s.follow()
			if now := k.now(s, id).Place(); now.HostID != third || now.Epoch != 3 {
				t.Fatalf("%+v", now)
			}
			k.reports(s, id, false)
			k.runs(s, id, from, structs.DesiredRunning)
			k.reports(s, id, true)
			k.runs(s, id, from, structs.DesiredAbsent)
		})
	}
}

func TestStopOfAMovingContainer(t *testing.T) {
	h := twoHosts(t)
	c := h.running(always())
	h.drain(c.HostID, false)
	must(h, ActOnContainer{Caller: alice, Ident: c.ID, Action: ActionStop})
	for _, host := range h.container(c.ID).Hosts() {
		if got, _ := h.assignedOn(host, c.ID); got.Desired == structs.DesiredRunning {
			t.Errorf("it runs on on %s", host)
		}
	}
}

func TestDrainWaitsForContainersThatCantMove(t *testing.T) {
	for name, spec := range map[string]structs.ContainerSpec{
		"policy": {},
		"volume": always(func(s *structs.ContainerSpec) {
			s.Volumes = []structs.Mount{{Type: structs.MountVolume, Name: "v", Target: "/v"}}
		}),
		"no room": always(func(s *structs.ContainerSpec) { s.Constraints = map[string]string{"only": "here"} }),
	} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t)
			h.host("a", map[string]string{"only": "here"})
			h.bay(alice, "bay", 2)
			c := h.running(spec)
			h.host("b", nil)
			h.settle()
			h.drain(c.HostID, false)
			if now := h.container(c.ID); now.HostID != c.HostID || now.Desired != structs.DesiredRunning || now.DrainStop ||
				!now.LeftOn(c.HostID) {
				t.Fatalf("%+v", now)
			}
			h.drain(c.HostID, true)
			now := h.container(c.ID)
			if got, _ := h.assignedOn(c.HostID, c.ID); got.Desired != structs.DesiredStopped || got.Generation != 2 ||
				now.Desired != structs.DesiredRunning {
				t.Fatalf("assigned: %+v", got)
			}
			if !now.LeftOn(c.HostID) {
				t.Error("done before the host has reported it")
			}
			h.report(c.ID, stopped)
			if now := h.container(c.ID); now.LeftOn(c.HostID) || !strings.Contains(now.StatusReason(), "being drained") {
				t.Errorf("%q", now.StatusReason())
			}
			refuse(h, structs.CodeConflict, ActOnContainer{Caller: alice, Ident: c.ID, Action: ActionStart})
			refuse(h, structs.CodeConflict, ActOnContainer{Caller: alice, Ident: c.ID, Action: ActionReboot})
			index := h.store.Index()
			h.settle()
			if h.store.Index() != index {
				t.Error("a second settle writes again")
			}
			h.undrain(c.HostID)
			if got, _ := h.assignedOn(c.HostID, c.ID); got.Desired != structs.DesiredRunning || got.Generation != 3 {
				t.Errorf("assigned: %+v", got)
			}
			if host := h.store.Snapshot().Host(c.HostID); host.DrainForce || host.Draining {
				t.Errorf("%+v", host)
			}
		})
	}
}

// An exclusive container is placed again once its host has reported that it stopped, and
// not before. It makes no difference whether the host keeps running or is lost then.
func TestExclusiveContainerMovesOnceItHasStopped(t *testing.T) {
	for _, kind := range []structs.Exclusive{structs.ExclusiveYes, structs.ExclusiveLease} {
		for _, lost := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, lost %v", kind, lost), func(t *testing.T) {
				h := newHarness(t)
				h.host("a", map[string]string{"only": "here"})
				h.bay(alice, "bay", 2)
				c := h.running(always(func(s *structs.ContainerSpec) {
					s.Exclusive, s.Constraints = kind, map[string]string{"only": "here"}
				}))
				h.drain(c.HostID, false)
				stays := func(when string) {
					t.Helper()
					if now := h.container(c.ID); now.HostID != c.HostID || now.Epoch != 1 || now.Desired != structs.DesiredRunning {
						t.Fatalf("%s: %+v", when, now)
					}
				}
				stays("it runs")
				h.drain(c.HostID, true)
				if got, _ := h.assignedOn(c.HostID, c.ID); got.Desired != structs.DesiredStopped || got.Generation != 2 {
					t.Fatalf("assigned: %+v", got)
				}
				stays("it is to stop")
				h.report(c.ID, stopped)
				if lost {
					h.mark(structs.HostLost, c.HostID)
				}
				h.settle()
				stays("there is no room")
				b := h.host("b", map[string]string{"only": "here"})
				h.settle()
				now := h.container(c.ID)
				if now.HostID != b || now.Epoch != 2 || now.DrainStop || len(now.Priors) != 1 || now.Priors[0].Keep {
					t.Fatalf("not placed recreated: %+v, %q", now, now.StatusReason())
				}
				if got, _ := h.assignedOn(b, c.ID); got.Desired != structs.DesiredRunning {
					t.Errorf("assigned: %+v", got)
				}
			})
		}
	}
}

func TestStopOfAContainerThatADrainHasStopped(t *testing.T) {
	h := twoHosts(t)
	c := h.running(structs.ContainerSpec{})
	h.drain(c.HostID, true)
	h.report(c.ID, stopped)
	must(h, ActOnContainer{Caller: alice, Ident: c.ID, Action: ActionStop})
	h.undrain(c.HostID)
	if got, _ := h.assignedOn(c.HostID, c.ID); got.Desired != structs.DesiredStopped {
		t.Errorf("assigned: %+v", got)
	}
}

func TestDrainedContainerMovesOnceThereIsRoom(t *testing.T) {
	h := newHarness(t)
	a := h.host("a", nil)
	h.bay(alice, "bay", 2)
	c := h.running(always())
	h.drain(a, true)
	h.report(c.ID, stopped)
	b := h.host("b", nil)
	h.settle()
	now := h.container(c.ID)
	if got, _ := h.assignedOn(b, c.ID); now.HostID != b || now.DrainStop || got.Desired != structs.DesiredRunning {
		t.Errorf("%+v, assigned: %+v", now, got)
	}
}

func TestDrainMovesSomeAtATime(t *testing.T) {
	h := newHarness(t)
	a := h.host("a", nil)
	h.bay(alice, "bay", 2)
	for i := range maxMoving + 10 {
		c := must(h, CreateContainer{Caller: alice, Name: fmt.Sprint("c", i), Run: true,
			Spec: always(func(s *structs.ContainerSpec) { s.Image = "i" })})
		h.report(c.ID, running)
	}
	b := h.host("b", nil)
	h.settle()
	h.drain(a, false)
	if got := h.store.Snapshot().Usage(b).Workloads; got != maxMoving {
		t.Fatalf("%d are moving, not %d", got, maxMoving)
	}
	for round := 0; h.store.Snapshot().Usage(a).Workloads > 0; round++ {
		if round > 10 {
			t.Fatal("the drain does not continue")
		}
		for w := range h.store.Snapshot().OnHost(b) {
			c := w.(*structs.Container)
			h.report(c.ID, running)
			if c.PriorOn(a) != nil {
				h.reportFrom(a, c.ID, 1, gone)
			}
		}
	}
}

func TestDrainDeadlines(t *testing.T) {
	h := twoHosts(t)
	c := h.running(structs.ContainerSpec{})
	drain := DrainHost{Caller: root, Ident: c.HostID, Draining: true, Deadline: time.Minute}
	first := must(h, drain)
	index := h.store.Index()
	must(h, drain) // repeated
	if h.store.Index() != index {
		t.Error("draining twice has written something")
	}
	h.clock = h.clock.Add(time.Second)
	drain.Deadline = time.Hour
	second := must(h, drain)
	must(h, ForceDrain{ID: c.HostID, Until: first.DrainUntil}) // of a drain that has ended
	if h.store.Snapshot().Host(c.HostID).DrainForce {
		t.Error("the first deadline counts")
	}
	must(h, ForceDrain{ID: c.HostID, Until: second.DrainUntil})
	if !h.store.Snapshot().Host(c.HostID).DrainForce {
		t.Error("the second deadline does not count")
	}
	must(h, ForceDrain{ID: structs.NewID()})
}
