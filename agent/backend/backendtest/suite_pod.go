package backendtest

import (
	"bytes"
	"context"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/structs"
)

// This file has the tests of pods.

// Pods tests the pods that b runs. c looks into them.
func Pods(t *testing.T, b backend.Backend, p backend.Pods, c backend.Consoles) {
	for name, test := range map[string]func(*podEnv){
		"LifeCycle":  testPodLifeCycle,
		"Attempts":   testPodAttempts,
		"Shares":     testPodShares,
		"SharesPID":  testPodSharesPID,
		"InfraEnds":  testPodInfraEnds,
		"Outside":    testPodOutside,
		"Security":   testPodSecurity,
		"OwnVolumes": testPodVolumes,
		"Claims":     testPodClaims,
	} {
		t.Run(name, func(t *testing.T) { test(&podEnv{newEnv(t, b), p, c}) })
	}
}

type podEnv struct {
	*env
	pods     backend.Pods
	consoles backend.Consoles
}

// testPod is a pod on the engine: its infra container runs.
type testPod struct {
	*podEnv
	ref   structs.Ref
	part  backend.PodPart // of its containers, without attempt
	infra *backend.Container
}

// pod starts the infra container of a new pod. All of the pod's containers get part.
func (x *podEnv) pod(part backend.PodPart) *testPod {
	x.Helper()
	p := &testPod{podEnv: x, ref: structs.Ref{Kind: structs.WorkloadPod, ID: structs.NewID(), Epoch: 7}, part: part}
	x.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		entries, err := x.engine.List(ctx, x.owner)
		x.must(err, "list")
		for _, e := range entries {
			x.must(x.engine.Remove(ctx, e.EngineID), "remove")
		}
		x.must(x.pods.DropVolumes(ctx, x.owner, p.ref), "drop of the volumes")
	})
	p.infra = p.newInfra(1)
	return p
}

// newInfra starts an infra container, which later containers join.
func (p *testPod) newInfra(attempt uint64) *backend.Container {
	p.Helper()
	c := p.startOf(p.infraRequest(attempt))
	p.part.Infra = c.EngineID
	return c
}

// infraSpec is the spec of an infra container of the backend's own image.
func infraSpec() *structs.ContainerSpec {
	return &structs.ContainerSpec{Hostname: "web-0", RestartPolicy: structs.RestartPolicy{Name: structs.RestartNo}}
}

func (p *testPod) infraRequest(attempt uint64) backend.CreateRequest {
	req := p.env.request(infraSpec())
	req.Ref = p.ref
	req.Part = structs.PodInfra
	req.Pod = &backend.PodPart{Attempt: attempt, Volumes: p.part.Volumes, FSGroup: p.part.FSGroup}
	return req
}

// request returns a request for an attempt of a part.
func (p *testPod) request(name string, attempt uint64, spec *structs.ContainerSpec) backend.CreateRequest {
	part := p.part
	part.Attempt = attempt
	req := p.env.request(spec)
	req.Ref = p.ref
	req.Part, req.Pod = name, &part
	return req
}

// createOf creates the container of a request.
func (p *testPod) createOf(req backend.CreateRequest) *backend.Container {
	p.Helper()
	c, err := p.engine.Create(p.ctx, req, func(string) {})
	p.must(err, "create of "+req.Part)
	return c
}

// startOf creates the container of a request, and starts it.
func (p *testPod) startOf(req backend.CreateRequest) *backend.Container {
	p.Helper()
	c := p.createOf(req)
	p.must(p.engine.Start(p.ctx, c.EngineID), "start of "+req.Part)
	return p.look(c)
}

// start starts a part that runs a script.
func (p *testPod) start(name string, attempt uint64, text string) *backend.Container {
	p.Helper()
	return p.startOf(p.request(name, attempt, script(text)))
}

// run executes a script in a container.
func (p *testPod) run(c *backend.Container, text string) (stdout string, code int) {
	p.Helper()
	var out, errs bytes.Buffer
	code, err := p.consoles.Exec(p.ctx, c.EngineID, structs.ExecRequest{Command: []string{"sh", "-c", text}},
		backend.ExecStreams{Stdout: &out, Stderr: &errs})
	p.must(err, "exec of "+text)
	return out.String(), code
}

// wantRun executes a script until it prints want.
func (p *testPod) wantRun(c *backend.Container, text, want string) {
	p.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		got, code := p.run(c, text)
		if got == want && code == 0 {
			return
		}
		if time.Now().After(deadline) {
			p.Fatalf("%s gives %q, %d; want %q", text, got, code, want)
		}
	}
}

