package agent

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/backend/backendtest"
	"github.com/stackforge/magnum/agent/lease"
	"github.com/stackforge/magnum/structs"
)

// TestLeaseEndsWithoutAJournal: an agent without a journal that gets no answer ends
// leased containers when the kept lease ends, and nothing earlier.
func TestLeaseEndsWithoutAJournal(t *testing.T) {
	for name, left := range map[string]time.Duration{"no lease is kept": 0, "it ends soon": 300 * time.Millisecond, "it lasts": time.Hour} {
		t.Run(name, func(t *testing.T) {
			s, fake, dir := newFakeServer(t), backendtest.NewFake(), t.TempDir()
			s.lease = 2 * time.Second
			r := runAgent(t, dir, fake, nil, s)
			a, b := exclusive("a", 1, structs.ExclusiveLease, structs.RestartAlways), exclusive("b", 1, structs.ExclusiveYes,
				structs.RestartAlways)
			s.assign(a, b)
			s.is("a", structs.ContainerRunning)
			s.is("b", structs.ContainerRunning)
			r.stop()

			if err := os.Remove(filepath.Join(dir, fileJournal)); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(dir, fileLease)
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
			if left > 0 {
				if err := lease.NewFile(file).Write(left, 100*time.Millisecond); err != nil {
					t.Fatal(err)
				}
			}
			asked, gate := make(chan struct{}, 100), make(chan struct{})
			answer := sync.OnceFunc(func() { close(gate) })
			t.Cleanup(answer)
			s.mu.Lock()
			s.refuse = func(string) int {
				asked <- struct{}{}
				<-gate
				return http.StatusServiceUnavailable
			}
			s.mu.Unlock()
			r = runAgent(t, dir, fake, nil, s)
			<-asked // the agent registers, and gets no answer
			if left < time.Hour {
				s.eventually("it has stopped", func() bool { return fake.Seen.Containers()[ref(a)].State == backend.StateExited })
				if signals := fake.Seen.Signals(ref(a)); !slices.Equal(signals, []string{"SIGTERM"}) {
					t.Errorf("it was sent %v", signals)
				}
			}
			s.mu.Lock()
			s.refuse, s.reported = nil, map[string]structs.ContainerReport{}
			s.mu.Unlock()
			answer()
			s.is("a", structs.ContainerRunning)
			s.is("b", structs.ContainerRunning)
			starts, stops := 2, 1
			if left == time.Hour {
				starts, stops = 1, 0
			}
			if got := fake.Seen.Starts(ref(a)); got != starts || fake.Seen.Stops(ref(a)) != stops {
				t.Errorf("started %d and stopped %d times, want %d and %d", got, fake.Seen.Stops(ref(a)), starts, stops)
			}
			if fake.Seen.Starts(ref(b)) != 1 || fake.Seen.Stops(ref(b)) != 0 {
				t.Error("the one without a lease has not gone on")
			}
			r.stop()
		})
	}
}

// lose kills the agent, loses its journal, and starts it again.
func (h *host) lose() {
	h.Helper()
	h.stop()
	if err := os.Remove(h.path); err != nil {
		h.Fatal(err)
	}
	h.start()
}

// watch runs the guard of an agent's start until the guard ends.
func (h *host) watch(left time.Duration) {
	h.Helper()
	file := lease.NewFile(filepath.Join(h.TempDir(), "lease"))
	if err := file.Write(left, time.Second); err != nil {
		h.Fatal(err)
	}
	owner := backend.Owner{ClusterID: h.rec.journal.position().ClusterID, HostID: h.owner.HostID}
	newGuard(h.fake, owner, h.rec.journal, file, hclog.NewNullLogger()).Run(context.Background())
}

// TestGuardEndsLeasedByJournalOrLabel: the journal decides if it has a record, else the
// label does.
func TestGuardEndsLeasedByJournalOrLabel(t *testing.T) {
	for name, c := range map[string]struct{ journal, label, ends bool }{
		"both":                           {true, true, true},
		"of an earlier build":            {true, false, true},
		"the journal is lost":            {false, true, true},
		"of an earlier build, and lost":  {false, false, false},
		"the journal has it without one": {true, true, false},
	} {
		inHost(t, func(h *host) {
			a := exclusive("a", 1, structs.ExclusiveLease, structs.RestartAlways)
			h.assign(a)
			h.lease(time.Hour)
			h.full(true, a)
			if !c.label {
				h.fake.Outside.Unlabel(ref(a))
			}
			if !c.journal {
				h.lose()
			} else if !c.ends {
				rec, _ := h.rec.journal.record(ref(a))
				rec.Lease = false
				if err := h.rec.journal.put(rec); err != nil {
					t.Fatal(err)
				}
				h.restart()
			} else {
				h.restart()
			}
			h.watch(time.Minute)
			if h.runs(a) == c.ends {
				t.Errorf("%s: it runs: %v", name, h.runs(a))
			}
		})
	}
}

