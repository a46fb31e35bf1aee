//go:build engine

package agent

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/backend/backendtest"
	"github.com/stackforge/magnum/agent/docker/dockertest"
	"github.com/stackforge/magnum/structs"
)

// onDocker runs an agent on the real engine with one container.
func onDocker(t *testing.T, adapt func(*structs.Assignment)) (*fakeServer, backend.Backend, structs.Assignment) {
	t.Helper()
	s, dir := newFakeServer(t), t.TempDir()
	d := dockerHost(t, s, dir)
	a := want(structs.NewID(), 1, structs.DesiredRunning)
	a.ProjectID, a.StopTimeout = structs.NewID(), 1
	adapt(&a)
	s.assign(a)
	r := runAgent(t, dir, d, nil, s)
	t.Cleanup(r.stop)
	s.is(a.ContainerID, structs.ContainerRunning)
	return s, d, a
}

// done waits until the assignment is reported as carried out.
func (s *fakeServer) done(a structs.Assignment, status structs.ContainerStatus) structs.ContainerReport {
	var last structs.ContainerReport
	s.eventually("carried out", func() bool {
		last = s.reported[a.ContainerID]
		return last.Epoch == a.Epoch && last.Generation == a.Generation && last.Status == status
	})
	return last
}

// run runs a command in the container.
func run(t *testing.T, s *fakeServer, a structs.Assignment, command ...string) string {
	t.Helper()
	got := listen(t, s.offer(structs.SessionOffer{SID: structs.NewID(), Kind: structs.SessionExec, ContainerID: a.ContainerID,
		Epoch: a.Epoch,
		Exec:  &structs.ExecRequest{Command: command}}))
	if got.last.ExitCode == nil || *got.last.ExitCode != 0 {
		t.Fatalf("%v gives %+v", command, got)
	}
	return got.stdout
}

func TestKillOnDocker(t *testing.T) {
	s, _, a := onDocker(t, func(a *structs.Assignment) {
		*a = command(*a, "trap 'echo heard' HUP; trap 'exit 7' USR1; echo on; while true; do sleep 0.1; done")
	})
	heard := func() int {
		got := listen(t, s.offer(structs.SessionOffer{SID: structs.NewID(), Kind: structs.SessionLogs, ContainerID: a.ContainerID, Epoch: 1,
			Logs: &structs.LogsRequest{Stdout: true, Tail: -1}}))
		if !strings.HasPrefix(got.stdout, "on\n") {
			return -1
		}
		return strings.Count(got.stdout, "heard")
	}
	until := func(n int) {
		t.Helper()
		for deadline := time.Now().Add(patience); heard() != n; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("heard %d signals, want %d", heard(), n)
			}
		}
	}
	until(0)
	for n := 1; n <= 2; n++ {
		a = killWith(a, "SIGHUP")
		s.assign(a)
		s.done(a, structs.ContainerRunning)
		until(n)
	}
	a = killWith(a, "SIGUSR1")
	s.assign(a)
	if r := s.done(a, structs.ContainerStopped); r.Failed || r.ExitCode == nil || *r.ExitCode != 7 {
		t.Fatalf("reported %+v", r)
	}
	if n := heard(); n != 2 {
		t.Fatalf("heard %d signals, want 2", n)
	}
}

func TestLimitsOnDocker(t *testing.T) {
	s, d, a := onDocker(t, func(a *structs.Assignment) { a.Spec.Memory, a.Spec.MilliCPU = 32<<20, 500 })
	started := s.done(a, structs.ContainerRunning).StartedAt
	for _, l := range []backend.Limits{{Memory: 64 << 20, MilliCPU: 1000}, {Memory: 16 << 20}, {}} {
		a = limited(a, l.Memory, l.MilliCPU)
		s.assign(a)
		if r := s.done(a, structs.ContainerRunning); r.Failed || !r.StartedAt.Equal(started) {
			t.Fatalf("reported %+v, started at %s before", r, started)
		}
		now, err := d.Inspect(t.Context(), backend.NameOf(ref(a)))
		if err != nil || now.Limits != l {
			t.Fatalf("limits are %+v, %v; want %+v", now.Limits, err, l)
		}
	}
	a = limited(a, 1<<20, 0)
	s.assign(a)
	if r := s.done(a, structs.ContainerRunning); !r.Failed || !strings.Contains(r.Reason, "memory") {
		t.Fatalf("reported %+v", r)
	}
}

// removeVolume removes a volume, which outlives its containers.
func removeVolume(t *testing.T, name string) {
	t.Helper()
	cli, err := dockertest.Open("")
	if err != nil {
		t.Error(err)
		return
	}
	defer cli.Close()
	if err := cli.VolumeRemove(context.Background(), name, false); err != nil {
		t.Error(err)
	}
}

