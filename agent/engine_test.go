//go:build engine

package agent

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/docker"
	"github.com/stackforge/magnum/agent/docker/dockertest"
	"github.com/stackforge/magnum/structs"
)

func TestMain(m *testing.M) {
	if err := dockertest.EnsureImage(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if err := dockertest.RemoveNetworks(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// dockerHost returns the real engine, and removes what the host of dir has left on it
// at the end.
func dockerHost(t *testing.T, s *fakeServer, dir string) *docker.Docker {
	t.Helper()
	d, err := docker.New(docker.Config{})
	if err != nil {
		t.Fatal(err)
	}
	s.cluster = structs.NewID()
	t.Cleanup(func() {
		defer d.Close()
		id, err := os.ReadFile(filepath.Join(dir, fileHost))
		if err != nil {
			t.Error(err)
			return
		}
		owner := backend.Owner{ClusterID: s.cluster, HostID: strings.TrimSpace(string(id))}
		entries, err := d.List(context.Background(), owner)
		if err != nil {
			t.Error(err)
		}
		for _, e := range entries {
			if err := d.Remove(context.Background(), e.EngineID); err != nil {
				t.Error(err)
			}
		}
	})
	return d
}

func TestContainerFromCreateToDeleteOnDocker(t *testing.T) {
	s, dir := newFakeServer(t), t.TempDir()
	d := dockerHost(t, s, dir)
	r := runAgent(t, dir, d, nil, s)
	a := want(structs.NewID(), 1, structs.DesiredRunning)
	a.ProjectID, a.StopTimeout = structs.NewID(), 1
	s.assign(a)
	s.is(a.ContainerID, structs.ContainerRunning)
	started := func() time.Time {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.reported[a.ContainerID].StartedAt
	}
	first := started()

	// After a restart the agent finds the container unchanged.
	r.stop()
	r = runAgent(t, dir, d, nil, s)
	s.eventually("reported again", func() bool { return len(s.registers) == 2 && s.reports[len(s.reports)-1].Registration == 2 })
	if !started().Equal(first) {
		t.Fatal("a restart of the agent has started the container again")
	}

	for _, step := range []struct {
		d      structs.Desired
		status structs.ContainerStatus
	}{
		{structs.DesiredPaused, structs.ContainerPaused},
		{structs.DesiredRunning, structs.ContainerRunning},
		{structs.DesiredStopped, structs.ContainerStopped},
		{structs.DesiredRunning, structs.ContainerRunning},
	} {
		a = next(a, step.d)
		s.assign(a)
		s.eventually(string(step.d), func() bool {
			c := s.reported[a.ContainerID]
			return c.Generation == a.Generation && c.Status == step.status && !c.Failed
		})
	}
	second := started()
	if !second.After(first) {
		t.Fatal("a start after a stop has started nothing")
	}
	a = reboot(a)
	s.assign(a)
	s.eventually("rebooted", func() bool {
		c := s.reported[a.ContainerID]
		return c.Generation == a.Generation && c.StartedAt.After(second)
	})

	conn := s.offer(structs.SessionOffer{SID: "1", Kind: structs.SessionExec, ContainerID: a.ContainerID, Epoch: 1,
		Exec: &structs.ExecRequest{Command: []string{"cat"}, Stdin: true}})
	say(t, conn, structs.ChannelStdin, "through")
	say(t, conn, structs.ChannelControl, `{"eof":true}`)
	if got := listen(t, conn); got.stdout != "through" || got.last.ExitCode == nil || *got.last.ExitCode != 0 {
		t.Fatalf("execute gave %+v", got)
	}

	a = next(a, structs.DesiredAbsent)
	a.Force = true
	s.assign(a)
	s.eventually("gone", func() bool { return len(s.want) == 0 })
	r.stop()
}

func TestChangesByOthersOnDocker(t *testing.T) {
	s, dir := newFakeServer(t), t.TempDir()
	d := dockerHost(t, s, dir)
	r := runAgent(t, dir, d, nil, s)
	project := structs.NewID()
	once, forever := want(structs.NewID(), 1, structs.DesiredRunning), always(want(structs.NewID(), 1, structs.DesiredRunning))
	once.ProjectID, forever.ProjectID = project, project
	s.assign(once, forever)
	s.is(once.ContainerID, structs.ContainerRunning)
	s.is(forever.ContainerID, structs.ContainerRunning)
	for _, a := range []structs.Assignment{once, forever} {
		if err := d.Kill(t.Context(), backend.NameOf(ref(a))); err != nil {
			t.Fatal(err)
		}
	}
	s.is(once.ContainerID, structs.ContainerStopped)
	s.eventually("started again", func() bool {
		c := s.reported[forever.ContainerID]
		return c.Status == structs.ContainerRunning && c.RestartCount == 1
	})
	if err := d.Remove(t.Context(), backend.NameOf(ref(once))); err != nil {
		t.Fatal(err)
	}
	s.is(once.ContainerID, structs.ContainerGone)
	once.Epoch, once.Observed = 2, 0
	s.assign(once)
	s.is(once.ContainerID, structs.ContainerRunning)
	r.stop()
}
