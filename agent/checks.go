package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/podplan"
	"github.com/stackforge/magnum/agent/probe"
	"github.com/stackforge/magnum/structs"
)

// checks are the postStart hook and the probes of one process of a pod. They run in a
// goroutine of their own, and kick the unit when they have found something. Its pass then
// acts on that, and notes it in the journal. The reconciler's mu guards the fields that
// change.
type checks struct {
	engineID  string
	startedAt time.Time
	end       context.CancelFunc

	hooked bool        // the hook has succeeded, or there is none
	sick   string      // why the process must be ended; "" if it needn't
	grace  *int        // seconds to end in if sick; nil means the pod's
	found  probe.State // by the probes, once hooked
}

// failure says why the process of a container must be ended; "" if it needn't. The caller
// holds the reconciler's mu.
func (c *checks) failure(of *backend.Container) string {
	if !c.of(of) {
		return ""
	}
	return c.sick
}

// of reports whether the checks are of the container's present process.
func (c *checks) of(container *backend.Container) bool {
	return c != nil && container != nil && c.engineID == container.EngineID && c.startedAt.Equal(container.StartedAt)
}

// check begins the checks of the running process, or takes over what they have found.
// address is the pod's.
func (p *podPass) check(address string) error {
	c := p.task.container()
	if c == nil || c.PostStart == nil && c.Liveness == nil && c.Readiness == nil && c.Startup == nil {
		return nil
	}
	p.r.mu.Lock()
	if !p.u.checks.of(p.task.cur) {
		p.endChecksLocked()
		p.beginChecksLocked(c, address)
	}
	hooked, found := p.u.checks.hooked, p.u.checks.found
	p.r.mu.Unlock()
	rec := p.task.rec
	rec.Hooked, rec.Up, rec.Ready = hooked, found.Started, found.Ready
	if rec == p.task.rec {
		return nil
	}
	p.task.rec = rec
	return p.task.save()
}

// beginChecksLocked begins the checks of the running process. What the journal knows of it
// still holds: a hook that has succeeded doesn't run again.
func (p *podPass) beginChecksLocked(c *structs.PodContainer, address string) {
	ctx, end := context.WithCancel(p.r.ctx)
	cur, rec := p.task.cur, p.task.rec
	k := &checks{engineID: cur.EngineID, startedAt: cur.StartedAt, end: end, hooked: rec.Hooked || c.PostStart == nil}
	conf := probe.Config{
		Target:   p.target(cur.EngineID, address),
		Liveness: c.Liveness, Readiness: c.Readiness, Startup: c.Startup, StartedAt: cur.StartedAt,
		Changed: func(found probe.State) { p.changeChecks(func() { k.take(c, found) }) },
	}
	if rec.Up || rec.Ready {
		conf.Adopted = &probe.State{Started: rec.Up, Ready: rec.Ready}
	}
	prober := probe.New(conf)
	if k.hooked {
		k.found = prober.State()
	}
	p.u.checks = k
	p.r.work.Go(func() {
		defer end()
		if !rec.Hooked && c.PostStart != nil {
			err := conf.Hook(ctx, c.PostStart)
			if ctx.Err() != nil {
				return
			}
			p.changeChecks(func() {
				if err != nil {
					k.sick = fmt.Sprintf("its postStart hook has failed, so it was ended: %v", err)
					return
				}
				k.hooked, k.found = true, prober.State()
			})
			if err != nil {
				return
			}
		}
		prober.Start()
		<-ctx.Done()
		prober.Stop()
	})
}

// take takes over what the probes have found.
func (k *checks) take(c *structs.PodContainer, found probe.State) {
	k.found = found
	if found.Failed == "" {
		return
	}
	k.sick = fmt.Sprintf("its %s, so it was ended", found.Message)
	if failed := c.Liveness; found.Failed == probe.Startup {
		k.grace = c.Startup.GracePeriod
	} else {
		k.grace = failed.GracePeriod
	}
}

// changeChecks changes the unit's checks, and kicks it.
func (p *podPass) changeChecks(change func()) {
	p.r.mu.Lock()
	defer p.r.mu.Unlock()
	change()
	p.r.kickLocked(p.u)
}

// endChecksLocked ends the checks of the unit.
func (p *podPass) endChecksLocked() { p.u.endChecksLocked() }

