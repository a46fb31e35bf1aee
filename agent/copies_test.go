package agent

import (
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/backend/backendtest"
	"github.com/stackforge/magnum/structs"
)

// leftAlone fails unless exactly these copies run, and the agent called nothing on them.
func (h *host) leftAlone(ids ...string) {
	h.Helper()
	slices.Sort(ids)
	if got := h.fake.Seen.Copies(); !slices.Equal(got, ids) {
		h.Fatalf("the copies %v run, want %v", got, ids)
	}
	if touched := h.fake.Seen.Touched(); len(touched) != 0 {
		h.Fatalf("copies were touched: %v", touched)
	}
}

// loseJournal restarts the agent without its journal.
func (h *host) loseJournal() {
	h.Helper()
	h.stop()
	if err := os.Remove(h.path); err != nil {
		h.Fatal(err)
	}
	h.start()
}

// TestCopyIsLeftAlone: a copy is never started, stopped, removed or taken for the
// container, whatever happens to the container, the agent and its journal.
func TestCopyIsLeftAlone(t *testing.T) {
	for name, inherited := range map[string]bool{"by commit and run": true, "with labels by hand": false} {
		for what, restart := range map[string]func(*host){
			"the agent runs":      func(*host) {},
			"the agent restarts":  (*host).restart,
			"the engine restarts": func(h *host) { h.fake.Outside.Down(); h.after(time.Second); h.fake.Outside.Up(); h.after(time.Minute) },
		} {
			t.Run(name+", "+what, func(t *testing.T) {
				inHost(t, func(h *host) {
					a, b := always(want("a", 1, structs.DesiredRunning)), want("b", 1, structs.DesiredRunning)
					h.assign(a, b)
					h.completed(a, structs.ContainerRunning)
					first := h.completed(b, structs.ContainerRunning)
					ofA, ofB := h.fake.Outside.Copy(ref(a), inherited), h.fake.Outside.Copy(ref(b), inherited)
					h.after(time.Second)
					restart(h)
					full := func(as ...structs.Assignment) {
						h.Helper()
						h.full(true, as...)
						h.after(time.Minute)
						if what != "the engine restarts" { // it ends copies, too
							h.leftAlone(ofA, ofB)
						} else if len(h.fake.Seen.Touched()) != 0 {
							h.Fatalf("touched: %v", h.fake.Seen.Touched())
						}
					}
					full(a, b)
					if first.EngineID == "" || h.last("b").EngineID != first.EngineID {
						t.Errorf("reported engine id %q, and first %q", h.last("b").EngineID, first.EngineID)
					}
					// Stop and start.
					b = next(b, structs.DesiredStopped)
					full(a, b)
					h.completed(b, structs.ContainerStopped)
					b = next(b, structs.DesiredRunning)
					full(a, b)
					h.completed(b, structs.ContainerRunning)
					// The original is removed by hand: the copy isn't it.
					h.fake.Outside.Remove(ref(b))
					h.after(time.Second)
					if got := h.last("b"); got.Status != structs.ContainerGone {
						t.Errorf("with the original gone it is reported %+v", got)
					}
					restart(h)
					full(a, b)
					if got := h.last("b"); got.Status != structs.ContainerGone {
						t.Errorf("then it is reported %+v", got)
					}
					// The container is placed again beside the copy of its earlier epoch.
					b.Epoch, b.Observed, b.EngineID = 2, 0, ""
					full(a, b)
					h.completed(b, structs.ContainerRunning)
					// The container is deleted, and the servers forget it.
					a, b = next(a, structs.DesiredAbsent), next(b, structs.DesiredAbsent)
					full(a, b)
					full()
					restart(h)
					full()
					full()
					if n := len(h.fake.Seen.Containers()); n != 0 {
						t.Errorf("%d containers are left", n)
					}
					// A container with the same UUID, which a client may choose.
					again := want("a", 10, structs.DesiredRunning)
					full(again)
					h.completed(again, structs.ContainerRunning)
					restart(h)
					full(again)
					full()
					if n := len(h.fake.Seen.Containers()); n != 0 {
						t.Errorf("%d containers are left of the second life", n)
					}
					// Nothing is kept about removed copies.
					h.fake.Outside.RemoveCopy(ofA)
					h.fake.Outside.RemoveCopy(ofB)
					h.after(time.Second)
					h.full(true)
					if refs := h.rec.journal.refs(); len(refs) != 0 || len(h.rec.units.all) != 0 {
						t.Errorf("the journal keeps %v, and %d units are left", refs, len(h.rec.units.all))
					}
				})
			})
		}
	}
}

// TestServersRowProvesWhichIsTheCopy: the engine ID in the servers' row tells the
// original from a copy. Without it, the age does, or whether the labels come from the
// image.
func TestServersRowProvesWhichIsTheCopy(t *testing.T) {
	for name, c := range map[string]struct {
		row, inherited, original bool // what there is
	}{
		"the row knows": {true, false, true},
		"the row knows, and the original is gone": {true, false, false},
		"nobody knows: the oldest":                {false, false, true},
		"nobody knows: an image's labels":         {false, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			inHost(t, func(h *host) {
				a := want("a", 1, structs.DesiredRunning)
				h.assign(a)
				seen := h.completed(a, structs.ContainerRunning)
				h.after(time.Second)
				copied := h.fake.Outside.Copy(ref(a), c.inherited)
				h.stop()
				if err := os.Remove(h.path); err != nil {
					t.Fatal(err)
				}
				if !c.original {
					h.fake.Outside.Remove(ref(a))
				}
				h.start()
				a.Observed = 1
				if c.row {
					a.EngineID = seen.EngineID
				}
				h.full(true, a)
				h.after(time.Minute)
				status := structs.ContainerRunning
				if !c.original {
					status = structs.ContainerGone
				}
				if got := h.last("a"); got.Status != status || c.original && got.EngineID != seen.EngineID {
					t.Errorf("reported %+v", got)
				}
				h.leftAlone(copied)
				a = next(a, structs.DesiredAbsent)
				h.full(true, a)
				h.after(time.Minute)
				h.leftAlone(copied)
				if n := len(h.fake.Seen.Containers()); n != 0 {
					t.Errorf("%d containers are left", n)
				}
			})
		})
	}
}

