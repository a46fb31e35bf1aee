package agent

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/lease"
	"github.com/stackforge/magnum/structs"
)

// observer hears what the reconciler sees. *reporter is one.
type observer interface {
	observe(report report, taken func())
	forget(whole structs.Ref) // with no epoch
	networks(full bool)
}

// reconciler makes the engine's containers what their assignments say. Each
// container has a unit, be it a workload or a part of one; units are worked on at
// the same time, but one unit by one goroutine at a time, and only while it has
// something to do.
type reconciler struct {
	backend  backend.Runtime
	owner    backend.Owner
	journal  *journal
	observer observer
	needFull func() // asks for a full answer: there are containers that nobody has asked for
	log      hclog.Logger
	kinds    map[structs.WorkloadKind]partsFunc
	avoid    func() []netip.Addr // what no network may have in it; nil for nothing
	// sameEngine fails unless the engine that answers is the host's; nil for any is.
	sameEngine func(context.Context) error
	// tellCopies tells which containers are copies; it must not block. nil for nobody.
	tellCopies func(structs.Copies)

	quarantine *quarantine
	settled    func() // called once all is judged after the agent has followed another history
	exclusive  *exclusives

	mu        sync.Mutex
	met       bool // since the stream is open, the engine was asked who it is: what it doesn't have is gone
	unsettled bool // a full answer could not be judged, because the engine had not told yet what it has
	units     *units
	running   bool            // between the first list of a run and its end
	ctx       context.Context // of the run
	work      sync.WaitGroup  // the units' goroutines

	looked chan struct{} // closed once the engine has first told what it has
}

func newReconciler(b backend.Runtime, owner backend.Owner, j *journal, o observer, needFull func(), log hclog.Logger) *reconciler {
	r := &reconciler{backend: b, owner: owner, journal: j, observer: o, needFull: needFull, log: log, kinds: kinds(), units: newUnits(), looked: make(chan struct{}), settled: func() {}}
	r.quarantine = &quarantine{journal: j, units: r.units, reporter: newQuarantineReporter(log, j.allKept, nil), log: log}
	r.exclusive = &exclusives{lease: lease.New(r.kickExclusive, log), engine: b, journal: j, mu: &r.mu, units: r.units}
	return r
}

// trusted fails while nobody knows whether the engine that answers is the host's:
// what it doesn't have may be on the one that was there before. ErrAway.
func (r *reconciler) trusted() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.met {
		return nil
	}
	return &backend.Failure{Reason: backend.ErrAway, Msg: "the engine was away, and has not been listed again yet"}
}

// checkEngine fails unless the engine that answers is the host's. The end of the event
// stream, which tells of another engine, may be noticed after that engine has answered
// that it has no such container.
func (r *reconciler) checkEngine(ctx context.Context) error {
	if r.sameEngine == nil {
		return nil
	}
	return r.sameEngine(ctx)
}

// run follows the engine until ctx ends: lists what there is whenever the
// event stream (re)opens, and looks again at what an event names.
func (r *reconciler) run(ctx context.Context) error {
	r.mu.Lock()
	r.ctx = ctx
	r.mu.Unlock()
	defer r.stop()
	retry := backoff{min: 200 * time.Millisecond, max: 5 * time.Second}
	for away := false; ; {
		opened := func() {
			retry.reset()
			if away {
				r.log.Info("engine is back")
			}
			away = false
		}
		err := r.follow(ctx, opened)
		if ctx.Err() != nil {
			return nil
		}
		// What the engine will have when it is back did not run meanwhile:
		// another host may run it by then.
		r.unconfirm()
		if !away {
			away = true
			r.log.Warn("engine is away; its containers are left as they are until it is back", "error", err)
		}
		if retry.wait(ctx, 0) != nil {
			return nil
		}
	}
}

// follow lives with one event stream.
func (r *reconciler) follow(ctx context.Context, opened func()) error {
	ctx, cancel := context.WithCancel(ctx)
	var listing sync.WaitGroup
	defer listing.Wait()
	defer cancel()
	return r.backend.Events(ctx, r.owner, func() {
		opened()
		// Beside the stream, which must be read meanwhile.
		listing.Go(func() { r.list(ctx) })
	}, r.event)
}

