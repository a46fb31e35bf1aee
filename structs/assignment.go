package structs

import (
	"encoding/json"
	"time"
)

// Assignment is one workload as its host has to have it. The server derives
// it from the row; the agent reconciles to it. Ref names the placement.
type Assignment struct {
	// Kind and ID name a workload that is no container; both are "" for a container,
	// which ContainerID names. So an agent that knows containers only takes an
	// assignment of another kind for one that it can't read, and removes nothing on
	// the word of that answer.
	Kind        WorkloadKind `json:"kind,omitempty"`
	ID          string       `json:"id,omitempty"`
	ContainerID string       `json:"container_id"`
	//api:doc Project of the workload.
	ProjectID string `json:"project_id"`
	//api:doc Name of the workload.
	Name string `json:"name"`
	//api:doc Number of the placement. Each new placement raises it.
	Epoch            uint64  `json:"epoch"`
	Generation       uint64  `json:"generation"`
	StartGeneration  uint64  `json:"start_generation,omitempty"` // newest generation that starts the process; 0: any may be one
	RebootGeneration uint64  `json:"reboot_generation,omitempty"`
	KillGeneration   uint64  `json:"kill_generation,omitempty"`
	Signal           string  `json:"signal,omitempty"`           // of that kill
	LimitGeneration  uint64  `json:"limit_generation,omitempty"` // newest generation that changes limits; 0: any may be one
	Desired          Desired `json:"desired"`
	Force            bool    `json:"force,omitempty"`
	//api:doc Seconds between SIGTERM and SIGKILL.
	StopTimeout int    `json:"stop_timeout"` // seconds
	Observed    uint64 `json:"observed"`     // generation that the servers know to be carried out
	// EngineID is the engine's own id of the container of this epoch, as the host has
	// reported it; "" if it hasn't.
	EngineID string `json:"engine_id,omitempty"`

	Spec *ContainerSpec `json:"spec"`
	Secrets

	// Unreadable says why the agent could not read the assignment, "" if it could.
	// What it says besides is as far as it could be read; Spec is nil.
	Unreadable string `json:"-"`
}

// Ref returns the reference of the placement.
func (a *Assignment) Ref() Ref { return refOf(a.Kind, a.ID, a.ContainerID, a.Epoch) }

// AssignmentOf returns what a host that has a placement of the workload has to
// know of it.
func AssignmentOf(w Workload, hostID string) Assignment {
	p, seen, ref := w.Place(), w.Seen(), w.Ref()
	a := Assignment{
		ProjectID: w.Base().ProjectID, Epoch: ref.Epoch, Generation: p.Generation, StartGeneration: p.StartGeneration,
		Desired: p.Desired, Force: p.Force, Observed: seen.Generation, EngineID: seen.EngineID,
	}
	a.Kind, a.ID, a.ContainerID = wireNames(ref)
	w.Assign(&a)
	if p.DrainStop && a.Desired == DesiredRunning {
		a.Desired = DesiredStopped
	}
	if prior := p.PriorOn(hostID); prior != nil && p.HostID != hostID {
		a.Epoch, a.Generation, a.Observed, a.EngineID = prior.Epoch, prior.Generation, prior.Generation, prior.EngineID
		a.RebootGeneration, a.KillGeneration, a.Signal, a.Force = 0, 0, "", false
		if a.Desired = DesiredAbsent; prior.Keep {
			a.Desired = DesiredRunning
		}
	}
	return a
}

// Assign adds what only a container has.
func (c *Container) Assign(a *Assignment) {
	a.StopTimeout = c.Spec.StopSeconds()
	if c.StopTimeout != nil {
		a.StopTimeout = *c.StopTimeout
	}
	a.Name, a.Spec, a.Secrets = c.Name, &c.Spec.ContainerSpec, c.Spec.Secrets
	a.RebootGeneration, a.KillGeneration, a.Signal, a.LimitGeneration = c.RebootGeneration, c.KillGeneration, c.Signal, c.LimitGeneration
}

// HostRegister is the body of POST /v1/agent/hosts.
//
//api:doc What an agent sends to register its host.
type HostRegister struct {
	HostID string `json:"host_id"` // UUID, kept in the agent's data dir
	//api:doc Name of the host.
	Name        string      `json:"name"` // the host's name
	JoinToken   string      `json:"join_token"`
	Secret      string      `json:"secret"` // minted by the agent and kept in its data dir, at least 32 characters; sent as "Authorization: Bearer" with every later call
	Fingerprint Fingerprint `json:"fingerprint"`
	// Follows lets the servers refuse a host that would not follow them: it would
	// pass for one that is ready.
	Follows Following `json:"follows"`
	// Instance is minted by each life of an agent. Registration is the number of
	// that life's last registration, 0 if this is its first: one that another
	// instance has superseded is not let in again, for then two agents have one
	// data dir, or copies of it. "" is an agent that doesn't tell.
	Instance     string `json:"instance,omitempty"`
	Registration uint64 `json:"registration,omitempty"`
	// Found are the owners of all containers on the engine, this host or not, as
	// labels name them: at most MaxLabelOwners.
	Found []LabelOwner `json:"found,omitempty"`
}

