package state

import (
	"fmt"
	"io"

	"github.com/stackforge/magnum/structs"
)

// rewrite turns a saved state into a successor of the present one, as if one entry at the
// index had written every row again and deleted all others. Indexes keep growing, so no
// client or agent that has seen a later index waits for it, and every blocking read sees
// the change.
type rewrite struct {
	base   *Snapshot // the present state
	index  uint64
	change func(saved *structs.Cluster)
	found  bool // the cluster's row was in the archive
}

// registrationLeap is added to the registration of a host that the present state doesn't
// know: it exceeds the number of registrations since the archive was written. So the host
// has to register again, and learns whether it may follow. The leap is small, so that many
// restores fit into the bits that agents have for the number (see agent/lease.go).
const registrationLeap = 1 << 16

// RestoreInto reads an archive into a state at the index, which must be above the archive's
// and above that of base. change changes the saved cluster row. Sequence numbers continue
// from the higher of both states, and each host has to register again. The error is that of
// Inspect.
func RestoreInto(archive io.Reader, base *Snapshot, index uint64, change func(saved *structs.Cluster)) (*Snapshot, error) {
	stream, _, err := openArchive(archive)
	if err == nil {
		r := &rewrite{base: base, index: index, change: change}
		var s *Snapshot
		if s, err = (&restorer{rewrite: r}).build(stream); err == nil {
			return s, nil
		}
	}
	return nil, fmt.Errorf("snapshot: %w", err)
}

// row marks a row as written by the entry.
func (r *rewrite) row(row structs.Row) {
	row.Base().ModifyIndex = r.index
	if h, ok := row.(*structs.Host); ok {
		h.Instance = "" // only the present state may know the last instance
		if now := r.base.Host(h.ID); now != nil {
			h.Registration, h.Instance = max(h.Registration, now.Registration)+1, now.Instance
		} else {
			h.Registration += registrationLeap
		}
	}
	if l, ok := row.(*structs.Lineages); ok {
		l.Last = nil // their indexes belong to another history; the leader begins a new lineage
	}
	if q, ok := row.(*structs.Quarantine); ok {
		for i := range q.Kept {
			q.Kept[i].Adoption = structs.AdoptionNone // the decisions belong to a replaced state
		}
	}
	if c, ok := row.(*structs.Cluster); ok && c.ID == structs.ClusterRowID {
		r.change(c)
		r.found = true
	}
}

// finish ends the reading of a stream. Lists of the present state that the archive doesn't
// contain become empty, which is also a change.
func (r *rewrite) finish(rs *restorer) error {
	if !r.found {
		return fmt.Errorf("it contains no cluster: it was saved before there was one")
	}
	if r.index <= max(rs.state.index, r.base.index) {
		return fmt.Errorf("index %d is not above those of the states, %d and %d", r.index, rs.state.index, r.base.index)
	}
	rs.state.index, rs.state.lastSeq = r.index, max(rs.state.lastSeq, r.base.lastSeq)
	if r.base.lastTime.After(rs.state.lastTime) {
		rs.state.lastTime = r.base.lastTime
	}
	it := r.base.lists.Seek(nil)
	for l := it.Next(); l != nil; l = it.Next() {
		if rs.state.lists.Get(listKey(l.table, l.projectID)) == nil {
			rs.readLists++
		}
		rs.w.list(&listRecord{table: l.table, projectID: l.projectID, index: r.index})
		rs.state.tables[codeOf(l.table)] = r.index
	}
	return nil
}