// TestCopyOfAnUnknownContainerIsLeftAlone: labels from an image make no orphan.
func TestCopyOfAnUnknownContainerIsLeftAlone(t *testing.T) {
	inHost(t, func(h *host) {
		a := want("a", 1, structs.DesiredRunning)
		h.assign(a)
		h.completed(a, structs.ContainerRunning)
		copied := h.fake.Outside.Copy(ref(a), true)
		h.assign(next(a, structs.DesiredAbsent))
		h.after(time.Second)
		h.loseJournal()
		h.full(true)
		h.after(time.Minute)
		h.full(true)
		h.after(time.Minute)
		h.leftAlone(copied)
		// An unknown container that magnum has created is removed.
		h.fake.Outside.Add(backend.CreateRequest{Owner: h.owner, Ref: structs.ContainerRef("b", 1), Spec: backendtest.Sleeper()})
		h.after(time.Second)
		h.full(true)
		h.after(time.Minute)
		if n := len(h.fake.Seen.Containers()); n != 0 {
			t.Errorf("%d containers are left", n)
		}
		h.leftAlone(copied)
	})
}

// TestCopiesAreReported: copies are reported, a limited number of them by name, and
// again after each registration.
func TestCopiesAreReported(t *testing.T) {
	s, fake, dir := newFakeServer(t), fakeEngine("E1"), t.TempDir()
	a := want("a", 1, structs.DesiredRunning)
	s.assign(a)
	r := runAgent(t, dir, fake, nil, s)
	s.is("a", structs.ContainerRunning)
	reported := func() (last *structs.Copies) {
		for _, report := range s.reports {
			if report.Copies != nil {
				last = report.Copies
			}
		}
		return last
	}
	one := fake.Outside.Copy(ref(a), true)
	s.eventually("the copy is reported", func() bool {
		c := reported()
		return c != nil && c.Count == 1 && len(c.First) == 1 &&
			c.First[0] == structs.Copy{EngineID: one, Name: "copy-" + one[1:], ContainerID: "a", Epoch: 1}
	})
	var more []string
	for range structs.MaxCopies + 5 {
		more = append(more, fake.Outside.Copy(ref(a), true))
	}
	s.eventually("all are counted", func() bool {
		c := reported()
		return c.Count == structs.MaxCopies+6 &&
			len(c.First) == structs.MaxCopies
	})
	s.change(func() { s.registration += 5; s.reports = nil })
	s.eventually("they are reported again", func() bool { c := reported(); return c != nil && c.Count == structs.MaxCopies+6 })
	for _, id := range append(more, one) {
		fake.Outside.RemoveCopy(id)
	}
	s.eventually("none is left", func() bool { return reported().Count == 0 })
	r.stop()
	if c := fake.Seen.Touched(); len(c) != 0 {
		t.Errorf("touched: %v", c)
	}
}

// TestStopOfTheAgentLeavesCopies: RemoveOnStop removes only magnum's containers.
func TestStopOfTheAgentLeavesCopies(t *testing.T) {
	s, fake := newFakeServer(t), fakeEngine("E1")
	a := want("a", 1, structs.DesiredRunning)
	s.assign(a)
	r := runAgent(t, t.TempDir(), fake, func(c *Config) { c.RemoveOnStop = true }, s)
	s.is("a", structs.ContainerRunning)
	copies := []string{fake.Outside.Copy(ref(a), true), fake.Outside.Copy(ref(a), false)}
	slices.Sort(copies)
	r.stop()
	if len(fake.Seen.Containers()) != 0 || !slices.Equal(fake.Seen.Copies(), copies) {
		t.Errorf("left are %v and the copies %v of %v", fake.Seen.Containers(), fake.Seen.Copies(), copies)
	}
}

// TestEngineIDIsKeptWhileThereAreCopies: a forgotten record keeps its proof while
// copies exist.
func TestEngineIDIsKeptWhileThereAreCopies(t *testing.T) {
	j, _, err := openJournal(t.TempDir() + "/journal")
	if err != nil {
		t.Fatal(err)
	}
	defer j.close()
	for i, copied := range []bool{false, true} {
		id := strconv.Itoa(i)
		if err := j.put(record{Ref: structs.ContainerRef(id, 1), Generation: 5, Created: true, EngineID: "e", Copied: copied}); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := j.forget(structs.ContainerRef(id, 1)); err != nil {
				t.Fatal(err)
			}
		}
		r, ok := j.record(structs.ContainerRef(id, 1))
		if ok != copied || ok && (r.Created || r.Generation != 0 || r.EngineID != "e") {
			t.Errorf("copied %v: %+v, %v", copied, r, ok)
		}
	}
}
