package state

import (
	"cmp"
	"iter"
	"slices"
	"time"

	"github.com/stackforge/magnum/server/state/btree"
	"github.com/stackforge/magnum/server/state/charges"
	"github.com/stackforge/magnum/structs"
)

// Snapshot is the state after one entry. Any number of goroutines may read it. Its rows are
// shared: never modify one.
type Snapshot struct {
	index    uint64
	hash     uint64
	lastSeq  uint64
	lastTime time.Time
	tables   [maxTables]uint64      // ListIndex of AllProjects, by table code
	rows     [maxTables]rows        // by table code
	lists    btree.Tree[listRecord] // by table and project
	usages   btree.Tree[Usage]      // by host; none for an empty host
	rooms    Rooms                  // of hosts in bays
	charged  charges.Ledger         // what projects use
}

// Index returns the index of the last entry in the snapshot.
func (s *Snapshot) Index() uint64 { return s.index }

// Hash returns the wrapping sum of the hashes of all rows.
func (s *Snapshot) Hash() uint64 { return s.hash }

// LastSeq returns the highest Meta.Seq ever used, even if its row is deleted.
func (s *Snapshot) LastSeq() uint64 { return s.lastSeq }

// LastTime returns the latest time at which a row was created, updated or given a status
// (see structs.Meta), even if the row is deleted; zero if there was none.
func (s *Snapshot) LastTime() time.Time { return s.lastTime }

// later returns the latest of t and the times of the row.
func later(t time.Time, m *structs.Meta) time.Time {
	for _, at := range [...]time.Time{m.CreatedAt, m.UpdatedAt, m.StatusAt} {
		if at.After(t) {
			t = at
		}
	}
	return t
}

