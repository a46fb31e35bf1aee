// Package gossip tells each process of a cluster who else is there: servers
// and agents, with their addresses, found from any one of them. Package server
// and package agent run it; it decides nothing for them.
//
// What it says is a hint. It is late, it may be wrong about who is dead, and
// two processes may disagree: whether a server is a voter and whether a host is
// lost is decided elsewhere, with gossip's word as one reason among others. A
// member that left may be back in a moment, for a clean restart leaves too.
//
// It never writes to the replicated state and never knows what Raft knows.
package gossip
