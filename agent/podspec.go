package agent

import (
	"slices"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/structs"
)

// This file translates the containers of a pod into what a backend is asked to create.

// podParts returns the parts of a pod: the infra container, then the init containers, then
// the containers. It is the partsFunc of pods.
func podParts(a *structs.Assignment) []part {
	if a.Pod == nil || a.Pod.Spec == nil {
		a.Unreadable = "it has no pod"
		return nil
	}
	s := a.Pod.Spec
	parts := []part{{structs.PodInfra, infraSpec(s)}}
	for _, list := range [][]structs.PodContainer{s.InitContainers, s.Containers} {
		for i := range list {
			parts = append(parts, part{list[i].Name, containerSpec(s, &list[i])})
		}
	}
	return parts
}

// infraSpec returns the spec of a pod's infra container. Host ports are published there,
// because the network is its.
func infraSpec(s *structs.PodSpec) *structs.ContainerSpec {
	spec := &structs.ContainerSpec{
		Image: s.InfraImage, PullPolicy: structs.PullIfNotPresent, Hostname: structs.Text(s.Hostname), Exclusive: s.Exclusive,
		RestartPolicy: structs.RestartPolicy{Name: structs.RestartNo}, Healthcheck: noHealthcheck(),
	}
	for i := range s.Containers {
		for _, p := range s.Containers[i].Ports {
			if p.HostPort != 0 {
				spec.Ports = append(spec.Ports, p.Port)
			}
		}
	}
	return spec
}

// containerSpec returns the spec of a container of a pod, with its environment and
// commands as the manifest has them. Only probes check a pod, not the healthcheck of an
// image. Requests only reserve: the engine is told the limits.
func containerSpec(s *structs.PodSpec, c *structs.PodContainer) *structs.ContainerSpec {
	return &structs.ContainerSpec{
		Image: c.Image, PullPolicy: c.PullPolicy, Entrypoint: c.Command, Command: c.Args, Workdir: structs.Text(c.Workdir),
		Memory: structs.Bytes(c.Limits.Memory), MilliCPU: structs.MilliCPU(c.Limits.MilliCPU),
		TTY: c.TTY, Stdin: c.Stdin, Exclusive: s.Exclusive,
		RestartPolicy: structs.RestartPolicy{Name: structs.RestartNo}, Healthcheck: noHealthcheck(),
	}
}

// noHealthcheck turns off the image's own healthcheck.
func noHealthcheck() *structs.Healthcheck {
	return &structs.Healthcheck{Test: structs.Command{Args: []string{}}}
}

// podPart returns what a part of a pod has beside its spec. c is nil for the infra
// container, whose ID infra is otherwise.
func podPart(s *structs.PodSpec, c *structs.PodContainer, attempt uint64, infra string) *backend.PodPart {
	if c == nil {
		return &backend.PodPart{Attempt: attempt, HostAliases: s.HostAliases, Volumes: s.Volumes, FSGroup: s.FSGroup}
	}
	part := &backend.PodPart{
		Attempt: attempt, Infra: infra, SharePID: s.SharePID, Mounts: c.Mounts, FSGroup: s.FSGroup, Security: c.Security,
		StdinOnce: c.StdinOnce,
	}
	for _, v := range s.Volumes {
		if slices.ContainsFunc(c.Mounts, func(m structs.PodMount) bool { return m.Volume == v.Name }) {
			part.Volumes = append(part.Volumes, v)
		}
	}
	return part
}

// containerOf returns a container of a pod by name; nil if there is none, as for the infra
// container.
func containerOf(s *structs.PodSpec, name string) *structs.PodContainer {
	for _, list := range [][]structs.PodContainer{s.InitContainers, s.Containers} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return nil
}
