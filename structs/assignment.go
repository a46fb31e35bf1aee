package structs

import (
	"encoding/json"
	"time"
)

// Assignment is what one host has to do for one workload. The server derives it
// from the row, and the agent reconciles to it. Ref names the placement.
type Assignment struct {
	// Kind and ID name a workload of another kind than container. For a container
	// both are "", and ContainerID names it. An agent that knows only containers
	// therefore can't read an assignment of another kind, and removes nothing
	// because of that answer.
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
	StartGeneration  uint64  `json:"start_generation,omitempty"` // newest generation that starts the process; 0 means any generation may
	RebootGeneration uint64  `json:"reboot_generation,omitempty"`
	KillGeneration   uint64  `json:"kill_generation,omitempty"`
	Signal           string  `json:"signal,omitempty"`           // of that kill
	LimitGeneration  uint64  `json:"limit_generation,omitempty"` // newest generation that changes limits; 0 means any generation may
	Desired          Desired `json:"desired"`
	Force            bool    `json:"force,omitempty"`
	//api:doc Seconds between SIGTERM and SIGKILL.
	StopTimeout int    `json:"stop_timeout"`
	Observed    uint64 `json:"observed"` // newest generation that the host has reported as carried out
	// EngineID is the engine's ID of this epoch's container, as the host reported
	// it; "" if the host has not reported it.
	EngineID string `json:"engine_id,omitempty"`

	Spec *ContainerSpec `json:"spec"`
	Pod  *PodAssignment `json:"pod,omitempty"` // of a pod, which has no Spec
	// Object is of an Object, which has neither Spec nor Pod.
	Object *ObjectAssignment `json:"object,omitempty"`
	Secrets

	// Unreadable says why the agent could not read the assignment; "" if it could.
	// The other fields then hold what was readable, and Spec is nil.
	Unreadable string `json:"-"`
}

// PodAssignment is what an assignment of a pod has beside that of a container.
type PodAssignment struct {
	Spec        *PodSpec          `json:"spec"`
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
	// Manifest is as it was sent, with Assignment.Name for its name; only for the agent of a
	// Kubernetes cluster.
	Manifest string `json:"manifest,omitempty"`
	// Found says that a replication controller of the cluster has made the pod: the agent
	// reports and deletes it, and never makes it.
	Found bool `json:"found,omitempty"`
}

// Ref returns the reference of the placement.
func (a *Assignment) Ref() Ref { return refOf(a.Kind, a.ID, a.ContainerID, a.Epoch) }

// AssignmentOf returns the assignment for a host that has a placement of the
// workload.
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

// Assign adds the fields that only a container has.
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
	Name      string `json:"name"`
	JoinToken string `json:"join_token"`
	// Secret is the host secret, at least 32 characters. The agent mints it, keeps
	// it in its data directory, and sends it as "Authorization: Bearer" with every
	// later call.
	Secret      string      `json:"secret"`
	Fingerprint Fingerprint `json:"fingerprint"`
	// Follows lets the servers refuse a host that would not follow them, which would
	// otherwise count as ready.
	Follows Following `json:"follows"`
	// Instance is minted by each instance of an agent; "" if the agent doesn't report
	// one. Registration is the number of the instance's last registration; 0 if this
	// is the first. An instance that another one has superseded is refused: two
	// agents then use one data directory, or copies of it.
	Instance     string `json:"instance,omitempty"`
	Registration uint64 `json:"registration,omitempty"`
	// Found holds the owners of all containers on the engine by their labels, this
	// host included: at most MaxLabelOwners.
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
	// Lease is how long the host may run containers with exclusive "lease" after it
	// has sent a poll that the leader acknowledges; 0 means not at all.
	Lease   time.Duration `json:"lease"`
	Servers []string      `json:"servers"` // REST addresses
	// Diverged says that the agent has followed another history of the cluster. It
	// follows this history from Index of Lineage on, and its workloads that the
	// cluster doesn't know go into quarantine.
	Diverged bool   `json:"diverged,omitempty"`
	Lineage  string `json:"lineage,omitempty"`
	Index    uint64 `json:"index,omitempty"`
	NoGossip bool   `json:"no_gossip"` // there are too many hosts for gossip: the agent leaves it
}

// Work answers an agent's poll: GET /v1/agent/hosts/ID/work?index=N&wait=D.
//
//api:doc All assignments of a host, or those that have changed.
type Work struct {
	ClusterID   string `json:"cluster_id"`
	Incarnation uint64 `json:"incarnation"`
	Index       uint64 `json:"index"` // of the state that the answer is from; the next poll's N
	Full        bool   `json:"full"`  // the answer lists all assignments of the host, not only those that changed since N
	// More says that the answer is a page, and what the next one comes after; "" for the
	// last page, and for an agent that doesn't ask for pages. All pages together are the
	// answer, with the Index of the first one.
	More string `json:"more,omitempty"`
	// Confirmed says that the server has asked the leader for a read index, so that
	// the answer is current. Only then may unknown containers be removed.
	Confirmed   bool           `json:"confirmed"`
	Assignments []Assignment   `json:"assignments"`
	Sessions    []SessionOffer `json:"sessions,omitempty"`
	Servers     []string       `json:"servers,omitempty"`
	Lineage     string         `json:"lineage,omitempty"` // the newest lineage in the state of Index
	// Quarantine is the host's quarantine in a full answer. In any other answer it is
	// what operators have decided since N.
	Quarantine []Quarantined `json:"quarantine,omitempty"`
	// Pending says that the host has followed another history: its workloads that a
	// full, confirmed answer doesn't list go into quarantine.
	Pending bool `json:"quarantine_pending,omitempty"`
	// Acknowledged is the largest "sent" of this host's polls that the leader has
	// counted, and after which it has verified its leadership; 0 if there is none.
	Acknowledged uint64 `json:"acknowledged,omitempty"`
	// Lease is how long the host's lease lasts after the acknowledged poll was sent;
	// 0 if no poll is acknowledged.
	Lease time.Duration `json:"lease,omitempty"`
	// HostLostAfter is the silence after which the servers now mark the host lost; 0
	// while the servers have not agreed on it.
	HostLostAfter time.Duration `json:"host_lost_after,omitempty"`
	// BayID is the bay that has claimed the host; "" if the host is free, nil if the
	// server doesn't report it.
	BayID *string `json:"bay_id,omitempty"`
	// Services is nil if no service of the bay has changed since N.
	Services *ServiceWork `json:"services,omitempty"`
}

