package backendtest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/structs"
)

// Suite runs the suites of all interfaces of package backend that b implements.
// b is an engine that has Image. The suites make containers under owners and
// projects of their own, and remove them.
func Suite(t *testing.T, b backend.Backend) {
	t.Run("Runtime", func(t *testing.T) { Runtime(t, b) })
	if c, ok := b.(backend.Consoles); ok {
		t.Run("Consoles", func(t *testing.T) { Consoles(t, b, c) })
	}
	if i, ok := b.(backend.Images); ok {
		t.Run("Images", func(t *testing.T) { Images(t, b, i) })
	}
	if v, ok := b.(backend.Volumes); ok {
		t.Run("Volumes", func(t *testing.T) { Volumes(t, b, v) })
	}
	if p, ok := b.(backend.Pods); ok {
		if c, ok := b.(backend.Consoles); ok { // without them nobody sees what a pod shares
			t.Run("Pods", func(t *testing.T) { Pods(t, b, p, c) })
		}
	}
}

// Runtime tests what every backend has to offer.
func Runtime(t *testing.T, b backend.Backend) {
	for name, test := range map[string]func(*env){
		"CreateToRemove": testCreateToRemove,
		"CreateTwice":    testCreateTwice,
		"Parts":          testParts,
		"Lease":          testLease,
		"OtherSpec":      testOtherSpec,
		"Owners":         testOwners,
		"Missing":        testMissing,
		"NoImage":        testNoImage,
		"PauseTwice":     testPauseTwice,
		"PauseStopped":   testPauseStopped,
		"ExitCode":       testExitCode,
		"RestartPolicy":  testRestartPolicy,
		"Events":         testEvents,
		"Ports":          testPorts,
		"CantStart":      testCantStart,
		"Fingerprint":    testFingerprint,
		"Signal":         testSignal,
		"SignalPaused":   testSignalPaused,
		"Limits":         testLimits,
		"Health":         testHealth,
	} {
		t.Run(name, func(t *testing.T) { test(newEnv(t, b)) })
	}
}

// Consoles tests the consoles of the containers that b runs.
func Consoles(t *testing.T, b backend.Backend, c backend.Consoles) {
	for name, test := range map[string]func(*consoleEnv){
		"Missing":         testMissingConsoles,
		"Logs":            testLogs,
		"LogsFollow":      testLogsFollow,
		"Exec":            testExec,
		"ExecStopped":     testExecStopped,
		"ExecCancelled":   testExecCancelled,
		"Attach":          testAttach,
		"AttachInputEnds": testAttachInputEnds,
		"AttachLeft":      testAttachLeft,
		"Stats":           testStats,
		"StatsStream":     testStatsStream,
		"Top":             testTop,
		"Archive":         testArchive,
		"ArchiveBroken":   testArchiveBroken,
		"NotRunning":      testNotRunning,
		"Paused":          testPaused,
	} {
		t.Run(name, func(t *testing.T) { test(&consoleEnv{newEnv(t, b), c}) })
	}
}

// Images tests the images of the engine on which b runs containers.
func Images(t *testing.T, b backend.Backend, i backend.Images) {
	for name, test := range map[string]func(*imageEnv){
		"Use":        testImages,
		"Event":      testImageEvent,
		"Pull":       testImagePull,
		"LoadBroken": testImageLoadBroken,
		"Disk":       testDisk,
	} {
		t.Run(name, func(t *testing.T) { test(&imageEnv{newEnv(t, b), i}) })
	}
}

// Volumes tests the volumes of the containers that b runs.
func Volumes(t *testing.T, b backend.Backend, v backend.Volumes) {
	t.Run("Use", func(t *testing.T) { testVolumes(&volumeEnv{newEnv(t, b), v}) })
}

// patience is the longest wait for a condition.
const patience = time.Minute

// env is the environment of one test: an owner and a project of its own.
type env struct {
	testing.TB
	engine backend.Backend
	ctx    context.Context
	owner  backend.Owner
	proj   string
}

// The environments for the optional interfaces.
type (
	consoleEnv struct {
		*env
		consoles backend.Consoles
	}
	imageEnv struct {
		*env
		images backend.Images
	}
	volumeEnv struct {
		*env
		volumes backend.Volumes
	}
)

