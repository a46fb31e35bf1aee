package conductor

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/stackforge/magnum/server/conductor/placing"
	"github.com/stackforge/magnum/server/conductor/scratch"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/server/state/statetest"
	"github.com/stackforge/magnum/structs"
)

// The tests of this package have a third kind of placed workload.
func init() {
	state.Register(state.Table{Name: statetest.TablePairs, Code: statetest.CodePairs, New: statetest.NewPair})
}

// createPair is CreateContainer for pairs.
type createPair struct {
	caller structs.Caller
	bay    string
	pair   statetest.Pair
}

func (r createPair) decide(t *scratch.Tx) (*statetest.Pair, error) {
	bay, err := bayFor(t, t.BaysOf, r.caller, r.bay)
	if err != nil {
		return nil, err
	}
	p := &r.pair
	p.Meta = t.Meta(r.caller, p.ID)
	p.BayID, p.Desired, p.Generation, p.StartGeneration = bay.ID, structs.DesiredRunning, 1, 1
	placing.Place(t, p, bay)
	t.Assign(p)
	return p, nil
}

// deletePair is DeleteContainer for pairs.
type deletePair struct{ id string }

func (r deletePair) decide(t *scratch.Tx) (struct{}, error) {
	placing.Delete(t, t.Workload(structs.Ref{Kind: statetest.KindPair, ID: r.id}), true)
	return struct{}{}, nil
}

// kind is what differs in tests between kinds of workloads.
type kind struct {
	name    structs.WorkloadKind
	make    func(h *harness, bay string, memory int64, policy structs.Policy) (id string)
	parts   []string
	deletes func(h *harness, id string)
}

var kinds = []kind{
	{
		name: structs.WorkloadContainer,
		make: func(h *harness, bay string, memory int64, p structs.Policy) string {
			spec := structs.ContainerSpec{Memory: structs.Bytes(memory), RestartPolicy: p.Restart, Exclusive: p.Exclusive}
			if p.Volume != "" {
				spec.Volumes = []structs.Mount{{Name: p.Volume, Type: structs.MountVolume, Target: "/data"}}
			}
			return h.create(alice, bay, spec).ID
		},
		deletes: func(h *harness, id string) { must(h, DeleteContainer{Caller: alice, Ident: id, Force: true}) },
	},
	{
		name: statetest.KindPair,
		make: func(h *harness, bay string, memory int64, p structs.Policy) string {
			return must(h, createPair{alice, bay, statetest.Pair{Name: "pair", Restart: p.Restart, Exclusive: p.Exclusive, Volume: p.Volume,
				Parts: []statetest.Part{{Name: "web", Memory: memory / 2}, {Name: "log", Memory: memory - memory/2}}}}).ID
		},
		parts:   []string{"web", "log"},
		deletes: func(h *harness, id string) { must(h, deletePair{id}) },
	},
	{
		name: structs.WorkloadPod,
		make: func(h *harness, bay string, memory int64, p structs.Policy) string {
			spec := podSpec(memory/2, memory-memory/2)
			spec.RestartPolicy = map[string]string{structs.RestartAlways: structs.PodRestartAlways,
				structs.RestartNo: structs.PodRestartNever, structs.RestartOnFailure: structs.PodRestartOnFailure}[p.Restart.Name]
			spec.Exclusive = p.Exclusive
			if p.Volume != "" {
				spec.Volumes = []structs.PodVolume{{Name: "v", Claim: p.Volume}}
			}
			pod := structs.Pod{Spec: spec, Labels: map[string]string{"kind": "pod"}}
			return must(h, CreatePod{Caller: alice, Bay: bay, Prefix: "pod-", Pod: pod, Manifest: "m"}).ID
		},
		parts:   []string{"web", "log"},
		deletes: func(h *harness, id string) { must(h, DeletePod{Caller: alice, Ident: id, Force: true}) },
	},
}

