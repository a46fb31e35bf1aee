package structs

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