func newEnv(t testing.TB, b backend.Backend) *env {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	t.Cleanup(cancel)
	x := &env{TB: t, engine: b, ctx: ctx, owner: backend.Owner{ClusterID: structs.NewID(), HostID: structs.NewID()},
		proj: structs.NewID()}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		entries, err := b.List(ctx, x.owner)
		if err != nil {
			t.Errorf("listing what the test left: %v", err)
		}
		for _, e := range entries {
			if err := b.Remove(ctx, e.EngineID); err != nil {
				t.Errorf("removing %v: %v", e.Ref, err)
			}
		}
	})
	return x
}

// Sleeper returns a spec whose process runs until it is stopped.
func Sleeper() *structs.ContainerSpec {
	return &structs.ContainerSpec{Image: Image, Command: []string{"sleep", "600"},
		RestartPolicy: structs.RestartPolicy{Name: structs.RestartNo}}
}

func script(text string) *structs.ContainerSpec {
	spec := Sleeper()
	spec.Command = []string{"sh", "-c", text}
	return spec
}

func (x *env) request(spec *structs.ContainerSpec) backend.CreateRequest {
	return backend.CreateRequest{Owner: x.owner, Ref: structs.ContainerRef(structs.NewID(), 7), ProjectID: x.proj, Name: "a", Spec: spec}
}

func (x *env) must(err error, doing string) {
	x.Helper()
	if err != nil {
		x.Fatalf("%s: %v", doing, err)
	}
}

func (x *env) create(spec *structs.ContainerSpec) *backend.Container {
	x.Helper()
	c, err := x.engine.Create(x.ctx, x.request(spec), func(string) {})
	x.must(err, "create")
	return c
}

func (x *env) started(spec *structs.ContainerSpec) *backend.Container {
	x.Helper()
	c := x.create(spec)
	x.must(x.engine.Start(x.ctx, c.EngineID), "start")
	return x.look(c)
}

func (x *env) look(c *backend.Container) *backend.Container {
	x.Helper()
	now, err := x.engine.Inspect(x.ctx, c.EngineID)
	x.must(err, "inspect")
	return now
}

// until waits until the container satisfies ok.
func (x *env) until(c *backend.Container, what string, ok func(*backend.Container) bool) *backend.Container {
	x.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		now := x.look(c)
		if ok(now) {
			return now
		}
		if time.Now().After(deadline) {
			x.Fatalf("not within %s: %s; it is %+v", patience, what, now)
		}
	}
}

func (x *env) wantState(c *backend.Container, want backend.State) {
	x.Helper()
	if c.State != want {
		x.Fatalf("state is %q, want %q", c.State, want)
	}
}

func (x *env) wantReason(err, reason error) {
	x.Helper()
	if !errors.Is(err, reason) {
		x.Fatalf("error is %v, want %v", err, reason)
	}
	if structs.CodeOf(err) == structs.CodeInternal {
		x.Fatalf("error %v has no code for its user", err)
	}
}

func testCreateToRemove(x *env) {
	c := x.create(Sleeper())
	if now := x.look(c); now.State != backend.StateCreated || !now.StartedAt.IsZero() || now.Live() {
		x.Fatalf("after create it is %+v", now)
	}
	x.must(x.engine.Start(x.ctx, c.EngineID), "start")
	first := x.look(c)
	x.wantState(first, backend.StateRunning)
	if first.StartedAt.IsZero() || len(first.Addresses) == 0 || !first.Live() {
		x.Fatalf("after start it is %+v", first)
	}
	x.must(x.engine.Start(x.ctx, c.EngineID), "second start")
	if again := x.look(c); !again.StartedAt.Equal(first.StartedAt) {
		x.Fatal("a second start has started it again")
	}
	x.must(x.engine.Stop(x.ctx, c.EngineID, 0), "stop")
	stopped := x.look(c)
	x.wantState(stopped, backend.StateExited)
	if stopped.ExitCode == 0 || stopped.FinishedAt.Before(first.StartedAt) {
		x.Fatalf("after stop it is %+v", stopped)
	}
	x.must(x.engine.Stop(x.ctx, c.EngineID, 0), "second stop")
	x.must(x.engine.Kill(x.ctx, c.EngineID), "kill of a stopped one")
	x.must(x.engine.Start(x.ctx, c.EngineID), "start after stop")
	if again := x.look(c); !again.StartedAt.After(first.StartedAt) {
		x.Fatal("a start after a stop has not moved StartedAt")
	}
	x.must(x.engine.Kill(x.ctx, c.EngineID), "kill")
	x.until(c, "killed", func(c *backend.Container) bool { return c.State == backend.StateExited })
	x.must(x.engine.Remove(x.ctx, c.EngineID), "remove")
	x.must(x.engine.Remove(x.ctx, c.EngineID), "second remove")
	_, err := x.engine.Inspect(x.ctx, c.EngineID)
	x.wantReason(err, backend.ErrNotFound)
	running := x.started(Sleeper())
	x.must(x.engine.Remove(x.ctx, running.EngineID), "remove of a running one")
}

