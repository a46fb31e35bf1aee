package structs

import "time"

// TableCluster is the table of the cluster. It has one row.
const TableCluster Table = "cluster"

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
