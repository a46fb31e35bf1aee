package conductor

import (
	"time"

	"github.com/stackforge/magnum/server/schedule"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// rowKey names a row.
type rowKey struct {
	table structs.Table
	id    string
}

// pending is what a batch has done to a row so far.
type pending struct {
	row    structs.Row // nil: deleted
	assign bool
	anew   bool // the batch had deleted it before: it is another object of the same ID
	apart  bool // of a container: its spec is a row of its own
	size   int  // bytes that it takes in the entry
}

// tx is the scratch view on which a batch is decided: the state that was last
// applied, and over it the rows that the batch's requests have written so far.
// A refused request's writes are undone. Only the conductor's loop touches it.
type tx struct {
	base *state.Snapshot
	now  time.Time // of all that the batch writes; never before an earlier batch's
	seq  uint64    // last Meta.Seq given out

	rows  map[rowKey]pending
	below map[rowKey]structs.Row     // rows of the base that were looked up; nil for one that isn't there
	order []rowKey                   // keys of rows, in the order of their first write
	own   map[structs.Table][]string // IDs of rows by table, in the same order
	held  *reservations              // what the batch sees reserved on hosts

	// Found for one request and kept for the next, until a bay or host is
	// written: most of a batch are creates of the same few projects.
	mine  map[string][]*structs.Bay  // by project: the bays that it may use
	hosts map[string][]schedule.Host // by bay: the hosts that it has claimed

	specRows bool // large specs have rows of their own in the entry's schema
	engines  bool // rows may say which engine and which of its containers is meant, likewise

	size    int      // bytes that the batch's changes take in the entry
	skipped []rowKey // what didn't fit in an entry although it was alone there

	// Of the request that is being decided.
	undo     []undo
	seqMark  uint64
	sizeMark int   // size when it began
	refusal  error // what it has written is not allowed
	alone    bool  // it has to have an entry of its own to make its next change
}

// undo restores one row to what it was before a write.
type undo struct {
	key rowKey
	was pending
	had bool // the batch had written it before
}

func newTx(base *state.Snapshot, now time.Time) *tx {
	t := &tx{
		base: base, now: now, seq: base.LastSeq(), specRows: base.Cluster().SchemaInUse() >= structs.SchemaSpecs,
		engines: base.Cluster().SchemaInUse() >= structs.SchemaEngines, rows: make(map[rowKey]pending), below: make(map[rowKey]structs.Row),
		own: make(map[structs.Table][]string), mine: make(map[string][]*structs.Bay), hosts: make(map[string][]schedule.Host),
	}
	t.held = newReservations(t)
	return t
}

// get returns a row as the batch sees it, nil if there is none. It must not be
// changed: copy it, change the copy, put that.
func (t *tx) get(table structs.Table, id string) structs.Row {
	if p, ok := t.rows[rowKey{table, id}]; ok {
		return p.row
	}
	return t.was(rowKey{table, id})
}

// was returns a row of the base. Each look into the base costs a microsecond,
// and a create asks three times for the row that isn't there yet.
func (t *tx) was(key rowKey) structs.Row {
	r, ok := t.below[key]
	if !ok {
		r = t.base.Get(key.table, key.id)
		t.below[key] = r
	}
	return r
}

// row is get with the row's own type; nil if there is none.
func row[R any, P interface {
	*R
	structs.Row
}](t *tx, id string) P {
	var zero R
	r, _ := t.get(P(&zero).Table(), id).(P)
	return r
}

// put writes a row.
func (t *tx) put(r structs.Row) { t.set(rowKey{r.Table(), r.Base().ID}, pending{row: r}) }

// assign writes a workload and lets its hosts hear of it.
func (t *tx) assign(w structs.Workload) {
	if p := w.Place(); p.Desired != structs.DesiredRunning {
		release(p)
	}
	t.set(rowKey{w.Table(), w.Base().ID}, pending{row: w, assign: true})
}

// remove deletes a row.
func (t *tx) remove(r structs.Row) {
	if w, ok := r.(structs.Workload); ok {
		if actions := t.get(structs.TableActions, actionsID(w)); actions != nil {
			t.remove(actions)
		}
	}
	if c, ok := r.(*structs.Container); ok {
		if spec := t.storedSpec(c.ID); spec != nil {
			t.remove(spec)
		}
	}
	t.set(rowKey{r.Table(), r.Base().ID}, pending{assign: true})
}

func (t *tx) set(key rowKey, p pending) {
	if !t.engines {
		withoutEngines(p.row)
	}
	was, had := t.rows[key]
	before := t.get(key.table, key.id)
	if before != nil && p.row != nil && state.StatusDiffers(before, p.row) {
		p.row.Base().StatusAt = t.now
	}
	p.assign = p.assign || was.assign
	p.anew = p.row != nil && had && (was.anew || was.row == nil)
	if c, ok := p.row.(*structs.Container); ok {
		old, _ := before.(*structs.Container)
		p.apart, p.size = t.split(c, old, p)
	} else {
		p.size = t.sizeOf(key, p)
	}
	t.undo = append(t.undo, undo{key, was, had})
	if !had {
		t.order = append(t.order, key)
		t.own[key.table] = append(t.own[key.table], key.id)
	}
	t.reserve(key, p.row)
	t.forget(key)
	t.rows[key] = p
	t.size += p.size - was.size
}

// reserve moves a workload's reservation from where it was to where the row
// puts it.
func (t *tx) reserve(key rowKey, to structs.Row) {
	if w, ok := t.get(key.table, key.id).(structs.Workload); ok {
		for _, hostID := range w.Place().Hosts() {
			t.held.give(hostID, w.Reserved())
		}
	}
	if w, ok := to.(structs.Workload); ok {
		for _, hostID := range w.Place().Hosts() {
			t.held.take(hostID, w.Reserved())
		}
	}
}

// forget drops what was found in a table that is written.
func (t *tx) forget(key rowKey) {
	switch key.table {
	case structs.TableBays:
		clear(t.mine)
	case structs.TableHosts:
		clear(t.hosts)
		t.held.stale[key.id] = true
	}
}

// begin starts a request.
func (t *tx) begin() {
	t.undo, t.seqMark, t.sizeMark = t.undo[:0], t.seq, t.size
	t.refusal, t.alone = nil, false
}

// rollback undoes all that the request has written.
func (t *tx) rollback() { t.rollbackTo(0, t.seqMark) }

// rollbackTo undoes what the request has written since it had made the given
// number of writes, with seq as it was then.
func (t *tx) rollbackTo(writes int, seq uint64) {
	for i := len(t.undo) - 1; i >= writes; i-- {
		u := t.undo[i]
		t.forget(u.key)
		t.size += u.was.size - t.rows[u.key].size
		if u.had {
			t.reserve(u.key, u.was.row)
			t.rows[u.key] = u.was
		} else {
			t.reserve(u.key, t.was(u.key))
			delete(t.rows, u.key)
			t.order = t.order[:len(t.order)-1]
			t.own[u.key.table] = t.own[u.key.table][:len(t.own[u.key.table])-1]
		}
	}
	t.undo, t.seq = t.undo[:writes], seq
}

// writes returns the number of rows that the request has written.
func (t *tx) writes() int { return len(t.undo) }

// changes returns what the batch comes to: one change for each row that is not
// as it was, and two for one that was deleted and made anew. It has to be seen
// to be another object: its CreateIndex tells those who delete again.
func (t *tx) changes() []structs.Change {
	var out []structs.Change
	for _, key := range t.order {
		p := t.rows[key]
		c, needed := t.change(key, p)
		if !needed {
			continue
		}
		if p.anew && c.Version != 0 {
			out = append(out, structs.Change{Table: key.table, ID: key.id, Version: c.Version})
		}
		out = append(out, c)
	}
	return out
}

// change returns what the batch does to a row; needed is false for one that was
// made and deleted within the batch.
func (t *tx) change(key rowKey, p pending) (c structs.Change, needed bool) {
	c = structs.Change{Table: key.table, ID: key.id, Row: p.row, Assign: p.assign, SpecApart: p.apart}
	was := t.was(key)
	if was != nil {
		c.Version = was.Base().ModifyIndex
	}
	return c, p.row != nil || was != nil
}

// meta returns the Meta of a new row on behalf of the caller. id may be "".
func (t *tx) meta(caller structs.Caller, id string) structs.Meta {
	if id == "" {
		id = structs.NewID()
	}
	t.seq++
	return structs.Meta{ID: id, Seq: t.seq, ProjectID: caller.ProjectID, UserID: caller.UserID, CreatedAt: t.now}
}
