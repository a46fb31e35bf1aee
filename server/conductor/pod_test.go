package conductor

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/stackforge/magnum/structs"
)

// pod creates a pod with the name in the bay "bay".
func (h *harness) pod(name string, spec structs.PodSpec) *structs.Pod {
	h.Helper()
	return must(h, CreatePod{Caller: alice, Bay: "bay", Pod: structs.Pod{Name: name, Spec: spec}, Manifest: "manifest of " + name})
}

func (h *harness) podNow(id string) *structs.Pod { return h.store.Snapshot().Pod(id) }

// manifestOf returns the text of a pod's manifest, "" if there is none.
func (h *harness) manifestOf(p *structs.Pod) string {
	if m := h.store.Snapshot().Manifest(p.Ref().BesideID()); m != nil {
		return m.Text
	}
	return ""
}

// image returns a PatchPod that sets the image of the first container.
func image(p *structs.Pod, image, manifest string) PatchPod {
	return PatchPod{Caller: alice, Ident: p.ID, Manifest: manifest, Apply: func(p *structs.Pod) error {
		p.Spec.Containers = append([]structs.PodContainer(nil), p.Spec.Containers...)
		p.Spec.Containers[0].Image = image
		return nil
	}}
}

func TestPodNamesAreUniqueInABay(t *testing.T) {
	h := twoHosts(t)
	must(h, CreateBay{Caller: alice, Name: "other", NodeCount: 1})
	p := h.pod("web", podSpec(1, 1))
	create := CreatePod{Caller: alice, Bay: "bay", Pod: structs.Pod{Name: "web", Spec: podSpec(1, 1)}}
	if err := refuse(h, structs.CodeConflict, create); !strings.Contains(err.Error(), p.ID) || !strings.Contains(err.Error(), "delete it") {
		t.Errorf("%v", err)
	}
	create.Bay = "other"
	must(h, create)
	create.Bay, create.Caller = p.BayID, root // another project, whose operator may use every bay
	must(h, create)
	must(h, DeletePod{Caller: alice, Ident: p.ID})
	create.Caller = alice
	if err := refuse(h, structs.CodeConflict, create); !strings.Contains(err.Error(), "being deleted") {
		t.Errorf("%v", err)
	}
	// Two creates in one batch.
	twice := CreatePod{Caller: alice, Bay: "bay", Pod: structs.Pod{Name: "twice", Spec: podSpec(1, 1)}}
	refuse(h, structs.CodeConflict, oneAfterAnother{and(twice), and(twice)})
}

// TestGeneratedPodNames: a name is generated from the prefix and the UUID, and a retry gets
// the same.
func TestGeneratedPodNames(t *testing.T) {
	h := twoHosts(t)
	id := structs.NewID()
	create := CreatePod{Caller: alice, Bay: "bay", UUID: id, Prefix: strings.Repeat("p", 70), Pod: structs.Pod{Spec: podSpec(1, 1)}}
	p := must(h, create)
	if want := strings.Repeat("p", 58) + id[:5]; p.Name != want || p.Spec.Hostname != want {
		t.Errorf("name %q, host name %q, not %q", p.Name, p.Spec.Hostname, want)
	}
	// One whose name is taken gets another.
	other := id[:5] + "000" + structs.NewID()[8:]
	create.UUID = other
	if q := must(h, create); q.Name == p.Name || len(q.Name) != structs.MaxPodName {
		t.Errorf("name %q", q.Name)
	}
}

func TestPatchPod(t *testing.T) {
	h := twoHosts(t)
	p := h.pod("web", podSpec(1, 1))
	h.clock = h.clock.Add(1000000000)
	changed := must(h, image(p, "j", "another"))
	if changed.Generation != 2 || changed.StartGeneration != 1 || changed.Spec.Containers[0].Image != "j" || changed.UpdatedAt.IsZero() ||
		h.manifestOf(p) != "another" || changed.Epoch != 1 {
		t.Errorf("%+v, manifest %q", changed, h.manifestOf(p))
	}
	if now := h.podNow(p.ID); now.AssignIndex != h.store.Index() {
		t.Error("its host does not get the change")
	}
	// The same again changes nothing, and another text alone needs no host.
	index := h.store.Index()
	if must(h, image(p, "j", "another")); h.store.Index() != index {
		t.Error("the same manifest is a change")
	}
	if again := must(h, image(p, "j", "another text")); again.Generation != 2 || h.manifestOf(p) != "another text" {
		t.Errorf("%+v, manifest %q", again, h.manifestOf(p))
	}
	refuse(h, structs.CodeInvalid, PatchPod{Caller: alice, Ident: "web", Apply: func(*structs.Pod) error {
		return structs.Errorf(structs.CodeInvalid, "no")
	}})
	refuse(h, structs.CodeNotFound, PatchPod{Caller: bob, Ident: p.ID})
	must(h, DeletePod{Caller: alice, Ident: "web"})
	refuse(h, structs.CodeConflict, image(p, "k", "x"))
}

