package conductor

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stackforge/magnum/server/conductor/endpoints"
	"github.com/stackforge/magnum/server/conductor/scratch"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// service writes a service of alice in the bay, with its endpoints in the same entry, and
// returns its ID.
func (s *steps) service(bayID string, selector map[string]string) string {
	s.Helper()
	row := &structs.Service{BayID: bayID, Name: "s", Spec: structs.ServiceSpec{Selector: selector,
		Ports: []structs.ServicePort{{Port: 80, TargetPort: 8080, Protocol: "tcp"}}}}
	s.write(func(tx *scratch.Tx) {
		row.Meta = tx.Meta(alice, "")
		tx.Put(row)
		tx.Put(endpoints.Of(tx, row))
		tx.Put(&structs.Manifest{Meta: structs.Meta{ID: row.BesideID(), Seq: row.Seq, ProjectID: row.ProjectID}, Text: "manifest"})
	})
	s.follow()
	return row.ID
}

// leadsTo checks where the service leads: the names of the pods in order, ready ones with a
// plus.
func (s *steps) leadsTo(service string, want ...string) {
	s.Helper()
	var got []string
	for _, p := range s.store.Snapshot().Endpoints(service).Pods {
		name := p.Name
		if p.Ready {
			name += "+"
		}
		got = append(got, name)
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		s.Fatalf("the service leads to %v, want %v", got, want)
	}
}

// labelled creates a pod with the label app=web.
func (s *steps) labelled(name string) *structs.Pod {
	s.Helper()
	p := must(s.harness, CreatePod{Caller: alice, Bay: "bay", Pod: structs.Pod{Name: name, Labels: map[string]string{"app": "web"},
		Spec: podSpec(1<<20, 1<<20)}})
	s.follow()
	return p
}

var web = map[string]string{"app": "web"}

// TestEndpointsAreKept follows a service through the life of its pods.
func TestEndpointsAreKept(t *testing.T) {
	s := newSteps(twoHosts(t))
	bay := s.bayNamed("bay").ID
	a := s.labelled("a")
	id := s.service(bay, web)
	s.leadsTo(id)
	s.reportPod(a.ID, structs.PartRunning, false, 0)
	s.leadsTo(id, "a")
	s.reportPod(a.ID, structs.PartRunning, true, 0)
	s.leadsTo(id, "a+")

	b := s.labelled("b")
	s.reportPod(b.ID, structs.PartRunning, true, 0)
	s.leadsTo(id, "a+", "b+")
	index := s.store.Snapshot().Endpoints(id).ModifyIndex
	s.reportPod(b.ID, structs.PartRunning, true, 0)
	if now := s.store.Snapshot().Endpoints(id).ModifyIndex; now != index {
		t.Error("a report without news has written the endpoints")
	}
	must(s.harness, PatchPod{Caller: alice, Ident: b.ID, Apply: func(p *structs.Pod) error {
		p.Labels = nil
		return nil
	}})
	s.follow()
	s.leadsTo(id, "a+")
	must(s.harness, PatchPod{Caller: alice, Ident: b.ID, Apply: func(p *structs.Pod) error {
		p.Labels = web
		return nil
	}})
	s.follow()
	s.leadsTo(id, "a+", "b+")

	must(s.harness, DeletePod{Caller: alice, Ident: a.ID})
	s.follow()
	s.leadsTo(id, "b+")
	s.reportPod(a.ID, "", false, 0)

	// The pod of a lost host is out at once, before the pod's own row is written.
	lost := s.podNow(b.ID).HostID
	must(s.harness, MarkHosts{Marks: []HostMark{{ID: lost, State: structs.HostLost, Reason: "silent"}}})
	must(s.harness, Settle{Step: stepNamed(t, "keep endpoints")})
	s.leadsTo(id)
	s.follow()
	s.leadsTo(id)
	moved := s.podNow(b.ID)
	if moved.HostID == lost {
		t.Fatal("the pod has not moved")
	}
	s.reportPod(b.ID, structs.PartRunning, true, 0)
	s.leadsTo(id, "b+")

	// A drained pod is an endpoint on its old host until it is ready on the new one.
	must(s.harness, MarkHosts{Marks: []HostMark{{ID: lost, State: structs.HostReady}}})
	must(s.harness, DrainHost{Caller: root, Ident: moved.HostID, Draining: true})
	s.follow()
	if now := s.podNow(b.ID); now.HostID != lost || s.store.Snapshot().Endpoints(id).Pods[0].HostID != moved.HostID {
		t.Fatalf("the pod is on %s, its endpoint %+v", now.HostID, s.store.Snapshot().Endpoints(id).Pods)
	}
	s.leadsTo(id, "b+")
	s.reportPod(b.ID, structs.PartRunning, false, 0)
	if e := s.store.Snapshot().Endpoints(id).Pods[0]; e.HostID != moved.HostID || !e.Ready {
		t.Fatalf("the endpoint is %+v", e)
	}
	s.reportPod(b.ID, structs.PartRunning, true, 0)
	if e := s.store.Snapshot().Endpoints(id).Pods[0]; e.HostID != lost || !e.Ready {
		t.Fatalf("the endpoint is %+v", e)
	}

	s.write(func(tx *scratch.Tx) { tx.Remove(scratch.Row[structs.Service](tx, id)) })
	s.follow()
	s.nothingOf(id)
}

