package state

import (
	"github.com/stackforge/magnum/server/state/btree"
	"github.com/stackforge/magnum/structs"
)

// record is what the tables hold: a row and what is kept beside it. It is
// never modified once it is in a table; readers share it.
type record struct {
	row  structs.Row
	hash uint64 // rowHash of row
}

// listRecord says when a list of a project last changed. It outlives the last
// row of its list, so that the deletion of that row is a change too.
type listRecord struct {
	table     structs.Table
	projectID string
	index     uint64
}

// The indexes. Each one that a row is in costs some 80 bytes and a microsecond of
// each write of it, so there is one only where a scan would be too slow, and
// waiting and shared hold few rows.
const (
	indexID      = iota // the row's ID
	indexList           // (project, seq)
	indexName           // (project, name, seq), hashed
	indexHost           // workloads that are placed: (host, assign index, seq), for each of their hosts
	indexBay            // hosts and workloads: (bay, seq)
	indexWaiting        // workloads that wait for a host: (bay, seq); unsettled bays and hosts: seq
	indexShared         // shared bays: seq
	numIndexes
)

// rows are the rows of one table, by each of its indexes.
type rows [numIndexes]btree.Tree[record]

// keyOf appends the n-th key that the row has in an index to b; nil if it has no
// more.
type keyOf func(b []byte, row structs.Row, n int) []byte

// single makes a keyOf for rows that have one key, nil if a row has none.
func single(key func(b []byte, row structs.Row) []byte) keyOf {
	return func(b []byte, row structs.Row, n int) []byte {
		if n > 0 {
			return nil
		}
		return key(b, row)
	}
}

// bySeq is single for keys that end with the row's Seq, which makes them its own.
// Rows that have none, such as records of actions, have their ID there, too.
func bySeq(key func(b []byte, row structs.Row) []byte) keyOf {
	return single(func(b []byte, row structs.Row) []byte { return ended(key(b, row), row) })
}

func ended(key []byte, row structs.Row) []byte {
	if m := row.Base(); key != nil && m.Seq == 0 {
		return appendID(key, m.ID)
	}
	return key
}

// indexes returns the keys that the table's rows have in each index.
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
	return keys
}

// hostKey has a key for each host on which the workload has a placement.
func hostKey(b []byte, row structs.Row, n int) []byte {
	p, seq := row.(structs.Workload).Place(), row.Base().Seq
	if p.HostID != "" && len(p.Priors) == 0 {
		if n > 0 {
			return nil
		}
		return ended(appendAssign(b, p.HostID, p.AssignIndex, seq), row)
	}
	if hosts := p.Hosts(); n < len(hosts) {
		return ended(appendAssign(b, hosts[n], p.AssignIndex, seq), row)
	}
	return nil
}
