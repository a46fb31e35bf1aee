package structs

import "slices"

// Placement is what all kinds of workloads share: the desired state, and the place on
// a host. A row type embeds it, as it embeds Meta. The conductor writes it, except
// AssignIndex. The observed state is in the row itself; Workload.Seen returns the part
// of it that all kinds have.
type Placement struct {
	BayID string // the bay whose hosts it may run on

	// Desired: written by the conductor for users.
	Desired    Desired
	Generation uint64 // raised by every action; Seen.Generation is the newest one done
	// StartGeneration is the generation of the last action that starts a process or
	// unpauses it. 0 means that there was none. In a row from before this field it is
	// 0 too, and any generation may be one.
	StartGeneration uint64
	Force           bool // with DesiredAbsent: kill instead of stop

	// Placed: written by the conductor.
	HostID      string // "" while no host fits
	Epoch       uint64 // raised by each placement; 0 before the first
	PlaceReason string // why it waits for a host; "" if it doesn't
	AssignIndex uint64 `codec:"-"` // index of the last entry that its hosts have to learn of; written by the state store

	DrainStop bool // stopped because its host is being drained and it can't move; Desired stays running
	// Priors are earlier placements that may still exist, each on another host. Their
	// hosts remove them, but for those with Keep. Written by the conductor.
	Priors []Prior

	Gone bool // the host no longer has anything of this epoch; a start places it again
}

// Place returns the Placement itself. A row that embeds a Placement gets this method
// of Workload from it.
func (p *Placement) Place() *Placement { return p }

// Prior is an earlier placement: what one epoch of a workload left on its host.
type Prior struct {
	_struct struct{} `codec:",omitempty"` // see codec.go

	HostID     string
	Epoch      uint64
	Generation uint64 // of the workload when it was placed again
	Keep       bool   // it keeps running until the newest placement is ready; otherwise it is removed
	EngineID   string // the engine's ID of it; "" if unknown
}

// PriorOn returns the earlier placement on the host; nil if there is none.
func (p *Placement) PriorOn(hostID string) *Prior {
	for i := range p.Priors {
		if p.Priors[i].HostID == hostID {
			return &p.Priors[i]
		}
	}
	return nil
}

// Placed reports whether any host has, or may have, a placement of the workload.
func (p *Placement) Placed() bool { return p.HostID != "" || len(p.Priors) > 0 }

// Waits reports whether the workload waits for a host.
func (p *Placement) Waits() bool { return p.HostID == "" && p.Desired != DesiredAbsent }

// On reports whether the workload has a placement on the host, the newest or an
// earlier one.
func (p *Placement) On(hostID string) bool {
	return hostID != "" && (p.HostID == hostID || p.PriorOn(hostID) != nil)
}

// Hosts returns the hosts on which the workload has a placement. Each of them
// reserves the workload's demand.
func (p *Placement) Hosts() []string {
	var hosts []string
	if p.HostID != "" {
		hosts = append(hosts, p.HostID)
	}
	for i := range p.Priors {
		hosts = append(hosts, p.Priors[i].HostID)
	}
	return hosts
}

// Moving reports whether an earlier placement keeps running until the newest one is
// ready.
func (p *Placement) Moving() bool {
	return slices.ContainsFunc(p.Priors, func(p Prior) bool { return p.Keep })
}

// Release clears Keep on the earlier placements: the newest one is ready or has had its
// time, or none should run any more. It reports whether any had Keep. The slice is copied
// first, because other copies of the row may share it.
func (p *Placement) Release() bool {
	if !p.Moving() {
		return false
	}
	p.Priors = slices.Clone(p.Priors)
	for i := range p.Priors {
		p.Priors[i].Keep = false
	}
	return true
}

// Demand is what a workload needs from a host, and which hosts may run it.
type Demand struct {
	Memory      int64             // bytes; 0 means no limit and no reservation
	MilliCPU    int64             // thousandths of a core; 0 means no limit and no reservation
	Ports       []Port            // those with a HostPort are reserved
	Constraints map[string]string // labels that the host must carry
	Kind        WorkloadKind      // that the host's agent must run; "" for a container, which every agent runs
}
