package agent

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/backend/backendtest"
	"github.com/stackforge/magnum/structs"
)

func TestReportSumsUpParts(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	of := func(status structs.ContainerStatus, generation uint64) structs.Observed {
		return structs.Observed{Status: status, Generation: generation}
	}
	for _, c := range []struct {
		left, right structs.ContainerStatus
		want        structs.ContainerStatus
	}{
		{structs.ContainerRunning, structs.ContainerRunning, structs.ContainerRunning},
		{structs.ContainerStopped, structs.ContainerRunning, structs.ContainerRunning},
		{structs.ContainerPaused, structs.ContainerStopped, structs.ContainerPaused},
		{structs.ContainerRunning, structs.ContainerCreating, structs.ContainerCreating},
		{structs.ContainerError, structs.ContainerCreating, structs.ContainerError},
		{structs.ContainerGone, structs.ContainerRunning, structs.ContainerError},
		{structs.ContainerGone, structs.ContainerGone, structs.ContainerGone},
	} {
		for _, parts := range [][]seenPart{
			{{name: "left", Observed: of(c.left, 3)}, {name: "right", Observed: of(c.right, 5)}},
			{{name: "right", Observed: of(c.right, 5)}, {name: "left", Observed: of(c.left, 3)}},
		} {
			if got := whole(parts); got.Status != c.want || got.Generation != 3 || got.Failed {
				t.Errorf("%s and %s are %+v, want %s of generation 3", c.left, c.right, got, c.want)
			}
		}
	}
	left, right := of(structs.ContainerRunning, 1), of(structs.ContainerError, 1)
	left.Memory, left.MilliCPU, left.RestartCount, left.Health, left.Addresses, left.EngineID, left.StartedAt =
		10, 1, 2, "healthy", []string{"a"}, "e1", at
	right.Memory, right.MilliCPU, right.RestartCount, right.Health, right.Failed, right.Reason = 20, 2, 3, "unhealthy", true, "no image"
	got := whole([]seenPart{{name: "left", Observed: left}, {name: "right", Observed: right}})
	if got.Memory != 30 || got.MilliCPU != 3 || got.RestartCount != 5 || got.Health != "unhealthy" || !got.Failed ||
		got.Reason != "right: no image" || len(got.Addresses) != 1 || got.EngineID != "" || !got.StartedAt.Equal(at) {
		t.Errorf("summed up they are %+v", got)
	}
}

// TestReportIsClipped: servers refuse a report with a text that is too long, or isn't text.
func TestReportIsClipped(t *testing.T) {
	long := strings.Repeat("ä", structs.MaxText)
	r := report{Observed: structs.Observed{Reason: long}, parts: []seenPart{{Observed: structs.Observed{Reason: long},
		podShown: podShown{state: structs.PartState{Message: long}, last: structs.PartState{Message: "a\xff\x00b"}}}}}
	out := r.wire()
	part := out.Parts[0]
	for text, most := range map[string]int{out.Reason: structs.MaxText, part.Reason: maxPartText, part.State.Message: maxPartText} {
		if err := structs.CheckText("text", text, most); err != nil || len(text) < most-4 || !strings.HasSuffix(text, "ä...") {
			t.Errorf("%d bytes, %.10q...: %v", len(text), text, err)
		}
	}
	if got := part.Last.Message; got != "ab" {
		t.Errorf("the message before is %q", got)
	}
}

// TestSessionOfAPart: a session reaches each part by its reference, and none by the
// whole's.
func TestSessionOfAPart(t *testing.T) {
	inHost(t, func(h *host) {
		a, _, _ := prepared(h, kindPair, structs.ContainerRunning)
		seen := map[string]bool{}
		for _, ref := range partRefs(a) {
			id := h.rec.engineID(t.Context(), ref, false)
			if c := h.fake.Seen.Containers()[ref]; id == "" || c.EngineID != id || seen[id] {
				t.Errorf("%s is %q on the engine, want %q", ref, id, c.EngineID)
			}
			seen[id] = true
		}
		if id := h.rec.engineID(t.Context(), a.Ref(), false); id != "" {
			t.Errorf("the whole is %q on the engine", id)
		}
	})
}

