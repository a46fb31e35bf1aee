package conductor

import (
	"context"
	"fmt"
	"slices"

	"github.com/stackforge/magnum/server/schedule"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// quarantine is what a host keeps in quarantine, as the batch sees it: rows of 100
// placements each.
type quarantine struct {
	t      *tx
	hostID string
}

// page returns one of the pages, nil if there is none of that number.
func (q quarantine) page(n int) *structs.Quarantine {
	return row[structs.Quarantine](q.t, structs.QuarantineID(q.hostID, n))
}

// pages returns the pages in their order.
func (q quarantine) pages() (pages []*structs.Quarantine) {
	for {
		page := q.page(len(pages))
		if page == nil {
			return pages
		}
		pages = append(pages, page)
	}
}

// hasQuarantine reports whether the host has, or may have, containers that are in
// quarantine: it must not leave its bay with them, because another project's may
// claim it. One that is lost and whose containers are to be removed removes them
// should it come back.
func hasQuarantine(t *tx, h *structs.Host) bool {
	return h.Quarantined > 0 || h.State != structs.HostLost && quarantine{t, h.ID}.page(0) != nil
}

// quarantineReason says why a host can't leave its bay.
func quarantineReason(h *structs.Host) string {
	if h.Quarantined == 0 {
		return fmt.Sprintf("host %s has not told yet what it keeps in quarantine", h.Name)
	}
	return fmt.Sprintf("host %s keeps %d containers in quarantine: see host-show, and end it with host-adopt", h.Name, h.Quarantined)
}

// expect notes that the agent of the host has followed another history, and is about
// to tell what it keeps in quarantine.
func (q quarantine) expect() {
	page := &structs.Quarantine{Meta: structs.Meta{ID: structs.QuarantineID(q.hostID, 0), CreatedAt: q.t.now}, HostID: q.hostID}
	if was := q.page(0); was != nil {
		copied := *was
		page = &copied
	}
	if page.Pending || q.t.base.Cluster().SchemaInUse() < structs.SchemaLineages {
		return
	}
	page.Pending = true
	q.t.put(page)
}

// put writes a page. If told, the host hears of it.
func (q quarantine) put(page *structs.Quarantine, told bool) {
	q.t.set(rowKey{structs.TableQuarantine, page.ID}, pending{row: page, assign: told})
}

// tidy removes the pages at the end that are empty, and counts the others' in the
// host's row.
func (q quarantine) tidy() {
	pages := q.pages()
	for len(pages) > 0 {
		last := pages[len(pages)-1]
		if len(last.Kept) > 0 || last.Pending {
			break
		}
		q.t.remove(last)
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
	// The host's row is written although the number may be the same: who waits for
	// the host waits for this, too.
	host := *row[structs.Host](q.t, q.hostID)
	host.Quarantined = n
	q.t.put(&host)
}

// ReportQuarantine takes what an agent says of its host's quarantine.
type ReportQuarantine struct {
	HostID string
	structs.QuarantineReport
}

// TakeQuarantine has a report of a quarantine taken, in as many entries as it
// takes. Errors: those of Do; CodeNotFound, CodeConflict for a registration that
// isn't the host's last one, CodeTooLarge if the quarantine is full.
func TakeQuarantine(ctx context.Context, c *Conductor, r ReportQuarantine) error {
	for {
		rest, err := Do(ctx, c, r)
		if err != nil || rest == nil {
			return err
		}
		r.QuarantineReport = *rest
	}
}

// decide returns what the entry had no room for, nil if that is nothing.
func (r ReportQuarantine) decide(t *tx) (*structs.QuarantineReport, error) {
	host := row[structs.Host](t, r.HostID)
	if host == nil {
		return nil, structs.NotFound(structs.KindHost, r.HostID)
	}
	if host.Registration != r.Registration {
		return nil, structs.Errorf(structs.CodeConflict, "registration %d of host %s is not the last one, which is %d: another agent runs on its data directory, or this one has to register again", r.Registration, r.HostID, host.Registration).About(structs.KindHost)
	}
	if t.base.Cluster().SchemaInUse() < structs.SchemaLineages {
		return nil, nil // the agent's journal has it
	}
	q, changed, full := quarantine{t, r.HostID}, false, false
	for i := range r.Kept {
		if !t.room() || !t.item(func() {
			is, room := q.keep(r.Kept[i])
			changed, full = changed || is, full || !room
		}) {
			r.Kept = r.Kept[i:]
			return &r.QuarantineReport, nil
		}
	}
	r.Kept = nil
	for i := range r.Ended {
		if !t.room() || !t.item(func() { changed = q.end(r.Ended[i]) || changed }) {
			r.Ended = r.Ended[i:]
			return &r.QuarantineReport, nil
		}
	}
	r.Ended = nil
	if first := q.page(0); first != nil && first.Pending && r.Settled {
		page := *first
		page.Pending, changed = false, true
		if !t.item(func() { q.put(&page, false) }) {
			return &r.QuarantineReport, nil
		}
	}
	if changed && !t.item(q.tidy) {
		return &r.QuarantineReport, nil
	}
	if full {
		return nil, structs.Errorf(structs.CodeTooLarge, "host %s keeps more than %d containers in quarantine: the servers note no more, its agent's journal does; end it with host-adopt", host.Name, structs.QuarantinePage*structs.MaxQuarantinePages).About(structs.KindHost)
	}
	return nil, nil
}

// keep notes that a placement is in quarantine. room is false if the pages are full.
func (q quarantine) keep(k structs.Quarantined) (changed, room bool) {
	if state.TableOf(k.Ref().Kind) == "" {
		return false, true // nothing can be decided of a kind that isn't known here; the agent's journal has it
	}
	k.Adoption, k.Since = structs.AdoptionNone, q.t.now
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
		// An agent that has looked no more, or was started again, knows less.
		k.Name, k.ProjectID = orElse(k.Name, was.Name), orElse(k.ProjectID, was.ProjectID)
		k.SpecHash, k.State = orElse(k.SpecHash, was.SpecHash), orElse(k.State, was.State)
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
			Meta: structs.Meta{ID: structs.QuarantineID(q.hostID, len(pages)), CreatedAt: q.t.now}, HostID: q.hostID, Kept: []structs.Quarantined{k},
		}, false)
	default:
		return false, false
	}
	return true, true
}

