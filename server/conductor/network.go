package conductor

import (
	"slices"

	"github.com/stackforge/magnum/server/schedule"
	"github.com/stackforge/magnum/structs"
)

// withNetworks marks the hosts that have no network for the container's project
// and no room for another one. hosts stays as it is.
func (t *tx) withNetworks(hosts []schedule.Host, c *structs.Container) []schedule.Host {
	cloned := false
	for i := range hosts {
		if h := row[structs.Host](t, hosts[i].ID); h == nil || !h.NetworksFull || t.hasNetwork(h.ID, c) {
			continue
		}
		if !cloned {
			hosts, cloned = slices.Clone(hosts), true
		}
		hosts[i].NoNetwork = true
	}
	return hosts
}

// hasNetwork reports whether the host has made another container of the project.
func (t *tx) hasNetwork(hostID string, c *structs.Container) bool {
	for other := range t.containersOnHost(hostID) {
		if other.ID != c.ID && other.ProjectID == c.ProjectID && other.HostID == hostID && made(other) {
			return true
		}
	}
	return false
}

// made reports whether the container's host has been seen to have it.
func made(c *structs.Container) bool {
	if c.Gone {
		return false
	}
	switch c.Observed.Status {
	case structs.ContainerRunning, structs.ContainerPaused, structs.ContainerStopped:
		return true
	}
	return !c.Observed.StartedAt.IsZero()
}

// refuse takes a container off a host that can't make it, for want of a network,
// and places it on another one; if none fits, it waits. false means that it stays
// where it is, and its host tries again.
func (t *tx) refuse(was *structs.Container) bool {
	bay := row[structs.Bay](t, was.BayID)
	switch {
	case bay == nil || bay.Status == structs.BayDeleting, was.Desired == structs.DesiredAbsent, made(was):
		return false
	case was.Spec.NamedVolume() != "" && was.Epoch > 1:
		return false // what is in the volume may be on that host
	case len(was.Priors) >= maxPriors:
		return false // those hosts have yet to say that they have nothing of it
	}
	c := *was
	// Its host hears of it until it says that nothing is there.
	c.Priors = append(slices.Clone(was.Priors), structs.Prior{HostID: was.HostID, Epoch: was.Epoch, Generation: was.Generation})
	c.HostID, c.Observed = "", structs.Observed{}
	t.place(&c, bay)
	t.assign(&c)
	return true
}
