// Package statetest has a second kind of placed workload for tests of packages state,
// conductor and dispatch: they must treat it as they treat containers. A test package
// registers its table in an init function. No program imports it.
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

// PodObserved is what an agent saw of a pod.
type PodObserved struct {
	structs.Seen
	Memory int64          `codec:",omitempty"` // bytes, that the engine has set for all parts
	Parts  []PartObserved `codec:",omitempty"`
}

// PartObserved is what an agent saw of a part.
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

// Table says which table the row belongs to.
func (*Pod) Table() structs.Table { return TablePods }

// RowName returns the pod's name.
func (p *Pod) RowName() string { return p.Name }

// Ref returns the reference of the newest placement.
func (p *Pod) Ref() structs.Ref {
	return structs.Ref{Kind: structs.WorkloadPod, ID: p.ID, Epoch: p.Epoch}
}

// Copy returns a copy of the row.
func (p *Pod) Copy() structs.Workload { return new(*p) }

// Demand adds up what the parts ask for.
func (p *Pod) Demand() (d structs.Demand) {
	for _, part := range p.Parts {
		d.Memory += part.Memory
		d.MilliCPU += part.MilliCPU
		d.Ports = append(d.Ports, part.Ports...)
	}
	return d
}

// Reserved is Demand, or what the engine has set if that is more.
func (p *Pod) Reserved() structs.Demand {
	d := p.Demand()
	d.Memory = max(d.Memory, p.Observed.Memory)
	return d
}

// Policy returns what decides whether and when the pod is placed again.
func (p *Pod) Policy() structs.Policy {
	return structs.Policy{Restart: p.Restart, Exclusive: p.Exclusive, Volume: p.Volume}
}

// Seen returns what all kinds of workloads have of Observed.
func (p *Pod) Seen() structs.Seen { return p.Observed.Seen }

// See writes it.
func (p *Pod) See(s structs.Seen) { p.Observed.Seen = s }

// Observe takes over what an agent saw of the pod and its parts.
func (p *Pod) Observe(o structs.Observed, parts []structs.PartReport) {
	was := p.Observed
	p.Observed = PodObserved{Memory: o.Memory, Seen: structs.Seen{Status: o.Status, Reason: o.Reason, Generation: o.Generation, Failed: o.Failed,
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

// SpecHash is "": agents don't tell what a pod is made from.
func (p *Pod) SpecHash() string { return "" }

// Forget drops what was observed.
func (p *Pod) Forget() { p.Observed = PodObserved{} }

// Left does nothing: no process of a pod is killed by itself.
func (p *Pod) Left() {}

// Assign adds the pod's name.
func (p *Pod) Assign(a *structs.Assignment) { a.Name = p.Name }

// PartNames returns the names of the parts that an agent has told of.
func (p *Pod) PartNames() (names []string) {
	for _, part := range p.Observed.Parts {
		names = append(names, part.Name)
	}
	return names
}
