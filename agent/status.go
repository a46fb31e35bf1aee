package agent

import (
	"github.com/stackforge/magnum/structs"
)

// reportStatus reports the container as the last look saw it.
func (p *pass) reportStatus() {
	reason := p.task.rec.Reason
	if !p.task.rec.Failed {
		p.r.mu.Lock()
		reason = p.u.reason
		p.r.mu.Unlock()
	}
	p.report(p.status(reason), nil)
}

// reported is an observation of one epoch that was reported.
type reported struct {
	epoch uint64
	structs.Observed
}

// reportAway reports that the assignment waits for the engine. The last observation is
// kept, marked as unconfirmed.
func (p *pass) reportAway(err error) {
	p.r.mu.Lock()
	last, wanted := p.u.reported, p.u.want != nil
	p.r.mu.Unlock()
	if !wanted {
		return
	}
	o := last.Observed
	if last.epoch != p.task.want.Epoch {
		o = structs.Observed{Status: structs.ContainerCreating}
	}
	if o.Generation >= p.task.want.Generation {
		return // nothing waits for the engine
	}
	o.Failed, o.Reason = false, err.Error()+"; what was asked for is done once it does"
	if o.Reason != last.Reason {
		p.report(o, nil)
	}
}

// report sends an observation of the pass's container, or of the workload that the
// container is a part of. taken is called once a server has taken exactly this
// observation; may be nil.
func (p *pass) report(o structs.Observed, taken func()) {
	var shown podShown
	if p.pod != nil {
		o, shown = p.pod.describe(o)
	}
	p.r.mu.Lock()
	p.u.shown = shown
	p.u.reported, p.u.taken, p.u.refused = reported{p.task.want.Epoch, o}, taken, p.refuses
	if p.u.ref.Part != "" {
		p.r.reportLocked(p.u) // under the lock: two parts may report at once
		p.r.mu.Unlock()
		return
	}
	p.r.mu.Unlock()
	p.r.observer.observe(report{Ref: p.task.ref(), Observed: o, Refused: p.refuses}, taken)
}

// status describes the container. A given reason takes precedence over an observed one.
func (p *pass) status(reason string) structs.Observed {
	p.r.mu.Lock()
	held := p.u.reason
	p.r.mu.Unlock()
	o := p.task.status(reason, held)
	if p.pod != nil {
		o.Reason = reason // describe knows the rest
	}
	return o
}
