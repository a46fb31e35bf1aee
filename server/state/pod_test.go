package state

import (
	"reflect"
	"strings"
	"testing"

	"github.com/stackforge/magnum/structs"
)

// largePod returns a pod on host "h" with a spec of about the size.
func largePod(n uint64, size int) *structs.Pod {
	return &structs.Pod{
		Meta: structs.Meta{ID: testID(n), Seq: n + 1000, ProjectID: "p"}, Name: "pod",
		Placement: structs.Placement{BayID: "bay", HostID: "h", Desired: structs.DesiredRunning, Generation: 1, Epoch: 1},
		Spec: structs.PodSpec{RestartPolicy: structs.PodRestartAlways,
			InitContainers: []structs.PodContainer{{Name: "init", Requests: structs.Resources{Memory: 1 << 20, MilliCPU: 300}}},
			Containers: []structs.PodContainer{{Name: "web", Args: []string{strings.Repeat("l", size)},
				Requests: structs.Resources{Memory: 2 << 20, MilliCPU: 100},
				Ports:    []structs.PodPort{{Name: "http", Port: structs.Port{ContainerPort: 80, HostPort: 8080, Protocol: "tcp"}}}}}},
	}
}

// TestSpecsOfTwoKinds: a container and a pod with the same UUID have separate specs of their
// own, and the pod's manifest is a row beside it.
func TestSpecsOfTwoKinds(t *testing.T) {
	s := New()
	mustApply(t, s, 1, put(schemaOf(structs.SchemaVersion), 0))
	c, p := largeContainer(7, 20<<10), largePod(7, 30<<10)
	manifest := &structs.Manifest{Meta: structs.Meta{ID: p.Ref().BesideID(), Seq: p.Seq, ProjectID: "p"}, Text: "m"}
	spec := p.Spec
	bare := func(p *structs.Pod, version uint64) structs.Change {
		ch := assign(p, version)
		ch.SpecApart = true
		return ch
	}
	own := assign(c, 0)
	own.SpecApart = true
	mustApply(t, s, 2, sent(t, own, put(c.StoredSpec(), 0), put(p.StoredSpec(), 0), bare(p, 0), put(manifest, 0))...)
	check := func(what string) {
		t.Helper()
		snap := s.Snapshot()
		if got := snap.Pod(p.ID); got == nil || !reflect.DeepEqual(got.Spec, spec) || snap.Manifest(p.Ref().BesideID()) == nil {
			t.Fatalf("%s: the pod is %+v", what, got)
		}
		if u := snap.Usage("h"); u.Memory != 2<<20 || u.MilliCPU != 300 || !u.HasPort("tcp", 8080) || u.Workloads != 1 {
			t.Errorf("%s: reserved: %+v", what, u)
		}
		checkDerived(t, snap)
		again := restored(t, persisted(t, s))
		sameState(t, what, again, s)
		checkDerived(t, again.Snapshot())
	}
	check("made")
	// A report doesn't contain the spec, and changes only the pod.
	seen := largePod(7, 0)
	seen.Spec, seen.Observed.Status = structs.PodSpec{}, structs.ContainerRunning
	if size := ChangeSize(new(bare(seen, 2))); size > 1<<10 {
		t.Errorf("a report has %d bytes", size)
	}
	mustApply(t, s, 3, sent(t, bare(seen, 2))...)
	check("reported")
	for name, changes := range map[string][]structs.Change{
		"a spec left behind": {drop(p, 3)},
		"a pod left behind":  {drop(p.StoredSpec(), 2)},
		"a container's spec": {bare(largePod(8, 9<<10), 0), put(&structs.StoredSpec{Meta: structs.Meta{ID: testID(8)}}, 0)},
	} {
		if err := s.Apply(4, sent(t, changes...)); err == nil {
			t.Fatalf("%s: applied", name)
		}
	}
	mustApply(t, s, 4, sent(t, drop(p, 3), drop(p.StoredSpec(), 2), drop(manifest, 2))...)
	if snap := s.Snapshot(); snap.Pod(p.ID) != nil || !snap.HasSpecs() || snap.Container(c.ID) == nil ||
		!reflect.DeepEqual(snap.Container(c.ID).Spec, largeContainer(7, 20<<10).Spec) {
		t.Error("not only the pod is gone")
	}
	checkDerived(t, s.Snapshot())
}

// TestPodsNeedTheirSchema: no entry of an earlier schema has a pod.
func TestPodsNeedTheirSchema(t *testing.T) {
	for _, row := range []structs.Row{largePod(1, 10), &structs.Manifest{Meta: structs.Meta{ID: "pod/x"}}, rcRow(2, "")} {
		ch := put(row, 0)
		if _, err := EncodeEntry(&structs.Entry{Schema: structs.SchemaPods - 1, Changes: []structs.Change{ch}}); err == nil {
			t.Errorf("%s: encoded in schema %d", row.Table(), structs.SchemaPods-1)
		}
		data, err := EncodeEntry(&structs.Entry{Schema: structs.SchemaPods, Changes: []structs.Change{ch}})
		if err != nil {
			t.Fatal(err)
		}
		data[1] = structs.SchemaPods - 1
		if _, err := DecodeEntry(sealed(data)); err == nil {
			t.Errorf("%s: decoded in schema %d", row.Table(), structs.SchemaPods-1)
		}
	}
}

// TestPodEvents: events have the phase of a pod as its status.
func TestPodEvents(t *testing.T) {
	s := New()
	mustApply(t, s, 1, put(schemaOf(structs.SchemaVersion), 0))
	r, err := s.Events(1)
	if err != nil {
		t.Fatal(err)
	}
	p := largePod(1, 10)
	p.Spec.InitContainers, p.Spec.RestartPolicy = nil, structs.PodRestartNever
	version := uint64(0)
	for i, state := range []string{"", structs.PartRunning, structs.PartRunning, structs.PartTerminated} {
		now := *p
		if state != "" {
			now.Observed.Status = structs.ContainerRunning
			now.Observed.Parts = []structs.PartObserved{{Name: "web", PartState: structs.PartState{State: state}, Restarts: i}}
		}
		mustApply(t, s, uint64(i+2), assign(&now, version))
		version = uint64(i + 2)
	}
	gone := *p
	gone.Desired = structs.DesiredAbsent
	mustApply(t, s, 6, assign(&gone, version))
	buf := make([]Event, 8)
	n, _, err := r.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range buf[:n] {
		got = append(got, string(e.Kind)+" "+e.Status)
	}
	if want := "created Pending, updated Running, updated Succeeded, updated Deleting"; strings.Join(got, ", ") != want {
		t.Errorf("events: %v", got)
	}
}
