package state

import (
	"maps"
	"slices"
	"testing"

	"github.com/stackforge/magnum/structs"
)

func bayHost(n uint64, bayID string) *structs.Host {
	return &structs.Host{Meta: structs.Meta{ID: testID(n), Seq: n}, Name: string(rune('a' + n)), BayID: bayID, State: structs.HostReady,
		Fingerprint: structs.Fingerprint{Memory: int64(n) << 30, Cores: 4}}
}

// preferred returns the names of the hosts in the order in which the bay prefers them.
func preferred(s *Snapshot, bayID string) (names string) {
	for h := range s.rooms.Preferred(bayID, strategyOf(s, bayID), 0) {
		names += h.Name
	}
	return names
}

// TestRoomsFollowTheirBay: the order is that of the bay's strategy, whether the bay or the
// host is written first, and stays so as long as the bay exists.
func TestRoomsFollowTheirBay(t *testing.T) {
	s := New()
	bay := func(strategy structs.PlacementStrategy) *structs.Bay {
		return &structs.Bay{Meta: structs.Meta{ID: "bay", Seq: 10}, Placement: strategy}
	}
	is := func(what, want string) {
		t.Helper()
		checkRooms(t, s.Snapshot())
		if got := preferred(s.Snapshot(), "bay"); got != want {
			t.Errorf("%s: the order is %s, want %s", what, got, want)
		}
	}
	mustApply(t, s, 1, put(bayHost(1, "bay"), 0), put(bay(structs.PlacementBinpack), 0), put(bayHost(2, "bay"), 0), put(bayHost(3, ""), 0))
	is("binpack", "bc")
	mustApply(t, s, 2, put(bayHost(3, "bay"), 1), put(bay(structs.PlacementSpread), 1))
	is("spread", "dcb")
	c := pair(20, testID(3))
	c.BayID = "bay"
	mustApply(t, s, 3, put(c, 0))
	is("one on d", "cbd")
	before := s.Snapshot()
	suspect := bayHost(2, "bay")
	suspect.State = structs.HostSuspect
	mustApply(t, s, 4, put(suspect, 1), drop(c, 3))
	is("c is suspect", "db")
	if got := preferred(before, "bay"); got != "cbd" {
		t.Errorf("an earlier snapshot has changed: %s", got)
	}
	checkRooms(t, before)
	mustApply(t, s, 5, drop(bay(structs.PlacementSpread), 2), put(bayHost(1, ""), 1))
	is("no such bay", "d")
	mustApply(t, s, 6, drop(bayHost(3, ""), 2), drop(suspect, 4))
	is("no hosts", "")
	if rooms := s.Snapshot().rooms; rooms.hosts.Len() != 0 || rooms.counts.Len() != 0 {
		t.Errorf("%d hosts and %d bays are left", rooms.hosts.Len(), rooms.counts.Len())
	}
}

// TestRoomsFollowLabels: the labels of a host are those by which containers choose it, also
// once they come from elsewhere.
func TestRoomsFollowLabels(t *testing.T) {
	s := New()
	h := bayHost(1, "bay")
	h.Fingerprint.Labels = map[string]string{"zone": "a"}
	mustApply(t, s, 1, put(h, 0))
	for i, change := range []func(*structs.Host){
		func(h *structs.Host) { h.Claimed = true },
		func(h *structs.Host) { h.Granted = map[string]string{"zone": "b"} },
		func(h *structs.Host) { h.Labels = map[string]string{"zone": "c"} },
	} {
		now := *h
		change(&now)
		mustApply(t, s, uint64(i+2), put(&now, uint64(i+1)))
		checkRooms(t, s.Snapshot())
		for room := range s.Snapshot().rooms.Preferred("bay", strategyOf(s.Snapshot(), "bay"), 0) {
			if !maps.Equal(room.Labels, now.AllLabels()) {
				t.Errorf("change %d: the labels are %v, want %v", i, room.Labels, now.AllLabels())
			}
		}
		h = &now
	}
}

// TestRoomsOfACopy: changes of a copy are visible in that copy only.
func TestRoomsOfACopy(t *testing.T) {
	s := New()
	var changes []structs.Change
	for n := range uint64(40) {
		changes = append(changes, put(bayHost(n+1, "bay"), 0))
	}
	mustApply(t, s, 1, changes...)
	snap := s.Snapshot()
	mine := snap.Rooms()
	mine.Own()
	for n := range uint64(40) {
		was := snap.Room(testID(n + 1))
		now := *was
		now.Used = &Usage{Workloads: int(n), Memory: 1 << 20}
		mine.Replace(was, &now)
	}
	mine.Replace(slices.Collect(mine.All("bay"))[0], nil)
	checkRooms(t, snap)
	if all, _ := mine.Count("bay"); all != 39 {
		t.Errorf("%d hosts", all)
	}
	last := -1
	for h := range mine.Preferred("bay", structs.PlacementSpread, 0) {
		if h.Used.Workloads <= last {
			t.Fatalf("%d workloads come after %d", h.Used.Workloads, last)
		}
		last = h.Used.Workloads
	}
}
