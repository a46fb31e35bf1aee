// Package e2e tests the magnum program as operators run it: real server and
// agent processes, a real Docker engine, killed and stopped for real. Its tests
// carry the build tag e2e; `make test` runs them, `make chaos` TestChaos for
// longer.
//
// MAGNUM_BIN names the program under test, CYCLES the rounds of each fault.
package e2e
