//go:build !race

package manifesttest

const raceDetector = false
