// Package scratch is the scratch view in which the conductor decides a batch: an overlay
// over the last applied state. It reads as the batch sees the state, counts the bytes that
// the writes take in the entry, keeps the reservations on hosts up to date, and undoes the
// writes of a refused request.
//
// server/conductor calls it. It decides nothing: what a request writes, and why, is in the
// conductor.
package scratch

import (
	"slices"
	"time"

	"github.com/stackforge/magnum/server/schedule"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/server/state/charges"
	"github.com/stackforge/magnum/structs"
)

// rowKey names a row.
type rowKey struct {
	table structs.Table
	id    string
}

// pending is what a batch has done to a row so far.
type pending struct {
	row       structs.Row // nil if deleted
	assign    bool        // the row's hosts get it as an assignment
	recreated bool        // the batch had deleted the row before: this is another object with the same ID
	apart     bool        // of a workload: its spec is a separate row
	size      int         // bytes in the entry
}

// Tx is the scratch view in which a batch is decided: the last applied state, and over it
// the rows that the batch's requests have written so far. The writes of a refused request
// are undone. Only the conductor's loop uses it.
type Tx struct {
	Base *state.Snapshot
	Now  time.Time // timestamp of all writes; never before that of an earlier batch
	seq  uint64    // last Meta.Seq used

	rows       map[rowKey]pending
	baseRows   map[rowKey]structs.Row     // rows of the base that were looked up; nil for a missing row
	order      []rowKey                   // keys of rows, in the order of their first write
	writtenIDs map[structs.Table][]string // IDs of rows by table, in the same order
	Reserved   *Reservations              // what the batch sees reserved on hosts
	account    account                    // what the batch sees of quotas

	// Cached across the requests of a batch until a bay or host is written: most of a batch
	// are creates of the same few projects.
	projectBays map[string][]*structs.Bay  // by project: the bays that it may use
	hosts       map[string][]schedule.Host // by bay: its hosts

	specRows bool // in the entry's schema, large specs are separate rows
	engines  bool // in the entry's schema, rows may name an engine and the ID of a container in it
	pods     bool // likewise Fingerprint.Kinds and Relay, and the index of a host's last change of bay

	size    int      // bytes that the batch's changes take in the entry
	skipped []rowKey // rows that are too large for an entry of their own

	// State of the current request.
	undo          []undo
	seqMark       uint64
	sizeMark      int   // size when the request began
	refusal       error // set if one of its writes is not allowed
	needsOwnEntry bool  // its next change fits only in an entry of its own
}

// undo restores one row to its state before a write.
type undo struct {
	key      rowKey
	previous pending
	written  bool // whether the batch had written the row before
}

// New returns an empty scratch view over the snapshot. now is the time of its writes.
func New(base *state.Snapshot, now time.Time) *Tx { return NewFor(0, base, now) }

// NewFor is New with room for a number of rows. More may be written.
func NewFor(rows int, base *state.Snapshot, now time.Time) *Tx {
	t := &Tx{
		Base: base, Now: now, seq: base.LastSeq(), specRows: base.Cluster().SchemaInUse() >= structs.SchemaSpecs,
		engines: base.Cluster().SchemaInUse() >= structs.SchemaEngines, pods: base.Cluster().SchemaInUse() >= structs.SchemaPods,
		rows: make(map[rowKey]pending, rows), baseRows: make(map[rowKey]structs.Row, rows), order: make([]rowKey, 0, rows),
		writtenIDs: make(map[structs.Table][]string), projectBays: make(map[string][]*structs.Bay), hosts: make(map[string][]schedule.Host),
	}
	t.Reserved = newReservations(t)
	t.account = account{charged: charges.NewBatch(base.Charged()), shipped: structs.UnlimitedAmounts()}
	return t
}

// Get returns a row as the batch sees it, nil if there is none. The row must not be
// changed: change a copy and put the copy.
func (t *Tx) Get(table structs.Table, id string) structs.Row {
	if p, ok := t.rows[rowKey{table, id}]; ok {
		return p.row
	}
	return t.baseRow(rowKey{table, id})
}

