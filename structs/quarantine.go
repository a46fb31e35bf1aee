package structs

import (
	"strconv"
	"time"
)

// TableQuarantine is the table of what is in quarantine.
const TableQuarantine Table = "quarantine"

// Quarantine is one page of what a host keeps in quarantine: containers of its
// engine that are of another history of the cluster than the one that it follows
// now. The agent leaves them alone until an operator says what becomes of them. Its
// ID is QuarantineID; pages follow each other without a gap, and there are none
// once nothing is in quarantine.
//
// The conductor writes it: what is in it is the agent's word, what is to become of
// it an operator's.
type Quarantine struct {
	Meta
	HostID string
	// Pending is set, on the first page only, when a host registers that has
	// followed another history, until its agent has said what it keeps: all that the
	// cluster doesn't know goes into quarantine then.
	Pending bool
	Kept    []Quarantined // at most QuarantinePage
}

// Quarantined is one placement of a workload in quarantine: of a container, unless Kind
// says otherwise.
type Quarantined struct {
	_struct struct{} `codec:",omitempty"` // see codec.go

	// Kind and ID name a workload that is no container; both are "" for a container,
	// which ContainerID names, as in an Assignment.
	Kind        WorkloadKind `json:"kind,omitempty"`
	ID          string       `json:"id,omitempty"`
	ContainerID string       `json:"container_id"`
	//api:doc Epoch of the placement.
	Epoch uint64 `json:"epoch"`
	//api:doc Name of the container; empty if the agent has forgotten it.
	Name string `json:"name,omitempty"` // the user's; "" if the agent has forgotten it
	//api:doc Project of the container; empty if the agent has forgotten it.
	ProjectID string   `json:"project_id,omitempty"` // likewise
	SpecHash  string   `json:"spec_hash,omitempty"`  // SpecHash of what it was made from; "" until the agent has looked
	State     string   `json:"state,omitempty"`      // the engine's word, when the agent last looked
	Adoption  Adoption `json:"adoption,omitempty"`   // of operators

	Since time.Time `json:"since,omitzero"` // when the servers first heard of it
}

// QuarantinedOf returns the placement in quarantine, with nothing known of it.
func QuarantinedOf(ref Ref) Quarantined {
	kind, id, containerID := wireNames(ref)
	return Quarantined{Kind: kind, ID: id, ContainerID: containerID, Epoch: ref.Epoch}
}

// Ref returns the reference of the placement.
func (q *Quarantined) Ref() Ref { return refOf(q.Kind, q.ID, q.ContainerID, q.Epoch) }

// Adoption is what an operator has decided of a container in quarantine.
type Adoption string

// The adoptions. The agent carries them out, and then the container is no longer
// in quarantine.
const (
	AdoptionNone   Adoption = ""       // nothing yet
	AdoptionKeep   Adoption = "keep"   // it is the cluster's again
	AdoptionRemove Adoption = "remove" // it is stopped and removed
)

// Bounds of quarantine.
const (
	QuarantinePage     = 100 // containers in one row
	MaxQuarantinePages = 100 // rows of one host
)

// QuarantineID returns the ID of a page of the host's quarantine; the first is 0.
func QuarantineID(hostID string, page int) string { return hostID + "/" + strconv.Itoa(page) }

// Table says which table the row belongs to.
func (*Quarantine) Table() Table { return TableQuarantine }

// QuarantineReport is the body of POST /v1/agent/hosts/ID/quarantine: what has
// changed in the host's quarantine. Saying the same again changes nothing.
type QuarantineReport struct {
	Registration uint64          `json:"registration"`
	Kept         []Quarantined   `json:"kept,omitempty"`  // in quarantine, at most QuarantinePage; Adoption and Since are not the agent's to say
	Ended        []QuarantineRef `json:"ended,omitempty"` // no longer in it, at most QuarantinePage
	// Settled says that the agent has judged all that its engine has by what it
	// follows now, and has told of all that it keeps.
	Settled bool `json:"settled,omitempty"`
}

// QuarantineRef names a placement as Quarantined does.
type QuarantineRef struct {
	Kind        WorkloadKind `json:"kind,omitempty"`
	ID          string       `json:"id,omitempty"`
	ContainerID string       `json:"container_id"`
	//api:doc Number of the placement. Each new placement raises it.
	Epoch uint64 `json:"epoch"`
}

// QuarantineRefOf names the placement.
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
	Name *string `json:"name"` // that it had; null if the host doesn't know
	//api:doc Project of the container; null if the host does not know it.
	ProjectID *string `json:"project_id"` // likewise
	//api:doc Epoch of the placement.
	Epoch   uint64  `json:"epoch"`   // of its placement
	State   *string `json:"state"`   // the engine's word: running, exited, ...
	Since   Time    `json:"since"`   // when the servers heard of it
	Decided *string `json:"decided"` // keep or remove, while the host carries it out; null if nothing is decided
}