// wantLogs waits until a container's log is want.
func wantLogs(p *testPod, c *backend.Container, want string) {
	p.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		var out bytes.Buffer
		p.must(p.consoles.Logs(p.ctx, c.EngineID, structs.LogsRequest{Stdout: true, Tail: -1},
			backend.LogStreams{Stdout: &out, Stderr: io.Discard}), "logs")
		if out.String() == want {
			return
		}
		if time.Now().After(deadline) {
			p.Fatalf("the log is %q, want %q", &out, want)
		}
	}
}

func ended(c *backend.Container) bool { return c.State == backend.StateExited }

func testPodLifeCycle(x *podEnv) {
	p := x.pod(backend.PodPart{})
	if len(p.infra.Addresses) == 0 || p.infra.Part != structs.PodInfra || p.infra.Attempt != 1 || p.infra.Infra != "" ||
		p.infra.ImageID == "" {
		x.Fatalf("the infra container is %+v", p.infra)
	}
	spec := script("echo hi; sleep 600")
	spec.Memory, spec.MilliCPU = 32<<20, 100
	req := p.request("web", 1, spec)
	web := p.createOf(req)
	if now := x.look(web); now.State != backend.StateCreated || now.Infra != p.infra.EngineID || now.SpecHash != req.SpecHash() {
		x.Fatalf("after create it is %+v", now)
	}
	for range 2 {
		if again := p.createOf(req); again.EngineID != web.EngineID || again.Attempt != 1 || again.Ref != req.Ref {
			x.Fatalf("create again gives %+v", again)
		}
	}
	other := req
	other.Pod = &backend.PodPart{Attempt: 1, Infra: p.infra.EngineID, Security: structs.PodSecurity{ReadOnlyRoot: true}}
	_, err := x.engine.Create(x.ctx, other, func(string) {})
	x.wantReason(err, backend.ErrNameTaken)
	if !strings.Contains(err.Error(), req.EngineName()) {
		x.Fatalf("%q does not name %s", err, req.EngineName())
	}
	x.must(x.engine.Start(x.ctx, web.EngineID), "start")
	web = x.look(web)
	if web.State != backend.StateRunning || len(web.Addresses) != 0 || len(web.Ports) != 0 || web.ImageID == "" || web.Memory != 32<<20 {
		x.Fatalf("after start it is %+v", web)
	}
	p.wantRun(web, "hostname", "web-0\n")
	wantLogs(p, web, "hi\n")
	for _, want := range []backend.Limits{{Memory: 64 << 20, MilliCPU: 5}, {}, {Memory: 32 << 20, MilliCPU: 1500}} {
		x.must(x.engine.Update(x.ctx, web.EngineID, want), "update")
		if now := x.look(web); now.Limits != want || !now.StartedAt.Equal(web.StartedAt) {
			x.Fatalf("with the limits %+v it is %+v", want, now)
		}
	}
	entries, err := x.engine.List(x.ctx, x.owner)
	x.must(err, "list")
	if len(entries) != 2 {
		x.Fatalf("listed are %+v", entries)
	}
	for _, e := range entries {
		if e.Whole() != p.ref || e.Attempt != 1 || e.Name != backend.AttemptName(e.Ref, 1) || e.Inherited {
			x.Fatalf("listed is %+v", e)
		}
	}
	x.must(x.engine.Stop(x.ctx, web.EngineID, 0), "stop")
	began := time.Now()
	x.must(x.engine.Stop(x.ctx, p.infra.EngineID, patience), "stop of infra")
	if now := x.look(p.infra); now.State != backend.StateExited || now.ExitCode != 0 || time.Since(began) > patience/2 {
		x.Fatalf("%s after it was asked to end, infra is %+v", time.Since(began), now)
	}
}

