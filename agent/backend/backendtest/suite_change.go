package backendtest

import (
	"context"
	"time"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/structs"
)

// This file has the tests of changes of a container.

func testSignal(x *env) {
	spec := Sleeper()
	spec.RestartPolicy = structs.RestartPolicy{Name: structs.RestartAlways}
	c := x.create(spec)
	x.wantReason(x.engine.Signal(x.ctx, c.EngineID, "SIGHUP"), backend.ErrNotRunning)
	x.must(x.engine.Start(x.ctx, c.EngineID), "start")
	before := x.look(c)
	// sleep is process 1 here, and ignores signals that have no handler.
	x.must(x.engine.Signal(x.ctx, c.EngineID, "SIGHUP"), "signal")
	x.wantReason(x.engine.Signal(x.ctx, c.EngineID, "SIGNONE"), backend.ErrInvalid)
	if now := x.look(c); now.State != backend.StateRunning || !now.StartedAt.Equal(before.StartedAt) {
		x.Fatalf("after SIGHUP it is %+v", now)
	}
	// SIGKILL is waited for, and the engine does not restart the process.
	x.must(x.engine.Signal(x.ctx, c.EngineID, "SIGKILL"), "signal")
	if now := x.look(c); now.State != backend.StateExited || now.ExitCode != 137 {
		x.Fatalf("after SIGKILL it is %+v", now)
	}
	x.wantReason(x.engine.Signal(x.ctx, c.EngineID, "SIGKILL"), backend.ErrNotRunning)
}

func testSignalPaused(x *env) {
	for signal, want := range map[string]backend.State{"SIGHUP": backend.StateRunning, "SIGKILL": backend.StateExited} {
		c := x.started(Sleeper())
		x.must(x.engine.Pause(x.ctx, c.EngineID), "pause")
		x.must(x.engine.Signal(x.ctx, c.EngineID, signal), "signal")
		x.until(c, signal+" of a paused one has its effect", func(c *backend.Container) bool { return c.State == want })
	}
}

func testLimits(x *env) {
	spec := Sleeper()
	spec.Memory, spec.MilliCPU = 32<<20, 250
	req := x.request(spec)
	c, err := x.engine.Create(x.ctx, req, func(string) {})
	x.must(err, "create")
	check := func(want backend.Limits) {
		x.Helper()
		if got := x.look(c).Limits; got != want {
			x.Fatalf("limits are %+v, want %+v", got, want)
		}
	}
	check(backend.LimitsOf(spec))
	change := func(want backend.Limits) {
		x.Helper()
		x.must(x.engine.Update(x.ctx, c.EngineID, want), "update")
		check(want)
	}
	change(backend.Limits{Memory: 16 << 20, MilliCPU: 500})
	x.must(x.engine.Start(x.ctx, c.EngineID), "start")
	started := x.look(c)
	for _, l := range []backend.Limits{{Memory: 64 << 20, MilliCPU: 1000}, {Memory: 16 << 20, MilliCPU: 100}, {Memory: 16 << 20},
		{MilliCPU: 100}, {}, {}, {Memory: 32 << 20, MilliCPU: 10}} {
		change(l)
	}
	for _, l := range []backend.Limits{{Memory: 1}, {MilliCPU: 1e6}} {
		x.wantReason(x.engine.Update(x.ctx, c.EngineID, l), backend.ErrInvalid)
	}
	if now := x.look(c); now.State != backend.StateRunning || !now.StartedAt.Equal(started.StartedAt) {
		x.Fatalf("new limits have ended it: %+v", now)
	}
	// The spec of the container stays, whatever the limits.
	again, err := x.engine.Create(x.ctx, req, func(string) {})
	x.must(err, "create again")
	if again.EngineID != c.EngineID || again.Limits != x.look(c).Limits {
		x.Fatalf("create again gives %+v", again)
	}
	change(backend.Limits{})
	x.must(x.engine.Stop(x.ctx, c.EngineID, 0), "stop")
	x.must(x.engine.Start(x.ctx, c.EngineID), "start without limits")
	check(backend.Limits{})
}

func testHealth(x *env) {
	check := func(test structs.Command) *structs.ContainerSpec {
		spec := Sleeper()
		spec.Healthcheck = &structs.Healthcheck{Test: test, Interval: 1, Timeout: 20, Retries: 1}
		return spec
	}
	ctx, cancel := context.WithCancel(x.ctx)
	events := make(chan backend.Event, 100)
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- x.engine.Events(ctx, x.owner, func() { close(ready) }, func(e backend.Event) { events <- e })
	}()
	<-ready
	for health, test := range map[string]structs.Command{
		"healthy":   {Args: []string{"sh", "-c", "exit 0"}},
		"unhealthy": {Text: "echo bad; exit 1"},
		"":          {},
	} {
		c := x.create(check(test))
		if now := x.look(c); now.Health != "" {
			x.Fatalf("health of one that does not run is %q", now.Health)
		}
		x.must(x.engine.Start(x.ctx, c.EngineID), "start")
		for seen := health == ""; !seen; {
			select {
			case e := <-events:
				seen = e.Entry == c.Entry && e.Kind == backend.EventChanged && x.look(c).Health == health
			case <-time.After(patience):
				x.Fatalf("no event for %s; it is %q", health, x.look(c).Health)
			}
		}
		x.must(x.engine.Kill(x.ctx, c.EngineID), "kill")
		if now := x.look(c); now.Health != "" {
			x.Fatalf("health of one that has ended is %q", now.Health)
		}
	}
	cancel()
	<-ended
}