func testCreateTwice(x *env) {
	req := x.request(Sleeper())
	first, err := x.engine.Create(x.ctx, req, func(string) {})
	x.must(err, "create")
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			again, err := x.engine.Create(x.ctx, req, func(string) {})
			if err != nil || again.EngineID != first.EngineID || again.Ref != req.Ref || again.SpecHash != backend.Hash(req.Spec) {
				x.Errorf("create again: %+v, %v; want the first, %s", again, err, first.EngineID)
			}
		})
	}
	wait.Wait()
	entries, err := x.engine.List(x.ctx, x.owner)
	x.must(err, "list")
	if len(entries) != 1 || entries[0].Ref != first.Ref || entries[0].EngineID != first.EngineID {
		x.Fatalf("list is %v, want one entry %v", entries, first.Entry)
	}
	if e := entries[0]; e.Name != backend.NameOf(e.Ref) || time.Since(e.CreatedAt).Abs() > time.Minute || e.Inherited {
		x.Fatalf("its name, age and origin are %+v", e)
	}
}

// testLease: every view of a container tells whether it needs a lease.
func testLease(x *env) {
	for _, kind := range []structs.Exclusive{structs.ExclusiveNo, structs.ExclusiveYes, structs.ExclusiveLease} {
		spec := Sleeper()
		spec.Exclusive = kind
		c, err := x.engine.Create(x.ctx, x.request(spec), func(string) {})
		x.must(err, "create")
		again, err := x.engine.Inspect(x.ctx, c.EngineID)
		x.must(err, "inspect")
		entries, err := x.engine.List(x.ctx, x.owner)
		x.must(err, "list")
		at := slices.IndexFunc(entries, func(e backend.Entry) bool { return e.EngineID == c.EngineID })
		if at < 0 {
			x.Fatalf("%s is not among %+v", c.EngineID, entries)
		}
		if want := kind == structs.ExclusiveLease; again.Lease != want || entries[at].Lease != want {
			x.Errorf("exclusive %q: Inspect says lease %v, List %v", kind, again.Lease, entries[at].Lease)
		}
	}
}

// testParts: the parts of a workload are separate containers, and so are workloads of
// another kind with the same ID.
func testParts(x *env) {
	id := structs.NewID()
	pod := structs.Ref{Kind: structs.WorkloadPod, ID: id, Epoch: 7}
	refs := []structs.Ref{structs.ContainerRef(id, 7)}
	for _, name := range []string{"web", "log"} {
		pod.Part = name
		refs = append(refs, pod)
	}
	made := make(map[structs.Ref]string)
	for _, ref := range refs {
		req := x.request(Sleeper())
		req.Ref = ref
		for range 2 {
			c, err := x.engine.Create(x.ctx, req, func(string) {})
			x.must(err, "create")
			if made[ref] == "" {
				made[ref] = c.EngineID
			}
			if c.Ref != ref || c.EngineID != made[ref] {
				x.Fatalf("create of %s gives %s, %s", ref, c.Ref, c.EngineID)
			}
		}
	}
	x.must(x.engine.Start(x.ctx, made[refs[1]]), "start")
	for i, ref := range refs {
		c, err := x.engine.Inspect(x.ctx, made[ref])
		x.must(err, "inspect")
		if c.Ref != ref || c.Live() != (i == 1) {
			x.Fatalf("%s is %+v", ref, c)
		}
	}
	entries, err := x.engine.List(x.ctx, x.owner)
	x.must(err, "list")
	for _, e := range entries {
		if made[e.Ref] != e.EngineID || e.Name != backend.NameOf(e.Ref) {
			x.Fatalf("listed is %+v", e)
		}
		delete(made, e.Ref)
	}
	if len(made) != 0 {
		x.Fatalf("not listed are %v", made)
	}
	owners, err := x.engine.Owners(x.ctx)
	x.must(err, "owners")
	if !slices.Contains(owners, x.owner) {
		x.Fatalf("the owner is not among %v", owners)
	}
}

