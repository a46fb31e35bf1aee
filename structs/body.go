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
//
//api:doc A bay to create: a set of hosts of one backend. Absent and null mean the same.
type BayRequest struct {
	//api:doc UUID in canonical lower-case form.
	UUID string `json:"uuid,omitempty"`
	//api:doc 1 to 255 characters; not unique. A readable one is generated if none is given.
	Name *string `json:"name,omitempty"`
	//api:doc Baymodel, by UUID or name.
	BayModelID string `json:"baymodel_id,omitempty"` // uuid or name
	//api:doc docker, swarm (another word for docker) or kubernetes.
	COE string `json:"coe,omitempty"` // default: the baymodel's, else docker
	//api:doc Hosts that are wanted.
	NodeCount *int `json:"node_count,omitempty"` // default 1
	//api:doc Kept for the client of 2015.
	DiscoveryURL string `json:"discovery_url,omitempty"`
	//api:doc Minutes until a bay that lacks hosts is CREATE_FAILED; 0 means none.
	BayCreateTimeout *int              `json:"bay_create_timeout,omitempty"` // minutes, default 0: none
	Labels           map[string]string `json:"labels,omitempty"`             // of the hosts wanted
	//api:doc spread: the host with the fewest containers; binpack: the one with the least room left.
	Placement PlacementStrategy `json:"placement,omitempty"` // default spread
	//api:doc Usable by all projects; for operators to give.
	Shared bool `json:"shared,omitempty"` // operators only
}

// BayBody is a bay as the API shows it.
//
//api:doc A bay: a set of hosts of one backend, claimed by one project or shared with all.
type BayBody struct {
	//api:doc UUID in canonical lower-case form.
	UUID string `json:"uuid"`
	//api:doc 1 to 255 characters; not unique. A readable one is generated if none is given.
	Name string `json:"name"`
	//api:doc UUID of the baymodel; null if there is none.
	BayModelID *string `json:"baymodel_id"`
	//api:doc Hosts that are wanted.
	NodeCount int `json:"node_count"`
	//api:doc What is the case.
	Status BayStatus `json:"status"`
	//api:doc Minutes until a bay that lacks hosts is CREATE_FAILED; 0 means none.
	BayCreateTimeout int `json:"bay_create_timeout"`
	//api:doc Where the object is: self, and bookmark without the version.
	Links []Link `json:"links"`
	//api:doc Of the cluster's own API, if it has one.
	APIAddress *string `json:"api_address"`
	//api:doc Of the bay's hosts.
	NodeAddresses []string `json:"node_addresses"`
	//api:doc Kept for the client of 2015.
	DiscoveryURL *string `json:"discovery_url"`
	//api:doc When it was created.
	CreatedAt Time `json:"created_at"`
	//api:doc When a user last changed it; null means never.
	UpdatedAt Time `json:"updated_at"`
	//api:doc docker, swarm (another word for docker) or kubernetes.
	COE    string            `json:"coe"`
	Labels map[string]string `json:"labels"`
	//api:doc spread: the host with the fewest containers; binpack: the one with the least room left.
	Placement PlacementStrategy `json:"placement"`
	//api:doc Usable by all projects; for operators to give.
	Shared bool `json:"shared"`
	//api:doc What happened, and what to do.
	StatusReason *string `json:"status_reason"`
}

// BayModelRequest is the body of POST /v1/baymodels.
//
//api:doc A template for bays.
type BayModelRequest struct {
	//api:doc UUID in canonical lower-case form.
	UUID string `json:"uuid,omitempty"`
	//api:doc 1 to 255 characters; not unique. A readable one is generated if none is given.
	Name *string `json:"name,omitempty"`
	//api:doc docker, swarm (another word for docker) or kubernetes.
	COE string `json:"coe,omitempty"` // mandatory
	//api:doc Image of the hosts. Kept for the client of 2015.
	ImageID           string `json:"image_id,omitempty"`
	FlavorID          string `json:"flavor_id,omitempty"`
	MasterFlavorID    string `json:"master_flavor_id,omitempty"`
	KeypairID         string `json:"keypair_id,omitempty"`
	ExternalNetworkID string `json:"external_network_id,omitempty"`
	FixedNetwork      string `json:"fixed_network,omitempty"`
	DNSNameserver     string `json:"dns_nameserver,omitempty"` // IPv4
	DockerVolumeSize  *int   `json:"docker_volume_size,omitempty"`
	SSHAuthorizedKey  string `json:"ssh_authorized_key,omitempty"`
	APIServerPort     *int   `json:"apiserver_port,omitempty"` // 1024..65535
	ClusterDistro     string `json:"cluster_distro,omitempty"`
}