// TestRebuildOnDocker keeps a file in a volume and loses one outside.
func TestRebuildOnDocker(t *testing.T) {
	var project, cluster string
	t.Cleanup(func() { removeVolume(t, "mg-"+cluster[:8]+"-"+project+"-data") }) // after the container that uses it
	s, d, a := onDocker(t, func(a *structs.Assignment) {
		project = a.ProjectID
		a.Spec.Volumes = []structs.Mount{{Name: "data", Target: "/data"}}
		a.Spec.Healthcheck = &structs.Healthcheck{Test: structs.Command{Text: "test -e /data/kept"}, Interval: 1, Retries: 1}
	})
	cluster = s.cluster
	s.eventually("unhealthy", func() bool { return s.reported[a.ContainerID].Health == "unhealthy" })
	run(t, s, a, "sh", "-c", "echo kept >/data/kept; echo lost >/tmp/lost")
	s.eventually("healthy", func() bool { return s.reported[a.ContainerID].Health == "healthy" })
	old := ref(a)
	a = next(a, structs.DesiredRunning)
	a.Epoch, a.Observed = 2, 0
	spec := *a.Spec
	spec.Image = "docker.io/" + dockertest.Image
	a.Spec = &spec
	s.assign(a)
	s.done(a, structs.ContainerRunning)
	if out := run(t, s, a, "sh", "-c", "cat /data/kept; ls /tmp"); out != "kept\n" {
		t.Fatalf("the volume and /tmp have %q, want what was kept", out)
	}
	if _, err := d.Inspect(t.Context(), backend.NameOf(old)); err == nil {
		t.Fatal("the old container is still there")
	}
}

func TestSessionsOnDocker(t *testing.T) {
	s, _, a := onDocker(t, func(a *structs.Assignment) {
		a.Spec.Command, a.Spec.Stdin, a.Spec.TTY = []string{"sh"}, true, true
	})
	offer := func(k structs.SessionKind, adapt func(*structs.SessionOffer)) structs.SessionOffer {
		o := kind(k, adapt)
		o.ContainerID = a.ContainerID
		return o
	}
	attach := func(o *structs.SessionOffer) {
		o.Exec = &structs.ExecRequest{Stdin: true, TTY: true, Width: 80, Height: 24}
	}
	left := s.offer(offer(structs.SessionAttach, attach))
	echo(t, left)
	_ = left.CloseNow()

	var stats structs.StatsBody
	got := listen(t, s.offer(offer(structs.SessionStats, nil)))
	if err := json.Unmarshal([]byte(got.stdout), &stats); err != nil || stats.MemoryUsed == 0 || stats.PIDs == 0 || !got.last.Done {
		t.Errorf("stats are %+v: %v", got, err)
	}
	var top structs.TopBody
	got = listen(t, s.offer(offer(structs.SessionTop, nil)))
	if err := json.Unmarshal([]byte(got.stdout), &top); err != nil || len(top.Processes) == 0 || !got.last.Done {
		t.Errorf("top is %+v: %v", got, err)
	}

	conn := s.offer(offer(structs.SessionArchivePut, func(o *structs.SessionOffer) { o.Path = "/tmp" }))
	upload(t, conn, fileArchive(t, "big", 5<<20))
	if got = listen(t, conn); !got.last.Done {
		t.Errorf("put ends with %+v", got.last)
	}
	got = listen(t, s.offer(offer(structs.SessionArchiveGet, func(o *structs.SessionOffer) { o.Path = "/tmp/big" })))
	r := tar.NewReader(strings.NewReader(got.stdout))
	if h, err := r.Next(); err != nil || h.Size != 5<<20 || !got.last.Done {
		t.Errorf("get gives %+v, %v", h, err)
	}
	if b, err := io.ReadAll(r); err != nil || !bytes.Equal(b, bytes.Repeat([]byte("x"), 5<<20)) {
		t.Errorf("%d bytes came back, %v", len(b), err)
	}
	// The size limit holds in both directions.
	conn = s.offer(offer(structs.SessionArchivePut, func(o *structs.SessionOffer) { o.Path = "/tmp" }))
	go upload(t, conn, fileArchive(t, "huge", structs.MaxArchive))
	if got = listen(t, conn); got.last.Code != structs.CodeTooLarge {
		t.Errorf("too large a put ends with %+v", got.last)
	}
	run(t, s, a, "sh", "-c", "head -c 70000000 /dev/zero >/tmp/huge")
	if got = listen(t, s.offer(offer(structs.SessionArchiveGet,
		func(o *structs.SessionOffer) { o.Path = "/tmp/huge" }))); got.last.Code != structs.CodeTooLarge {
		t.Errorf("too large a get ends with %+v", got.last)
	}

	conn = s.offer(offer(structs.SessionAttach, attach))
	echo(t, conn)
	say(t, conn, structs.ChannelControl, `{"resize":{"w":101,"h":51}}`)
	say(t, conn, structs.ChannelStdin, "\nuntil stty size | grep '51 101'; do sleep 0.1; done; exit 9\n")
	got = listen(t, conn)
	if got.last.ExitCode == nil || *got.last.ExitCode != 9 {
		t.Errorf("attach ends with %+v", got)
	}
	if last := s.done(a, structs.ContainerStopped); last.ExitCode == nil || *last.ExitCode != 9 {
		t.Errorf("reported %+v", last)
	}
}

