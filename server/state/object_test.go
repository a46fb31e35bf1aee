package state

import (
	"slices"
	"testing"

	"github.com/stackforge/magnum/structs"
)

func objectRow(seq uint64) *structs.Object {
	return &structs.Object{Meta: structs.Meta{ID: "service/" + testID(seq), Seq: seq, ProjectID: "p"}, Kind: structs.KindService,
		OwnerID: testID(seq), Name: "web", Placement: structs.Placement{BayID: testID(1000), HostID: testID(1001), Epoch: 1,
			Desired: structs.DesiredRunning, Generation: 1}}
}

// TestObjectsNeedTheirSchema: no entry of an earlier schema has an object.
func TestObjectsNeedTheirSchema(t *testing.T) {
	ch := put(objectRow(1), 0)
	if _, err := EncodeEntry(&structs.Entry{Schema: structs.SchemaKubernetes - 1, Changes: []structs.Change{ch}}); err == nil {
		t.Error("an object is encoded in an earlier schema")
	}
	if _, err := EncodeEntry(&structs.Entry{Schema: structs.SchemaKubernetes, Changes: []structs.Change{ch}}); err != nil {
		t.Error(err)
	}
}

// TestObjectIsPlaced: an object is found by its host, bay and name, and its changes are no
// events: nobody knows it by itself.
func TestObjectIsPlaced(t *testing.T) {
	s := New()
	mustApply(t, s, 1, put(schemaOf(structs.SchemaVersion), 0))
	r, err := s.Events(1)
	if err != nil {
		t.Fatal(err)
	}
	o := objectRow(1)
	mustApply(t, s, 2, assign(o, 0))
	on := s.Subscribe(TopicHost(o.HostID))
	defer on.Close()
	changed := *o
	changed.Generation, changed.Observed.Status = 2, structs.ContainerRunning
	mustApply(t, s, 3, assign(&changed, 2))
	select {
	case <-on.C():
	default:
		t.Error("the host does not learn of a new generation")
	}
	snap := s.Snapshot()
	for what, found := range map[string][]structs.Workload{
		"by host": slices.Collect(snap.OnHost(o.HostID)), "by bay": slices.Collect(snap.InBay(o.BayID)),
		"since": slices.Collect(snap.AssignedSince(o.HostID, 2)),
	} {
		if len(found) != 1 || found[0].Base().ID != o.ID {
			t.Errorf("%s: %v", what, found)
		}
	}
	if found := slices.Collect(snap.ByName(structs.TableObjects, "p", "web")); len(found) != 1 {
		t.Errorf("by name: %v", found)
	}
	mustApply(t, s, 4, drop(&changed, 3))
	if n, _, err := r.Read(make([]Event, 10)); n != 0 || err != nil {
		t.Errorf("%d events of an object, %v", n, err)
	}
	checkDerived(t, s.Snapshot())
}

// TestClusterOfHostFiresHosts: the steps of the leader learn how the cluster of a host is.
func TestClusterOfHostFiresHosts(t *testing.T) {
	s := New()
	mustApply(t, s, 1, put(schemaOf(structs.SchemaVersion), 0))
	h := &structs.Host{Meta: structs.Meta{ID: testID(5), Seq: 5}, Fingerprint: structs.Fingerprint{Backend: structs.BackendKubernetes,
		Cluster: &structs.KubernetesCluster{Ready: 1}}}
	mustApply(t, s, 2, put(h, 0))
	hosts := s.Subscribe(TopicHosts())
	defer hosts.Close()
	for i, test := range []struct {
		ready int
		fires bool
	}{{1, false}, {2, true}, {2, false}} {
		now := *h
		now.ReportSeq, now.Fingerprint.Cluster = uint64(i+1), &structs.KubernetesCluster{Ready: test.ready}
		mustApply(t, s, uint64(i+3), put(&now, uint64(i+2)))
		fired := false
		select {
		case <-hosts.C():
			fired = true
		default:
		}
		if fired != test.fires {
			t.Errorf("report %d with %d ready nodes: fires is %v", i, test.ready, fired)
		}
	}
}

// TestCleanHostFiresHosts: a bay may wait for a host that has become clean. A failed attempt
// to clean it gives no step any work.
func TestCleanHostFiresHosts(t *testing.T) {
	s := New()
	mustApply(t, s, 1, put(schemaOf(structs.SchemaVersion), 0))
	h := &structs.Host{Meta: structs.Meta{ID: testID(5), Seq: 5}, Cleaning: &structs.Cleaning{Epoch: 1}}
	mustApply(t, s, 2, put(h, 0))
	hosts := s.Subscribe(TopicHosts())
	defer hosts.Close()
	for i, test := range []struct {
		cleaning *structs.Cleaning
		fires    bool
	}{{&structs.Cleaning{Epoch: 1, Attempts: 1}, false}, {nil, true}, {nil, false}, {&structs.Cleaning{Epoch: 2}, true}} {
		now := *h
		now.ReportSeq, now.Cleaning = uint64(i+1), test.cleaning
		mustApply(t, s, uint64(i+3), put(&now, uint64(i+2)))
		fired := false
		select {
		case <-hosts.C():
			fired = true
		default:
		}
		if fired != test.fires {
			t.Errorf("report %d with the cleaning %+v: fires is %v", i, test.cleaning, fired)
		}
	}
}
