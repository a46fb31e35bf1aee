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
	"github.com/stackforge/magnum/agent/services"
	"github.com/stackforge/magnum/structs"
)

// observer receives what the reconciler observes. *reporter is one.
type observer interface {
	observe(report report, taken func())
	forget(whole structs.Ref) // with no epoch
	setNetworksFull(full bool)
}

// reconciler makes the engine's containers match their assignments. Each container, be
// it a workload or a part of one, has a unit. Units are worked on concurrently, each by
// one goroutine at a time and only while it has work.
type reconciler struct {
	backend  backend.Runtime
	pods     backend.Pods     // nil if the backend runs no pods
	consoles backend.Consoles // nil if the backend has none; hooks and probes need them
	host     *podHost         // as pods see it
	services *services.Services
	owner    backend.Owner
	journal  *journal
	observer observer
	needFull func() // asks for a full answer, because the engine has containers without an assignment
	log      hclog.Logger
	kinds    map[structs.WorkloadKind]partsFunc
	avoid    func() []netip.Addr // addresses that no network may contain; nil for none
	// sameEngine fails unless the engine that answers is the host's; nil if any engine is.
	sameEngine func(context.Context) error
	// reportCopies reports which containers are copies. It must not block; may be nil.
	reportCopies func(structs.Copies)

	quarantine *quarantine
	onJudged   func() // called once all is judged after the agent has followed another history
	exclusive  *exclusives

	mu       sync.Mutex
	verified bool // the engine was verified since the event stream opened: what it doesn't have is gone
	unjudged bool // a full answer could not be judged, because the engine had not been listed yet
	units    *units
	// unknown has workloads that are to be absent, and whose parts the agent doesn't know. What
	// the engine has of them will be known once it has been listed.
	unknown map[structs.Ref]structs.Assignment // by keyOf
	running bool                               // between the first list of a run and its end
	ctx     context.Context                    // of the run
	work    sync.WaitGroup                     // the units' goroutines

	looked chan struct{} // closed once the engine has been listed for the first time
}

func newReconciler(b backend.Runtime, owner backend.Owner, j *journal, o observer, needFull func(), log hclog.Logger) *reconciler {
	r := &reconciler{backend: b, owner: owner, journal: j, observer: o, needFull: needFull, log: log, kinds: kindsOf(b), units: newUnits(),
		unknown: make(map[structs.Ref]structs.Assignment), host: new(podHost), looked: make(chan struct{}), onJudged: func() {}}
	r.consoles, _ = b.(backend.Consoles)
	r.pods, _ = b.(backend.Pods)
	r.quarantine = &quarantine{journal: j, units: r.units, reporter: newQuarantineReporter(log, j.allKept, nil), log: log}
	r.exclusive = &exclusives{lease: lease.New(r.kickExclusive, log), engine: b, journal: j, mu: &r.mu, units: r.units}
	return r
}

