//go:build !race

package decision

const underRace = false