// podSpec returns the spec of a pod of two containers that request this much memory.
func podSpec(web, log int64) structs.PodSpec {
	return structs.PodSpec{RestartPolicy: structs.PodRestartAlways, Containers: []structs.PodContainer{
		{Name: "web", Image: "i", Requests: structs.Resources{Memory: web}},
		{Name: "log", Image: "i", Requests: structs.Resources{Memory: log}}}}
}

// reportsJSON has a host report a workload as an agent does, in JSON.
func (k kind) reportsJSON(h *harness, hostID, id string, epoch uint64, seen structs.Seen, refused bool) {
	h.Helper()
	host := h.store.Snapshot().Host(hostID)
	r := structs.ReportOf(structs.Ref{Kind: k.name, ID: id, Epoch: epoch})
	r.Refused, r.Observed = refused, structs.Observed{Status: seen.Status, Generation: seen.Generation, EngineID: seen.EngineID,
		StartedAt: seen.StartedAt}
	running := structs.PartState{}
	if seen.Status == structs.ContainerRunning {
		r.Addresses, running.State = []string{"10.0.0." + id[:2]}, structs.PartRunning
	}
	for _, part := range k.parts {
		r.Parts = append(r.Parts, structs.PartReport{Part: part, Observed: r.Observed, State: running, Ready: running.State != ""})
	}
	sent, err := json.Marshal(structs.StatusReport{Registration: host.Registration, Seq: host.ReportSeq + 1,
		Containers: []structs.ContainerReport{r}})
	if err != nil {
		h.Fatal(err)
	}
	told := ReportStatus{HostID: hostID}
	if err := json.Unmarshal(sent, &told.StatusReport); err != nil {
		h.Fatal(err)
	}
	must(h, told)
}

// workload is a workload of some kind in a harness.
type workload struct {
	*harness
	kind
	id string
}

func (h *harness) workload(k kind, memory int64, policy structs.Policy) workload {
	h.Helper()
	if policy.Restart.Name == "" {
		policy.Restart.Name = structs.RestartAlways
	}
	return workload{h, k, k.make(h, "bay", memory, policy)}
}

// now returns the row, nil if there is none.
func (w workload) now() structs.Workload {
	return w.store.Snapshot().Workload(w.name, w.id)
}

func (w workload) place() *structs.Placement {
	w.Helper()
	now := w.now()
	if now == nil {
		w.Fatal("there is no such workload")
	}
	return now.Place()
}

// says has the host report a placement under the desired generation, and settles.
func (w workload) says(hostID string, epoch uint64, status structs.ContainerStatus) {
	w.Helper()
	w.reportsJSON(w.harness, hostID, w.id, epoch, structs.Seen{Status: status, Generation: w.place().Generation}, false)
	w.settle()
}

// assignedOn checks the assignment of the workload on the host. desired "" means that there is
// none.
func (w workload) assignedOn(hostID string, epoch uint64, desired structs.Desired) {
	w.Helper()
	for other := range w.store.Snapshot().OnHost(hostID) {
		if other.Base().ID != w.id {
			continue
		}
		a := structs.AssignmentOf(other, hostID)
		if a.Ref() != (structs.Ref{Kind: w.name, ID: w.id, Epoch: epoch}) || a.Desired != desired {
			w.Fatalf("the host has %s of %v, not %s of epoch %d", a.Desired, a.Ref(), desired, epoch)
		}
		return
	}
	if desired != "" {
		w.Fatalf("the host has nothing, not %s of epoch %d", desired, epoch)
	}
}

// holds checks that the reservations on a host are those of its placements.
func (h *harness) holds(hostID string, memory int64) {
	h.Helper()
	if got := h.store.Snapshot().Usage(hostID).Memory; got != memory {
		h.Fatalf("%d bytes are reserved, not %d", got, memory)
	}
}

