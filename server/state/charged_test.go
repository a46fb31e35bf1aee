package state

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/stackforge/magnum/server/state/charges"
	"github.com/stackforge/magnum/structs"
)

// checkCharged compares what projects use with a count over all rows.
func checkCharged(t testing.TB, s *Snapshot) {
	t.Helper()
	counted, volumes := map[string]structs.Amounts{}, map[string]map[string]bool{}
	for _, table := range Tables() {
		if !charges.Charges(table) {
			continue
		}
		for row := range s.List(table, AllProjects, 0) {
			project := row.Base().ProjectID
			sum, charge := counted[project], charges.Of(row)
			for r := range sum {
				sum[r] += charge[r]
			}
			counted[project] = sum
			for _, name := range volumesIn(row) {
				if volumes[project] == nil {
					volumes[project] = map[string]bool{}
				}
				volumes[project][name] = true
			}
		}
	}
	used := 0
	for project, want := range counted {
		if want[structs.ResourceVolumes] = int64(len(volumes[project])); want != (structs.Amounts{}) {
			used++
		}
		if got := *s.Charged().Of(project); got != want {
			t.Fatalf("project %q uses %v, its rows %v", project, got, want)
		}
	}
	if n := count(s.Charged().After("")); n != used && *s.Charged().Of("") == (structs.Amounts{}) {
		t.Fatalf("%d projects use something, the rows of %d do", n, used)
	}
}

func volumesIn(row structs.Row) (names []string) {
	switch r := row.(type) {
	case *structs.Container:
		for _, m := range r.Spec.Volumes {
			names = append(names, m.Name)
		}
	case *structs.Pod:
		for _, v := range r.Spec.Volumes {
			names = append(names, v.Claim)
		}
	}
	kept := names[:0]
	for _, name := range names {
		if name != "" {
			kept = append(kept, name)
		}
	}
	return kept
}

// TestChargedIsThatOfTheRows makes, changes and deletes rows of all tables that are charged,
// with random contents, and compares what projects use with a count after each entry, and in
// states restored from snapshots.
func TestChargedIsThatOfTheRows(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	s := New()
	mustApply(t, s, 1, put(&structs.Cluster{Meta: structs.Meta{ID: structs.ClusterRowID}, Schema: structs.SchemaVersion}, 0))
	var all []structs.Row
	seq := uint64(0)
	volume := func() string { return [...]string{"", "data", "logs", "é"}[rng.IntN(4)] }
	// change gives a row another content.
	change := func(row structs.Row) structs.Row {
		m, next := *row.Base(), randomRow(rng, row.Table())
		*next.Base() = structs.Meta{ID: m.ID, Seq: m.Seq, ProjectID: m.ProjectID}
		switch r := next.(type) {
		case *structs.Container:
			r.Placement, r.Spec.Volumes = structs.Placement{}, []structs.Mount{{Name: volume()}, {Name: volume()}}
		case *structs.Pod:
			r.Placement, r.Spec.Volumes = structs.Placement{}, []structs.PodVolume{{Claim: volume()}, {Claim: volume()}}
		}
		return next
	}
	for index := uint64(2); index < 300; index++ {
		var changes []structs.Change
		touched := map[int]bool{}
		for range 1 + rng.IntN(5) {
			i := rng.IntN(len(all) + 2)
			switch {
			case i >= len(all):
				names := []structs.Table{structs.TableContainers, structs.TablePods, structs.TableManifests, structs.TableRCs,
					structs.TableServices, structs.TableBays, structs.TableBayModels, structs.TableNodes}
				row := NewRow(names[rng.IntN(len(names))])
				seq++
				*row.Base() = structs.Meta{ID: testID(seq), Seq: seq, ProjectID: fmt.Sprint("p", rng.IntN(3))}
				row = change(row)
				touched[len(all)] = true
				all = append(all, row)
				changes = append(changes, put(row, 0))
			case touched[i]:
			case rng.IntN(4) == 0:
				changes = append(changes, drop(all[i], all[i].Base().ModifyIndex))
				all[i] = all[len(all)-1]
				all = all[:len(all)-1]
				touched[i], touched[len(all)] = true, true
			case rng.IntN(2) == 0: // a report: the spec stays
				copied := reflect.New(reflect.TypeOf(all[i]).Elem())
				copied.Elem().Set(reflect.ValueOf(all[i]).Elem())
				row := copied.Interface().(structs.Row)
				changes = append(changes, put(row, all[i].Base().ModifyIndex))
				all[i], touched[i] = row, true
			default:
				row := change(all[i])
				changes = append(changes, put(row, all[i].Base().ModifyIndex))
				all[i], touched[i] = row, true
			}
		}
		mustApply(t, s, index, changes...)
		checkCharged(t, s.Snapshot())
	}
	back, err := readSnapshot(bytes.NewReader(persisted(t, s)))
	if err != nil {
		t.Fatal(err)
	}
	checkCharged(t, back)
	for _, p := range []string{"p0", "p1", "p2"} {
		if got, want := *back.Charged().Of(p), *s.Snapshot().Charged().Of(p); got != want || got == (structs.Amounts{}) {
			t.Errorf("project %s uses %v when restored, %v before", p, got, want)
		}
	}
}

// BenchmarkCharge is the cost of a container's charge, for a new one and for a report of one.
func BenchmarkCharge(b *testing.B) {
	c := typicalContainer(1)
	seen := *c
	seen.Observed.Status = structs.ContainerStopped
	decoded := typicalContainer(1)
	for _, bench := range []struct {
		name     string
		was, now structs.Row
	}{{"new", nil, c}, {"report", c, &seen}, {"decoded report", c, decoded}} {
		b.Run(bench.name, func(b *testing.B) {
			batch := charges.NewBatch(new(charges.Ledger))
			b.ReportAllocs()
			for b.Loop() {
				batch.Replace(bench.was, bench.now)
			}
		})
	}
}
