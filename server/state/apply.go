package state

import (
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/stackforge/magnum/server/state/charges"
	"github.com/stackforge/magnum/structs"
)

// step is the combined effect of an entry on one row.
type step struct {
	table  structs.Table
	id     string
	old    *record     // the row before the entry; nil if there was none
	row    structs.Row // the row after the entry; nil if it is deleted
	bytes  []byte      // Change.Encoded of row
	fresh  bool        // the entry creates the row
	assign bool        // the row's hosts get it as an assignment
	apart  bool        // of a workload: its spec is a separate row
}

type rowKey struct {
	table structs.Table
	id    string
}

// foldChanges checks the changes in order and combines them, row by row. It writes nothing,
// so a refused entry leaves no trace.
//
// An entry may change a row more than once. The later changes build on the earlier ones and
// carry the same Version, that of the row before the entry: the conductor can't know the
// entry's index when it decides.
func foldChanges(s *Snapshot, changes []structs.Change) ([]*step, error) {
	steps := make([]*step, 0, len(changes))
	rows := make([]step, 0, len(changes)) // what steps points to, in one piece
	seen := make(map[rowKey]*step, len(changes))
	specs := false
	for i := range changes {
		c := &changes[i]
		if err := checkChange(c); err != nil {
			return nil, err
		}
		st := seen[rowKey{c.Table, c.ID}]
		if st == nil {
			rows = append(rows, step{table: c.Table, id: c.ID, old: s.record(c.Table, c.ID)})
			st = &rows[len(rows)-1]
			if st.old != nil {
				st.row = st.old.row
			}
			seen[rowKey{c.Table, c.ID}] = st
			steps = append(steps, st)
		}
		var version uint64
		if st.old != nil {
			version = st.old.row.Base().ModifyIndex
		}
		if c.Version != version {
			return nil, structs.Errorf(structs.CodeConflict,
				"%s: row %q is of version %d, not %d: it was changed meanwhile; read it and try again", c.Table, c.ID, version, c.Version)
		}
		if c.Row == nil && st.row == nil {
			return nil, structs.Errorf(structs.CodeConflict, "%s: row %q can't be deleted: there is none", c.Table, c.ID)
		}
		if c.Row != nil && st.row == nil {
			st.fresh = true
		}
		st.row, st.bytes, st.apart = c.Row, c.Encoded, c.SpecApart
		st.assign = c.Row != nil && (st.assign || c.Assign)
		specs = specs || c.SpecApart || c.Table == structs.TableSpecs
	}
	if !specs && !s.HasSpecs() {
		return steps, nil
	}
	return joinSpecs(s, steps, seen)
}

// joinSpecs puts separate specs into the workloads of the steps. A separate spec belongs to
// a workload whose change says so, and changes only in an entry that writes the workload.
//
// A change may say so although there is no such row yet: the workload comes from a cluster
// of an earlier schema, with its large spec in its own row. joinSpecs then creates the
// spec's row, so that no entry has to contain the spec.
func joinSpecs(s *Snapshot, steps []*step, seen map[rowKey]*step) ([]*step, error) {
	for _, st := range steps {
		if st.table == structs.TableSpecs {
			if owner := seen[specOwner(st.id)]; owner == nil || st.row != nil && owner.row == nil {
				return nil, structs.Errorf(structs.CodeInternal, "the spec of workload %q changes without the workload", st.id)
			}
			continue
		}
		w, _ := st.row.(structs.Specced)
		id := ""
		if w != nil {
			id = w.Ref().BesideID()
		} else if st.old != nil {
			if was, ok := st.old.row.(structs.Specced); ok {
				id = was.Ref().BesideID()
			}
		}
		if id == "" { // its spec is never separate
			continue
		}
		key := rowKey{structs.TableSpecs, id}
		spec, touched := specOf(s, id), seen[key]
		if touched != nil {
			spec, _ = touched.row.(*structs.StoredSpec)
		}
		if spec == nil && touched == nil && w != nil && st.apart && st.old != nil && !st.fresh {
			spec = st.old.row.(structs.Specced).StoredSpec()
			made := &step{table: structs.TableSpecs, id: id, row: spec, fresh: true}
			seen[key] = made
			steps = append(steps, made)
		}
		switch {
		case (spec != nil) != (w != nil && st.apart):
			return nil, structs.Errorf(structs.CodeInternal,
				"%s %q and the row of its spec don't match: one exists without the other", st.table, st.id)
		case spec != nil:
			w.SetSpec(spec)
		}
	}
	return steps, nil
}

// specOf returns the row of a workload's separate spec by the workload's BesideID, nil if
// there is none.
func specOf(s *Snapshot, besideID string) *structs.StoredSpec {
	return get[structs.StoredSpec](s, structs.TableSpecs, besideID)
}

