package state

import (
	"container/heap"
	"iter"

	"github.com/stackforge/magnum/server/state/btree"
	"github.com/stackforge/magnum/structs"
)

// AllProjects as a projectID means every project.
const AllProjects = "*"

// List returns the rows of the table in the project in creation order, starting after the
// Seq; with after 0 all rows, including those without a Seq. With AllProjects it costs one
// seek for each project.
func (s *Snapshot) List(table structs.Table, projectID string, after uint64) iter.Seq[structs.Row] {
	return ranges(s, table, projectID, func(projectID string) *cursor {
		start := idKey(projectID)
		if after > 0 {
			start = append(seqKey(projectID, after), 0xff)
		}
		return &cursor{
			it: s.table(table)[indexList].Seek(start),
			in: func(row structs.Row) bool {
				m := row.Base()
				return m.ProjectID == projectID
			},
			want: func(row structs.Row) bool { return after == 0 || row.Base().Seq > after },
		}
	})
}

// ByName returns the rows of the table in the project with exactly this name, in creation
// order. Hosts belong to project "".
func (s *Snapshot) ByName(table structs.Table, projectID, name string) iter.Seq[structs.Row] {
	if _, named := NewRow(table).(structs.Named); !named {
		return func(func(structs.Row) bool) {}
	}
	return ranges(s, table, projectID, func(projectID string) *cursor {
		key := appendName(nil, projectID, name, 0)
		hash := string(key[:8])
		return &cursor{
			it: s.table(table)[indexName].Seek(key),
			in: func(row structs.Row) bool {
				m := row.Base()
				n := structs.NameOf(row)
				return m.ProjectID == projectID && n == name || string(appendName(nil, m.ProjectID, n, 0)[:8]) == hash
			},
			want: func(row structs.Row) bool {
				n := structs.NameOf(row)
				return row.Base().ProjectID == projectID && n == name
			},
		}
	})
}

// ranges returns the rows of one project's cursor or, with AllProjects, of every project's,
// merged by Seq.
func ranges(s *Snapshot, table structs.Table, projectID string, open func(projectID string) *cursor) iter.Seq[structs.Row] {
	if codeOf(table) == 0 {
		return func(func(structs.Row) bool) {}
	}
	return func(yield func(structs.Row) bool) {
		var merge cursorHeap
		if projectID == AllProjects {
			for projectID := range projectsOf(s, table) {
				if c := open(projectID); c.next() {
					merge = append(merge, c)
				}
			}
			heap.Init(&merge)
		} else if c := open(projectID); c.next() {
			merge = append(merge, c)
		}
		for len(merge) > 0 {
			c := merge[0]
			if !yield(c.row) {
				return
			}
			if c.next() {
				heap.Fix(&merge, 0)
			} else {
				heap.Pop(&merge)
			}
		}
	}
}

// projectsOf returns the projects that have or had rows in the table.
func projectsOf(s *Snapshot, table structs.Table) iter.Seq[string] {
	return func(yield func(string) bool) {
		it := s.lists.Seek([]byte{codeOf(table)})
		for l := it.Next(); l != nil; l = it.Next() {
			if l.table != table || !yield(l.projectID) {
				return
			}
		}
	}
}

// cursor walks a range of an index.
type cursor struct {
	it   btree.Iterator[record]
	in   func(structs.Row) bool // still within the range
	want func(structs.Row) bool // whether to return the row
	row  structs.Row            // the current row
}

// next moves to the next row and reports whether there is one.
func (c *cursor) next() bool {
	for r := c.it.Next(); r != nil; r = c.it.Next() {
		c.row = r.row
		if !c.in(c.row) {
			return false
		}
		if c.want(c.row) {
			return true
		}
	}
	return false
}

// cursorHeap is ordered by the cursors' Seq; see container/heap.
type cursorHeap []*cursor

func (h cursorHeap) Len() int      { return len(h) }
func (h cursorHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }

func (h cursorHeap) Less(i, j int) bool {
	a, b := h[i].row.Base(), h[j].row.Base()
	if a.Seq != b.Seq {
		return a.Seq < b.Seq
	}
	return a.ProjectID < b.ProjectID
}

// Push is never called.
func (h *cursorHeap) Push(x any) { *h = append(*h, x.(*cursor)) }

// Pop removes the last cursor.
func (h *cursorHeap) Pop() any {
	last := len(*h) - 1
	c := (*h)[last]
	*h = (*h)[:last]
	return c
}
