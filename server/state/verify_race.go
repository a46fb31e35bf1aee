//go:build race

package state

// verifyPrepared has Prepare hold each row against its bytes.
const verifyPrepared = true