// specOwner returns the key of the workload whose BesideID is given.
func specOwner(besideID string) rowKey {
	if kind, id, ok := strings.Cut(besideID, "/"); ok {
		return rowKey{TableOf(structs.WorkloadKind(kind)), id}
	}
	return rowKey{structs.TableContainers, besideID}
}

// checkChange refuses what no entry may contain.
func checkChange(c *structs.Change) error {
	if _, ok := c.Row.(structs.Specced); c.SpecApart && !ok {
		return structs.Errorf(structs.CodeInternal, "%s: change of row %q has a separate spec, but its row has none", c.Table, c.ID)
	}
	if codeOf(c.Table) == 0 {
		return structs.Errorf(structs.CodeInternal, "change of a row in an unknown table %q", c.Table)
	}
	if c.ID == "" {
		return structs.Errorf(structs.CodeInternal, "%s: change without the row's ID", c.Table)
	}
	if len(c.ID) > maxID {
		return structs.Errorf(structs.CodeInternal, "%s: ID of %d bytes, at most %d are allowed", c.Table, len(c.ID), maxID)
	}
	if c.Row == nil {
		return nil
	}
	if c.Row.Table() != c.Table {
		return structs.Errorf(structs.CodeInternal, "%s: change of row %q contains a row of table %s", c.Table, c.ID, c.Row.Table())
	}
	if m := c.Row.Base(); m.ID != c.ID {
		return structs.Errorf(structs.CodeInternal, "%s: change of row %q contains row %q", c.Table, c.ID, m.ID)
	}
	return nil
}

// maxID bounds an ID in bytes. The longest ID is that of an IdempotencyKey. The bound keeps
// the length in an index key within two bytes.
const maxID = 4096

// stamp writes the indexes of the entry into the row.
func (st *step) stamp(index uint64) {
	m := st.row.Base()
	m.CreateIndex, m.ModifyIndex = index, index
	if st.old != nil && !st.fresh {
		m.CreateIndex = st.old.row.Base().CreateIndex
	}
	if w, ok := st.row.(structs.Workload); ok {
		p := w.Place()
		p.AssignIndex = 0
		if st.old != nil && !st.fresh {
			p.AssignIndex = st.old.row.(structs.Workload).Place().AssignIndex
		}
		if st.assign {
			p.AssignIndex = index
		}
	}
}

// workloads returns the row before and after the step, nil if there is none or if it has no
// placement.
func (st *step) workloads() (before, after structs.Workload) {
	if st.old != nil {
		if w, ok := st.old.row.(structs.Workload); ok && w.Place().Placed() {
			before = w
		}
	}
	if w, ok := st.row.(structs.Workload); ok && w.Place().Placed() {
		after = w
	}
	return before, after
}

// sameHosts reports whether both have placements on the same hosts.
func sameHosts(a, b *structs.Placement) bool {
	return a.HostID == b.HostID && slices.EqualFunc(a.Priors, b.Priors, func(a, b structs.Prior) bool { return a.HostID == b.HostID })
}

// topics returns the topics of the leader's steps that the step fires.
func (st *step) topics() (touched leaderTopics) {
	switch st.table {
	case structs.TableHosts:
		// Each status report writes its host, and most change nothing here.
		touched.hosts = st.old == nil || st.row == nil || hostUseDiffers(st.old.row.(*structs.Host), st.row.(*structs.Host))
		return touched
	case structs.TableBays:
		touched.bays = true
		return touched
	case structs.TableQuarantine:
		touched.hosts = st.row == nil // the host may leave its bay
		return touched
	case structs.TableRCs:
		touched.replicas = st.old == nil || st.row == nil || st.old.row.(*structs.RC).Generation != st.row.(*structs.RC).Generation
		return touched
	case structs.TableServices:
		touched.endpoints, touched.room = true, st.freesNodePorts()
		return touched
	case structs.TableObjects:
		touched.replicas = st.old != nil && st.row == nil // its replication controller may go
	case structs.TablePods:
		touched.replicas = st.old == nil || st.row == nil || st.fresh || replicaDiffers(st.old.row.(*structs.Pod), st.row.(*structs.Pod))
		touched.endpoints = touched.replicas || endpointDiffers(st.old.row.(*structs.Pod), st.row.(*structs.Pod))
	}
	if !isPlaced(st.table) {
		return touched
	}
	if st.old != nil && st.row == nil {
		touched.room = true
		return touched
	}
	before, after := st.workloads()
	touched.room = before != nil &&
		(after == nil || !sameHosts(before.Place(), after.Place()) || shrinks(before.Reserved(), after.Reserved()))
	return touched
}

