//go:build !race

package authzen

const underRace = false