// testPodAttempts: a restart is a new container with a file system and a log of its own.
func testPodAttempts(x *podEnv) {
	p := x.pod(backend.PodPart{})
	spec := script("echo one; exit 3")
	spec.RestartPolicy = structs.RestartPolicy{Name: structs.RestartAlways} // the agent restarts it, not the engine
	first := p.startOf(p.request("web", 1, spec))
	first = x.until(first, "ended", ended)
	if first.ExitCode != 3 || first.RestartCount != 0 || first.OOMKilled {
		x.Fatalf("the first attempt is %+v", first)
	}
	other := p.start("log", 1, "sleep 600")
	second := p.start("web", 2, "echo two; echo x > /tmp/f; sleep 600")
	if second.EngineID == first.EngineID || second.Attempt != 2 || second.Ref != first.Ref {
		x.Fatalf("the second attempt is %+v", second)
	}
	wantLogs(p, first, "one\n")
	wantLogs(p, second, "two\n")
	p.wantRun(second, "cat /tmp/f", "x\n")
	entries, err := x.engine.List(x.ctx, x.owner)
	x.must(err, "list")
	var attempts []uint64
	for _, e := range entries {
		if e.Part == "web" {
			attempts = append(attempts, e.Attempt)
		}
	}
	if slices.Sort(attempts); !slices.Equal(attempts, []uint64{1, 2}) {
		x.Fatalf("the attempts are %v", attempts)
	}
	x.must(x.engine.Kill(x.ctx, second.EngineID), "kill")
	x.must(x.engine.Remove(x.ctx, first.EngineID), "remove")
	third := p.start("web", 3, "sleep 600")
	if _, code := p.run(third, "cat /tmp/f"); code == 0 {
		x.Fatal("a new attempt has the files of the one before")
	}
	if now := x.look(other); !now.StartedAt.Equal(other.StartedAt) || !now.Live() {
		x.Fatalf("the other part is %+v", now)
	}
}

// testPodShares: containers of a pod share network and IPC, but not their processes.
func testPodShares(x *podEnv) {
	p := x.pod(backend.PodPart{})
	web := p.startOf(p.request("web", 1, &structs.ContainerSpec{Image: Image,
		Command: []string{"nc", "-ll", "-p", "7001", "-e", "echo", "hello"}}))
	log := p.start("log", 1, "sleep 611")
	p.wantRun(log, "nc 127.0.0.1 7001", "hello\n")
	p.run(web, "echo shared > /dev/shm/f")
	p.wantRun(log, "cat /dev/shm/f", "shared\n")
	if out, _ := p.run(web, "ps"); strings.Contains(out, "sleep 611") {
		x.Fatalf("it sees the other part's processes:\n%s", out)
	}
	for _, c := range []*backend.Container{web, log} {
		p.wantRun(c, "hostname", "web-0\n")
	}
	// One part ends and comes again; the other one isn't touched.
	x.must(x.engine.Kill(x.ctx, web.EngineID), "kill")
	web = p.startOf(p.request("web", 2, &structs.ContainerSpec{Image: Image,
		Command: []string{"nc", "-ll", "-p", "7001", "-e", "echo", "again"}}))
	p.wantRun(log, "nc 127.0.0.1 7001", "again\n")
	p.wantRun(web, "cat /dev/shm/f", "shared\n")
	if now := x.look(log); !now.StartedAt.Equal(log.StartedAt) || !now.Live() {
		x.Fatalf("the other part is %+v", now)
	}
}

// testPodSharesPID: process 1 of all containers is the infra container's; they end with it.
func testPodSharesPID(x *podEnv) {
	p := x.pod(backend.PodPart{SharePID: true})
	log := p.start("log", 1, "sleep 611")
	web := p.start("web", 1, "sleep 612")
	for _, of := range []string{"sleep 611", "sleep 612"} {
		if out, _ := p.run(web, "ps"); !strings.Contains(out, of) {
			x.Fatalf("it doesn't see %s:\n%s", of, out)
		}
	}
	x.must(x.engine.Kill(x.ctx, p.infra.EngineID), "kill of infra")
	for _, c := range []*backend.Container{web, log} {
		if now := x.until(c, "ended with infra", ended); now.ExitCode != 137 {
			x.Fatalf("it is %+v", now)
		}
	}
}

