package structs

import (
	"cmp"
	"slices"
	"time"
)

// TablePods and TableManifests are the tables of pods and of manifests.
const (
	TablePods      Table = "pods"
	TableManifests Table = "manifests" // Manifest
)

// KindPod names pods in URLs, error codes and messages.
const KindPod = "pod"

// PodInfra is the name of the part that holds what a pod's containers share: network,
// IPC and, if asked for, processes. No container of a manifest can have this name.
const PodInfra = "_infra"

// Pod is a placed workload of one or more containers that share a host. The conductor
// writes it; Observed comes from the agent's reports.
type Pod struct {
	Meta
	Placement
	Name        string // a DNS label, unique among the pods of a project in a bay
	Labels      map[string]string
	Annotations map[string]string
	Spec        PodSpec
	Secrets     Secrets `json:"-" codec:",omitempty"` // servers don't send them to each other
	ManifestURL string  // where the manifest was fetched; "" if it was sent
	Request     string  // ID of the HTTP request that created it
	Owner       string  // UUID of the replication controller that it counts for; "" for none
	Revision    string  // of the owner's template that it was made from, or was adopted under; "" without an owner

	Observed PodObserved
}

// Manifest is a manifest as it was sent. Its ID is the BesideID of the object that was made
// from it; Seq and ProjectID are the object's. The object is written and deleted in the same
// entry.
type Manifest struct {
	Meta
	Text string
	RC   *RCSpec // what it says of a replication controller; nil for another object
}

// Table says which table the row belongs to.
func (*Manifest) Table() Table { return TableManifests }

// Table says which table the row belongs to.
func (*Pod) Table() Table { return TablePods }

// RowName returns the pod's name.
func (p *Pod) RowName() string { return p.Name }

// PodObserved is what an agent last saw of a pod.
type PodObserved struct {
	_struct struct{} `codec:",omitempty"` // see codec.go

	Seen
	Address  string // in the project's network; "" if it has none
	Memory   int64  // bytes: sum of the engine's limits
	MilliCPU int64  // thousandths of a core, likewise
	Parts    []PartObserved

	// Of a pod in a Kubernetes cluster:
	Phase      PodPhase    // the cluster's word, which Pod.Phase goes by; "" if the agent doesn't report it
	Conditions []Condition // at most MaxConditions
	Node       string      // name of its node; "" while it has none
	NodeIP     string
	Code       Code // of the cluster's refusal, if Failed is set; "" if the agent doesn't say
}

// PartObserved is what an agent last saw of a container of a pod. The infra container
// is not among them.
type PartObserved struct {
	_struct struct{} `codec:",omitempty"` // see codec.go

	Name string
	PartState
	Ready    bool      // it runs, and its readiness probe succeeds if it has one
	Started  bool      // it runs, and its startup probe and postStart hook have succeeded if it has them
	Restarts int       // in this epoch
	Last     PartState // of the attempt before; zero if there was none
	EngineID string    // the engine's ID of the current attempt
	ImageID  string    // the engine's ID of its image; "" if unknown
}

// PartState is the state of one attempt of a container of a pod.
type PartState struct {
	_struct struct{} `codec:",omitempty"` // see codec.go

	//api:doc waiting, running or terminated.
	State string `json:"state"` // one of the Part constants
	//api:doc Why, in one word, such as CrashLoopBackOff, ImagePullBackOff, OOMKilled or Completed.
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"` // what happened and what to do
	//api:doc Exit code of a terminated container.
	ExitCode   *int      `json:"exit_code,omitempty"`
	StartedAt  time.Time `json:"started_at,omitzero"`
	FinishedAt time.Time `json:"finished_at,omitzero"`
}

// The states of a container of a pod.
const (
	PartWaiting    = "waiting"
	PartRunning    = "running"
	PartTerminated = "terminated"
)

// The reasons of a part's state, in Kubernetes' words.
const (
	ReasonCreating         = "ContainerCreating"
	ReasonInitializing     = "PodInitializing" // it waits for the init containers
	ReasonCrashLoop        = "CrashLoopBackOff"
	ReasonImagePull        = "ErrImagePull"
	ReasonImagePullBackOff = "ImagePullBackOff"
	ReasonNeverPull        = "ErrImageNeverPull" // the host doesn't have it, and imagePullPolicy is Never
	ReasonCreateError      = "CreateContainerError"
	ReasonConfigError      = "CreateContainerConfigError"
	ReasonRunError         = "RunContainerError"
	ReasonStartError       = "StartError" // its process could not be started, such as for want of the program
	ReasonOOMKilled        = "OOMKilled"
	ReasonCompleted        = "Completed"
	ReasonError            = "Error"
	ReasonDeadline         = "DeadlineExceeded"
	ReasonGone             = "ContainerStatusUnknown" // somebody has removed it
)

// PodPhase sums up a pod's state in Kubernetes' words.
type PodPhase string

