package state

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/stackforge/magnum/structs"
)

// serviceRow returns a service of the bay with the UUID testID(n).
func serviceRow(n uint64, bay string, nodePorts ...int) *structs.Service {
	s := &structs.Service{Meta: structs.Meta{ID: testID(n), Seq: n, ProjectID: "p1"}, Name: fmt.Sprint("s", n), BayID: bay}
	for _, p := range nodePorts {
		s.Spec.Ports = append(s.Spec.Ports, structs.ServicePort{Port: 80, NodePort: p, Protocol: "tcp"})
	}
	return s
}

func endpointsRow(n uint64, bay string, pods ...string) *structs.Endpoints {
	e := &structs.Endpoints{Meta: structs.Meta{ID: testID(n), Seq: n, ProjectID: "p1"}, BayID: bay}
	for _, p := range pods {
		e.Pods = append(e.Pods, structs.Endpoint{PodID: p})
	}
	return e
}

func relayHost(n uint64, bay, key string) *structs.Host {
	return &structs.Host{Meta: structs.Meta{ID: testID(n), Seq: n}, Name: fmt.Sprint("h", n), State: structs.HostReady, BayID: bay,
		Fingerprint: structs.Fingerprint{Relay: structs.Relay{Key: key}}}
}

func TestServicesInBay(t *testing.T) {
	s := New()
	mustApply(t, s, 1, put(serviceRow(1, testID(100)), 0), put(serviceRow(2, testID(101)), 0), put(serviceRow(3, testID(100)), 0),
		put(endpointsRow(3, testID(100), "pod"), 0))
	var got []string
	snap := s.Snapshot()
	for row := range ServicesInBay(snap, testID(100)) {
		got = append(got, row.Name)
	}
	if want := []string{"s1", "s3"}; !slices.Equal(got, want) {
		t.Errorf("the bay has %v, not %v", got, want)
	}
	if structs.NameOf(snap.Get(structs.TableServices, testID(2))) != "s2" ||
		snap.Get(structs.TableServices, testID(9)) != nil || snap.Endpoints(testID(3)).Pods[0].PodID != "pod" ||
		snap.Endpoints(testID(1)) != nil {
		t.Error("a row is not found by its ID, or another one is")
	}
	if !HasServices(snap, testID(101)) || HasServices(snap, testID(102)) || HasAnyService(New().Snapshot()) {
		t.Error("a bay has services that it has not, or none")
	}
	found := 0
	for range snap.ByName(structs.TableServices, "p1", "s2") {
		found++
	}
	if found != 1 {
		t.Errorf("%d services have the name", found)
	}
	checkDerived(t, snap)
}

// TestServicesIndex: what the hosts of a bay have to learn moves the index of the bay, and
// fires its topic; nothing else does. A deleted service moves a second index.
func TestServicesIndex(t *testing.T) {
	bay, other := testID(100), testID(101)
	changed := func(s *structs.Service) *structs.Service { s.Labels = map[string]string{"a": "b"}; return s }
	for _, test := range []struct {
		name      string
		from, to  structs.Row // nil: there is none
		wantBay   bool
		wantOther bool
		deleted   bool // of bay
		host      bool // the topic of host 5 fires
	}{
		{"a service is created", nil, serviceRow(3, bay), true, false, false, false},
		{"a service is changed", serviceRow(3, bay), changed(serviceRow(3, bay)), true, false, false, false},
		{"a service is deleted", serviceRow(3, bay), nil, true, false, true, false},
		{"endpoints are written", endpointsRow(1, bay), endpointsRow(1, bay, "p"), true, false, false, false},
		{"endpoints of another bay", endpointsRow(2, other), endpointsRow(2, other, "p"), false, true, false, false},
		{"a host joins", relayHost(5, "", "k"), relayHost(5, bay, "k"), true, false, false, true},
		{"a host leaves", relayHost(5, bay, "k"), relayHost(5, "", "k"), true, false, false, true},
		{"a host changes its bay", relayHost(5, bay, "k"), relayHost(5, other, "k"), true, true, false, true},
		{"a host joins a bay without services", relayHost(5, "", "k"), relayHost(5, testID(102), "k"), false, false, false, true},
		{"a host has another key", relayHost(5, bay, "k"), relayHost(5, bay, "l"), true, false, false, false},
		{"a host reports", relayHost(5, bay, "k"), func() *structs.Host {
			h := relayHost(5, bay, "k")
			h.ReportSeq, h.State = 7, structs.HostSuspect
			return h
		}(), false, false, false, false},
		{"a free host is registered", nil, relayHost(5, "", "k"), false, false, false, false},
		{"a pod is created", nil, largePod(7, 10), false, false, false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := New()
			mustApply(t, s, 1, put(serviceRow(1, bay), 0), put(serviceRow(2, other), 0))
			version := uint64(0)
			if test.from != nil {
				mustApply(t, s, 2, put(test.from, 0))
				version = 2
			}
			index := func(bayID string) uint64 { changed, _ := ServicesIndex(s.Snapshot(), bayID); return changed }
			before, beforeOther := index(bay), index(other)
			subs := map[string]*Subscription{"bay": s.Subscribe(TopicServices(bay)), "other": s.Subscribe(TopicServices(other)),
				"host": s.Subscribe(TopicHost(testID(5)))}
			if test.to == nil {
				mustApply(t, s, 3, drop(test.from, version))
			} else {
				mustApply(t, s, 3, put(test.to, version))
			}
			for name, want := range map[string]bool{"bay": test.wantBay, "other": test.wantOther, "host": test.host} {
				fired := false
				select {
				case <-subs[name].C():
					fired = true
				default:
				}
				if fired != want {
					t.Errorf("the topic of %s has fired: %v, want %v", name, fired, want)
				}
				subs[name].Close()
			}
			for name, at := range map[string][2]uint64{"bay": {before, index(bay)}, "other": {beforeOther, index(other)}} {
				want := at[0]
				if name == "bay" && test.wantBay || name == "other" && test.wantOther {
					want = 3
				}
				if at[1] != want {
					t.Errorf("the index of %s is %d, want %d", name, at[1], want)
				}
			}
			if _, deleted := ServicesIndex(s.Snapshot(), bay); deleted != 0 != test.deleted {
				t.Errorf("the index of the last deletion is %d", deleted)
			}
			checkDerived(t, s.Snapshot())
		})
	}
}

