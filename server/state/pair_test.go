package state

import (
	"slices"
	"testing"

	"github.com/stackforge/magnum/server/state/statetest"
	"github.com/stackforge/magnum/structs"
)

// The tests of this package register a third kind of placed workload, so the histories
// contain all of them.
func init() {
	Register(Table{Name: statetest.TablePairs, Code: statetest.CodePairs, New: statetest.NewPair})
}

func pair(n uint64, hostID string) *statetest.Pair {
	return &statetest.Pair{
		Meta: structs.Meta{ID: testID(n), Seq: n, ProjectID: "p"}, Name: "pair",
		Placement: structs.Placement{BayID: "bay", HostID: hostID, Desired: structs.DesiredRunning, Generation: 1, Epoch: 1},
		Parts: []statetest.Part{{Name: "web", Memory: 1 << 20, MilliCPU: 100,
			Ports: []structs.Port{{ContainerPort: 80, HostPort: 80, Protocol: "tcp"}}},
			{Name: "log", Memory: 2 << 20, MilliCPU: 50}},
	}
}

// TestWorkloadsOfTwoKinds: a pair and a container with the same UUID are two workloads, and
// share the indexes by host and bay.
func TestWorkloadsOfTwoKinds(t *testing.T) {
	s := New()
	c := typicalContainer(7)
	c.BayID, c.HostID, c.Spec.Memory, c.Spec.MilliCPU = "bay", "h", 4<<20, 25
	waiting := pair(3, "")
	first := pair(7, "h")
	host := s.Subscribe(TopicHost("h"))
	defer host.Close()
	mustApply(t, s, 5, assign(c, 0))
	mustApply(t, s, 6, assign(first, 0), put(waiting, 0))
	snap := s.Snapshot()
	checkDerived(t, snap)
	if got := snap.Workload(statetest.KindPair, first.ID); got != structs.Workload(first) ||
		snap.Workload(structs.WorkloadContainer, c.ID) != structs.Workload(c) {
		t.Errorf("the pair is %v", got)
	}
	if snap.Workload("nothing", c.ID) != nil || snap.Workload(statetest.KindPair, testID(99)) != nil {
		t.Error("there is a workload that was never created")
	}
	if u := snap.Usage("h"); u.Workloads != 2 || u.Memory != 7<<20 || u.MilliCPU != 175 || !u.HasPort("tcp", 80) {
		t.Errorf("reserved: %+v", u)
	}
	if got := slices.Collect(snap.AssignedSince("h", 5)); len(got) != 1 || got[0].Ref() != first.Ref() {
		t.Errorf("assigned since 5: %v", got)
	}
	if got := slices.Collect(snap.InBay("bay")); len(got) != 3 || got[0] != structs.Workload(waiting) {
		t.Errorf("in the bay, in the order of their creation: %v", got)
	}
	if got := slices.Collect(snap.Waiting("bay")); len(got) != 1 || got[0] != structs.Workload(waiting) {
		t.Errorf("waiting: %v", got)
	}
	if got := slices.Collect(snap.WaitingBays()); !slices.Equal(got, []string{"bay"}) {
		t.Errorf("bays with waiting workloads: %v", got)
	}
	select {
	case <-host.C():
	default:
		t.Error("the host was not woken")
	}

	// It moves: both hosts are notified, and the earlier host's reservation stays until
	// that host reports it gone.
	room, other := s.Subscribe(TopicRoom()), s.Subscribe(TopicHost("other"))
	defer room.Close()
	defer other.Close()
	moved := pair(7, "other")
	moved.Epoch, moved.Priors = 2, []structs.Prior{{HostID: "h", Epoch: 1}}
	mustApply(t, s, 7, assign(moved, 6))
	snap = s.Snapshot()
	checkDerived(t, snap)
	if h, o := snap.Usage("h"), snap.Usage("other"); h.Memory != 7<<20 || o.Memory != 3<<20 {
		t.Errorf("reserved while it moves: %+v and %+v", h, o)
	}
	for what, sub := range map[string]*Subscription{"host": host, "other host": other, "room": room} {
		select {
		case <-sub.C():
		default:
			t.Errorf("the %s was not woken", what)
		}
	}
	r, err := s.Events(6)
	if err != nil {
		t.Fatal(err)
	}
	mustApply(t, s, 8, drop(moved, 7))
	buf := make([]Event, 4)
	if n, _, _ := r.Read(buf); n != 1 || buf[0].Kind != EventDeleted || buf[0].Table != statetest.TablePairs || buf[0].HostID != "other" {
		t.Errorf("events: %+v", buf[:n])
	}
	sameState(t, "restored", restored(t, persisted(t, s)), s)
}

// TestRegisterRefusals: no two tables have the same code or name.
func TestRegisterRefusals(t *testing.T) {
	for name, table := range map[string]Table{
		"name":     {Name: structs.TableNodes, Code: 30, New: statetest.NewPair},
		"code":     {Name: "others", Code: codeOf(structs.TableNodes), New: statetest.NewPair},
		"no code":  {Name: "others", New: statetest.NewPair},
		"too high": {Name: "others", Code: maxTables, New: statetest.NewPair},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: the table is accepted", name)
				}
			}()
			Register(table)
		}()
	}
}