// TestEndpointOfAMoveThatEnds: a pod that moves has its endpoint on the earlier host while it is
// not ready on the new one, and no longer once the earlier placement is to go or is gone.
func TestEndpointOfAMoveThatEnds(t *testing.T) {
	for name, end := range map[string]func(s *steps, now *structs.Pod, from string){
		"it has had its time": func(s *steps, now *structs.Pod, _ string) {
			must(s.harness, EndMoves{Refs: []structs.Ref{now.Ref()}})
		},
		"somebody has removed the earlier one": func(s *steps, now *structs.Pod, from string) {
			host, ref := s.store.Snapshot().Host(from), now.Ref()
			ref.Epoch = 1
			r := structs.ReportOf(ref)
			r.Observed = gone
			must(s.harness, ReportStatus{HostID: from, StatusReport: structs.StatusReport{Registration: host.Registration,
				Seq: host.ReportSeq + 1, Containers: []structs.ContainerReport{r}}})
		},
		"the earlier host is lost": func(s *steps, _ *structs.Pod, from string) {
			must(s.harness, MarkHosts{Marks: []HostMark{{ID: from, State: structs.HostLost, Reason: "silent"}}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSteps(twoHosts(t))
			a := s.labelled("a")
			id := s.service(s.bayNamed("bay").ID, web)
			s.reportPod(a.ID, structs.PartRunning, true, 0)
			from := s.podNow(a.ID).HostID
			must(s.harness, DrainHost{Caller: root, Ident: from, Draining: true})
			s.follow()
			s.reportPod(a.ID, structs.PartRunning, false, 0)
			s.leadsTo(id, "a+")
			end(s, s.podNow(a.ID), from)
			s.follow()
			s.leadsTo(id, "a")
			if e := s.store.Snapshot().Endpoints(id).Pods[0]; e.HostID == from {
				t.Errorf("the endpoint is %+v", e)
			}
			s.reportPod(a.ID, structs.PartRunning, true, 0)
			s.leadsTo(id, "a+")
		})
	}
}

// TestEarlierPlacementIsUnready: a pod that moves has its endpoint on the earlier host, which
// gets no connections while the pod isn't ready there.
func TestEarlierPlacementIsUnready(t *testing.T) {
	s := newSteps(twoHosts(t))
	a := s.labelled("a")
	id, other := s.service(s.bayNamed("bay").ID, web), s.service(s.bayNamed("bay").ID, map[string]string{"app": "other"})
	s.reportPod(a.ID, structs.PartRunning, true, 0)
	was := s.podNow(a.ID)
	must(s.harness, DrainHost{Caller: root, Ident: was.HostID, Draining: true})
	s.follow()
	earlier := func(ready bool, addr string) {
		t.Helper()
		host, r := s.store.Snapshot().Host(was.HostID), structs.ReportOf(was.Ref())
		r.Observed = structs.Observed{Status: structs.ContainerRunning, Generation: was.Generation, Addresses: []string{addr}}
		for i := range was.Spec.Containers {
			r.Parts = append(r.Parts, structs.PartReport{Part: was.Spec.Containers[i].Name, Observed: r.Observed, Ready: ready,
				State: structs.PartState{State: structs.PartRunning}})
		}
		must(s.harness, ReportStatus{HostID: host.ID, StatusReport: structs.StatusReport{Registration: host.Registration,
			Seq: host.ReportSeq + 1, Containers: []structs.ContainerReport{r}}})
		s.follow()
	}
	index := s.store.Snapshot().Endpoints(id).ModifyIndex
	earlier(true, "10.0.0.9")
	if now := s.store.Snapshot().Endpoints(id).ModifyIndex; now != index {
		t.Error("a report without news has written the endpoints")
	}
	earlier(false, "10.0.0.9")
	s.leadsTo(id, "a")
	s.reportPod(a.ID, structs.PartRunning, false, 0)
	s.leadsTo(id, "a")
	earlier(true, "10.0.0.10")
	s.leadsTo(id, "a+")
	if e := s.store.Snapshot().Endpoints(id).Pods[0]; e.HostID != was.HostID || e.Address != "10.0.0.10" {
		t.Errorf("the endpoint is %+v", e)
	}
	s.reportPod(a.ID, structs.PartRunning, true, 0)
	s.leadsTo(id, "a+")
	earlier(false, "10.0.0.10") // a late one
	s.leadsTo(id, "a+")
	if e := s.store.Snapshot().Endpoints(id).Pods[0]; e.HostID == was.HostID {
		t.Errorf("the endpoint is %+v", e)
	}
	s.leadsTo(other)
}

// nothingOf checks that no row of the service is left.
func (s *steps) nothingOf(id string) {
	s.Helper()
	snap := s.store.Snapshot()
	if snap.Get(structs.TableServices, id) != nil || snap.Endpoints(id) != nil || snap.Manifest(structs.KindService+"/"+id) != nil {
		s.Error("rows of the service are left")
	}
}

func stepNamed(t *testing.T, name string) *Step {
	t.Helper()
	for _, step := range Steps {
		if step.name == name {
			return step
		}
	}
	t.Fatalf("there is no step %q", name)
	return nil
}

// TestEndpointsOfADeletedBay: services go with their bay.
func TestEndpointsOfADeletedBay(t *testing.T) {
	s := newSteps(twoHosts(t))
	bay := s.bayNamed("bay").ID
	id := s.service(bay, web)
	must(s.harness, DeleteBay{Caller: alice, Ident: bay})
	s.follow()
	s.nothingOf(id)
	if s.bayNow(bay) != nil {
		t.Error("the bay is left")
	}
	if changed, deleted := state.ServicesIndex(s.store.Snapshot(), bay); changed != 0 || deleted != 0 {
		t.Errorf("indexes %d and %d are left", changed, deleted)
	}
}

// TestManyServices: the step writes the endpoints of many services in several entries.
func TestManyServices(t *testing.T) {
	s := newSteps(twoHosts(t))
	bay := s.bayNamed("bay").ID
	p := s.labelled("a")
	n := structs.MaxChanges*2 + 7
	for done := 0; done < n; {
		s.write(func(tx *scratch.Tx) {
			for range min(100, n-done) {
				row := &structs.Service{Meta: tx.Meta(alice, ""), BayID: bay, Spec: structs.ServiceSpec{Selector: web}}
				tx.Put(row)
				done++
			}
		})
	}
	entries := s.proposer.entries
	s.reportPod(p.ID, structs.PartRunning, true, 0)
	if made := s.proposer.entries - entries; made < 3 || made > 6 {
		t.Errorf("%d entries", made)
	}
	found := 0
	for row := range s.store.Snapshot().List(structs.TableEndpoints, state.AllProjects, 0) {
		of := s.store.Snapshot().Get(structs.TableServices, row.Base().ID)
		if e := row.(*structs.Endpoints); len(e.Pods) == 1 && e.Pods[0].Ready && of.Base().Seq == e.Seq {
			found++
		}
	}
	if found != n {
		t.Errorf("%d of %d services have endpoints", found, n)
	}
}

// TestStepsWithoutServices: reports of pods wake no step while there is no service.
func TestStepsWithoutServices(t *testing.T) {
	s := newSteps(twoHosts(t))
	p := s.labelled("a")
	clear(s.taken)
	s.reportPod(p.ID, structs.PartRunning, true, 0)
	if s.taken["keep endpoints"] != 0 {
		t.Error("the step was taken")
	}
}

// randomService creates, changes or deletes a service of pods.
func (s *steps) randomService(rng *rand.Rand, bay string) (what string, err error) {
	var all []*structs.Service
	for row := range state.ServicesInBay(s.store.Snapshot(), bay) {
		all = append(all, row)
	}
	b := s.bayNow(bay)
	if b == nil || b.Status == structs.BayDeleting {
		return "nothing", nil
	}
	what = "create a service"
	_, err = Do(context.Background(), s.Conductor, edit(func(tx *scratch.Tx) {
		row := &structs.Service{Meta: tx.Meta(alice, ""), BayID: bay, Name: "s"}
		if len(all) > 2 || len(all) > 0 && rng.IntN(2) == 0 {
			was := scratch.Row[structs.Service](tx, all[rng.IntN(len(all))].ID)
			if rng.IntN(3) == 0 {
				what = "delete a service"
				tx.Remove(was)
				return
			}
			what = "change a service"
			*row = *was
		}
		row.Spec = structs.ServiceSpec{Selector: map[string]string{"kind": "pod"}}
		if rng.IntN(3) == 0 {
			row.Spec = structs.ServiceSpec{Selector: map[string]string{"app": fmt.Sprint("rc", rng.IntN(200))}}
		}
		tx.Put(row) // the step writes its endpoints
	}))
	return what, err
}
