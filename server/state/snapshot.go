package state

import (
	"iter"

	"github.com/hashicorp/go-memdb"

	"github.com/stackforge/magnum/structs"
)

// Snapshot is the state as it was after one entry. Any number of goroutines
// may read it. The rows that it returns are shared: never modify one.
type Snapshot struct {
	txn     *memdb.Txn // read-only
	index   uint64
	hash    uint64
	lastSeq uint64
	tables  [maxTables]uint64 // ListIndex of AllProjects, by table code
}

// Check returns the error with which Apply would refuse the changes on this
// state, nil if it would carry them out. Nothing is written.
func (s *Snapshot) Check(changes []structs.Change) error {
	_, err := s.fold(changes)
	return err
}

// Index returns the index of the last entry that is in the snapshot.
func (s *Snapshot) Index() uint64 { return s.index }

// Hash returns the wrapping sum of the hashes of all rows.
func (s *Snapshot) Hash() uint64 { return s.hash }

// LastSeq returns the highest Meta.Seq ever given out, also if its row is gone.
func (s *Snapshot) LastSeq() uint64 { return s.lastSeq }

// ListIndex returns the index of the last entry that wrote or deleted a row of
// the table in the project; with AllProjects, in any project. 0 means never.
func (s *Snapshot) ListIndex(table structs.Table, projectID string) uint64 {
	if projectID == AllProjects {
		return s.tables[tableCodes[table]]
	}
	if l, ok := s.first(tableLists, listKey(table, projectID)).(*listRecord); ok {
		return l.index
	}
	return 0
}

// Get returns the row, nil if there is none.
func (s *Snapshot) Get(table structs.Table, id string) structs.Row {
	if r := s.record(table, id); r != nil {
		return r.row
	}
	return nil
}

// Cluster returns the one row of its table, nil before the first leader wrote it.
func (s *Snapshot) Cluster() *structs.Cluster {
	return get[structs.Cluster](s, structs.TableCluster, structs.ClusterRowID)
}

// BayModel returns the row, nil if there is none.
func (s *Snapshot) BayModel(id string) *structs.BayModel {
	return get[structs.BayModel](s, structs.TableBayModels, id)
}

// Bay returns the row, nil if there is none.
func (s *Snapshot) Bay(id string) *structs.Bay { return get[structs.Bay](s, structs.TableBays, id) }

// Node returns the row, nil if there is none.
func (s *Snapshot) Node(id string) *structs.Node { return get[structs.Node](s, structs.TableNodes, id) }

// Host returns the row, nil if there is none.
func (s *Snapshot) Host(id string) *structs.Host { return get[structs.Host](s, structs.TableHosts, id) }

// Container returns the row, nil if there is none.
func (s *Snapshot) Container(id string) *structs.Container {
	return get[structs.Container](s, structs.TableContainers, id)
}

// IdempotencyKey returns the row, nil if there is none.
func (s *Snapshot) IdempotencyKey(id string) *structs.IdempotencyKey {
	return get[structs.IdempotencyKey](s, structs.TableIdempotency, id)
}

// Usage returns what the containers of the host have reserved. The value is
// the caller's: adding to it changes nothing here.
func (s *Snapshot) Usage(hostID string) Usage { return s.usage(hostID).Clone() }

// usage returns the store's own Usage, which must not be modified.
func (s *Snapshot) usage(hostID string) *Usage {
	if u, ok := s.first(tableUsage, idKey(hostID)).(*usageRecord); ok {
		return &u.usage
	}
	return &Usage{}
}

// ContainersOnHost returns the containers that are placed on the host, those
// first whose assignment changed longest ago.
func (s *Snapshot) ContainersOnHost(hostID string) iter.Seq[*structs.Container] {
	return s.AssignedSince(hostID, 0)
}

