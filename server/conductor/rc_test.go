package conductor

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stackforge/magnum/server/conductor/scratch"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// rcSpec returns the spec of pods with the label app=NAME.
func rcSpec(name string, replicas int) structs.RCSpec {
	labels := map[string]string{"app": name}
	return structs.RCSpec{Replicas: replicas, Selector: labels, Labels: labels, Template: podSpec(1<<20, 1<<20)}
}

// withImage returns the spec with another image.
func withImage(spec structs.RCSpec, image string) structs.RCSpec {
	spec.Template.Containers = slices.Clone(spec.Template.Containers)
	spec.Template.Containers[0].Image = image
	return spec
}

// controller is a replication controller in a harness whose steps are taken when their topics
// fire.
type controller struct {
	*steps
	id string
}

// rc creates a replication controller in the bay "bay".
func (s *steps) rc(name string, spec structs.RCSpec) controller {
	s.Helper()
	rc := must(s.harness, CreateRC{Caller: alice, Bay: "bay", RC: structs.RC{Name: name}, Spec: spec, Manifest: "manifest of " + name})
	s.follow()
	return controller{s, rc.ID}
}

// now returns the row, nil if there is none.
func (c controller) now() *structs.RC {
	rc, _ := c.store.Snapshot().Get(structs.TableRCs, c.id).(*structs.RC)
	return rc
}

// pods returns the pods that the replication controller owns, in the order of their creation,
// without those that are being deleted.
func (c controller) pods() (all []*structs.Pod) {
	for w := range c.store.Snapshot().InBay(c.bayNamed("bay").ID) {
		if p, ok := w.(*structs.Pod); ok && p.Owner == c.id && p.Desired != structs.DesiredAbsent {
			all = append(all, p)
		}
	}
	return all
}

// reportPod has a pod's host report it with both containers in a state. It reports the end of
// a pod that is to be deleted.
func (s *steps) reportPod(id string, state string, ready bool, code int) {
	s.Helper()
	p := s.podNow(id)
	host := s.store.Snapshot().Host(p.HostID)
	r := structs.ReportOf(p.Ref())
	r.Observed = structs.Observed{Status: structs.ContainerRunning, Generation: p.Generation, EngineID: "e",
		Addresses: []string{"10.0.0.9"}}
	if p.Desired == structs.DesiredAbsent {
		r.Status = structs.ContainerGone
	} else if state == structs.PartTerminated {
		r.Status = structs.ContainerStopped
	}
	for i := range p.Spec.Containers {
		part := structs.PartReport{Part: p.Spec.Containers[i].Name, Observed: r.Observed, Ready: ready}
		part.State.State = state
		if state == structs.PartTerminated {
			part.State.ExitCode = new(code)
		}
		r.Parts = append(r.Parts, part)
	}
	must(s.harness, ReportStatus{HostID: host.ID, StatusReport: structs.StatusReport{Registration: host.Registration,
		Seq: host.ReportSeq + 1, Containers: []structs.ContainerReport{r}}})
	s.follow()
}

// run has all hosts carry out what they are assigned until nothing changes. Pods become ready,
// but for those with an image of broken.
func (s *steps) run(broken ...string) {
	s.Helper()
	for range 1000 {
		s.follow()
		next := ""
		unready := false
		for w := range s.store.Snapshot().InBay(s.bayNamed("bay").ID) {
			p, ok := w.(*structs.Pod)
			host := s.store.Snapshot().Host(w.Place().HostID)
			if !ok || host == nil || host.State == structs.HostLost {
				continue
			}
			bad := slices.Contains(broken, p.Spec.Containers[0].Image)
			if p.Desired == structs.DesiredAbsent || !p.Ready() && !bad && !p.Ended() || bad && p.Phase() == structs.PodPending {
				next, unready = p.ID, bad
				break
			}
		}
		if next == "" {
			return
		}
		s.reportPod(next, structs.PartRunning, !unready, 0)
	}
	s.Fatal("the hosts are never done")
}

