//go:build race

package custody

const raceDetector = true