// AssignedSince returns the containers of the host whose AssignIndex is above
// the index (all of them if it is 0), in the order of AssignIndex.
func (s *Snapshot) AssignedSince(hostID string, index uint64) iter.Seq[*structs.Container] {
	start := assignKey(hostID, index+1, 0)
	if index == 0 {
		start = idKey(hostID) // also one that was placed without Assign
	}
	if hostID == "" || index+1 == 0 {
		return func(func(*structs.Container) bool) {}
	}
	return scan(s, structs.TableContainers, indexHost, start, func(c *structs.Container) bool { return c.HostID == hostID })
}

// ContainersInBay returns the containers of the bay, placed or not, in the
// order of their creation.
func (s *Snapshot) ContainersInBay(bayID string) iter.Seq[*structs.Container] {
	return scan(s, structs.TableContainers, indexBay, idKey(bayID), func(c *structs.Container) bool { return c.BayID == bayID })
}

// Waiting returns the containers of the bay that wait for a host, in the order
// of their creation. It costs nothing if there are none.
func (s *Snapshot) Waiting(bayID string) iter.Seq[*structs.Container] {
	return scan(s, structs.TableContainers, indexWaiting, idKey(bayID), func(c *structs.Container) bool { return c.BayID == bayID })
}

// WaitingBays returns the IDs of the bays that have waiting containers.
func (s *Snapshot) WaitingBays() iter.Seq[string] {
	return func(yield func(string) bool) {
		start := []byte{}
		for {
			next := ""
			for c := range scan(s, structs.TableContainers, indexWaiting, start, func(*structs.Container) bool { return true }) {
				next = c.BayID
				start = seqKey(c.BayID, ^uint64(0)) // behind the last container of this bay
				start = append(start, 0xff)
				if !yield(next) {
					return
				}
				break
			}
			if next == "" {
				return
			}
		}
	}
}

// HostsInBay returns the hosts that the bay has claimed, or with "" the free
// ones, in the order of their first registration.
func (s *Snapshot) HostsInBay(bayID string) iter.Seq[*structs.Host] {
	return scan(s, structs.TableHosts, indexBay, idKey(bayID), func(h *structs.Host) bool { return h.BayID == bayID })
}

// SharedBays returns the bays that all projects may use, in the order of their
// creation.
func (s *Snapshot) SharedBays() iter.Seq[*structs.Bay] {
	return scan(s, structs.TableBays, indexShared, []byte{}, func(*structs.Bay) bool { return true })
}

// get returns the row as its own type, nil if there is none.
func get[T any](s *Snapshot, table structs.Table, id string) *T {
	if r := s.record(table, id); r != nil {
		return any(r.row).(*T)
	}
	return nil
}

func (s *Snapshot) record(table structs.Table, id string) *record {
	if id == "" || tableCodes[table] == 0 {
		return nil
	}
	r, _ := s.first(string(table), idKey(id)).(*record)
	return r
}

// first returns what stands in the table under the key, nil if nothing does.
func (s *Snapshot) first(table string, key []byte) any {
	object, err := s.txn.First(table, indexID, key)
	if err != nil {
		panic("state: " + err.Error()) // no such table or index: a mistake in this package
	}
	return object
}

// seek returns an iterator over the index from the key on.
func (s *Snapshot) seek(table, index string, start []byte) memdb.ResultIterator {
	it, err := s.txn.LowerBound(table, index, start)
	if err != nil {
		panic("state: " + err.Error()) // no such table or index: a mistake in this package
	}
	return it
}

// scan returns the rows of the index from the key on, for as long as they are
// in the range.
func scan[T any](s *Snapshot, table structs.Table, index string, start []byte, in func(*T) bool) iter.Seq[*T] {
	return func(yield func(*T) bool) {
		it := s.seek(string(table), index, start)
		for object := it.Next(); object != nil; object = it.Next() {
			row := any(object.(*record).row).(*T)
			if !in(row) || !yield(row) {
				return
			}
		}
	}
}