// holds checks what is counted.
func (c controller) counts(current, ready, updated int) {
	c.Helper()
	if o := c.now().Observed; o.Current != current || o.Ready != ready || o.Updated != updated || o.Generation != c.now().Generation {
		c.Fatalf("counted: %+v, not %d, %d ready, %d updated; generation %d", o, current, ready, updated, c.now().Generation)
	}
}

func (c controller) patch(spec structs.RCSpec) {
	c.Helper()
	must(c.harness, PatchRC{Caller: alice, Ident: c.id, Spec: spec, Manifest: fmt.Sprint("changed ", spec.Replicas,
		spec.Template.Containers[0].Image)})
	c.follow()
}

func TestReplicasAreKept(t *testing.T) {
	s := newSteps(twoHosts(t))
	c := s.rc("web", rcSpec("web", 3))
	c.counts(3, 0, 3)
	if reason := c.now().Observed.Reason; !strings.Contains(reason, "container web has not been started yet") {
		t.Errorf("the reason is %q", reason)
	}
	s.run()
	c.counts(3, 3, 3)
	if !c.now().Settled() || c.now().Observed.Reason != "" {
		t.Errorf("%+v", c.now())
	}
	for _, p := range c.pods() {
		if !strings.HasPrefix(p.Name, "web-") || len(p.Name) != len("web-")+5 || p.Spec.Hostname != p.Name || p.Labels["app"] != "web" ||
			p.ProjectID != alice.ProjectID || p.Revision != c.now().Revision {
			t.Errorf("pod %+v", p)
		}
	}
	index := s.store.Index()
	if s.follow(); s.store.Index() != index {
		t.Error("a step writes although all is as wanted")
	}

	// A deleted one is replaced at once.
	gone := c.pods()[1]
	must(s.harness, DeletePod{Caller: alice, Ident: gone.ID})
	s.follow()
	c.counts(3, 2, 3)
	s.run()
	c.counts(3, 3, 3)
	if s.podNow(gone.ID) != nil {
		t.Error("the deleted pod is left")
	}

	// More, fewer, none, and again some.
	for _, n := range []int{5, 2, 0, 4} {
		c.patch(rcSpec("web", n))
		if c.now().Replicas != n || len(c.pods()) != n {
			t.Fatalf("%d replicas: there are %d", n, len(c.pods()))
		}
		s.run()
		c.counts(n, n, n)
	}
}

// TestReplicasAreSpread: whatever the bay's strategy is and whatever else runs on its hosts.
func TestReplicasAreSpread(t *testing.T) {
	for _, strategy := range []structs.PlacementStrategy{structs.PlacementSpread, structs.PlacementBinpack} {
		t.Run(string(strategy), func(t *testing.T) {
			h := newHarness(t)
			for _, name := range []string{"a", "b", "c"} {
				h.host(name, nil)
			}
			must(h, CreateBay{Caller: alice, Name: "bay", NodeCount: 3, Placement: strategy})
			s := newSteps(h)
			first := h.pod("other", podSpec(1<<30, 1<<20)).HostID
			for i := range 4 { // four more on one host
				spec := podSpec(1<<20, 1<<20)
				p := h.pod(fmt.Sprint("p", i), spec)
				if strategy == structs.PlacementBinpack && p.HostID != first {
					t.Fatal("the bay is not packed")
				}
			}
			c := s.rc("web", rcSpec("web", 6))
			check := func(each int) {
				t.Helper()
				on := make(map[string]int)
				for _, p := range c.pods() {
					on[p.HostID]++
				}
				for host, n := range on {
					if n != each || host == "" {
						t.Errorf("on the hosts: %v, not %d each", on, each)
					}
				}
			}
			check(2)
			s.run()
			c.patch(withImage(rcSpec("web", 6), "j"))
			s.run()
			c.counts(6, 6, 6)
			check(2)
			c.patch(withImage(rcSpec("web", 3), "j"))
			check(1)
		})
	}
}

