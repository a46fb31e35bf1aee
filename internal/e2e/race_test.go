//go:build e2e && race

package e2e

// raced reports that the race detector slows down this process, though not the
// programs under test.
const raced = true
