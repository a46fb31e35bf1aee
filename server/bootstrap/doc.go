// Package bootstrap finds out which server a data directory is of, has servers prove
// to each other who they are, and makes one cluster of servers that have none yet.
// Package server wires it to gossip, to the log and to the calls between servers.
// It decides nothing about a cluster that there is.
package bootstrap
