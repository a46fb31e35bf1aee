package structs

import (
	"maps"
	"time"
)

// Backend is the kind of engine that a host drives.
type Backend string

// The backends.
const (
	BackendDocker     Backend = "docker"
	BackendKubernetes Backend = "kubernetes"
)

// BackendOf returns the backend that a bay's coe asks for; "swarm" is an alias
// of docker. ok is false for a coe that magnum does not know.
func BackendOf(coe string) (b Backend, ok bool) {
	switch coe {
	case "docker", "swarm":
		return BackendDocker, true
	case "kubernetes":
		return BackendKubernetes, true
	}
	return "", false
}

// BayStatus is the word that the API shows for a bay.
type BayStatus string

// The bay statuses. The 2015 client creates pods, services and rcs only in a
// bay that is CREATE_COMPLETE or UPDATE_COMPLETE.
const (
	BayCreating     BayStatus = "CREATE_IN_PROGRESS"
	BayCreated      BayStatus = "CREATE_COMPLETE"
	BayCreateFailed BayStatus = "CREATE_FAILED"
	BayUpdating     BayStatus = "UPDATE_IN_PROGRESS"
	BayUpdated      BayStatus = "UPDATE_COMPLETE"
	BayDeleting     BayStatus = "DELETE_IN_PROGRESS"
)

// InProgress reports whether the bay still waits for hosts or for its end.
func (s BayStatus) InProgress() bool {
	return s == BayCreating || s == BayUpdating || s == BayDeleting
}

// PlacementStrategy is how a bay's scheduler chooses among hosts that fit.
type PlacementStrategy string

// The placement strategies.
const (
	PlacementSpread  PlacementStrategy = "spread"  // the host with the fewest containers
	PlacementBinpack PlacementStrategy = "binpack" // the host with the least room that is left
)

// Bay is a named set of hosts of one backend, claimed by one project or shared
// by its operator with all of them. Spec fields are the user's; Status and
// StatusReason are the conductor's. Which hosts it has is on the hosts.
type Bay struct {
	Meta
	Name         string            // 1..255; not unique
	BayModelID   string            // UUID, "" if none was given
	COE          string            // as given: docker, swarm or kubernetes
	NodeCount    int               // hosts wanted, 1..MaxNodeCount
	DiscoveryURL string            // kept for the 2015 client, not used
	Timeout      int               // minutes until CREATE_FAILED, 0 means none
	Labels       map[string]string // a host must carry all of them to be claimed
	Placement    PlacementStrategy // never ""
	Shared       bool              // usable by all projects
	Status       BayStatus
	StatusReason string // what happened and what to do; "" if there is nothing to say
}

// Table says which table the row belongs to.
func (*Bay) Table() Table { return TableBays }

// Backend returns the backend that the bay's hosts must have.
func (b *Bay) Backend() Backend {
	backend, _ := BackendOf(b.COE)
	return backend
}

// BayModel is a template for bays. Only COE matters to magnum; the other
// fields are kept and shown for the 2015 client.
type BayModel struct {
	Meta
	Name              string
	COE               string
	ImageID           string
	FlavorID          string
	MasterFlavorID    string
	KeypairID         string
	ExternalNetworkID string
	FixedNetwork      string
	DNSNameserver     string
	DockerVolumeSize  int // GB, 0 means not set
	SSHAuthorizedKey  string
	APIServerPort     int // 0 means not set
	ClusterDistro     string
}

// Table says which table the row belongs to.
func (*BayModel) Table() Table { return TableBayModels }

// Node is a row of the 2015 client's node-create. Nothing runs on it; it is
// listed with the hosts.
type Node struct {
	Meta
	Name         string
	Type         string // virt or bare, free text
	ImageID      string
	IronicNodeID string
}

// Table says which table the row belongs to.
func (*Node) Table() Table { return TableNodes }

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
	//api:doc IP addresses.
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