// TestGuardLeavesOtherHostsAlone: without a journal the guard leaves other hosts'
// containers alone.
func TestGuardLeavesOtherHostsAlone(t *testing.T) {
	inHost(t, func(h *host) {
		a := exclusive("a", 1, structs.ExclusiveLease, structs.RestartAlways)
		h.assign(a)
		h.lease(time.Hour)
		h.full(true, a)
		other := structs.ContainerRef("other", 1)
		h.fake.Outside.Add(backend.CreateRequest{Owner: backend.Owner{ClusterID: h.owner.ClusterID, HostID: "h2"}, Ref: other,
			Spec: a.Spec})
		h.fake.Outside.Start(other)
		h.after(time.Second)
		h.fake.Outside.Copy(ref(a), true)
		h.fake.Outside.Copy(ref(a), false)
		h.lose()
		h.watch(time.Minute)
		if h.runs(a) || h.fake.Seen.Containers()[other].State != backend.StateRunning || len(h.fake.Seen.Copies()) != 2 ||
			len(h.fake.Seen.Touched()) != 0 {
			t.Errorf("its own runs: %v; another host's is %s; of copies run %v, touched %v", h.runs(a),
				h.fake.Seen.Containers()[other].State, h.fake.Seen.Copies(), h.fake.Seen.Touched())
		}
	})
}

// TestContainerStoppedByTheGuardStartsAgain: and what the servers know to be done is
// not done again.
func TestContainerStoppedByTheGuardStartsAgain(t *testing.T) {
	inHost(t, func(h *host) {
		a := exclusive("a", 1, structs.ExclusiveLease, structs.RestartNo)
		h.assign(a)
		h.lease(time.Hour)
		h.full(true, a)
		a.Generation, a.KillGeneration, a.Signal = 2, 2, "SIGHUP"
		h.assign(a)
		if signals := h.fake.Seen.Signals(ref(a)); !slices.Equal(signals, []string{"SIGHUP"}) {
			t.Fatalf("it was sent %v", signals)
		}
		h.lose()
		h.watch(0)
		if h.runs(a) {
			t.Fatal("it runs on")
		}
		a.Observed = 2
		h.lease(time.Hour)
		h.full(true, a)
		h.completed(a, structs.ContainerRunning)
		if signals := h.fake.Seen.Signals(ref(a)); !slices.Equal(signals, []string{"SIGHUP", "SIGTERM"}) {
			t.Errorf("it was sent %v", signals)
		}
		h.counts(a, 2, 1)
	})
}

// TestUnassignedContainerStopsWithTheLease: so does a container that is to be removed,
// whose own stop timeout may be longer than the servers wait.
func TestUnassignedContainerStopsWithTheLease(t *testing.T) {
	for name, next := range map[string]func(*host, structs.Assignment){
		"not named":           func(h *host, _ structs.Assignment) { h.full(false) },
		"unreadable":          func(h *host, a structs.Assignment) { a.Unreadable, a.Spec = "no", nil; h.assign(a) },
		"of an unknown epoch": func(h *host, a structs.Assignment) { a.Epoch = 0; h.assign(a) },
	} {
		inHost(t, func(h *host) {
			a := exclusive("a", 1, structs.ExclusiveLease, structs.RestartAlways)
			h.assign(a)
			h.lease(time.Hour)
			h.full(true, a)
			h.lose()
			h.lease(7 * time.Second)
			next(h, a)
			if !h.runs(a) || !h.rec.exclusive.pollState().needsLease {
				t.Fatalf("%s: under its lease it runs: %v, the lease is asked for: %v", name, h.runs(a),
					h.rec.exclusive.pollState().needsLease)
			}
			h.after(8100 * time.Millisecond)
			if h.runs(a) {
				t.Errorf("%s: it runs on without a lease", name)
			}
			if signals := h.fake.Seen.Signals(ref(a)); !slices.Equal(signals, []string{"SIGTERM"}) {
				t.Errorf("%s: it was sent %v", name, signals)
			}
		})
	}
	inHost(t, func(h *host) {
		a := exclusive("a", 1, structs.ExclusiveLease, structs.RestartAlways)
		a.StopTimeout = 600
		h.assign(a)
		h.lease(time.Hour)
		h.full(true, a)
		h.lose()
		gone := a
		gone.Desired, gone.Generation = structs.DesiredAbsent, 2
		h.assign(gone) // the host has no lease
		if signals := h.fake.Seen.Signals(ref(a)); h.exists(a) || h.fake.Seen.Stops(ref(a)) != 1 || len(signals) != 0 {
			t.Errorf("it is there: %v; it was sent %v", h.exists(a), signals)
		}
	})
}
