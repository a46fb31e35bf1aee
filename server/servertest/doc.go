// Package servertest runs the parts of a server in one process for tests: the
// real state store, conductor, dispatch and REST API, on a log that is a slice
// in memory, and agents that are only pretended.
//
// Tests of server/... use it. Nothing of it is linked into magnum.
package servertest
