// Package statetest provides a second kind of placed workload for the tests of packages
// state, conductor and dispatch, which must treat it like containers. A test package
// registers its table in an init function. No program imports this package.
package statetest

import "github.com/stackforge/magnum/structs"

// Pod is a workload of two or more parts that share a host.
type Pod struct {
	structs.Meta
	structs.Placement
	Name      string
	Parts     []Part
	Restart   structs.RestartPolicy
	Exclusive structs.Exclusive
	Volume    string
	Observed  PodObserved
}

// Part is one container of a pod.
type Part struct {
	Name     string         `codec:",omitempty"`
	Memory   int64          `codec:",omitempty"`
	MilliCPU int64          `codec:",omitempty"`
	Ports    []structs.Port `codec:",omitempty"`
}

// PodObserved is what an agent has observed of a pod.
type PodObserved struct {
	structs.Seen
	Memory int64          `codec:",omitempty"` // bytes, which the engine has set for all parts
	Parts  []PartObserved `codec:",omitempty"`
}

// PartObserved is what an agent has observed of a part.
type PartObserved struct {
	Name   string                  `codec:",omitempty"`
	Status structs.ContainerStatus `codec:",omitempty"`
}

// TablePods is the table of pods.
const TablePods structs.Table = "pods"

// CodePods is the table's code.
const CodePods = 31

// NewPod returns an empty row.
func NewPod() structs.Row { return new(Pod) }

// Table returns the row's table.
func (*Pod) Table() structs.Table { return TablePods }

// RowName returns the pod's name.
func (p *Pod) RowName() string { return p.Name }

// Ref returns the reference of the newest placement.
func (p *Pod) Ref() structs.Ref {
	return structs.Ref{Kind: structs.WorkloadPod, ID: p.ID, Epoch: p.Epoch}
}

// Copy returns a copy of the row.
func (p *Pod) Copy() structs.Workload { return new(*p) }

// Demand returns the sum of the parts' demands.
func (p *Pod) Demand() (d structs.Demand) {
	for _, part := range p.Parts {
		d.Memory += part.Memory
		d.MilliCPU += part.MilliCPU
		d.Ports = append(d.Ports, part.Ports...)
	}
	return d
}

// Reserved returns the larger one of Demand and the engine's limits.
func (p *Pod) Reserved() structs.Demand {
	d := p.Demand()
	d.Memory = max(d.Memory, p.Observed.Memory)
	return d
}

// Policy returns what decides whether and when the pod is placed again.
func (p *Pod) Policy() structs.Policy {
	return structs.Policy{Restart: p.Restart, Exclusive: p.Exclusive, Volume: p.Volume}
}

// Seen returns the part of Observed that all kinds of workloads have.
func (p *Pod) Seen() structs.Seen { return p.Observed.Seen }

// See writes what Seen returns.
func (p *Pod) See(s structs.Seen) { p.Observed.Seen = s }

// Observe takes over an agent's observation of the pod and its parts.
func (p *Pod) Observe(o structs.Observed, parts []structs.PartReport) {
	was := p.Observed
	p.Observed = PodObserved{Memory: o.Memory, Seen: structs.Seen{Status: o.Status, Reason: o.Reason, Generation: o.Generation,
		Failed: o.Failed,
		Health: o.Health, EngineID: o.EngineID, StartedAt: o.StartedAt, FinishedAt: o.FinishedAt}}
	for _, part := range parts {
		p.Observed.Parts = append(p.Observed.Parts, PartObserved{Name: part.Part, Status: part.Status})
	}
	if o.Status == structs.ContainerGone {
		p.Observed.Memory, p.Observed.Parts = 0, nil
	}
	if p.Observed.EngineID == "" {
		p.Observed.EngineID = was.EngineID
	}
}

// SpecHash returns "": agents don't report a pod's spec.
func (p *Pod) SpecHash() string { return "" }

// Forget clears the observation.
func (p *Pod) Forget() { p.Observed = PodObserved{} }

// Left does nothing: no process of a pod is killed by itself.
func (p *Pod) Left() {}

// Assign adds the pod's name.
func (p *Pod) Assign(a *structs.Assignment) { a.Name = p.Name }

// PartNames returns the names of the parts that an agent has reported.
func (p *Pod) PartNames() (names []string) {
	for _, part := range p.Observed.Parts {
		names = append(names, part.Name)
	}
	return names
}
