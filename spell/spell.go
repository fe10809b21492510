// Package spell guesses which known name was meant by one that is nearly it.
package spell

import (
	"slices"
	"strings"
)

// Nearest gives the member of known that name was most likely meant to be: one within a
// third of its length in edits, upper and lower case alike. It gives "" where none is that
// near. It does not depend on the order of known: of equally near names the first in the
// alphabet wins. Names of more than 64 bytes are not compared.
func Nearest(name string, known []string) string {
	if name == "" || len(name) > maxName {
		return ""
	}
	best, bestDistance := "", len(name)
	folded := strings.ToLower(name)
	limit := max(1, len(name)/3)
	for _, k := range known {
		if len(k) > maxName || k == name {
			continue
		}
		d := editDistance(folded, strings.ToLower(k), limit)
		if d <= limit && (d < bestDistance || d == bestDistance && (best == "" || k < best)) && d < len(k) {
			best, bestDistance = k, d
		}
	}
	return best
}

// maxName bounds the names that are compared, since the cost is the product of lengths.
const maxName = 64

// editDistance is the optimal string alignment distance of a and b, in bytes: insertions,
// deletions, substitutions and swaps of neighbours. Beyond limit it gives some larger number.
func editDistance(a, b string, limit int) int {
	if len(a)-len(b) > limit || len(b)-len(a) > limit {
		return limit + 1
	}
	// Rows i-2, i-1 and i of the distance table.
	var rows [3][]int
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
	}
	for j := range rows[1] {
		rows[1][j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, previous, current := rows[0], rows[1], rows[2]
		current[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			current[j] = min(previous[j]+1, current[j-1]+1, previous[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				current[j] = min(current[j], before[j-2]+1)
			}
		}
		if slices.Min(current) > limit {
			return limit + 1
		}
		rows[0], rows[1], rows[2] = previous, current, before
	}
	return rows[1][len(b)]
}
