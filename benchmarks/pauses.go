package main

import (
	"math"
	"runtime/metrics"
	"slices"
)

// pauseCounts is how many stops of the world there were, by their length.
type pauseCounts struct {
	bounds []float64 // seconds
	counts []uint64
}

func pauses() pauseCounts {
	sample := []metrics.Sample{{Name: "/sched/pauses/total/gc:seconds"}}
	metrics.Read(sample)
	h := sample[0].Value.Float64Histogram()
	return pauseCounts{h.Buckets, slices.Clone(h.Counts)}
}

// since gives how many pauses there were after another look, and the upper end of the
// longest one's bucket, in seconds.
func (p pauseCounts) since(before pauseCounts) (count uint64, longest float64) {
	for i, n := range p.counts {
		if n -= before.counts[i]; n == 0 {
			continue
		}
		count += n
		longest = p.bounds[i+1]
		if math.IsInf(longest, 1) {
			longest = p.bounds[i]
		}
	}
	return count, longest
}