// The phases.
const (
	PodPending   PodPhase = "Pending" // not all of its containers have been started yet
	PodRunning   PodPhase = "Running"
	PodSucceeded PodPhase = "Succeeded" // all of its containers have ended with exit code 0 and aren't restarted
	PodFailed    PodPhase = "Failed"    // all of its containers have ended, one of them with another code, and aren't restarted
	PodUnknown   PodPhase = "Unknown"   // its host is lost
)

// Ref returns the reference of the newest placement.
func (p *Pod) Ref() Ref { return Ref{Kind: WorkloadPod, ID: p.ID, Epoch: p.Epoch} }

// Copy returns a copy of the row.
func (p *Pod) Copy() Workload { return new(*p) }

// Demand returns what the spec asks of a host.
func (p *Pod) Demand() Demand { return p.Spec.Demand() }

// Reserved returns the demand. Requests are what is reserved; limits, which the engine
// may keep, only bind.
func (p *Pod) Reserved() Demand { return p.Spec.Demand() }

// Policy returns what decides whether the pod is placed again.
func (p *Pod) Policy() Policy { return p.Spec.Policy() }

// Seen returns the fields of Observed that all kinds of workloads have.
func (p *Pod) Seen() Seen { return p.Observed.Seen }

// See sets the fields of Observed that all kinds of workloads have.
func (p *Pod) See(s Seen) { p.Observed.Seen = s }

// Observe stores an agent's report. What was observed of a container stays if the report
// does not have it. Parts that the spec doesn't have are dropped, so that no report makes
// the row grow.
func (p *Pod) Observe(r *ContainerReport) {
	was, o := p.Observed, r.Observed
	p.Observed = PodObserved{
		Seen: Seen{Status: o.Status, Reason: o.Reason, Generation: o.Generation, Failed: o.Failed, Health: o.Health,
			EngineID: cmp.Or(o.EngineID, was.EngineID), StartedAt: o.StartedAt, FinishedAt: o.FinishedAt},
		Memory: o.Memory, MilliCPU: o.MilliCPU, Parts: slices.Clone(was.Parts),
	}
	if p.Found() { // nobody has asked for its creation
		p.Observed.Generation = max(p.Observed.Generation, 1)
	}
	if len(o.Addresses) > 0 {
		p.Observed.Address = o.Addresses[0]
	}
	if seen := r.Pod; seen != nil {
		p.Observed.Phase, p.Observed.Node, p.Observed.NodeIP = seen.Phase, seen.Node, seen.NodeIP
		p.Observed.Conditions = seen.Conditions[:min(len(seen.Conditions), MaxConditions)]
		if r.Failed {
			p.Observed.Code = seen.Code
		}
	}
	for _, r := range r.Parts {
		if p.Spec.Container(r.Part) == nil {
			continue // the infra container, which is not shown
		}
		seen := PartObserved{Name: r.Part, PartState: r.State, Ready: r.Ready, Started: r.Started, Restarts: r.RestartCount,
			Last: r.Last, EngineID: r.EngineID, ImageID: r.ImageID}
		if i := slices.IndexFunc(p.Observed.Parts, func(o PartObserved) bool { return o.Name == r.Part }); i >= 0 {
			p.Observed.Parts[i] = seen
		} else {
			p.Observed.Parts = append(p.Observed.Parts, seen)
		}
	}
}

// StoredSpec returns the spec as a row of its own.
func (p *Pod) StoredSpec() *StoredSpec {
	return &StoredSpec{Meta: Meta{ID: p.Ref().BesideID(), Seq: p.Seq, ProjectID: p.ProjectID}, Pod: new(p.Spec)}
}

// SetSpec replaces the spec; nil leaves an empty one.
func (p *Pod) SetSpec(s *StoredSpec) {
	if p.Spec = (PodSpec{}); s != nil && s.Pod != nil {
		p.Spec = *s.Pod
	}
}

// Forget drops all observations.
func (p *Pod) Forget() { p.Observed = PodObserved{} }

// Left does nothing: no action is on a pod's process alone.
func (p *Pod) Left() {}

// SpecHash identifies the spec that the host creates the pod from.
func (p *Pod) SpecHash() string { return "" }

// Assign adds the fields that only a pod has.
func (p *Pod) Assign(a *Assignment) {
	a.Name, a.StopTimeout = p.Name, p.Spec.GracePeriod
	a.Pod = &PodAssignment{Spec: &p.Spec, Labels: p.Labels, Annotations: p.Annotations, Found: p.Found()}
	a.Secrets = p.Secrets
}

// Found reports whether a replication controller of a cluster has made the pod.
func (p *Pod) Found() bool { return p.Spec.Cluster && p.Owner != "" }

// Part returns what was observed of a container, nil if nothing was.
func (p *Pod) Part(name string) *PartObserved {
	for i := range p.Observed.Parts {
		if p.Observed.Parts[i].Name == name {
			return &p.Observed.Parts[i]
		}
	}
	return nil
}