// eachKind runs the test for each kind on a bay of two hosts with 4 GiB each.
func eachKind(t *testing.T, test func(h *harness, k kind)) {
	for _, k := range kinds {
		t.Run(string(k.name), func(t *testing.T) { test(twoHosts(t), k) })
	}
}

func (h *harness) other(hostID string) string {
	for host := range h.store.Snapshot().HostsInBay(h.bayNamed("bay").ID) {
		if host.ID != hostID {
			return host.ID
		}
	}
	return ""
}

func TestWorkloadsArePlacedAndWait(t *testing.T) {
	eachKind(t, func(h *harness, k kind) {
		first, second := h.workload(k, 3<<30, structs.Policy{}), h.workload(k, 3<<30, structs.Policy{})
		if a, b := first.place(), second.place(); a.HostID == "" || b.HostID == "" || a.HostID == b.HostID || a.Epoch != 1 {
			h.Fatalf("placed on %q and %q", a.HostID, b.HostID)
		}
		third := h.workload(k, 3<<30, structs.Policy{})
		if p := third.place(); p.HostID != "" || !strings.Contains(p.PlaceReason, "2 without the memory") {
			h.Fatalf("%+v", p)
		}
		host := first.place().HostID
		first.says(host, 1, structs.ContainerRunning)
		first.deletes(h, first.id)
		first.assignedOn(host, 1, structs.DesiredAbsent)
		h.settle()
		if third.place().HostID != "" {
			h.Fatal("placed before the host has said that the other one is gone")
		}
		first.says(host, 1, structs.ContainerGone)
		if first.now() != nil || third.place().HostID != host || third.place().PlaceReason != "" {
			h.Fatalf("first %+v, third %+v", first.now(), third.place())
		}
		h.holds(host, 3<<30)
	})
}

func TestWorkloadsOfALostHostMove(t *testing.T) {
	eachKind(t, func(h *harness, k kind) {
		w := h.workload(k, 2<<30, structs.Policy{})
		kept := h.workload(k, 1<<30, structs.Policy{Restart: structs.RestartPolicy{Name: structs.RestartNo}})
		from := w.place().HostID
		to := h.other(from)
		w.says(from, 1, structs.ContainerRunning)
		kept.says(to, 1, structs.ContainerRunning)
		h.mark(structs.HostLost, from)
		p := w.place()
		if p.HostID != to || p.Epoch != 2 || len(p.Priors) != 1 || p.Priors[0].HostID != from {
			h.Fatalf("%+v", p)
		}
		h.holds(from, 2<<30)
		h.holds(to, 3<<30)
		h.mark(structs.HostReady, from)
		w.assignedOn(from, 1, structs.DesiredAbsent)
		w.assignedOn(to, 2, structs.DesiredRunning)
		w.says(from, 1, structs.ContainerGone)
		if len(w.place().Priors) != 0 {
			h.Fatal("the earlier placement is still there")
		}
		h.holds(from, 0)

		h.mark(structs.HostLost, to)
		if structs.StatusOf(kept.now()) != structs.ContainerUnknown || kept.place().HostID != to || w.place().HostID != from ||
			w.place().Epoch != 3 {
			h.Fatalf("one that isn't restarted: %s; the other: %+v", structs.StatusReasonOf(kept.now()), w.place())
		}
	})
}

func TestExclusiveWorkloadsWaitForAFence(t *testing.T) {
	eachKind(t, func(h *harness, k kind) {
		w := h.workload(k, 1<<30, structs.Policy{Exclusive: structs.ExclusiveYes})
		volume := h.workload(k, 1<<30, structs.Policy{Volume: "data"})
		from, stays := w.place().HostID, volume.place().HostID
		w.says(from, 1, structs.ContainerRunning)
		volume.says(stays, 1, structs.ContainerRunning)
		h.mark(structs.HostLost, from)
		if w.place().HostID != from || !strings.Contains(structs.StatusReasonOf(w.now()), "host-fence") {
			h.Fatalf("%+v: %s", w.place(), structs.StatusReasonOf(w.now()))
		}
		must(h, FenceHost{Caller: root, Ident: from})
		h.settle()
		if w.place().HostID == from {
			h.Fatal("it did not move")
		}
		h.mark(structs.HostLost, stays)
		if volume.place().HostID != stays || !strings.Contains(structs.StatusReasonOf(volume.now()), "its volume data is on that host") {
			h.Fatalf("%+v: %s", volume.place(), structs.StatusReasonOf(volume.now()))
		}
	})
}

