package state

import (
	"fmt"

	"github.com/hashicorp/go-memdb"

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

// usageRecord is the usage of one host; there is none for an empty host.
type usageRecord struct {
	hostID string
	usage  Usage
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
}

// tableOf is tableCodes turned around.
var tableOf = func() map[byte]structs.Table {
	tables := make(map[byte]structs.Table, len(tableCodes))
	for table, code := range tableCodes {
		tables[code] = table
	}
	return tables
}()

const maxTables = 9 // one more than the highest table code

// The tables of this package's own, and the indexes. Each index of a row costs
// some 400 bytes and 4 microseconds of each write, so there is one only where
// a scan would be too slow, and waiting and shared hold few rows.
const (
	tableLists = "lists" // listRecord by (table, project)
	tableUsage = "usage" // usageRecord by host

	indexID      = "id"      // the row's ID
	indexList    = "list"    // (project, seq)
	indexName    = "name"    // (project, name, seq), hashed
	indexHost    = "host"    // containers that are placed: (host, assign index, seq)
	indexBay     = "bay"     // hosts and containers: (bay, seq)
	indexWaiting = "waiting" // containers that wait for a host: (bay, seq)
	indexShared  = "shared"  // shared bays: seq
)

// keyOf makes a memdb index of a function from a row to its key. A nil key
// leaves the row out of the index.
type keyOf func(r *record) []byte

// FromObject returns the key of a record.
func (f keyOf) FromObject(object any) (bool, []byte, error) {
	key := f(object.(*record))
	return key != nil, key, nil
}

// FromArgs returns the key that a reader has built.
func (keyOf) FromArgs(args ...any) ([]byte, error) { return keyArg(args) }

func keyArg(args []any) ([]byte, error) {
	if len(args) == 1 {
		if key, ok := args[0].([]byte); ok {
			return key, nil
		}
	}
	return nil, fmt.Errorf("a lookup takes one key of bytes, not %v", args)
}

// keyOfOwn is keyOf for this package's own tables.
type keyOfOwn[T any] func(*T) []byte

// FromObject returns the key of an own record.
func (f keyOfOwn[T]) FromObject(object any) (bool, []byte, error) {
	return true, f(object.(*T)), nil
}

// FromArgs returns the key that a reader has built.
func (keyOfOwn[T]) FromArgs(args ...any) ([]byte, error) { return keyArg(args) }

func newSchema() *memdb.DBSchema {
	schema := &memdb.DBSchema{Tables: map[string]*memdb.TableSchema{
		tableLists: {Name: tableLists, Indexes: map[string]*memdb.IndexSchema{
			indexID: {Name: indexID, Unique: true, Indexer: keyOfOwn[listRecord](func(l *listRecord) []byte { return listKey(l.table, l.projectID) })},
		}},
		tableUsage: {Name: tableUsage, Indexes: map[string]*memdb.IndexSchema{
			indexID: {Name: indexID, Unique: true, Indexer: keyOfOwn[usageRecord](func(u *usageRecord) []byte { return idKey(u.hostID) })},
		}},
	}}
	for _, table := range structs.Tables {
		indexes := map[string]*memdb.IndexSchema{
			indexID: {Name: indexID, Unique: true, Indexer: keyOf(func(r *record) []byte { return idKey(r.row.Base().ID) })},
		}
		add := func(name string, f keyOf) {
			indexes[name] = &memdb.IndexSchema{Name: name, AllowMissing: true, Indexer: f}
		}
		add(indexList, func(r *record) []byte { m := r.row.Base(); return seqKey(m.ProjectID, m.Seq) })
		if _, named := nameOf(structs.NewRow(table)); named {
			add(indexName, func(r *record) []byte {
				m := r.row.Base()
				name, _ := nameOf(r.row)
				return nameKey(m.ProjectID, name, m.Seq)
			})
		}
		switch table {
		case structs.TableBays:
			add(indexShared, func(r *record) []byte {
				if b := r.row.(*structs.Bay); b.Shared {
					return numberKey(b.Seq)
				}
				return nil
			})
		case structs.TableHosts:
			add(indexBay, func(r *record) []byte { h := r.row.(*structs.Host); return seqKey(h.BayID, h.Seq) })
		case structs.TableContainers:
			add(indexBay, func(r *record) []byte { c := r.row.(*structs.Container); return seqKey(c.BayID, c.Seq) })
			add(indexHost, func(r *record) []byte {
				if c := r.row.(*structs.Container); c.HostID != "" {
					return assignKey(c.HostID, c.AssignIndex, c.Seq)
				}
				return nil
			})
			add(indexWaiting, func(r *record) []byte {
				if c := r.row.(*structs.Container); waits(c) {
					return seqKey(c.BayID, c.Seq)
				}
				return nil
			})
		}
		schema.Tables[string(table)] = &memdb.TableSchema{Name: string(table), Indexes: indexes}
	}
	return schema
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
	}
	return "", false
}

// listKey is the key of the list of a table in a project.
func listKey(table structs.Table, projectID string) []byte {
	return appendID(append(newKey(1), tableCodes[table]), projectID)
}
