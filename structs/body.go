package structs

import (
	"encoding/json"
	"maps"
)

// This file holds the JSON bodies of the REST API: what clients send
// (…Request) and what servers answer (…Body). Field order is the order of
// the contract's tables.

// Link is one entry of an object's "links".
type Link struct {
	Href string `json:"href"`
	Rel  string `json:"rel"` // self or bookmark
}

// BayRequest is the body of POST /v1/bays. Absent and null mean the same.
type BayRequest struct {
	UUID             string            `json:"uuid,omitempty"`
	Name             *string           `json:"name,omitempty"`
	BayModelID       string            `json:"baymodel_id,omitempty"` // uuid or name
	COE              string            `json:"coe,omitempty"`         // default: the baymodel's, else docker
	NodeCount        *int              `json:"node_count,omitempty"`  // default 1
	DiscoveryURL     string            `json:"discovery_url,omitempty"`
	BayCreateTimeout *int              `json:"bay_create_timeout,omitempty"` // minutes, default 0: none
	Labels           map[string]string `json:"labels,omitempty"`             // of the hosts wanted
	Placement        PlacementStrategy `json:"placement,omitempty"`          // default spread
	Shared           bool              `json:"shared,omitempty"`             // operators only
}

// BayBody is a bay as the API shows it.
type BayBody struct {
	UUID             string            `json:"uuid"`
	Name             string            `json:"name"`
	BayModelID       *string           `json:"baymodel_id"`
	NodeCount        int               `json:"node_count"`
	Status           BayStatus         `json:"status"`
	BayCreateTimeout int               `json:"bay_create_timeout"`
	Links            []Link            `json:"links"`
	APIAddress       *string           `json:"api_address"`
	NodeAddresses    []string          `json:"node_addresses"`
	DiscoveryURL     *string           `json:"discovery_url"`
	CreatedAt        Time              `json:"created_at"`
	UpdatedAt        Time              `json:"updated_at"`
	COE              string            `json:"coe"`
	Labels           map[string]string `json:"labels"`
	Placement        PlacementStrategy `json:"placement"`
	Shared           bool              `json:"shared"`
	StatusReason     *string           `json:"status_reason"`
}

// BayModelRequest is the body of POST /v1/baymodels.
type BayModelRequest struct {
	UUID              string  `json:"uuid,omitempty"`
	Name              *string `json:"name,omitempty"`
	COE               string  `json:"coe,omitempty"` // mandatory
	ImageID           string  `json:"image_id,omitempty"`
	FlavorID          string  `json:"flavor_id,omitempty"`
	MasterFlavorID    string  `json:"master_flavor_id,omitempty"`
	KeypairID         string  `json:"keypair_id,omitempty"`
	ExternalNetworkID string  `json:"external_network_id,omitempty"`
	FixedNetwork      string  `json:"fixed_network,omitempty"`
	DNSNameserver     string  `json:"dns_nameserver,omitempty"` // IPv4
	DockerVolumeSize  *int    `json:"docker_volume_size,omitempty"`
	SSHAuthorizedKey  string  `json:"ssh_authorized_key,omitempty"`
	APIServerPort     *int    `json:"apiserver_port,omitempty"` // 1024..65535
	ClusterDistro     string  `json:"cluster_distro,omitempty"`
}

// BayModelBody is a baymodel as the API shows it.
type BayModelBody struct {
	UUID              string  `json:"uuid"`
	Name              string  `json:"name"`
	ImageID           *string `json:"image_id"`
	APIServerPort     *int    `json:"apiserver_port"`
	COE               string  `json:"coe"`
	Links             []Link  `json:"links"`
	FlavorID          *string `json:"flavor_id"`
	MasterFlavorID    *string `json:"master_flavor_id"`
	KeypairID         *string `json:"keypair_id"`
	ExternalNetworkID *string `json:"external_network_id"`
	FixedNetwork      *string `json:"fixed_network"`
	DNSNameserver     *string `json:"dns_nameserver"`
	DockerVolumeSize  *int    `json:"docker_volume_size"`
	SSHAuthorizedKey  *string `json:"ssh_authorized_key"`
	ClusterDistro     *string `json:"cluster_distro"`
	CreatedAt         Time    `json:"created_at"`
	UpdatedAt         Time    `json:"updated_at"`
}