// testPodInfraEnds: containers live on without their infra container, but none starts.
func testPodInfraEnds(x *podEnv) {
	p := x.pod(backend.PodPart{})
	web := p.start("web", 1, "sleep 600")
	waits := p.createOf(p.request("log", 1, Sleeper()))
	stays := func() {
		x.Helper()
		if now := x.look(web); now.State != backend.StateRunning || !now.StartedAt.Equal(web.StartedAt) {
			x.Fatalf("it is %+v", now)
		}
		err := x.engine.Start(x.ctx, waits.EngineID)
		x.wantReason(err, backend.ErrNoInfra)
		if now := x.look(waits); now.Live() {
			x.Fatalf("after %v it is %+v", err, now)
		}
	}
	x.must(x.engine.Kill(x.ctx, p.infra.EngineID), "kill of infra")
	stays()
	x.must(x.engine.Remove(x.ctx, p.infra.EngineID), "removal of infra")
	stays()
	if now := x.look(web); now.Infra != p.infra.EngineID {
		x.Fatalf("it has joined %q, want %q", now.Infra, p.infra.EngineID)
	}
	// A container that joins one that is gone is refused at the latest at its start.
	c, err := x.engine.Create(x.ctx, p.request("late", 1, Sleeper()), func(string) {})
	if err == nil {
		err = x.engine.Start(x.ctx, c.EngineID)
	}
	x.wantReason(err, backend.ErrNoInfra)
	// All come again in a new infra container.
	if p.newInfra(2); p.infra.EngineID == p.part.Infra {
		x.Fatal("the new infra container is the old one")
	}
	again := p.start("web", 2, "sleep 600")
	if again.Infra != p.part.Infra || !again.Live() {
		x.Fatalf("it is %+v", again)
	}
	x.must(x.engine.Pause(x.ctx, p.part.Infra), "pause of infra")
	x.wantState(p.start("log", 2, "sleep 600"), backend.StateRunning)
}

// testPodOutside: every interference has an event that names the attempt, and is seen.
func testPodOutside(x *podEnv) {
	p := x.pod(backend.PodPart{})
	web := p.start("web", 3, "sleep 600")
	ctx, cancel := context.WithCancel(x.ctx)
	events := make(chan backend.Event, 100)
	ready, over := make(chan struct{}), make(chan error, 1)
	go func() {
		over <- x.engine.Events(ctx, x.owner, func() { close(ready) }, func(e backend.Event) { events <- e })
	}()
	<-ready
	want := func(c *backend.Container, kind backend.EventKind, doing string) {
		x.Helper()
		for deadline := time.After(patience); ; {
			select {
			case e := <-events:
				if e.Ref == c.Ref && e.Attempt == c.Attempt && e.EngineID == c.EngineID && e.Kind == kind {
					return
				}
			case <-deadline:
				x.Fatalf("no event for %s of %s", doing, c.Part)
			}
		}
	}
	drain := func() {
		for len(events) > 0 {
			<-events
		}
	}
	for _, c := range []*backend.Container{web, p.infra} {
		drain()
		x.must(x.engine.Pause(x.ctx, c.EngineID), "pause")
		want(c, backend.EventChanged, "a pause")
		x.wantState(x.look(c), backend.StatePaused)
		x.must(x.engine.Unpause(x.ctx, c.EngineID), "unpause")
		drain()
		x.must(x.engine.Kill(x.ctx, c.EngineID), "kill")
		want(c, backend.EventChanged, "a kill")
		if now := x.until(c, "killed", ended); now.ExitCode != 137 {
			x.Fatalf("it is %+v", now)
		}
		x.must(x.engine.Remove(x.ctx, c.EngineID), "remove")
		want(c, backend.EventRemoved, "a removal")
	}
	cancel()
	<-over
}

func testPodSecurity(x *podEnv) {
	p := x.pod(backend.PodPart{})
	user, root := int64(1000), int64(0)
	for _, s := range []structs.PodSecurity{{RunAsNonRoot: true}, {RunAsNonRoot: true, RunAsUser: &root}} {
		p.part.Security = s
		_, err := x.engine.Create(x.ctx, p.request("web", 1, Sleeper()), func(string) {})
		x.wantReason(err, backend.ErrConfig)
		if !strings.Contains(err.Error(), "runAsNonRoot") || !strings.Contains(err.Error(), Image) {
			x.Fatalf("%q names neither the field nor the image", err)
		}
	}
	p.part.Security = structs.PodSecurity{RunAsNonRoot: true, RunAsUser: &user, ReadOnlyRoot: true, NoNewPrivs: true,
		DropCaps: []string{"ALL"}}
	web := p.start("web", 1, "sleep 600")
	p.wantRun(web, "id -u", "1000\n")
	if _, code := p.run(web, "echo x > /tmp/f"); code == 0 {
		x.Fatal("it can write to its root file system")
	}
}

