package structs

// TableBayModels is the table of baymodels.
const TableBayModels Table = "baymodels"

// KindBayModel names baymodels in URLs, error codes and messages.
const KindBayModel = "baymodel"

// BayModel is a template for bays. magnum uses only COE. The other fields are stored
// and shown for the 2015 client.
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
	Request           string // ID of the request that created it; "" if unknown; since SchemaActions
}

// Table says which table the row belongs to.
func (*BayModel) Table() Table { return TableBayModels }

// RowName returns the baymodel's name.
func (b *BayModel) RowName() string { return b.Name }

// SetRowName sets the baymodel's name.
func (b *BayModel) SetRowName(name string) { b.Name = name }

// BayModelRequest is the body of POST /v1/baymodels.
//
//api:doc A template for bays.
type BayModelRequest struct {
	//api:doc UUID in canonical lower-case form.
	UUID string `json:"uuid,omitempty"`
	//api:doc 1 to 255 characters, not unique. A readable name is generated if none is given.
	Name *string `json:"name,omitempty"`
	//api:doc docker, swarm (an alias of docker) or kubernetes.
	COE string `json:"coe,omitempty"` // mandatory
	//api:doc Image of the hosts. Stored for the client of 2015, not used.
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
//api:doc A template for bays. magnum uses coe only.
type BayModelBody struct {
	//api:doc UUID in canonical lower-case form.
	UUID string `json:"uuid"`
	//api:doc 1 to 255 characters, not unique.
	Name string `json:"name"`
	//api:doc Image of the hosts. Stored for the client of 2015, not used.
	ImageID       *string `json:"image_id"`
	APIServerPort *int    `json:"apiserver_port"`
	//api:doc docker, swarm (an alias of docker) or kubernetes.
	COE string `json:"coe"`
	//api:doc URLs of the object: self, and bookmark without the version.
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
	//api:doc Time of creation.
	CreatedAt Time `json:"created_at"`
	//api:doc Time of the last change by a user; null if there was none.
	UpdatedAt Time `json:"updated_at"`
}