// HostRegistered answers HostRegister.
//
//api:doc What an agent needs to know about the cluster.
type HostRegistered struct {
	ClusterID     string        `json:"cluster_id"`
	Incarnation   uint64        `json:"incarnation"`
	Registration  uint64        `json:"registration"` // number of this registration; reports carry it
	HostLostAfter time.Duration `json:"host_lost_after"`
	// Lease is how long after sending a poll that the leader has acknowledged
	// the host may run containers with exclusive "lease"; 0 means not at all.
	Lease   time.Duration `json:"lease"`
	Servers []string      `json:"servers"` // REST addresses
	// Diverged says that the agent has followed another history of the cluster than
	// this one, which it follows from Index of Lineage on: what it has and the
	// cluster doesn't know goes into quarantine.
	Diverged bool   `json:"diverged,omitempty"`
	Lineage  string `json:"lineage,omitempty"`
	Index    uint64 `json:"index,omitempty"`
	NoGossip bool   `json:"no_gossip"` // there are more hosts than gossip is good for: the agent leaves it
}

// Work answers an agent's poll: GET /v1/agent/hosts/ID/work?index=N&wait=D.
//
//api:doc All assignments of a host, or those that have changed.
type Work struct {
	ClusterID   string         `json:"cluster_id"`
	Incarnation uint64         `json:"incarnation"`
	Index       uint64         `json:"index"`     // the state that this answer is from; the next poll's N
	Full        bool           `json:"full"`      // all assignments of the host, not only those that changed since N
	Confirmed   bool           `json:"confirmed"` // the server made sure with a leader's read index that it is not behind; only then may unknown containers be removed
	Assignments []Assignment   `json:"assignments"`
	Sessions    []SessionOffer `json:"sessions,omitempty"`
	Servers     []string       `json:"servers,omitempty"`
	Lineage     string         `json:"lineage,omitempty"` // the newest one in the state of Index
	// Quarantine is what the host keeps in quarantine as far as the servers know: in a
	// full answer all of it, else what operators have decided since N.
	Quarantine []Quarantined `json:"quarantine,omitempty"`
	// Pending says that all that a full, confirmed answer doesn't name goes into
	// quarantine: the host has followed another history.
	Pending bool `json:"quarantine_pending,omitempty"`
	// Acknowledged is the largest "sent" of this host's polls that the leader
	// has heard of and has then made sure that it still led; 0 for none.
	Acknowledged uint64 `json:"acknowledged,omitempty"`
	// Lease is how long after that poll was sent the host has a lease; 0 if none
	// is acknowledged.
	Lease time.Duration `json:"lease,omitempty"`
	// HostLostAfter is the silence after which the servers take the host for lost
	// now; 0 while they have not agreed on one.
	HostLostAfter time.Duration `json:"host_lost_after,omitempty"`
	// BayID is the bay that has the host, "" if it is free; nil from servers that
	// don't tell.
	BayID *string `json:"bay_id,omitempty"`
}

// UnmarshalJSON reads each assignment by itself: one that this agent doesn't
// understand must not keep it from the others. If not even the workload is
// named, the answer is no longer Confirmed, for it doesn't say of all containers
// whether they are wanted.
func (w *Work) UnmarshalJSON(b []byte) error {
	type plain Work
	raw := struct {
		*plain
		Assignments []json.RawMessage `json:"assignments"`
	}{plain: (*plain)(w)}
	if err := json.Unmarshal(b, &raw); err != nil {
		return err
	}
	w.Assignments = make([]Assignment, 0, len(raw.Assignments))
	for _, r := range raw.Assignments {
		a := readAssignment(r)
		if a.Ref().ID == "" {
			w.Confirmed = false
			continue
		}
		w.Assignments = append(w.Assignments, a)
	}
	return nil
}

