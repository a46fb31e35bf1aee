//go:build !race

package state

// verifyPrepared has Prepare hold each row against its bytes. It does so in
// tests with the race detector.
const verifyPrepared = false