// TestRefusedLimitsOnDocker: a container that uses more memory than its new limit keeps
// the old limit, and other actions on it don't fail.
func TestRefusedLimitsOnDocker(t *testing.T) {
	s, _, a := onDocker(t, func(a *structs.Assignment) {
		*a = command(*a, "head -c 30m /dev/zero >/dev/shm/used; exec sleep 600")
		a.Spec.Memory = 64 << 20
	})
	run(t, s, a, "sh", "-c", "until [ $(stat -c %s /dev/shm/used) = 31457280 ]; do sleep 0.1; done")
	a = limited(a, 16<<20, 0)
	s.assign(a)
	if r := s.done(a, structs.ContainerRunning); !r.Failed || r.Memory != 64<<20 || !strings.Contains(r.Reason, "67108864") {
		t.Fatalf("reported %+v", r)
	}
	for _, step := range []struct {
		d      structs.Desired
		status structs.ContainerStatus
	}{
		{structs.DesiredPaused, structs.ContainerPaused}, {structs.DesiredRunning, structs.ContainerRunning}, {structs.DesiredStopped,
			structs.ContainerStopped},
	} {
		a = next(a, step.d)
		s.assign(a)
		if r := s.done(a, step.status); r.Failed {
			t.Fatalf("%s: reported %+v", step.d, r)
		}
	}
	// The limit is set once the container needs less memory.
	a = next(a, structs.DesiredStopped)
	s.assign(a)
	s.eventually("the limit is there", func() bool {
		c := s.reported[a.ContainerID]
		return c.Memory == 16<<20 && c.Reason == "" &&
			!c.Failed
	})
}

// TestFailedRebuildOnDocker: a missing image leaves the old container running; an
// existing one replaces it.
func TestFailedRebuildOnDocker(t *testing.T) {
	s, d, a := onDocker(t, func(*structs.Assignment) {})
	old := ref(a)
	rebuild := func(image string) {
		spec := *a.Spec
		spec.Image = image
		a = next(a, structs.DesiredRunning)
		a.Spec, a.Observed = &spec, 0
		a.Epoch++
		s.assign(a)
	}
	for _, image := range []string{"UPPER:tag:tag", "127.0.0.1:1/magnum-test/nowhere:1"} {
		rebuild(image)
		if r := s.done(a, structs.ContainerError); !r.Failed || !strings.Contains(r.Reason, image) ||
			!strings.Contains(r.Reason, "runs on") {
			t.Fatalf("reported %+v", r)
		}
		if c, err := d.Inspect(t.Context(), backend.NameOf(old)); err != nil || c.State != backend.StateRunning {
			t.Fatalf("the old one is %+v, %v", c, err)
		}
	}
	rebuild(backendtest.Image)
	if r := s.done(a, structs.ContainerRunning); r.Failed {
		t.Fatalf("reported %+v", r)
	}
	if _, err := d.Inspect(t.Context(), backend.NameOf(old)); !errors.Is(err, backend.ErrNotFound) {
		t.Fatalf("the old one: %v", err)
	}
}

// TestCommandsThatCannotBeExecutedOnDocker: exit codes are those of shells, and a
// missing path is not taken for a missing container.
func TestCommandsThatCannotBeExecutedOnDocker(t *testing.T) {
	s, _, a := onDocker(t, func(*structs.Assignment) {})
	offer := structs.SessionOffer{Kind: structs.SessionExec, ContainerID: a.ContainerID, Epoch: a.Epoch}
	for _, c := range []struct {
		req  structs.ExecRequest
		code int
	}{
		{structs.ExecRequest{Command: []string{"nope"}}, 127},
		{structs.ExecRequest{Command: []string{"/nope"}}, 127},
		{structs.ExecRequest{Command: []string{"nope"}, TTY: true}, 127},
		{structs.ExecRequest{Command: []string{"/etc"}}, 126},
		{structs.ExecRequest{Command: []string{"true"}, Workdir: "/nope"}, 126},
		{structs.ExecRequest{Command: []string{"true"}, User: "nope"}, 126},
		{structs.ExecRequest{Command: []string{"sh", "-c", "echo exec failed: executable file not found; exit 126"}}, 126},
	} {
		offer.SID, offer.Exec = structs.NewID(), &c.req
		if got := listen(t, s.offer(offer)); got.last.ExitCode == nil || *got.last.ExitCode != c.code {
			t.Errorf("%+v: %q, %+v", c.req, got.stdout, got.last)
		}
	}
	offer = structs.SessionOffer{SID: structs.NewID(), Kind: structs.SessionArchiveGet, ContainerID: a.ContainerID, Epoch: a.Epoch,
		Path: "/nope"}
	if got := listen(t, s.offer(offer)); got.last.Code != structs.CodeNotFound || got.last.Kind != structs.KindPath {
		t.Errorf("%+v", got.last)
	}
}
