//go:build !race

package raftlog

// raceDetector says that this binary has the race detector in it.
const raceDetector = false