// Status returns what the API shows as the pod's status: Deleting, or the phase.
func (p *Pod) Status() PodPhase {
	if p.Desired == DesiredAbsent {
		return PodPhase(ContainerDeleting)
	}
	return p.Phase()
}

// Phase returns the phase, by the host's last report.
func (p *Pod) Phase() PodPhase {
	if p.Gone {
		return PodFailed // its host has nothing of it any more
	}
	switch p.Observed.Status {
	case ContainerUnknown:
		return PodUnknown
	case "", ContainerCreating:
		return PodPending
	}
	if p.Observed.Phase != "" {
		return p.Observed.Phase
	}
	if slices.ContainsFunc(p.Observed.Parts, func(o PartObserved) bool { return o.Reason == ReasonDeadline }) {
		return PodFailed // whatever its containers would do
	}
	for i := range p.Spec.InitContainers {
		part := p.Part(p.Spec.InitContainers[i].Name)
		switch {
		case part == nil, part.State != PartTerminated:
			return PodPending
		case *cmp.Or(part.ExitCode, new(int)) == 0:
		case p.Spec.RestartPolicy == PodRestartNever:
			return PodFailed
		default:
			return PodPending
		}
	}
	live, failed := false, false
	for i := range p.Spec.Containers {
		part := p.Part(p.Spec.Containers[i].Name)
		switch {
		case part == nil:
			return PodPending
		case part.State == PartTerminated:
			code := *cmp.Or(part.ExitCode, new(int))
			failed = failed || code != 0
			live = live || p.Spec.RestartPolicy == PodRestartAlways || p.Spec.RestartPolicy == PodRestartOnFailure && code != 0
		case part.State == PartWaiting && part.Last.State == "":
			return PodPending // it has never run
		default:
			live = true
		}
	}
	switch {
	case live:
		return PodRunning
	case failed:
		return PodFailed
	}
	return PodSucceeded
}

// Ready reports whether every container of the pod is ready.
func (p *Pod) Ready() bool {
	if p.Phase() != PodRunning {
		return false
	}
	for _, c := range p.Observed.Conditions {
		if c.Type == ConditionReady {
			return c.Status == ConditionTrue
		}
	}
	for i := range p.Spec.Containers {
		if part := p.Part(p.Spec.Containers[i].Name); part == nil || !part.Ready {
			return false
		}
	}
	return true
}

// StartTime returns how long the pod's probes allow it to start: the longest sum, over its
// containers, of the time in which the startup probe may fail, and of the least time after
// which the readiness probe succeeds.
func (p *Pod) StartTime() time.Duration {
	most := 0
	for i := range p.Spec.Containers {
		seconds, c := 0, &p.Spec.Containers[i]
		if s := c.Startup; s != nil {
			seconds += s.InitialDelay + s.Period*s.Failure
		}
		if r := c.Readiness; r != nil {
			seconds += r.InitialDelay + r.Period*r.Success
		}
		most = max(most, seconds)
	}
	return time.Duration(most) * time.Second
}

// Ended reports whether the pod has ended for good.
func (p *Pod) Ended() bool {
	phase := p.Phase()
	return phase == PodSucceeded || phase == PodFailed
}

// Restarts returns how often the containers were restarted on the present host.
func (p *Pod) Restarts() (n int) {
	for i := range p.Observed.Parts {
		n += p.Observed.Parts[i].Restarts
	}
	return n
}

// Obstacle says why the pod is not ready; "" if it is. It has nothing that changes with each
// attempt, such as times.
func (p *Pod) Obstacle() string {
	switch {
	case p.Ready():
		return ""
	case p.PlaceReason != "" || p.Gone || p.Phase() == PodUnknown:
		return StatusReasonOf(p)
	}
	for i := range p.Spec.InitContainers {
		name := p.Spec.InitContainers[i].Name
		if seen := p.Part(name); seen == nil || seen.State != PartTerminated || *cmp.Or(seen.ExitCode, new(int)) != 0 {
			return "init container " + name + obstacleOf(seen)
		}
	}
	for i := range p.Spec.Containers {
		name := p.Spec.Containers[i].Name
		if seen := p.Part(name); seen == nil || !seen.Ready {
			return "container " + name + obstacleOf(seen)
		}
	}
	return "it has not been started yet"
}

// obstacleOf completes the sentence that says why a container is not ready. seen is nil if
// nothing was observed of it.
func obstacleOf(seen *PartObserved) string {
	switch {
	case seen == nil:
		return " has not been started yet"
	case seen.State == PartRunning:
		return " runs and is not ready"
	case seen.Reason != "":
		return " is " + seen.State + ": " + seen.Reason
	}
	return " is " + seen.State
}

// Images returns the images of the pod's containers, without the init containers'.
func (p *Pod) Images() []string { return p.Spec.Images() }

// Images returns the images of the containers, without the init containers'.
func (s *PodSpec) Images() []string {
	images := make([]string, 0, len(s.Containers))
	for i := range s.Containers {
		images = append(images, s.Containers[i].Image)
	}
	return images
}
