package structs

// This file holds the bodies of the routes below /v1/operator.

// MembersBody answers GET /v1/operator/members.
type MembersBody struct {
	Members []MemberBody `json:"members"`
}

// MemberBody is a server or an agent, as gossip shows it to the server that answers.
// The agent's host may not have registered.
//
//api:doc A server or an agent as gossip shows it. The agent's host may not have registered.
type MemberBody struct {
	//api:doc UUID of the server or host.
	UUID string `json:"uuid"`
	//api:doc Name in gossip.
	Name string `json:"name"`
	//api:doc server or agent.
	Role string `json:"role"`
	//api:doc alive, dead or left.
	Status     string  `json:"status"`
	Since      Time    `json:"since"`       // when Status last changed, by the clock of the server that answers
	GossipAddr string  `json:"gossip_addr"` // host:port
	HTTPAddr   *string `json:"http_addr"`   // URL of the REST API; servers only
	RaftAddr   *string `json:"raft_addr"`   // host:port; servers only
	ClusterID  *string `json:"cluster_id"`  // of a server that belongs to one
	//api:doc Whether the server is the leader.
	Leader     bool   `json:"leader"`
	Voter      bool   `json:"voter"`      // in the Raft configuration, with a vote
	Registered bool   `json:"registered"` // the server is in the Raft configuration, or the agent's host in the state
	Schema     int    `json:"schema"`     // newest schema that a server understands; 0 for agents
	Version    string `json:"version"`    // of the build
}

// The roles of members.
const (
	RoleServer = "server"
	RoleAgent  = "agent"
)

// RaftPeersBody answers GET /v1/operator/raft/peers.
type RaftPeersBody struct {
	Peers []RaftPeerBody `json:"peers"`
}

// RaftPeerBody is a server in the Raft configuration.
//
//api:doc A server in the Raft configuration.
type RaftPeerBody struct {
	//api:doc UUID in canonical lower-case form.
	UUID string `json:"uuid"`
	//api:doc Name in gossip; null if gossip has forgotten the server.
	Name      *string `json:"name"`
	RaftAddr  string  `json:"raft_addr"`
	State     string  `json:"state"` // leader or follower; unreachable if it did not answer
	Voter     bool    `json:"voter"`
	LastIndex *uint64 `json:"last_index"` // of its log; null if it did not answer
	Behind    *uint64 `json:"behind"`     // entries that the leader has and the server lacks; null if either did not answer
}

// The states of peers.
const (
	PeerLeader      = "leader"
	PeerFollower    = "follower"
	PeerUnreachable = "unreachable"
)

// Snapshot describes a snapshot file.
type Snapshot struct {
	Index       uint64        `json:"index"`      // of the state in it
	Term        uint64        `json:"term"`       // in which it was saved; 0 for a server's own snapshot
	ClusterID   string        `json:"cluster_id"` // of the state; "" if the cluster was never initialized
	Incarnation uint64        `json:"incarnation"`
	Schema      int           `json:"schema"` // of its rows
	Hash        string        `json:"hash"`   // of the state: OperatorState.Hash at the same index
	Size        int64         `json:"size"`   // bytes
	SavedAt     Time          `json:"saved_at"`
	SavedBy     string        `json:"saved_by"` // name of the server
	Version     string        `json:"version"`  // of its build
	Rows        map[Table]int `json:"rows"`
	AdminTokens int           `json:"admin_tokens"` // local tokens of operators
}

// RestoredBody answers PUT /v1/operator/snapshot.
type RestoredBody struct {
	Index       uint64 `json:"index"`       // of the restored state; higher than any earlier index on any server
	ClusterID   string `json:"cluster_id"`  // of the restored state
	Incarnation uint64 `json:"incarnation"` // higher than before; agents follow it only if their operators allow it
}

// SnapshotHead is the header that a server writes before the state in a snapshot
// file.
type SnapshotHead struct {
	Term    uint64 `json:"term"`
	SavedAt Time   `json:"saved_at"`
	SavedBy string `json:"saved_by"`
	Version string `json:"version"`
}

// OperatorState answers GET /v1/operator/state: equal indexes have equal
// hashes on every server.
type OperatorState struct {
	Index uint64 `json:"index"`
	//api:doc Hash of the whole state. Equal indexes have equal hashes on every server.
	Hash string `json:"hash"` // hex
	// Schema is the schema that the cluster uses. A server that does not understand it
	// can't belong to the cluster. Understood is the newest schema that the answering
	// server understands.
	Schema     int `json:"schema"`
	Understood int `json:"schema_understood"`
}
