package docker

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/docker/networks"
	"github.com/stackforge/magnum/structs"
)

// Start starts the process. If somebody has removed the project's network, or has made
// several of its name, Start repairs that: the container refers to the network by name.
func (rt *runtime) Start(ctx context.Context, engineID string) error {
	if !rt.unstarted.take(engineID) {
		raw, err := rt.engine.Inspect(ctx, engineID)
		if err == nil {
			err = rt.openVolumes(ctx, raw)
		}
		if err != nil {
			return err
		}
	}
	err := rt.start(ctx, engineID)
	if err == nil || errors.Is(err, backend.ErrAway) || ctx.Err() != nil {
		return err
	}
	raw, inspectErr := rt.engine.Inspect(ctx, engineID)
	if inspectErr != nil {
		return inspectErr
	}
	if infra := infraOf(raw.HostConfig); infra != "" || !networks.IsMissing(err) {
		return rt.infraFailure(ctx, infra, err)
	}
	pinned := rt.networks.Pin(networks.Key{Cluster: raw.Config.Labels[backend.LabelCluster],
		Project: raw.Config.Labels[backend.LabelProject]})
	defer pinned.Unpin()
	if err := pinned.Repair(ctx, string(raw.HostConfig.NetworkMode)); err != nil {
		return err
	}
	return rt.start(ctx, engineID)
}

func (rt *runtime) start(ctx context.Context, engineID string) error {
	rt.ooms.byAgent.take(engineID)
	return rt.engine.Change(ctx, func(ctx context.Context) error {
		return rt.engine.Fresh.ContainerStart(ctx, engineID, container.StartOptions{})
	})
}

// Reconnect connects a container to its network. It gets any address: the engine would keep
// a given one for later starts, which fail once another container has it.
func (rt *runtime) Reconnect(ctx context.Context, engineID string) error {
	raw, err := rt.engine.Inspect(ctx, engineID)
	if err != nil || !detached(raw) {
		return err
	}
	name := string(raw.HostConfig.NetworkMode)
	pinned := rt.networks.Pin(networks.Key{Cluster: raw.Config.Labels[backend.LabelCluster],
		Project: raw.Config.Labels[backend.LabelProject]})
	defer pinned.Unpin()
	connect := func() error {
		return rt.engine.Change(ctx, func(ctx context.Context) error {
			return rt.engine.Client.NetworkConnect(ctx, name, engineID, nil)
		})
	}
	if err = connect(); networks.IsMissing(err) { // nobody was left in it, so somebody could remove it
		if err = pinned.Repair(ctx, name); err == nil {
			err = connect()
		}
	}
	if err != nil && strings.Contains(err.Error(), "already exists in network") {
		return nil // somebody else was faster
	}
	return err
}

// Stop asks the process to end and waits for it.
func (rt *runtime) Stop(ctx context.Context, engineID string, timeout time.Duration) error {
	rt.ooms.byAgent.add(engineID)
	seconds := int((timeout + time.Second - 1) / time.Second)
	return rt.engine.Stop(ctx, timeout, func(ctx context.Context) error {
		return rt.engine.Client.ContainerStop(ctx, engineID, container.StopOptions{Timeout: &seconds})
	})
}

// Kill ends the process at once.
func (rt *runtime) Kill(ctx context.Context, engineID string) error {
	rt.ooms.byAgent.add(engineID)
	err := rt.engine.Change(ctx, func(ctx context.Context) error {
		return rt.engine.Client.ContainerKill(ctx, engineID, "KILL")
	})
	if errors.Is(err, backend.ErrNotRunning) {
		return nil
	}
	return err
}

// Signal sends the process a signal.
func (rt *runtime) Signal(ctx context.Context, engineID, signal string) error {
	if signal == "KILL" || signal == "SIGKILL" || signal == "9" {
		rt.ooms.byAgent.add(engineID)
	}
	err := rt.engine.Change(ctx, func(ctx context.Context) error {
		return rt.engine.Client.ContainerKill(ctx, engineID, signal)
	})
	var f *backend.Failure
	if errors.As(err, &f) && strings.Contains(strings.ToLower(f.Msg), "invalid signal") {
		f.Reason = backend.ErrInvalid // engine 20.10 answers 500
	}
	return err
}