func testOtherSpec(x *env) {
	req := x.request(Sleeper())
	_, err := x.engine.Create(x.ctx, req, func(string) {})
	x.must(err, "create")
	req.Spec = script("sleep 5")
	_, err = x.engine.Create(x.ctx, req, func(string) {})
	x.wantReason(err, backend.ErrNameTaken)
	if !strings.Contains(err.Error(), backend.NameOf(req.Ref)) {
		x.Fatalf("%q does not name %s", err, backend.NameOf(req.Ref))
	}
}

func testOwners(x *env) {
	c := x.create(Sleeper())
	for _, other := range []backend.Owner{
		{ClusterID: structs.NewID(), HostID: x.owner.HostID},
		{ClusterID: x.owner.ClusterID, HostID: structs.NewID()},
	} {
		entries, err := x.engine.List(x.ctx, other)
		x.must(err, "list")
		if len(entries) != 0 {
			x.Fatalf("owner %v sees %v", other, entries)
		}
		req := x.request(Sleeper())
		req.Owner, req.Ref = other, c.Ref
		_, err = x.engine.Create(x.ctx, req, func(string) {})
		x.wantReason(err, backend.ErrNameTaken)
	}
}

func testMissing(x *env) {
	id := strings.Repeat("0", 64)
	_, err := x.engine.Inspect(x.ctx, id)
	x.wantReason(err, backend.ErrNotFound)
	x.wantReason(x.engine.Start(x.ctx, id), backend.ErrNotFound)
	x.wantReason(x.engine.Stop(x.ctx, id, 0), backend.ErrNotFound)
	x.wantReason(x.engine.Kill(x.ctx, id), backend.ErrNotFound)
	x.wantReason(x.engine.Signal(x.ctx, id, "SIGHUP"), backend.ErrNotFound)
	x.wantReason(x.engine.Update(x.ctx, id, backend.Limits{Memory: 64 << 20}), backend.ErrNotFound)
	x.wantReason(x.engine.Pause(x.ctx, id), backend.ErrNotFound)
	x.wantReason(x.engine.Unpause(x.ctx, id), backend.ErrNotFound)
	x.must(x.engine.Remove(x.ctx, id), "remove")
}

func testMissingConsoles(x *consoleEnv) {
	id := strings.Repeat("0", 64)
	x.wantReason(x.consoles.Logs(x.ctx, id, structs.LogsRequest{Stdout: true, Tail: -1},
		backend.LogStreams{Stdout: io.Discard, Stderr: io.Discard}), backend.ErrNotFound)
	_, err := x.consoles.Exec(x.ctx, id, structs.ExecRequest{Command: []string{"true"}},
		backend.ExecStreams{Stdout: io.Discard, Stderr: io.Discard})
	x.wantReason(err, backend.ErrNotFound)
	_, err = x.consoles.Attach(x.ctx, id, structs.Resize{}, backend.ExecStreams{Stdout: io.Discard, Stderr: io.Discard})
	x.wantReason(err, backend.ErrNotFound)
	x.wantReason(x.consoles.Stats(x.ctx, id, false, func(structs.StatsBody) error { return nil }), backend.ErrNotFound)
	_, err = x.consoles.Top(x.ctx, id, "")
	x.wantReason(err, backend.ErrNotFound)
	x.wantReason(x.consoles.ArchiveGet(x.ctx, id, "/tmp", io.Discard), backend.ErrNotFound)
	x.wantReason(x.consoles.ArchivePut(x.ctx, id, "/tmp", strings.NewReader("")), backend.ErrNotFound)
}