// TestReplicasOfALostHost: they move as all pods do, and are not replaced besides.
func TestReplicasOfALostHost(t *testing.T) {
	s := newSteps(twoHosts(t))
	c := s.rc("web", rcSpec("web", 4))
	s.run()
	var ids []string
	for _, p := range c.pods() {
		ids = append(ids, p.ID)
	}
	lost := c.pods()[0].HostID
	s.mark(structs.HostLost, lost)
	s.follow()
	c.counts(4, 2, 4)
	s.run()
	c.counts(4, 4, 4)
	for _, p := range c.pods() {
		if p.HostID == lost || !slices.Contains(ids, p.ID) {
			t.Errorf("pod %s is on the lost host, or a second one: %+v", p.Name, p.Placement)
		}
	}

	// Without room elsewhere they stay, and there is no double either.
	other := s.other(lost)
	s.mark(structs.HostLost, other)
	s.follow()
	if got := len(c.pods()); got != 4 {
		t.Errorf("there are %d pods", got)
	}
	c.counts(4, 0, 4)
	if reason := c.now().Observed.Reason; !strings.Contains(reason, "is lost") {
		t.Errorf("the reason is %q", reason)
	}
}

// TestAdoptedPodsThatDontMove: a pod that is not always restarted is replaced once it has ended
// or its host is lost.
func TestAdoptedPodsThatDontMove(t *testing.T) {
	s := newSteps(twoHosts(t))
	spec := podSpec(1<<20, 1<<20)
	spec.RestartPolicy = structs.PodRestartNever
	labels := map[string]string{"app": "web"}
	var adopted []*structs.Pod
	for _, name := range []string{"one", "two"} {
		adopted = append(adopted, must(s.harness, CreatePod{Caller: alice, Bay: "bay", Pod: structs.Pod{Name: name, Labels: labels,
			Spec: spec}}))
	}
	c := s.rc("web", rcSpec("web", 2))
	if got := c.pods(); len(got) != 2 || got[0].ID != adopted[0].ID || got[1].ID != adopted[1].ID {
		t.Fatalf("not adopted: %v", got)
	}
	s.run()
	c.counts(2, 2, 2)
	s.reportPod(adopted[0].ID, structs.PartTerminated, false, 0)
	s.run()
	c.counts(2, 2, 2)
	if p := s.podNow(adopted[0].ID); p == nil || p.Owner != "" || p.Phase() != structs.PodSucceeded {
		t.Errorf("the pod that has ended: %+v", p)
	}
	lost := adopted[1].HostID
	s.mark(structs.HostLost, lost)
	s.run()
	c.counts(2, 2, 2)
	if p := s.podNow(adopted[1].ID); p == nil || p.Desired != structs.DesiredAbsent {
		t.Errorf("the pod of the lost host: %+v", p)
	}
	s.mark(structs.HostReady, lost)
	s.run()
	if s.podNow(adopted[1].ID) != nil {
		t.Error("the host that has returned still has the pod")
	}
	c.counts(2, 2, 2)
}

// TestReplicasThatAHostHasLost: a pod that was removed from its host is created again by the
// one mechanism.
func TestReplicasThatAHostHasLost(t *testing.T) {
	s := newSteps(twoHosts(t))
	c := s.rc("web", rcSpec("web", 2))
	s.run()
	p := c.pods()[0]
	s.reports(p, structs.ContainerGone)
	s.run()
	c.counts(2, 2, 2)
	if now := s.podNow(p.ID); now == nil || now.Epoch != 2 {
		t.Errorf("%+v", now)
	}
}