// trusted fails until the engine that answers is known to be the host's: what it
// doesn't have may be on the engine before it. ErrAway.
func (r *reconciler) trusted() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.verified {
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

// run follows the engine until ctx ends. It lists the engine whenever the event stream
// opens, and kicks the units that events name.
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
		// What the engine has when it is back did not run meanwhile: another host may
		// run it by then.
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

// follow reads one event stream until it ends.
func (r *reconciler) follow(ctx context.Context, opened func()) error {
	ctx, cancel := context.WithCancel(ctx)
	var listing sync.WaitGroup
	defer listing.Wait()
	defer cancel()
	return r.backend.Events(ctx, r.owner, func() {
		opened()
		// The stream must be read while the engine is listed.
		listing.Go(func() { r.list(ctx) })
	}, r.event)
}

// list takes over the engine's list and kicks every unit. The list is taken after the
// stream has opened, so that no change falls in between.
func (r *reconciler) list(ctx context.Context) {
	retry := backoff{min: 200 * time.Millisecond, max: 5 * time.Second}
	for {
		entries, err := r.backend.List(ctx, r.owner)
		if err == nil {
			err = r.checkEngine(ctx) // after the list: an engine that is exchanged before it is found out
		}
		if err == nil {
			r.takeList(entries)
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

func (r *reconciler) takeList(entries []backend.Entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running = r.ctx.Err() == nil
	r.verified = true
	slices.SortFunc(entries, func(a, b backend.Entry) int { return a.CreatedAt.Compare(b.CreatedAt) })
	for _, e := range entries {
		r.claimLocked(e)
	}
	r.forgetCopiesLocked(entries)
	r.quarantine.sweep()
	if r.unjudged {
		r.needFull()
	}
	for _, a := range r.unknown {
		r.assignLocked(a)
	}
	// A unit's pass finds out whether its container is gone.
	for _, u := range r.units.all {
		u.published = published{} // nothing of a pod is decided before all of its parts have been seen again
		r.kickLocked(u)
	}
	if !r.lookedLocked() {
		close(r.looked)
	}
}

// event takes over one event of the engine.
func (r *reconciler) event(e backend.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch e.Kind {
	case backend.EventImage:
		r.imageCameLocked(e.Image)
		return
	case backend.EventNetwork:
		if u := r.units.byEngine(e.EngineID); u != nil {
			r.kickLocked(u)
		}
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

// imageCameLocked kicks the units that have failed because the image was missing; ""
// stands for any image.
func (r *reconciler) imageCameLocked(image string) {
	for _, u := range r.units.all {
		if u.missingImage != "" && (image == "" || backend.SameImage(u.missingImage, image)) {
			u.retryAt, u.missingImage = time.Time{}, ""
			r.kickLocked(u)
		}
	}
}

// stop ends the run. It returns when no goroutine and no timer is left.
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

// kickLocked starts a pass over the unit soon. Several kicks may start one pass.
func (r *reconciler) kickLocked(u *unit) {
	u.dirty = true
	if u.busy || !r.running {
		return
	}
	u.busy = true
	r.work.Go(func() { r.attend(u) })
}

// attend passes over a unit until it is no longer dirty.
func (r *reconciler) attend(u *unit) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for u.dirty && r.running {
		u.dirty = false
		if u.timer != nil {
			u.timer.Stop()
		}
		p := &pass{r: r, u: u, task: task{journal: r.journal, unit: u}}
		if u.isPod() {
			p.pod = newPodPass(p)
		}
		if u.want != nil {
			p.task.want, p.task.assigned = *u.want, true
		}
		r.mu.Unlock()
		again, err := p.run(r.ctx)
		if errors.Is(err, backend.ErrAway) && r.ctx.Err() == nil {
			p.reportAway(err)
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

// failedLocked returns the pause before the next pass after a pass that has failed.
func (r *reconciler) failedLocked(u *unit, err error) time.Duration {
	retry := backoff{min: 200 * time.Millisecond, max: 30 * time.Second, tries: u.tries}
	u.tries++
	if errors.Is(err, backend.ErrAway) {
		// When the engine is back, it is listed again and every unit is kicked.
		retry.max = 5 * time.Second
		r.log.Debug("engine away", keysOf(u.ref, "error", err)...)
	} else {
		r.log.Warn("container not reconciled; trying again", keysOf(u.ref, "attempt", u.tries, "error", err)...)
	}
	return retry.next()
}

// apply takes over an answer that the agent follows. sent is the state in which its
// poll was sent. diverged says that the agent has followed another history: containers
// that a full, confirmed answer doesn't name go into quarantine.
func (r *reconciler) apply(w *structs.Work, diverged bool, sent pollState) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.exclusive.answered {
		r.exclusive.answered = true
		r.kickExclusiveLocked() // the guard has ended
	}
	if w.Full && w.Confirmed {
		clear(r.unknown)
	}
	r.adoptLocked(w) // before anything is judged by the answer
	for _, a := range w.Assignments {
		r.assignLocked(a)
	}
	switch {
	case !w.Full || !w.Confirmed:
	case !diverged && !w.Pending:
		r.judgeLocked(w)
	case r.quarantineUnnamedLocked(w):
		r.onJudged()
		r.quarantine.reporter.reportJudged()
	}
	if w.Full && w.Confirmed {
		if r.exclusive.lease.Confirm(sent.State) {
			r.kickExclusiveLocked()
		}
	}
}

// judgeLocked orphans the units that a confirmed full answer does not name.
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
		switch {
		case named[keyOf(ref).Whole()], r.units.of(ref) != nil:
		case ref.Kind == structs.WorkloadPod && ref.Part == structs.PodInfra: // the pod's volumes may be left
			u := r.units.ensure(ref)
			u.want = &structs.Assignment{Epoch: ref.Epoch}
			r.orphanLocked(u)
		default:
			r.forget(ref)
		}
	}
}

// backoffLeft returns how long a failed unit is still left alone; 0 if it isn't.
func (r *reconciler) backoffLeft(u *unit) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if u.retryAt.IsZero() {
		return 0
	}
	return max(0, time.Until(u.retryAt))
}

// resetBackoff resets a unit's backoff after a success.
func (r *reconciler) resetBackoff(u *unit) {
	r.mu.Lock()
	defer r.mu.Unlock()
	u.resetBackoffLocked()
}

// forget drops the journal's record of a placement. A record too many does no harm, so
// a failure is only logged.
func (r *reconciler) forget(ref structs.Ref) {
	if err := r.journal.forget(ref); err != nil {
		r.log.Warn("journal not written", "error", err)
	}
}

// removed is called when a server knows that the container is gone for good, or when
// no server needs to know.
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
	// The workload's other parts may have waited for one that it no longer has.
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

// firstLook is how long a session waits until an agent that has just started has
// listed its engine.
const firstLook = 5 * time.Second

// engineID returns the engine's ID of a placement; "" if the engine doesn't have it. Of a
// pod as a whole it is that of its first container. previous: of the attempt whose state is
// reported as the last.
func (r *reconciler) engineID(ctx context.Context, ref structs.Ref, previous bool) string {
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
	u := r.units.addressed(ref)
	switch {
	case u == nil:
		return ""
	case previous:
		rec, _ := r.journal.record(u.at(ref.Epoch))
		return u.previous(rec)
	}
	return u.have[ref.Epoch]
}
