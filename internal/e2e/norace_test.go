//go:build e2e && !race

package e2e

// raced: see race_test.go.
const raced = false
