package agent

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/structs"
)

// kept is the journal's entry of a placement in quarantine: a workload of another history
// of the cluster. The agent leaves it and all its parts alone until an operator decides.
type kept struct {
	structs.Ref        // Part is ""
	Name        string `json:"name,omitempty"`
	ProjectID   string `json:"project,omitempty"`
	Remove      bool   `json:"remove,omitempty"` // an operator has decided to remove it
	Over        bool   `json:"over,omitempty"`   // it is no longer in quarantine
}

// quarantineReporter reports the quarantine to the servers. One goroutine sends; any
// number may call the other methods.
type quarantineReporter struct {
	send func(context.Context, structs.QuarantineReport) error // tries until a server answers; errStale if the registration has ended
	all  func() []kept                                         // everything in quarantine
	log  hclog.Logger
	wake chan struct{}

	mu           sync.Mutex
	registration uint64
	kept         map[structs.Ref]structs.Quarantined // to be reported
	ended        map[structs.Ref]bool                // to be reported as ended
	judged       bool                                // to be reported once kept is empty
}

func newQuarantineReporter(log hclog.Logger, all func() []kept,
	send func(context.Context, structs.QuarantineReport) error) *quarantineReporter {
	return &quarantineReporter{
		send: send, all: all, log: log, wake: make(chan struct{}, 1),
		kept: make(map[structs.Ref]structs.Quarantined), ended: make(map[structs.Ref]bool),
	}
}

// register begins a new registration: everything is reported again, because the servers
// may have lost it.
func (q *quarantineReporter) register(registration uint64) {
	q.mu.Lock()
	q.registration, q.judged = registration, false // the next full answer says whether anything is to be judged
	q.mu.Unlock()
	for _, k := range q.all() {
		q.keep(k, "", "")
	}
}

// keep reports that a placement is in quarantine. specHash and state are "" if unknown.
func (q *quarantineReporter) keep(of kept, specHash, state string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	ref := of.Ref
	k := structs.QuarantinedOf(ref)
	k.Name, k.ProjectID, k.SpecHash, k.State = of.Name, of.ProjectID, specHash, state
	if was, ok := q.kept[ref]; ok { // the agent may know less by now
		k.Name, k.ProjectID = cmp.Or(k.Name, was.Name), cmp.Or(k.ProjectID, was.ProjectID)
		k.SpecHash, k.State = cmp.Or(k.SpecHash, was.SpecHash), cmp.Or(k.State, was.State)
	}
	q.kept[ref] = k
	delete(q.ended, ref)
	q.wakeUp()
}

// end reports that a placement is no longer in quarantine.
func (q *quarantineReporter) end(ref structs.Ref) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.kept, ref)
	q.ended[ref] = true
	q.wakeUp()
}

// reportJudged reports that everything is judged, after everything in quarantine.
func (q *quarantineReporter) reportJudged() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.judged = true
	q.wakeUp()
}

func (q *quarantineReporter) wakeUp() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// next takes the next report off the queue; ok is false if there is none.
func (q *quarantineReporter) next() (report structs.QuarantineReport, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, ref := range firstRefs(q.kept) {
		report.Kept = append(report.Kept, q.kept[ref])
		delete(q.kept, ref)
	}
	for _, ref := range firstRefs(q.ended) {
		report.Ended = append(report.Ended, structs.QuarantineRefOf(ref))
		delete(q.ended, ref)
	}
	if len(q.kept) == 0 {
		report.Judged, q.judged = q.judged, false
	}
	report.Registration = q.registration
	return report, len(report.Kept) > 0 || len(report.Ended) > 0 || report.Judged
}

// firstRefs returns the first keys of the map in order, as many as one report holds.
func firstRefs[V any](m map[structs.Ref]V) []structs.Ref {
	refs := slices.SortedFunc(maps.Keys(m), func(a, b structs.Ref) int {
		return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.Epoch, b.Epoch))
	})
	return refs[:min(len(refs), structs.QuarantinePage)]
}

