package agent

import (
	"context"
	"reflect"
	"sync"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/structs"
)

// reporter gathers what the reconciler sees and sends it in batches. The first
// change goes at once; those that come while a report is under way go with the
// next one. One goroutine sends, any number observe.
type reporter struct {
	send func(context.Context, structs.StatusReport) error // tries until it is answered; errStale if the registration is over
	log  hclog.Logger
	wake chan struct{}
	// filled is called when the host has no room for another project's network any
	// more; nil for nobody. It must not block.
	filled func()

	mu           sync.Mutex
	registration uint64
	seq          uint64
	latest       map[structs.Ref]*observation // by workload: with no epoch
	queue        []structs.Ref                // workloads with something to tell, in the order of the first change
	full         bool                         // the host has no room for another project's network
	fullUntold   bool                         // that has changed since it was last told
	copies       structs.Copies               // on the engine
	copiesUntold bool                         // that has changed since it was last told
}

// observation is the last that was seen of a workload.
type observation struct {
	report report
	queued bool
	taken  func() // called when a server has taken this very observation; may be nil
}

// wire is the report as servers take it.
func (r *report) wire() structs.ContainerReport {
	out := structs.ReportOf(r.Ref)
	out.Observed, out.Refused = r.Observed, r.Refused
	for _, p := range r.parts {
		out.Parts = append(out.Parts, structs.PartReport{Part: p.name, Observed: p.Observed})
	}
	return out
}

func newReporter(log hclog.Logger, send func(context.Context, structs.StatusReport) error) *reporter {
	return &reporter{send: send, log: log, wake: make(chan struct{}, 1), latest: make(map[structs.Ref]*observation)}
}

// register begins a new registration: everything is told again, so that the
// servers see the truth whatever they have lost. The sequence begins anew; it
// needs no journal because each start of an agent registers.
func (r *reporter) register(registration uint64) {
	r.mu.Lock()
	r.registration, r.seq, r.fullUntold = registration, 0, r.full
	r.copiesUntold = r.copies.Count > 0
	r.mu.Unlock()
	r.repeat()
}

// repeat tells everything again. Servers that send all of a host's assignments
// may have given it up meanwhile, and no longer believe what they were told.
func (r *reporter) repeat() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, o := range r.latest {
		r.queueLocked(id, o)
	}
	r.wakeUp()
}

// observe tells of a workload. What was told already isn't told again, unless
// the caller wants to know when it is taken.
func (r *reporter) observe(report report, taken func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := keyOf(report.Ref)
	o := r.latest[key]
	if o != nil && taken == nil && reflect.DeepEqual(o.report, report) {
		return
	}
	if o == nil {
		o = new(observation)
		r.latest[key] = o
	}
	o.report, o.taken = report, taken
	r.queueLocked(key, o)
	r.wakeUp()
}

// networks tells whether the host has no room for another project's network.
func (r *reporter) networks(full bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.full == full {
		return
	}
	r.full, r.fullUntold = full, true
	r.wakeUp()
	if full && r.filled != nil {
		r.filled()
	}
}

// networksFull reports what networks has told last.
func (r *reporter) networksFull() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.full
}

// copied tells which containers are copies.
func (r *reporter) copied(now structs.Copies) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.copies, r.copiesUntold = now, true
	r.wakeUp()
}

// forget stops telling of a workload.
func (r *reporter) forget(whole structs.Ref) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.latest, whole)
}

func (r *reporter) queueLocked(id structs.Ref, o *observation) {
	if !o.queued {
		o.queued = true
		r.queue = append(r.queue, id)
	}
}

func (r *reporter) wakeUp() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// next takes the next report off the queue, with what to call, by workload,
// when it is taken.
func (r *reporter) next() (report structs.StatusReport, taken map[structs.Ref]func(), ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, id := range r.queue {
		if len(report.Containers) == structs.MaxReport {
			break
		}
		n++
		o := r.latest[id]
		if o == nil || !o.queued {
			continue
		}
		o.queued = false
		report.Containers = append(report.Containers, o.report.wire())
		if o.taken != nil {
			if taken == nil {
				taken = make(map[structs.Ref]func())
			}
			taken[id] = o.taken
			o.taken = nil
		}
	}
	r.queue = append(r.queue[:0], r.queue[n:]...)
	if len(report.Containers) == 0 && !r.fullUntold && !r.copiesUntold {
		return report, nil, false
	}
	if r.fullUntold {
		full := r.full
		report.NetworksFull, r.fullUntold = &full, false
	}
	if r.copiesUntold {
		copies := r.copies
		report.Copies, r.copiesUntold = &copies, false
		report.Containers = append([]structs.ContainerReport{}, report.Containers...) // not null
	}
	r.seq++
	report.Registration, report.Seq = r.registration, r.seq
	return report, taken, true
}

// restore puts back what a report of an ended registration said, unless
// something newer is known.
func (r *reporter) restore(report structs.StatusReport, taken map[structs.Ref]func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.copiesUntold = r.copiesUntold || report.Copies != nil
	for _, c := range report.Containers {
		key := keyOf(c.Ref())
		o := r.latest[key]
		if o == nil {
			continue
		}
		if o.taken == nil && reflect.DeepEqual(o.report.wire(), c) {
			o.taken = taken[key]
		}
		r.queueLocked(key, o)
	}
	r.wakeUp()
}

// run sends reports until ctx ends.
func (r *reporter) run(ctx context.Context) error {
	for {
		report, taken, ok := r.next()
		if !ok {
			select {
			case <-r.wake:
				continue
			case <-ctx.Done():
				return nil
			}
		}
		if err := r.send(ctx, report); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			r.log.Debug("report of an ended registration", "registration", report.Registration, "error", err)
			r.restore(report, taken)
			continue
		}
		for _, f := range taken {
			f()
		}
	}
}
