package main

import "strings"

// didYouMean gives ", did you mean …" with the known word nearest to the one given, or
// "" when none is near enough to be a slip of the hand.
func didYouMean(given string, known []string) string {
	if near := nearest(given, known, 1); len(near) == 1 {
		return "; did you mean \"" + near[0] + "\"?"
	}
	return ""
}

// nearest gives up to n of the known words that are within a third of given's length
// of it in edits (at least 2; 1 where given has three letters or fewer), nearest first; ties stay in the order of known.
func nearest(given string, known []string, n int) []string {
	if len(given) > 256 {
		return nil
	}
	limit := max(2, len(given)/3)
	if len(given) <= 3 {
		limit = 1
	}
	found := make([][]string, limit+1)
	for _, word := range known {
		d := editDistance(strings.ToLower(given), strings.ToLower(word), limit)
		// As many edits as the word has letters would turn anything into it.
		if d <= limit && d < len(word) {
			found[d] = append(found[d], word)
		}
	}
	var all []string
	for _, words := range found {
		all = append(all, words...)
	}
	return all[:min(n, len(all))]
}

// editDistance counts insertions, deletions, replacements and swaps of neighbours
// between a and b in bytes, or gives limit+1 where there are more than limit.
func editDistance(a, b string, limit int) int {
	if len(a)-len(b) > limit || len(b)-len(a) > limit {
		return limit + 1
	}
	before, last := make([]int, len(b)+1), make([]int, len(b)+1)
	row := make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		best := i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			d := min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d = min(d, before[j-2]+1)
			}
			row[j] = d
			best = min(best, d)
		}
		if best > limit {
			return limit + 1
		}
		before, last, row = last, row, before
	}
	return min(last[len(b)], limit+1)
}