// end notes that a placement is no longer in quarantine.
func (q quarantine) end(ref structs.QuarantineRef) (changed bool) {
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

// AdoptContainer decides what becomes of a container that a host keeps in
// quarantine. The agent carries it out. Deciding the same again changes nothing.
type AdoptContainer struct {
	Caller    structs.Caller
	Host      string // UUID or name
	Container string // UUID, or the name that it had
	Remove    bool   // it is removed; else it is the cluster's again, whose row has to be there
}

func (r AdoptContainer) decide(t *tx) (*structs.Host, error) {
	h, err := find[*structs.Host](t, r.Caller, structs.KindHost, r.Host)
	if err != nil {
		return nil, err
	}
	found, err := r.find(t, h)
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
	if r.Remove {
		for _, k := range found {
			ref := k.Ref()
			if w := t.workload(ref); w != nil && w.Place().HostID == h.ID && w.Place().Epoch == k.Epoch && w.Place().Desired != structs.DesiredAbsent &&
				(k.SpecHash == "" || k.SpecHash == w.SpecHash()) {
				return nil, structs.Errorf(structs.CodeConflict, "%s %s is the cluster's own again, as placed on host %s: keep it, and delete it with %[1]s-delete if it is to go", ref.Kind, ref.ID, h.Name).About(string(ref.Kind))
			}
		}
	} else {
		if err := adopt(t, h, newest); err != nil {
			return nil, err
		}
		decided = structs.AdoptionKeep
	}
	q := quarantine{t, h.ID}
	for _, k := range found {
		d := decided
		if k.Epoch != newest.Epoch {
			d = structs.AdoptionRemove // an earlier placement goes, as always
		}
		q.decide(k, d)
	}
	q.tidy()
	return row[structs.Host](t, h.ID), nil
}

// find returns the placements that the container has in the host's quarantine, at
// least one.
func (r AdoptContainer) find(t *tx, h *structs.Host) ([]structs.Quarantined, error) {
	var found []structs.Quarantined
	for _, page := range (quarantine{t, h.ID}).pages() {
		for _, k := range page.Kept {
			if k.Ref().ID == r.Container || k.Name == r.Container && r.Container != "" {
				found = append(found, k)
			}
		}
	}
	if len(found) == 0 {
		return nil, structs.Errorf(structs.CodeNotFound, "Container %.255s is not in quarantine on host %s.", r.Container, h.Name).About(structs.KindContainer)
	}
	for _, k := range found {
		if ref, first := k.Ref(), found[0].Ref(); ref.Kind != first.Kind || ref.ID != first.ID {
			return nil, structs.Errorf(structs.CodeConflict, "Several containers in quarantine on host %s have the name %.255s: use the uuid.", h.Name, r.Container).About(structs.KindContainer)
		}
	}
	return found, nil
}

// decide writes what is to become of a placement, and lets its host hear of it.
func (q quarantine) decide(k structs.Quarantined, decided structs.Adoption) {
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

// adopt makes a placement in quarantine that of the workload's row. CodeConflict
// if the row isn't there, or is another workload's or another placement's.
func adopt(t *tx, h *structs.Host, k structs.Quarantined) error {
	ref := k.Ref()
	conflict := func(format string, args ...any) *structs.Error {
		return structs.Errorf(structs.CodeConflict, "%s %s is not kept: %s", ref.Kind, ref.ID, fmt.Sprintf(format, args...)).About(string(ref.Kind))
	}
	refuse := func(format string, args ...any) error {
		return conflict("%s; host-adopt -remove removes it", fmt.Sprintf(format, args...))
	}
	was := t.workload(ref)
	if was == nil {
		return refuse("the cluster has no %s of that uuid", ref.Kind)
	}
	p, hash := was.Place(), was.SpecHash()
	switch {
	case p.Desired == structs.DesiredAbsent:
		return refuse("the cluster's %s of that uuid is being deleted", ref.Kind)
	case hash != "" && k.SpecHash == "":
		return conflict("the agent has not told yet what it was made from; try again in a second")
	case k.SpecHash != hash:
		return refuse("it was made from another spec (hash %s) than the cluster's %s of that uuid (hash %s)", k.SpecHash, ref.Kind, hash)
	case p.HostID == h.ID && p.Epoch == k.Epoch:
		t.assign(was.Copy())
		return nil
	case p.Epoch > k.Epoch, p.Epoch == k.Epoch && p.HostID != "":
		where := "no host"
		if on := row[structs.Host](t, p.HostID); on != nil {
			where = "host " + on.Name
		}
		return refuse("the cluster has a placement that is as new or newer (epoch %d on %s, and it is of epoch %d)", p.Epoch, where, k.Epoch)
	case p.BayID != h.BayID:
		return refuse("host %s is not in the bay of the cluster's %s", h.Name, ref.Kind)
	case h.State != structs.HostReady:
		return conflict("host %s is %s; try again once its agent is heard of", h.Name, h.State).About(structs.KindHost)
	}
	w := was.Copy()
	changed := w.Place()
	if p.HostID != "" && p.HostID != h.ID {
		changed.Priors = append(slices.Clone(p.Priors), structs.Prior{HostID: p.HostID, Epoch: p.Epoch, Generation: p.Generation})
	}
	changed.Priors = without(changed.Priors, h.ID)
	// What the row reserves on this host already doesn't count twice.
	used := t.held.used(h.ID).Clone()
	if p.On(h.ID) {
		used.Remove(was.Reserved())
	}
	as := withoutNetworks(state.RoomOf(h, &used, structs.PlacementSpread))
	as.Draining = false
	if id, reason := schedule.ChooseAmong([]schedule.Host{as}, was.Demand(), as.Strategy, nil); id == "" {
		return refuse("host %s has no room for what it reserves: %s", h.Name, reason)
	}
	changed.HostID, changed.Epoch, changed.Gone, changed.PlaceReason = h.ID, k.Epoch, false, ""
	w.Forget()
	t.assign(w)
	return nil
}
