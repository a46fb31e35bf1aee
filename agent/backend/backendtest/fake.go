// Package backendtest holds the behaviour that every backend.Backend has to
// show, as a suite that its tests call, and Fake, an engine in memory that
// passes it, for the tests of package agent. No program imports it.
package backendtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/structs"
)

// Fake is an engine in memory. Its containers run the few words of shell that
// script.go knows. It behaves as Docker does where package agent can tell.
type Fake struct {
	// Fault is called at each seam, "op" before and "op done" after the call
	// has had its effect, and fails the call with what it returns. Set it
	// before the engine is used; it may be called by many goroutines.
	Fault func(op string, ref backend.Ref) error

	mu         sync.Mutex
	down       bool
	nextID     int
	containers map[string]*process // by engine id
	images     map[string]bool
	pulling    chan struct{} // not nil: pulls wait until it is closed
	saying     map[int]func(string)
	refused    map[string]int // host ports that something else uses
	foreign    map[string]bool
	watchers   map[int]*watcher
	starts     map[backend.Ref]int
	stops      map[backend.Ref]int
	creates    map[backend.Ref]int
	pulls      int
}

// process is one container of a Fake.
type process struct {
	backend.Container
	owner   backend.Owner
	spec    structs.ContainerSpec
	manual  bool // stopped by hand: its restart policy rests
	stdout  []byte
	stderr  []byte
	changed chan struct{} // closed at the next change
}

type watcher struct {
	owner backend.Owner
	queue chan backend.Event
	end   chan struct{}
}

var _ backend.Backend = (*Fake)(nil)

// Image is an image that every Fake has.
const Image = "magnum-test/busybox:latest"

// NewFake returns an engine that has one image, Image.
func NewFake() *Fake {
	return &Fake{
		containers: make(map[string]*process), images: map[string]bool{Image: true},
		refused: make(map[string]int), foreign: make(map[string]bool), saying: make(map[int]func(string)), watchers: make(map[int]*watcher),
		starts: make(map[backend.Ref]int), stops: make(map[backend.Ref]int), creates: make(map[backend.Ref]int),
	}
}

var errDown = &backend.Failure{Reason: backend.ErrAway, Msg: "the engine does not answer"}

func notFound(engineID string) error {
	return &backend.Failure{Reason: backend.ErrNotFound, Msg: "No such container: " + engineID}
}

// fault asks the seam.
func (f *Fake) fault(op string, ref backend.Ref) error {
	if f.Fault == nil {
		return nil
	}
	return f.Fault(op, ref)
}

// do runs one call on a container, with its seams.
func (f *Fake) do(ctx context.Context, op, engineID string, call func(*process) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	f.mu.Lock()
	p := f.containers[engineID]
	var ref backend.Ref
	if p != nil {
		ref = p.Ref
	}
	f.mu.Unlock()
	if err := f.fault(op, ref); err != nil {
		return err
	}
	f.mu.Lock()
	var err error
	switch p = f.containers[engineID]; {
	case f.down:
		err = errDown
	case p == nil:
		err = notFound(engineID)
	default:
		err = call(p)
	}
	f.mu.Unlock()
	if err != nil {
		return err
	}
	return f.fault(op+" done", ref)
}

// changedLocked tells watchers and waiters.
func (f *Fake) changedLocked(p *process, kind backend.EventKind) {
	close(p.changed)
	p.changed = make(chan struct{})
	for _, w := range f.watchers {
		if w.owner == p.owner {
			select {
			case w.queue <- backend.Event{Entry: p.Entry, Kind: kind}:
			default:
				panic("backendtest: a watcher that doesn't read")
			}
		}
	}
}

// Fingerprint describes a small host.
func (f *Fake) Fingerprint(ctx context.Context) (structs.Fingerprint, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down {
		return structs.Fingerprint{}, errDown
	}
	return structs.Fingerprint{Backend: structs.BackendDocker, EngineVersion: "fake", Cores: 2, Memory: 4 << 30}, ctx.Err()
}

// List returns all containers of the owner.
func (f *Fake) List(ctx context.Context, owner backend.Owner) ([]backend.Entry, error) {
	if err := errors.Join(ctx.Err(), f.fault("list", backend.Ref{})); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down {
		return nil, errDown
	}
	var entries []backend.Entry
	for _, p := range f.containers {
		if p.owner == owner {
			entries = append(entries, p.Entry)
		}
	}
	return entries, nil
}

