//go:build race

package decision

// underRace: the race detector makes sync.Pool forget at random, and everything slow.
const underRace = true
