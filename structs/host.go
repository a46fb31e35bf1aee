package structs

import (
	"maps"
	"time"
)

// TableHosts is the table of hosts.
const TableHosts Table = "hosts"

// KindHost names hosts in URLs, error codes and messages.
const KindHost = "host"

// HostState is the state of a host by its last heartbeat.
type HostState string

// The host states. The leader's liveness loop writes them.
const (
	HostReady   HostState = "ready"
	HostSuspect HostState = "suspect" // silent: nothing new is placed on it, and nothing is moved off it
	HostLost    HostState = "lost"    // silent for too long: its workloads are Unknown, and those that may move are placed again
)

// Fingerprint is what an agent reports of its machine and engine.
type Fingerprint struct {
	_struct struct{} `codec:",omitempty"` // see codec.go

	Backend       Backend           `json:"backend"`
	EngineVersion string            `json:"engine_version"`
	AgentVersion  string            `json:"agent_version"`
	OS            string            `json:"os"`
	Kernel        string            `json:"kernel"`
	Cores         int               `json:"cores"`
	Memory        int64             `json:"memory"` // bytes
	Disk          int64             `json:"disk"`   // bytes of the engine's file system
	Labels        map[string]string `json:"labels"` // from the agent's -label flags
	//api:doc IP addresses of the host.
	Addresses []string       `json:"addresses"`
	Engine    EngineIdentity `json:"engine,omitzero"`
	Relay     Relay          `json:"relay,omitzero"` // between the hosts of a bay
	// Kinds are the kinds of workloads that the agent runs. Agents that run containers only
	// may not report them. In a row, none means that the host has registered before SchemaPods
	// was in use.
	//api:doc Kinds of workloads that the agent runs.
	Kinds []WorkloadKind `json:"kinds,omitempty"`
	//api:doc The Kubernetes cluster that the host is; absent for a Docker host.
	Cluster *KubernetesCluster `json:"cluster,omitempty"` // kept up to date by status reports
}

// Host is a machine with an agent. Fingerprint, Registration and ReportSeq come
// from the agent, State and BayID from the conductor, Draining and Labels from
// operators.
type Host struct {
	Meta
	Name         string
	Fingerprint  Fingerprint
	SecretHash   string // hex SHA-256 of the secret that the agent sends with each call
	Registration uint64 // raised by each registration; calls under an older one are refused
	Instance     string // the agent instance that registered last; "" if the agent doesn't report one
	ReportSeq    uint64 // sequence number of the last status report taken in this registration
	State        HostState
	StateReason  string
	BayID        string            // the bay that has claimed it; "" if it is free
	Draining     bool              // nothing new is placed on it, and no bay claims it
	Labels       map[string]string // override all others with the same keys
	Braked       bool              // suspect for longer than host_lost_after, and held back by the mass-loss brake
	DrainTimeout time.Duration     // of a drain, from when a leader first sees it; 0 means none
	DrainUntil   time.Time         // about when DrainTimeout ends, for people; leaders tell drains apart by it
	DrainForce   bool              // DrainTimeout has ended: what can't move is stopped; stays set after the drain until that is undone
	Fenced       bool              // lost, and an operator has said that it is off
	NetworksFull bool              // it has no room for another project's network, as reported in this registration
	Copies       []Copy            // the first copies on its engine, as reported in this registration; see Copies
	CopyCount    int               // number of all copies
	Quarantined  int               // containers in its quarantine that nobody has decided to remove; see Quarantine
	ReturnIndex  uint64            // index of its last return from lost; an agent that has followed no later state gets a full answer
	Problems     []ServiceProblem  // what it doesn't serve of its bay's services, as reported in this registration
	BayIndex     uint64            // index when its bay last changed; an agent that has followed no later state gets all services

	// Written by the conductor from SchemaHosts on.
	TokenID string            // the join token by which it registered; "" for the cluster's own, or if it registered before
	Granted map[string]string // labels of that token; they override the agent's
	Claimed bool              // the agent's labels are claims: neither bays nor constraints go by them
}