// TestUnnamedPartsAreRemoved: the engine has parts that no assignment names: of a
// workload that has others, of a deleted one, and of one that is not the cluster's.
// Only these are removed.
func TestUnnamedPartsAreRemoved(t *testing.T) {
	inHost(t, func(h *host) {
		stray := func(id, name string) structs.Ref {
			ref := structs.Ref{Kind: kindPair, ID: id, Epoch: 1, Part: name}
			h.fake.Outside.Add(backend.CreateRequest{Owner: h.owner, Ref: ref, Spec: backendtest.Sleeper()})
			h.fake.Outside.Start(ref)
			synctest.Wait()
			return ref
		}
		a, _, _ := prepared(h, kindPair, structs.ContainerRunning)
		strays := []structs.Ref{stray("a", "third"), stray("b", "left")}
		h.full(true, a)
		for _, ref := range strays {
			if _, there := h.fake.Seen.Containers()[ref]; there {
				t.Errorf("%s is still there", ref)
			}
		}
		for _, ref := range partRefs(a) {
			if c := h.fake.Seen.Containers()[ref]; c.State != backend.StateRunning || h.fake.Seen.Starts(ref) != 1 {
				t.Errorf("%s is %+v", ref, c)
			}
		}
		h.completed(a, structs.ContainerRunning)
		stray("a", "third")
		a = next(a, structs.DesiredAbsent)
		h.assign(a)
		if r := h.last("a"); r.Status != structs.ContainerGone || len(h.fake.Seen.Containers()) != 0 || len(h.rec.units.all) != 0 {
			t.Errorf("deleted it is %+v; left are %v", r, h.fake.Seen.Containers())
		}
	})
}

// TestPartsAreKeptInQuarantine: all parts of a workload of another history are left
// alone until an operator decides, and then all are removed.
func TestPartsAreKeptInQuarantine(t *testing.T) {
	inHost(t, func(h *host) {
		a, _, _ := prepared(h, kindPair, structs.ContainerRunning)
		h.diverged = true
		h.full(true)
		h.full(true)
		h.restart()
		h.full(true)
		for _, ref := range partRefs(a) {
			if c := h.fake.Seen.Containers()[ref]; c.State != backend.StateRunning || h.fake.Seen.Stops(ref) != 0 {
				t.Errorf("in quarantine %s is %+v", ref, c)
			}
		}
		if kept := h.rec.journal.allKept(); len(kept) != 1 || kept[0].Ref != a.Ref() {
			t.Fatalf("kept are %v", kept)
		}
		report, _ := h.rec.quarantine.reporter.next()
		b, err := json.Marshal(report)
		if err == nil {
			report = structs.QuarantineReport{}
			err = json.Unmarshal(b, &report)
		}
		if err != nil || len(report.Kept) != 1 || report.Kept[0].Ref() != a.Ref() || report.Kept[0].State != string(backend.StateRunning) ||
			report.Kept[0].SpecHash != "" {
			t.Errorf("the servers got %s, %v", b, err)
		}
		h.rec.quarantine.end(a.Ref(), "a test wants it")
		if report, _ := h.rec.quarantine.reporter.next(); len(report.Ended) != 1 || report.Ended[0].Ref() != a.Ref() {
			t.Errorf("at its end the servers got %+v", report)
		}
	})
}

// TestUnknownKindIsLeftAlone: an assignment of an unknown kind creates nothing, and
// containers that an agent of another version has created for it stay.
func TestUnknownKindIsLeftAlone(t *testing.T) {
	inHost(t, func(h *host) {
		a := wantKind("swarm", "a", 1, structs.DesiredRunning)
		b := wantKind("swarm", "b", 1, structs.DesiredRunning)
		ref := structs.Ref{Kind: "swarm", ID: "b", Epoch: 1, Part: "one"}
		h.fake.Outside.Add(backend.CreateRequest{Owner: h.owner, Ref: ref, Spec: backendtest.Sleeper()})
		h.fake.Outside.Start(ref)
		h.full(true, a, b)
		h.full(true, a, b)
		if all := h.fake.Seen.Containers(); len(all) != 1 || all[ref].State != backend.StateRunning || h.fake.Seen.Stops(ref) != 0 {
			t.Errorf("containers are %v", all)
		}
	})
}

