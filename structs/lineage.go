package structs

import "slices"

// TableLineages is the table of lineages. It has one row.
const TableLineages Table = "lineages"

// Lineages is the one row of TableLineages, ID LineagesRowID: the leaderships that
// have written this state. The conductor writes it in the first entry of each.
//
// Indexes alone don't tell two histories of one cluster apart, as there are once
// older copies of all servers' data were put back. Each leadership begins a
// lineage with a random id, so no two histories have the same one after the point
// where they part.
type Lineages struct {
	Meta
	Last []Lineage // the last MaxLineages of them, oldest first
}

// Lineage is what one leadership has written.
type Lineage struct {
	_struct struct{} `codec:",omitempty"` // see codec.go

	ID    string // UUID, minted by the leader
	First uint64 // least index that its first entry can have had
}

// MaxLineages bounds Lineages.Last.
const MaxLineages = 1024

// LineagesRowID is the ID of the only Lineages row.
const LineagesRowID = "lineages"

// Table says which table the row belongs to.
func (*Lineages) Table() Table { return TableLineages }

// Current returns the id of the newest lineage; "" if there is none. l may be nil.
func (l *Lineages) Current() string {
	if l == nil || len(l.Last) == 0 {
		return ""
	}
	return l.Last[len(l.Last)-1].ID
}

// Holds reports whether somebody who has followed the state up to the index, and
// had the lineage as its newest one there, has followed this history: the lineage is
// known, and no later one had begun by that index. One that is too old to be kept
// counts as unknown. "" is somebody who has seen no lineage, and is believed. l may
// be nil: then no lineage is known.
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

// With returns the row with another lineage, and without those that are one too
// many. l may be nil.
func (l *Lineages) With(id string, first uint64) *Lineages {
	next := &Lineages{Meta: Meta{ID: LineagesRowID}}
	if l != nil {
		next.Meta, next.Last = l.Meta, slices.Clone(l.Last)
	}
	next.Last = append(next.Last, Lineage{ID: id, First: first})
	next.Last = next.Last[max(0, len(next.Last)-MaxLineages):]
	return next
}