func testNoImage(x *env) {
	spec := Sleeper()
	spec.Image, spec.PullPolicy = "magnum-test/there-is-none:1", structs.PullNever
	_, err := x.engine.Create(x.ctx, x.request(spec), func(string) {})
	x.wantReason(err, backend.ErrNoImage)
	if !strings.Contains(err.Error(), spec.Image) {
		x.Fatalf("%q does not name the image", err)
	}
	none := noRegistry()
	for _, policy := range []string{structs.PullIfNotPresent, structs.PullNever, structs.PullAlways} {
		err := x.engine.FetchImage(x.ctx, "p", &structs.ContainerSpec{Image: none, PullPolicy: policy}, nil, func(string) {})
		x.wantReason(err, backend.ErrNoImage)
	}
	x.must(x.engine.FetchImage(x.ctx, "p", &structs.ContainerSpec{Image: Image, PullPolicy: structs.PullNever}, nil, func(string) {}),
		"a fetch of what is there")
}

func testPauseTwice(x *env) {
	c := x.started(Sleeper())
	for range 2 {
		x.must(x.engine.Pause(x.ctx, c.EngineID), "pause")
		x.wantState(x.look(c), backend.StatePaused)
	}
	for range 2 {
		x.must(x.engine.Unpause(x.ctx, c.EngineID), "unpause")
		now := x.look(c)
		x.wantState(now, backend.StateRunning)
		if !now.StartedAt.Equal(c.StartedAt) {
			x.Fatal("pausing has started it again")
		}
	}
}

func testPauseStopped(x *env) {
	c := x.create(Sleeper())
	x.wantReason(x.engine.Pause(x.ctx, c.EngineID), backend.ErrNotRunning)
}

func testExitCode(x *env) {
	c := x.create(script("exit 3"))
	x.must(x.engine.Start(x.ctx, c.EngineID), "start")
	now := x.until(c, "exited", func(c *backend.Container) bool { return c.State == backend.StateExited })
	// An engine may note the end of a quick run a moment before its start.
	if now.ExitCode != 3 || now.StartedAt.IsZero() || now.FinishedAt.IsZero() || now.RestartCount != 0 {
		x.Fatalf("it is %+v", now)
	}
}

func testRestartPolicy(x *env) {
	spec := script("exit 4")
	spec.RestartPolicy = structs.RestartPolicy{Name: structs.RestartOnFailure, MaxRetries: 2}
	c := x.create(spec)
	x.must(x.engine.Start(x.ctx, c.EngineID), "start")
	now := x.until(c, "given up", func(c *backend.Container) bool { return c.State == backend.StateExited && c.RestartCount == 2 })
	if now.ExitCode != 4 {
		x.Fatalf("exit code is %d, want 4", now.ExitCode)
	}
	// The engine doesn't restart a process that was killed by hand; the agent does.
	always := Sleeper()
	always.RestartPolicy = structs.RestartPolicy{Name: structs.RestartAlways}
	c = x.started(always)
	x.must(x.engine.Kill(x.ctx, c.EngineID), "kill")
	x.until(c, "exited", func(c *backend.Container) bool { return c.State == backend.StateExited })
}

