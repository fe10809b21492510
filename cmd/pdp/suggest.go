package main

import "vigil/spell"

// didYouMean gives "; did you mean …" with the known word nearest to the one given, or
// "" when none is near enough to be a slip of the hand.
func didYouMean(given string, known []string) string {
	if near := spell.Nearest(given, known); near != "" {
		return "; did you mean \"" + near + "\"?"
	}
	return ""
}
