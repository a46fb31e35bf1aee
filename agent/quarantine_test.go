package agent

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/backend/backendtest"
	"github.com/stackforge/magnum/structs"
)

// theirs returns an assignment of a container with a UUID, for servers that check it.
func theirs(name string) structs.Assignment {
	a := want(structs.NewID(), 1, structs.DesiredRunning)
	a.Name = name
	return a
}

func refOf(a structs.Assignment) structs.QuarantineRef {
	return structs.QuarantineRefOf(a.Ref())
}

// otherHistory makes the server one whose older data was restored: it doesn't know its
// agents' lineage, and is behind their position.
func (s *fakeServer) otherHistory(known ...structs.Assignment) {
	s.change(func() {
		old := s.lineage
		s.lineage, s.index = structs.NewID(), 5
		s.diverged = func(f structs.Following) bool { return f.Lineage == old }
		clear(s.want)
		clear(s.quarantine)
		for _, a := range known {
			s.want[a.ContainerID], s.at[a.ContainerID] = a, s.index
		}
	})
}

// TestServersWithOlderDataRemoveNothing: an agent that has followed another history
// puts unknown containers into quarantine and reports them. After that, containers that
// the servers no longer name are removed as usual.
func TestServersWithOlderDataRemoveNothing(t *testing.T) {
	for name, restart := range map[string]bool{"while the agent runs": false, "while the agent is down": true} {
		t.Run(name, func(t *testing.T) {
			s, fake, dir := newFakeServer(t), backendtest.NewFake(), t.TempDir()
			r := runAgent(t, dir, fake, nil, s)
			a, b := theirs("a"), theirs("b")
			s.assign(a, b)
			s.is(a.ContainerID, structs.ContainerRunning)
			s.is(b.ContainerID, structs.ContainerRunning)
			if restart {
				r.stop()
				s.otherHistory(a)
				r = runAgent(t, dir, fake, nil, s)
			} else {
				s.otherHistory(a)
			}
			s.eventually("b is in quarantine, and nothing else", func() bool {
				k := s.quarantine[refOf(b)]
				return len(s.quarantine) == 1 && k.SpecHash == backend.Hash(b.Spec) && k.State == string(backend.StateRunning) && !s.pending
			})
			if name := s.quarantine[refOf(b)].Name; !restart && name != "b" {
				t.Errorf("its name is %q", name)
			}
			if fake.Seen.Stops(ref(a))+fake.Seen.Stops(ref(b)) > 0 || len(fake.Seen.Containers()) != 2 {
				t.Errorf("touched: %v", fake.Seen.Containers())
			}
			// Later faults leave no orphans.
			c := theirs("c")
			s.assign(c)
			s.is(c.ContainerID, structs.ContainerRunning)
			r.stop()
			s.change(func() { delete(s.want, c.ContainerID) })
			r = runAgent(t, dir, fake, nil, s)
			s.eventually("what is forgotten afterwards goes", func() bool { return len(fake.Seen.Containers()) == 2 })
			if fake.Seen.Stops(ref(b)) != 0 {
				t.Error("what is in quarantine was stopped")
			}

			s.decide(refOf(b), structs.AdoptionRemove)
			s.eventually("it is removed, and the quarantine is empty",
				func() bool { return len(fake.Seen.Containers()) == 1 && len(s.quarantine) == 0 })
			if fake.Seen.Stops(ref(a)) != 0 {
				t.Error("a was stopped")
			}
			r.stop()
		})
	}
}

// TestGenerationsOfAnotherHistoryAreNotDone: generations that were carried out in the
// other history don't count in this one, although the numbers are the same.
func TestGenerationsOfAnotherHistoryAreNotDone(t *testing.T) {
	s, fake := newFakeServer(t), backendtest.NewFake()
	r := runAgent(t, t.TempDir(), fake, nil, s)
	saved := theirs("a")
	s.assign(saved)
	s.is(saved.ContainerID, structs.ContainerRunning)
	a := saved
	for range 3 {
		a = next(next(a, structs.DesiredStopped), structs.DesiredPaused)
		a = next(a, structs.DesiredRunning)
	}
	s.assign(a)
	s.eventually("the last generation is reported", func() bool { return s.reported[a.ContainerID].Generation == a.Generation })
	s.otherHistory(saved)
	s.eventually("all is settled", func() bool { return !s.pending && s.reported[a.ContainerID].Generation == saved.Generation })
	starts := fake.Seen.Starts(ref(saved))
	stopped := next(saved, structs.DesiredStopped)
	s.assign(stopped)
	s.is(a.ContainerID, structs.ContainerStopped)
	again := next(stopped, structs.DesiredRunning)
	s.assign(again)
	s.eventually("it is started", func() bool {
		reported := s.reported[a.ContainerID]
		return reported.Status == structs.ContainerRunning && reported.Generation == again.Generation
	})
	if n := fake.Seen.Starts(ref(saved)); n != starts+1 {
		t.Errorf("started %d times, and %d before", n, starts)
	}
	r.stop()
}

