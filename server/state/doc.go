// Package state holds the replicated state of a server: the rows of package structs in
// copy-on-write trees, one for each index, read snapshots, and the encoding of log entries
// and snapshots.
//
// The FSM of server/raftlog calls Apply, Persist and Restore. The conductor, rest and
// dispatch read Snapshots and Subscribe to changes. Apply is deterministic: two stores that
// apply the same entries have the same Hash and write the same snapshot, byte for byte.
//
// The package knows no Raft, uses no clock and no randomness, does no I/O of its own, and
// never decides anything: an entry contains complete rows.
package state
