package structs

import "time"

// TableCluster is the table of the cluster. It has one row.
const TableCluster Table = "cluster"

// Cluster is the only row of TableCluster, with the ID ClusterRowID. The first leader
// writes it.
type Cluster struct {
	Meta
	ClusterID     string // UUID of this cluster; agents and servers refuse any other
	Incarnation   uint64 // raised by each restore of a snapshot by an operator; indexes are comparable within one incarnation
	JoinTokenHash string // hex SHA-256 of the token with which agents register
	Bootstrapped  bool   // the first admin token has been issued; never reset
	PeerSecret    string // with which servers prove to each other that they belong to this cluster; minted by the first leader
	Schema        int    // of the entries that leaders propose; 0 means LeastSchema. Raised once all servers understand a later schema
	// Removed holds the IDs of the last MaxRemoved servers that operators have removed.
	// They are not added again, even if they gossip.
	Removed []string
	// HostLostAfter is the longest host_lost_after by which a lease that has not ended
	// may have been computed. A leader raises it before it acknowledges polls, and
	// lowers it once it has led for at least that time.
	HostLostAfter time.Duration
}

// MaxRemoved bounds Cluster.Removed.
const MaxRemoved = 64

// SchemaInUse returns the schema of the entries that leaders propose. c is nil before
// its row is written.
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
