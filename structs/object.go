package structs

import "time"

// TableObjects is the table of objects.
const TableObjects Table = "objects"

// WorkloadObject is the kind of workload that an Object is.
const WorkloadObject WorkloadKind = "object"

// Object is the placement of a service or replication controller in a Kubernetes cluster:
// there it is an object of its own, which the agent of the cluster keeps as the manifest
// says. Bays of Docker hosts have none, because servers do there what a cluster does by
// itself. The row is written in the entry of the service or replication controller, and
// outlives it until the cluster has the object no more. The conductor writes it; Observed
// comes from the agent's reports.
type Object struct {
	Meta             // ID is the BesideID of the service or replication controller; Seq and ProjectID are its
	Placement        // Generation is raised by each change of the manifest
	Kind      string // KindService or KindRC
	OwnerID   string // UUID of the service or replication controller
	Name      string // of the object, in the project's namespace

	Observed ObjectObserved
}

// ObjectObserved is what an agent last saw of an object. What it has seen beyond that is
// written into the rows of the service and its Endpoints, or of the replication controller.
type ObjectObserved struct {
	_struct struct{} `codec:",omitempty"` // see codec.go

	Seen
	Code Code // of the refusal, if Failed is set; "" if the agent doesn't say
}

// Table says which table the row belongs to.
func (*Object) Table() Table { return TableObjects }

// ServiceStatus returns the status of the service that the object is; of nil, that of a service
// of a Docker bay.
func (o *Object) ServiceStatus() ServiceStatus {
	switch {
	case o == nil:
		return ServiceActive
	case o.Observed.Generation < o.Generation || o.Observed.Status == "":
		return ServicePending
	case o.Observed.Failed:
		return ServiceRefused
	}
	return ServiceActive
}

// RowName returns the object's name.
func (o *Object) RowName() string { return o.Name }

// Ref returns the reference of the newest placement.
func (o *Object) Ref() Ref { return Ref{Kind: WorkloadObject, ID: o.ID, Epoch: o.Epoch} }

// Copy returns a copy of the row.
func (o *Object) Copy() Workload { return new(*o) }

// Demand asks for a host whose agent keeps objects, and reserves nothing.
func (*Object) Demand() Demand { return Demand{Kind: WorkloadObject} }

// Reserved returns the demand.
func (o *Object) Reserved() Demand { return o.Demand() }

// Policy returns that the object stays in its cluster.
func (*Object) Policy() Policy { return Policy{Fixed: true} }

// Seen returns the fields of Observed that all kinds of workloads have.
func (o *Object) Seen() Seen { return o.Observed.Seen }

// See sets the fields of Observed that all kinds of workloads have.
func (o *Object) See(s Seen) { o.Observed.Seen = s }

// Observe stores an agent's report.
func (o *Object) Observe(r *ContainerReport) {
	o.Observed = ObjectObserved{Seen: Seen{Status: r.Status, Reason: r.Reason, Generation: r.Generation, Failed: r.Failed,
		EngineID: r.EngineID}}
	if r.Object != nil && r.Failed {
		o.Observed.Code = r.Object.Code
	}
}

// Ready reports whether the cluster has the object.
func (o *Object) Ready() bool { return o.Observed.Status == ContainerRunning }

// StartTime returns 0: no checks are made of an object.
func (*Object) StartTime() time.Duration { return 0 }

// Forget drops all observations.
func (o *Object) Forget() { o.Observed = ObjectObserved{} }

// Left does nothing: there is no action on an object's process.
func (*Object) Left() {}

// Assign adds the fields that only an object has. The manifest, which stands in a row of its
// own, is added by who sends the assignment.
func (o *Object) Assign(a *Assignment) {
	a.Name = o.Name
	a.Object = &ObjectAssignment{Kind: o.Kind, OwnerID: o.OwnerID}
}

// SpecHash returns "": the manifest is compared, not its hash.
func (*Object) SpecHash() string { return "" }
