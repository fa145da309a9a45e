//go:build race

package abuse

// The tests run under the race detector, and so does the gateway that they start.
func init() { raceDetector = true }