// BayModelBody is a baymodel as the API shows it.
//
//api:doc A template for bays. Only coe matters to magnum.
type BayModelBody struct {
	//api:doc UUID in canonical lower-case form.
	UUID string `json:"uuid"`
	//api:doc 1 to 255 characters; not unique. A readable one is generated if none is given.
	Name string `json:"name"`
	//api:doc Image of the hosts. Kept for the client of 2015.
	ImageID       *string `json:"image_id"`
	APIServerPort *int    `json:"apiserver_port"`
	//api:doc docker, swarm (another word for docker) or kubernetes.
	COE string `json:"coe"`
	//api:doc Where the object is: self, and bookmark without the version.
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
	//api:doc When it was created.
	CreatedAt Time `json:"created_at"`
	//api:doc When a user last changed it; null means never.
	UpdatedAt Time `json:"updated_at"`
}

// NodeRequest is the body of POST /v1/nodes.
type NodeRequest struct {
	//api:doc UUID in canonical lower-case form.
	UUID string `json:"uuid,omitempty"`
	//api:doc 1 to 255 characters; not unique. A readable one is generated if none is given.
	Name *string `json:"name,omitempty"`
	Type string  `json:"type,omitempty"`
	//api:doc Image of the node. Kept for the client of 2015.
	ImageID      string `json:"image_id,omitempty"`
	IronicNodeID string `json:"ironic_node_id,omitempty"`
}

// NodeBody is a node of 2015, or a host in its spelling.
//
//api:doc A node of 2015, or a host in its spelling.
type NodeBody struct {
	//api:doc UUID in canonical lower-case form.
	UUID string `json:"uuid"`
	//api:doc 1 to 255 characters; not unique. A readable one is generated if none is given.
	Name string  `json:"name"`
	Type *string `json:"type"`
	//api:doc Image of the node. Kept for the client of 2015.
	ImageID      *string `json:"image_id"`
	IronicNodeID *string `json:"ironic_node_id"`
	//api:doc Where the object is: self, and bookmark without the version.
	Links []Link `json:"links"`
	//api:doc When it was created.
	CreatedAt Time `json:"created_at"`
	//api:doc When a user last changed it; null means never.
	UpdatedAt Time `json:"updated_at"`
}

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
	//api:doc The machine's name.
	Name  string    `json:"name"`
	State HostState `json:"state"`
	//api:doc Why it is in this state.
	StateReason *string `json:"state_reason"`
	//api:doc UUID of the bay, or its name in a request; may be left out if only one bay fits.
	BayUUID    *string `json:"bay_uuid"`
	Containers int     `json:"containers"` // placed on it
	//api:doc Where the object is: self, and bookmark without the version.
	Links []Link `json:"links"`
	//api:doc Bytes reserved.
	MemoryUsed int64 `json:"memory_used"` // bytes reserved
	//api:doc Cores reserved.
	CPUUsed float64 `json:"cpu_used"` // cores reserved
	//api:doc Nothing new is placed on it, and no bay claims it.
	Draining bool `json:"draining"` // nothing new is placed on it
	//api:doc How far a drain is; done when nothing remains.
	Drain *DrainBody `json:"drain"` // how far a drain is; null if there is none
	//api:doc Silent for so long that it would be lost, but held back because many hosts went silent at once.
	Braked bool `json:"braked"` // the mass-loss brake holds it back from being lost
	//api:doc Lost, and an operator has said that it is off.
	Fenced    bool   `json:"fenced"`     // lost, and an operator has said that it is off
	Copies    []Copy `json:"copies"`     // containers on its engine that carry the labels of one of magnum's and are not it, the first of them; they are left alone
	CopyCount int    `json:"copy_count"` // of all of them
	// Quarantine is what the host keeps of another history of the cluster, until an
	// operator decides what becomes of it.
	Quarantine []QuarantinedBody `json:"quarantine"`
	// OperatorLabels are those of labels that operators have given.
	//api:doc Those of its labels that operators have given; they stand over the agent's.
	OperatorLabels map[string]string `json:"operator_labels"`
	//api:doc When it was created.
	CreatedAt Time `json:"created_at"`
	//api:doc When a user last changed it; null means never.
	UpdatedAt   Time `json:"updated_at"`
	Fingerprint      // backend, engine_version, ..., labels, addresses
}