// UnmarshalJSON reads each assignment by itself, so that an assignment that this
// agent doesn't understand doesn't hide the others. If an assignment doesn't even
// name its workload, the answer is no longer Confirmed: it doesn't list every
// desired container.
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

// readAssignment reads as much of an assignment as possible: all of it, all but the
// spec, or only the fields that a report needs.
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
		a = Assignment{
			Kind: named.Kind, ID: named.ID, ContainerID: named.ContainerID,
			Epoch: named.Epoch, Generation: named.Generation, Desired: named.Desired,
		}
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
	NetworksFull *bool             `json:"networks_full,omitempty"` // no room for another network; nil means unchanged, at first false
	Copies       *Copies           `json:"copies,omitempty"`        // on the engine now; nil means unchanged, at first none
	// Problems are what the host doesn't serve of its bay's services, at most
	// MaxServiceProblems; nil means unchanged, at first none.
	Problems *[]ServiceProblem `json:"service_problems,omitempty"`
	// Cluster is how the host's Kubernetes cluster is now; nil means unchanged.
	Cluster *KubernetesCluster `json:"cluster,omitempty"`
}

// ContainerReport is what the agent observes of one workload: a container, unless
// Kind says otherwise. It is dropped if its epoch isn't the workload's.
type ContainerReport struct {
	// Kind and ID name a workload of another kind than container. For a container
	// both are "", and ContainerID names it, as in an Assignment.
	Kind        WorkloadKind `json:"kind,omitempty"`
	ID          string       `json:"id,omitempty"`
	ContainerID string       `json:"container_id"`
	//api:doc Number of the placement. Each new placement raises it.
	Epoch    uint64 `json:"epoch"`
	Observed        // of the workload as a whole
	// Refused says that the host can't run the workload, but another host may; Reason
	// says why. The workload was never created on the host, and nothing of it is left
	// there.
	Refused bool `json:"refused,omitempty"`
	// Parts are the observations that Observed summarizes, in the order of the
	// workload's parts; empty for a container.
	Parts []PartReport `json:"parts,omitempty"`
	// Pod and Object are of the agent of a Kubernetes cluster.
	Pod    *PodReport    `json:"pod,omitempty"`
	Object *ObjectReport `json:"object,omitempty"`
}

// PartReport is what the agent observes of one part of a workload.
type PartReport struct {
	Part string `json:"part"`
	Observed
	// Of a container of a pod:
	State   PartState `json:"state,omitzero"`
	Last    PartState `json:"last,omitzero"`   // of the attempt before; zero if there was none
	Ready   bool      `json:"ready,omitempty"` // see PartObserved
	Started bool      `json:"started,omitempty"`
	ImageID string    `json:"image_id,omitempty"` // the engine's; "" if unknown
}

// ReportOf returns a report of a placement with nothing observed yet.
func ReportOf(ref Ref) ContainerReport {
	kind, id, containerID := wireNames(ref)
	return ContainerReport{Kind: kind, ID: id, ContainerID: containerID, Epoch: ref.Epoch}
}

// Ref returns the reference of the placement.
func (r *ContainerReport) Ref() Ref { return refOf(r.Kind, r.ID, r.ContainerID, r.Epoch) }

// wireNames returns the names of a workload in messages between agents and servers.
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

// Observe stores what an agent reports.
func (c *Container) Observe(r *ContainerReport) {
	previous, o := c.Observed, r.Observed
	c.Observed = o
	if o.Status == ContainerGone {
		c.Observed = previous.Gone(o) // of the same epoch: a new placement begins with nothing
	}
	if c.Observed.EngineID == "" { // unseen now, but it still proves which container it was
		c.Observed.EngineID = previous.EngineID
	}
}

// Copies are the containers on an engine that carry magnum's labels but were not
// created by magnum, such as a container made from an image of one of magnum's. The
// agent leaves them alone.
type Copies struct {
	Count int    `json:"count"`
	First []Copy `json:"first"` // at most MaxCopies of them
}

// MaxCopies bounds the copies that are listed.
const MaxCopies = 20

// Copy is one of Copies.
type Copy struct {
	_struct struct{} `codec:",omitempty"` // see codec.go

	EngineID string `json:"engine_id"`
	//api:doc Name of the container in the engine.
	Name        string `json:"name"`
	ContainerID string `json:"container_uuid"` // of the container whose labels it carries
	//api:doc Number of the placement. Each new placement raises it.
	Epoch uint64 `json:"epoch"`
}

// StatusReported answers StatusReport.
type StatusReported struct {
	Index uint64 `json:"index"`
	Seq   uint64 `json:"seq"` // of the last report taken
}
