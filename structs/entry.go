package structs

// Change is one upsert or delete of a row inside an entry. The conductor creates it,
// and the state store applies it.
type Change struct {
	Table   Table
	ID      string
	Version uint64 // ModifyIndex of the row that this replaces or deletes; 0 means that the row must not exist
	Row     Row    // the row to write; nil deletes
	Assign  bool   // the change concerns the row's hosts: sets Placement.AssignIndex and wakes the hosts' polls

	// SpecApart says that a workload's spec is not in the change. The row of
	// TableSpecs with the workload's BesideID holds it; this entry or an earlier one
	// writes that row. See StoredSpec.
	SpecApart bool

	// Encoded holds the row's bytes in the encoded entry; nil if they are not
	// available. Package state sets it when it encodes or decodes the entry.
	Encoded []byte
}

// Entry is one Raft log entry: all that the conductor decided for one batch.
type Entry struct {
	Schema  int    // of the cluster when it was decided; see Cluster.Schema
	Term    uint64 // Raft term in which it was decided
	Prev    uint64 // index of the last entry that was applied when it was decided
	Changes []Change
}
