package gossip

import "time"

// Role is what a process does.
type Role string

// The roles.
const (
	RoleServer Role = "server"
	RoleAgent  Role = "agent"
)

// State is how this process sees another.
type State string

// The states. A member that doesn't answer is alive until the others had the
// time to contradict, and then dead. One that left has said so.
const (
	StateAlive State = "alive"
	StateDead  State = "dead"
	StateLeft  State = "left"
)

// Node is what one process tells of itself to all others. Only that process
// writes it.
type Node struct {
	ID        string // UUID; of a server its server id, of an agent its host id
	Name      string // -name; for people only: it may reach the others shortened
	Role      Role
	ClusterID string // UUID; "" until the process belongs to a cluster
	HTTPAddr  string // URL of the REST API, http(s)://host:port; servers only
	RaftAddr  string // host:port; servers only
	Expect    int    // -bootstrap-expect of a server without state; 0 otherwise
	Fresh     bool   // a server that has no Raft state
	Schema    int    // newest schema of log entries that it understands
	Version   string // of the build
}

// Member is a Node as this process sees it.
type Member struct {
	Node
	Addr  string    // of its gossip, host:port
	State State     // as seen from here
	Since time.Time // when it got into State, by this process's clock
}
