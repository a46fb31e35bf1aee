// Package gossip tells each process of a cluster which other servers and agents exist,
// and at which addresses. The address of any one of them is enough to find all. Packages
// server and agent run it; it decides nothing for them.
//
// Its members are a hint. They are out of date, they may be wrong about which process is
// dead, and two processes may disagree. Which server is a voter and which host is lost
// is decided elsewhere, with gossip as one input. A member that left may be back soon,
// because a clean restart leaves too.
//
// It never writes to the replicated state and knows nothing of Raft.
package gossip