// TestServicesIndexSurvives: a snapshot keeps both indexes, and a bay takes them along.
func TestServicesIndexSurvives(t *testing.T) {
	s := New()
	bay := &structs.Bay{Meta: structs.Meta{ID: testID(100), Seq: 9, ProjectID: "p1"}, Name: "b"}
	mustApply(t, s, 1, put(bay, 0), put(serviceRow(1, testID(100)), 0), put(serviceRow(2, testID(100)), 0))
	mustApply(t, s, 2, drop(serviceRow(1, testID(100)), 1))
	// The same service is deleted and created again.
	mustApply(t, s, 3, put(endpointsRow(2, testID(100)), 0))
	var saved bytes.Buffer
	if err := s.Persist(&saved); err != nil {
		t.Fatal(err)
	}
	again := New()
	if err := again.Restore(&saved); err != nil {
		t.Fatal(err)
	}
	for _, store := range []*Store{s, again} {
		if changed, deleted := ServicesIndex(store.Snapshot(), testID(100)); changed != 3 || deleted != 2 {
			t.Errorf("changed at %d, deleted at %d", changed, deleted)
		}
	}
	row := *again.Snapshot().Get(structs.TableServices, testID(2)).(*structs.Service)
	mustApply(t, again, 4, structs.Change{Table: structs.TableServices, ID: row.ID, Version: 1}, put(&row, 1))
	if _, deleted := ServicesIndex(again.Snapshot(), testID(100)); deleted != 4 {
		t.Errorf("a service was deleted and created again, and the last deletion is at %d", deleted)
	}
	lists := again.Snapshot().lists.Len()
	gone := *bay
	mustApply(t, again, 5, drop(&gone, 1), drop(&row, 4), drop(endpointsRow(2, testID(100)), 3))
	if changed, deleted := ServicesIndex(again.Snapshot(), testID(100)); changed != 0 || deleted != 0 {
		t.Errorf("a deleted bay leaves %d and %d", changed, deleted)
	}
	if now := again.Snapshot().lists.Len(); now != lists-2 {
		t.Errorf("%d lists, %d before", now, lists)
	}
	checkDerived(t, again.Snapshot())
}

