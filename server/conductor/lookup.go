package conductor

import (
	"cmp"
	"iter"
	"slices"

	"github.com/stackforge/magnum/server/schedule"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// reader looks up identifiers: a snapshot or a batch's scratch view.
type reader interface {
	get(table structs.Table, id string) structs.Row
	byName(table structs.Table, projectID, name string) iter.Seq[structs.Row]
	sharedBays() iter.Seq[structs.Row]
}

// snapshotReader makes a snapshot a reader.
type snapshotReader struct{ snapshot *state.Snapshot }

func (s snapshotReader) get(table structs.Table, id string) structs.Row {
	return s.snapshot.Get(table, id)
}

func (s snapshotReader) byName(table structs.Table, projectID, name string) iter.Seq[structs.Row] {
	return s.snapshot.ByName(table, projectID, name)
}

func (s snapshotReader) sharedBays() iter.Seq[structs.Row] { return rows(s.snapshot.SharedBays()) }

// Lookup returns the object that ident, a UUID or a name, means to the caller: an object of
// the caller's project, a shared bay, or, for operators and by UUID, anyone's object. The
// error is CodeNotFound, also for another project's object, or CodeConflict for a name of
// several objects.
func Lookup(snap *state.Snapshot, caller structs.Caller, kind, ident string) (structs.Row, error) {
	return lookup(snapshotReader{snap}, caller, kind, ident)
}

func lookup(r reader, caller structs.Caller, kind, ident string) (structs.Row, error) {
	table, operators := state.TableOfKind(kind)
	if structs.IsID(ident) {
		if found := r.get(table, ident); found != nil && Visible(caller, found) {
			return found, nil
		}
		return nil, structs.NotFound(kind, ident)
	}
	owner := caller.ProjectID
	if operators {
		owner = ""
	}
	found := slices.Collect(r.byName(table, owner, ident))
	if len(found) == 0 && table == structs.TableBays {
		for b := range r.sharedBays() {
			if structs.NameOf(b) == ident {
				found = append(found, b)
			}
		}
	}
	switch len(found) {
	case 0:
		return nil, structs.NotFound(kind, ident)
	case 1:
		return found[0], nil
	}
	return nil, structs.Ambiguous(kind)
}

// find is lookup in the batch for a kind with row type P.
func find[P structs.Row](t *tx, caller structs.Caller, kind, ident string) (P, error) {
	found, err := lookup(t, caller, kind, ident)
	if err != nil {
		var none P
		return none, err
	}
	return found.(P), nil
}

// Visible reports whether the caller may see the object.
func Visible(caller structs.Caller, r structs.Row) bool {
	if caller.Is(structs.RoleAdmin) || r.Base().ProjectID == caller.ProjectID {
		return true
	}
	b, ok := r.(*structs.Bay)
	return ok && b.Shared
}

func (t *tx) byName(table structs.Table, projectID, name string) iter.Seq[structs.Row] {
	return func(yield func(structs.Row) bool) {
		match := func(r structs.Row) bool { return structs.NameOf(r) == name && r.Base().ProjectID == projectID }
		for r := range t.overlay(t.base.ByName(table, projectID, name), match, table) {
			if !yield(r) {
				return
			}
		}
	}
}

func (t *tx) sharedBays() iter.Seq[structs.Row] {
	return t.overlay(rows(t.base.SharedBays()), func(r structs.Row) bool { return r.(*structs.Bay).Shared }, structs.TableBays)
}

// overlay yields the matching rows of the tables as the batch sees them: those of the base
// that the batch hasn't written, then the written ones in creation order.
func (t *tx) overlay(base iter.Seq[structs.Row], match func(structs.Row) bool, tables ...structs.Table) iter.Seq[structs.Row] {
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
func (t *tx) written(tables ...structs.Table) []structs.Row {
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

// rows converts a typed sequence to a sequence of rows.
func rows[P structs.Row](seq iter.Seq[P]) iter.Seq[structs.Row] {
	return func(yield func(structs.Row) bool) {
		for r := range seq {
			if !yield(r) {
				return
			}
		}
	}
}

// typed yields the rows of type P of a sequence.
func typed[P structs.Row](seq iter.Seq[structs.Row]) iter.Seq[P] {
	return func(yield func(P) bool) {
		for r := range seq {
			if p, ok := r.(P); ok && !yield(p) {
				return
			}
		}
	}
}

// hostsInBay yields the hosts of the bay; "" means the free hosts.
func (t *tx) hostsInBay(bayID string) iter.Seq[*structs.Host] {
	return typed[*structs.Host](t.overlay(rows(t.base.HostsInBay(bayID)), func(r structs.Row) bool {
		return r.(*structs.Host).BayID == bayID
	}, structs.TableHosts))
}

func (t *tx) allHosts() iter.Seq[*structs.Host] {
	return typed[*structs.Host](t.overlay(t.base.List(structs.TableHosts, state.AllProjects, 0), func(structs.Row) bool { return true },
		structs.TableHosts))
}

// hostsOf returns the bay's hosts as the scheduler needs them. They are looked up once per
// batch; their usage is shared with reservations and keeps changing.
func (t *tx) hostsOf(bayID string) []schedule.Host {
	found, ok := t.hosts[bayID]
	if !ok {
		for h := range t.hostsInBay(bayID) {
			found = append(found, state.RoomOf(h, t.reserved.used(h.ID), structs.PlacementSpread))
		}
		t.hosts[bayID] = found
	}
	return found
}

// baysOf returns a project's own and shared bays. They are looked up once per batch.
func (t *tx) baysOf(projectID string) []*structs.Bay {
	found, ok := t.projectBays[projectID]
	if ok {
		return found
	}
	own := t.overlay(t.base.List(structs.TableBays, projectID, 0), func(r structs.Row) bool { return r.Base().ProjectID == projectID },
		structs.TableBays)
	for b := range typed[*structs.Bay](own) {
		found = append(found, b)
	}
	for b := range typed[*structs.Bay](t.sharedBays()) {
		if b.ProjectID != projectID {
			found = append(found, b)
		}
	}
	t.projectBays[projectID] = found
	return found
}

func (t *tx) inBay(bayID string) iter.Seq[structs.Workload] {
	return t.workloads(t.base.InBay(bayID), func(p *structs.Placement) bool { return p.BayID == bayID })
}

// onHost yields the workloads that have a placement on the host.
func (t *tx) onHost(hostID string) iter.Seq[structs.Workload] {
	return t.workloads(t.base.OnHost(hostID), func(p *structs.Placement) bool { return p.On(hostID) })
}

// workloads is overlay for all kinds of workloads.
func (t *tx) workloads(base iter.Seq[structs.Workload], match func(*structs.Placement) bool) iter.Seq[structs.Workload] {
	return typed[structs.Workload](t.overlay(rows(base), func(r structs.Row) bool { return match(r.(structs.Workload).Place()) },
		state.PlacedTables()...))
}

// workload returns the workload as the batch sees it, nil if there is none.
func (t *tx) workload(ref structs.Ref) structs.Workload {
	w, _ := t.get(state.TableOf(ref.Kind), ref.ID).(structs.Workload)
	return w
}

// unsettledHosts yields the hosts that are lost, or draining, or whose workloads have to be
// started again after a drain.
func (t *tx) unsettledHosts() iter.Seq[*structs.Host] {
	return typed[*structs.Host](t.overlay(rows(t.base.UnsettledHosts()), func(r structs.Row) bool {
		h := r.(*structs.Host)
		return h.State == structs.HostLost || h.Draining || h.DrainForce
	}, structs.TableHosts))
}

func (t *tx) endingBays() iter.Seq[*structs.Bay] {
	return typed[*structs.Bay](t.overlay(rows(t.base.EndingBays()), func(r structs.Row) bool {
		return r.(*structs.Bay).Status == structs.BayDeleting
	}, structs.TableBays))
}

func (t *tx) bays() iter.Seq[*structs.Bay] {
	return typed[*structs.Bay](t.overlay(t.base.List(structs.TableBays, state.AllProjects, 0), func(structs.Row) bool { return true },
		structs.TableBays))
}