// TestReplicaWithAClaim: a pod whose volume is on its host is not replaced by one elsewhere.
func TestReplicaWithAClaim(t *testing.T) {
	s := newSteps(twoHosts(t))
	spec := rcSpec("web", 1)
	spec.Template.Volumes = []structs.PodVolume{{Name: "v", Claim: "data"}}
	c := s.rc("web", spec)
	s.run()
	p := c.pods()[0]
	must(s.harness, DrainHost{Caller: root, Ident: p.HostID, Draining: true})
	s.reports(s.podNow(p.ID), structs.ContainerGone)
	s.follow()
	if got := c.pods(); len(got) != 1 || got[0].ID != p.ID || got[0].HostID != p.HostID {
		t.Fatalf("pods %+v", got)
	}
	c.counts(1, 0, 1)
	if reason := c.now().Observed.Reason; !strings.Contains(reason, "volume data is on host") {
		t.Errorf("the reason is %q", reason)
	}
	s.mark(structs.HostLost, p.HostID)
	s.follow()
	c.counts(1, 0, 1)
	// A user may decide otherwise.
	must(s.harness, DeletePod{Caller: alice, Ident: p.ID, Force: true})
	s.run()
	c.counts(1, 1, 1)
}

func TestAdoptionAndRelease(t *testing.T) {
	s := newSteps(twoHosts(t))
	create := CreatePod{Caller: alice, Bay: "bay", Pod: structs.Pod{Name: "mine", Labels: map[string]string{"app": "web", "x": "y"},
		Spec: podSpec(1<<20, 1<<20)}}
	mine := must(s.harness, create)
	create.Pod.Name, create.Pod.Labels = "other", map[string]string{"app": "db"}
	other := must(s.harness, create)
	create.Pod.Labels, create.Caller, create.Bay = map[string]string{"app": "web"}, root, s.bayNamed("bay").ID
	foreign := must(s.harness, create)
	c := s.rc("web", rcSpec("web", 2))
	if s.podNow(mine.ID).Owner != c.id || s.podNow(other.ID).Owner != "" || s.podNow(foreign.ID).Owner != "" || len(c.pods()) != 2 {
		t.Fatalf("owners: %q, %q, %q; there are %d", s.podNow(mine.ID).Owner, s.podNow(other.ID).Owner, s.podNow(foreign.ID).Owner,
			len(c.pods()))
	}
	s.run()
	if s.podNow(mine.ID).Desired != structs.DesiredRunning {
		t.Fatal("the adopted pod was replaced, because it is not of the template")
	}
	// One pod too many, which is younger than the others: it goes, adopted or not.
	create.Caller, create.Bay, create.Pod.Name = alice, "bay", "third"
	third := must(s.harness, create)
	s.follow()
	if p := s.podNow(third.ID); p.Desired != structs.DesiredAbsent {
		t.Errorf("%+v", p.Placement)
	}
	s.run()
	c.counts(2, 2, 2)

	relabel := func(labels map[string]string) PatchPod {
		return PatchPod{Caller: alice, Ident: mine.ID, Manifest: fmt.Sprint(labels), Apply: func(p *structs.Pod) error {
			p.Labels = labels
			return nil
		}}
	}
	must(s.harness, relabel(map[string]string{"app": "web", "x": "z"}))
	s.follow()
	if s.podNow(mine.ID).Owner != c.id {
		t.Error("released although its labels match")
	}
	must(s.harness, relabel(map[string]string{"app": "mine"}))
	s.follow()
	if p := s.podNow(mine.ID); p.Owner != "" || p.Revision != "" || p.Desired != structs.DesiredRunning || len(c.pods()) != 2 {
		t.Errorf("not released, or not replaced: %+v", p)
	}
	s.run()
	c.counts(2, 2, 2)
	// Its labels match again, and there is one too many again.
	must(s.harness, relabel(map[string]string{"app": "web"}))
	s.run()
	c.counts(2, 2, 2)
}

