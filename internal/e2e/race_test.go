//go:build e2e && race

package e2e

// raced says that this process, not the programs under test, is slowed down by
// the race detector.
const raced = true
