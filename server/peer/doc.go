// Package peer is the client for calls from one server to another: forwarded writes, the
// leader's read index, heartbeats of hosts, offers of sessions, and bootstrap grants. The
// protocol is HTTP: routes below /v1/peer of the REST API, while a forwarded request goes
// to its own route.
//
// Package server makes a Client and passes it to rest and dispatch, which declare the
// methods that they need. The package has no state of the cluster and decides nothing.
package peer
