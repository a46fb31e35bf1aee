package backendtest

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/backend/backendtest/userland"
	"github.com/stackforge/magnum/structs"
)

// This file has the changes of a Fake's containers.

// NoProgram is a program that no image has.
const NoProgram = "/no/program"

// Start starts the process.
func (f *runtime) Start(ctx context.Context, engineID string) error {
	return f.onContainer(ctx, "start", engineID, func(p *process) error {
		if p.Live() {
			return nil
		}
		for _, port := range p.spec.Ports {
			if f.refused[fmt.Sprint(port.HostPort)] > 0 {
				return &backend.Failure{Reason: backend.ErrPortTaken,
					Msg: fmt.Sprintf("Bind for 0.0.0.0:%d failed: port is already allocated", port.HostPort)}
			}
		}
		if err := checkInfra(f.engine, p); err != nil {
			return err
		}
		if argv := slices.Concat([]string(p.spec.Entrypoint), p.spec.Command); len(argv) > 0 && argv[0] == NoProgram {
			return &backend.Failure{Reason: backend.ErrStart, Msg: fmt.Sprintf("exec: %q: no such file or directory", argv[0])}
		}
		p.RestartCount, p.manual = 0, false
		f.startLocked(p)
		return nil
	})
}

func (f *engine) startLocked(p *process) {
	f.starts[p.Ref]++
	now := time.Now().UTC()
	if !now.After(p.StartedAt) {
		now = p.StartedAt.Add(time.Nanosecond) // two starts in one instant of a fake clock
	}
	p.State, p.StartedAt, p.ExitCode, p.OOMKilled = backend.StateRunning, now, 0, false
	f.checkLocked(p)
	p.Addresses, p.Ports = []string{f.address}, slices.Clone(p.spec.Ports)
	if p.Infra != "" {
		p.Addresses = nil
	}
	for i := range p.Ports {
		if p.Ports[i].HostPort == 0 {
			p.Ports[i].HostPort = 32768 + f.nextID
		}
	}
	p.Detached = p.parted
	if p.parted {
		p.Addresses, p.Ports = nil, nil
	} else {
		f.connectedLocked(p)
	}
	f.changedLocked(p, backend.EventChanged)
	if code, ok := scripted(f, p); ok {
		f.exitLocked(p, code)
		return
	}
	run := f.runLocked(p, slices.Concat([]string(p.spec.Entrypoint), p.spec.Command), nil)
	p.stdout, p.stderr = append(p.stdout, run.Stdout...), append(p.stderr, run.Stderr...)
	p.reads = run.Cat && p.spec.Stdin
	if !run.Lasts && !p.reads {
		f.exitLocked(p, run.ExitCode)
	}
}

// checkLocked starts the healthcheck of a new run, which has one result.
func (f *engine) checkLocked(p *process) {
	p.Health = ""
	h := p.spec.Healthcheck
	if h == nil || h.Test.Text == "" && len(h.Test.Args) == 0 {
		return
	}
	p.Health = "starting"
	script := h.Test.Args
	if h.Test.Text != "" {
		script = []string{"sh", "-c", h.Test.Text}
	}
	after, result := time.Duration(cmp.Or(h.Interval, 30))*time.Second, "healthy"
	if userland.Run(script, nil, nil).ExitCode != 0 {
		after, result = after*time.Duration(cmp.Or(h.Retries, 3)), "unhealthy"
	}
	run := p.StartedAt
	time.AfterFunc(after, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if p.Live() && p.StartedAt.Equal(run) {
			p.Health = result
			f.changedLocked(p, backend.EventChanged)
		}
	})
}

// exitLocked ends the process; its restart policy may start it again.
func (f *engine) exitLocked(p *process, code int) {
	p.State, p.ExitCode, p.FinishedAt = backend.StateExited, code, time.Now().UTC()
	p.last = code
	f.changedLocked(p, backend.EventChanged)
	f.connectedLocked(p)
	endPod(f, p)
	if p.pod != nil {
		return // the agent restarts it
	}
	policy := p.spec.RestartPolicy
	again := policy.Always() || policy.Name == structs.RestartOnFailure && code != 0 &&
		(policy.MaxRetries == 0 || p.RestartCount < policy.MaxRetries)
	if again && p.spec.Exclusive == structs.ExclusiveNo && !p.manual && p.RestartCount < 10 { // the real one would slow down instead
		p.RestartCount++
		f.startLocked(p)
	}
}

