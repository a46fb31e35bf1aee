package docker

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/go-connections/nat"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/docker/engine"
	"github.com/stackforge/magnum/structs"
)

// Fingerprint describes the engine's machine.
func (rt *runtime) Fingerprint(ctx context.Context) (structs.Fingerprint, error) {
	var f structs.Fingerprint
	err := rt.engine.Read(ctx, engine.ReadTimeout, func(ctx context.Context) error {
		info, err := rt.engine.Client.Info(ctx)
		if err != nil {
			return err
		}
		f = structs.Fingerprint{
			Backend: structs.BackendDocker, EngineVersion: info.ServerVersion,
			OS: info.OperatingSystem, Kernel: info.KernelVersion,
			Cores: info.NCPU, Memory: info.MemTotal,
			Engine: structs.EngineIdentity{ID: info.ID, Root: info.DockerRootDir},
		}
		if rt.engine.Local() {
			readEngine(&f.Engine)
		}
		// The directory of a remote engine isn't here, so its size stays unknown.
		if fs, err := engine.FileSystem(info.DockerRootDir); err == nil {
			f.Disk = int64(fs.Blocks) * fs.Bsize
		}
		return nil
	})
	return f, err
}

// Inspect returns the container as it is now.
func (rt *runtime) Inspect(ctx context.Context, engineID string) (*backend.Container, error) {
	raw, err := rt.engine.Inspect(ctx, engineID)
	if err != nil {
		return nil, err
	}
	if _, ours := backend.RefOf(raw.Config.Labels); ours {
		rt.images.NoteUse(raw.Image, engine.TimeOf(raw.Created))
	}
	c := containerOf(raw)
	c.OOMKilled = c.OOMKilled || rt.killedLate(ctx, raw)
	c.Inherited = c.ID != "" && rt.engine.Inherits(ctx, raw.Image, c.Entry)
	return c, nil
}

// containerOf converts an inspected container.
func containerOf(raw container.InspectResponse) *backend.Container {
	entry, _ := engine.EntryOf(raw.ID, raw.Config.Labels)
	entry.Name, entry.CreatedAt = strings.TrimPrefix(raw.Name, "/"), engine.TimeOf(raw.Created)
	c := &backend.Container{
		Entry: entry, SpecHash: raw.Config.Labels[backend.LabelSpec], ImageID: raw.Image, Infra: infraOf(raw.HostConfig),
		State: engine.StateOf(raw.State), ExitCode: raw.State.ExitCode, OOMKilled: raw.State.OOMKilled,
		StartedAt: engine.TimeOf(raw.State.StartedAt), FinishedAt: engine.TimeOf(raw.State.FinishedAt),
		RestartCount: raw.RestartCount,
		Error:        engine.HidePaths(raw.State.Error), Limits: limitsOf(raw.HostConfig), Health: healthOf(raw.State),
	}
	if raw.NetworkSettings == nil {
		return c
	}
	own := ownEndpoint(raw)
	for _, n := range raw.NetworkSettings.Networks {
		if n.IPAddress != "" && n != own {
			c.Addresses = append(c.Addresses, n.IPAddress)
		}
	}
	slices.Sort(c.Addresses)
	if own != nil && own.IPAddress != "" {
		c.Addresses = slices.Insert(c.Addresses, 0, own.IPAddress)
	}
	c.Detached = detached(raw)
	c.Ports = portsOf(raw.NetworkSettings.Ports)
	return c
}

// ownEndpoint returns the connection of a container to the network that it was created
// with; nil if there is none.
func ownEndpoint(raw container.InspectResponse) *network.EndpointSettings {
	if raw.HostConfig == nil || raw.NetworkSettings == nil {
		return nil
	}
	mode := string(raw.HostConfig.NetworkMode)
	for name, end := range raw.NetworkSettings.Networks {
		if end != nil && (name == mode || end.NetworkID == mode) {
			return end
		}
	}
	return nil
}

// detached reports whether a container runs without the network that it was created with.
// While a process is restarted by the engine, it has no network anyway.
func detached(raw container.InspectResponse) bool {
	if state := engine.StateOf(raw.State); state != backend.StateRunning && state != backend.StatePaused {
		return false
	}
	if raw.HostConfig == nil || !raw.HostConfig.NetworkMode.IsUserDefined() {
		return false
	}
	own := ownEndpoint(raw)
	return own == nil || own.EndpointID == ""
}

// portsOf lists the published ports, each once. The engine binds IPv4 and IPv6 separately
// and may choose another host port for each; the list has the IPv4 one.
func portsOf(bound nat.PortMap) []structs.Port {
	var ports []structs.Port
	for port, bindings := range bound {
		isIPv6 := func(b nat.PortBinding) bool { return strings.Contains(b.HostIP, ":") }
		only6 := !slices.ContainsFunc(bindings, func(b nat.PortBinding) bool { return !isIPv6(b) })
		for _, b := range bindings {
			host, err := strconv.Atoi(b.HostPort)
			p := structs.Port{ContainerPort: port.Int(), HostPort: host, Protocol: port.Proto()}
			if err == nil && (only6 || !isIPv6(b)) && !slices.Contains(ports, p) {
				ports = append(ports, p)
			}
		}
	}
	slices.SortFunc(ports, func(a, b structs.Port) int {
		return cmp.Or(cmp.Compare(a.ContainerPort, b.ContainerPort), cmp.Compare(a.Protocol, b.Protocol),
			cmp.Compare(a.HostPort, b.HostPort))
	})
	return ports
}
