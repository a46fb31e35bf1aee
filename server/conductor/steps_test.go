package conductor

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stackforge/magnum/server/conductor/scratch"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// steps takes the steps as the leader does: each when one of its topics has fired, and no
// other.
type steps struct {
	*harness
	subs  []*state.Subscription // those of Steps
	taken map[string]int        // by name of the step
}

func newSteps(h *harness) *steps {
	s := &steps{harness: h, taken: make(map[string]int)}
	for _, step := range Steps {
		sub := h.store.Subscribe(step.Topics()...)
		h.Cleanup(sub.Close)
		s.subs = append(s.subs, sub)
	}
	return s
}

// follow takes the steps whose topics have fired.
func (s *steps) follow() {
	s.Helper()
	for range 1000 {
		fired := false
		for i, step := range Steps {
			select {
			case <-s.subs[i].C():
			default:
				continue
			}
			fired = true
			for must(s.harness, Settle{Step: step}) {
			}
			s.taken[step.name]++
		}
		if !fired {
			return
		}
	}
	s.Fatal("settling does not end")
}

// TestStepsMissNothing makes random changes, and takes only the steps whose topics have
// fired. After that no step may have work left: whatever gives a step work has to fire one
// of its topics.
func TestStepsMissNothing(t *testing.T) {
	for seed := range uint64(16) {
		rng := rand.New(rand.NewPCG(seed, 3))
		s := newSteps(newHarness(t))
		h := s.harness
		var hosts, bays []string
		ids := map[*kind][]string{}
		last := ""
		for i := range 250 {
			last = s.random(rng, i, &hosts, &bays, ids)
			s.follow()
			if h.surplus() {
				continue
			}
			before := h.decisions()
			if more, after := must(h, Settle{}), h.decisions(); more || after != before {
				t.Fatalf("seed %d, after %q: a step has found something to do that did not wake it:\n%s\nis now\n%s", seed, last, before,
					after)
			}
		}
	}
}

// decisions writes the decisions of the servers as text, without reasons: those that state
// the free room are not rewritten when it shrinks.
func (h *harness) decisions() string {
	var b strings.Builder
	snap := h.store.Snapshot()
	for _, table := range state.Tables() {
		for r := range snap.List(table, state.AllProjects, 0) {
			switch r := r.(type) {
			case *structs.Bay:
				fmt.Fprintln(&b, r.Name, r.Status)
			case *structs.Host:
				fmt.Fprintln(&b, r.Name, r.BayID, r.State, r.Draining, r.DrainForce)
			case *structs.RC:
				seen := r.Observed
				seen.Reason = ""
				fmt.Fprintf(&b, "%s %d %v %+v\n", r.Name, r.Replicas, r.Deleting, seen)
			case *structs.Service:
				fmt.Fprintln(&b, r.ID, r.Spec.Selector)
			case *structs.Endpoints:
				fmt.Fprintf(&b, "%s %d %+v\n", r.ID, r.Matched, r.Pods)
			case structs.Workload:
				p := *r.Place()
				p.PlaceReason, p.AssignIndex = "", 0
				fmt.Fprintf(&b, "%v %+v %s\n", r.Ref(), p, structs.StatusOf(r))
			}
		}
	}
	return b.String()
}

// surplus reports whether a bay has more hosts than it should. The choice among them
// depends on their workloads, and a waiting workload may be placed later than possible.
func (h *harness) surplus() bool {
	snap := h.store.Snapshot()
	for b := range scratch.Typed[*structs.Bay](snap.List(structs.TableBays, state.AllProjects, 0)) {
		have, empty := 0, 0
		for host := range snap.HostsInBay(b.ID) {
			if host.State == structs.HostLost {
				continue
			}
			if have++; snap.Usage(host.ID).Workloads == 0 {
				empty++
			}
		}
		if have > b.NodeCount && empty == 0 { // an empty host has to leave
			return true
		}
	}
	return false
}

