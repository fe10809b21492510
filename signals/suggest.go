package signals

import (
	"fmt"
	"unicode/utf8"
)

// suggest says which of known was probably meant by name, or nothing.
func suggest[S ~string](name string, known []S) string {
	best, at := 3, ""
	if len(name) > 64 {
		return ""
	}
	for _, k := range known {
		if d := distance(name, string(k)); d < best && d*2 < len(k)+1 {
			best, at = d, string(k)
		}
	}
	if at == "" {
		return ""
	}
	return fmt.Sprintf(": did you mean %q?", at)
}

// distance is the number of bytes to insert, delete, replace or swap with a neighbour
// to get from a to b (optimal string alignment).
func distance(a, b string) int {
	before, prev, cur := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], before[j-2]+1)
			}
		}
		before, prev, cur = prev, cur, before
	}
	return prev[len(b)]
}

// clip shortens what others wrote for use in a message.
func clip(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	cut := most
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}