func TestRollingUpdate(t *testing.T) {
	s := newSteps(twoHosts(t))
	spec := rcSpec("web", 3)
	c := s.rc("web", spec)
	s.run()
	c.patch(withImage(spec, "j"))
	c.counts(4, 3, 1)
	if reason := c.now().Observed.Reason; !strings.Contains(reason, "rolling update: 1 of 3 pods") {
		t.Errorf("the reason is %q", reason)
	}
	s.run()
	c.counts(3, 3, 3)
	for _, p := range c.pods() {
		if p.Spec.Containers[0].Image != "j" {
			t.Errorf("pod %s has the image %s", p.Name, p.Spec.Containers[0].Image)
		}
	}
	if got := c.now().Images; got[0] != "j" {
		t.Errorf("images %v", got)
	}

	// A template that never becomes ready: all old pods stay, and the reason names the pod.
	var old []string
	for _, p := range c.pods() {
		old = append(old, p.ID)
	}
	c.patch(withImage(spec, "broken"))
	s.run("broken")
	c.counts(4, 3, 1)
	for _, id := range old {
		if p := s.podNow(id); p == nil || p.Desired != structs.DesiredRunning {
			t.Fatal("an old pod is gone")
		}
	}
	if reason := c.now().Observed.Reason; !strings.Contains(reason, "1 of 3 pods") ||
		!strings.Contains(reason, c.pods()[3].Name+" to be ready: container web runs and is not ready") {
		t.Errorf("the reason is %q", reason)
	}
	// Back to the template before: the old pods are right again.
	c.patch(withImage(spec, "j"))
	s.run()
	c.counts(3, 3, 3)
	for _, p := range c.pods() {
		if !slices.Contains(old, p.ID) {
			t.Errorf("pod %s is new", p.Name)
		}
	}
	// Other labels, which the selector follows: no pod is left behind.
	renamed := withImage(spec, "j")
	renamed.Labels = map[string]string{"app": "web", "v": "2"}
	renamed.Selector = renamed.Labels
	c.patch(renamed)
	s.run()
	c.counts(3, 3, 3)
	if n := len(slices.Collect(s.store.Snapshot().InBay(s.bayNamed("bay").ID))); n != 3 {
		t.Errorf("the bay has %d pods", n)
	}
	if got := s.store.Snapshot().Manifest(c.now().BesideID()); got == nil || got.RC.Labels["v"] != "2" || !strings.HasPrefix(got.Text,
		"changed") {
		t.Errorf("the manifest is %+v", got)
	}
}

func TestDeleteRC(t *testing.T) {
	s := newSteps(twoHosts(t))
	c := s.rc("web", rcSpec("web", 2))
	s.run()
	deleted := must(s.harness, DeleteRC{Caller: alice, Ident: "web"})
	s.follow()
	if !deleted.Deleting || len(c.pods()) != 0 || c.now() == nil || !strings.Contains(c.now().Observed.Reason, "2 are left") {
		t.Fatalf("%+v", c.now())
	}
	index := s.store.Index()
	if must(s.harness, DeleteRC{Caller: alice, Ident: "web"}); s.store.Index() != index {
		t.Error("a second delete is a change")
	}
	refuse(s.harness, structs.CodeConflict, PatchRC{Caller: alice, Ident: "web", Spec: rcSpec("web", 1)})
	refuse(s.harness, structs.CodeConflict, CreateRC{Caller: alice, Bay: "bay", RC: structs.RC{Name: "web"}, Spec: rcSpec("web", 1)})
	next := s.rc("next", rcSpec("web", 1)) // the selector is free again
	s.run()
	if c.now() != nil || s.store.Snapshot().Manifest("rc/"+c.id) != nil {
		t.Error("a row is left")
	}
	next.counts(1, 1, 1)

	// Pods on a lost host keep it; force forgets them.
	lost := next.pods()[0].HostID
	s.mark(structs.HostLost, lost, s.other(lost))
	s.follow()
	must(s.harness, DeleteRC{Caller: alice, Ident: "next"})
	s.follow()
	if next.now() == nil || !strings.Contains(next.now().Observed.Reason, "delete with force") {
		t.Fatalf("%+v", next.now())
	}
	must(s.harness, DeleteRC{Caller: alice, Ident: "next", Force: true})
	s.follow()
	if next.now() != nil {
		t.Errorf("%+v", next.now())
	}
}

