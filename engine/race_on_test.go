//go:build race

package engine

// raceDetector is on: everything is about ten times slower, and sync.Pool drops things
// at random, so that allocations mean nothing.
const raceDetector = true
