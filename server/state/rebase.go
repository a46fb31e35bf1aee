package state

import (
	"fmt"
	"io"

	"github.com/stackforge/magnum/structs"
)

// rebase makes of a state that was saved one that can follow the state that
// there is now: as if one entry of the index had written every row anew, and had
// deleted all others. Indexes go on, so that no client or agent that has seen a
// later one waits for it, and no read that blocks misses the change.
type rebase struct {
	base   *Snapshot // that there is now
	index  uint64
	change func(saved *structs.Cluster)
	found  bool // the cluster's row
}

// registrationLeap makes a host register again, and so find out whether it may
// follow, if nobody here knows how often it has registered since the archive was
// written: it is more often than that. It is small, so that many restores fit into
// the bits that agents have for the number (see agent/lease.go).
const registrationLeap = 1 << 16

// Rebase reads an archive into a state of the index, which has to be above the
// archive's and above that of base. change changes the cluster's row as it was
// saved. Sequence numbers go on from the higher of both, and each host has to
// register again. The error is that of Inspect.
func Rebase(archive io.Reader, base *Snapshot, index uint64, change func(saved *structs.Cluster)) (*Snapshot, error) {
	stream, _, err := openArchive(archive)
	if err == nil {
		r := &rebase{base: base, index: index, change: change}
		var s *Snapshot
		if s, err = (&restorer{rebase: r}).build(stream); err == nil {
			return s, nil
		}
	}
	return nil, fmt.Errorf("snapshot: %w", err)
}

// row makes a row one that was written by the entry.
func (r *rebase) row(row structs.Row) {
	row.Base().ModifyIndex = r.index
	if h, ok := row.(*structs.Host); ok {
		h.Instance = "" // who has registered since is known only here, if at all
		if now := r.base.Host(h.ID); now != nil {
			h.Registration, h.Instance = max(h.Registration, now.Registration)+1, now.Instance
		} else {
			h.Registration += registrationLeap
		}
	}
	if l, ok := row.(*structs.Lineages); ok {
		l.Last = nil // of the indexes of another history; the leader begins one that goes on from here
	}
	if q, ok := row.(*structs.Quarantine); ok {
		for i := range q.Kept {
			q.Kept[i].Adoption = structs.AdoptionNone // decided of a state that is no longer there
		}
	}
	if c, ok := row.(*structs.Cluster); ok && c.ID == structs.ClusterRowID {
		r.change(c)
		r.found = true
	}
}

// finish ends the reading of a stream: lists that there are now and the archive
// has not are empty, and that is a change, too.
func (r *rebase) finish(rs *restorer) error {
	if !r.found {
		return fmt.Errorf("it holds no cluster: it was saved before there was one")
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
