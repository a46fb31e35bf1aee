package conductor

import (
	"cmp"

	"github.com/stackforge/magnum/server/conductor/actions"
	"github.com/stackforge/magnum/server/conductor/placing"
	"github.com/stackforge/magnum/server/conductor/scratch"
	"github.com/stackforge/magnum/structs"
)

// RebuildContainer creates a container again under the next epoch, from another image if
// one is given. It keeps its UUID, its volumes and, if it has one, its host.
type RebuildContainer struct {
	Caller structs.Caller
	Ident  string
	Image  string // "" means the present one
}

func (r RebuildContainer) decide(t *scratch.Tx) (*structs.Container, error) {
	c, err := find[*structs.Container](t, r.Caller, structs.KindContainer, r.Ident)
	if err != nil {
		return nil, err
	}
	if c.Desired == structs.DesiredAbsent {
		return nil, structs.Errorf(structs.CodeConflict, "Container %s is being deleted", r.Ident).About(structs.KindContainer)
	}
	changed := *c
	changed.Spec.Image = cmp.Or(r.Image, c.Spec.Image)
	if changed.Desired = desiredUnderNewGeneration(c); changed.Desired == structs.DesiredStopped {
		changed.Desired = structs.DesiredCreated
	}
	changed.Generation++
	if changed.Desired == structs.DesiredRunning {
		changed.StartGeneration = changed.Generation
	}
	changed.UpdatedAt = t.Now
	if changed.HostID == "" {
		placing.Place(t, &changed, scratch.Row[structs.Bay](t, c.BayID))
	} else {
		// On the same host, which has its volumes, and the old container until that is removed.
		changed.Epoch = placing.NextEpoch(t, c)
		changed.Gone, changed.Observed = false, structs.Observed{Memory: c.Observed.Memory, MilliCPU: c.Observed.MilliCPU}
	}
	t.Assign(&changed)
	actions.Note(t, r.Caller, "rebuild", c, changed.Generation)
	return &changed, nil
}

// ResizeContainer changes a container's limits while it runs.
type ResizeContainer struct {
	Caller   structs.Caller
	Ident    string
	Memory   *int64 // bytes
	MilliCPU *int64 // thousandths of a core
}

func (r ResizeContainer) decide(t *scratch.Tx) (*structs.Container, error) {
	c, err := find[*structs.Container](t, r.Caller, structs.KindContainer, r.Ident)
	if err != nil {
		return nil, err
	}
	changed := *c
	if err := resize(t, &changed, r.Memory, r.MilliCPU); err != nil {
		return nil, err
	}
	changed.UpdatedAt = t.Now
	t.Assign(&changed)
	actions.Note(t, r.Caller, "update", c, changed.Generation)
	return &changed, nil
}

// resize sets other limits in the copy of a container, under a new generation, if its host
// has room for them. nil keeps the present limit.
func resize(t *scratch.Tx, c *structs.Container, memory, milliCPU *int64) error {
	if c.Desired == structs.DesiredAbsent {
		return structs.Errorf(structs.CodeConflict, "Container %s is being deleted", c.Name).About(structs.KindContainer)
	}
	was := c.Spec
	held := c.Reserved()
	if memory != nil {
		c.Spec.Memory = structs.Bytes(*memory)
	}
	if milliCPU != nil {
		c.Spec.MilliCPU = structs.MilliCPU(*milliCPU)
	}
	if host := scratch.Row[structs.Host](t, c.HostID); host != nil {
		used := t.Reserved.Used(host.ID)
		room := structs.Bytes(host.Fingerprint.Memory - used.Memory + held.Memory)
		cores := structs.MilliCPU(int64(host.Fingerprint.Cores)*1000 - used.MilliCPU + held.MilliCPU)
		switch {
		case c.Spec.Memory > was.Memory && c.Spec.Memory > room:
			return structs.Errorf(structs.CodeConflict, "memory %d: host %s has %d bytes left for container %s", c.Spec.Memory, host.Name,
				room, c.Name).About(structs.KindContainer)
		case c.Spec.MilliCPU > was.MilliCPU && c.Spec.MilliCPU > cores:
			return structs.Errorf(structs.CodeConflict, "cpu %g: host %s has %g cores left for container %s", c.Spec.MilliCPU.Cores(),
				host.Name, cores.Cores(), c.Name).About(structs.KindContainer)
		}
	}
	c.Desired = desiredUnderNewGeneration(c)
	c.Generation++
	c.LimitGeneration = c.Generation
	return nil
}

// desiredUnderNewGeneration returns the desired state of a container under a new generation
// that isn't about starting or stopping it. A process that has exited by itself must not be
// started by it, unless its restart policy is about to do so.
func desiredUnderNewGeneration(c *structs.Container) structs.Desired {
	if c.Desired == structs.DesiredRunning && !c.Spec.RestartPolicy.Always() && c.Done() &&
		c.Observed.Status == structs.ContainerStopped {
		return structs.DesiredStopped
	}
	return c.Desired
}