// random makes one change and describes it.
func (s *steps) random(rng *rand.Rand, i int, hosts, bays *[]string, ids map[*kind][]string) string {
	h := s.harness
	pick := func(from []string) string {
		if len(from) == 0 {
			return ""
		}
		return from[rng.IntN(len(from))]
	}
	try := func(what string, err error) string {
		if code := structs.CodeOf(err); err != nil && code != structs.CodeConflict && code != structs.CodeNotFound &&
			code != structs.CodeInvalid {
			h.Fatalf("%s: %v", what, err)
		}
		return what
	}
	ctx := context.Background()
	snap := h.store.Snapshot()
	switch host := pick(*hosts); {
	case len(*hosts) < 2 || len(*hosts) < 6 && rng.IntN(20) == 0:
		*hosts = append(*hosts, h.host(fmt.Sprint("h", i), nil))
		return "register"
	case len(*bays) < 1 || len(*bays) < 3 && rng.IntN(20) == 0:
		b := h.bay(alice, fmt.Sprint("b", i), 1+rng.IntN(3))
		*bays = append(*bays, b.ID)
		return "bay"
	case rng.IntN(25) == 0:
		return try(s.randomRC(rng, i, pick(*bays)))
	case rng.IntN(25) == 0:
		return try(s.randomService(rng, pick(*bays)))
	case rng.IntN(3) == 0:
		k := &kinds[rng.IntN(len(kinds))]
		restart := structs.RestartPolicy{Name: []string{structs.RestartAlways, structs.RestartNo}[rng.IntN(2)]}
		exclusive := []structs.Exclusive{structs.ExclusiveNo, structs.ExclusiveNo, structs.ExclusiveYes,
			structs.ExclusiveLease}[rng.IntN(4)]
		if b := snap.Bay(pick(*bays)); b != nil && b.Status != structs.BayDeleting {
			ids[k] = append(ids[k], k.make(h, b.ID, int64(1+rng.IntN(3))<<30, structs.Policy{Restart: restart, Exclusive: exclusive}))
		}
		return "create"
	case rng.IntN(2) == 0: // a host reports
		var all []structs.Workload
		for w := range snap.OnHost(host) {
			all = append(all, w)
		}
		if len(all) == 0 || snap.Host(host).State == structs.HostLost {
			return "nothing"
		}
		w := all[rng.IntN(len(all))]
		k := &kinds[slices.IndexFunc(kinds, func(k kind) bool { return k.name == w.Ref().Kind })]
		a := structs.AssignmentOf(w, host)
		seen := structs.Seen{Status: structs.ContainerRunning, Generation: a.Generation, EngineID: "e"}
		switch {
		case a.Desired == structs.DesiredAbsent || rng.IntN(8) == 0:
			seen.Status = structs.ContainerGone
		case a.Desired == structs.DesiredStopped:
			seen.Status = structs.ContainerStopped
		}
		k.reportsJSON(h, host, a.Ref().ID, a.Epoch, seen, rng.IntN(8) == 0)
		return fmt.Sprintf("report %s of %v", seen.Status, a.Ref())
	}
	host := pick(*hosts)
	switch rng.IntN(8) {
	case 0:
		_, err := Do(ctx, h.Conductor, MarkHosts{Marks: []HostMark{{ID: host, State: structs.HostLost, Reason: "silent"}}})
		return try("lost", err)
	case 1:
		_, err := Do(ctx, h.Conductor, MarkHosts{Marks: []HostMark{{ID: host, State: structs.HostReady}}})
		return try("ready", err)
	case 2:
		_, err := Do(ctx, h.Conductor, DrainHost{Caller: root, Ident: host, Draining: true, Force: rng.IntN(2) == 0})
		return try("drain", err)
	case 3:
		_, err := Do(ctx, h.Conductor, DrainHost{Caller: root, Ident: host})
		return try("undrain", err)
	case 4:
		_, err := Do(ctx, h.Conductor, FenceHost{Caller: root, Ident: host, Force: true})
		return try("fence", err)
	case 5:
		_, err := Do(ctx, h.Conductor, PatchBay{Caller: alice, Ident: pick(*bays), NodeCount: 1 + rng.IntN(3)})
		return try("patch", err)
	case 6:
		if rng.IntN(4) > 0 {
			return "nothing"
		}
		i := rng.IntN(len(*bays))
		_, err := Do(ctx, h.Conductor, DeleteBay{Caller: alice, Ident: (*bays)[i]})
		*bays = slices.Delete(*bays, i, i+1)
		return try("delete the bay", err)
	}
	k := &kinds[rng.IntN(len(kinds))]
	id := pick(ids[k])
	if id == "" || snap.Workload(k.name, id) == nil {
		return "nothing"
	}
	if k.name == structs.WorkloadContainer && rng.IntN(2) == 0 {
		action := Actions[rng.IntN(len(Actions))]
		_, err := Do(ctx, h.Conductor, ActOnContainer{Caller: alice, Ident: id, Action: action, Signal: "SIGHUP"})
		return try(string(action), err)
	}
	k.deletes(h, id)
	return "delete"
}

