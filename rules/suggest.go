package rules

import "vigil/spell"

// didYouMean gives `, did you mean "x"?`, or "" where nothing known is near.
func didYouMean(name string, known []string) string {
	if s := spell.Nearest(name, known); s != "" {
		return `, did you mean "` + s + `"?`
	}
	return ""
}
