package agent

import (
	"fmt"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/structs"
)

// tell reports the container as it was last looked at.
func (p *pass) tell() {
	reason := p.rec.Reason
	if !p.rec.Failed {
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
	if last.epoch != p.want.Epoch {
		o = structs.Observed{Status: structs.ContainerCreating}
	}
	if o.Generation >= p.want.Generation {
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
	p.u.told, p.u.taken, p.u.refused = told{p.want.Epoch, o}, taken, p.refuses
	if p.u.ref.Part != "" {
		p.r.reportLocked(p.u) // under the lock: two parts may have something to say at once
		p.r.mu.Unlock()
		return
	}
	p.r.mu.Unlock()
	p.r.observer.observe(report{Ref: p.ref(), Observed: o, Refused: p.refuses}, taken)
}

// status describes the container. A reason given goes before what can be seen.
func (p *pass) status(reason string) structs.Observed {
	o := structs.Observed{
		Status: structs.ContainerError, Reason: reason,
		Generation: p.rec.Generation, Failed: p.rec.Failed && p.rec.Generation == p.want.Generation,
		RestartCount: p.rec.Restarts,
	}
	c := p.cur
	if c == nil {
		if p.old != nil {
			o.Memory, o.MilliCPU = p.old.Memory, p.old.MilliCPU
		}
		return o
	}
	o.StartedAt, o.Addresses, o.Ports, o.Health = c.StartedAt, c.Addresses, c.Ports, c.Health
	o.Memory, o.MilliCPU, o.EngineID = c.Memory, c.MilliCPU, c.EngineID
	o.RestartCount += c.RestartCount
	if p.rec.Intent != nil {
		o.RestartCount = p.rec.Restarts // the engine's count is in it already
	}
	if !c.Live() && !c.FinishedAt.IsZero() {
		code := c.ExitCode
		o.ExitCode, o.FinishedAt = &code, c.FinishedAt
	}
	switch c.State {
	case backend.StateRunning:
		o.Status = structs.ContainerRunning
	case backend.StatePaused:
		o.Status = structs.ContainerPaused
		if reason == "" && p.want.Desired != structs.DesiredPaused {
			o.Reason = "it was paused on its host by somebody else; unpause it to go on"
		}
	case backend.StateRestarting:
		o.Status = structs.ContainerRunning
		if reason == "" {
			o.Reason = p.ended() + "; its restart policy is starting it again"
		}
	case backend.StateCreated:
		if !p.startFailed(reason) {
			o.Status = structs.ContainerStopped
		}
	default:
		if !p.startFailed(reason) {
			o.Status = structs.ContainerStopped
		}
		if reason == "" && (p.want.Desired != structs.DesiredStopped || c.OOMKilled) {
			o.Reason = p.ended()
		}
	}
	if o.Reason == "" {
		o.Reason = p.rec.Denied
	}
	return o
}

// startFailed reports whether a process that doesn't run should, but can't be
// started.
func (p *pass) startFailed(reason string) bool {
	if p.want.Desired != structs.DesiredRunning {
		return false
	}
	p.r.mu.Lock()
	defer p.r.mu.Unlock()
	return p.rec.Failed && !p.partly() || reason != "" && p.u.reason == reason
}

// ended says how the process ended, which magnum did not do on its own.
func (p *pass) ended() string {
	c := p.cur
	switch {
	case c.OOMKilled:
		return "its process was killed because it needed more than its memory limit; give it more memory"
	case p.killed():
		return fmt.Sprintf("its process has ended with exit code %d after a user sent it signal %s", c.ExitCode, p.rec.Kill.Signal)
	case c.ExitCode == 0:
		return "its process has ended"
	case c.ExitCode > 128 && c.ExitCode < 128+65:
		return fmt.Sprintf("its process was ended by signal %d (exit code %d), not by magnum", c.ExitCode-128, c.ExitCode)
	}
	return fmt.Sprintf("its process has ended with exit code %d; its logs may say why", c.ExitCode)
}