// ListIndex returns the index of the last entry that wrote or deleted a row of
// the table in the project; with AllProjects, in any project. 0 means never.
func (s *Snapshot) ListIndex(table structs.Table, projectID string) uint64 {
	if projectID == AllProjects {
		return s.tables[codeOf(table)]
	}
	if l := s.lists.Get(listKey(table, projectID)); l != nil {
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

// Cluster returns the only row of its table, nil before the first leader has written it.
func (s *Snapshot) Cluster() *structs.Cluster {
	return get[structs.Cluster](s, structs.TableCluster, structs.ClusterRowID)
}

// Lineages returns the only row of its table, nil if there is none yet.
func (s *Snapshot) Lineages() *structs.Lineages {
	return get[structs.Lineages](s, structs.TableLineages, structs.LineagesRowID)
}

// Quarantine returns the pages of the host's quarantine in order; none if it is empty.
func (s *Snapshot) Quarantine(hostID string) (pages []*structs.Quarantine) {
	if s.table(structs.TableQuarantine)[indexID].Len() == 0 {
		return nil // the usual case
	}
	for {
		page := get[structs.Quarantine](s, structs.TableQuarantine, structs.QuarantineID(hostID, len(pages)))
		if page == nil {
			return pages
		}
		pages = append(pages, page)
	}
}

// QuarantinedEpoch returns the highest epoch of the workload in any host's quarantine, 0
// for none. It scans all quarantines.
func (s *Snapshot) QuarantinedEpoch(kind structs.WorkloadKind, id string) (epoch uint64) {
	if s.table(structs.TableQuarantine)[indexID].Len() == 0 {
		return 0 // the usual case
	}
	for row := range s.List(structs.TableQuarantine, AllProjects, 0) {
		for _, k := range row.(*structs.Quarantine).Kept {
			if ref := k.Ref(); ref.Kind == kind && ref.ID == id {
				epoch = max(epoch, ref.Epoch)
			}
		}
	}
	return epoch
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

// Hosts returns the number of hosts.
func (s *Snapshot) Hosts() int { return s.table(structs.TableHosts)[indexID].Len() }

// Container returns the row, nil if there is none.
func (s *Snapshot) Container(id string) *structs.Container {
	return get[structs.Container](s, structs.TableContainers, id)
}

// Pod returns the row, nil if there is none.
func (s *Snapshot) Pod(id string) *structs.Pod { return get[structs.Pod](s, structs.TablePods, id) }

// RCsInBay returns the replication controllers of the bay in creation order.
func RCsInBay(s *Snapshot, bayID string) iter.Seq[*structs.RC] {
	return scan(s, structs.TableRCs, indexBay, idKey(bayID), func(r *structs.RC) bool { return r.BayID == bayID })
}

// ServicesInBay returns the services of the bay in creation order.
func ServicesInBay(s *Snapshot, bayID string) iter.Seq[*structs.Service] {
	return scan(s, structs.TableServices, indexBay, idKey(bayID), func(r *structs.Service) bool { return r.BayID == bayID })
}

// Endpoints returns the endpoints of a service by its ID, nil if there is no such service.
func (s *Snapshot) Endpoints(serviceID string) *structs.Endpoints {
	return get[structs.Endpoints](s, structs.TableEndpoints, serviceID)
}

// Manifest returns the manifest that an object was made from, by the object's BesideID; nil
// if there is none.
func (s *Snapshot) Manifest(besideID string) *structs.Manifest {
	return get[structs.Manifest](s, structs.TableManifests, besideID)
}

// HasSpecs reports whether any workload has a separate spec.
func (s *Snapshot) HasSpecs() bool { return s.table(structs.TableSpecs)[indexID].Len() > 0 }

// IdempotencyKey returns the row, nil if there is none.
func (s *Snapshot) IdempotencyKey(id string) *structs.IdempotencyKey {
	return get[structs.IdempotencyKey](s, structs.TableIdempotency, id)
}

// Token returns the row, nil if there is none.
func (s *Snapshot) Token(id string) *structs.Token {
	return get[structs.Token](s, structs.TableTokens, id)
}

// Usage returns what the workloads of the host reserve. The value belongs to the caller,
// who may change it.
func (s *Snapshot) Usage(hostID string) Usage { return s.usage(hostID).Clone() }

// Charged returns what projects use of their quotas.
func (s *Snapshot) Charged() *charges.Ledger { return &s.charged }

// Quota returns a project's row, nil if there is none; "" stands for the default of all projects.
func (s *Snapshot) Quota(project string) *structs.Quota {
	return get[structs.Quota](s, structs.TableQuotas, structs.QuotaID(project))
}

// usage returns the store's Usage, which must not be modified.
func (s *Snapshot) usage(hostID string) *Usage {
	if u := s.usages.Get(idKey(hostID)); u != nil {
		return u
	}
	return &noUsage
}

// Workload returns the workload of the kind, nil if there is none.
func (s *Snapshot) Workload(kind structs.WorkloadKind, id string) structs.Workload {
	if r := s.record(TableOf(kind), id); r != nil {
		return r.row.(structs.Workload)
	}
	return nil
}

var noUsage Usage // of an empty host; never modified

// OnHost returns the workloads with a placement on the host, kind by kind, and within a
// kind in the order of AssignIndex.
func (s *Snapshot) OnHost(hostID string) iter.Seq[structs.Workload] {
	return s.AssignedSince(hostID, 0)
}

// AssignedSince returns the workloads of the host whose AssignIndex is above the index (all
// of them if it is 0), kind by kind, in the order of AssignIndex.
func (s *Snapshot) AssignedSince(hostID string, index uint64) iter.Seq[structs.Workload] {
	if hostID == "" || index+1 == 0 {
		return func(func(structs.Workload) bool) {}
	}
	return func(yield func(structs.Workload) bool) {
		start := appendAssign(make([]byte, 0, keySize), hostID, index+1, 0)
		if index == 0 {
			start = appendID(start[:0], hostID) // including one that was placed without Assign
		}
		for _, t := range placed {
			var last structs.Workload
			// The keys of the next host follow, where a workload with placements on both
			// hosts occurs again.
			onHost := func(w structs.Workload) bool {
				p := w.Place()
				again := last != nil && (cmp.Or(cmp.Compare(p.AssignIndex, last.Place().AssignIndex),
					cmp.Compare(w.Base().Seq, last.Base().Seq)) < 0 || w == last)
				return p.On(hostID) && !again && (index == 0 || p.AssignIndex > index)
			}
			for w := range scan[structs.Workload](s, t.Name, indexHost, start, onHost) {
				if last = w; !yield(w) {
					return
				}
			}
		}
	}
}

// InBay returns the workloads of the bay, placed or not, in creation order.
func (s *Snapshot) InBay(bayID string) iter.Seq[structs.Workload] {
	return workloadsOfBay(s, indexBay, bayID)
}

// Waiting returns the waiting workloads of the bay in creation order. It costs nothing if
// there are none.
func (s *Snapshot) Waiting(bayID string) iter.Seq[structs.Workload] {
	return workloadsOfBay(s, indexWaiting, bayID)
}

// workloadsOfBay returns the workloads of the bay in the index, with all kinds merged by
// Seq.
func workloadsOfBay(s *Snapshot, index int, bayID string) iter.Seq[structs.Workload] {
	return func(yield func(structs.Workload) bool) {
		start := idKey(bayID)
		var next []*cursor
		for _, t := range placed {
			c := &cursor{
				it:   s.table(t.Name)[index].Seek(start),
				in:   func(row structs.Row) bool { return row.(structs.Workload).Place().BayID == bayID },
				want: func(structs.Row) bool { return true },
			}
			if c.next() {
				next = append(next, c)
			}
		}
		for len(next) > 0 {
			first := 0
			for i, c := range next {
				if c.row.Base().Seq < next[first].row.Base().Seq {
					first = i
				}
			}
			c := next[first]
			if !yield(c.row.(structs.Workload)) {
				return
			}
			if !c.next() {
				next = slices.Delete(next, first, first+1)
			}
		}
	}
}

// Moving returns the workloads whose earlier placement runs until the newest one is ready,
// by kind in creation order. It costs nothing if there are none.
func Moving(s *Snapshot) iter.Seq[structs.Workload] {
	return func(yield func(structs.Workload) bool) {
		for _, t := range placed {
			for w := range scan(s, t.Name, indexMoving, []byte{}, func(structs.Workload) bool { return true }) {
				if !yield(w) {
					return
				}
			}
		}
	}
}

// WaitingBays returns the IDs of the bays that have waiting workloads.
func (s *Snapshot) WaitingBays() iter.Seq[string] {
	return func(yield func(string) bool) {
		var yielded map[string]bool // only needed with several kinds
		for i, t := range placed {
			start := []byte{}
			for {
				it := s.table(t.Name)[indexWaiting].Seek(start)
				r := it.Next()
				if r == nil {
					break
				}
				bayID := r.row.(structs.Workload).Place().BayID
				start = append(seqKey(bayID, ^uint64(0)), 0xff) // after the last key of this bay
				if yielded[bayID] {
					continue
				}
				if i+1 < len(placed) {
					if yielded == nil {
						yielded = make(map[string]bool)
					}
					yielded[bayID] = true
				}
				if !yield(bayID) {
					return
				}
			}
		}
	}
}

// HostsInBay returns the hosts of the bay, or with "" the free ones, in the order of their
// first registration.
func (s *Snapshot) HostsInBay(bayID string) iter.Seq[*structs.Host] {
	return scan(s, structs.TableHosts, indexBay, idKey(bayID), func(h *structs.Host) bool { return h.BayID == bayID })
}

// UnsettledHosts returns the hosts that are lost, or draining, or whose workloads have to
// be started again after a drain, in the order of their first registration.
func (s *Snapshot) UnsettledHosts() iter.Seq[*structs.Host] {
	return scan(s, structs.TableHosts, indexWaiting, []byte{}, func(*structs.Host) bool { return true })
}

// hasUnsettledHosts reports whether UnsettledHosts returns any.
func hasUnsettledHosts(s *Snapshot) bool {
	return s.table(structs.TableHosts)[indexWaiting].Len() > 0
}

// EndingBays returns the bays that are being deleted, in creation order.
func (s *Snapshot) EndingBays() iter.Seq[*structs.Bay] {
	return scan(s, structs.TableBays, indexWaiting, []byte{}, func(*structs.Bay) bool { return true })
}

// SharedBays returns the bays that all projects may use, in creation order.
func (s *Snapshot) SharedBays() iter.Seq[*structs.Bay] {
	return scan(s, structs.TableBays, indexShared, []byte{}, func(*structs.Bay) bool { return true })
}

// get returns the row with its own type, nil if there is none.
func get[T any](s *Snapshot, table structs.Table, id string) *T {
	if r := s.record(table, id); r != nil {
		return any(r.row).(*T)
	}
	return nil
}

func (s *Snapshot) record(table structs.Table, id string) *record {
	if id == "" || codeOf(table) == 0 {
		return nil
	}
	return s.table(table)[indexID].Get(idKey(id))
}

func (s *Snapshot) table(table structs.Table) *rows { return &s.rows[codeOf(table)] }

// scan returns the rows of the index from the key on, as long as in returns true.
func scan[P structs.Row](s *Snapshot, table structs.Table, index int, start []byte, in func(P) bool) iter.Seq[P] {
	return func(yield func(P) bool) {
		it := s.table(table)[index].Seek(start)
		for r := it.Next(); r != nil; r = it.Next() {
			row := r.row.(P)
			if !in(row) || !yield(row) {
				return
			}
		}
	}
}
