package gossip

import (
	"bytes"
	"cmp"
	"slices"
	"time"
)

// Bounds of the agents that are dead or have left. Such servers are kept until they are
// forgotten: an operator has to see that one is missing.
const (
	goneAgentFor  = 24 * time.Hour
	goneAgentsMax = 1024
)

// record is one instance.
type record struct {
	Member
	instance
	meta []byte // encoded form of Member.Node
}

// table has the known instances by Node.ID. Several instances of one process are kept
// only while several seem alive. It is not safe for concurrent use.
type table struct {
	self    instance
	records map[string][]*record
	left    map[string]bool // instances that have announced their leaving and still seem alive; bounded by records
}

func newTable(self instance) *table {
	return &table{self: self, records: map[string][]*record{}, left: map[string]bool{}}
}

// find returns the record of an instance, nil if the instance is unknown.
func (t *table) find(i instance) *record {
	for _, r := range t.records[i.id] {
		if r.instance == i {
			return r
		}
	}
	return nil
}

// put records that an instance is alive, and what it announces. It reports whether
// anything changed.
func (t *table) put(i instance, n Node, meta []byte, addr string, now time.Time) bool {
	n.ID = i.id
	r := t.find(i)
	if r == nil {
		r = &record{instance: i}
		t.records[i.id] = append(t.records[i.id], r)
	} else if r.State == StateAlive && r.Addr == addr && bytes.Equal(r.meta, meta) {
		return false
	}
	if r.State != StateAlive {
		r.State, r.Since = StateAlive, now
		delete(t.left, i.String())
	}
	r.Node, r.Addr, r.meta = n, addr, bytes.Clone(meta)
	t.dropSuperseded(i.id)
	return true
}

// gone records that an instance is dead, or has left if it has announced so. It reports
// whether anything changed.
func (t *table) gone(i instance, now time.Time) bool {
	r := t.find(i)
	if r == nil || r.State != StateAlive {
		return false
	}
	r.State, r.Since = StateDead, now
	if t.left[i.String()] || i == t.self {
		r.State = StateLeft
		delete(t.left, i.String())
	}
	t.dropSuperseded(i.id)
	t.expire(now)
	return true
}

// leaves records that an instance has announced its leaving, before or after gone. It
// reports whether anything changed.
func (t *table) leaves(i instance, now time.Time) bool {
	r := t.find(i)
	switch {
	case r == nil || i == t.self || r.State == StateLeft || t.left[i.String()]:
		return false
	case r.State == StateDead:
		r.State, r.Since = StateLeft, now
	default:
		t.left[i.String()] = true
	}
	return true
}

// drop removes an instance in any state, and reports whether there was one.
func (t *table) drop(i instance) bool {
	before := len(t.records[i.id])
	t.set(i.id, slices.DeleteFunc(t.records[i.id], func(r *record) bool { return r.instance == i }))
	delete(t.left, i.String())
	return len(t.records[i.id]) < before
}

// forget removes a process that is dead or has left, and reports whether there was one.
func (t *table) forget(id string) bool {
	r := t.current(id)
	if r == nil || r.State == StateAlive {
		return false
	}
	delete(t.records, id)
	return true
}

// dropForeign removes all members of clusters other than clusterID.
func (t *table) dropForeign(clusterID string) {
	for _, r := range t.all() {
		if differ(r.ClusterID, clusterID) && r.instance != t.self {
			t.drop(r.instance)
		}
	}
}

// differ reports whether two cluster IDs differ. "", no cluster yet, differs from none.
func differ(a, b string) bool { return a != "" && b != "" && a != b }

// current returns the instance that Members shows for a process: this process itself,
// else one that is alive, else the one that started last. nil if there is none.
func (t *table) current(id string) *record {
	var best *record
	for _, r := range t.records[id] {
		if best == nil || t.better(r, best) {
			best = r
		}
	}
	return best
}

// better reports whether current prefers a to b.
func (t *table) better(a, b *record) bool {
	if self := a.instance == t.self; self != (b.instance == t.self) {
		return self
	}
	if alive := a.State == StateAlive; alive != (b.State == StateAlive) {
		return alive
	}
	return a.start > b.start
}

// instances returns all instances of a process, the current one first.
func (t *table) instances(id string) []*record {
	all := slices.Clone(t.records[id])
	slices.SortFunc(all, func(a, b *record) int {
		switch {
		case t.better(a, b):
			return -1
		case t.better(b, a):
			return 1
		}
		return 0
	})
	return all
}

// dropSuperseded removes the instances of a process that are neither current nor alive.
func (t *table) dropSuperseded(id string) {
	best := t.current(id)
	t.set(id, slices.DeleteFunc(t.records[id], func(r *record) bool { return r != best && r.State != StateAlive }))
}

func (t *table) set(id string, records []*record) {
	if len(records) == 0 {
		delete(t.records, id)
		return
	}
	t.records[id] = records
}

// expire removes agents that have been dead or left for longer than goneAgentFor, and the
// oldest beyond goneAgentsMax. It reports whether it removed any.
func (t *table) expire(now time.Time) bool {
	var gone []*record
	for id := range t.records {
		if r := t.current(id); r.Role == RoleAgent && r.State != StateAlive {
			gone = append(gone, r)
		}
	}
	slices.SortFunc(gone, func(a, b *record) int { return b.Since.Compare(a.Since) }) // newest first
	removed := false
	for at, r := range gone {
		if at >= goneAgentsMax || now.Sub(r.Since) > goneAgentFor {
			delete(t.records, r.instance.id)
			removed = true
		}
	}
	return removed
}

// all returns the current instance of each process, sorted by name, then ID.
func (t *table) all() []*record {
	all := make([]*record, 0, len(t.records))
	for id := range t.records {
		all = append(all, t.current(id))
	}
	slices.SortFunc(all, func(a, b *record) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	})
	return all
}