// TestPodRowsGoTogether: a pod's manifest, spec and actions are deleted with it, also if it
// never had a host.
func TestPodRowsGoTogether(t *testing.T) {
	h := twoHosts(t)
	spec := podSpec(1, 1)
	spec.Containers[0].Args = []string{strings.Repeat("a", 20<<10)}
	placed := h.pod("placed", spec)
	huge := spec
	huge.Containers = append([]structs.PodContainer{{Name: "huge", Requests: structs.Resources{Memory: 1 << 40}}}, spec.Containers...)
	waiting := h.pod("waiting", huge)
	for _, p := range []*structs.Pod{placed, waiting} {
		must(h, image(p, "j", "changed"))
		if h.manifestOf(p) != "changed" || h.storedSpec(p.Ref().BesideID()) == nil ||
			h.store.Snapshot().Get(structs.TableActions, p.Ref().BesideID()) == nil {
			t.Fatalf("%s: a row is missing", p.Name)
		}
		must(h, DeletePod{Caller: alice, Ident: p.ID})
	}
	h.reports(placed, structs.ContainerGone)
	for _, p := range []*structs.Pod{placed, waiting} {
		if h.podNow(p.ID) != nil || h.manifestOf(p) != "" || h.storedSpec(p.Ref().BesideID()) != nil ||
			h.store.Snapshot().Get(structs.TableActions, p.Ref().BesideID()) != nil {
			t.Errorf("%s: a row is left", p.Name)
		}
	}
}

// reports has the pod's host report its status under the desired generation.
func (h *harness) reports(p *structs.Pod, status structs.ContainerStatus) {
	h.Helper()
	workload{h, kindOfPods(), p.ID}.says(h.podNow(p.ID).HostID, h.podNow(p.ID).Epoch, status)
}

func kindOfPods() kind { return kinds[len(kinds)-1] }

// TestReportsOfLargePodsAreSmall: the manifest and a large spec are not written again with a
// report.
func TestReportsOfLargePodsAreSmall(t *testing.T) {
	h := twoHosts(t)
	spec := podSpec(1, 1)
	spec.Containers[0].Args = []string{strings.Repeat("a", structs.MaxSpec-1000)}
	p := must(h, CreatePod{Caller: alice, Bay: "bay", Pod: structs.Pod{Name: "large", Spec: spec}, Manifest: strings.Repeat("m",
		structs.MaxManifest)})
	if size := h.proposer.largest; size < structs.MaxSpec+structs.MaxManifest-1000 || size > structs.MaxEntry {
		t.Errorf("the create has %d bytes", size)
	}
	h.proposer.largest = 0
	h.reports(p, structs.ContainerRunning)
	h.mark(structs.HostLost, h.podNow(p.ID).HostID)
	if h.podNow(p.ID).Epoch != 2 || h.proposer.largest > 4<<10 {
		t.Errorf("epoch %d; a report or a move has %d bytes", h.podNow(p.ID).Epoch, h.proposer.largest)
	}
	if got := h.podNow(p.ID).Spec; !reflect.DeepEqual(got.Containers, spec.Containers) {
		t.Error("the spec has changed")
	}
	spec.Containers[0].Args[0] += strings.Repeat("a", 2000)
	err := refuse(h, structs.CodeInvalid, CreatePod{Caller: alice, Bay: "bay", Pod: structs.Pod{Name: "larger", Spec: spec}})
	want := fmt.Sprintf("more than %d: make it smaller; most of it is spec.containers with", structs.MaxSpec)
	if !strings.Contains(err.Error(), want) {
		t.Errorf("%v", err)
	}
}