// Events follows what happens to the owner's containers.
func (f *Fake) Events(ctx context.Context, owner backend.Owner, ready func(), event func(backend.Event)) error {
	w := &watcher{owner: owner, queue: make(chan backend.Event, 10_000), end: make(chan struct{})}
	f.mu.Lock()
	if f.down {
		f.mu.Unlock()
		return errDown
	}
	f.nextID++
	id := f.nextID
	f.watchers[id] = w
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.watchers, id)
	}()
	ready()
	for {
		select {
		case e := <-w.queue:
			event(e)
		case <-w.end:
			return errDown
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Inspect returns the container as it is now.
func (f *Fake) Inspect(ctx context.Context, engineID string) (c *backend.Container, err error) {
	err = f.do(ctx, "inspect", engineID, func(p *process) error {
		snapshot := p.Container
		if !snapshot.Live() {
			snapshot.Addresses, snapshot.Ports = nil, nil
		}
		c = &snapshot
		return nil
	})
	return c, err
}

// Create makes a container.
func (f *Fake) Create(ctx context.Context, req backend.CreateRequest, progress func(string)) (*backend.Container, error) {
	if err := errors.Join(ctx.Err(), f.fault("create", req.Ref)); err != nil {
		return nil, err
	}
	if err := f.fetch(ctx, req.Spec, progress); err != nil {
		return nil, err
	}
	c, err := f.create(req)
	if err != nil {
		return nil, err
	}
	return c, f.fault("create done", req.Ref)
}

// fetch waits for a pull.
func (f *Fake) fetch(ctx context.Context, spec *structs.ContainerSpec, progress func(string)) error {
	f.mu.Lock()
	gate, down, have := f.pulling, f.down, f.hasImageLocked(spec.Image)
	f.mu.Unlock()
	switch {
	case down:
		return errDown
	case have && spec.PullPolicy != structs.PullAlways:
		return nil
	case spec.PullPolicy != structs.PullNever && gate != nil:
		progress("pulling " + spec.Image)
		defer f.listen(progress)()
		select {
		case <-gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if spec.PullPolicy != structs.PullNever {
		f.pulls++
	}
	if !f.hasImageLocked(spec.Image) {
		return &backend.Failure{Reason: backend.ErrNoImage, Msg: fmt.Sprintf("image %s can't be pulled: not found", spec.Image)}
	}
	return nil
}

func (f *Fake) hasImageLocked(ref string) bool {
	for have := range f.images {
		if backend.SameImage(have, ref) {
			return true
		}
	}
	return false
}

// listen lets Say reach a pull that waits.
func (f *Fake) listen(progress func(string)) (leave func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.nextID++
	id := f.nextID
	f.saying[id] = progress
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.saying, id)
	}
}

func (f *Fake) create(req backend.CreateRequest) (*backend.Container, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down {
		return nil, errDown
	}
	taken := &backend.Failure{Reason: backend.ErrNameTaken, Msg: "the host has another container named " + req.Ref.Name()}
	if f.foreign[req.Ref.Name()] {
		return nil, taken
	}
	hash := backend.Hash(req.Spec)
	for _, p := range f.containers {
		if p.Ref == req.Ref {
			if p.owner != req.Owner || p.SpecHash != hash {
				return nil, taken
			}
			c := p.Container
			return &c, nil
		}
	}
	f.nextID++
	p := &process{owner: req.Owner, spec: *req.Spec, changed: make(chan struct{})}
	p.Entry = backend.Entry{Ref: req.Ref, EngineID: fmt.Sprintf("e%d", f.nextID)}
	p.SpecHash, p.State = hash, backend.StateCreated
	f.containers[p.EngineID] = p
	f.creates[req.Ref]++
	f.changedLocked(p, backend.EventCreated)
	c := p.Container
	return &c, nil
}

// Start starts the process.
func (f *Fake) Start(ctx context.Context, engineID string) error {
	return f.do(ctx, "start", engineID, func(p *process) error {
		if p.Live() {
			return nil
		}
		for _, port := range p.spec.Ports {
			if f.refused[fmt.Sprint(port.HostPort)] > 0 {
				return &backend.Failure{Reason: backend.ErrPortTaken, Msg: fmt.Sprintf("Bind for 0.0.0.0:%d failed: port is already allocated", port.HostPort)}
			}
		}
		p.RestartCount, p.manual = 0, false
		f.startLocked(p)
		return nil
	})
}

func (f *Fake) startLocked(p *process) {
	f.starts[p.Ref]++
	now := time.Now().UTC()
	if !now.After(p.StartedAt) {
		now = p.StartedAt.Add(time.Nanosecond) // two starts in one instant of a fake clock
	}
	p.State, p.StartedAt, p.ExitCode, p.OOMKilled = backend.StateRunning, now, 0, false
	p.Addresses, p.Ports = []string{"172.18.0.2"}, slices.Clone(p.spec.Ports)
	for i := range p.Ports {
		if p.Ports[i].HostPort == 0 {
			p.Ports[i].HostPort = 32768 + f.nextID
		}
	}
	f.changedLocked(p, backend.EventChanged)
	run := runScript(p.spec.Command, nil)
	p.stdout, p.stderr = append(p.stdout, run.stdout...), append(p.stderr, run.stderr...)
	if !run.lasts {
		f.exitLocked(p, run.exitCode)
	}
}

// exitLocked ends the process; its policy may start it again.
func (f *Fake) exitLocked(p *process, code int) {
	p.State, p.ExitCode, p.FinishedAt = backend.StateExited, code, time.Now().UTC()
	f.changedLocked(p, backend.EventChanged)
	policy := p.spec.RestartPolicy
	again := policy.Always() || policy.Name == structs.RestartOnFailure && code != 0 && (policy.MaxRetries == 0 || p.RestartCount < policy.MaxRetries)
	if again && !p.manual && p.RestartCount < 10 { // the real one would slow down instead
		p.RestartCount++
		f.startLocked(p)
	}
}

// Stop ends the process.
func (f *Fake) Stop(ctx context.Context, engineID string, timeout time.Duration) error {
	return f.do(ctx, "stop", engineID, func(p *process) error { f.endLocked(p); return nil })
}

// Kill ends the process.
func (f *Fake) Kill(ctx context.Context, engineID string) error {
	return f.do(ctx, "kill", engineID, func(p *process) error { f.endLocked(p); return nil })
}

func (f *Fake) endLocked(p *process) {
	if p.Live() {
		p.manual = true
		f.stops[p.Ref]++
		f.exitLocked(p, 137)
	}
}

// Pause freezes the process.
func (f *Fake) Pause(ctx context.Context, engineID string) error {
	return f.do(ctx, "pause", engineID, func(p *process) error {
		switch p.State {
		case backend.StatePaused:
			return nil
		case backend.StateRunning:
			p.State = backend.StatePaused
			f.changedLocked(p, backend.EventChanged)
			return nil
		}
		return &backend.Failure{Reason: backend.ErrNotRunning, Msg: "Container " + engineID + " is not running"}
	})
}

// Unpause thaws the process.
func (f *Fake) Unpause(ctx context.Context, engineID string) error {
	return f.do(ctx, "unpause", engineID, func(p *process) error {
		if p.State == backend.StatePaused {
			p.State = backend.StateRunning
			f.changedLocked(p, backend.EventChanged)
		}
		return nil
	})
}

// Remove deletes the container.
func (f *Fake) Remove(ctx context.Context, engineID string) error {
	err := f.do(ctx, "remove", engineID, func(p *process) error { f.removeLocked(p); return nil })
	if errors.Is(err, backend.ErrNotFound) {
		return nil
	}
	return err
}

func (f *Fake) removeLocked(p *process) {
	if p.Live() {
		p.manual = true
		f.exitLocked(p, 137)
	}
	delete(f.containers, p.EngineID)
	f.changedLocked(p, backend.EventRemoved)
}

// Logs writes what the process has written, a line at a time.
func (f *Fake) Logs(ctx context.Context, engineID string, req structs.LogsRequest, stdout, stderr io.Writer) error {
	var outDone, errDone int
	for first := true; ; first = false {
		var out, errs []byte
		var live bool
		var changed chan struct{}
		err := f.do(ctx, "logs", engineID, func(p *process) error {
			out, errs, live, changed = p.stdout[outDone:], p.stderr[errDone:], p.Live(), p.changed
			return nil
		})
		if err != nil {
			return err
		}
		outDone, errDone = outDone+len(out), errDone+len(errs)
		if first && req.Tail >= 0 {
			out, errs = lastLines(out, req.Tail), lastLines(errs, req.Tail)
		}
		if req.Stdout && len(out) > 0 {
			if _, err := stdout.Write(out); err != nil {
				return err
			}
		}
		if req.Stderr && len(errs) > 0 {
			if _, err := stderr.Write(errs); err != nil {
				return err
			}
		}
		if !req.Follow || !live {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func lastLines(b []byte, n int) []byte {
	lines := strings.SplitAfter(string(b), "\n")
	if lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	return []byte(strings.Join(lines[max(0, len(lines)-n):], ""))
}

// Exec runs a command.
func (f *Fake) Exec(ctx context.Context, engineID string, req structs.ExecRequest, s backend.ExecStreams) (int, error) {
	err := f.do(ctx, "exec", engineID, func(p *process) error {
		if p.State != backend.StateRunning {
			return &backend.Failure{Reason: backend.ErrNotRunning, Msg: "Container " + engineID + " is not running"}
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	run := runScript(req.Command, req.Env)
	if run.cat && s.Stdin != nil {
		if _, err := io.Copy(s.Stdout, s.Stdin); err != nil {
			return 0, err
		}
	}
	_, _ = s.Stdout.Write(run.stdout)
	if req.TTY {
		_, _ = s.Stdout.Write(run.stderr)
	} else {
		_, _ = s.Stderr.Write(run.stderr)
	}
	if run.lasts {
		<-ctx.Done()
		return 0, ctx.Err()
	}
	return run.exitCode, nil
}

// Close does nothing.
func (f *Fake) Close() error { return nil }
