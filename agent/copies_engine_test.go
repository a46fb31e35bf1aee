//go:build engine

package agent

import (
	"bytes"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/structs"
)

// dockerCLI runs the engine's command line, and returns its output.
func dockerCLI(t *testing.T, args ...string) string {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := osexec.Command("docker", args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("docker %s: %v: %s", strings.Join(args, " "), err, errs.String())
	}
	return strings.TrimSpace(out.String())
}

// TestCopiesOnDocker: docker commit and docker run give a copy all labels. The copy is
// reported and left alone while the container runs, is renamed, is removed by hand and
// is deleted, and after a restart of the agent without its journal.
func TestCopiesOnDocker(t *testing.T) {
	s, dir := newFakeServer(t), t.TempDir()
	d := dockerHost(t, s, dir)
	r := runAgent(t, dir, d, nil, s)
	a, b := want(structs.NewID(), 1, structs.DesiredRunning), want(structs.NewID(), 1, structs.DesiredRunning)
	a.ProjectID, b.ProjectID = structs.NewID(), structs.NewID()
	a.StopTimeout, b.StopTimeout = 1, 1
	s.assign(a, b)
	s.is(a.ContainerID, structs.ContainerRunning)
	s.is(b.ContainerID, structs.ContainerRunning)

	var images, copies []string
	for _, of := range []structs.Assignment{a, b} {
		img := "magnum-copy:" + of.ContainerID
		dockerCLI(t, "commit", backend.NameOf(ref(of)), img)
		images = append(images, img)
		// Not on a network of magnum's, which the copy would keep from being removed.
		copies = append(copies, dockerCLI(t, "run", "-d", "--network", "none", img))
	}
	t.Cleanup(func() {
		dockerCLI(t, append([]string{"rm", "-f"}, copies...)...)
		dockerCLI(t, append([]string{"rmi", "-f"}, images...)...)
	})
	started := func(id string) string {
		t.Helper()
		return dockerCLI(t, "inspect", "-f", "{{.State.Running}} {{.State.StartedAt}}", id)
	}
	began := []string{started(copies[0]), started(copies[1])}
	untouched := func(when string) {
		t.Helper()
		for i, id := range copies {
			if now := started(id); now != began[i] {
				t.Errorf("%s: a copy was %s and is %s", when, began[i], now)
			}
		}
	}
	counted := func(n int) {
		t.Helper()
		s.eventually("the copies are reported", func() bool {
			for i := len(s.reports) - 1; i >= 0; i-- {
				if c := s.reports[i].Copies; c != nil {
					return c.Count == n
				}
			}
			return false
		})
	}
	counted(2)
	s.mu.Lock()
	engineID := s.reported[a.ContainerID].EngineID
	s.mu.Unlock()
	if id := dockerCLI(t, "inspect", "-f", "{{.Id}}", backend.NameOf(ref(a))); id != engineID {
		t.Errorf("reported engine id %q, and it is %q", engineID, id)
	}
	dockerCLI(t, "rename", backend.NameOf(ref(a)), "renamed-"+a.ContainerID)
	a = next(a, structs.DesiredStopped)
	s.assign(a)
	s.is(a.ContainerID, structs.ContainerStopped)
	a = next(a, structs.DesiredRunning)
	s.assign(a)
	s.eventually("it runs again", func() bool {
		c := s.reported[a.ContainerID]
		return c.Generation == a.Generation && c.Status == structs.ContainerRunning
	})
	untouched("after a stop and a start")

	// The agent loses its journal; the servers' row still has the engine ID.
	r.stop()
	s.change(func() {
		for _, one := range []structs.Assignment{a, b} {
			w := s.want[one.ContainerID]
			w.Observed, w.EngineID = s.reported[one.ContainerID].Generation, s.reported[one.ContainerID].EngineID
			s.want[one.ContainerID] = w
		}
		s.reports = nil
	})
	dockerCLI(t, "rm", "-f", backend.NameOf(ref(b)))
	if err := os.Remove(filepath.Join(dir, fileJournal)); err != nil {
		t.Fatal(err)
	}
	r = runAgent(t, dir, d, nil, s)
	counted(2)
	s.is(b.ContainerID, structs.ContainerGone)
	s.eventually("the renamed one is found", func() bool { return s.reported[a.ContainerID].EngineID == engineID })
	untouched("without the journal")

	a, b = next(a, structs.DesiredAbsent), next(b, structs.DesiredAbsent)
	a.Force = true
	s.assign(a, b)
	s.eventually("both are gone", func() bool { return len(s.want) == 0 })
	r.stop()
	// Only the labels are left.
	if err := os.Remove(filepath.Join(dir, fileJournal)); err != nil {
		t.Fatal(err)
	}
	s.change(func() { s.reports = nil })
	r = runAgent(t, dir, d, nil, s)
	counted(2)
	polls := s.polled()
	s.eventually("two more polls", func() bool { return len(s.polls) > polls+1 })
	untouched("after the delete")
	r.stop()
}