// list takes in what the engine has, and looks at every container anew. It
// comes after the stream's opening, so that nothing falls in between.
func (r *reconciler) list(ctx context.Context) {
	retry := backoff{min: 200 * time.Millisecond, max: 5 * time.Second}
	for {
		entries, err := r.backend.List(ctx, r.owner)
		if err == nil {
			err = r.checkEngine(ctx) // after the list: an engine that is exchanged before it is found out
		}
		if err == nil {
			r.listed(entries)
			return
		}
		if ctx.Err() != nil {
			return
		}
		r.log.Warn("listing the engine's containers failed", "error", err)
		if retry.wait(ctx, 0) != nil {
			return
		}
	}
}

func (r *reconciler) listed(entries []backend.Entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running = r.ctx.Err() == nil
	r.met = true
	slices.SortFunc(entries, func(a, b backend.Entry) int { return a.CreatedAt.Compare(b.CreatedAt) })
	for _, e := range entries {
		r.claimLocked(e)
	}
	r.forgetCopiesLocked(entries)
	r.quarantine.sweep()
	if r.unsettled {
		r.needFull()
	}
	// What is no longer there is found out by the pass over its unit.
	for _, u := range r.units.all {
		r.kickLocked(u)
	}
	if !r.lookedLocked() {
		close(r.looked)
	}
}

// event takes in one event of the engine.
func (r *reconciler) event(e backend.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.Kind == backend.EventImage {
		r.imageCameLocked(e.Image)
		return
	}
	u := r.units.ensure(e.Ref)
	if _, copied := u.copies[e.EngineID]; copied {
		if e.Kind == backend.EventRemoved {
			r.dropCopyLocked(u, e.EngineID)
		}
		return
	}
	if e.Kind != backend.EventRemoved {
		r.claimLocked(e.Entry)
	}
	r.kickLocked(u)
}

// imageCameLocked has those tried at once that have failed for want of the
// image; "" stands for any.
func (r *reconciler) imageCameLocked(image string) {
	for _, u := range r.units.all {
		if u.lacks != "" && (image == "" || backend.SameImage(u.lacks, image)) {
			u.hold, u.lacks = time.Time{}, ""
			r.kickLocked(u)
		}
	}
}

// stop ends the run: no goroutine and no timer is left.
func (r *reconciler) stop() {
	r.mu.Lock()
	r.running = false
	for _, u := range r.units.all {
		if u.timer != nil {
			u.timer.Stop()
		}
	}
	r.mu.Unlock()
	r.exclusive.lease.Stop()
	r.work.Wait()
}

// kickLocked has the unit looked at, soon and once.
func (r *reconciler) kickLocked(u *unit) {
	u.dirty = true
	if u.busy || !r.running {
		return
	}
	u.busy = true
	r.work.Go(func() { r.attend(u) })
}

// attend passes over a unit until there is nothing to do.
func (r *reconciler) attend(u *unit) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for u.dirty && r.running {
		u.dirty = false
		if u.timer != nil {
			u.timer.Stop()
		}
		p := &pass{r: r, u: u, task: task{journal: r.journal, unit: u}}
		if u.want != nil {
			p.task.want, p.task.wanted = *u.want, true
		}
		r.mu.Unlock()
		again, err := p.run(r.ctx)
		if errors.Is(err, backend.ErrAway) && r.ctx.Err() == nil {
			p.tellAway(err)
		}
		r.mu.Lock()
		u.interrupt, u.unlease = nil, nil
		if err != nil && !errors.Is(err, errInterrupted) && r.ctx.Err() == nil {
			again = r.failedLocked(u, err)
		}
		if again > 0 && r.running {
			u.timer = time.AfterFunc(again, func() {
				r.mu.Lock()
				defer r.mu.Unlock()
				r.kickLocked(u)
			})
		}
	}
	u.busy = false
	r.units.tidy(u)
}

