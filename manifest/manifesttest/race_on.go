//go:build race

package manifesttest

// raceDetector says that the tests run several times slower.
const raceDetector = true
