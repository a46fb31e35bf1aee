//go:build engine

package agent

import (
	"testing"

	"github.com/stackforge/magnum/agent/backend/backendtest/manifests"
	"github.com/stackforge/magnum/agent/docker/dockertest"
	"github.com/stackforge/magnum/manifest"
	"github.com/stackforge/magnum/structs"
)

// TestManifestsOnDocker is the counterpart of kubernetes.TestManifests.
func TestManifestsOnDocker(t *testing.T) {
	s, dir := newFakeServer(t), t.TempDir()
	r := runAgent(t, dir, dockerHost(t, s, dir), nil, s)
	defer r.stop()
	manifests.Suite(t, &manifestHost{s, structs.NewID()})
}

// manifestHost runs the pods of the suite for a project.
type manifestHost struct {
	s       *fakeServer
	project string
}

func (*manifestHost) Backend() structs.Backend { return structs.BackendDocker }
func (*manifestHost) Image() string            { return dockertest.Image }

// Run implements manifests.Host.
func (h *manifestHost) Run(t *testing.T, name, text string) manifests.Pod {
	t.Helper()
	read, err := manifest.ParsePod(text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	a := wantPod(structs.NewID(), func(p *structs.PodSpec) { *p = read.Spec })
	a.ProjectID, a.Name = h.project, name
	h.s.assign(a)
	return &manifestPod{h.s, a}
}

// manifestPod implements manifests.Pod.
type manifestPod struct {
	s *fakeServer
	a structs.Assignment
}

func (p *manifestPod) Row() structs.Pod { return structs.Pod{Spec: *p.a.Pod.Spec} }

func (p *manifestPod) Reports() (all []structs.ContainerReport) {
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	for _, r := range p.s.reports {
		for _, c := range r.Containers {
			if c.Ref().ID == p.a.ID {
				all = append(all, c)
			}
		}
	}
	return all
}

func (p *manifestPod) Delete() { p.s.assign(next(p.a, structs.DesiredAbsent)) }
