package structs

// Following says which state of which cluster an agent follows. The agent keeps it in
// its data directory. An agent never goes back to an earlier state, unless the leader
// says that the agent has followed another history. It follows a restored state only
// if its operator allows it.
type Following struct {
	ClusterID   string `json:"cluster_id"`  // "" if the agent has followed no cluster yet
	Incarnation uint64 `json:"incarnation"` // of the cluster's state
	Restore     bool   `json:"restore"`     // the agent may follow a later incarnation
	// Index is that of the last state that the agent has followed, and Lineage is the
	// newest lineage of that state; see Lineages. "" means that the agent has seen no
	// lineage.
	Lineage string `json:"lineage,omitempty"`
	Index   uint64 `json:"index,omitempty"`
}

// Check returns CodeForbidden if the agent may not follow this incarnation of the
// cluster.
func (f Following) Check(clusterID string, incarnation uint64) error {
	switch {
	case clusterID == "":
		return Errorf(CodeForbidden, "the server names no cluster")
	case f.ClusterID == "":
		return nil
	case clusterID != f.ClusterID:
		return Errorf(CodeForbidden,
			"the server is of cluster %s, but this host belongs to cluster %s and its containers are left alone; "+
				"correct -server, or give the agent a new data dir", clusterID, f.ClusterID)
	case incarnation < f.Incarnation:
		return Errorf(CodeForbidden, "the server is at incarnation %d of the cluster, this host has seen %d; the server is outdated",
			incarnation, f.Incarnation)
	case incarnation > f.Incarnation && !f.Restore:
		return Errorf(CodeForbidden,
			"the cluster was restored from a snapshot (incarnation %d, this host has followed %d) and its containers are left alone; "+
				"start the agent with -follow-restore to follow it", incarnation, f.Incarnation)
	}
	return nil
}
