package state

import (
	"maps"

	"github.com/hashicorp/go-memdb"

	"github.com/stackforge/magnum/structs"
)

// step is what an entry does to one row in the end.
type step struct {
	table  structs.Table
	id     string
	old    *record     // the row before the entry; nil if there was none
	row    structs.Row // the row after it; nil if it is gone
	fresh  bool        // row was made by the entry, not updated
	assign bool        // its host has to hear of it
}

type rowKey struct {
	table structs.Table
	id    string
}

// fold checks the changes in order and returns what they come to, row by row.
// Nothing is written, so an entry with a refused change leaves no trace.
//
// A row may stand in the entry more than once. The later changes build on the
// earlier ones and carry the same Version, that of the row before the entry:
// who decides a batch can't know the index that it will get.
func (s *Snapshot) fold(changes []structs.Change) ([]*step, error) {
	steps := make([]*step, 0, len(changes))
	seen := make(map[rowKey]*step, len(changes))
	for i := range changes {
		c := &changes[i]
		if err := checkChange(c); err != nil {
			return nil, err
		}
		st := seen[rowKey{c.Table, c.ID}]
		if st == nil {
			st = &step{table: c.Table, id: c.ID, old: s.record(c.Table, c.ID)}
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
		st.row = c.Row
		st.assign = c.Row != nil && (st.assign || c.Assign)
	}
	return steps, nil
}

// checkChange refuses what no entry may hold.
func checkChange(c *structs.Change) error {
	if _, known := tableCodes[c.Table]; !known {
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
		return structs.Errorf(structs.CodeInternal, "%s: change of row %q holds a row of table %s", c.Table, c.ID, c.Row.Table())
	}
	if m := c.Row.Base(); m.ID != c.ID {
		return structs.Errorf(structs.CodeInternal, "%s: change of row %q holds row %q", c.Table, c.ID, m.ID)
	}
	return nil
}

// maxID bounds an identifier in bytes; the longest is that of an
// IdempotencyKey. It keeps the length in an index key within its two bytes.
const maxID = 4096

// stamp writes the indexes of the entry into the row.
func (st *step) stamp(index uint64) {
	m := st.row.Base()
	m.CreateIndex, m.ModifyIndex = index, index
	if st.old != nil && !st.fresh {
		m.CreateIndex = st.old.row.Base().CreateIndex
	}
	if c, ok := st.row.(*structs.Container); ok {
		c.AssignIndex = 0
		if st.old != nil && !st.fresh {
			c.AssignIndex = st.old.row.(*structs.Container).AssignIndex
		}
		if st.assign {
			c.AssignIndex = index
		}
	}
}

// containers returns the row before and after, each nil if there is none or if
// it is not placed.
func (st *step) containers() (before, after *structs.Container) {
	if st.old != nil {
		if c, ok := st.old.row.(*structs.Container); ok && c.HostID != "" {
			before = c
		}
	}
	if c, ok := st.row.(*structs.Container); ok && c.HostID != "" {
		after = c
	}
	return before, after
}

// makesRoom reports whether something that waits may go on after the step.
func (st *step) makesRoom() bool {
	switch st.table {
	case structs.TableHosts:
		// Each status report writes its host, and most say nothing new.
		return st.old == nil || st.row == nil || otherHost(st.old.row.(*structs.Host), st.row.(*structs.Host))
	case structs.TableBays:
		return true
	case structs.TableContainers:
		if st.old != nil && st.row == nil {
			return true
		}
		before, after := st.containers()
		return before != nil && (after == nil || after.HostID != before.HostID || shrinks(&before.Spec, &after.Spec))
	}
	return false
}

// otherHost reports whether the host differs in what decides who may use it.
func otherHost(a, b *structs.Host) bool {
	return a.Draining != b.Draining || !maps.Equal(a.Labels, b.Labels) || a.State != b.State || a.BayID != b.BayID || a.Registration != b.Registration
}

// write puts the step into the tables and returns what it adds to the hash of
// the state.
func (st *step) write(txn *memdb.Txn, index uint64) (hash uint64, err error) {
	if st.old != nil {
		hash -= st.old.hash
	}
	if st.row == nil {
		if st.old == nil {
			return 0, nil // made and deleted by the same entry
		}
		return hash, txn.Delete(string(st.table), st.old)
	}
	st.stamp(index)
	sum, err := rowHash(st.row)
	if err != nil {
		return 0, err
	}
	return hash + sum, txn.Insert(string(st.table), &record{row: st.row, hash: sum})
}

// writeLists moves the index of each list that the steps touch.
func writeLists(txn *memdb.Txn, steps []*step, index uint64, tables *[maxTables]uint64) error {
	type list struct {
		table     structs.Table
		projectID string
	}
	done := make(map[list]bool, 2)
	touch := func(table structs.Table, projectID string) error {
		if l := (list{table, projectID}); !done[l] {
			done[l] = true
			return txn.Insert(tableLists, &listRecord{table: table, projectID: projectID, index: index})
		}
		return nil
	}
	for _, st := range steps {
		tables[tableCodes[st.table]] = index
		if st.old != nil {
			if err := touch(st.table, st.old.row.Base().ProjectID); err != nil {
				return err
			}
		}
		if st.row != nil {
			if err := touch(st.table, st.row.Base().ProjectID); err != nil {
				return err
			}
		}
	}
	return nil
}

// writeUsage moves reservations from where containers were to where they are.
func (s *Snapshot) writeUsage(txn *memdb.Txn, steps []*step) error {
	var hosts []string // in the order of the entry: a map's would differ between replicas
	changed := make(map[string]*Usage)
	usage := func(hostID string) *Usage {
		u := changed[hostID]
		if u == nil {
			clone := s.usage(hostID).Clone()
			u = &clone
			changed[hostID] = u
			hosts = append(hosts, hostID)
		}
		return u
	}
	for _, st := range steps {
		before, after := st.containers()
		if before != nil && after != nil && before.HostID == after.HostID && sameReservation(&before.Spec, &after.Spec) {
			continue
		}
		if before != nil {
			usage(before.HostID).Remove(before)
		}
		if after != nil {
			usage(after.HostID).Add(after)
		}
	}
	for _, hostID := range hosts {
		if err := putUsage(txn, hostID, changed[hostID]); err != nil {
			return err
		}
	}
	return nil
}

func putUsage(txn *memdb.Txn, hostID string, u *Usage) error {
	r := &usageRecord{hostID: hostID, usage: *u}
	if u.Containers > 0 {
		return txn.Insert(tableUsage, r)
	}
	err := txn.Delete(tableUsage, r)
	if err == memdb.ErrNotFound { // it came and went within the entry
		return nil
	}
	return err
}
