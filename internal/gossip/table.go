package gossip

import (
	"bytes"
	"cmp"
	"slices"
	"time"
)

// Bounds of how long processes that are gone are shown. Servers are shown
// until they are forgotten: an operator has to see that one is missing.
const (
	goneAgentFor  = 24 * time.Hour
	goneAgentsMax = 1024
)

// record is one instance.
type record struct {
	Member
	instance
	meta []byte // what Member.Node was decoded from
}

// table is who is known, by Node.ID. Several instances of one process are kept
// only while several seem alive. It isn't safe for concurrent use.
type table struct {
	self    instance
	records map[string][]*record
	left    map[string]bool // instances that have said that they leave and still seem alive; bounded by records
}

func newTable(self instance) *table {
	return &table{self: self, records: map[string][]*record{}, left: map[string]bool{}}
}

// find returns the record of an instance, nil if it isn't known.
func (t *table) find(i instance) *record {
	for _, r := range t.records[i.id] {
		if r.instance == i {
			return r
		}
	}
	return nil
}

// put notes that an instance is alive and what it tells. It reports whether
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
	t.tidy(i.id)
	return true
}

// gone notes that an instance is dead, or left if it has said so.
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
	t.tidy(i.id)
	t.expire(now)
	return true
}

// leaves notes that an instance has said that it leaves, before or after it
// was seen to be gone. It reports whether that is news.
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

// drop removes an instance, whatever its state.
func (t *table) drop(i instance) bool {
	before := len(t.records[i.id])
	t.set(i.id, slices.DeleteFunc(t.records[i.id], func(r *record) bool { return r.instance == i }))
	delete(t.left, i.String())
	return len(t.records[i.id]) < before
}

// forget removes a process that is gone.
func (t *table) forget(id string) bool {
	r := t.current(id)
	if r == nil || r.State == StateAlive {
		return false
	}
	delete(t.records, id)
	return true
}

// foreign removes all members of other clusters than this one.
func (t *table) foreign(clusterID string) {
	for _, r := range t.all() {
		if differ(r.ClusterID, clusterID) && r.instance != t.self {
			t.drop(r.instance)
		}
	}
}

// differ reports whether two processes belong to different clusters. One that
// belongs to none differs from nobody.
func differ(a, b string) bool { return a != "" && b != "" && a != b }

// current returns the instance that stands for a process: this very one, one
// that is alive, or else the one that was started last.
func (t *table) current(id string) *record {
	var best *record
	for _, r := range t.records[id] {
		if best == nil || t.better(r, best) {
			best = r
		}
	}
	return best
}

func (t *table) better(a, b *record) bool {
	if self := a.instance == t.self; self != (b.instance == t.self) {
		return self
	}
	if alive := a.State == StateAlive; alive != (b.State == StateAlive) {
		return alive
	}
	return a.start > b.start
}

// instances returns all of a process, the one that stands for it first.
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

// tidy removes instances that are gone and that another one stands for.
func (t *table) tidy(id string) {
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

// expire removes agents that are gone for long, or that are too many.
func (t *table) expire(now time.Time) bool {
	var gone []*record
	for id := range t.records {
		if r := t.current(id); r.Role == RoleAgent && r.State != StateAlive {
			gone = append(gone, r)
		}
	}
	slices.SortFunc(gone, func(a, b *record) int { return b.Since.Compare(a.Since) }) // the newest first
	removed := false
	for at, r := range gone {
		if at >= goneAgentsMax || now.Sub(r.Since) > goneAgentFor {
			delete(t.records, r.instance.id)
			removed = true
		}
	}
	return removed
}

// all returns what stands for each process, sorted by name, then ID.
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