// testPodVolumes: volumes are shared, outlive a container's restart, and go with the
// placement.
func testPodVolumes(x *podEnv) {
	p := x.pod(backend.PodPart{
		Volumes: []structs.PodVolume{{Name: "disk"}, {Name: "mem", Memory: true, Size: 1 << 20}},
		Mounts:  []structs.PodMount{{Volume: "disk", Path: "/a"}, {Volume: "mem", Path: "/b"}},
	})
	user := int64(1000)
	p.part.Security.RunAsUser = &user // who may write to them, too
	web := p.start("web", 1, "sleep 600")
	p.wantRun(web, "echo one > /a/f; echo two > /b/f; cat /a/f; cat /b/f", "one\ntwo\n")
	x.wantReason(x.pods.DropVolumes(x.ctx, x.owner, p.ref), backend.ErrInUse)
	x.must(x.engine.Remove(x.ctx, web.EngineID), "remove")
	p.part.Mounts[0].Path, p.part.Mounts[0].ReadOnly, p.part.Security.RunAsUser = "/c", true, nil
	web = p.start("web", 2, "sleep 600")
	p.wantRun(web, "cat /c/f; cat /b/f", "one\ntwo\n")
	if _, code := p.run(web, "echo x > /c/f"); code == 0 {
		x.Fatal("it can write to a volume that it mounts read-only")
	}
	if v, ok := x.engine.(backend.Volumes); ok {
		if list, err := v.ListVolumes(x.ctx, x.owner.ClusterID, ""); err != nil || len(list) != 0 {
			x.Fatalf("listed are %+v, %v", list, err)
		}
	}
	for _, c := range []string{web.EngineID, p.part.Infra} {
		x.must(x.engine.Remove(x.ctx, c), "remove")
	}
	for range 2 {
		x.must(x.pods.DropVolumes(x.ctx, x.owner, p.ref), "drop")
	}
	p.newInfra(2)
	web = p.start("web", 3, "sleep 600")
	if out, code := p.run(web, "cat /c/f"); code == 0 {
		x.Fatalf("a volume that was dropped has %q", out)
	}
	p.part.Mounts = []structs.PodMount{{Volume: "none", Path: "/a"}}
	_, err := x.engine.Create(x.ctx, p.request("log", 1, Sleeper()), func(string) {})
	x.wantReason(err, backend.ErrInvalid)
}

// testPodClaims: a claim is a named volume of the project, which stays.
func testPodClaims(x *podEnv) {
	v, ok := x.engine.(backend.Volumes)
	if !ok {
		x.Skip("the backend keeps no volumes")
	}
	part := backend.PodPart{
		Volumes: []structs.PodVolume{{Name: "kept", Claim: "data"}, {Name: "read", Claim: "data", ReadOnly: true}},
		Mounts:  []structs.PodMount{{Volume: "kept", Path: "/a"}, {Volume: "read", Path: "/b"}},
	}
	p := x.pod(part)
	x.Cleanup(func() { // runs before the pod's
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		entries, err := x.engine.List(ctx, x.owner)
		x.must(err, "list")
		for _, e := range entries {
			x.must(x.engine.Remove(ctx, e.EngineID), "remove")
		}
		x.must(v.RemoveVolume(ctx, x.owner.ClusterID, x.proj, "data"), "removal of the volume")
	})
	web := p.start("web", 1, "sleep 600")
	p.wantRun(web, "echo one > /a/f; cat /b/f", "one\n")
	if _, code := p.run(web, "echo x > /b/f"); code == 0 {
		x.Fatal("it can write to a claim that is read-only")
	}
	list, err := v.ListVolumes(x.ctx, x.owner.ClusterID, x.proj)
	x.must(err, "volumes")
	if len(list) != 1 || list[0].Name != "data" || !slices.Equal(list[0].UsedBy, []string{p.ref.ID}) {
		x.Fatalf("volumes are %+v", list)
	}
	x.must(x.engine.Remove(x.ctx, web.EngineID), "remove")
	err = v.RemoveVolume(x.ctx, x.owner.ClusterID, x.proj, "data")
	x.wantReason(err, backend.ErrInUse)
	if !strings.Contains(err.Error(), "pod "+p.ref.ID) {
		x.Fatalf("%q does not name the pod", err)
	}
	x.must(x.engine.Remove(x.ctx, p.infra.EngineID), "removal of infra")
	x.must(x.pods.DropVolumes(x.ctx, x.owner, p.ref), "drop")
	second := x.pod(part)
	p.part.Infra, p.ref = second.part.Infra, second.ref
	p.wantRun(p.start("web", 1, "sleep 600"), "cat /a/f", "one\n")
}
