// Package quarantine has the decisions about the placements of a host that the cluster's
// history doesn't have: a host whose agent followed another history keeps its containers in
// quarantine until an operator decides about them.
//
// The conductor calls it while it decides.
package quarantine

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/stackforge/magnum/server/conductor/placing"
	"github.com/stackforge/magnum/server/conductor/scratch"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// Quarantine is one host's quarantine as the batch sees it, in rows of 100 placements each.
type Quarantine struct {
	t      *scratch.Tx
	hostID string
}

// Of returns the quarantine of the host with the ID.
func Of(t *scratch.Tx, hostID string) Quarantine { return Quarantine{t, hostID} }

// page returns the page with the number, nil if there is none.
func (q Quarantine) page(n int) *structs.Quarantine {
	return scratch.Row[structs.Quarantine](q.t, structs.QuarantineID(q.hostID, n))
}

// pages returns the pages in order.
func (q Quarantine) pages() (pages []*structs.Quarantine) {
	for {
		page := q.page(len(pages))
		if page == nil {
			return pages
		}
		pages = append(pages, page)
	}
}

// Drop removes all that is known of the host's quarantine: the host is deleted.
func (q Quarantine) Drop() {
	for _, page := range q.pages() {
		q.t.Remove(page)
	}
}

// Has reports whether the host has, or may have, containers in quarantine. Such a
// host must not leave its bay, because another project's bay may claim it. A lost host
// whose quarantined containers are all to be removed may leave: it removes them when it
// returns.
func Has(t *scratch.Tx, h *structs.Host) bool {
	return h.Quarantined > 0 || h.State != structs.HostLost && Of(t, h.ID).page(0) != nil
}

// Reason returns the reason why a host can't leave its bay.
func Reason(h *structs.Host) string {
	if h.Quarantined == 0 {
		return fmt.Sprintf("host %s has not reported yet what it keeps in quarantine", h.Name)
	}
	return fmt.Sprintf("host %s keeps %d containers in quarantine: see host-show, and end it with host-adopt", h.Name, h.Quarantined)
}

// MarkPending notes that the host's agent has followed another history, and is about to
// report its quarantine.
func (q Quarantine) MarkPending() {
	page := &structs.Quarantine{Meta: structs.Meta{ID: structs.QuarantineID(q.hostID, 0), CreatedAt: q.t.Now}, HostID: q.hostID}
	if was := q.page(0); was != nil {
		copied := *was
		page = &copied
	}
	if page.Pending || q.t.Base.Cluster().SchemaInUse() < structs.SchemaLineages {
		return
	}
	page.Pending = true
	q.t.Put(page)
}

// put writes a page. If announce is true, the host gets it with its next assignments.
func (q Quarantine) put(page *structs.Quarantine, announce bool) {
	if announce {
		q.t.Assign(page)
	} else {
		q.t.Put(page)
	}
}

// tidy removes empty pages at the end, and counts the placements in the host's row.
func (q Quarantine) tidy() {
	pages := q.pages()
	for len(pages) > 0 {
		last := pages[len(pages)-1]
		if len(last.Kept) > 0 || last.Pending {
			break
		}
		q.t.Remove(last)
		pages = pages[:len(pages)-1]
	}
	n := 0
	for _, page := range pages {
		for i := range page.Kept {
			if page.Kept[i].Adoption != structs.AdoptionRemove {
				n++
			}
		}
	}
	// The host's row is written even if the number is unchanged, because waiters on the
	// host also wait for this.
	host := *scratch.Row[structs.Host](q.t, q.hostID)
	host.Quarantined = n
	q.t.Put(&host)
}