// TestQuarantineIsKept: an operator's decision takes a container out of quarantine
// without a restart of its process. Until then the agent leaves it alone, although the
// servers name it.
func TestQuarantineIsKept(t *testing.T) {
	s, fake := newFakeServer(t), backendtest.NewFake()
	r := runAgent(t, t.TempDir(), fake, nil, s)
	a := theirs("a")
	s.assign(a)
	s.is(a.ContainerID, structs.ContainerRunning)
	s.otherHistory()
	s.eventually("it is in quarantine", func() bool { return s.quarantine[refOf(a)].SpecHash != "" })
	s.change(func() { clear(s.reported) })
	stopped := next(a, structs.DesiredStopped)
	s.assign(stopped)
	s.eventually("the servers hear why nothing is done",
		func() bool { return s.reported[a.ContainerID].Failed && s.reported[a.ContainerID].Reason != "" })
	if fake.Seen.Stops(ref(a)) != 0 {
		t.Fatal("what is in quarantine was stopped")
	}
	s.assign(next(stopped, structs.DesiredRunning))
	s.decide(refOf(a), structs.AdoptionKeep)
	s.eventually("it is the cluster's again", func() bool {
		reported := s.reported[a.ContainerID]
		return len(s.quarantine) == 0 && reported.Status == structs.ContainerRunning && !reported.Failed
	})
	if fake.Seen.Starts(ref(a)) != 1 || fake.Seen.Stops(ref(a)) != 0 {
		t.Errorf("started %d and stopped %d times", fake.Seen.Starts(ref(a)), fake.Seen.Stops(ref(a)))
	}
	r.stop()
}

// TestLostJournalTakesTheQuarantineFromTheServers: no container in quarantine is
// removed, whether the journal is lost or damaged, or was lost before it had the whole
// quarantine.
func TestLostJournalTakesTheQuarantineFromTheServers(t *testing.T) {
	for name, lose := range map[string]func(path string) error{
		"gone":  os.Remove,
		"empty": func(path string) error { return os.Truncate(path, 0) },
		"one line damaged": func(path string) error {
			b, err := os.ReadFile(path)
			for i := range b {
				if i == 0 || b[i-1] == '\n' {
					b[i] = 'x' // damage in all lines is the worst case
				}
			}
			return firstError(err, os.WriteFile(path, b, 0o600))
		},
		"gone before it was reported": os.Remove,
	} {
		t.Run(name, func(t *testing.T) {
			s, fake, dir := newFakeServer(t), backendtest.NewFake(), t.TempDir()
			r := runAgent(t, dir, fake, nil, s)
			a := theirs("a")
			s.assign(a)
			s.is(a.ContainerID, structs.ContainerRunning)
			s.otherHistory()
			s.eventually("it is in quarantine", func() bool { return !s.pending && s.quarantine[refOf(a)].SpecHash != "" })
			r.stop()
			if err := lose(filepath.Join(dir, fileJournal)); err != nil {
				t.Fatal(err)
			}
			if name == "gone before it was reported" {
				s.change(func() { clear(s.quarantine); s.pending = true })
			}
			s.mu.Lock()
			polls := len(s.polls)
			s.mu.Unlock()
			r = runAgent(t, dir, fake, nil, s)
			s.eventually("it has had its answer", func() bool { return len(s.polls) > polls+2 })
			s.eventually("it is in quarantine still", func() bool { return !s.pending && len(s.quarantine) == 1 })
			if fake.Seen.Stops(ref(a)) != 0 || len(fake.Seen.Containers()) != 1 {
				t.Errorf("touched: %v", fake.Seen.Containers())
			}
			// A container that somebody removes by hand leaves the quarantine.
			fake.Outside.Remove(ref(a))
			s.eventually("the quarantine is empty", func() bool { return len(s.quarantine) == 0 })
			r.stop()
		})
	}
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// TestAgentWithoutALineage: an agent that has followed only servers without lineages
// removes unknown containers as usual.
func TestAgentWithoutALineage(t *testing.T) {
	s, fake, dir := newFakeServer(t), backendtest.NewFake(), t.TempDir()
	s.lineage = ""
	r := runAgent(t, dir, fake, nil, s)
	a := theirs("a")
	s.assign(a)
	s.is(a.ContainerID, structs.ContainerRunning)
	r.stop()
	s.change(func() { clear(s.want); s.lineage = structs.NewID() })
	r = runAgent(t, dir, fake, nil, s)
	s.eventually("what the servers have forgotten goes", func() bool { return len(fake.Seen.Containers()) == 0 })
	r.stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	if first, last := s.registers[0].Follows, s.registers[len(s.registers)-1].Follows; first.Lineage != "" || last.Lineage != "" ||
		last.Index == 0 {
		t.Errorf("it has shown %+v and then %+v", first, last)
	}
}

// TestQuarantineWaitsForTheEngine: nothing is judged before the engine is listed. A
// later answer then judges as one of another history.
func TestQuarantineWaitsForTheEngine(t *testing.T) {
	inHost(t, func(h *host) {
		a := want("a", 1, structs.DesiredRunning)
		h.assign(a)
		h.counts(a, 1, 0)
		h.stop()
		h.fake.Outside.Down()
		h.start()
		h.diverged = true
		h.full(true)
		if !h.diverged {
			t.Fatal("it was judged before the engine had reported what it has")
		}
		h.fake.Outside.Up()
		h.after(10 * time.Second)
		h.full(true)
		if h.diverged || !h.exists(a) || len(h.rec.journal.allKept()) != 1 {
			t.Fatalf("diverged %v, kept %v", h.diverged, h.rec.journal.allKept())
		}
		h.restart()
		h.full(true)
		h.full(true)
		if h.counts(a, 1, 0); !h.exists(a) {
			t.Fatal("what is in quarantine was removed after a restart")
		}
		// A newer placement than the servers name is of the other history, too.
		b := want("b", 1, structs.DesiredRunning)
		b.Epoch = 3
		h.assign(b)
		h.diverged = true
		older := b
		older.Epoch = 2
		h.full(true, older)
		if _, ok := h.rec.journal.quarantined(ref(b)); !ok || !h.exists(b) || h.exists(older) {
			t.Fatalf("kept %v, containers %v", h.rec.journal.allKept(), h.fake.Seen.Containers())
		}
	})
}
