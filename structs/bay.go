package structs

// TableBays is the table of bays.
const TableBays Table = "bays"

// KindBay names bays in URLs, error codes and messages.
const KindBay = "bay"

// Backend is the type of engine that runs a host's containers.
type Backend string

// The backends.
const (
	BackendDocker     Backend = "docker"
	BackendKubernetes Backend = "kubernetes"
)

// BackendOf returns the backend for a bay's coe; "swarm" is an alias of docker. ok is
// false for an unknown coe.
func BackendOf(coe string) (b Backend, ok bool) {
	switch coe {
	case "docker", "swarm":
		return BackendDocker, true
	case "kubernetes":
		return BackendKubernetes, true
	}
	return "", false
}

// BayStatus is a bay's status in the API.
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

// InProgress reports whether the bay waits for hosts or for its deletion.
func (s BayStatus) InProgress() bool {
	return s == BayCreating || s == BayUpdating || s == BayDeleting
}

// PlacementStrategy is how a bay's scheduler chooses among hosts that fit.
type PlacementStrategy string

// The placement strategies.
const (
	PlacementSpread  PlacementStrategy = "spread"  // the host with the fewest containers
	PlacementBinpack PlacementStrategy = "binpack" // the host with the least room left
)

// Bay is a set of hosts with one backend, claimed by one project or shared by an
// operator with all projects. Status and StatusReason come from the conductor, the
// other fields from the user. Host.BayID says which hosts belong to the bay.
type Bay struct {
	Meta
	Name         string            // 1..255; not unique
	BayModelID   string            // UUID; "" if none was given
	COE          string            // as given: docker, swarm or kubernetes
	NodeCount    int               // desired hosts, 1..MaxNodeCount; of a cluster the least number of ready nodes
	DiscoveryURL string            // stored for the 2015 client, not used
	Timeout      int               // minutes until CREATE_FAILED; 0 means never
	Labels       map[string]string // a host must carry all of them to be claimed
	Placement    PlacementStrategy // never ""
	Shared       bool              // usable by all projects
	Status       BayStatus
	StatusReason string // what happened and what to do; "" if there is nothing to say
	Request      string // ID of the request that created it; "" if unknown; since SchemaActions
}

// Table says which table the row belongs to.
func (*Bay) Table() Table { return TableBays }

// RowName returns the bay's name.
func (b *Bay) RowName() string { return b.Name }

// Backend returns the backend that the bay's hosts must have.
func (b *Bay) Backend() Backend {
	backend, _ := BackendOf(b.COE)
	return backend
}

// Hosts returns how many hosts the bay claims: NodeCount, but one for a Kubernetes cluster,
// whose nodes NodeCount then counts.
func (b *Bay) Hosts() int {
	if b.Backend() == BackendKubernetes {
		return 1
	}
	return b.NodeCount
}

// BayRequest is the body of POST /v1/bays. Absent and null mean the same.
//
//api:doc A bay to create: a set of hosts with one backend. Absent and null mean the same.
type BayRequest struct {
	//api:doc UUID in canonical lower-case form.
	UUID string `json:"uuid,omitempty"`
	//api:doc 1 to 255 characters, not unique. A readable name is generated if none is given.
	Name *string `json:"name,omitempty"`
	//api:doc UUID or name of a baymodel.
	BayModelID string `json:"baymodel_id,omitempty"`
	//api:doc docker, swarm (an alias of docker) or kubernetes.
	COE string `json:"coe,omitempty"` // default: the baymodel's, else docker
	//api:doc Desired number of hosts; with coe kubernetes the number of ready nodes that the bay's cluster has at least.
	NodeCount *int `json:"node_count,omitempty"` // default 1
	//api:doc Stored for the client of 2015, not used.
	DiscoveryURL string `json:"discovery_url,omitempty"`
	//api:doc Minutes after which a bay that lacks hosts becomes CREATE_FAILED; 0 means never.
	BayCreateTimeout *int              `json:"bay_create_timeout,omitempty"` // default 0
	Labels           map[string]string `json:"labels,omitempty"`             // that a host must carry to be claimed
	//api:doc spread chooses the host with the fewest containers, binpack the host with the least room left.
	Placement PlacementStrategy `json:"placement,omitempty"` // default spread
	//api:doc Whether all projects can use the bay. Only operators can set it.
	Shared bool `json:"shared,omitempty"`
}

// BayBody is a bay as the API shows it.
//
//api:doc A set of hosts with one backend, claimed by one project or shared with all.
type BayBody struct {
	//api:doc UUID in canonical lower-case form.
	UUID string `json:"uuid"`
	//api:doc 1 to 255 characters, not unique.
	Name string `json:"name"`
	//api:doc UUID of the baymodel; null if there is none.
	BayModelID *string `json:"baymodel_id"`
	//api:doc Desired number of hosts; with coe kubernetes the number of ready nodes that the bay's cluster has at least.
	NodeCount int `json:"node_count"`
	//api:doc Current status.
	Status BayStatus `json:"status"`
	//api:doc Minutes after which a bay that lacks hosts becomes CREATE_FAILED; 0 means never.
	BayCreateTimeout int `json:"bay_create_timeout"`
	//api:doc URLs of the object: self, and bookmark without the version.
	Links []Link `json:"links"`
	//api:doc URL of the API of the bay's Kubernetes cluster; null on other bays.
	APIAddress *string `json:"api_address"`
	//api:doc Addresses of the bay's hosts; with coe kubernetes those of the cluster's nodes.
	NodeAddresses []string `json:"node_addresses"`
	//api:doc Stored for the client of 2015, not used.
	DiscoveryURL *string `json:"discovery_url"`
	//api:doc Time of creation.
	CreatedAt Time `json:"created_at"`
	//api:doc Time of the last change by a user; null if there was none.
	UpdatedAt Time `json:"updated_at"`
	//api:doc docker, swarm (an alias of docker) or kubernetes.
	COE    string            `json:"coe"`
	Labels map[string]string `json:"labels"`
	//api:doc spread chooses the host with the fewest containers, binpack the host with the least room left.
	Placement PlacementStrategy `json:"placement"`
	//api:doc Whether all projects can use the bay. Only operators can set it.
	Shared bool `json:"shared"`
	//api:doc What happened and what to do.
	StatusReason *string `json:"status_reason"`
}
