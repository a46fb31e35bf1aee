// Package e2e tests the magnum program as operators run it: with real server and
// agent processes and a real Docker engine, which it kills and stops. Its tests
// carry the build tag e2e. A test of more than half a minute is named TestLong...:
// `make test-faults` runs these, `make test` the others, and `make chaos` runs
// TestLongChaos for longer.
//
// MAGNUM_BIN names the program under test. CYCLES is the number of rounds of each
// fault, 10 by default.
package e2e