// Take notes what an agent reports of its host's quarantine. It returns the part of the
// report for which the entry had no room, nil if none. Errors: CodeNotFound, CodeConflict
// for a registration that isn't the host's last one, CodeTooLarge if the quarantine is full.
func Take(t *scratch.Tx, hostID string, r structs.QuarantineReport) (*structs.QuarantineReport, error) {
	host := scratch.Row[structs.Host](t, hostID)
	if host == nil {
		return nil, structs.NotFound(structs.KindHost, hostID)
	}
	if host.Registration != r.Registration {
		return nil, structs.Errorf(structs.CodeConflict,
			"registration %d of host %s is not the last one, which is %d: another agent runs on its data directory, or this one has to "+
				"register again", r.Registration, hostID, host.Registration).About(structs.KindHost)
	}
	if t.Base.Cluster().SchemaInUse() < structs.SchemaLineages {
		return nil, nil // the agent's journal has it
	}
	q, changed, full := Of(t, hostID), false, false
	for i := range r.Kept {
		if !t.Room() || !t.Item(func() {
			is, room := q.add(r.Kept[i])
			changed, full = changed || is, full || !room
		}) {
			r.Kept = r.Kept[i:]
			return &r, nil
		}
	}
	r.Kept = nil
	for i := range r.Ended {
		if !t.Room() || !t.Item(func() { changed = q.remove(r.Ended[i]) || changed }) {
			r.Ended = r.Ended[i:]
			return &r, nil
		}
	}
	r.Ended = nil
	if first := q.page(0); first != nil && first.Pending && r.Judged {
		page := *first
		page.Pending, changed = false, true
		if !t.Item(func() { q.put(&page, false) }) {
			return &r, nil
		}
	}
	if changed && !t.Item(q.tidy) {
		return &r, nil
	}
	if full {
		return nil, structs.Errorf(structs.CodeTooLarge,
			"host %s keeps more than %d containers in quarantine: the servers record no more of them, only the agent's journal does; "+
				"end it with host-adopt", host.Name, structs.QuarantinePage*structs.MaxQuarantinePages).About(structs.KindHost)
	}
	return nil, nil
}

// add notes that a placement is in quarantine. room is false if the pages are full.
func (q Quarantine) add(k structs.Quarantined) (changed, room bool) {
	if state.TableOf(k.Ref().Kind) == "" {
		return false, true // operators can't decide about an unknown kind; the agent's journal has it
	}
	k.Adoption, k.Since = structs.AdoptionNone, q.t.Now
	pages := q.pages()
	free := -1
	for n, page := range pages {
		i := slices.IndexFunc(page.Kept, func(was structs.Quarantined) bool { return was.Ref() == k.Ref() })
		if i < 0 {
			if free < 0 && len(page.Kept) < structs.QuarantinePage {
				free = n
			}
			continue
		}
		was := page.Kept[i]
		k.Adoption, k.Since = was.Adoption, was.Since
		// An agent that was restarted may know less than before.
		k.Name, k.ProjectID = cmp.Or(k.Name, was.Name), cmp.Or(k.ProjectID, was.ProjectID)
		k.SpecHash, k.State = cmp.Or(k.SpecHash, was.SpecHash), cmp.Or(k.State, was.State)
		if k == was {
			return false, true
		}
		after := *page
		after.Kept = slices.Clone(page.Kept)
		after.Kept[i] = k
		q.put(&after, false)
		return true, true
	}
	switch {
	case free >= 0:
		after := *pages[free]
		after.Kept = append(slices.Clone(after.Kept), k)
		q.put(&after, false)
	case len(pages) < structs.MaxQuarantinePages:
		q.put(&structs.Quarantine{
			Meta: structs.Meta{ID: structs.QuarantineID(q.hostID, len(pages)), CreatedAt: q.t.Now}, HostID: q.hostID,
			Kept: []structs.Quarantined{k},
		}, false)
	default:
		return false, false
	}
	return true, true
}

// remove notes that a placement is no longer in quarantine.
func (q Quarantine) remove(ref structs.QuarantineRef) (changed bool) {
	for _, page := range q.pages() {
		i := slices.IndexFunc(page.Kept, func(k structs.Quarantined) bool { return k.Ref() == ref.Ref() })
		if i < 0 {
			continue
		}
		after := *page
		after.Kept = slices.Delete(slices.Clone(page.Kept), i, i+1)
		q.put(&after, false)
		return true
	}
	return false
}

// Adopt decides what happens to a container in the host's quarantine, which is named by its
// UUID or its former name. The agent removes it if remove is set, and keeps it otherwise,
// for which the cluster must have its row. Errors: CodeNotFound, CodeConflict.
func Adopt(t *scratch.Tx, h *structs.Host, container string, remove bool) (*structs.Host, error) {
	q := Of(t, h.ID)
	found, err := q.find(h, container)
	if err != nil {
		return nil, err
	}
	newest := found[0]
	for _, k := range found {
		if k.Epoch > newest.Epoch {
			newest = k
		}
	}
	decided := structs.AdoptionRemove
	if remove {
		for _, k := range found {
			ref := k.Ref()
			if w := t.Workload(ref); w != nil && w.Place().HostID == h.ID && w.Place().Epoch == k.Epoch &&
				w.Place().Desired != structs.DesiredAbsent &&
				(k.SpecHash == "" || k.SpecHash == w.SpecHash()) {
				return nil, structs.Errorf(structs.CodeConflict,
					"%s %s is the cluster's own again, as placed on host %s: keep it, and delete it with %[1]s-delete if it is to go",
					ref.Kind, ref.ID, h.Name).About(string(ref.Kind))
			}
		}
	} else {
		if err := adopt(t, h, newest); err != nil {
			return nil, err
		}
		decided = structs.AdoptionKeep
	}
	for _, k := range found {
		d := decided
		if k.Epoch != newest.Epoch {
			d = structs.AdoptionRemove // earlier placements are always removed
		}
		q.setAdoption(k, d)
	}
	q.tidy()
	return scratch.Row[structs.Host](t, h.ID), nil
}

