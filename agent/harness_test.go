package agent

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/backend/backendtest"
	"github.com/stackforge/magnum/structs"
)

// host is a reconciler on an engine in memory, with what a server remembers of its
// reports. It runs inside a synctest bubble.
type host struct {
	*testing.T
	fake  *backendtest.Fake
	path  string // of the journal
	owner backend.Owner

	rec    *reconciler
	cancel context.CancelFunc
	ended  chan error

	mu             sync.Mutex
	reported       map[string]structs.ContainerReport
	history        []structs.ContainerReport
	askedFor       int  // the number of full answers that were asked for
	diverged       bool // the next full answers are of another history, until one is judged
	rejectsReports bool // reports are not taken
	crashAt        int  // the agent dies at this seam; 0: never
	seams          int
	dead           bool
	noRoom         bool // the host has reported that it has no room for another project's network

	sameEngine func(context.Context) error // of the next start; may be nil
}

// inHost runs a test in a bubble with a host whose agent runs.
func inHost(t *testing.T, test func(*host)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := &host{
			T: t, fake: backendtest.NewFake(), path: filepath.Join(t.TempDir(), "journal"),
			owner: backend.Owner{ClusterID: "c1", HostID: "h1"}, reported: make(map[string]structs.ContainerReport),
		}
		h.fake.Fault = h.seam
		h.start()
		defer func() { h.stop() }()
		test(h)
	})
}

var errDead = errors.New("the agent is dead")

// seam kills the agent at the instant that the test has chosen. Nothing that the agent does
// afterwards has an effect.
func (h *host) seam(op string, ref structs.Ref) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seams++
	if h.crashAt > 0 && h.seams >= h.crashAt && !h.dead {
		h.dead = true
		_ = h.rec.journal.close()
	}
	if h.dead {
		return errDead
	}
	return nil
}

func (h *host) start() {
	h.Helper()
	j, damaged, err := openJournal(h.path)
	if err != nil || damaged > 0 {
		h.Fatalf("journal: %v, %d damaged lines", err, damaged)
	}
	var ctx context.Context
	ctx, h.cancel = context.WithCancel(context.Background())
	h.mu.Lock()
	h.dead, h.crashAt, h.seams = false, 0, 0
	h.rec = newReconciler(h.fake, h.owner, j, h, func() { h.mu.Lock(); h.askedFor++; h.mu.Unlock() }, hclog.NewNullLogger())
	h.rec.onJudged = func() { h.diverged = false }
	h.rec.sameEngine = h.sameEngine
	h.rec.kinds[kindPair] = pairParts
	h.mu.Unlock()
	h.ended = make(chan error, 1)
	go func() { h.ended <- h.rec.run(ctx) }()
	synctest.Wait()
}

// stop ends the agent, as kill -9 does if the agent is dead already.
func (h *host) stop() {
	h.Helper()
	h.cancel()
	if err := <-h.ended; err != nil {
		h.Fatalf("run: %v", err)
	}
	_ = h.rec.journal.close()
}

// restart ends the agent, as kill -9 does between two actions, and starts it.
func (h *host) restart() { h.Helper(); h.stop(); h.start() }

func (h *host) setNetworksFull(full bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.noRoom = full
}

// observe takes the reports, as a server does.
func (h *host) observe(of report, taken func()) {
	r := overWire(h.T, of.wire())
	h.mu.Lock()
	if h.dead || h.rejectsReports {
		h.mu.Unlock()
		return
	}
	if old, ok := h.reported[r.Ref().ID]; ok && r.Generation < old.Generation && r.Epoch == old.Epoch {
		h.Errorf("generation went back from %d to %d", old.Generation, r.Generation)
	}
	for _, p := range r.Parts {
		for _, s := range []structs.PartState{p.State, p.Last} {
			if s.State == structs.PartTerminated && s.ExitCode == nil {
				h.Errorf("%s has ended without an exit code: %+v", p.Part, s)
			}
		}
	}
	h.reported[r.Ref().ID] = r
	h.history = append(h.history, r)
	h.mu.Unlock()
	if taken != nil {
		go taken()
	}
}

