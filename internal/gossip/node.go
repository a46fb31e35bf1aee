package gossip

import "time"

// Role says whether a process is a server or an agent.
type Role string

// The roles.
const (
	RoleServer Role = "server"
	RoleAgent  Role = "agent"
)

// State is the state of a member as this process sees it.
type State string

// The states. A member that doesn't answer stays alive while others may still refute the
// suspicion, and is then dead. A member that has left has announced it.
const (
	StateAlive State = "alive"
	StateDead  State = "dead"
	StateLeft  State = "left"
)

// Node is what a process announces about itself to all others. Only that process writes
// it.
type Node struct {
	ID        string // UUID: the server ID of a server, the host ID of an agent
	Name      string // -name; for display only, the others may see it shortened
	Role      Role
	ClusterID string // UUID; "" until the process belongs to a cluster
	HTTPAddr  string // URL of the REST API, http(s)://host:port; servers only
	RaftAddr  string // host:port; servers only
	Expect    int    // -bootstrap-expect of a server without state; 0 otherwise
	Fresh     bool   // set by a server without Raft state
	Schema    int    // newest schema of log entries that the process understands
	Version   string // of the build
}

// Member is a Node as this process sees it.
type Member struct {
	Node
	Addr  string    // gossip address, host:port
	State State     // as this process sees the member
	Since time.Time // when the member entered State, by this process's clock
}