// AllLabels returns the effective labels: the agent's, unless they are mere claims,
// overridden by those of its join token and then by the operators'. The map is shared:
// never write to it.
func (h *Host) AllLabels() map[string]string {
	all := h.Fingerprint.Labels
	if h.Claimed {
		all = nil
	}
	for _, over := range []map[string]string{h.Granted, h.Labels} {
		switch {
		case len(over) == 0:
		case len(all) == 0:
			all = over
		default:
			all = maps.Clone(all)
			maps.Copy(all, over)
		}
	}
	return all
}

// Table says which table the row belongs to.
func (*Host) Table() Table { return TableHosts }

// RowName returns the host's name.
func (h *Host) RowName() string { return h.Name }

// HostRequest is what a PATCH changes of a host.
type HostRequest struct {
	Labels map[string]string `json:"labels,omitempty"` // the operators'
}

// HostBody is a host as operators see it.
//
//api:doc A machine with an agent.
type HostBody struct {
	//api:doc UUID in canonical lower-case form.
	UUID string `json:"uuid"`
	//api:doc Name of the machine.
	Name  string    `json:"name"`
	State HostState `json:"state"`
	//api:doc Why the host is in this state.
	StateReason *string `json:"state_reason"`
	//api:doc UUID of the host's bay; null if no bay has claimed the host.
	BayUUID    *string `json:"bay_uuid"`
	Containers int     `json:"containers"` // number of containers placed on it
	//api:doc URLs of the object: self, and bookmark without the version.
	Links []Link `json:"links"`
	//api:doc Reserved memory in bytes.
	MemoryUsed int64 `json:"memory_used"`
	//api:doc Reserved cores.
	CPUUsed float64 `json:"cpu_used"`
	//api:doc Whether the host is being drained: nothing new is placed on it, and no bay claims it.
	Draining bool `json:"draining"`
	//api:doc Progress of a drain; done when nothing remains. null if there is no drain.
	Drain *DrainBody `json:"drain"`
	//api:doc Whether the mass-loss brake keeps the host suspect: it would be lost, but many hosts became silent at once.
	Braked bool `json:"braked"`
	//api:doc Whether the host is lost and an operator has confirmed that it is off.
	Fenced    bool   `json:"fenced"`
	Copies    []Copy `json:"copies"`     // the first copies on its engine, which are left alone; see Copies
	CopyCount int    `json:"copy_count"` // number of all copies
	//api:doc What it doesn't serve of its bay's services: the first 20.
	Problems []ServiceProblem `json:"service_problems"`
	// Quarantine holds the host's containers of another history of the cluster, until
	// an operator decides about them.
	Quarantine []QuarantinedBody `json:"quarantine"`
	//api:doc Labels set by operators. They override the host's other labels.
	OperatorLabels map[string]string `json:"operator_labels"`
	//api:doc Labels of the join token with which the host registered. They override the agent's.
	TokenLabels map[string]string `json:"token_labels"`
	//api:doc Labels that the agent claims. They are among the labels if the servers trust agents.
	AgentLabels map[string]string `json:"agent_labels"`
	//api:doc Time of creation.
	CreatedAt Time `json:"created_at"`
	//api:doc Time of the last change by a user; null if there was none.
	UpdatedAt   Time `json:"updated_at"`
	Fingerprint      // backend, engine_version, ..., labels, addresses
}

// DrainBody is the progress of a drain.
type DrainBody struct {
	Deadline  Time     `json:"deadline"`  // when containers that can't move are stopped; null if never
	Forced    bool     `json:"forced"`    // the deadline has passed
	Remaining int      `json:"remaining"` // containers that may still run on the host; at 0 the drain is done
	Moving    int      `json:"moving"`    // remaining containers whose replacements are about to run, or to be ready
	Waits     []string `json:"waits"`     // why the first few of the remaining containers can't move, or aren't ready elsewhere
}
