// Package e2e tests the magnum program as operators run it: real server and
// agent processes, a real Docker engine, killed and stopped for real. Its tests
// carry the build tag e2e. A test that takes longer than half a minute is called
// TestLong...: `make test-faults` runs these, `make test` the others, and `make
// chaos` TestLongChaos for longer.
//
// MAGNUM_BIN names the program under test, CYCLES the rounds of each fault.
package e2e
