//go:build race

package manifest

// raceDetector says that the tests run several times slower.
const raceDetector = true
