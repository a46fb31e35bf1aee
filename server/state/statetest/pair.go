// Package statetest provides another kind of placed workload for the tests of packages
// state, conductor and dispatch, which must treat it like containers and pods. A test package
// registers its table in an init function. No program imports this package.
package statetest

import (
	"time"

	"github.com/stackforge/magnum/structs"
)

// Pair is a workload of two or more parts that share a host.
type Pair struct {
	structs.Meta
	structs.Placement
	Name      string
	Parts     []Part
	Restart   structs.RestartPolicy
	Exclusive structs.Exclusive
	Volume    string
	Observed  PairObserved
}

// Part is one container of a pair.
type Part struct {
	Name     string         `codec:",omitempty"`
	Memory   int64          `codec:",omitempty"`
	MilliCPU int64          `codec:",omitempty"`
	Ports    []structs.Port `codec:",omitempty"`
}

// PairObserved is what an agent has observed of a pair.
type PairObserved struct {
	structs.Seen
	Memory int64          `codec:",omitempty"` // bytes, which the engine has set for all parts
	Parts  []PartObserved `codec:",omitempty"`
}

// PartObserved is what an agent has observed of a part.
type PartObserved struct {
	Name   string                  `codec:",omitempty"`
	Status structs.ContainerStatus `codec:",omitempty"`
}

// TablePairs is the table of pairs.
const TablePairs structs.Table = "pairs"

// KindPair is the kind of these workloads.
const KindPair structs.WorkloadKind = "pair"

// CodePairs is the table's code.
const CodePairs = 31

// NewPair returns an empty row.
func NewPair() structs.Row { return new(Pair) }

// Table returns the row's table.
func (*Pair) Table() structs.Table { return TablePairs }

// RowName returns the pair's name.
func (p *Pair) RowName() string { return p.Name }

// Ref returns the reference of the newest placement.
func (p *Pair) Ref() structs.Ref {
	return structs.Ref{Kind: KindPair, ID: p.ID, Epoch: p.Epoch}
}

// Copy returns a copy of the row.
func (p *Pair) Copy() structs.Workload { return new(*p) }

// Demand returns the sum of the parts' demands.
func (p *Pair) Demand() (d structs.Demand) {
	for _, part := range p.Parts {
		d.Memory += part.Memory
		d.MilliCPU += part.MilliCPU
		d.Ports = append(d.Ports, part.Ports...)
	}
	return d
}

// Reserved returns the larger one of Demand and the engine's limits.
func (p *Pair) Reserved() structs.Demand {
	d := p.Demand()
	d.Memory = max(d.Memory, p.Observed.Memory)
	return d
}

// Policy returns what decides whether and when the pair is placed again.
func (p *Pair) Policy() structs.Policy {
	return structs.Policy{Restart: p.Restart, Exclusive: p.Exclusive, Volume: p.Volume}
}

// Seen returns the part of Observed that all kinds of workloads have.
func (p *Pair) Seen() structs.Seen { return p.Observed.Seen }

// See writes what Seen returns.
func (p *Pair) See(s structs.Seen) { p.Observed.Seen = s }

// Observe takes over an agent's observation of the pair and its parts.
func (p *Pair) Observe(r *structs.ContainerReport) {
	was, o := p.Observed, r.Observed
	p.Observed = PairObserved{Memory: o.Memory, Seen: structs.Seen{Status: o.Status, Reason: o.Reason, Generation: o.Generation,
		Failed: o.Failed,
		Health: o.Health, EngineID: o.EngineID, StartedAt: o.StartedAt, FinishedAt: o.FinishedAt}}
	for _, part := range r.Parts {
		p.Observed.Parts = append(p.Observed.Parts, PartObserved{Name: part.Part, Status: part.Status})
	}
	if o.Status == structs.ContainerGone {
		p.Observed.Memory, p.Observed.Parts = 0, nil
	}
	if p.Observed.EngineID == "" {
		p.Observed.EngineID = was.EngineID
	}
}

// SpecHash returns "": agents don't report a pair's spec.
func (p *Pair) SpecHash() string { return "" }

// Ready reports whether the pair runs.
func (p *Pair) Ready() bool { return p.Observed.Status == structs.ContainerRunning }

// StartTime returns 0: a pair has no checks.
func (p *Pair) StartTime() time.Duration { return 0 }

// Forget clears the observation.
func (p *Pair) Forget() { p.Observed = PairObserved{} }

// Left does nothing: no process of a pair is killed by itself.
func (p *Pair) Left() {}

// Assign adds the pair's name.
func (p *Pair) Assign(a *structs.Assignment) { a.Name = p.Name }