func TestWorkloadsRunOnWhileTheyAreDrained(t *testing.T) {
	eachKind(t, func(h *harness, k kind) {
		w := h.workload(k, 3<<30, structs.Policy{})
		from := w.place().HostID
		to := h.other(from)
		w.says(from, 1, structs.ContainerRunning)
		h.drain(from, false)
		w.assignedOn(from, 1, structs.DesiredRunning)
		w.assignedOn(to, 2, structs.DesiredRunning)
		h.holds(from, 3<<30)
		w.says(to, 2, structs.ContainerRunning)
		w.assignedOn(from, 1, structs.DesiredAbsent)
		w.says(from, 1, structs.ContainerGone)
		w.assignedOn(from, 0, "")
		h.holds(from, 0)
		h.undrain(from)

		// If it can't move, the drain stops it at the deadline.
		stays := h.workload(k, 3<<30, structs.Policy{})
		stays.says(from, 1, structs.ContainerRunning)
		h.drain(from, true)
		if p := stays.place(); !p.DrainStop || p.HostID != from {
			h.Fatalf("%+v", p)
		}
		stays.assignedOn(from, 1, structs.DesiredStopped)
		stays.says(from, 1, structs.ContainerStopped)
		h.undrain(from)
		if p := stays.place(); p.DrainStop || p.StartGeneration != p.Generation {
			h.Fatalf("%+v", p)
		}
		stays.assignedOn(from, 1, structs.DesiredRunning)
		actions := h.store.Snapshot().Get(structs.TableActions, stays.now().Ref().BesideID()).(*structs.Actions)
		if n := len(actions.List); n != 3 || actions.List[1].Action != "drain-stop" || actions.List[2].Action != "start" ||
			actions.List[0].Result != structs.ActionSucceeded {
			h.Errorf("actions: %+v", actions.List)
		}
		stays.deletes(h, stays.id)
		stays.says(from, 1, structs.ContainerGone)
		if stays.now() != nil || h.store.Snapshot().Get(structs.TableActions, actions.ID) != nil {
			h.Error("the row or its actions are left")
		}
	})
}

func TestWorkloadsThatAreGoneOrRefused(t *testing.T) {
	eachKind(t, func(h *harness, k kind) {
		w := h.workload(k, 1<<30, structs.Policy{})
		first := w.place().HostID
		full := true
		must(h, ReportStatus{HostID: first, StatusReport: structs.StatusReport{Registration: 1, Seq: 1, NetworksFull: &full}})
		w.reportsJSON(h, first, w.id, 1, structs.Seen{Status: structs.ContainerError, Generation: 1}, true)
		p := w.place()
		if p.Epoch != 2 || len(p.Priors) != 1 || p.Priors[0].HostID != first || p.HostID == first {
			h.Fatalf("refused: %+v", p)
		}
		w.says(first, 1, structs.ContainerGone)
		w.says(p.HostID, 1, structs.ContainerRunning) // of an epoch that isn't the host's: ignored
		if seen := w.now().Seen(); seen.Status != "" {
			h.Fatalf("an earlier epoch's report counts: %+v", seen)
		}
		w.says(p.HostID, 2, structs.ContainerRunning)
		w.says(p.HostID, 2, structs.ContainerGone)
		if p := w.place(); p.Epoch != 3 || p.Gone || !strings.Contains(structs.StatusReasonOf(w.now()), "created again") {
			h.Fatalf("lost behind magnum's back: %+v", p)
		}
		memory := int64(0)
		for host := range h.store.Snapshot().HostsInBay(h.bayNamed("bay").ID) {
			memory += h.store.Snapshot().Usage(host.ID).Memory
		}
		if memory != 1<<30 {
			h.Errorf("%d bytes are reserved", memory)
		}
		once := h.workload(k, 1<<30, structs.Policy{Restart: structs.RestartPolicy{Name: structs.RestartNo}})
		once.says(once.place().HostID, 1, structs.ContainerGone)
		if p := once.place(); p.Epoch != 1 || !p.Gone || structs.StatusOf(once.now()) != structs.ContainerError {
			h.Errorf("one that isn't restarted: %+v", p)
		}
	})
}

