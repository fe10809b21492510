//go:build race

package posture

const raceEnabled = true