// find returns the placements of the container in the host's quarantine, at least one.
func (q Quarantine) find(h *structs.Host, container string) ([]structs.Quarantined, error) {
	var found []structs.Quarantined
	for _, page := range q.pages() {
		for _, k := range page.Kept {
			if k.Ref().ID == container || k.Name == container && container != "" {
				found = append(found, k)
			}
		}
	}
	if len(found) == 0 {
		return nil, structs.Errorf(structs.CodeNotFound, "Container %.255s is not in quarantine on host %s.", container,
			h.Name).About(structs.KindContainer)
	}
	for _, k := range found {
		if ref, first := k.Ref(), found[0].Ref(); ref.Kind != first.Kind || ref.ID != first.ID {
			return nil, structs.Errorf(structs.CodeConflict,
				"Several containers in quarantine on host %s have the name %.255s: use the uuid.", h.Name,
				container).About(structs.KindContainer)
		}
	}
	return found, nil
}

// setAdoption writes the decision about a placement, and announces it to the host.
func (q Quarantine) setAdoption(k structs.Quarantined, decided structs.Adoption) {
	for _, page := range q.pages() {
		for i := range page.Kept {
			if page.Kept[i].Ref() != k.Ref() || page.Kept[i].Adoption == decided {
				continue
			}
			after := *page
			after.Kept = slices.Clone(page.Kept)
			after.Kept[i].Adoption = decided
			q.put(&after, true)
			return
		}
	}
}

// adopt makes a quarantined placement the newest placement of the workload's row.
// CodeConflict if the row doesn't exist, or belongs to another workload or placement.
func adopt(t *scratch.Tx, h *structs.Host, k structs.Quarantined) error {
	ref := k.Ref()
	conflict := func(format string, args ...any) *structs.Error {
		return structs.Errorf(structs.CodeConflict, "%s %s is not kept: %s", ref.Kind, ref.ID,
			fmt.Sprintf(format, args...)).About(string(ref.Kind))
	}
	refuse := func(format string, args ...any) error {
		return conflict("%s; host-adopt -remove removes it", fmt.Sprintf(format, args...))
	}
	was := t.Workload(ref)
	if was == nil {
		return refuse("the cluster has no %s of that uuid", ref.Kind)
	}
	p, hash := was.Place(), was.SpecHash()
	switch {
	case p.Desired == structs.DesiredAbsent:
		return refuse("the cluster's %s of that uuid is being deleted", ref.Kind)
	case hash != "" && k.SpecHash == "":
		return conflict("the agent has not reported yet what it was made from; try again in a second")
	case k.SpecHash != hash:
		return refuse("it was made from another spec (hash %s) than the cluster's %s of that uuid (hash %s)", k.SpecHash, ref.Kind, hash)
	case p.HostID == h.ID && p.Epoch == k.Epoch:
		t.Assign(was.Copy())
		return nil
	case p.Epoch > k.Epoch, p.Epoch == k.Epoch && p.HostID != "":
		where := "no host"
		if on := scratch.Row[structs.Host](t, p.HostID); on != nil {
			where = "host " + on.Name
		}
		return refuse("the cluster has a placement that is as new or newer (epoch %d on %s, and it is of epoch %d)", p.Epoch, where,
			k.Epoch)
	case p.BayID != h.BayID:
		return refuse("host %s is not in the bay of the cluster's %s", h.Name, ref.Kind)
	case h.State != structs.HostReady:
		return conflict("host %s is %s; try again once the host is ready", h.Name, h.State).About(structs.KindHost)
	}
	w := was.Copy()
	changed := w.Place()
	if p.HostID != "" && p.HostID != h.ID {
		changed.Priors = append(slices.Clone(p.Priors), structs.Prior{HostID: p.HostID, Epoch: p.Epoch, Generation: p.Generation})
	}
	changed.Priors = placing.PriorsExcept(changed.Priors, h.ID)
	if reason := placing.Fits(t, w, h); reason != "" {
		return refuse("host %s has no room for what it reserves: %s", h.Name, reason)
	}
	changed.HostID, changed.Epoch, changed.Gone, changed.PlaceReason = h.ID, k.Epoch, false, ""
	w.Forget()
	t.Assign(w)
	return nil
}
