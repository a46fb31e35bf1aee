package state

import "github.com/stackforge/magnum/structs"

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

// tableCodes are the numbers of the tables in entries, snapshots and hashes.
// A number is never used for another table.
var tableCodes = map[structs.Table]byte{
	structs.TableCluster:     1,
	structs.TableBayModels:   2,
	structs.TableBays:        3,
	structs.TableNodes:       4,
	structs.TableHosts:       5,
	structs.TableContainers:  6,
	structs.TableIdempotency: 7,
	structs.TableActions:     8,
	structs.TableTokens:      9,
	structs.TableSpecs:       10,
	structs.TableLineages:    11,
	structs.TableQuarantine:  12,
}

// tableOf is tableCodes turned around.
var tableOf = func() map[byte]structs.Table {
	tables := make(map[byte]structs.Table, len(tableCodes))
	for table, code := range tableCodes {
		tables[code] = table
	}
	return tables
}()

const maxTables = 13 // one more than the highest table code

// The indexes. Each one that a row is in costs some 80 bytes and a microsecond of
// each write of it, so there is one only where a scan would be too slow, and
// waiting and shared hold few rows.
const (
	indexID      = iota // the row's ID
	indexList           // (project, seq)
	indexName           // (project, name, seq), hashed
	indexHost           // containers that are placed: (host, assign index, seq), for each of their hosts
	indexBay            // hosts and containers: (bay, seq)
	indexWaiting        // containers that wait for a host: (bay, seq)
	indexShared         // shared bays: seq
	numIndexes
)

// rows are the rows of one table, by each of its indexes.
type rows [numIndexes]tree[record]

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

// schema has the keys of the rows of each table, by its code; nil where it has no
// such index.
var schema = func() (schema [maxTables][numIndexes]keyOf) {
	for _, table := range structs.Tables {
		indexes := &schema[tableCodes[table]]
		indexes[indexID] = single(func(b []byte, row structs.Row) []byte { return appendID(b, row.Base().ID) })
		indexes[indexList] = bySeq(func(b []byte, row structs.Row) []byte { m := row.Base(); return appendSeq(b, m.ProjectID, m.Seq) })
		if _, named := nameOf(structs.NewRow(table)); named {
			indexes[indexName] = bySeq(func(b []byte, row structs.Row) []byte {
				m := row.Base()
				name, _ := nameOf(row)
				return appendName(b, m.ProjectID, name, m.Seq)
			})
		}
	}
	schema[tableCodes[structs.TableBays]][indexShared] = bySeq(func(b []byte, row structs.Row) []byte {
		if bay := row.(*structs.Bay); bay.Shared {
			return appendNumber(b, bay.Seq)
		}
		return nil
	})
	schema[tableCodes[structs.TableHosts]][indexBay] = bySeq(func(b []byte, row structs.Row) []byte {
		h := row.(*structs.Host)
		return appendSeq(b, h.BayID, h.Seq)
	})
	containers := &schema[tableCodes[structs.TableContainers]]
	containers[indexBay] = bySeq(func(b []byte, row structs.Row) []byte {
		c := row.(*structs.Container)
		return appendSeq(b, c.BayID, c.Seq)
	})
	containers[indexHost] = hostKey
	containers[indexWaiting] = bySeq(func(b []byte, row structs.Row) []byte {
		if c := row.(*structs.Container); waits(c) {
			return appendSeq(b, c.BayID, c.Seq)
		}
		return nil
	})
	return schema
}()

// hostKey has a key for each host on which the container has a placement.
func hostKey(b []byte, row structs.Row, n int) []byte {
	c := row.(*structs.Container)
	if c.HostID != "" && len(c.Priors) == 0 {
		if n > 0 {
			return nil
		}
		return ended(appendAssign(b, c.HostID, c.AssignIndex, c.Seq), c)
	}
	if hosts := c.Hosts(); n < len(hosts) {
		return ended(appendAssign(b, hosts[n], c.AssignIndex, c.Seq), c)
	}
	return nil
}

// waits reports whether the container is to be placed as soon as there is room.
func waits(c *structs.Container) bool {
	return c.HostID == "" && c.Desired != structs.DesiredAbsent
}

// nameOf returns the row's name; ok is false for rows that have none.
func nameOf(row structs.Row) (name string, ok bool) {
	switch r := row.(type) {
	case *structs.BayModel:
		return r.Name, true
	case *structs.Bay:
		return r.Name, true
	case *structs.Node:
		return r.Name, true
	case *structs.Host:
		return r.Name, true
	case *structs.Container:
		return r.Name, true
	case *structs.Token:
		return r.Name, true
	}
	return "", false
}