// baseRow returns a row of the base. It caches the lookup, because a create asks three
// times for the row that doesn't exist yet.
func (t *Tx) baseRow(key rowKey) structs.Row {
	r, ok := t.baseRows[key]
	if !ok {
		r = t.Base.Get(key.table, key.id)
		t.baseRows[key] = r
	}
	return r
}

// Row is Get with the row's own type. It returns nil if there is none.
func Row[R any, P interface {
	*R
	structs.Row
}](t *Tx, id string) P {
	var zero R
	r, _ := t.Get(P(&zero).Table(), id).(P)
	return r
}

// Put writes a row.
func (t *Tx) Put(r structs.Row) { t.set(rowKey{r.Table(), r.Base().ID}, pending{row: r}) }

// Assign writes a row and announces it to its hosts: a workload as an assignment.
func (t *Tx) Assign(r structs.Row) {
	if w, ok := r.(structs.Workload); ok && w.Place().Desired != structs.DesiredRunning {
		w.Place().Release()
	}
	t.set(rowKey{r.Table(), r.Base().ID}, pending{row: r, assign: true})
}

// Remove deletes a row, and the rows that belong to it: actions, manifest, spec and endpoints.
func (t *Tx) Remove(r structs.Row) {
	beside := "" // the ID of those in tables of all kinds
	switch r := r.(type) {
	case structs.Workload:
		beside = r.Ref().BesideID()
	case *structs.RC:
		beside = r.BesideID()
	case *structs.Service:
		beside = r.BesideID()
		if e := t.Get(structs.TableEndpoints, r.ID); e != nil {
			t.Remove(e)
		}
	}
	for _, table := range []structs.Table{structs.TableActions, structs.TableManifests} {
		if row := t.Get(table, beside); beside != "" && row != nil {
			t.Remove(row)
		}
	}
	if w, ok := r.(structs.Specced); ok {
		if spec := t.storedSpec(w); spec != nil {
			t.Remove(spec)
		}
	}
	t.set(rowKey{r.Table(), r.Base().ID}, pending{assign: true})
}

func (t *Tx) set(key rowKey, p pending) {
	if !t.engines {
		withoutEngines(p.row)
	}
	if h, ok := p.row.(*structs.Host); ok && !t.pods { // as withoutEngines
		if f := &h.Fingerprint; f.Kinds != nil || f.Relay != (structs.Relay{}) || h.BayIndex != 0 || h.Problems != nil {
			f.Kinds, f.Relay, h.BayIndex, h.Problems = nil, structs.Relay{}, 0, nil
		}
	}
	was, had := t.rows[key]
	before := t.Get(key.table, key.id)
	if before != nil && p.row != nil && state.StatusDiffers(before, p.row) {
		p.row.Base().StatusAt = t.Now
	}
	p.assign = p.assign || was.assign
	p.recreated = p.row != nil && had && (was.recreated || was.row == nil)
	if w, ok := p.row.(structs.Specced); ok {
		old, _ := before.(structs.Specced)
		p.apart, p.size = t.split(w, old, p)
	} else {
		p.size = t.sizeOf(key, p)
	}
	t.undo = append(t.undo, undo{key, was, had})
	if !had {
		t.order = append(t.order, key)
		t.writtenIDs[key.table] = append(t.writtenIDs[key.table], key.id)
	}
	t.reserve(key, p.row)
	t.charge(key.table, before, p.row)
	t.forget(key)
	t.rows[key] = p
	t.size += p.size - was.size
}

// reserve moves a workload's reservation from its previous hosts to those of the new row, and
// a service's node ports from the previous row to the new one.
func (t *Tx) reserve(key rowKey, to structs.Row) {
	if key.table == structs.TablePods {
		t.Reserved.countCopy(t.Get(key.table, key.id), -1)
		t.Reserved.countCopy(to, 1)
	}
	if key.table == structs.TableServices {
		t.Reserved.moveNodePorts(t.Get(key.table, key.id), to)
	}
	if w, ok := t.Get(key.table, key.id).(structs.Workload); ok {
		for _, hostID := range w.Place().Hosts() {
			t.Reserved.Remove(hostID, w.Reserved())
		}
	}
	if w, ok := to.(structs.Workload); ok {
		for _, hostID := range w.Place().Hosts() {
			t.Reserved.Add(hostID, w.Reserved())
		}
	}
}

