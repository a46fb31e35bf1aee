// Package history has clients write and read the same few objects through
// several servers at once, and holds what they were told against one order of
// events, with porcupine. What it knows of a server is its REST API, so the
// servers may be in the test's process or in others.
//
// The test of three servers in one process and that of real processes use it.
// Nothing of it is linked into magnum.
package history