// QuarantinedBody is a container that a host keeps in quarantine.
type QuarantinedBody struct {
	ContainerUUID string `json:"container_uuid"`
	//api:doc Name that it had; null if the host doesn't know.
	Name *string `json:"name"` // that it had; null if the host doesn't know
	//api:doc Project that it had; null if the host doesn't know.
	ProjectID *string `json:"project_id"` // likewise
	//api:doc Of its placement.
	Epoch   uint64  `json:"epoch"`   // of its placement
	State   *string `json:"state"`   // the engine's word: running, exited, ...
	Since   Time    `json:"since"`   // when the servers heard of it
	Decided *string `json:"decided"` // keep or remove, while the host carries it out; null if nothing is decided
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
//
//api:doc A container to create. Absent and null mean the same.
type ContainerRequest struct {
	//api:doc UUID in canonical lower-case form.
	UUID string `json:"uuid,omitempty"`
	//api:doc 1 to 255 characters; not unique. A readable one is generated if none is given.
	Name *string `json:"name,omitempty"` // default: a generated, readable one
	//api:doc UUID of the bay, or its name in a request; may be left out if only one bay fits.
	BayUUID string `json:"bay_uuid,omitempty"`
	//api:doc Another word for bay_uuid.
	Bay string `json:"bay,omitempty"` // uuid or name; alias of bay_uuid
	//api:doc Another word for image_id.
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
//
//api:doc A container: what was asked for, where it is, and what its host last reported.
type ContainerBody struct {
	//api:doc UUID in canonical lower-case form.
	UUID string `json:"uuid"`
	//api:doc 1 to 255 characters; not unique. A readable one is generated if none is given.
	Name string `json:"name"`
	//api:doc UUID of its bay.
	BayUUID string `json:"bay_uuid"`
	//api:doc Image that it is made of.
	ImageID string   `json:"image_id"`
	Command *Command `json:"command"`
	//api:doc What is the case.
	Status ContainerStatus `json:"status"`
	//api:doc Where the object is: self, and bookmark without the version.
	Links []Link `json:"links"`
	//api:doc What happened, and what to do.
	StatusReason *string `json:"status_reason"`
	//api:doc When it was created.
	CreatedAt Time `json:"created_at"`
	//api:doc When a user last changed it; null means never.
	UpdatedAt Time `json:"updated_at"`
	//api:doc Name of its host; null while it waits for one.
	Host *string `json:"host"` // name of its host, null while it waits for one
	//api:doc IP addresses.
	Addresses []string `json:"addresses"` // in the project's network
	Ports     []Port   `json:"ports"`     // as published, or as asked for while it doesn't run
	//api:doc Of the last run; null if there was none.
	ExitCode   *int `json:"exit_code"`
	StartedAt  Time `json:"started_at"`
	FinishedAt Time `json:"finished_at"`
	//api:doc Starts by the restart policy.
	RestartCount int `json:"restart_count"`
	//api:doc Raised each time it is placed anew.
	Epoch uint64 `json:"epoch"`
	ContainerSpec
	//api:doc starting, healthy or unhealthy; null without a health check.
	Health *string `json:"health"` // starting, healthy or unhealthy; null without a healthcheck
	//api:doc null means the image's own, if it has one.
	Healthcheck *Healthcheck `json:"healthcheck"`
	//api:doc Whether at most one copy may ever run, also while a host is cut off: true, false or lease.
	Exclusive Exclusive `json:"exclusive"` // true, false or lease
}

// PatchOp is one operation of a PATCH body (RFC 6902, three operations of it).
//
//api:doc One operation of a PATCH.
type PatchOp struct {
	Op    string `json:"op"`   // add, replace or remove
	Path  string `json:"path"` // "/field" or "/field/key"
	Value any    `json:"value,omitempty"`
}

// OutputBody answers logs and execute. Output is text: what isn't UTF-8 of it
// arrives as U+FFFD, unless it is encoded.
//
//api:doc What a container or a command put out.
type OutputBody struct {
	Output string `json:"output"`
	//api:doc Of the last run; null if there was none.
	ExitCode  *int    `json:"exit_code,omitempty"` // of execute
	Stdout    *string `json:"stdout,omitempty"`    // with ?split=true
	Stderr    *string `json:"stderr,omitempty"`    // with ?split=true
	Encoding  string  `json:"encoding,omitempty"`  // of the three outputs, EncodingBase64; "" means text
	Truncated bool    `json:"truncated,omitempty"` // of execute: the command has put out more than an answer holds, and the end of it is missing
}

// EncodingBase64 is the encoding of an output that is kept as it is, byte by byte.
const EncodingBase64 = "base64"

// StatsBody is what a container uses of its host, at one moment.
//
//api:doc What a container uses of its host, at one moment.
type StatsBody struct {
	ReadAt Time `json:"read_at"`
	//api:doc Of one core: 200 is two cores in full.
	CPUPercent float64 `json:"cpu_percent"` // of one core: 200 is two cores in full
	//api:doc Bytes that it uses, without the page cache that can go.
	MemoryUsed int64 `json:"memory_used"` // bytes, without the page cache that can go
	//api:doc Bytes; the host's memory if there is no limit.
	MemoryLimit int64 `json:"memory_limit"` // bytes; the host's memory if there is no limit
	//api:doc Bytes received since the start.
	NetworkIn int64 `json:"network_in"` // bytes received since the start
	//api:doc Bytes sent since the start.
	NetworkOut int64 `json:"network_out"`
	//api:doc Bytes read from disks since the start.
	BlockIn int64 `json:"block_in"` // bytes read from disks since the start
	//api:doc Bytes written to disks since the start.
	BlockOut int64 `json:"block_out"`
	//api:doc Processes and threads.
	PIDs int `json:"pids"` // processes and threads
}

// TopBody is the processes of a container, as ps shows them on its host.
//
//api:doc The processes of a container, as ps shows them on its host.
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
	Action string `json:"action"` // create, start, stop, reboot, pause, unpause, kill, rebuild, update or delete
	//api:doc Who did it.
	UserID string `json:"user_id"` // who did it
	//api:doc Under which the server's log tells more.
	RequestID  *string `json:"request_id"`  // null if it is not known
	StartedAt  Time    `json:"started_at"`  // when it was decided
	FinishedAt Time    `json:"finished_at"` // when its host had done it or given it up, null if it hasn't
	//api:doc success or error; in_progress or superseded of an action, progress in a stream.
	Result  string  `json:"result"`  // in_progress, success, error or superseded
	Message *string `json:"message"` // what went wrong, null if nothing did
}

// EventBody is one event of GET /v1/events.
//
//api:doc Something that happened to a container, bay or host.
type EventBody struct {
	Event string `json:"event"` // created, updated (its status or health is another), deleted; tick: nothing has happened
	Type  string `json:"type"`  // container, bay or host
	//api:doc UUID of the object.
	UUID string `json:"uuid"` // of the object
	//api:doc Name of the object.
	Name string `json:"name"` // of the object
	//api:doc What is the case.
	Status string  `json:"status"` // after the event; of a deletion, the last one
	Was    *string `json:"was"`    // status before it
	//api:doc starting, healthy or unhealthy; null without a health check.
	Health *string `json:"health"` // of a container with a health check
	//api:doc What happened, and what to do.
	StatusReason *string `json:"status_reason"` // as the object shows it
	//api:doc Of a container: name of its host.
	Host *string `json:"host"` // of a container: name of its host
	//api:doc Project of the object; null for hosts.
	ProjectID *string `json:"project_id"` // null for hosts
	At        Time    `json:"at"`         // when it happened, null if nobody has noted it
	Index     uint64  `json:"index"`      // of the log entry that did it
	Resume    uint64  `json:"resume"`     // the ?index= to go on from
}

// OperatorState answers GET /v1/operator/state: equal indexes have equal
// hashes on every server.
type OperatorState struct {
	Index uint64 `json:"index"`
	//api:doc Of the whole state: equal indexes have equal hashes on every server.
	Hash string `json:"hash"` // hex
	// Schema numbers the shape of the log's entries that the cluster uses: a
	// server that does not understand it can't be part of the cluster. Understood
	// is the newest that the server which answers understands.
	Schema     int `json:"schema"`
	Understood int `json:"schema_understood"`
}

// ErrorBody is the body of every error: the form of 2015, whose ErrorMessage
// is itself a JSON text (Fault), and ours.
//
//api:doc A refusal or failure: error_message as in 2015, itself a JSON text (Fault), and errors.
type ErrorBody struct {
	ErrorMessage string      `json:"error_message"`
	Errors       []ErrorItem `json:"errors"`
}

// Fault is what ErrorBody.ErrorMessage holds as JSON text.
//
//api:doc What error_message holds as JSON text.
type Fault struct {
	DebugInfo   *string `json:"debuginfo"`
	FaultCode   string  `json:"faultcode"` // Client or Server
	FaultString string  `json:"faultstring"`
}

// ErrorItem is one error.
type ErrorItem struct {
	//api:doc What is the case.
	Status int    `json:"status"`
	Code   string `json:"code"` // "container.not_found", or the Code alone
	//api:doc What a client may suggest: unknown_name, ambiguous or choose. Left out if nothing.
	Hint   Hint   `json:"hint,omitempty"` // see Hint
	Title  string `json:"title"`
	Detail string `json:"detail"`
	//api:doc Under which the server's log tells more.
	RequestID string `json:"request_id"`
}