// restore queues the content of a report of an ended registration again, unless something
// newer is queued.
func (q *quarantineReporter) restore(report structs.QuarantineReport) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, k := range report.Kept {
		ref := k.Ref()
		if _, newer := q.kept[ref]; !newer && !q.ended[ref] {
			q.kept[ref] = k
		}
	}
	for _, e := range report.Ended {
		ref := e.Ref()
		if _, newer := q.kept[ref]; !newer {
			q.ended[ref] = true
		}
	}
	q.wakeUp()
}

// run sends reports until ctx ends.
func (q *quarantineReporter) run(ctx context.Context) error {
	for {
		report, ok := q.next()
		if !ok {
			select {
			case <-q.wake:
				continue
			case <-ctx.Done():
				return nil
			}
		}
		err := q.send(ctx, report)
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return nil
		case err == errStale:
			q.restore(report)
		default: // a server of an earlier version, or the quarantine is full: the journal keeps the entries
			q.log.Error("the servers do not record the quarantine; it is kept in the journal", "containers", len(report.Kept), "error",
				err)
		}
	}
}

// quarantine holds the placements of another history of the cluster. The journal has
// them, and the reporter reports them. The caller holds the reconciler's mu, except for
// end.
type quarantine struct {
	journal  *journal
	units    *units
	reporter *quarantineReporter
	log      hclog.Logger
}

// keeps reports whether any placement of the unit's workload is in quarantine. If so, the
// agent touches none of them.
func (q *quarantine) keeps(u *unit) bool {
	for _, part := range q.units.siblings(u.ref) {
		for epoch := range part.epochs() {
			if _, ok := q.journal.quarantined(part.at(epoch)); ok {
				return true
			}
		}
	}
	return false
}

// keepsOther reports whether another part of the unit's workload is in quarantine and not
// to be removed.
func (q *quarantine) keepsOther(u *unit) bool {
	for _, part := range q.units.siblings(u.ref) {
		for epoch := range part.epochs() {
			if k, ok := q.journal.quarantined(part.at(epoch)); part != u && ok && !k.Remove {
				return true
			}
		}
	}
	return false
}

// addPlacement puts a placement of the unit's workload into quarantine.
func (q *quarantine) addPlacement(u *unit, epoch uint64) {
	k := kept{Ref: u.at(epoch).Whole()}
	if u.want != nil {
		k.Name, k.ProjectID = u.want.Name, u.want.ProjectID
	}
	q.add(k)
}

// add records and reports that a placement is in quarantine.
func (q *quarantine) add(k kept) {
	if _, ok := q.journal.quarantined(k.Ref); !ok {
		q.log.Warn("container of another history of the cluster is in quarantine: it is left alone until host-adopt",
			keysOf(k.Ref, "epoch", k.Epoch, "name", k.Name)...)
	}
	if err := q.journal.keep(k); err != nil {
		q.log.Error("journal not written", "error", err)
	}
	q.reporter.keep(k, "", "")
}

// end takes a placement out of quarantine.
func (q *quarantine) end(ref structs.Ref, why string) {
	k, ok := q.journal.quarantined(ref)
	if !ok {
		return
	}
	k.Over = true
	if err := q.journal.keep(k); err != nil {
		q.log.Error("journal not written", "error", err)
		return
	}
	q.log.Info("container is no longer in quarantine", keysOf(k.Ref, "epoch", ref.Epoch, "reason", why)...)
	q.reporter.end(k.Ref)
}

// sweep takes placements out of quarantine that the engine no longer has.
func (q *quarantine) sweep() {
	for _, k := range q.journal.allKept() {
		there := slices.ContainsFunc(q.units.siblings(k.Ref), func(u *unit) bool { return u.epochs()[k.Epoch] })
		if !there {
			q.end(k.Ref, "the engine does not have it")
		}
	}
}

