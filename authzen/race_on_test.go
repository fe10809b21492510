//go:build race

package authzen

// underRace: the race detector makes sync.Pool forget at random, and everything slow.
const underRace = true