// TestReportOfManyDeletedPods: a report that ends as many pods, each with four rows, as an
// entry has changes leaves none for the row of the host, which is written in the next entry.
func TestReportOfManyDeletedPods(t *testing.T) {
	h := twoHosts(t)
	var ids []string
	spec := podSpec(1, 1)
	spec.Containers[0].Args = []string{strings.Repeat("a", 9<<10)}
	host := ""
	for i := 0; len(ids) < 50; i++ {
		p := h.pod(fmt.Sprint("p", i), spec)
		if host == "" {
			host = p.HostID
		}
		if p.HostID != host {
			continue
		}
		must(h, DeletePod{Caller: alice, Ident: p.ID})
		ids = append(ids, p.ID)
	}
	now := h.store.Snapshot().Host(host)
	report := ReportStatus{HostID: host, StatusReport: structs.StatusReport{Registration: now.Registration, Seq: now.ReportSeq + 1}}
	for _, id := range ids {
		r := structs.ReportOf(structs.Ref{Kind: structs.WorkloadPod, ID: id, Epoch: 1})
		r.Observed = structs.Observed{Status: structs.ContainerGone, Generation: 2}
		report.Containers = append(report.Containers, r)
	}
	if _, err := Report(t.Context(), h.Conductor, report); err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		if h.podNow(id) != nil {
			t.Fatalf("pod %s is left", id)
		}
	}
}

// TestPodThatIsLostWaitsForRoom: nobody can start a pod again, so one that its host has lost
// waits for room if there is none.
func TestPodThatIsLostWaitsForRoom(t *testing.T) {
	h := twoHosts(t)
	p := h.pod("web", podSpec(1<<30, 2<<30))
	h.reports(p, structs.ContainerRunning)
	from := p.HostID
	h.pod("other", podSpec(1<<30, 2<<30)) // takes the other host
	must(h, DrainHost{Caller: root, Ident: from, Draining: true})
	h.reports(p, structs.ContainerGone)
	now := h.podNow(p.ID)
	if now.HostID != "" || now.Gone || now.PlaceReason == "" || now.Phase() != structs.PodPending {
		t.Fatalf("%+v", now)
	}
	h.holds(from, 0)
	must(h, DrainHost{Caller: root, Ident: from, Draining: false})
	h.settle()
	if now = h.podNow(p.ID); now.HostID != from || now.Epoch != 2 || now.Gone {
		t.Errorf("%+v", now.Placement)
	}
}

// TestPodsNeedAgentsThatRunThem: a pod waits, and says for what, while the agents of its
// bay run no pods. An agent that doesn't say what it runs, runs containers.
func TestPodsNeedAgentsThatRunThem(t *testing.T) {
	h := newHarness(t)
	id := structs.NewID()
	old := asHost(id, engineOf("E1"))
	must(h, old)
	h.bay(alice, "bay", 1)
	create := CreatePod{Caller: alice, Bay: "bay", Pod: structs.Pod{Name: "web", Spec: podSpec(1<<20, 0)}}
	p := must(h, create)
	if p.HostID != "" || !strings.Contains(p.PlaceReason, "of 1 host, 1 with an agent that is too old for it and is to be upgraded") {
		t.Errorf("the pod is on %q, and waits because of %q", p.HostID, p.PlaceReason)
	}
	if c := h.create(alice, "bay", structs.ContainerSpec{}); c.HostID != id {
		t.Errorf("a container waits: %s", c.PlaceReason)
	}
	upgraded := old
	upgraded.Fingerprint.Kinds = []structs.WorkloadKind{structs.WorkloadContainer, structs.WorkloadPod}
	must(h, upgraded)
	h.settle()
	if p := h.store.Snapshot().Pod(p.ID); p.HostID != id || p.PlaceReason != "" {
		t.Errorf("the pod is on %q, and waits because of %q", p.HostID, p.PlaceReason)
	}
}

// TestKindsNeedTheirSchema: no row says which kinds an agent runs while a server may not
// understand it.
func TestKindsNeedTheirSchema(t *testing.T) {
	h := newHarnessOf(t, structs.SchemaPods-1)
	id := h.host("h1", nil)
	if kinds := h.store.Snapshot().Host(id).Fingerprint.Kinds; kinds != nil {
		t.Errorf("the row has %v", kinds)
	}
	must(h, RaiseSchema{Schema: structs.SchemaPods})
	h.register(id, "h1", nil)
	if kinds := h.store.Snapshot().Host(id).Fingerprint.Kinds; len(kinds) != 1 || kinds[0] != structs.WorkloadPod {
		t.Errorf("the row has %v", kinds)
	}
}

// TestPodsNeedTheirSchema: no pod is written while a server may not understand it.
func TestPodsNeedTheirSchema(t *testing.T) {
	h := newHarnessOf(t, structs.SchemaPods-1)
	h.host("h1", nil)
	h.bay(alice, "bay", 1)
	create := CreatePod{Caller: alice, Bay: "bay", Pod: structs.Pod{Name: "web", Spec: podSpec(1, 1)}}
	if err := refuse(h, structs.CodeUnavailable, create); !strings.Contains(err.Error(), "upgrade the other servers first") {
		t.Errorf("%v", err)
	}
	must(h, RaiseSchema{Schema: structs.SchemaPods})
	must(h, create)
}
