package structs

// TableNodes is the table of nodes.
const TableNodes Table = "nodes"

// KindNode names nodes in URLs, error codes and messages.
const KindNode = "node"

// Node is a row created by the 2015 client's node-create. Nothing runs on it. It is
// listed with the hosts.
type Node struct {
	Meta
	Name         string
	Type         string // virt or bare, free text
	ImageID      string
	IronicNodeID string
	Request      string // ID of the request that created it; "" if unknown; since SchemaActions
}

// Table says which table the row belongs to.
func (*Node) Table() Table { return TableNodes }

// RowName returns the node's name.
func (n *Node) RowName() string { return n.Name }

// SetRowName sets the node's name.
func (n *Node) SetRowName(name string) { n.Name = name }

// NodeRequest is the body of POST /v1/nodes.
type NodeRequest struct {
	//api:doc UUID in canonical lower-case form.
	UUID string `json:"uuid,omitempty"`
	//api:doc 1 to 255 characters, not unique. A readable name is generated if none is given.
	Name *string `json:"name,omitempty"`
	Type string  `json:"type,omitempty"`
	//api:doc Image of the node. Stored for the client of 2015, not used.
	ImageID      string `json:"image_id,omitempty"`
	IronicNodeID string `json:"ironic_node_id,omitempty"`
}

// NodeBody is a node of the API of 2015, or a host shown as one.
//
//api:doc A node of the API of 2015, or a host shown as one.
type NodeBody struct {
	//api:doc UUID in canonical lower-case form.
	UUID string `json:"uuid"`
	//api:doc 1 to 255 characters, not unique.
	Name string  `json:"name"`
	Type *string `json:"type"`
	//api:doc Image of the node. Stored for the client of 2015, not used.
	ImageID      *string `json:"image_id"`
	IronicNodeID *string `json:"ironic_node_id"`
	//api:doc URLs of the object: self, and bookmark without the version.
	Links []Link `json:"links"`
	//api:doc Time of creation.
	CreatedAt Time `json:"created_at"`
	//api:doc Time of the last change by a user; null if there was none.
	UpdatedAt Time `json:"updated_at"`
}
