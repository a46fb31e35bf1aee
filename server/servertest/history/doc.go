// Package history checks a cluster for linearizability. Its clients write and read the
// same few objects through several servers concurrently, and porcupine checks that their
// answers fit one order of events. It uses only the REST API, so the servers may run in
// the test's process or in others.
//
// The test of three servers in one process and the chaos test of real processes use it.
// It is not linked into magnum.
package history