// failedLocked paces a unit whose pass could not be finished.
func (r *reconciler) failedLocked(u *unit, err error) time.Duration {
	retry := backoff{min: 200 * time.Millisecond, max: 30 * time.Second, tries: u.tries}
	u.tries++
	if errors.Is(err, backend.ErrAway) {
		// The engine's return brings a new list, and every unit a new pass.
		retry.max = 5 * time.Second
		r.log.Debug("engine away", keysOf(u.ref, "error", err)...)
	} else {
		r.log.Warn("container not reconciled; trying again", keysOf(u.ref, "attempt", u.tries, "error", err)...)
	}
	return retry.next()
}

// apply takes over an answer that the agent follows, to a poll that was
// sent in a state. parted says that the agent has followed another history: containers
// that a full and confirmed answer doesn't name go into quarantine.
func (r *reconciler) apply(w *structs.Work, parted bool, sent pollState) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.exclusive.answered {
		r.exclusive.answered = true
		r.kickExclusiveLocked() // the guard has ended
	}
	r.adoptLocked(w) // before anything is judged
	for _, a := range w.Assignments {
		r.assignLocked(a)
	}
	switch {
	case !w.Full || !w.Confirmed:
	case !parted && !w.Pending:
		r.judgeLocked(w)
	case r.partLocked(w):
		r.settled()
		r.quarantine.reporter.settle()
	}
	if w.Full && w.Confirmed {
		if r.exclusive.lease.Confirm(sent.State) {
			r.kickExclusiveLocked()
		}
	}
}

// judgeLocked removes what a confirmed full answer does not name.
func (r *reconciler) judgeLocked(w *structs.Work) {
	named := make(map[structs.Ref]bool, len(w.Assignments))
	for _, a := range w.Assignments {
		named[keyOf(a.Ref())] = true
	}
	for _, u := range r.units.all {
		if named[u.ref.Whole()] || u.orphan || r.quarantine.keeps(u) || u.want == nil && len(u.have)+len(u.claims) == 0 {
			continue
		}
		r.orphanLocked(u)
	}
	for _, ref := range r.journal.refs() {
		if !named[keyOf(ref).Whole()] && r.units.of(ref) == nil {
			r.forget(ref)
		}
	}
}

// held returns how long what has failed of a unit is left alone.
func (r *reconciler) held(u *unit) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if u.hold.IsZero() {
		return 0
	}
	return max(0, time.Until(u.hold))
}

// calm ends all holding of a unit: something has succeeded.
func (r *reconciler) calm(u *unit) {
	r.mu.Lock()
	defer r.mu.Unlock()
	u.calmLocked()
}

// forget drops what the journal has on a placement. An entry too many is no
// harm, so a failure is only logged.
func (r *reconciler) forget(ref structs.Ref) {
	if err := r.journal.forget(ref); err != nil {
		r.log.Warn("journal not written", "error", err)
	}
}

// removed is called when a server knows that the container is gone for good, or
// nobody has to be told.
func (r *reconciler) removed(ref structs.Ref) {
	r.mu.Lock()
	u, orphan := r.units.of(ref), false
	if u != nil {
		if u.want == nil || u.want.Epoch != ref.Epoch || u.want.Desired != structs.DesiredAbsent {
			r.mu.Unlock()
			return
		}
		orphan = u.orphan
		u.want, u.orphan = nil, false
		r.units.tidy(u)
	}
	// The workload's parts may have waited for one that it no longer has.
	left := r.units.siblings(ref)
	for _, sibling := range left {
		if orphan && sibling != u {
			r.kickLocked(sibling)
		}
	}
	r.mu.Unlock()
	if ref.Part == "" || len(left) == 0 {
		r.observer.forget(keyOf(ref).Whole())
	}
	r.forget(ref)
}

// firstLook is how long a session waits for an agent that has just begun to know
// what its engine has.
const firstLook = 5 * time.Second

// engineID returns the engine's id of a placement; "" if there is none.
func (r *reconciler) engineID(ctx context.Context, ref structs.Ref) string {
	select {
	case <-r.looked:
	default:
		ctx, cancel := context.WithTimeout(ctx, firstLook)
		defer cancel()
		select {
		case <-r.looked:
		case <-ctx.Done():
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if u := r.units.of(ref); u != nil {
		return u.have[ref.Epoch]
	}
	return ""
}