func TestDeletedBayRemovesAllKinds(t *testing.T) {
	h := twoHosts(t)
	var all []workload
	for _, k := range kinds {
		all = append(all, h.workload(k, 1<<30, structs.Policy{}), h.workload(k, 64<<30, structs.Policy{}))
	}
	for _, w := range all {
		if p := w.place(); p.HostID != "" {
			w.says(p.HostID, 1, structs.ContainerRunning)
		}
	}
	bay := must(h, DeleteBay{Caller: alice, Ident: "bay"})
	h.settle()
	for _, w := range all {
		if w.now() == nil {
			continue // no host had it
		}
		p := w.place()
		w.assignedOn(p.HostID, 1, structs.DesiredAbsent)
		w.says(p.HostID, 1, structs.ContainerGone)
	}
	if h.bayNow(bay.ID) != nil {
		t.Error("the bay is still there")
	}
	if n := h.store.Snapshot().Hosts(); n != 2 {
		t.Errorf("%d hosts", n)
	}
}

// TestUsageWithinABatch: the usage that a batch sees is the sum of its rows' reservations,
// also if a workload whose engine limits were raised is placed again.
func TestUsageWithinABatch(t *testing.T) {
	h := twoHosts(t)
	a := h.workload(kinds[0], 1<<30, structs.Policy{})
	from := a.place().HostID
	c := *h.container(a.id)
	c.Observed.Memory, c.Observed.Status = 2<<30, structs.ContainerRunning
	c.Priors = []structs.Prior{{HostID: h.other(from), Epoch: 1}}
	if err := h.store.Apply(h.store.Index()+1, []structs.Change{{Table: c.Table(), ID: c.ID, Version: c.ModifyIndex,
		Row: &c}}); err != nil {
		t.Fatal(err)
	}
	bay := h.bayNamed("bay")
	for name, step := range map[string]func(tx *scratch.Tx, w structs.Workload){
		"move":    func(tx *scratch.Tx, w structs.Workload) { placing.Move(tx, w, bay, false) },
		"replace": func(tx *scratch.Tx, w structs.Workload) { placing.Replace(tx, w) },
		"place":   func(tx *scratch.Tx, w structs.Workload) { w.Place().HostID = ""; placing.Place(tx, w, bay) },
	} {
		tx := scratch.New(h.store.Snapshot(), h.clock)
		tx.Begin()
		w := tx.Workload(a.now().Ref()).Copy()
		step(tx, w)
		tx.Assign(w)
		want := map[string]*state.Usage{}
		for _, id := range []string{from, h.other(from)} {
			want[id] = new(state.Usage)
		}
		for _, id := range w.Place().Hosts() {
			want[id].Add(w.Reserved())
		}
		for id, u := range want {
			if got := tx.Reserved.Used(id); !reflect.DeepEqual(got, u) && (got.Memory != u.Memory || got.Workloads != u.Workloads) {
				t.Errorf("%s: the batch reckons with %+v, reserved is %+v", name, got, u)
			}
		}
	}
}
