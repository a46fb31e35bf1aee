// Package state holds the replicated state of a server: the rows of package
// structs in copy-on-write trees, one for each index, read snapshots, and the
// bytes of log entries and snapshots.
//
// The FSM of server/raftlog calls Apply, Persist and Restore; the conductor,
// rest and dispatch read Snapshots and Subscribe to changes. Apply is
// deterministic: two stores that are fed the same entries have the same Hash
// and write the same snapshot, byte for byte.
//
// It knows no Raft, takes no clock and no randomness, does no I/O of its own,
// and never decides anything: an entry holds finished rows.
package state