// Reconnect connects a running container again.
func (f *runtime) Reconnect(ctx context.Context, engineID string) error {
	return f.onContainer(ctx, "reconnect", engineID, func(p *process) error {
		if p.Live() && p.Detached {
			p.Detached, p.parted, p.Addresses, p.Ports = false, false, []string{f.address}, slices.Clone(p.spec.Ports)
			f.connectedLocked(p)
		}
		return nil
	})
}

// Stop ends the process, after the timeout if it ignores stops.
func (f *runtime) Stop(ctx context.Context, engineID string, timeout time.Duration) error {
	f.mu.Lock()
	p := f.containers[engineID]
	waits := p != nil && p.ignoresStop && p.Live()
	f.mu.Unlock()
	if waits {
		timer := time.NewTimer(timeout)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return f.onContainer(ctx, "stop", engineID, func(p *process) error {
		code := 137
		if p.ImageID == infraImage {
			code = 0
		}
		f.endLocked(p, code)
		return nil
	})
}

// Kill ends the process.
func (f *runtime) Kill(ctx context.Context, engineID string) error {
	return f.onContainer(ctx, "kill", engineID, func(p *process) error { f.endLocked(p, 137); return nil })
}

func (f *engine) endLocked(p *process, code int) {
	if p.Live() {
		p.manual = true
		f.stops[p.Ref]++
		f.exitLocked(p, code)
	}
}

// Pause freezes the process.
func (f *runtime) Pause(ctx context.Context, engineID string) error {
	return f.onContainer(ctx, "pause", engineID, func(p *process) error {
		switch p.State {
		case backend.StatePaused:
			return nil
		case backend.StateRunning:
			p.State = backend.StatePaused
			f.changedLocked(p, backend.EventChanged)
			return nil
		}
		return notRunning()
	})
}

// Unpause thaws the process.
func (f *runtime) Unpause(ctx context.Context, engineID string) error {
	return f.onContainer(ctx, "unpause", engineID, func(p *process) error {
		if p.State == backend.StatePaused {
			p.State = backend.StateRunning
			f.changedLocked(p, backend.EventChanged)
		}
		return nil
	})
}

// Signal sends a signal. The processes of a Fake react only to SIGKILL.
func (f *runtime) Signal(ctx context.Context, engineID, signal string) error {
	return f.onContainer(ctx, "signal", engineID, func(p *process) error {
		_, err := structs.ParseSignal(signal)
		switch {
		case !p.Live():
			return notRunning()
		case err != nil:
			return &backend.Failure{Reason: backend.ErrInvalid, Msg: "Invalid signal: " + signal}
		}
		f.signals[p.Ref] = append(f.signals[p.Ref], signal)
		p.manual = true
		switch {
		case signal == "SIGKILL":
			f.exitLocked(p, 137)
		case p.State == backend.StatePaused:
			p.State = backend.StateRunning
			f.changedLocked(p, backend.EventChanged)
		}
		return nil
	})
}

// minMemory is the least memory limit, and maxMilliCPU the highest CPU limit.
const (
	minMemory   = 6 << 20
	maxMilliCPU = 2000
)

// Update changes the limits.
func (f *runtime) Update(ctx context.Context, engineID string, limits backend.Limits) error {
	return f.onContainer(ctx, "update", engineID, func(p *process) error {
		if limits.Memory != 0 && limits.Memory < minMemory || limits.MilliCPU > maxMilliCPU {
			return &backend.Failure{Reason: backend.ErrInvalid, Msg: fmt.Sprintf("the engine can't give %+v", limits)}
		}
		f.updates[p.Ref]++
		p.Limits = limits
		f.changedLocked(p, backend.EventChanged)
		return nil
	})
}
