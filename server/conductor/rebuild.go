package conductor

import "github.com/stackforge/magnum/structs"

// RebuildContainer makes a container anew under the next epoch, from another
// image if one is given. It keeps its UUID, its volumes and, if it has any, its
// host.
type RebuildContainer struct {
	Caller structs.Caller
	Ident  string
	Image  string // "" means the one that it has
}

func (r RebuildContainer) decide(t *tx) (*structs.Container, error) {
	c, err := t.container(r.Caller, r.Ident)
	if err != nil {
		return nil, err
	}
	if c.Desired == structs.DesiredAbsent {
		return nil, structs.Errorf(structs.CodeConflict, "Container %s is being deleted", r.Ident).About(structs.KindContainer)
	}
	changed := *c
	changed.Spec.Image = orElse(r.Image, c.Spec.Image)
	if changed.Desired = lasting(c); changed.Desired == structs.DesiredStopped {
		changed.Desired = structs.DesiredCreated
	}
	changed.Generation++
	changed.UpdatedAt = t.now
	if changed.HostID == "" {
		t.place(&changed, row[structs.Bay](t, c.BayID))
	} else {
		// On the same host, which has its volumes.
		changed.Epoch++
		changed.Gone, changed.Observed = false, structs.Observed{}
	}
	t.assign(&changed)
	return &changed, nil
}

// ResizeContainer changes what a container may use of its host, while it runs.
type ResizeContainer struct {
	Caller   structs.Caller
	Ident    string
	Memory   *int64 // bytes
	MilliCPU *int64 // thousandths of a core
}

func (r ResizeContainer) decide(t *tx) (*structs.Container, error) {
	c, err := t.container(r.Caller, r.Ident)
	if err != nil {
		return nil, err
	}
	if c.Desired == structs.DesiredAbsent {
		return nil, structs.Errorf(structs.CodeConflict, "Container %s is being deleted", r.Ident).About(structs.KindContainer)
	}
	changed := *c
	if r.Memory != nil {
		changed.Spec.Memory = *r.Memory
	}
	if r.MilliCPU != nil {
		changed.Spec.MilliCPU = *r.MilliCPU
	}
	if host := row[structs.Host](t, c.HostID); host != nil {
		used := t.used(host.ID)
		memory := used.Memory - c.Spec.Memory + changed.Spec.Memory
		cpu := used.MilliCPU - c.Spec.MilliCPU + changed.Spec.MilliCPU
		switch {
		case changed.Spec.Memory > c.Spec.Memory && memory > host.Fingerprint.Memory:
			return nil, structs.Errorf(structs.CodeConflict, "memory %d: host %s has %d bytes left for container %s", changed.Spec.Memory, host.Name, host.Fingerprint.Memory-used.Memory+c.Spec.Memory, r.Ident).About(structs.KindContainer)
		case changed.Spec.MilliCPU > c.Spec.MilliCPU && cpu > int64(host.Fingerprint.Cores)*1000:
			return nil, structs.Errorf(structs.CodeConflict, "cpu %g: host %s has %g cores left for container %s", float64(changed.Spec.MilliCPU)/1000, host.Name, float64(int64(host.Fingerprint.Cores)*1000-used.MilliCPU+c.Spec.MilliCPU)/1000, r.Ident).About(structs.KindContainer)
		}
	}
	changed.Desired = lasting(c)
	changed.Generation++
	changed.UpdatedAt = t.now
	t.assign(&changed)
	return &changed, nil
}

// lasting returns what is wanted of a container under a new generation that
// isn't about starting or stopping it: a process that has ended by itself is
// not to be started for it.
func lasting(c *structs.Container) structs.Desired {
	if c.Desired == structs.DesiredRunning && c.Settled() && c.Observed.Status == structs.ContainerStopped {
		return structs.DesiredStopped
	}
	return c.Desired
}
