package structs

import (
	"fmt"
	"time"
)

// WorkloadKind is a kind of placed workload.
type WorkloadKind string

// The workload kinds. In messages between servers and agents "" means a container:
// builds from before there were kinds don't name a kind.
const (
	WorkloadContainer WorkloadKind = "container"
	WorkloadPod       WorkloadKind = "pod"
)

// Ref names one placement of a workload, or a part of it. It is comparable.
type Ref struct {
	Kind  WorkloadKind `json:"kind,omitempty"`
	ID    string       `json:"id"`             // UUID of the row
	Epoch uint64       `json:"epoch"`          // of the placement; 0 means the newest one
	Part  string       `json:"part,omitempty"` // name of a container in a pod; "" means the workload as a whole
}

// ContainerRef returns the reference of a container's placement.
func ContainerRef(id string, epoch uint64) Ref {
	return Ref{Kind: WorkloadContainer, ID: id, Epoch: epoch}
}

// Whole returns the reference of the workload that the part belongs to.
func (r Ref) Whole() Ref { r.Part = ""; return r }

// BesideID returns the ID of the rows that belong to the workload and are in tables of
// all kinds: its actions, its stored spec, its manifest. UUIDs of two kinds may be equal,
// so it has the kind in front; a container's has not.
func (r Ref) BesideID() string {
	if r.Kind == WorkloadContainer {
		return r.ID
	}
	return string(r.Kind) + "/" + r.ID
}

// String returns kind/id/epoch, and /part if there is one.
func (r Ref) String() string {
	s := fmt.Sprintf("%s/%s/%d", r.Kind, r.ID, r.Epoch)
	if r.Part != "" {
		s += "/" + r.Part
	}
	return s
}

// Workload is a row that is placed on a host: *Container, *Pod or *Object. The servers
// place, move, drain and release workloads of any kind. These methods hide what
// differs between kinds.
type Workload interface {
	Row
	Place() *Placement // the row's own: only the owner of a copy may change it

	Ref() Ref       // of the newest placement
	Copy() Workload // a copy that may be changed; the contents of its slices and maps are shared
	Demand() Demand // what the spec asks of a host
	// Reserved is what each of the workload's hosts reserves: the larger of Demand and
	// of the limits that the engine last reported.
	Reserved() Demand
	Policy() Policy

	Seen() Seen
	See(Seen) // sets the observed fields that all kinds have
	// Observe stores an agent's report of the workload, and of its parts if it has any.
	// Earlier observations of the same epoch stay where the report has none.
	Observe(r *ContainerReport)
	// Ready reports whether it runs, by the host's last report, and its checks, if it has
	// any, say that it serves.
	Ready() bool
	// StartTime is how long its checks allow it to start before they count as failed; 0
	// without such a check.
	StartTime() time.Duration
	Forget() // drops all observations, for a placement under a new epoch
	Left()   // drops pending actions on the earlier placement's process, for a placement on another host

	// Assign adds the fields that only this kind has to the assignment.
	Assign(a *Assignment)
	// SpecHash identifies the spec that the host creates the workload from; "" if
	// agents don't report it for this kind. See the function SpecHash.
	SpecHash() string
}

// Policy is the part of a spec that decides whether and when a workload is placed
// again.
type Policy struct {
	Restart    RestartPolicy
	Exclusive  Exclusive // whether at most one copy may ever run
	AutoRemove bool      // the workload is deleted once its process has ended
	Volume     string    // name of a volume that is kept on the host; "" if there is none
	// Fixed says that the workload is an object of the host's own cluster, which keeps it:
	// it is never placed elsewhere, and a drain of the host doesn't stop it.
	Fixed bool
}

// Seen is the part of the observed state that all kinds of workloads have.
type Seen struct {
	Status     ContainerStatus
	Reason     string // what happened and what to do
	Generation uint64 // newest generation that the agent has carried out or abandoned
	Failed     bool   // the action of Generation failed; Reason says why
	Health     string // starting, healthy or unhealthy; "" without a health check
	EngineID   string // the engine's ID of this epoch; "" if none was seen
	StartedAt  time.Time
	FinishedAt time.Time
}

// Made reports whether the engine was seen to have the workload of this epoch.
func (s *Seen) Made() bool {
	switch s.Status {
	case ContainerRunning, ContainerPaused, ContainerStopped:
		return true
	}
	return !s.StartedAt.IsZero()
}

// Done reports whether the host has carried out or abandoned the newest
// generation.
func Done(w Workload) bool {
	seen := w.Seen()
	return done(w.Place(), &seen)
}

func done(p *Placement, seen *Seen) bool {
	return seen.Generation >= p.Generation && seen.Status != ""
}

// StatusOf returns the status that the API shows.
func StatusOf(w Workload) ContainerStatus {
	seen := w.Seen()
	return statusOf(w.Place(), seen.Status)
}

func statusOf(p *Placement, seen ContainerStatus) ContainerStatus {
	switch {
	case p.Desired == DesiredAbsent:
		return ContainerDeleting
	case seen == "":
		return ContainerCreating
	}
	return seen
}

// StatusReasonOf returns the reason that the API shows with the status.
func StatusReasonOf(w Workload) string {
	seen := w.Seen()
	p := w.Place()
	switch {
	case p.PlaceReason != "":
		return p.PlaceReason
	case p.DrainStop && seen.Status != ContainerUnknown:
		return "it is stopped because its host is being drained; it is started again when the drain ends, or elsewhere once it can move"
	}
	return seen.Reason
}

// LeftOn reports whether the workload may still run on the host, by the host's last
// report.
func LeftOn(w Workload, hostID string) bool {
	p := w.Place()
	if p.HostID != hostID {
		return p.PriorOn(hostID) != nil
	}
	seen := w.Seen()
	ended := p.Gone || seen.Status == ContainerStopped || seen.Status == ContainerError
	if p.Desired == DesiredAbsent || !done(p, &seen) || !ended {
		return true
	}
	// A workload that is always restarted runs again soon.
	return p.Desired == DesiredRunning && !p.DrainStop && !p.Gone && w.Policy().Restart.Always()
}

// Movable returns why the workload can't move to another host; "" if it can.
func Movable(w Workload) (why string) {
	policy := w.Policy()
	switch {
	case w.Place().Desired != DesiredRunning:
		return "it is not wanted running"
	case policy.Fixed:
		return "it is in the cluster of that host"
	case !policy.Restart.Always():
		if p, ok := w.(*Pod); ok {
			return fmt.Sprintf("its restartPolicy is %s, not Always", p.Spec.RestartPolicy)
		}
		return fmt.Sprintf("its restart policy is %s, not always", policy.Restart)
	case policy.Volume != "":
		return fmt.Sprintf("its volume %s is on that host", policy.Volume)
	}
	return ""
}
