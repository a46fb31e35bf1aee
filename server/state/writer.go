package state

import (
	"bytes"

	"github.com/stackforge/magnum/server/state/btree"
	"github.com/stackforge/magnum/structs"
)

// writer writes to the tables of a snapshot that is not published yet.
type writer struct {
	from, to *Snapshot // to is a copy of from; from is nil if to was empty
	epoch    uint64
	old, new []byte // keys
}

func newWriter(from, to *Snapshot) *writer {
	return &writer{from: from, to: to, epoch: btree.NewEpoch()}
}

// put replaces the record old by r in all indexes of the table. old is nil for a new row, r
// for a deleted one.
func (w *writer) put(table structs.Table, old, r *record) {
	t := tableByName[table]
	for i, key := range t.keys {
		if key != nil {
			w.index(&w.to.rows[t.Code][i], key, old, r)
		}
	}
}

// index moves a row in one index from its old keys to its new ones.
func (w *writer) index(t *btree.Tree[record], key keyOf, old, r *record) {
	at := func(b []byte, r *record, n int) []byte {
		if r == nil {
			return nil
		}
		return key(b[:0], r.row, n)
	}
	first := at(w.new, r, 0)
	if first != nil {
		w.new = first
	}
	for n := 0; ; n++ {
		was := at(w.old, old, n)
		if was == nil {
			break
		}
		w.old = was
		if n > 0 || !bytes.Equal(was, first) {
			t.Remove(w.epoch, was)
		}
	}
	if first == nil {
		return
	}
	t.Set(w.epoch, first, r)
	for n := 1; ; n++ {
		next := at(w.new, r, n)
		if next == nil {
			return
		}
		w.new = next
		t.Set(w.epoch, next, r)
	}
}

// list sets the index at which a list last changed.
func (w *writer) list(l *listRecord) {
	w.to.lists.Set(w.epoch, listKey(l.table, l.projectID), l)
}

// usage sets the usage of a host.
func (w *writer) usage(hostID string, u *Usage) {
	if u.Workloads > 0 {
		w.to.usages.Set(w.epoch, idKey(hostID), u)
	} else {
		w.to.usages.Remove(w.epoch, idKey(hostID))
	}
}
