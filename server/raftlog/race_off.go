//go:build !race

package raftlog

// raceDetector reports whether this binary has the race detector.
const raceDetector = false