// forget clears the caches that a write to the row makes stale.
func (t *Tx) forget(key rowKey) {
	switch key.table {
	case structs.TableBays:
		clear(t.projectBays)
	case structs.TableHosts:
		clear(t.hosts)
		t.Reserved.stale[key.id] = true
	case structs.TableQuotas:
		clear(t.account.limits)
	}
}

// Begin starts a request.
func (t *Tx) Begin() {
	t.undo, t.seqMark, t.sizeMark = t.undo[:0], t.seq, t.size
	t.refusal, t.needsOwnEntry = nil, false
	t.account.marks = t.account.marks[:0]
}

// Rollback undoes all writes of the request.
func (t *Tx) Rollback() { t.rollbackTo(0, t.seqMark) }

// rollbackTo undoes the writes of the request after its first writes, and restores seq.
func (t *Tx) rollbackTo(writes int, seq uint64) {
	for i := len(t.undo) - 1; i >= writes; i-- {
		u := t.undo[i]
		t.forget(u.key)
		t.size += u.previous.size - t.rows[u.key].size
		previous := u.previous.row
		if !u.written {
			previous = t.baseRow(u.key)
		}
		t.reserve(u.key, previous)
		t.charge(u.key.table, t.rows[u.key].row, previous)
		if u.written {
			t.rows[u.key] = u.previous
		} else {
			delete(t.rows, u.key)
			t.order = t.order[:len(t.order)-1]
			t.writtenIDs[u.key.table] = t.writtenIDs[u.key.table][:len(t.writtenIDs[u.key.table])-1]
		}
	}
	t.undo, t.seq = t.undo[:writes], seq
}

// Writes returns the number of rows that the request has written.
func (t *Tx) Writes() int { return len(t.undo) }

// Changes returns the changes of the batch: one for each row that differs from the base,
// and two for a row that was deleted and created again. The second is needed so that the
// new object gets its own CreateIndex, by which a retried delete recognizes it.
func (t *Tx) Changes() []structs.Change {
	out := make([]structs.Change, 0, len(t.order))
	for _, key := range t.order {
		p := t.rows[key]
		c, needed := t.change(key, p)
		if !needed {
			continue
		}
		if p.recreated && c.Version != 0 {
			out = append(out, structs.Change{Table: key.table, ID: key.id, Version: c.Version})
		}
		out = append(out, c)
	}
	return out
}

// change returns what the batch does to a row. needed is false for a row that was created
// and deleted within the batch.
func (t *Tx) change(key rowKey, p pending) (c structs.Change, needed bool) {
	c = structs.Change{Table: key.table, ID: key.id, Row: p.row, Assign: p.assign, SpecApart: p.apart}
	was := t.baseRow(key)
	if was != nil {
		c.Version = was.Base().ModifyIndex
	}
	return c, p.row != nil || was != nil
}

// Meta returns the Meta of a new row on behalf of the caller. id may be "".
func (t *Tx) Meta(caller structs.Caller, id string) structs.Meta {
	if id == "" {
		id = structs.NewID()
	}
	t.seq++
	return structs.Meta{ID: id, Seq: t.seq, ProjectID: caller.ProjectID, UserID: caller.UserID, CreatedAt: t.Now}
}

// withoutEngines removes from a row the fields that a server of an earlier schema doesn't
// know. It writes no field that needs no change, because readers may have the row already.
func withoutEngines(r structs.Row) {
	switch r := r.(type) {
	case *structs.Host:
		if r.Fingerprint.Engine != (structs.EngineIdentity{}) || r.CopyCount != 0 || r.Copies != nil {
			r.Fingerprint.Engine, r.Copies, r.CopyCount = structs.EngineIdentity{}, nil, 0
		}
	case structs.Workload:
		if seen := r.Seen(); seen.EngineID != "" {
			seen.EngineID = ""
			r.See(seen)
		}
		p := r.Place()
		if slices.ContainsFunc(p.Priors, func(p structs.Prior) bool { return p.EngineID != "" }) {
			p.Priors = slices.Clone(p.Priors)
			for i := range p.Priors {
				p.Priors[i].EngineID = ""
			}
		}
	}
}
