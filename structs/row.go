package structs

import "time"

// Table names a table of the state store and a kind of row.
type Table string

// The tables.
const (
	TableCluster     Table = "cluster"     // one row: Cluster
	TableBayModels   Table = "baymodels"   // BayModel
	TableBays        Table = "bays"        // Bay
	TableNodes       Table = "nodes"       // Node
	TableHosts       Table = "hosts"       // Host
	TableContainers  Table = "containers"  // Container
	TableSpecs       Table = "specs"       // StoredSpec
	TableIdempotency Table = "idempotency" // IdempotencyKey
	TableActions     Table = "actions"     // Actions
	TableTokens      Table = "tokens"      // Token
	TableLineages    Table = "lineages"    // one row: Lineages
	TableQuarantine  Table = "quarantine"  // Quarantine
)

// The nouns of the API, as they stand in error codes and messages.
const (
	KindBayModel  = "baymodel"
	KindBay       = "bay"
	KindNode      = "node"
	KindHost      = "host"
	KindEngine    = "engine" // of a host; an error about it ends the agent
	KindContainer = "container"
	KindToken     = "token"
	KindImage     = "image"  // on hosts; no row of the state
	KindVolume    = "volume" // likewise
	KindPath      = "path"   // in a container; likewise
)

// Row is one row of the replicated state. Package state has the table of all kinds.
type Row interface {
	Table() Table
	Base() *Meta
}

// Meta is what every row carries.
type Meta struct {
	_struct struct{} `codec:",omitempty"` // see codec.go

	ID        string    // UUID (or the key of a row that has no UUID); minted by the conductor unless a POST carried one
	Seq       uint64    // the contract's internal integer id: creation order, unique over all tables; from the conductor
	ProjectID string    // from the token, never from the body; "" for rows that belong to the operator
	UserID    string    // from the token
	CreatedAt time.Time // when the conductor decided the creation; UTC, whole seconds
	UpdatedAt time.Time // when a user last changed it; zero means never
	StatusAt  time.Time // when the conductor heard of, or decided, the status or health that it has; zero since its creation

	// Written by the state store when the entry is applied, and carried
	// beside the row, not in it, in entries and snapshots.
	CreateIndex uint64 `codec:"-"` // index of the entry that made the row
	ModifyIndex uint64 `codec:"-"` // index of the entry that last wrote the row
}

// Named is a row that has a name. Names are not unique.
type Named interface {
	Row
	RowName() string
}

// NameOf returns the row's name, "" for rows that have none.
func NameOf(row Row) string {
	if r, ok := row.(Named); ok {
		return r.RowName()
	}
	return ""
}

// RowName returns the bay's name.
func (b *Bay) RowName() string { return b.Name }

// RowName returns the baymodel's name.
func (b *BayModel) RowName() string { return b.Name }

// SetRowName sets the baymodel's name.
func (b *BayModel) SetRowName(name string) { b.Name = name }

// RowName returns the node's name.
func (n *Node) RowName() string { return n.Name }

// SetRowName sets the node's name.
func (n *Node) SetRowName(name string) { n.Name = name }

// RowName returns the host's name.
func (h *Host) RowName() string { return h.Name }

// RowName returns the container's name.
func (c *Container) RowName() string { return c.Name }

// RowName returns the token's name.
func (t *Token) RowName() string { return t.Name }

// Base returns the Meta itself, so that a Meta embedded in a row makes half of
// the Row interface.
func (m *Meta) Base() *Meta { return m }

// Change is one upsert or delete of a row inside an entry. The conductor makes
// it, the state store applies it.
type Change struct {
	Table   Table
	ID      string
	Version uint64 // ModifyIndex of the row that this replaces or deletes; 0 means that there must be none
	Row     Row    // the row to write; nil deletes
	Assign  bool   // the row's hosts have to hear of it: sets Placement.AssignIndex and wakes the hosts' polls

	// SpecApart says of a container's row that its spec is not in the change: it
	// is that of the row of TableSpecs with the same ID, which the entry writes or
	// which is there already. See StoredSpec.
	SpecApart bool

	// Encoded is the row as it stands in the entry's bytes; nil if those are not
	// at hand. From whoever encodes or decodes the entry: package state.
	Encoded []byte
}

// Entry is one Raft log entry: all that the conductor decided for one batch.
type Entry struct {
	Schema  int    // of the cluster when it was decided; see Cluster.Schema
	Term    uint64 // Raft term in which it was decided
	Prev    uint64 // index of the last entry that the FSM had applied when it was decided
	Changes []Change
}

// Cluster is the one row of TableCluster, ID "cluster". The first leader
// writes it.
type Cluster struct {
	Meta
	ClusterID     string // UUID of this cluster; agents and servers refuse another
	Incarnation   uint64 // raised by each restore of a snapshot by an operator; indexes are compared within one incarnation
	JoinTokenHash string // hex SHA-256 of the token with which agents register
	Bootstrapped  bool   // the first admin token has been given out; never again false
	PeerSecret    string // with which servers prove to each other that they are of this cluster; minted by the first leader
	Schema        int    // of the entries that leaders propose; 0 means LeastSchema. Raised once all servers understand a later one
	// Removed are the ids of servers that operators have taken out, the last
	// MaxRemoved of them: they are not taken in again though they gossip.
	Removed []string
	// HostLostAfter is the longest silence by which a leader may have reckoned
	// leases that are not over yet. A leader raises it before it acknowledges
	// polls, and lowers it once it has led for as long as it says.
	HostLostAfter time.Duration
}

// MaxRemoved bounds Cluster.Removed.
const MaxRemoved = 64

// SchemaInUse returns the schema of the entries that leaders propose. The
// cluster may be nil: its row is yet to be written.
func (c *Cluster) SchemaInUse() int {
	if c == nil {
		return LeastSchema
	}
	return max(c.Schema, LeastSchema)
}

// ClusterRowID is the ID of the only Cluster row.
const ClusterRowID = "cluster"

// Table says which table the row belongs to.
func (*Cluster) Table() Table { return TableCluster }

// IdempotencyKey remembers the object that a POST with an Idempotency-Key
// made, so that a retry gets the same one. Its ID is "project/key". Written by
// the conductor in the entry that makes the object, deleted by it
// IdempotencyTTL later.
type IdempotencyKey struct {
	Meta
	BodyHash string // hex SHA-256 of the request's method, path, query and body
	Result   Table  // table of the object made
	ResultID string // ID of the object made
}

// Table says which table the row belongs to.
func (*IdempotencyKey) Table() Table { return TableIdempotency }

// IdempotencyTTL is how long a retried POST finds its first answer.
const IdempotencyTTL = 10 * time.Minute
