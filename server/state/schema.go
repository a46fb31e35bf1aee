package state

import (
	"github.com/stackforge/magnum/server/state/btree"
	"github.com/stackforge/magnum/structs"
)

// record is an entry of the tables: a row and its hash. It is never modified once it is in
// a table, because readers share it.
type record struct {
	row  structs.Row
	hash uint64 // rowHash of row
}

// listRecord is the index at which a project's list last changed. It outlives the last row
// of its list, so that the deletion of that row is a change as well.
type listRecord struct {
	table     structs.Table
	projectID string
	index     uint64
}

// The indexes. Each index costs memory and time for each row in it, so there is one only
// where a scan would be too slow. waiting, shared and moving contain few rows.
const (
	indexID      = iota // the row's ID
	indexList           // (project, seq)
	indexName           // (project, name, seq), hashed
	indexHost           // placed workloads: (host, assign index, seq), for each of their hosts
	indexBay            // hosts and workloads: (bay, seq)
	indexWaiting        // waiting workloads: (bay, seq); unsettled bays and hosts: seq
	indexShared         // shared bays: seq
	indexMoving         // workloads whose earlier placement runs until the newest one is ready: seq
	numIndexes
)

// rows contains the rows of one table, by each of its indexes.
type rows [numIndexes]btree.Tree[record]

// keyOf appends the n-th key of the row in an index to b. It returns nil if the row has no
// more keys.
type keyOf func(b []byte, row structs.Row, n int) []byte

// single returns a keyOf for rows with at most one key. key returns nil for none.
func single(key func(b []byte, row structs.Row) []byte) keyOf {
	return func(b []byte, row structs.Row, n int) []byte {
		if n > 0 {
			return nil
		}
		return key(b, row)
	}
}

// bySeq is single for keys that end with the row's Seq, which makes them unique. Rows
// without a Seq, such as action records, have their ID appended.
func bySeq(key func(b []byte, row structs.Row) []byte) keyOf {
	return single(func(b []byte, row structs.Row) []byte { return withRowID(key(b, row), row) })
}

func withRowID(key []byte, row structs.Row) []byte {
	if m := row.Base(); key != nil && m.Seq == 0 {
		return appendID(key, m.ID)
	}
	return key
}

// indexes returns the keys of the table's rows in each index.
func (t *Table) indexes() (keys [numIndexes]keyOf) {
	keys[indexID] = single(func(b []byte, row structs.Row) []byte { return appendID(b, row.Base().ID) })
	keys[indexList] = bySeq(func(b []byte, row structs.Row) []byte { m := row.Base(); return appendSeq(b, m.ProjectID, m.Seq) })
	row := t.New()
	if _, named := row.(structs.Named); named {
		keys[indexName] = bySeq(func(b []byte, row structs.Row) []byte {
			m := row.Base()
			return appendName(b, m.ProjectID, row.(structs.Named).RowName(), m.Seq)
		})
	}
	if t.Shared != nil {
		keys[indexShared] = bySeq(func(b []byte, row structs.Row) []byte {
			if t.Shared(row) {
				return appendNumber(b, row.Base().Seq)
			}
			return nil
		})
	}
	if t.Unsettled != nil {
		keys[indexWaiting] = bySeq(func(b []byte, row structs.Row) []byte {
			if t.Unsettled(row) {
				return appendNumber(b, row.Base().Seq)
			}
			return nil
		})
	}
	if t.Bay != nil {
		keys[indexBay] = bySeq(func(b []byte, row structs.Row) []byte { return appendSeq(b, t.Bay(row), row.Base().Seq) })
	}
	if _, ok := row.(structs.Workload); !ok {
		return keys
	}
	keys[indexBay] = bySeq(func(b []byte, row structs.Row) []byte {
		return appendSeq(b, row.(structs.Workload).Place().BayID, row.Base().Seq)
	})
	keys[indexHost] = hostKey
	keys[indexWaiting] = bySeq(func(b []byte, row structs.Row) []byte {
		if p := row.(structs.Workload).Place(); p.Waits() {
			return appendSeq(b, p.BayID, row.Base().Seq)
		}
		return nil
	})
	keys[indexMoving] = bySeq(func(b []byte, row structs.Row) []byte {
		if row.(structs.Workload).Place().Moving() {
			return appendNumber(b, row.Base().Seq)
		}
		return nil
	})
	return keys
}

// hostKey returns a key for each host on which the workload has a placement.
func hostKey(b []byte, row structs.Row, n int) []byte {
	p, seq := row.(structs.Workload).Place(), row.Base().Seq
	if p.HostID != "" && len(p.Priors) == 0 {
		if n > 0 {
			return nil
		}
		return withRowID(appendAssign(b, p.HostID, p.AssignIndex, seq), row)
	}
	if hosts := p.Hosts(); n < len(hosts) {
		return withRowID(appendAssign(b, hosts[n], p.AssignIndex, seq), row)
	}
	return nil
}