// changedHost returns the host of a workload if the step changes the workload's desired
// state there, or whether anything of it is left there; "" otherwise.
func (st *step) changedHost() (hostID string) {
	before, after := st.workloads()
	if after == nil || after.Place().HostID == "" {
		return ""
	}
	hostID = after.Place().HostID
	if before != nil && before.Place().HostID == hostID && before.Place().Desired == after.Place().Desired &&
		structs.LeftOn(before, hostID) == structs.LeftOn(after, hostID) {
		return ""
	}
	return hostID
}

// hostUseDiffers reports whether the rows of a host differ in what decides who may use it.
func hostUseDiffers(a, b *structs.Host) bool {
	return a.Draining != b.Draining || a.Fenced != b.Fenced || a.DrainForce != b.DrainForce || !maps.Equal(a.Labels, b.Labels) ||
		a.State != b.State || (a.Cleaning == nil) != (b.Cleaning == nil) ||
		a.BayID != b.BayID || a.Registration != b.Registration || a.NetworksFull != b.NetworksFull ||
		(a.Quarantined > 0) != (b.Quarantined > 0) || !reflect.DeepEqual(a.Fingerprint.Cluster, b.Fingerprint.Cluster)
}

// replicaDiffers reports whether the rows of a pod differ in what a replication controller
// looks at.
func replicaDiffers(a, b *structs.Pod) bool {
	return a.Owner != b.Owner || a.Revision != b.Revision || a.Desired != b.Desired || a.HostID != b.HostID || a.Gone != b.Gone ||
		a.Force != b.Force || !maps.Equal(a.Labels, b.Labels) || a.Phase() != b.Phase() || a.Ready() != b.Ready() ||
		a.Owner != "" && a.Obstacle() != b.Obstacle()
}

// endpointDiffers reports whether the rows of a pod differ in what decides where services
// lead, besides what replicaDiffers looks at.
func endpointDiffers(a, b *structs.Pod) bool {
	return a.Observed.Address != b.Observed.Address || a.DrainStop != b.DrainStop ||
		!slices.EqualFunc(a.Priors, b.Priors, func(a, b structs.Prior) bool { return a.HostID == b.HostID && a.Keep == b.Keep })
}

// write applies the step to the tables and returns its contribution to the hash of the
// state.
func (st *step) write(w *writer, index uint64) (hash uint64) {
	if st.old != nil {
		hash -= st.old.hash
	}
	var now *record
	if st.row != nil {
		st.stamp(index)
		now = &record{row: st.row, hash: rowHash(st.row, st.bytes, st.apart)}
		hash += now.hash
	}
	if st.old != nil || now != nil { // otherwise the entry has created and deleted the row
		w.put(st.table, st.old, now)
	}
	return hash
}

// charge replaces what the row was charged for.
func (st *step) charge(b *charges.Batch) {
	if !charges.Charges(st.table) {
		return
	}
	var was structs.Row
	if st.old != nil {
		was = st.old.row
	}
	b.Replace(was, st.row)
}

// writeLists sets the index of each list that the steps touch.
func writeLists(w *writer, steps []*step, index uint64) {
	var last listRecord // most rows of an entry belong to one list
	touch := func(table structs.Table, row structs.Row) {
		l := listRecord{table: table, projectID: row.Base().ProjectID, index: index}
		if l != last {
			last = l
			w.list(&l)
		}
	}
	for _, st := range steps {
		w.to.tables[codeOf(st.table)] = index
		if st.old != nil {
			touch(st.table, st.old.row)
		}
		if st.row != nil {
			touch(st.table, st.row)
		}
	}
	writeServices(w, steps, index)
}

// moveUsage moves reservations from the previous to the present hosts of workloads. It
// reports whether a host has become empty.
func (w *writer) moveUsage(steps []*step) (emptied bool) {
	var changed map[string]*Usage
	usage := func(hostID string) *Usage {
		u := changed[hostID]
		if u == nil {
			clone := w.from.usage(hostID).Clone()
			u = &clone
			if changed == nil {
				changed = make(map[string]*Usage)
			}
			changed[hostID] = u
		}
		return u
	}
	for _, st := range steps {
		before, after := st.workloads()
		if before != nil && after != nil && sameHosts(before.Place(), after.Place()) &&
			sameReservation(before.Reserved(), after.Reserved()) {
			continue
		}
		if before != nil {
			for _, hostID := range before.Place().Hosts() {
				usage(hostID).Remove(before.Reserved())
			}
		}
		if after != nil {
			for _, hostID := range after.Place().Hosts() {
				usage(hostID).Add(after.Reserved())
			}
		}
	}
	for hostID, u := range changed {
		w.usage(hostID, u)
		emptied = emptied || u.Workloads == 0
	}
	w.moveRooms(steps, changed)
	return emptied
}
