package agent

import (
	"github.com/stackforge/magnum/structs"
)

// tell reports the container as it was last looked at.
func (p *pass) tell() {
	reason := p.task.rec.Reason
	if !p.task.rec.Failed {
		p.r.mu.Lock()
		reason = p.u.reason
		p.r.mu.Unlock()
	}
	p.report(p.status(reason), nil)
}

// told is an observation of one epoch that was reported.
type told struct {
	epoch uint64
	structs.Observed
}

// tellAway says why nothing is done that was asked for: the engine can't be
// asked. What was last seen of the container stands; how it is, nobody knows.
func (p *pass) tellAway(err error) {
	p.r.mu.Lock()
	last, wanted := p.u.told, p.u.want != nil
	p.r.mu.Unlock()
	if !wanted {
		return
	}
	o := last.Observed
	if last.epoch != p.task.want.Epoch {
		o = structs.Observed{Status: structs.ContainerCreating}
	}
	if o.Generation >= p.task.want.Generation {
		return // nothing is owed
	}
	o.Failed, o.Reason = false, err.Error()+"; what was asked for is done once it does"
	if o.Reason != last.Reason {
		p.report(o, nil)
	}
}

// report sends an observation of the pass's container, or of the workload that it is
// a part of. taken is called once a server has taken that very observation; nil for
// nobody.
func (p *pass) report(o structs.Observed, taken func()) {
	p.r.mu.Lock()
	p.u.told, p.u.taken, p.u.refused = told{p.task.want.Epoch, o}, taken, p.refuses
	if p.u.ref.Part != "" {
		p.r.reportLocked(p.u) // under the lock: two parts may have something to say at once
		p.r.mu.Unlock()
		return
	}
	p.r.mu.Unlock()
	p.r.observer.observe(report{Ref: p.task.ref(), Observed: o, Refused: p.refuses}, taken)
}

// status describes the container. A reason given goes before what can be seen.
func (p *pass) status(reason string) structs.Observed {
	p.r.mu.Lock()
	held := p.u.reason
	p.r.mu.Unlock()
	return p.task.status(reason, held)
}