func testEvents(x *env) {
	ctx, cancel := context.WithCancel(x.ctx)
	events := make(chan backend.Event, 100)
	ready := make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		ended <- x.engine.Events(ctx, x.owner, func() { close(ready) }, func(e backend.Event) { events <- e })
	}()
	<-ready
	c := x.create(Sleeper())
	want := func(kind backend.EventKind, doing string, ok func() bool) {
		x.Helper()
		for {
			select {
			case e := <-events:
				if e.Kind == backend.EventImage || e.Kind == backend.EventNetwork {
					continue // images and networks have no owner: others may use them meanwhile
				}
				if e.Entry != c.Entry {
					x.Fatalf("event %+v of another container", e)
				}
				if e.Kind == kind && ok() {
					return
				}
			case <-time.After(patience):
				x.Fatalf("no event for %s", doing)
			}
		}
	}
	any := func() bool { return true }
	want(backend.EventCreated, "create", any)
	state := func(s backend.State) func() bool { return func() bool { return x.look(c).State == s } }
	x.must(x.engine.Start(x.ctx, c.EngineID), "start")
	want(backend.EventChanged, "start", state(backend.StateRunning))
	x.must(x.engine.Pause(x.ctx, c.EngineID), "pause")
	want(backend.EventChanged, "pause", state(backend.StatePaused))
	x.must(x.engine.Unpause(x.ctx, c.EngineID), "unpause")
	want(backend.EventChanged, "unpause", state(backend.StateRunning))
	x.must(x.engine.Stop(x.ctx, c.EngineID, 0), "stop")
	want(backend.EventChanged, "stop", state(backend.StateExited))
	x.must(x.engine.Remove(x.ctx, c.EngineID), "remove")
	want(backend.EventRemoved, "remove", any)
	cancel()
	select {
	case err := <-ended:
		if err == nil {
			x.Fatal("a stream that ends returns no error")
		}
	case <-time.After(patience):
		x.Fatal("the stream does not end with its context")
	}
}

func testLogs(x *consoleEnv) {
	c := x.started(script("echo one; echo two; echo bad >&2; sleep 600"))
	both := structs.LogsRequest{Stdout: true, Stderr: true, Tail: -1}
	var out, errs bytes.Buffer
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		out.Reset()
		errs.Reset()
		x.must(x.consoles.Logs(x.ctx, c.EngineID, both, backend.LogStreams{Stdout: &out, Stderr: &errs}), "logs")
		if out.String() == "one\ntwo\n" && errs.String() == "bad\n" {
			break
		}
		if time.Now().After(deadline) {
			x.Fatalf("logs are %q and %q", &out, &errs)
		}
	}
	// Only one stream is requested, because an engine may count the lines of both.
	c = x.started(script("echo one; echo two"))
	x.until(c, "ended", func(c *backend.Container) bool { return c.State == backend.StateExited })
	out.Reset()
	x.must(x.consoles.Logs(x.ctx, c.EngineID, structs.LogsRequest{Stdout: true, Tail: 1},
		backend.LogStreams{Stdout: &out, Stderr: io.Discard}), "logs")
	if out.String() != "two\n" {
		x.Fatalf("the last line is %q", &out)
	}
}

func testLogsFollow(x *consoleEnv) {
	c := x.started(script("echo one; sleep 600"))
	lines := make(chan string, 10)
	ended := make(chan error, 1)
	go func() {
		ended <- x.consoles.Logs(x.ctx, c.EngineID, structs.LogsRequest{Stdout: true, Tail: -1, Follow: true},
			backend.LogStreams{Stdout: writer(func(p []byte) { lines <- string(p) }), Stderr: io.Discard})
	}()
	select {
	case l := <-lines:
		if l != "one\n" {
			x.Fatalf("line is %q", l)
		}
	case <-time.After(patience):
		x.Fatal("no line")
	}
	x.must(x.engine.Kill(x.ctx, c.EngineID), "kill")
	select {
	case err := <-ended:
		x.must(err, "logs")
	case <-time.After(patience):
		x.Fatal("following does not end with the process")
	}
}

type writer func([]byte)

func (w writer) Write(p []byte) (int, error) { w(p); return len(p), nil }