// TestRCsOfADeletedBay: they are deleted first, so that no pod is made again.
func TestRCsOfADeletedBay(t *testing.T) {
	s := newSteps(twoHosts(t))
	c := s.rc("web", rcSpec("web", 2))
	s.run()
	bay := s.bayNamed("bay").ID
	must(s.harness, DeleteBay{Caller: alice, Ident: "bay"})
	s.follow()
	if c.now() != nil {
		t.Fatal("the bay is being deleted, and its rc is left")
	}
	for range 3 {
		for w := range s.store.Snapshot().InBay(bay) {
			s.reportPod(w.Base().ID, structs.PartRunning, false, 0)
		}
	}
	if s.bayNow(bay) != nil || s.store.Snapshot().Manifest("rc/"+c.id) != nil {
		t.Error("the bay, or a manifest, is left")
	}
}

func TestRCRefusals(t *testing.T) {
	s := newSteps(twoHosts(t))
	h := s.harness
	must(h, CreateBay{Caller: alice, Name: "other", NodeCount: 1})
	c := s.rc("web", rcSpec("web", 1))
	create := CreateRC{Caller: alice, Bay: "bay", RC: structs.RC{Name: "web"}, Spec: rcSpec("db", 1)}
	if err := refuse(h, structs.CodeConflict, create); !strings.Contains(err.Error(), c.id) || !strings.Contains(err.Error(), "delete it") {
		t.Errorf("%v", err)
	}
	create.RC.Name, create.UUID = "db", c.id
	refuse(h, structs.CodeConflict, create)
	create.UUID, create.Bay = "", "none"
	refuse(h, structs.CodeInvalid, create)

	// A pod could match both selectors.
	create.Bay, create.Spec = "bay", rcSpec("web", 1)
	create.Spec.Selector = map[string]string{"tier": "x"}
	if err := refuse(h, structs.CodeInvalid, create); !strings.Contains(err.Error(), "spec.selector") ||
		!strings.Contains(err.Error(), "controller web") {
		t.Errorf("%v", err)
	}
	create.Bay = "other"
	must(h, create) // another bay
	create.Bay, create.Caller = s.bayNamed("bay").ID, root
	must(h, create) // another project
	create.Caller, create.Bay, create.Spec = alice, "bay", rcSpec("db", 1)
	must(h, create)
	overlaps := rcSpec("db", 1)
	overlaps.Selector = map[string]string{"app": "web"}
	refuse(h, structs.CodeInvalid, PatchRC{Caller: alice, Ident: s.rcNamed("db").ID, Spec: overlaps})
	twice := CreateRC{Caller: alice, Bay: "bay", RC: structs.RC{Name: "x"}, Spec: rcSpec("x", 1)}
	again := twice
	again.RC.Name = "y"
	refuse(h, structs.CodeInvalid, oneAfterAnother{and(twice), and(again)})

	large := rcSpec("large", 1)
	large.Template.Containers[0].Args = []string{strings.Repeat("a", structs.MaxSpec)}
	err := refuse(h, structs.CodeInvalid, CreateRC{Caller: alice, Bay: "bay", RC: structs.RC{Name: "large"}, Spec: large})
	if !strings.Contains(err.Error(), "spec.template.spec") {
		t.Errorf("%v", err)
	}
	refuse(h, structs.CodeInvalid, PatchRC{Caller: alice, Ident: c.id, Spec: large})
	rename := PatchRC{Caller: alice, Ident: c.id, RC: structs.RC{Name: "new"}, Spec: rcSpec("web", 1)}
	if err := refuse(h, structs.CodeInvalid, rename); !strings.Contains(err.Error(), "metadata.name") {
		t.Errorf("%v", err)
	}
	refuse(h, structs.CodeNotFound, PatchRC{Caller: bob, Ident: c.id, Spec: rcSpec("web", 1)})
	refuse(h, structs.CodeNotFound, DeleteRC{Caller: bob, Ident: c.id})

	// The same again changes nothing.
	patch := PatchRC{Caller: alice, Ident: c.id, Spec: rcSpec("web", 1), Manifest: "manifest of web"}
	index := h.store.Index()
	if must(h, patch); h.store.Index() != index {
		t.Error("the same manifest is a change")
	}
}

