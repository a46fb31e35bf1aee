package structs

import (
	"strconv"
	"time"
)

// TableQuarantine is the table of quarantine pages.
const TableQuarantine Table = "quarantine"

// Quarantine is one page of a host's quarantine: containers on its engine that belong
// to another history of the cluster than the one that the host follows now. The agent
// leaves them alone until an operator decides about them. The row's ID is
// QuarantineID. Pages are numbered without gaps, and an empty quarantine has none.
//
// The conductor writes it. The contents come from the agent, the decisions from
// operators.
type Quarantine struct {
	Meta
	HostID string
	// Pending is set on the first page when a host registers that has followed another
	// history: its workloads that the cluster doesn't know then go into quarantine. It
	// is cleared once the agent has reported all of them.
	Pending bool
	Kept    []Quarantined // at most QuarantinePage
}

// Quarantined is a placement in quarantine: of a container, unless Kind says
// otherwise.
type Quarantined struct {
	_struct struct{} `codec:",omitempty"` // see codec.go

	// Kind and ID name a workload of another kind than container. For a container
	// both are "", and ContainerID names it, as in an Assignment.
	Kind        WorkloadKind `json:"kind,omitempty"`
	ID          string       `json:"id,omitempty"`
	ContainerID string       `json:"container_id"`
	//api:doc Epoch of the placement.
	Epoch uint64 `json:"epoch"`
	//api:doc Name of the container; empty if the agent has forgotten it.
	Name string `json:"name,omitempty"`
	//api:doc Project of the container; empty if the agent has forgotten it.
	ProjectID string   `json:"project_id,omitempty"`
	SpecHash  string   `json:"spec_hash,omitempty"` // SpecHash of the spec that it was created from; "" until the agent has looked
	State     string   `json:"state,omitempty"`     // the engine's state when the agent last looked
	Adoption  Adoption `json:"adoption,omitempty"`  // decided by operators, not by the agent

	Since time.Time `json:"since,omitzero"` // when the servers first learned of it
}

// QuarantinedOf returns a Quarantined that only names the placement.
func QuarantinedOf(ref Ref) Quarantined {
	kind, id, containerID := wireNames(ref)
	return Quarantined{Kind: kind, ID: id, ContainerID: containerID, Epoch: ref.Epoch}
}

// Ref returns the reference of the placement.
func (q *Quarantined) Ref() Ref { return refOf(q.Kind, q.ID, q.ContainerID, q.Epoch) }

// Adoption is an operator's decision about a container in quarantine.
type Adoption string

// The adoptions. Once the agent has carried one out, the container leaves the
// quarantine.
const (
	AdoptionNone   Adoption = ""       // not decided
	AdoptionKeep   Adoption = "keep"   // the cluster adopts the container
	AdoptionRemove Adoption = "remove" // the container is stopped and removed
)

// Bounds of quarantine.
const (
	QuarantinePage     = 100 // containers in one row
	MaxQuarantinePages = 100 // rows of one host
)

// QuarantineID returns the row ID of a page of the host's quarantine. The first page
// is 0.
func QuarantineID(hostID string, page int) string { return hostID + "/" + strconv.Itoa(page) }

// Table says which table the row belongs to.
func (*Quarantine) Table() Table { return TableQuarantine }

// QuarantineReport is the body of POST /v1/agent/hosts/ID/quarantine: the changes of
// the host's quarantine. Repeating a report changes nothing.
type QuarantineReport struct {
	Registration uint64          `json:"registration"`
	Kept         []Quarantined   `json:"kept,omitempty"`  // now in quarantine, at most QuarantinePage; Adoption and Since are ignored
	Ended        []QuarantineRef `json:"ended,omitempty"` // no longer in quarantine, at most QuarantinePage
	// Judged says that the agent has compared everything on its engine with the
	// history that it follows now, and has reported all that it keeps in quarantine.
	Judged bool `json:"settled,omitempty"`
}

// QuarantineRef names a placement as Quarantined does.
type QuarantineRef struct {
	Kind        WorkloadKind `json:"kind,omitempty"`
	ID          string       `json:"id,omitempty"`
	ContainerID string       `json:"container_id"`
	//api:doc Number of the placement. Each new placement raises it.
	Epoch uint64 `json:"epoch"`
}

// QuarantineRefOf returns the QuarantineRef of the placement.
func QuarantineRefOf(ref Ref) QuarantineRef {
	kind, id, containerID := wireNames(ref)
	return QuarantineRef{Kind: kind, ID: id, ContainerID: containerID, Epoch: ref.Epoch}
}

// Ref returns the reference of the placement.
func (q *QuarantineRef) Ref() Ref { return refOf(q.Kind, q.ID, q.ContainerID, q.Epoch) }

// QuarantineReported answers QuarantineReport.
type QuarantineReported struct {
	Index uint64 `json:"index"`
}

// QuarantinedBody is a container that a host keeps in quarantine.
type QuarantinedBody struct {
	ContainerUUID string `json:"container_uuid"`
	//api:doc Name of the container; null if the host does not know it.
	Name *string `json:"name"`
	//api:doc Project of the container; null if the host does not know it.
	ProjectID *string `json:"project_id"`
	//api:doc Epoch of the placement.
	Epoch   uint64  `json:"epoch"`
	State   *string `json:"state"`   // the engine's state: running, exited, ...
	Since   Time    `json:"since"`   // when the servers first learned of it
	Decided *string `json:"decided"` // keep or remove, until the host has carried it out; null if nothing is decided
}