func (u *unit) endChecksLocked() {
	if u.checks != nil {
		u.checks.end()
		u.checks = nil
	}
}

// endChecks ends the checks of a unit that is left alone: nothing acts on what they find,
// and hooks and probes do things in the container. mu is the reconciler's.
func (u *unit) endChecks(mu sync.Locker) {
	mu.Lock()
	defer mu.Unlock()
	u.endChecksLocked()
}

// checked reports whether the running process is started and ready, as far as its checks
// tell.
func (p *podPass) checked() (started, ready bool) {
	c := p.task.container()
	if c == nil {
		return true, true
	}
	p.r.mu.Lock()
	defer p.r.mu.Unlock()
	rec, k := &p.task.rec, p.u.checks
	if k.of(p.task.cur) {
		return k.hooked && k.found.Started, k.hooked && k.found.Ready && k.sick == ""
	}
	started = (c.PostStart == nil || rec.Hooked) && (c.Startup == nil || rec.Up)
	return started, started && (c.Readiness == nil || rec.Ready)
}

// unready says why the running process isn't started or ready; "" if it is, or if there is
// nothing to say.
func (p *podPass) unready() string {
	p.r.mu.Lock()
	defer p.r.mu.Unlock()
	if k := p.u.checks; k.of(p.task.cur) {
		return k.found.Message
	}
	return ""
}

// sick says why the process must be ended.
func (p *podPass) sick() string {
	p.r.mu.Lock()
	defer p.r.mu.Unlock()
	return cmp.Or(p.u.checks.failure(p.task.cur), p.task.cutOff())
}

// target is a process as hooks and probes see it.
func (p *podPass) target(engineID, address string) probe.Target {
	consoles := p.r.consoles
	return probe.Target{Address: address, Exec: func(ctx context.Context, argv []string) (int, string, error) {
		if consoles == nil {
			return 0, "", errNoConsoles
		}
		out := new(probe.Output)
		code, err := consoles.Exec(ctx, engineID, structs.ExecRequest{Command: argv}, backend.ExecStreams{Stdout: out, Stderr: out})
		return code, out.String(), err
	}}
}

// stopping is a stop in progress: a stop that is begun again has only the time that is
// left.
type stopping struct {
	engineID string
	began    time.Time
}

// afterHook is the least time that a process has to end in after its preStop hook.
const afterHook = 2 * time.Second

// beforeStop waits until no connections are led to a pod that ends, ends the checks of a
// process of it, and runs its preStop hook, once. It returns how long the process has to end in.
func (p *podPass) beforeStop(ctx context.Context, c *backend.Container, timeout time.Duration) time.Duration {
	p.drain(ctx, c, timeout)
	hook := p.preStop(c)
	p.r.mu.Lock()
	if k := p.u.checks; k.of(c) && k.sick != "" && k.grace != nil && p.step.Reason == podplan.EndSick {
		timeout = time.Duration(*k.grace) * time.Second
	}
	p.endChecksLocked()
	first := p.u.stopping.engineID != c.EngineID
	if first {
		p.u.stopping = stopping{c.EngineID, time.Now()}
	}
	began := p.u.stopping.began
	address := p.addressLocked()
	p.r.mu.Unlock()
	if p.u.isInfra() {
		return min(timeout, infraStop)
	}
	if timeout == 0 {
		return 0
	}
	if first && hook != nil {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		if err := p.target(c.EngineID, address).Hook(ctx, hook); err != nil && !errors.Is(err, context.Canceled) {
			p.r.log.Warn("preStop hook failed", keysOf(p.u.ref, "error", err)...)
		}
	}
	left := timeout - time.Since(began)
	if hook != nil {
		left = max(left, afterHook)
	}
	return max(left, 0)
}

// infraStop is how long an infra container has to end in: it has nothing to finish.
const infraStop = 2 * time.Second

// preStop returns the preStop hook of a running container; nil for none.
func (p *podPass) preStop(c *backend.Container) *structs.Handler {
	if spec := p.task.container(); spec != nil && c.State != backend.StateCreated {
		return spec.PreStop
	}
	return nil
}

// addressLocked returns the pod's address; "" if it has none.
func (p *podPass) addressLocked() string {
	infra := p.u.ref
	infra.Part = structs.PodInfra
	if u := p.r.units.of(infra); u != nil && u.published.epoch == p.task.want.Epoch {
		return u.published.part.Address
	}
	return ""
}