// TestUnknownKindOfWhichNothingExists is reported with the reason, and can be deleted.
func TestUnknownKindOfWhichNothingExists(t *testing.T) {
	unknown := func(id string) structs.Assignment {
		a := wantKind("constellation", id, 1, structs.DesiredRunning)
		a.Spec = nil
		return a
	}
	unreadable := wantPod("a")
	unreadable.Unreadable, unreadable.Pod = "of a newer version", nil
	for name, c := range map[string]struct {
		a    structs.Assignment
		pods bool
		why  string
	}{
		"an unknown kind":                   {unknown("a"), true, "kind constellation"},
		"a pod on a backend that runs none": {wantPod("a"), false, "kind pod"},
		"an unreadable pod":                 {unreadable, true, "of a newer version"},
	} {
		t.Run(name, func(t *testing.T) {
			inHost(t, func(h *host) {
				if !c.pods {
					h.rec.mu.Lock()
					h.rec.pods = nil
					delete(h.rec.kinds, structs.WorkloadPod)
					h.rec.mu.Unlock()
				}
				h.assign(c.a)
				if r := h.expect(c.a, structs.ContainerError, true); r.Refused || r.Generation != 1 ||
					!strings.Contains(r.Reason, c.why) || !strings.Contains(r.Reason, "upgrade the agent") {
					t.Errorf("reported as %+v, want a reason with %q", r, c.why)
				}
				a := c.a
				a.Desired, a.Generation = structs.DesiredAbsent, 2
				h.assign(a)
				h.completed(a, structs.ContainerGone)
				h.full(true, a) // the report may have been lost
				h.completed(a, structs.ContainerGone)
				h.full(true)
				h.after(time.Minute)
				if len(h.rec.units.all) != 0 || len(h.fake.Seen.Containers()) != 0 {
					t.Errorf("left are %v", h.rec.units.all)
				}
			})
		})
	}
}

// TestUnknownKindIsGoneOnlyOnceTheEngineIsListed: while the engine is away, containers of
// the workload may exist.
func TestUnknownKindIsGoneOnlyOnceTheEngineIsListed(t *testing.T) {
	inHost(t, func(h *host) {
		b := wantKind(kindPair, "b", 1, structs.DesiredRunning)
		h.assign(b)
		h.completed(b, structs.ContainerRunning)
		h.stop()
		h.fake.Outside.Down()
		h.start()
		h.rec.mu.Lock()
		delete(h.rec.kinds, kindPair)
		h.rec.mu.Unlock()
		a := wantKind("constellation", "a", 2, structs.DesiredAbsent)
		b.Desired, b.Generation = structs.DesiredAbsent, 2
		c := wantKind("constellation", "c", 2, structs.DesiredAbsent)
		d := wantKind("constellation", "d", 2, structs.DesiredRunning)
		h.assign(a, b, c, d)
		h.after(time.Minute)
		for _, id := range []string{"a", "b", "c", "d"} {
			if r := h.last(id); r.Status == structs.ContainerGone || id == "d" && r.Status != "" {
				t.Fatalf("reported as %+v", r)
			}
		}
		h.full(true, a, b, d) // c is forgotten
		h.fake.Outside.Up()
		h.after(time.Minute)
		h.completed(a, structs.ContainerGone)
		h.completed(b, structs.ContainerGone)
		h.expect(d, structs.ContainerError, true)
		if n := len(h.fake.Seen.Containers()); n != 0 {
			t.Errorf("%d containers are left", n)
		}
		if r := h.last("c"); r.Status != "" {
			t.Errorf("c is reported: %+v", r)
		}
	})
}

// TestKindsOfABackend: an agent runs pods if its backend does, and says so to the servers.
func TestKindsOfABackend(t *testing.T) {
	pods := backendtest.NewFake()
	for want, b := range map[string]backend.Backend{"[container pod]": pods, "[container]": struct{ backend.Backend }{pods}} {
		a, err := New(Config{Backend: b, DataDir: t.TempDir(), Servers: []string{"127.0.0.1:1"}, JoinToken: "join"})
		if err != nil {
			t.Fatal(err)
		}
		f, err := a.describe(t.Context())
		if got := fmt.Sprint(f.Kinds); err != nil || got != want {
			t.Errorf("the kinds are %s, %v; want %s", got, err, want)
		}
	}
}
