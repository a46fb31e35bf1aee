// Package transport is the network layer under hashicorp/raft. Each connection names
// the cluster and the server that is called, and votes that this server must not give
// are refused. Package raftlog uses it; it knows neither log nor state.
package transport