// NodeRequest is the body of POST /v1/nodes.
type NodeRequest struct {
	UUID         string  `json:"uuid,omitempty"`
	Name         *string `json:"name,omitempty"`
	Type         string  `json:"type,omitempty"`
	ImageID      string  `json:"image_id,omitempty"`
	IronicNodeID string  `json:"ironic_node_id,omitempty"`
}

// NodeBody is a node of 2015, or a host in its spelling.
type NodeBody struct {
	UUID         string  `json:"uuid"`
	Name         string  `json:"name"`
	Type         *string `json:"type"`
	ImageID      *string `json:"image_id"`
	IronicNodeID *string `json:"ironic_node_id"`
	Links        []Link  `json:"links"`
	CreatedAt    Time    `json:"created_at"`
	UpdatedAt    Time    `json:"updated_at"`
}

// HostRequest is what a PATCH changes of a host.
type HostRequest struct {
	Labels map[string]string `json:"labels,omitempty"` // the operators'
}

// HostBody is a host as operators see it.
type HostBody struct {
	UUID        string     `json:"uuid"`
	Name        string     `json:"name"`
	State       HostState  `json:"state"`
	StateReason *string    `json:"state_reason"`
	BayUUID     *string    `json:"bay_uuid"`
	Containers  int        `json:"containers"` // placed on it
	Links       []Link     `json:"links"`
	MemoryUsed  int64      `json:"memory_used"` // bytes reserved
	CPUUsed     float64    `json:"cpu_used"`    // cores reserved
	Draining    bool       `json:"draining"`    // nothing new is placed on it
	Drain       *DrainBody `json:"drain"`       // how far a drain is; null if there is none
	Braked      bool       `json:"braked"`      // the mass-loss brake holds it back from being lost
	Fenced      bool       `json:"fenced"`      // lost, and an operator has said that it is off
	Copies      []Copy     `json:"copies"`      // containers on its engine that carry the labels of one of magnum's and are not it, the first of them; they are left alone
	CopyCount   int        `json:"copy_count"`  // of all of them
	// Quarantine is what the host keeps of another history of the cluster, until an
	// operator decides what becomes of it.
	Quarantine []QuarantinedBody `json:"quarantine"`
	// OperatorLabels are those of labels that operators have given.
	OperatorLabels map[string]string `json:"operator_labels"`
	CreatedAt      Time              `json:"created_at"`
	UpdatedAt      Time              `json:"updated_at"`
	Fingerprint                      // backend, engine_version, ..., labels, addresses
}

// QuarantinedBody is a container that a host keeps in quarantine.
type QuarantinedBody struct {
	ContainerUUID string  `json:"container_uuid"`
	Name          *string `json:"name"`       // that it had; null if the host doesn't know
	ProjectID     *string `json:"project_id"` // likewise
	Epoch         uint64  `json:"epoch"`      // of its placement
	State         *string `json:"state"`      // the engine's word: running, exited, ...
	Since         Time    `json:"since"`      // when the servers heard of it
	Decided       *string `json:"decided"`    // keep or remove, while the host carries it out; null if nothing is decided
}

// DrainBody is how far a drain is.
type DrainBody struct {
	Deadline  Time     `json:"deadline"`  // when what can't move is stopped, null if never
	Forced    bool     `json:"forced"`    // that time has come
	Remaining int      `json:"remaining"` // containers that may still run on the host; at 0 the drain is done
	Moving    int      `json:"moving"`    // of them, those whose replacements are about to run
	Waits     []string `json:"waits"`     // of the first few others, why they can't move
}

