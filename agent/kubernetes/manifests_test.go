//go:build kubernetes

package kubernetes

import (
	"slices"
	"testing"

	suite "github.com/stackforge/magnum/agent/backend/backendtest/manifests"
	"github.com/stackforge/magnum/internal/kubetest"
	"github.com/stackforge/magnum/manifest/kubernetes"
	"github.com/stackforge/magnum/structs"
)

// TestManifests is the counterpart of agent.TestManifestsOnDocker.
func TestManifests(t *testing.T) { suite.Suite(t, &manifestHost{newRig(t)}) }

// manifestHost runs the pods of the suite.
type manifestHost struct{ r *rig }

func (*manifestHost) Backend() structs.Backend { return structs.BackendKubernetes }
func (*manifestHost) Image() string            { return kubetest.Image }

// Run implements suite.Host.
func (h *manifestHost) Run(t *testing.T, name, text string) suite.Pod {
	t.Helper()
	read, err := kubernetes.ParsePod(text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return &manifestPod{h.r, h.r.podOf(name, text), read.Spec}
}

// manifestPod implements suite.Pod.
type manifestPod struct {
	r    *rig
	id   string
	spec structs.PodSpec
}

func (p *manifestPod) Row() structs.Pod { return structs.Pod{Spec: p.spec} }

func (p *manifestPod) Reports() []structs.ContainerReport {
	p.r.mu.Lock()
	defer p.r.mu.Unlock()
	return slices.Clone(p.r.history[p.id])
}

func (p *manifestPod) Delete() {
	p.r.change(p.id, func(a *structs.Assignment) { a.Desired = structs.DesiredAbsent })
}