func testExec(x *consoleEnv) {
	c := x.started(Sleeper())
	run := func(req structs.ExecRequest, stdin io.Reader) (string, string, int) {
		x.Helper()
		var out, errs bytes.Buffer
		code, err := x.consoles.Exec(x.ctx, c.EngineID, req, backend.ExecStreams{Stdin: stdin, Stdout: &out, Stderr: &errs})
		x.must(err, "exec")
		return out.String(), errs.String(), code
	}
	out, errs, code := run(structs.ExecRequest{Command: []string{"sh", "-c", "echo $WHO; echo bad >&2; exit 5"}, Env: []string{"WHO=me"}},
		nil)
	if out != "me\n" || errs != "bad\n" || code != 5 {
		x.Fatalf("exec gave %q, %q, %d", out, errs, code)
	}
	out, _, code = run(structs.ExecRequest{Command: []string{"cat"}, Stdin: true}, strings.NewReader("in\n"))
	if out != "in\n" || code != 0 {
		x.Fatalf("cat gave %q, %d", out, code)
	}
	out, errs, _ = run(structs.ExecRequest{Command: []string{"sh", "-c", "echo bad >&2"}, TTY: true, Width: 80, Height: 24}, nil)
	if strings.TrimSpace(out) != "bad" || errs != "" {
		x.Fatalf("with a TTY exec gave %q, %q", out, errs)
	}
	x.wantState(x.look(c), backend.StateRunning)
}

func testExecStopped(x *consoleEnv) {
	c := x.create(Sleeper())
	_, err := x.consoles.Exec(x.ctx, c.EngineID, structs.ExecRequest{Command: []string{"true"}},
		backend.ExecStreams{Stdout: io.Discard, Stderr: io.Discard})
	x.wantReason(err, backend.ErrNotRunning)
}

func testExecCancelled(x *consoleEnv) {
	c := x.started(Sleeper())
	ctx, cancel := context.WithCancel(x.ctx)
	ended := make(chan error, 1)
	out := make(chan string, 10)
	go func() {
		_, err := x.consoles.Exec(ctx, c.EngineID, structs.ExecRequest{Command: []string{"sh", "-c", "echo on; sleep 600"}},
			backend.ExecStreams{Stdout: writer(func(p []byte) { out <- string(p) }), Stderr: io.Discard})
		ended <- err
	}()
	select {
	case <-out:
	case <-time.After(patience):
		x.Fatal("the command does not begin")
	}
	cancel()
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			x.Fatalf("error is %v, want the context's", err)
		}
	case <-time.After(patience):
		x.Fatal("the command does not end with its user")
	}
	x.wantState(x.look(c), backend.StateRunning)
}

func testPorts(x *env) {
	spec := Sleeper()
	spec.Ports = []structs.Port{{ContainerPort: 80, Protocol: "tcp"}, {ContainerPort: 53, Protocol: "udp"}}
	c := x.started(spec)
	if len(c.Ports) != 2 {
		x.Fatalf("ports are %v, want two", c.Ports)
	}
	for _, p := range c.Ports {
		if p.HostPort == 0 || !slices.ContainsFunc(spec.Ports, func(w structs.Port) bool {
			return w.ContainerPort == p.ContainerPort && w.Protocol == p.Protocol
		}) {
			x.Fatalf("port %+v was not asked for", p)
		}
	}
}

// testCantStart: of a process that can't be started the container or its image is at fault,
// and the text says what.
func testCantStart(x *env) {
	for name, spec := range map[string]structs.ContainerSpec{
		NoProgram:   {Image: Image, Command: []string{NoProgram}},
		FileInImage: {Image: Image, Command: []string{"sleep", "600"}, Workdir: FileInImage},
	} {
		spec.RestartPolicy = structs.RestartPolicy{Name: structs.RestartNo}
		req := x.request(&spec)
		c, err := x.engine.Create(x.ctx, req, func(string) {})
		if err == nil {
			x.Cleanup(func() { x.must(x.engine.Remove(context.Background(), c.EngineID), "remove") })
			if err = x.engine.Start(x.ctx, c.EngineID); err != nil {
				if now := x.look(c); now.Live() || !now.StartedAt.IsZero() {
					x.Fatalf("%s: it is %+v", name, now)
				}
			}
		}
		x.wantReason(err, backend.ErrStart)
		if !strings.Contains(err.Error(), name) {
			x.Fatalf("%q doesn't say what is at fault", err)
		}
	}
}

func testFingerprint(x *env) {
	f, err := x.engine.Fingerprint(x.ctx)
	x.must(err, "fingerprint")
	if f.Backend != structs.BackendDocker && f.Backend != structs.BackendKubernetes || f.EngineVersion == "" || f.Cores < 1 ||
		f.Memory < 1<<20 {
		x.Fatalf("fingerprint is %+v", f)
	}
}
