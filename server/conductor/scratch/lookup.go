package scratch

import (
	"cmp"
	"iter"
	"slices"

	"github.com/stackforge/magnum/server/schedule"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// ByName returns the rows of the table in the project with the name. For state.AllProjects it
// looks at every row of the table.
func (t *Tx) ByName(table structs.Table, projectID, name string) iter.Seq[structs.Row] {
	if projectID == state.AllProjects {
		all := func(structs.Row) bool { return true }
		return Named(t.overlay(t.Base.List(table, state.AllProjects, 0), all, table), name)
	}
	return func(yield func(structs.Row) bool) {
		match := func(r structs.Row) bool { return structs.NameOf(r) == name && r.Base().ProjectID == projectID }
		for r := range t.overlay(t.Base.ByName(table, projectID, name), match, table) {
			if !yield(r) {
				return
			}
		}
	}
}

// Named yields the rows with the name.
func Named(rows iter.Seq[structs.Row], name string) iter.Seq[structs.Row] {
	return func(yield func(structs.Row) bool) {
		for r := range rows {
			if structs.NameOf(r) == name && !yield(r) {
				return
			}
		}
	}
}

// SharedBays returns the bays that all projects may use.
func (t *Tx) SharedBays() iter.Seq[structs.Row] {
	return t.overlay(Rows(t.Base.SharedBays()), func(r structs.Row) bool { return r.(*structs.Bay).Shared }, structs.TableBays)
}

// overlay yields the matching rows of the tables as the batch sees them: those of the base
// that the batch hasn't written, then the written ones in creation order.
func (t *Tx) overlay(base iter.Seq[structs.Row], match func(structs.Row) bool, tables ...structs.Table) iter.Seq[structs.Row] {
	return func(yield func(structs.Row) bool) {
		written := t.written(tables...) // before the loop's body writes more
		for r := range base {
			if _, ok := t.rows[rowKey{r.Table(), r.Base().ID}]; !ok && !yield(r) {
				return
			}
		}
		for _, r := range written {
			if match(r) && !yield(r) {
				return
			}
		}
	}
}

// written returns the rows of the tables that the batch has written, in creation order.
func (t *Tx) written(tables ...structs.Table) []structs.Row {
	var own []structs.Row
	for _, table := range tables {
		for _, id := range t.writtenIDs[table] { // by table: each request looks at bays and hosts, and must not scan the whole batch
			if p := t.rows[rowKey{table, id}]; p.row != nil {
				own = append(own, p.row)
			}
		}
	}
	slices.SortFunc(own, func(a, b structs.Row) int { return cmp.Compare(a.Base().Seq, b.Base().Seq) })
	return own
}

// Rows converts a typed sequence to a sequence of rows.
func Rows[P structs.Row](seq iter.Seq[P]) iter.Seq[structs.Row] {
	return func(yield func(structs.Row) bool) {
		for r := range seq {
			if !yield(r) {
				return
			}
		}
	}
}

// Typed yields the rows of type P of a sequence.
func Typed[P structs.Row](seq iter.Seq[structs.Row]) iter.Seq[P] {
	return func(yield func(P) bool) {
		for r := range seq {
			if p, ok := r.(P); ok && !yield(p) {
				return
			}
		}
	}
}

// HostsInBay yields the hosts of the bay; "" means the free hosts.
func (t *Tx) HostsInBay(bayID string) iter.Seq[*structs.Host] {
	return Typed[*structs.Host](t.overlay(Rows(t.Base.HostsInBay(bayID)), func(r structs.Row) bool {
		return r.(*structs.Host).BayID == bayID
	}, structs.TableHosts))
}

// AllHosts returns the hosts of all bays, and the free ones.
func (t *Tx) AllHosts() iter.Seq[*structs.Host] {
	return Typed[*structs.Host](t.overlay(t.Base.List(structs.TableHosts, state.AllProjects, 0), func(structs.Row) bool { return true },
		structs.TableHosts))
}

// HostsOf returns the bay's hosts as the scheduler needs them. They are looked up once per
// batch; their usage is shared with reservations and keeps changing.
func (t *Tx) HostsOf(bayID string) []schedule.Host {
	found, ok := t.hosts[bayID]
	if !ok {
		for h := range t.HostsInBay(bayID) {
			found = append(found, state.RoomOf(h, t.Reserved.Used(h.ID), structs.PlacementSpread))
		}
		t.hosts[bayID] = found
	}
	return found
}

// BaysOf returns a project's own and shared bays. They are looked up once per batch.
// Bays returns all bays.
func (t *Tx) BaysOf(projectID string) []*structs.Bay {
	found, ok := t.projectBays[projectID]
	if ok {
		return found
	}
	own := t.overlay(t.Base.List(structs.TableBays, projectID, 0), func(r structs.Row) bool { return r.Base().ProjectID == projectID },
		structs.TableBays)
	for b := range Typed[*structs.Bay](own) {
		found = append(found, b)
	}
	for b := range Typed[*structs.Bay](t.SharedBays()) {
		if b.ProjectID != projectID {
			found = append(found, b)
		}
	}
	t.projectBays[projectID] = found
	return found
}

// ServicesOf returns the services of a project, in all bays.
func ServicesOf(t *Tx, projectID string) iter.Seq[*structs.Service] {
	return Typed[*structs.Service](t.overlay(t.Base.List(structs.TableServices, projectID, 0), func(r structs.Row) bool {
		return r.Base().ProjectID == projectID
	}, structs.TableServices))
}

// InBay yields the workloads of the bay, placed or not.
func (t *Tx) InBay(bayID string) iter.Seq[structs.Workload] {
	return t.workloads(t.Base.InBay(bayID), func(p *structs.Placement) bool { return p.BayID == bayID })
}

// OnHost yields the workloads that have a placement on the host.
func (t *Tx) OnHost(hostID string) iter.Seq[structs.Workload] {
	return t.workloads(t.Base.OnHost(hostID), func(p *structs.Placement) bool { return p.On(hostID) })
}

// workloads is overlay for all kinds of workloads.
func (t *Tx) workloads(base iter.Seq[structs.Workload], match func(*structs.Placement) bool) iter.Seq[structs.Workload] {
	return Typed[structs.Workload](t.overlay(Rows(base), func(r structs.Row) bool { return match(r.(structs.Workload).Place()) },
		state.PlacedTables()...))
}

// Workload returns the workload as the batch sees it, nil if there is none.
func (t *Tx) Workload(ref structs.Ref) structs.Workload {
	w, _ := t.Get(state.TableOf(ref.Kind), ref.ID).(structs.Workload)
	return w
}

// UnsettledHosts yields the hosts that are lost, or draining, or whose workloads have to be
// started again after a drain.
func (t *Tx) UnsettledHosts() iter.Seq[*structs.Host] {
	return Typed[*structs.Host](t.overlay(Rows(t.Base.UnsettledHosts()), func(r structs.Row) bool {
		h := r.(*structs.Host)
		return h.State == structs.HostLost || h.Draining || h.DrainForce
	}, structs.TableHosts))
}

// EndingBays returns the bays that are being deleted.
func (t *Tx) EndingBays() iter.Seq[*structs.Bay] {
	return Typed[*structs.Bay](t.overlay(Rows(t.Base.EndingBays()), func(r structs.Row) bool {
		return r.(*structs.Bay).Status == structs.BayDeleting
	}, structs.TableBays))
}

// Bays returns all bays.
func (t *Tx) Bays() iter.Seq[*structs.Bay] {
	return Typed[*structs.Bay](t.overlay(t.Base.List(structs.TableBays, state.AllProjects, 0), func(structs.Row) bool { return true },
		structs.TableBays))
}
