package structs

import (
	"maps"
	"time"
)

// TableHosts is the table of hosts.
const TableHosts Table = "hosts"

// KindHost names hosts in URLs, error codes and messages.
const KindHost = "host"

// HostState is what the servers believe of a host.
type HostState string

// The host states. The leader's liveness loop writes them.
const (
	HostReady   HostState = "ready"
	HostSuspect HostState = "suspect" // silent: nothing new is placed on it, and nothing is taken away
	HostLost    HostState = "lost"    // silent for too long: what runs there is Unknown, and is placed anew where it may
)

// Fingerprint is what an agent found on its host.
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
}

// Host is a machine with an agent. Fingerprint, Registration and ReportSeq
// come from the agent; State and BayID are the conductor's; Draining and Labels
// are the operators'.
type Host struct {
	Meta
	Name         string
	Fingerprint  Fingerprint
	SecretHash   string // hex SHA-256 of the secret that the agent sends with each call
	Registration uint64 // raised by each registration; calls under an older one are refused
	Instance     string // the life of an agent that made the last registration; "" if it didn't tell
	ReportSeq    uint64 // sequence number of the last status report taken in this registration
	State        HostState
	StateReason  string
	BayID        string            // the bay that has claimed it, "" if it is free
	Draining     bool              // nothing new is placed on it, and no bay claims it
	Labels       map[string]string // stand over the agent's own of the same keys
	Braked       bool              // suspect for longer than host_lost_after, and held back by the mass-loss brake
	DrainTimeout time.Duration     // of a drain, from when a leader first sees it; 0 means none
	DrainUntil   time.Time         // when about that is over, for people; which drain it is, for leaders
	DrainForce   bool              // it is over: what can't move is stopped; after the drain, until that is undone
	Fenced       bool              // lost, and an operator has said that it is off
	NetworksFull bool              // it has no room for another project's network, as far as its agent has said in this registration
	Copies       []Copy            // some of the containers on its engine that only look like magnum's, as its agent has told in this registration
	CopyCount    int               // of all of them
	Quarantined  int               // containers that it keeps in quarantine and that nobody has decided to remove; see Quarantine
	ReturnIndex  uint64            // index of the state in which it last came back from being lost; whoever has followed no later one is told everything
}

// AllLabels returns the labels that count: the agent's, and over them the
// operators'. The map is shared: never write to it.
func (h *Host) AllLabels() map[string]string {
	if len(h.Labels) == 0 {
		return h.Fingerprint.Labels
	}
	all := make(map[string]string, len(h.Labels)+len(h.Fingerprint.Labels))
	maps.Copy(all, h.Fingerprint.Labels)
	maps.Copy(all, h.Labels)
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
	Containers int     `json:"containers"` // placed on it
	//api:doc URLs of the object: self, and bookmark without the version.
	Links []Link `json:"links"`
	//api:doc Reserved memory in bytes.
	MemoryUsed int64 `json:"memory_used"` // bytes reserved
	//api:doc Reserved cores.
	CPUUsed float64 `json:"cpu_used"` // cores reserved
	//api:doc Whether the host is being drained: nothing new is placed on it, and no bay claims it.
	Draining bool `json:"draining"` // nothing new is placed on it
	//api:doc Progress of a drain; done when nothing remains. null if there is no drain.
	Drain *DrainBody `json:"drain"` // how far a drain is; null if there is none
	//api:doc Whether the mass-loss brake keeps the host suspect: it would be lost, but many hosts became silent at once.
	Braked bool `json:"braked"` // the mass-loss brake holds it back from being lost
	//api:doc Whether the host is lost and an operator has confirmed that it is off.
	Fenced    bool   `json:"fenced"`     // lost, and an operator has said that it is off
	Copies    []Copy `json:"copies"`     // containers on its engine that carry the labels of one of magnum's and are not it, the first of them; they are left alone
	CopyCount int    `json:"copy_count"` // of all of them
	// Quarantine is what the host keeps of another history of the cluster, until an
	// operator decides what becomes of it.
	Quarantine []QuarantinedBody `json:"quarantine"`
	// OperatorLabels are those of labels that operators have given.
	//api:doc Labels set by operators. They override the agent's labels.
	OperatorLabels map[string]string `json:"operator_labels"`
	//api:doc Time of creation.
	CreatedAt Time `json:"created_at"`
	//api:doc Time of the last change by a user; null if there was none.
	UpdatedAt   Time `json:"updated_at"`
	Fingerprint      // backend, engine_version, ..., labels, addresses
}

// DrainBody is how far a drain is.
type DrainBody struct {
	Deadline  Time     `json:"deadline"`  // when what can't move is stopped, null if never
	Forced    bool     `json:"forced"`    // that time has come
	Remaining int      `json:"remaining"` // containers that may still run on the host; at 0 the drain is done
	Moving    int      `json:"moving"`    // of them, those whose replacements are about to run
	Waits     []string `json:"waits"`     // of the first few others, why they can't move
}
