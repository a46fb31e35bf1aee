// Package servertest runs a server in the process of a test: the real state store,
// conductor, dispatch and REST API, on a fake log that applies entries at once, with fake
// agents.
//
// Tests of server/... use it. It is not linked into magnum.
package servertest