// rcNamed returns alice's replication controller of the name in the bay "bay".
func (s *steps) rcNamed(name string) *structs.RC {
	s.Helper()
	for rc := range state.RCsInBay(s.store.Snapshot(), s.bayNamed("bay").ID) {
		if rc.Name == name && rc.ProjectID == alice.ProjectID {
			return rc
		}
	}
	s.Fatalf("there is no replication controller %s", name)
	return nil
}

// TestGeneratedRCNames: a name is made from the prefix and the UUID, and a long one leaves room for
// what pods' names have behind it.
func TestGeneratedRCNames(t *testing.T) {
	s := newSteps(twoHosts(t))
	id := structs.NewID()
	create := CreateRC{Caller: alice, Bay: "bay", UUID: id, Prefix: strings.Repeat("p", 70), Spec: rcSpec("web", 1)}
	rc := must(s.harness, create)
	s.follow()
	if want := strings.Repeat("p", 58) + id[:5]; rc.Name != want {
		t.Errorf("name %q, not %q", rc.Name, want)
	}
	if pods := (controller{s, id}).pods(); len(pods) != 1 || len(pods[0].Name) != structs.MaxPodName ||
		!strings.HasPrefix(pods[0].Name, strings.Repeat("p", 58)) {
		t.Errorf("pods %v", pods)
	}
}

func TestRCsNeedTheirSchema(t *testing.T) {
	h := newHarnessOf(t, structs.SchemaPods-1)
	h.host("h1", nil)
	h.bay(alice, "bay", 1)
	create := CreateRC{Caller: alice, Bay: "bay", RC: structs.RC{Name: "web"}, Spec: rcSpec("web", 1)}
	refuse(h, structs.CodeUnavailable, create)
	must(h, RaiseSchema{Schema: structs.SchemaPods})
	must(h, create)
}

// TestManyReplicas: one step makes as many changes as an entry may have, and the others follow.
func TestManyReplicas(t *testing.T) {
	s := newSteps(twoHosts(t))
	spec := rcSpec("web", structs.MaxReplicas)
	spec.Template = podSpec(0, 0)
	spec.Template.Containers[0].Args = []string{strings.Repeat("a", 9<<10)} // its spec is a row of its own
	c := s.rc("web", spec)
	c.counts(structs.MaxReplicas, 0, structs.MaxReplicas)
	if s.proposer.largest > structs.MaxEntry {
		t.Errorf("an entry has %d bytes", s.proposer.largest)
	}
	spec.Replicas = 1
	c.patch(spec)
	c.counts(1, 0, 1)
}

// TestAnotherLeaderKeepsReplicas: a second leader decides by the applied state only, so that it
// makes no pod twice, whatever the first one has left undone.
func TestAnotherLeaderKeepsReplicas(t *testing.T) {
	s := newSteps(twoHosts(t))
	fails := fmt.Errorf("the leadership is lost")
	must(s.harness, CreateRC{Caller: alice, Bay: "bay", RC: structs.RC{Name: "web"}, Spec: rcSpec("web", 300)})
	entries := 0
	s.proposer.before = func([]byte) error {
		if entries++; entries > 1 {
			return fails
		}
		return nil
	}
	for {
		if _, err := Do(context.Background(), s.Conductor, Settle{}); err != nil {
			break
		}
	}
	second := newSteps(newHarnessOn(t, s.store))
	c := controller{second, s.rcNamed("web").ID}
	made := len(c.pods())
	if made == 0 || made >= 300 {
		t.Fatalf("the first leader has made %d", made)
	}
	second.settle()
	c.counts(300, 0, 300)
	if got := len(c.pods()); got != 300 {
		t.Errorf("there are %d", got)
	}
}

