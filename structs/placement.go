package structs

// Placement is what all kinds of placed workloads share: what is wanted of one, and
// where it is. A row type embeds it, as it embeds Meta. The conductor writes it, but
// for AssignIndex. What an agent has seen of the workload is in the row's own
// observed body; Workload.Seen gives the part of it that all kinds have.
type Placement struct {
	BayID string // the bay whose hosts it may run on

	// Wanted: written by the conductor for users.
	Desired         Desired
	Generation      uint64 // raised by every action; Seen.Generation is the one that is done
	StartGeneration uint64 // generation of the last action that starts a process, or wakes a paused one; 0 if there was none, or in a row from before this field, where each generation may be one
	Force           bool   // with DesiredAbsent: kill, don't stop

	// Placed: written by the conductor.
	HostID      string // "" while nothing fits
	Epoch       uint64 // raised by each placement; 0 while it was never placed
	PlaceReason string // why it waits for a host, "" if it doesn't
	AssignIndex uint64 `codec:"-"` // index of the last entry that its host has to hear of; written by the state store

	DrainStop bool // stopped because its host is drained and it can't move; wanted running all the same
	// Priors are earlier placements that may still exist, each on another host.
	// Their hosts have them removed. Written by the conductor.
	Priors []Prior

	Gone bool // the host no longer has anything of this epoch; a start places it again
}

// Place returns the Placement itself, so that a Placement embedded in a row makes a
// part of the Workload interface.
func (p *Placement) Place() *Placement { return p }

// Prior is an earlier placement: what one epoch of a workload left on its host.
type Prior struct {
	_struct struct{} `codec:",omitempty"` // see codec.go

	HostID     string
	Epoch      uint64
	Generation uint64 // that it had when the workload was placed again
	Keep       bool   // it is to run on until the newest placement runs; else it is to go
	EngineID   string // the engine's own id of it; "" if that isn't known
}

// PriorOn returns the earlier placement on the host, nil if there is none.
func (p *Placement) PriorOn(hostID string) *Prior {
	for i := range p.Priors {
		if p.Priors[i].HostID == hostID {
			return &p.Priors[i]
		}
	}
	return nil
}

// Placed reports whether any host has, or may have, something of the workload.
func (p *Placement) Placed() bool { return p.HostID != "" || len(p.Priors) > 0 }

// Waits reports whether the workload is to be placed as soon as there is room.
func (p *Placement) Waits() bool { return p.HostID == "" && p.Desired != DesiredAbsent }

// On reports whether the workload has a placement on the host, the newest or an
// earlier one.
func (p *Placement) On(hostID string) bool {
	return hostID != "" && (p.HostID == hostID || p.PriorOn(hostID) != nil)
}

// Hosts returns the hosts on which the workload has a placement. Each of them
// reserves what it asks for.
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

// Demand is what a scheduler has to know of a workload: what it takes of a host, and
// which hosts will do.
type Demand struct {
	Memory      int64             // bytes; 0 means no limit, and nothing to reserve
	MilliCPU    int64             // thousandths of a core; 0 likewise
	Ports       []Port            // those with a HostPort are reserved
	Constraints map[string]string // labels that the host must carry
}
