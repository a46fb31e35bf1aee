package probe

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/stackforge/magnum/internal/pause"
	"github.com/stackforge/magnum/structs"
)

// Kind is which probe of a container it is.
type Kind string

// The kinds of probes.
const (
	Liveness  Kind = "liveness"
	Readiness Kind = "readiness"
	Startup   Kind = "startup"
)

// State is what the probes of an attempt have found.
type State struct {
	Started bool // the startup probe has succeeded, or there is none
	Ready   bool // Started, and the readiness probe succeeds or there is none
	// Failed is the probe after which the container is to be killed: Liveness or Startup,
	// "" if none has failed. It never changes back.
	Failed Kind
	// Message says why the container has failed, or is not started or ready, such as
	// "readiness probe failed: HTTP status 503". One line; "" if nothing is wrong or known.
	Message string
}

// Config says what is checked, and how.
type Config struct {
	Target
	// Liveness, Readiness and Startup are nil if the container doesn't have the probe.
	Liveness, Readiness, Startup *structs.Probe
	// StartedAt is when the process was started. Initial delays count from it.
	StartedAt time.Time
	// Adopted is the State in which an earlier agent left the attempt: a container that was
	// started and ready stays so until a probe fails. The first probes then wait for a random
	// part of their period, because the agent adopts all containers at once. nil means a new
	// attempt.
	Adopted *State
	// Changed is called after each change of the State, one call at a time, without a lock.
	// It is not called once Stop has returned. A Message that changes alone is told once a
	// minute at most, as each change costs a report and a write on the servers.
	Changed func(State)
}

// messageEvery is the least time between two changes of a State that differ in the
// message alone.
const messageEvery = time.Minute

// Prober runs the probes of one attempt of a container. All methods are safe for
// concurrent use.
type Prober struct {
	Config
	cancel  context.CancelFunc
	ctx     context.Context
	started chan struct{} // closed when the State is Started
	running sync.WaitGroup

	calling sync.Mutex // held while Changed is called; above mu

	mu       sync.Mutex
	state    State
	told     State
	toldAt   time.Time
	startErr string // why the startup probe hasn't succeeded; "" if it hasn't failed
	readyErr string // likewise for the readiness probe
}

// New returns the Prober of an attempt. It starts nothing.
func New(c Config) *Prober {
	p := &Prober{Config: c, started: make(chan struct{})}
	if c.Adopted != nil {
		p.state = State{Started: c.Adopted.Started, Ready: c.Adopted.Ready}
	}
	p.state.Started = p.state.Started || c.Startup == nil
	p.state.Ready = p.state.Started && (p.state.Ready || c.Readiness == nil)
	if p.state.Started {
		close(p.started)
	}
	p.told = p.state
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// Start begins the probes. It is called once, when the process runs and its postStart hook
// has succeeded.
func (p *Prober) Start() {
	if p.Startup != nil && !p.State().Started {
		p.running.Go(func() { p.run(Startup, p.Startup, p.startup) })
	}
	if p.Liveness != nil {
		p.running.Go(func() { p.run(Liveness, p.Liveness, p.liveness) })
	}
	if p.Readiness != nil {
		p.running.Go(func() { p.run(Readiness, p.Readiness, p.readiness) })
	}
}

// Stop ends the probes. What they find meanwhile counts no more. It waits for their end,
// and for a call of Changed: it must not be called from there, nor with a lock that
// Changed takes. It may be called more than once, and without Start.
func (p *Prober) Stop() {
	p.cancel()
	p.running.Wait()
}

// State returns the current state. After Stop it is the last one.
func (p *Prober) State() State {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state
}

// outcome is what a series of checks amounts to.
type outcome struct {
	decided bool // a threshold is reached
	ok      bool
	message string // of the last check, if it didn't succeed
}

// run checks with a probe until take returns false or the Prober is stopped. The startup
// probe comes before the others, which begin as soon as it has succeeded.
func (p *Prober) run(kind Kind, probe *structs.Probe, take func(outcome) (more bool)) {
	if kind != Startup {
		select {
		case <-p.started:
		case <-p.ctx.Done():
			return
		}
	}
	period := max(time.Duration(probe.Period)*time.Second, time.Second)
	first := time.Until(p.StartedAt.Add(time.Duration(probe.InitialDelay) * time.Second))
	if p.Adopted != nil {
		first = max(first, rand.N(period))
	}
	if pause.For(p.ctx, first) != nil {
		return
	}
	ticks := time.NewTicker(period)
	defer ticks.Stop()
	timeout := max(time.Duration(probe.Timeout)*time.Second, time.Second)
	var last bool // outcome of the last check that could be carried out
	inRow := 0    // how many had this outcome
	for {
		r := p.check(p.ctx, &probe.Handler, timeout)
		if p.ctx.Err() != nil {
			return // the container has ended, or is about to: this says nothing about it
		}
		now := outcome{ok: r.ok}
		switch {
		case r.failed != nil:
			now.message = string(kind) + " probe could not run: " + oneLine(r.failed.Error())
		case inRow > 0 && last != r.ok:
			inRow = 0
			fallthrough
		default:
			last = r.ok
			inRow++
			now.decided = r.ok && inRow >= probe.Success || !r.ok && inRow >= probe.Failure
			if !r.ok {
				now.message = string(kind) + " probe failed: " + r.message
			}
		}
		if !take(now) {
			return
		}
		select {
		case <-ticks.C:
		case <-p.ctx.Done():
			return
		}
	}
}

// startup takes an outcome of the startup probe.
func (p *Prober) startup(o outcome) (more bool) {
	p.change(func(s *State) {
		p.startErr = o.message
		switch {
		case !o.decided:
		case o.ok:
			s.Started, s.Ready = true, p.Readiness == nil
			close(p.started)
		case s.Failed == "":
			s.Failed = Startup
		}
	})
	return !o.decided
}

// liveness takes an outcome of the liveness probe.
func (p *Prober) liveness(o outcome) (more bool) {
	failed := o.decided && !o.ok
	if failed {
		p.change(func(s *State) { s.Failed, s.Message = Liveness, o.message })
	}
	return !failed
}

// readiness takes an outcome of the readiness probe.
func (p *Prober) readiness(o outcome) (more bool) {
	p.change(func(s *State) {
		p.readyErr = o.message
		if o.decided {
			s.Ready = o.ok
		}
	})
	return true
}

// change changes the state, and tells Changed of it. The message follows from the rest,
// except that of a failed liveness probe.
func (p *Prober) change(edit func(*State)) {
	p.calling.Lock()
	defer p.calling.Unlock()
	p.mu.Lock()
	s := p.state
	edit(&s)
	switch {
	case s.Failed == Liveness:
	case !s.Started:
		s.Message = p.startErr
	case !s.Ready:
		s.Message = p.readyErr
	default:
		s.Message = ""
	}
	p.state = s
	told := s == p.told
	if alone := p.told; !told && p.told.Message != "" {
		alone.Message = s.Message
		told = alone == s && time.Since(p.toldAt) < messageEvery
	}
	if !told {
		p.told, p.toldAt = s, time.Now()
	}
	p.mu.Unlock()
	if !told && p.Changed != nil && p.ctx.Err() == nil {
		p.Changed(s)
	}
}