// TestTopicEndpoints: the topic fires for what decides where services lead.
func TestTopicEndpoints(t *testing.T) {
	pod := func(change func(*structs.Pod)) *structs.Pod {
		p := largePod(7, 10)
		p.Spec = structs.PodSpec{Containers: []structs.PodContainer{{Name: "web", Image: "i"}}}
		p.Observed.Status = structs.ContainerRunning
		p.Observed.Parts = []structs.PartObserved{{Name: "web", PartState: structs.PartState{State: structs.PartRunning}}}
		change(p)
		return p
	}
	none := func(*structs.Pod) {}
	moving := func(keep bool) func(*structs.Pod) {
		return func(p *structs.Pod) { p.Priors = []structs.Prior{{HostID: testID(98), Epoch: 1, Keep: keep}} }
	}
	for name, test := range map[string]struct {
		from, to structs.Row
		want     bool
	}{
		"a service is created":     {nil, serviceRow(3, testID(100)), true},
		"a service is changed":     {serviceRow(3, testID(100)), serviceRow(3, testID(100), 30000), true},
		"endpoints are written":    {nil, endpointsRow(3, testID(100)), false},
		"a pod is created":         {nil, pod(none), true},
		"a pod is deleted":         {pod(none), nil, true},
		"a pod is to go":           {pod(none), pod(func(p *structs.Pod) { p.Desired = structs.DesiredAbsent }), true},
		"a pod is ready":           {pod(none), pod(func(p *structs.Pod) { p.Observed.Parts[0].Ready = true }), true},
		"a pod has an address":     {pod(none), pod(func(p *structs.Pod) { p.Observed.Address = "10.0.0.1" }), true},
		"a pod is drained":         {pod(none), pod(func(p *structs.Pod) { p.DrainStop = true }), true},
		"a pod moves":              {pod(none), pod(func(p *structs.Pod) { p.HostID = testID(99) }), true},
		"an earlier one is to go":  {pod(moving(true)), pod(moving(false)), true},
		"an earlier one is gone":   {pod(moving(true)), pod(none), true},
		"a pod has other labels":   {pod(none), pod(func(p *structs.Pod) { p.Labels = map[string]string{"a": "b"} }), true},
		"a pod is unknown":         {pod(none), pod(func(p *structs.Pod) { p.Observed.Status = structs.ContainerUnknown }), true},
		"a pod's memory":           {pod(none), pod(func(p *structs.Pod) { p.Observed.Memory = 7 }), false},
		"a pod has an annotation":  {pod(none), pod(func(p *structs.Pod) { p.Annotations = map[string]string{"a": "b"} }), false},
		"a pod has restarted":      {pod(none), pod(func(p *structs.Pod) { p.Observed.Parts[0].Restarts = 7 }), false},
		"a container was created":  {nil, largeContainer(9, 10), false},
		"a host reports something": {relayHost(5, "", "k"), relayHost(5, "", "l"), false},
	} {
		t.Run(name, func(t *testing.T) {
			s := New()
			mustApply(t, s, 1, put(serviceRow(2, testID(100)), 0))
			version := uint64(0)
			if test.from != nil {
				mustApply(t, s, 2, put(test.from, 0))
				version = 2
			}
			sub := s.Subscribe(TopicEndpoints())
			defer sub.Close()
			if test.to == nil {
				mustApply(t, s, 3, drop(test.from, version))
			} else {
				mustApply(t, s, 3, put(test.to, version))
			}
			fired := false
			select {
			case <-sub.C():
				fired = true
			default:
			}
			if fired != test.want {
				t.Errorf("fired: %v, not %v", fired, test.want)
			}
		})
	}
	s := New()
	sub := s.Subscribe(TopicEndpoints())
	defer sub.Close()
	mustApply(t, s, 1, put(pod(none), 0))
	select {
	case <-sub.C():
		t.Error("fired without a service")
	default:
	}
}

// TestFreeNodePortsAreRoom: workloads that wait for a host port learn that a service no
// longer has it.
func TestFreeNodePortsAreRoom(t *testing.T) {
	bay := testID(100)
	for name, test := range map[string]struct {
		to   structs.Row
		want bool
	}{
		"it is deleted":         {nil, true},
		"it has another port":   {serviceRow(1, bay, 30000, 30002), true},
		"it has one port less":  {serviceRow(1, bay, 30000), true},
		"it has one port more":  {serviceRow(1, bay, 30000, 30001, 30002), false},
		"it has the same ports": {serviceRow(1, bay, 30001, 30000), false},
	} {
		t.Run(name, func(t *testing.T) {
			s := New()
			from := serviceRow(1, bay, 30000, 30001)
			mustApply(t, s, 1, put(from, 0))
			sub := s.Subscribe(TopicRoom())
			defer sub.Close()
			if test.to == nil {
				mustApply(t, s, 2, drop(from, 1))
			} else {
				mustApply(t, s, 2, put(test.to, 1))
			}
			fired := false
			select {
			case <-sub.C():
				fired = true
			default:
			}
			if fired != test.want {
				t.Errorf("fired: %v, not %v", fired, test.want)
			}
		})
	}
}