// liftedMemory is a limit in bytes that nobody can ask for or reach. It is a multiple of
// the page size.
const liftedMemory = structs.MaxMemory + 4096

// Update changes the limits.
//
// The engine takes 0 for "unchanged" and has no value for "no limit". So memory is
// limited to liftedMemory, and CPU to all of the machine's less a billionth of one: values
// that nobody can ask for, by which Inspect recognizes lifted limits.
func (rt *runtime) Update(ctx context.Context, engineID string, limits backend.Limits) error {
	to := container.UpdateConfig{Resources: container.Resources{
		Memory: limits.Memory, MemorySwap: limits.Memory, NanoCPUs: limits.MilliCPU * 1e6,
	}}
	if limits.Memory == 0 {
		to.Memory, to.MemorySwap = liftedMemory, liftedMemory
	}
	raw, err := rt.engine.Inspect(ctx, engineID)
	if err != nil {
		return err
	}
	if raw.HostConfig.CPUQuota != 0 { // of a pod: the engine refuses NanoCPUs beside it
		to.NanoCPUs = 0
		if to.CPUPeriod, to.CPUQuota = quotaOf(limits.MilliCPU); limits.MilliCPU == 0 {
			to.CPUQuota = -1
		}
	} else if limits.MilliCPU == 0 {
		machine, err := rt.Fingerprint(ctx)
		if err != nil {
			return err
		}
		to.NanoCPUs = int64(machine.Cores)*1e9 - 1
	}
	return rt.engine.Change(ctx, func(ctx context.Context) error {
		_, err := rt.engine.Client.ContainerUpdate(ctx, engineID, to)
		return err
	})
}

// limitsOf reads the limits of an inspected container.
func limitsOf(host *container.HostConfig) (l backend.Limits) {
	if host == nil {
		return l
	}
	switch {
	case host.NanoCPUs == 0 && host.CPUQuota > 0 && host.CPUPeriod > 0: // see limitCPU
		l.MilliCPU = host.CPUQuota * 1000 / host.CPUPeriod
	case host.NanoCPUs%1e6 == 0:
		l.MilliCPU = host.NanoCPUs / 1e6
	}
	if host.Memory > 0 && host.Memory < liftedMemory {
		l.Memory = host.Memory
	}
	return l
}

// Pause freezes the process.
func (rt *runtime) Pause(ctx context.Context, engineID string) error {
	err := rt.engine.Change(ctx, func(ctx context.Context) error {
		return rt.engine.Client.ContainerPause(ctx, engineID)
	})
	if err != nil && strings.Contains(err.Error(), "already paused") {
		return nil
	}
	return err
}

// Unpause thaws the process.
func (rt *runtime) Unpause(ctx context.Context, engineID string) error {
	err := rt.engine.Change(ctx, func(ctx context.Context) error {
		return rt.engine.Client.ContainerUnpause(ctx, engineID)
	})
	if err != nil && strings.Contains(err.Error(), "is not paused") {
		return nil
	}
	return err
}

// removePause is the time between two looks at a container that somebody else is removing.
const removePause = 100 * time.Millisecond

// Remove removes the container with its anonymous volumes. The project's network stays for
// its next container: see TidyNetworks.
func (rt *runtime) Remove(ctx context.Context, engineID string) error {
	rt.unstarted.take(engineID)
	rt.ooms.forget(engineID)
	raw, err := rt.engine.Inspect(ctx, engineID)
	if errors.Is(err, backend.ErrNotFound) {
		return nil
	} else if err != nil {
		return err
	}
	err = rt.engine.Change(ctx, func(ctx context.Context) error {
		err := rt.engine.Client.ContainerRemove(ctx, engineID, container.RemoveOptions{Force: true, RemoveVolumes: true})
		for err != nil && strings.Contains(err.Error(), "already in progress") {
			select {
			case <-time.After(removePause):
			case <-ctx.Done():
				return ctx.Err()
			}
			if _, err = rt.engine.Client.ContainerInspect(ctx, engineID); err == nil {
				err = errors.New("its removal is already in progress")
			}
		}
		return err
	})
	if err != nil && !errors.Is(err, backend.ErrNotFound) {
		return err
	}
	if raw.HostConfig != nil && !raw.HostConfig.NetworkMode.IsContainer() {
		rt.networks.NoteUsed(string(raw.HostConfig.NetworkMode))
	}
	return nil
}
