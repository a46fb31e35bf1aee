package conductor

import (
	"fmt"
	"testing"
	"time"

	"github.com/stackforge/magnum/server/conductor/scratch"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// BenchmarkDecide decides creates on bays with no, few and many hosts, in batches as with
// many clients. Nothing is committed.
func BenchmarkDecide(b *testing.B) {
	caller := structs.Caller{ProjectID: structs.NewID(), UserID: structs.NewID(), Roles: []structs.Role{structs.RoleMember}}
	for _, hosts := range []int{0, 100, 1000, 10000} {
		b.Run(fmt.Sprintf("create/hosts=%d", hosts), func(b *testing.B) {
			store := state.New()
			now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
			bay := &structs.Bay{Meta: structs.Meta{ID: structs.NewID(), Seq: 1, ProjectID: caller.ProjectID}, Name: "bay",
				COE: string(structs.BackendDocker), NodeCount: hosts, Placement: structs.PlacementSpread}
			changes := []structs.Change{{Table: structs.TableBays, ID: bay.ID, Row: bay}}
			for n := range hosts {
				h := &structs.Host{Meta: structs.Meta{ID: structs.NewID(), Seq: uint64(2 + n)}, Name: fmt.Sprint("host-", n), BayID: bay.ID,
					State: structs.HostReady}
				h.Fingerprint = structs.Fingerprint{Memory: 64 << 30, Cores: 16}
				changes = append(changes, structs.Change{Table: structs.TableHosts, ID: h.ID, Row: h})
			}
			if err := store.Apply(1, changes); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			b.ResetTimer()
			t := scratch.New(store.Snapshot(), now)
			for i := range b.N {
				if i%64 == 0 {
					t = scratch.New(store.Snapshot(), now)
				}
				t.Begin()
				c, err := CreateContainer{Caller: caller, UUID: structs.NewID(), Name: "web",
					Spec: structs.ContainerSpec{Image: "nginx"}}.decide(t)
				if err != nil {
					b.Fatal(err)
				}
				if (c.HostID != "") != (hosts > 0) {
					b.Fatalf("host %q of %d", c.HostID, hosts)
				}
			}
		})
	}
}