// TestRandomReplicas: whatever happens to pods and hosts, no more pods are ready than wanted,
// and there are more than one too many only until those of the present template are ready. In
// the end there are as many as wanted.
func TestRandomReplicas(t *testing.T) {
	for seed := range uint64(8) {
		rng := rand.New(rand.NewPCG(seed, 11))
		s := newSteps(newHarness(t))
		var hosts []string
		for i := range 4 {
			hosts = append(hosts, s.host(fmt.Sprint("h", i), nil))
		}
		s.bay(alice, "bay", 4)
		spec := rcSpec("web", 3)
		c := s.rc("web", spec)
		for i := range 150 {
			pods := c.pods()
			switch n := rng.IntN(12); {
			case n == 0:
				spec.Replicas = rng.IntN(6)
				c.patch(spec)
			case n == 1:
				spec = withImage(spec, fmt.Sprint("i", rng.IntN(3)))
				c.patch(spec)
			case n == 2:
				s.mark(structs.HostLost, hosts[rng.IntN(len(hosts))])
			case n == 3:
				s.mark(structs.HostReady, hosts[rng.IntN(len(hosts))])
			case n == 4 && len(pods) > 0:
				must(s.harness, DeletePod{Caller: alice, Ident: pods[rng.IntN(len(pods))].ID})
			case n == 5:
				p := CreatePod{Caller: alice, Bay: "bay", Pod: structs.Pod{Name: fmt.Sprint("p", i), Labels: spec.Labels,
					Spec: podSpec(1, 1)}}
				must(s.harness, p)
			case len(pods) > 0:
				p := pods[rng.IntN(len(pods))]
				if host := s.store.Snapshot().Host(p.HostID); host != nil && host.State != structs.HostLost {
					s.reportPod(p.ID, structs.PartRunning, rng.IntN(4) > 0, 0)
				}
			}
			s.follow()
			ready, unready := 0, 0
			for _, p := range c.pods() {
				if p.Ready() {
					ready++
				} else if p.Revision == c.now().Revision {
					unready++
				}
			}
			if got := len(c.pods()); got > spec.Replicas+1+unready || ready > spec.Replicas {
				t.Fatalf("seed %d, change %d: %d pods, %d ready, and %d are wanted", seed, i, got, ready, spec.Replicas)
			}
		}
		s.mark(structs.HostReady, hosts...)
		s.run()
		c.counts(spec.Replicas, spec.Replicas, spec.Replicas)
	}
}

// TestCopiesFollowTheBatch: the counts by which pods are spread are those of the rows, also after
// a refused request of the batch.
func TestCopiesFollowTheBatch(t *testing.T) {
	s := newSteps(twoHosts(t))
	c := s.rc("web", rcSpec("web", 3))
	p := c.pods()[0]
	tx := scratch.New(s.store.Snapshot(), s.clock)
	is := func(want int) {
		t.Helper()
		fresh := *p
		fresh.ID = structs.NewID()
		n := 0
		for _, on := range tx.Reserved.Copies(&fresh) {
			n += on
		}
		if others := tx.Reserved.Copies(p)[p.HostID]; n != want || others > tx.Reserved.Copies(&fresh)[p.HostID] {
			t.Errorf("%d copies, not %d", n, want)
		}
	}
	is(3)
	tx.Begin()
	fresh := *p
	fresh.ID = structs.NewID()
	tx.Assign(&fresh)
	is(4)
	gone := *p
	gone.Desired = structs.DesiredAbsent
	tx.Assign(&gone)
	is(3)
	tx.Remove(&fresh)
	is(2)
	tx.Rollback()
	is(3)
	if got := tx.Reserved.Copies(&structs.Pod{}); got != nil {
		t.Errorf("a pod without an owner: %v", got)
	}
}

// TestRCRowsTravel: the row that a leader answers to another server has no secrets.
func TestRCRowsTravel(t *testing.T) {
	rc := &structs.RC{Name: "web", Secrets: structs.Secrets{Registry: &structs.Registry{Username: "u", Password: "hunter2"}}}
	b, err := json.Marshal(rc)
	if err != nil || strings.Contains(string(b), "hunter2") {
		t.Errorf("%s, %v", b, err)
	}
}
