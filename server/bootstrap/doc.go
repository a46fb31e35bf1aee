// Package bootstrap determines which server a data directory belongs to, verifies other
// servers, and bootstraps one cluster of servers that have none yet. Package server wires
// it to gossip, to the Raft log and to the calls between servers. It decides nothing about
// an existing cluster.
package bootstrap
