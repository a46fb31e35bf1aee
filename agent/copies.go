package agent

import (
	"cmp"
	"slices"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/structs"
)

// Labels say which containers may be magnum's, but docker commit and docker run give
// the labels to copies, too. The engine's ID in the journal and in the servers' row
// proves which container is magnum's. Without either it is the oldest container whose
// labels don't come from its image. The others are copies: the agent reports them and
// leaves them alone.

// owns reports whether an entry of the record's placement is magnum's, as far as the
// entry alone tells.
func (r record) owns(e backend.Entry) bool {
	switch {
	case e.Attempt < r.Attempt:
		return e.EngineID == r.Previous
	case r.EngineID != "" && e.Attempt == r.Attempt:
		return e.EngineID == r.EngineID
	}
	return !e.Inherited
}

// choose returns the containers of a unit's epoch that are magnum's: one, or one for each
// attempt of a part of a pod, the newest first. The others become copies.
func (r *reconciler) choose(u *unit, epoch uint64, list []*backend.Container) (mine []*backend.Container) {
	r.mu.Lock()
	defer r.mu.Unlock()
	slices.SortFunc(list, func(a, b *backend.Container) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.EngineID, b.EngineID))
	})
	ref := u.at(epoch)
	proof := r.proofLocked(u, ref)
	for _, c := range list {
		again := func(o *backend.Container) bool { return o.Attempt == c.Attempt }
		if proof.owns(c.Entry) && !slices.ContainsFunc(mine, again) {
			mine = append(mine, c)
		}
	}
	slices.SortFunc(mine, func(a, b *backend.Container) int { return cmp.Compare(b.Attempt, a.Attempt) })
	changed := false
	for _, c := range list {
		if i := slices.Index(mine, c); i >= 0 {
			changed = r.ownLocked(u, c.Entry, i == 0) || changed
			continue
		}
		delete(u.claims, c.EngineID)
		if u.have[epoch] == c.EngineID {
			delete(u.have, epoch)
		}
		if u.copies == nil {
			u.copies = make(map[string]backend.Entry)
		}
		u.copies[c.EngineID], changed = c.Entry, true
		r.log.Warn("container only looks like one of magnum's, and is left alone",
			keysOf(ref, "epoch", epoch, "engine_id", c.EngineID, "name", c.Name)...)
	}
	if !changed {
		return mine
	}
	if len(mine) > 0 && mine[0].Attempt == proof.Attempt {
		proof.EngineID = mine[0].EngineID
	}
	if rec, _ := r.journal.record(ref); proof.EngineID != "" && (!rec.Copied || rec.EngineID != proof.EngineID) {
		rec.EngineID, rec.Copied = proof.EngineID, true
		if err := r.journal.put(rec); err != nil {
			r.log.Warn("journal not written", "error", err)
		}
	}
	r.countCopiesLocked()
	return mine
}

// proofLocked returns a record that says which container is the placement's, if anybody
// knows it.
func (r *reconciler) proofLocked(u *unit, ref structs.Ref) record {
	rec, _ := r.journal.record(ref)
	if rec.EngineID == "" && u.want != nil && u.want.Epoch == ref.Epoch {
		rec.EngineID = u.want.EngineID
	}
	return rec
}

// claimLocked takes over a container that carries the labels of a placement.
func (r *reconciler) claimLocked(e backend.Entry) {
	u := r.units.ensure(e.Ref)
	if _, copied := u.copies[e.EngineID]; copied || u.have[e.Epoch] == e.EngineID {
		return
	}
	if proof := r.proofLocked(u, e.Ref); u.have[e.Epoch] == "" && proof.owns(e) {
		u.have[e.Epoch] = e.EngineID
		return
	}
	u.claim(e)
}

// claim notes a container with the unit's labels.
func (u *unit) claim(e backend.Entry) {
	if u.claims == nil {
		u.claims = make(map[string]backend.Entry)
	}
	u.claims[e.EngineID] = e
}

// ownLocked makes a container the unit's own, and reports whether it was a copy before. An
// earlier attempt than the newest stays a claim.
func (r *reconciler) ownLocked(u *unit, e backend.Entry, newest bool) (copied bool) {
	if newest {
		delete(u.claims, e.EngineID)
		if was := u.have[e.Epoch]; was != "" && was != e.EngineID {
			u.claim(backend.Entry{Ref: e.Ref, EngineID: was})
		}
		u.have[e.Epoch] = e.EngineID
	} else {
		if u.have[e.Epoch] == e.EngineID {
			delete(u.have, e.Epoch)
		}
		u.claim(e)
	}
	if _, copied = u.copies[e.EngineID]; copied {
		r.dropCopyLocked(u, e.EngineID)
	}
	return copied
}

// dropCopyLocked forgets a removed copy.
func (r *reconciler) dropCopyLocked(u *unit, engineID string) {
	ref := u.copies[engineID].Ref
	delete(u.copies, engineID)
	for _, e := range u.copies {
		if e.Ref == ref {
			ref = structs.Ref{} // there is another copy
		}
	}
	r.uncopied(ref)
	r.countCopiesLocked()
	r.units.tidy(u)
}

// uncopied notes that a placement has no copy any more.
func (r *reconciler) uncopied(ref structs.Ref) {
	rec, ok := r.journal.record(ref)
	if !ok || !rec.Copied {
		return
	}
	// A record that was kept only for the copies goes with them.
	rec.Copied, rec.Forgotten = false, rec.bare()
	if err := r.journal.put(rec); err != nil {
		r.log.Warn("journal not written", "error", err)
	}
}

// forgetCopiesLocked forgets the copies that the engine's list doesn't have.
func (r *reconciler) forgetCopiesLocked(entries []backend.Entry) {
	there := make(map[string]bool, len(entries))
	several := make(map[structs.Ref]bool)
	for _, e := range entries {
		there[e.EngineID] = true
		if rec, ok := r.journal.record(e.Ref); ok && rec.EngineID != e.EngineID && (rec.Previous == "" || rec.Previous != e.EngineID) {
			several[e.Ref] = true
		}
	}
	for _, u := range r.units.all {
		for id := range u.copies {
			if !there[id] {
				r.dropCopyLocked(u, id)
			}
		}
	}
	for _, ref := range r.journal.refs() {
		if !several[ref] {
			r.uncopied(ref)
		}
	}
}

// countCopiesLocked reports the current copies.
func (r *reconciler) countCopiesLocked() {
	if r.reportCopies == nil {
		return
	}
	all := structs.Copies{First: []structs.Copy{}}
	for _, u := range r.units.all {
		for _, e := range u.copies {
			all.First = append(all.First, structs.Copy{EngineID: e.EngineID, Name: e.Name, ContainerID: e.ID, Epoch: e.Epoch})
		}
	}
	slices.SortFunc(all.First, func(a, b structs.Copy) int {
		return cmp.Or(cmp.Compare(a.ContainerID, b.ContainerID), cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.EngineID, b.EngineID))
	})
	all.Count = len(all.First)
	all.First = all.First[:min(len(all.First), structs.MaxCopies)]
	r.reportCopies(all)
}