// adoptLocked takes over the quarantine of an answer. It restores entries that the journal
// has lost, and carries out the operators' decisions.
func (r *reconciler) adoptLocked(w *structs.Work) {
	for _, said := range w.Quarantine {
		ref := said.Ref()
		k, ok := r.journal.quarantined(ref)
		switch {
		case !ok && w.Full && said.Adoption != structs.AdoptionKeep:
			k = kept{Ref: ref, Name: said.Name, ProjectID: said.ProjectID}
			r.quarantine.add(k)
		case !ok:
			r.quarantine.reporter.end(ref) // the servers have missed the end
			continue
		}
		switch said.Adoption {
		case structs.AdoptionKeep:
			r.quarantine.end(ref, "an operator has it kept")
		case structs.AdoptionRemove:
			if k.Remove {
				continue
			}
			k.Remove = true
			if err := r.journal.keep(k); err != nil {
				r.log.Error("journal not written", "error", err)
			}
		default:
			continue
		}
		for _, u := range r.units.siblings(ref) {
			u.resetBackoffLocked()
			r.kickLocked(u)
		}
	}
	if r.lookedLocked() {
		r.quarantine.sweep()
	}
}

// lookedLocked reports whether the engine has been listed.
func (r *reconciler) lookedLocked() bool {
	select {
	case <-r.looked:
		return true
	default:
		return false
	}
}

// quarantineUnnamedLocked judges by the first confirmed full answer after the agent has
// followed another history. What the answer doesn't name goes into quarantine, and so does
// a newer placement than it names. done is false if the engine has not been listed yet.
func (r *reconciler) quarantineUnnamedLocked(w *structs.Work) (done bool) {
	if !r.lookedLocked() {
		r.unjudged = true
		return false
	}
	named := make(map[structs.Ref]uint64, len(w.Assignments))
	for _, a := range w.Assignments {
		named[keyOf(a.Ref())] = a.Epoch
	}
	for _, u := range r.units.all {
		if u.orphan {
			continue // it was not the cluster's in the other history either
		}
		epoch, known := named[u.ref.Whole()]
		epochs := u.epochs()
		for have := range epochs {
			if !known || have > epoch {
				r.quarantine.addPlacement(u, have)
			}
		}
		if !known && len(epochs) > 0 {
			u.want = nil
			r.observer.forget(u.ref.Whole())
		}
		r.kickLocked(u)
	}
	r.unjudged = false
	return true
}

// inQuarantine handles the placements of a unit that are in quarantine. It carries out an
// operator's decision, and nothing else. held says that some stay.
func (p *pass) inQuarantine(ctx context.Context, all map[uint64]*backend.Container) (held bool, err error) {
	if !p.task.assigned {
		p.task.want.StopTimeout = structs.DefaultStopTimeout
	}
	for epoch, c := range all {
		k, ok := p.r.journal.quarantined(c.Ref)
		if !ok {
			continue
		}
		if k.Remove && p.pod != nil && p.pod.others(epoch) {
			held = true // the infra container is the last
			continue
		}
		if k.Remove {
			if err := p.remove(ctx, c, false); err != nil {
				return true, err
			}
			delete(all, epoch)
			p.r.forget(c.Ref)
			continue
		}
		held = true
		// A process that needs a lease has no right to run without a placement.
		if c.Live() && p.r.journal.needsLease(c.Entry) {
			if err := p.stop(ctx, c); err != nil {
				return true, err
			}
		}
		if c.Ref.Part == "" {
			p.r.quarantine.reporter.keep(k, c.SpecHash, string(c.State))
		} else { // the spec of one part doesn't identify the whole
			p.r.quarantine.reporter.keep(k, "", string(c.State))
		}
	}
	if !held && p.u.ref.Part != "" {
		p.r.mu.Lock()
		held = p.r.quarantine.keepsOther(p.u)
		p.r.mu.Unlock()
	}
	return held, nil
}