// readAssignment reads as much of an assignment as can be read: all of it, all
// but the spec, or what a report has to name.
func readAssignment(raw json.RawMessage) Assignment {
	var a Assignment
	raw = fromEarlierServers(raw)
	err := json.Unmarshal(raw, &a)
	if err == nil {
		return a
	}
	type plain Assignment
	var bare struct {
		plain
		Spec json.RawMessage `json:"spec"`
	}
	if json.Unmarshal(raw, &bare) == nil {
		a = Assignment(bare.plain)
	} else {
		var named struct {
			Kind        WorkloadKind `json:"kind"`
			ID          string       `json:"id"`
			ContainerID string       `json:"container_id"`
			Epoch       uint64       `json:"epoch"`
			Generation  uint64       `json:"generation"`
			Desired     Desired      `json:"desired"`
		}
		_ = json.Unmarshal(raw, &named)
		a = Assignment{Kind: named.Kind, ID: named.ID, ContainerID: named.ContainerID, Epoch: named.Epoch, Generation: named.Generation, Desired: named.Desired}
	}
	a.Spec, a.Secrets, a.Unreadable = nil, Secrets{}, err.Error()
	return a
}

// StatusReport is the body of POST /v1/agent/hosts/ID/status.
//
//api:doc What an agent reports of its containers.
type StatusReport struct {
	Registration uint64            `json:"registration"`
	Seq          uint64            `json:"seq"` // raised by one with each new report of the registration; a repeat is dropped
	Containers   []ContainerReport `json:"containers"`
	NetworksFull *bool             `json:"networks_full,omitempty"` // whether the host has no room for another project's network; nil: as it was, at first not
	Copies       *Copies           `json:"copies,omitempty"`        // on the engine now; nil: as they were, at first none
}

// ContainerReport is what the agent sees of one workload: a container, unless Kind says
// otherwise. It is dropped if its epoch isn't the workload's own.
type ContainerReport struct {
	// Kind and ID name a workload that is no container; both are "" for a container,
	// which ContainerID names, as in an Assignment.
	Kind        WorkloadKind `json:"kind,omitempty"`
	ID          string       `json:"id,omitempty"`
	ContainerID string       `json:"container_id"`
	//api:doc Number of the placement. Each new placement raises it.
	Epoch    uint64 `json:"epoch"`
	Observed        // of the workload as a whole
	// Refused says that the host can't take the workload, which was never made on
	// it, and that another host may: Reason says why. Nothing is left of it there.
	Refused bool `json:"refused,omitempty"`
	// Parts are what Observed sums up, in the order of the workload's parts; none of a
	// container.
	Parts []PartReport `json:"parts,omitempty"`
}

// PartReport is what the agent sees of one part of a workload.
type PartReport struct {
	Part string `json:"part"`
	Observed
}

// ReportOf returns the report of a placement with nothing seen of it yet.
func ReportOf(ref Ref) ContainerReport {
	kind, id, containerID := wireNames(ref)
	return ContainerReport{Kind: kind, ID: id, ContainerID: containerID, Epoch: ref.Epoch}
}

// Ref returns the reference of the placement.
func (r *ContainerReport) Ref() Ref { return refOf(r.Kind, r.ID, r.ContainerID, r.Epoch) }

// wireNames returns how agents and servers name a workload to each other.
func wireNames(ref Ref) (kind WorkloadKind, id, containerID string) {
	if ref.Kind == WorkloadContainer {
		return "", "", ref.ID
	}
	return ref.Kind, ref.ID, ""
}

// refOf undoes wireNames.
func refOf(kind WorkloadKind, id, containerID string, epoch uint64) Ref {
	if containerID != "" || kind == "" {
		return ContainerRef(containerID, epoch)
	}
	return Ref{Kind: kind, ID: id, Epoch: epoch}
}

// Observe takes over what an agent saw.
func (c *Container) Observe(o Observed, _ []PartReport) {
	was := c.Observed
	c.Observed = o
	if o.Status == ContainerGone {
		c.Observed = was.Gone(o) // of the same epoch: a new placement begins with nothing
	}
	if c.Observed.EngineID == "" { // it can't be seen now, and proves which one it was all the same
		c.Observed.EngineID = was.EngineID
	}
}

// Copies are the containers on an engine that carry the labels of one of magnum's
// and are not it, such as one that somebody runs from an image of it. The agent
// leaves them alone.
type Copies struct {
	Count int    `json:"count"`
	First []Copy `json:"first"` // of them, at most MaxCopies
}

// MaxCopies bounds the copies that are named.
const MaxCopies = 20

// Copy is one of Copies.
type Copy struct {
	_struct struct{} `codec:",omitempty"` // see codec.go

	EngineID string `json:"engine_id"`
	//api:doc Name of the container in the engine.
	Name        string `json:"name"`           // the engine's
	ContainerID string `json:"container_uuid"` // of whose labels it has
	//api:doc Number of the placement. Each new placement raises it.
	Epoch uint64 `json:"epoch"`
}

// StatusReported answers StatusReport.
type StatusReported struct {
	Index uint64 `json:"index"`
	Seq   uint64 `json:"seq"` // the last one taken
}