// randomRC creates, changes or deletes a replication controller.
func (s *steps) randomRC(rng *rand.Rand, i int, bay string) (what string, err error) {
	ctx := context.Background()
	var all []*structs.RC
	for rc := range state.RCsInBay(s.store.Snapshot(), bay) {
		all = append(all, rc)
	}
	spec := rcSpec(fmt.Sprint("rc", i), rng.IntN(3))
	spec.Template = podSpec(1<<28, 1<<28)
	if len(all) == 0 || len(all) < 2 && rng.IntN(2) == 0 {
		_, err := Do(ctx, s.Conductor, CreateRC{Caller: alice, Bay: bay, RC: structs.RC{Name: fmt.Sprint("rc", i)}, Spec: spec})
		return "create an rc", err
	}
	rc := all[rng.IntN(len(all))]
	if rng.IntN(4) == 0 {
		_, err := Do(ctx, s.Conductor, DeleteRC{Caller: alice, Ident: rc.ID, Force: rng.IntN(2) == 0})
		return "delete an rc", err
	}
	spec.Selector, spec.Labels = rc.Selector, rc.Selector
	_, err = Do(ctx, s.Conductor, PatchRC{Caller: alice, Ident: rc.ID, Spec: withImage(spec, fmt.Sprint("i", rng.IntN(2)))})
	return "patch an rc", err
}

// TestReportsDontWakeTheGrowthOfBays: workloads that come and go on hosts that keep others
// cause no scan of all bays and hosts.
func TestReportsDontWakeTheGrowthOfBays(t *testing.T) {
	s := newSteps(twoHosts(t))
	for range 4 {
		s.workload(kinds[0], 1<<28, structs.Policy{})
	}
	w := s.workload(kinds[1], 1<<28, structs.Policy{})
	s.follow()
	clear(s.taken)
	host := w.place().HostID
	w.reportsJSON(s.harness, host, w.id, 1, structs.Seen{Status: structs.ContainerRunning, Generation: 1}, false)
	s.follow()
	if len(s.taken) != 0 {
		t.Errorf("a report has led to %v", s.taken)
	}
	w.deletes(s.harness, w.id)
	w.reportsJSON(s.harness, host, w.id, 1, structs.Seen{Status: structs.ContainerGone, Generation: 2}, false)
	s.follow()
	if s.taken["grow bays"] != 0 || s.taken["place waiting workloads"] != 1 {
		t.Errorf("a deletion has led to %v", s.taken)
	}
}

// TestStepsOnLostAndDrainingHosts: whether a workload on a lost or draining host moves
// depends on its desired state and on what is left of it.
func TestStepsOnLostAndDrainingHosts(t *testing.T) {
	s := newSteps(twoHosts(t))
	h := s.harness
	w := h.workload(kinds[1], 1<<30, structs.Policy{Exclusive: structs.ExclusiveYes})
	from := w.place().HostID
	w.reportsJSON(h, from, w.id, 1, structs.Seen{Status: structs.ContainerRunning, Generation: 1}, false)
	must(h, DrainHost{Caller: root, Ident: from, Draining: true, Force: true})
	s.follow()
	if p := w.place(); !p.DrainStop || p.HostID != from {
		t.Fatalf("it isn't stopped first: %+v", p)
	}
	w.reportsJSON(h, from, w.id, 1, structs.Seen{Status: structs.ContainerStopped, Generation: 2}, false)
	s.follow()
	if p := w.place(); p.HostID == from {
		t.Errorf("it did not move once it had stopped: %+v", p)
	}

	must(h, DrainHost{Caller: root, Ident: from})
	c := h.create(alice, "bay", always())
	on := c.HostID
	must(h, ActOnContainer{Caller: alice, Ident: c.ID, Action: ActionStop})
	must(h, MarkHosts{Marks: []HostMark{{ID: on, State: structs.HostLost, Reason: "silent"}}})
	s.follow()
	if now := h.container(c.ID); now.HostID != on || now.Status() != structs.ContainerUnknown {
		t.Fatalf("a stopped one has moved: %+v", now)
	}
	must(h, ActOnContainer{Caller: alice, Ident: c.ID, Action: ActionStart})
	s.follow()
	if now := h.container(c.ID); now.HostID == on {
		t.Errorf("it did not move once it was started: %+v", now)
	}
}