// ContainerRequest is the body of POST /v1/containers. Absent and null mean
// the same.
type ContainerRequest struct {
	UUID    string   `json:"uuid,omitempty"`
	Name    *string  `json:"name,omitempty"` // default: a generated, readable one
	BayUUID string   `json:"bay_uuid,omitempty"`
	Bay     string   `json:"bay,omitempty"`     // uuid or name; alias of bay_uuid
	Image   string   `json:"image,omitempty"`   // alias of image_id, the spec's Image
	Command *Command `json:"command,omitempty"` // the spec's Command and CommandText
	ContainerSpec
	Secrets // never shown
}

// MarshalJSON leaves out what asks for nothing: null, "" and false.
func (r ContainerRequest) MarshalJSON() ([]byte, error) {
	type plain ContainerRequest
	b, err := json.Marshal(plain(r))
	if err != nil {
		return nil, err
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(b, &members); err != nil {
		return nil, err
	}
	maps.DeleteFunc(members, func(_ string, value json.RawMessage) bool {
		switch string(value) {
		case `null`, `""`, `false`:
			return true
		}
		return false
	})
	return marshalPlain(members)
}

// ContainerBody is a container as the API shows it. Lists show the fields up
// to Status and Links, unless the path ends in /detail. The fields of the spec that
// stand here, too, have this place in the body, and those of ContainerSpec are not
// in it.
type ContainerBody struct {
	UUID         string          `json:"uuid"`
	Name         string          `json:"name"`
	BayUUID      string          `json:"bay_uuid"`
	ImageID      string          `json:"image_id"`
	Command      *Command        `json:"command"`
	Status       ContainerStatus `json:"status"`
	Links        []Link          `json:"links"`
	StatusReason *string         `json:"status_reason"`
	CreatedAt    Time            `json:"created_at"`
	UpdatedAt    Time            `json:"updated_at"`
	Host         *string         `json:"host"`      // name of its host, null while it waits for one
	Addresses    []string        `json:"addresses"` // in the project's network
	Ports        []Port          `json:"ports"`     // as published, or as asked for while it doesn't run
	ExitCode     *int            `json:"exit_code"`
	StartedAt    Time            `json:"started_at"`
	FinishedAt   Time            `json:"finished_at"`
	RestartCount int             `json:"restart_count"`
	Epoch        uint64          `json:"epoch"`
	ContainerSpec
	Health      *string      `json:"health"` // starting, healthy or unhealthy; null without a healthcheck
	Healthcheck *Healthcheck `json:"healthcheck"`
	Exclusive   Exclusive    `json:"exclusive"` // true, false or lease
}

// PatchOp is one operation of a PATCH body (RFC 6902, three operations of it).
type PatchOp struct {
	Op    string `json:"op"`   // add, replace or remove
	Path  string `json:"path"` // "/field" or "/field/key"
	Value any    `json:"value,omitempty"`
}

// OutputBody answers logs and execute. Output is text: what isn't UTF-8 of it
// arrives as U+FFFD, unless it is encoded.
type OutputBody struct {
	Output    string  `json:"output"`
	ExitCode  *int    `json:"exit_code,omitempty"` // of execute
	Stdout    *string `json:"stdout,omitempty"`    // with ?split=true
	Stderr    *string `json:"stderr,omitempty"`    // with ?split=true
	Encoding  string  `json:"encoding,omitempty"`  // of the three outputs, EncodingBase64; "" means text
	Truncated bool    `json:"truncated,omitempty"` // of execute: the command has put out more than an answer holds, and the end of it is missing
}

// EncodingBase64 is the encoding of an output that is kept as it is, byte by byte.
const EncodingBase64 = "base64"

// StatsBody is what a container uses of its host, at one moment.
type StatsBody struct {
	ReadAt      Time    `json:"read_at"`
	CPUPercent  float64 `json:"cpu_percent"`  // of one core: 200 is two cores in full
	MemoryUsed  int64   `json:"memory_used"`  // bytes, without the page cache that can go
	MemoryLimit int64   `json:"memory_limit"` // bytes; the host's memory if there is no limit
	NetworkIn   int64   `json:"network_in"`   // bytes received since the start
	NetworkOut  int64   `json:"network_out"`
	BlockIn     int64   `json:"block_in"` // bytes read from disks since the start
	BlockOut    int64   `json:"block_out"`
	PIDs        int     `json:"pids"` // processes and threads
}

// TopBody is the processes of a container, as ps shows them on its host.
type TopBody struct {
	Titles    []string   `json:"titles"`
	Processes [][]string `json:"processes"` // a row of values for the titles each
}

// ActionsBody answers GET /v1/containers/ID/actions.
type ActionsBody struct {
	Actions []ActionBody `json:"actions"` // the last MaxActions, the newest first
}

// ActionBody is one thing that somebody did to a container.
type ActionBody struct {
	Action     string  `json:"action"`      // create, start, stop, reboot, pause, unpause, kill, rebuild, update or delete
	UserID     string  `json:"user_id"`     // who did it
	RequestID  *string `json:"request_id"`  // null if it is not known
	StartedAt  Time    `json:"started_at"`  // when it was decided
	FinishedAt Time    `json:"finished_at"` // when its host had done it or given it up, null if it hasn't
	Result     string  `json:"result"`      // in_progress, success, error or superseded
	Message    *string `json:"message"`     // what went wrong, null if nothing did
}

// EventBody is one event of GET /v1/events.
type EventBody struct {
	Event        string  `json:"event"`         // created, updated (its status or health is another), deleted; tick: nothing has happened
	Type         string  `json:"type"`          // container, bay or host
	UUID         string  `json:"uuid"`          // of the object
	Name         string  `json:"name"`          // of the object
	Status       string  `json:"status"`        // after the event; of a deletion, the last one
	Was          *string `json:"was"`           // status before it
	Health       *string `json:"health"`        // of a container with a health check
	StatusReason *string `json:"status_reason"` // as the object shows it
	Host         *string `json:"host"`          // of a container: name of its host
	ProjectID    *string `json:"project_id"`    // null for hosts
	At           Time    `json:"at"`            // when it happened, null if nobody has noted it
	Index        uint64  `json:"index"`         // of the log entry that did it
	Resume       uint64  `json:"resume"`        // the ?index= to go on from
}

// OperatorState answers GET /v1/operator/state: equal indexes have equal
// hashes on every server.
type OperatorState struct {
	Index uint64 `json:"index"`
	Hash  string `json:"hash"` // hex
	// Schema numbers the shape of the log's entries that the cluster uses: a
	// server that does not understand it can't be part of the cluster. Understood
	// is the newest that the server which answers understands.
	Schema     int `json:"schema"`
	Understood int `json:"schema_understood"`
}

// ErrorBody is the body of every error: the form of 2015, whose ErrorMessage
// is itself a JSON text (Fault), and ours.
type ErrorBody struct {
	ErrorMessage string      `json:"error_message"`
	Errors       []ErrorItem `json:"errors"`
}

// Fault is what ErrorBody.ErrorMessage holds as JSON text.
type Fault struct {
	DebugInfo   *string `json:"debuginfo"`
	FaultCode   string  `json:"faultcode"` // Client or Server
	FaultString string  `json:"faultstring"`
}

// ErrorItem is one error.
type ErrorItem struct {
	Status    int    `json:"status"`
	Code      string `json:"code"`           // "container.not_found", or the Code alone
	Hint      Hint   `json:"hint,omitempty"` // see Hint
	Title     string `json:"title"`
	Detail    string `json:"detail"`
	RequestID string `json:"request_id"`
}
