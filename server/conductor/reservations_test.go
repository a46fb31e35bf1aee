package conductor

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/stackforge/magnum/server/conductor/scratch"
	"github.com/stackforge/magnum/server/schedule"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// TestRoomsOfABatch: the order of hosts follows from the rows of the batch, whatever the
// batch has written and undone, and gives the same choices as a scan of all hosts.
func TestRoomsOfABatch(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 4))
		h := newHarness(t)
		var hosts []string
		for i := range 6 {
			hosts = append(hosts, h.host(fmt.Sprint("h", i), nil))
		}
		for i, strategy := range []structs.PlacementStrategy{structs.PlacementSpread, structs.PlacementBinpack} {
			must(h, CreateBay{Caller: alice, Name: []string{"a", "b"}[i], NodeCount: 2, Placement: strategy})
		}
		for range 6 {
			h.create(alice, []string{"a", "b"}[rng.IntN(2)], structs.ContainerSpec{Memory: structs.Bytes(rng.Int64N(2)) << 29,
				MilliCPU: 100})
		}
		tx := scratch.New(h.store.Snapshot(), h.clock)
		var made []string
		for range 60 {
			tx.Begin()
			host := hosts[rng.IntN(len(hosts))]
			var err error
			switch rng.IntN(8) {
			case 0:
				_, err = MarkHosts{Marks: []HostMark{{ID: host, State: []structs.HostState{structs.HostLost, structs.HostSuspect,
					structs.HostReady}[rng.IntN(3)]}}}.decide(tx)
			case 1:
				_, err = DrainHost{Caller: root, Ident: host, Draining: rng.IntN(2) == 0}.decide(tx)
			case 2:
				_, err = CreateBay{Caller: alice, NodeCount: 1, Placement: structs.PlacementBinpack}.decide(tx)
			case 3:
				_, err = Settle{}.decide(tx)
			case 4:
				if len(made) > 0 {
					_, err = DeleteContainer{Caller: alice, Ident: made[rng.IntN(len(made))], Force: true}.decide(tx)
				}
			default:
				var c *structs.Container
				c, err = CreateContainer{Caller: alice, Bay: []string{"a", "b"}[rng.IntN(2)], Run: true,
					Spec: structs.ContainerSpec{Image: "i",
						Memory: structs.Bytes(rng.Int64N(3)) << 29, MilliCPU: structs.MilliCPU(rng.Int64N(3)) * 100,
						RestartPolicy: structs.RestartPolicy{Name: structs.RestartAlways}}}.decide(tx)
				if err == nil {
					made = append(made, c.ID)
				}
			}
			if err != nil || rng.IntN(3) == 0 {
				tx.Rollback()
			}
			if rng.IntN(2) == 0 {
				compareRooms(t, tx)
			}
		}
		compareRooms(t, tx)
	}
}

func compareRooms(t *testing.T, tx *scratch.Tx) {
	t.Helper()
	rooms := tx.Reserved.Order()
	for bay := range tx.Bays() {
		var all []schedule.Host
		for h := range tx.HostsInBay(bay.ID) {
			all = append(all, state.RoomOf(h, tx.Reserved.Used(h.ID), bay.Placement))
		}
		if n, _ := rooms.Count(bay.ID); n != len(all) {
			t.Fatalf("bay %s has %d hosts in order, and %d rows", bay.Name, n, len(all))
		}
		for i := range all {
			for h := range rooms.All(bay.ID) {
				if h.ID == all[i].ID && (h.Ready != all[i].Ready || h.Draining != all[i].Draining ||
					!reflect.DeepEqual(h.Used, all[i].Used)) {
					t.Fatalf("host %s is %+v, not %+v", h.Name, h, all[i])
				}
			}
		}
		for _, d := range []structs.Demand{{}, {Memory: 1 << 30}, {Memory: 3 << 30, MilliCPU: 3000}, {MilliCPU: 5000}} {
			id, reason := schedule.Choose(rooms, bay, d, nil)
			if want, why := schedule.ChooseAmong(all, d, bay.Placement, nil); len(all) > 0 && (id != want || reason != why) {
				t.Fatalf("bay %s, %+v: in order %q (%s) is chosen, of all %q (%s)", bay.Name, d, id, reason, want, why)
			}
		}
	}
}
