package docker

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/go-connections/nat"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/structs"
)

// Fingerprint describes the engine's machine.
func (d *Docker) Fingerprint(ctx context.Context) (structs.Fingerprint, error) {
	var f structs.Fingerprint
	err := d.read(ctx, readTimeout, func(ctx context.Context) error {
		engine, err := d.cli.Info(ctx)
		if err != nil {
			return err
		}
		f = structs.Fingerprint{
			Backend: structs.BackendDocker, EngineVersion: engine.ServerVersion,
			OS: engine.OperatingSystem, Kernel: engine.KernelVersion,
			Cores: engine.NCPU, Memory: engine.MemTotal,
			Engine: structs.EngineIdentity{ID: engine.ID, Root: engine.DockerRootDir},
		}
		if strings.HasPrefix(d.conf.Host, "unix://") {
			readEngine(&f.Engine)
		}
		// Of a remote engine the directory isn't here, and its size stays unknown.
		if fs, err := fileSystem(engine.DockerRootDir); err == nil {
			f.Disk = int64(fs.Blocks) * fs.Bsize
		}
		return nil
	})
	return f, err
}

// Inspect returns the container as it is now.
func (d *Docker) Inspect(ctx context.Context, engineID string) (*backend.Container, error) {
	raw, err := d.inspect(ctx, engineID)
	if err != nil {
		return nil, err
	}
	if _, ours := backend.RefOf(raw.Config.Labels); ours {
		d.noteUse(raw.Image, timeOf(raw.Created))
	}
	c := containerOf(raw)
	c.Inherited = c.ID != "" && d.inherits(ctx, raw.Image, c.Ref)
	return c, nil
}

// inspect asks the engine for a container by id or name.
func (d *Docker) inspect(ctx context.Context, idOrName string) (raw container.InspectResponse, err error) {
	// The engine locks a container while it starts it: the answer may take
	// as long as a start.
	err = d.read(ctx, changeTimeout, func(ctx context.Context) error {
		raw, err = d.cli.ContainerInspect(ctx, idOrName)
		return err
	})
	return raw, err
}

// containerOf keeps what the agent needs of an inspection.
func containerOf(raw container.InspectResponse) *backend.Container {
	entry, _ := entryOf(raw.ID, raw.Config.Labels)
	entry.Name, entry.CreatedAt = strings.TrimPrefix(raw.Name, "/"), timeOf(raw.Created)
	c := &backend.Container{
		Entry: entry, SpecHash: raw.Config.Labels[backend.LabelSpec],
		State: stateOf(raw.State), ExitCode: raw.State.ExitCode, OOMKilled: raw.State.OOMKilled,
		StartedAt: timeOf(raw.State.StartedAt), FinishedAt: timeOf(raw.State.FinishedAt),
		RestartCount: raw.RestartCount, Error: raw.State.Error, Limits: limitsOf(raw.HostConfig), Health: healthOf(raw.State),
	}
	if raw.NetworkSettings == nil {
		return c
	}
	for _, n := range raw.NetworkSettings.Networks {
		if n.IPAddress != "" {
			c.Addresses = append(c.Addresses, n.IPAddress)
		}
	}
	slices.Sort(c.Addresses)
	c.Ports = portsOf(raw.NetworkSettings.Ports)
	return c
}

// stateOf maps the engine's words for a state.
func stateOf(s *container.State) backend.State {
	switch s.Status {
	case container.StateCreated:
		return backend.StateCreated
	case container.StateRunning:
		return backend.StateRunning
	case container.StatePaused:
		return backend.StatePaused
	case container.StateRestarting:
		return backend.StateRestarting
	case container.StateRemoving:
		return backend.StateRemoving
	}
	return backend.StateExited // also dead: a removal that failed half-way
}

// timeOf reads a time of the engine, whose zero is 0001-01-01T00:00:00Z.
func timeOf(s string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return time.Time{}
	}
	return t.UTC()
}

// portsOf lists published ports, each once: the engine binds IPv4 and IPv6
// apart, and may find another free host port for each. The IPv4 one is told.
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
		return cmp.Or(cmp.Compare(a.ContainerPort, b.ContainerPort), cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.HostPort, b.HostPort))
	})
	return ports
}
