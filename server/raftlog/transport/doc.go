// Package transport is the connections between servers under hashicorp/raft: they
// name the cluster and the server that is meant, and votes that aren't this server's
// to give are refused. Package raftlog calls it; it knows no log and no state.
package transport
