package agent

import (
	"context"
	"sync"

	"github.com/stackforge/magnum/agent/podenv"
	"github.com/stackforge/magnum/structs"
)

// podHost is the host as the variables of pods may show it.
type podHost struct {
	name     string
	describe func(context.Context) (structs.Fingerprint, error) // nil if nothing more is known of the host

	mu    sync.Mutex
	known *structs.Fingerprint // nil before it was asked for: a host's resources and addresses don't change while an agent runs
}

// fingerprint returns what is known of the host.
func (h *podHost) fingerprint(ctx context.Context) (structs.Fingerprint, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.known == nil && h.describe != nil {
		f, err := h.describe(ctx)
		if err != nil {
			return structs.Fingerprint{}, err
		}
		h.known = &f
	}
	if h.known == nil {
		return structs.Fingerprint{}, nil
	}
	return *h.known, nil
}

// expand gives a spec the environment and commands of a container of a pod, whose address
// is given, with the variables of services. CodeInvalid if the manifest asks for what doesn't exist, such as a variable
// that gets too long.
func (h *podHost) expand(ctx context.Context, spec structs.ContainerSpec, a *structs.Assignment, c *structs.PodContainer,
	address string, services map[string]string) (*structs.ContainerSpec, error) {
	pod := podenv.Pod{Name: a.Name, ProjectID: a.ProjectID, ID: a.ID, Labels: a.Pod.Labels, Annotations: a.Pod.Annotations,
		HostName: h.name, Spec: a.Pod.Spec, Services: services}
	if address != "" {
		pod.IPs = []string{address}
	}
	for _, v := range c.Env {
		if v.Field == "" && v.Resource == nil {
			continue
		}
		f, err := h.fingerprint(ctx)
		if err != nil {
			return nil, err
		}
		pod.HostIPs, pod.Capacity = f.Addresses, structs.Resources{Memory: f.Memory, MilliCPU: int64(f.Cores) * 1000}
		break
	}
	process, err := pod.Process(c)
	if err != nil {
		return nil, err
	}
	spec.Environment, spec.Entrypoint, spec.Command = process.Env, process.Command, process.Args
	return &spec, nil
}
