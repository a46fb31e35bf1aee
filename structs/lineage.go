package structs

import "slices"

// TableLineages is the table of lineages. It has one row.
const TableLineages Table = "lineages"

// Lineages is the only row of TableLineages, with the ID LineagesRowID. It lists the
// leaderships that have written this state. The conductor writes it in the first
// entry of each leadership.
//
// A cluster has two histories after older copies of all servers' data were restored.
// Indexes alone don't distinguish them. Each leadership therefore begins a lineage
// with a random ID, so no two histories share a lineage that began after they
// diverged.
type Lineages struct {
	Meta
	Last []Lineage // the last MaxLineages lineages, oldest first
}

// Lineage is one leadership.
type Lineage struct {
	_struct struct{} `codec:",omitempty"` // see codec.go

	ID    string // UUID, minted by the leader
	First uint64 // lowest possible index of its first entry
}

// MaxLineages bounds Lineages.Last.
const MaxLineages = 1024

// LineagesRowID is the ID of the only Lineages row.
const LineagesRowID = "lineages"

// Table says which table the row belongs to.
func (*Lineages) Table() Table { return TableLineages }

// Current returns the ID of the newest lineage; "" if there is none. l may be nil.
func (l *Lineages) Current() string {
	if l == nil || len(l.Last) == 0 {
		return ""
	}
	return l.Last[len(l.Last)-1].ID
}

// Holds reports whether this history contains the state of the index whose newest
// lineage is the given one: the lineage is known, and no later one had begun by that
// index. A lineage that is too old to be kept counts as unknown. The lineage "" is
// always accepted: it is that of a follower that has seen none. l may be nil, and
// then knows no lineage.
func (l *Lineages) Holds(lineage string, index uint64) bool {
	if lineage == "" || lineage == l.Current() {
		return true
	}
	if l == nil {
		return false
	}
	i := slices.IndexFunc(l.Last, func(one Lineage) bool { return one.ID == lineage })
	return i >= 0 && index < l.Last[i+1].First
}

// With returns a copy of the row with another lineage at the end. It drops the oldest
// lineages beyond MaxLineages. l may be nil.
func (l *Lineages) With(id string, first uint64) *Lineages {
	next := &Lineages{Meta: Meta{ID: LineagesRowID}}
	if l != nil {
		next.Meta, next.Last = l.Meta, slices.Clone(l.Last)
	}
	next.Last = append(next.Last, Lineage{ID: id, First: first})
	next.Last = next.Last[max(0, len(next.Last)-MaxLineages):]
	return next
}