func (h *host) forget(structs.Ref) {}

// assign sends an incremental answer and waits until all goroutines are idle.
func (h *host) assign(as ...structs.Assignment) {
	h.Helper()
	h.rec.apply(&structs.Work{Assignments: as}, false, pollState{})
	synctest.Wait()
}

// full sends a full answer.
func (h *host) full(confirmed bool, as ...structs.Assignment) {
	h.Helper()
	h.rec.apply(&structs.Work{Full: true, Confirmed: confirmed, Assignments: as}, h.diverged, h.rec.exclusive.pollState())
	synctest.Wait()
}

// want returns an assignment whose process sleeps.
func want(id string, gen uint64, d structs.Desired) structs.Assignment {
	start := uint64(0)
	if d == structs.DesiredRunning {
		start = gen
	}
	return structs.Assignment{StartGeneration: start, ContainerID: id, ProjectID: "p", Name: id, Epoch: 1, Generation: gen, Desired: d,
		StopTimeout: 10, Spec: backendtest.Sleeper()}
}

func ref(a structs.Assignment) structs.Ref { return a.Ref() }

// kindPair is a kind of workload that only tests know: two containers with the assignment's
// spec.
const kindPair structs.WorkloadKind = "pair"

func pairParts(a *structs.Assignment) []part { return []part{{"left", a.Spec}, {"right", a.Spec}} }

// wantKind is want for a workload of any kind.
func wantKind(kind structs.WorkloadKind, id string, gen uint64, d structs.Desired) structs.Assignment {
	a := want(id, gen, d)
	if kind != structs.WorkloadContainer {
		a.Kind, a.ID, a.ContainerID = kind, id, ""
	}
	return a
}

// partRefs returns the references of the engine's containers of a workload.
func partRefs(a structs.Assignment) []structs.Ref {
	whole := a.Ref()
	if whole.Kind == structs.WorkloadContainer {
		return []structs.Ref{whole}
	}
	left, right := whole, whole
	left.Part, right.Part = "left", "right"
	return []structs.Ref{left, right}
}

// expect fails unless the last report has this epoch, status and failure.
func (h *host) expect(a structs.Assignment, status structs.ContainerStatus, failed bool) structs.ContainerReport {
	h.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.reported[a.Ref().ID]
	if r.Status != status || r.Failed != failed || r.Epoch != a.Epoch {
		h.Fatalf("reported %+v, want epoch %d %s failed %v", r, a.Epoch, status, failed)
	}
	return r
}

// completed is expect with the assignment's generation carried out.
func (h *host) completed(a structs.Assignment, status structs.ContainerStatus) structs.ContainerReport {
	h.Helper()
	r := h.expect(a, status, false)
	if r.Generation != a.Generation {
		h.Fatalf("generation reported is %d, want %d", r.Generation, a.Generation)
	}
	return r
}

// counts fails unless the container was started and stopped this often.
func (h *host) counts(a structs.Assignment, starts, stops int) {
	h.Helper()
	if s, e := h.fake.Seen.Starts(ref(a)), h.fake.Seen.Stops(ref(a)); s != starts || e != stops {
		h.Fatalf("started %d and stopped %d times, want %d and %d", s, e, starts, stops)
	}
}

func (h *host) exists(a structs.Assignment) bool {
	_, ok := h.fake.Seen.Containers()[ref(a)]
	return ok
}

// after lets time pass in the bubble.
func (h *host) after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// last returns the last report of the container.
func (h *host) last(id string) structs.ContainerReport {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.reported[id]
}

// reportCount returns the number of reports.
func (h *host) reportCount() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.history)
}

// said reports whether any report satisfies ok.
func (h *host) said(ok func(structs.ContainerReport) bool) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.ContainsFunc(h.history, ok)
}

// overWire returns a report as a server reads it.
func overWire(t testing.TB, r structs.ContainerReport) (read structs.ContainerReport) {
	t.Helper()
	b, err := json.Marshal(r)
	if err == nil {
		err = json.Unmarshal(b, &read)
	}
	if err != nil {
		t.Fatal(err)
	}
	return read
}
