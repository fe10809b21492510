package main

import (
	"cmp"
	"slices"
	"time"
)

// slow is a request that took longer than the bound for stalls.
type slow struct{ from, to time.Time }

// stall is a while in which requests were slow together: a pause of the garbage
// collector, a lock, a disk.
type stall struct {
	At       time.Duration // since the start of the load
	Length   time.Duration
	Requests int
}

// maxSlow bounds the slow requests that one worker remembers.
const maxSlow = 10_000

// stalls joins slow requests that overlap into windows, the longest first.
func stalls(begin time.Time, all []slow) []stall {
	slices.SortFunc(all, func(a, b slow) int { return a.from.Compare(b.from) })
	var windows []stall
	var end time.Time
	for _, s := range all {
		if len(windows) > 0 && !s.from.After(end) {
			last := &windows[len(windows)-1]
			last.Requests++
			if s.to.After(end) {
				end = s.to
				last.Length = end.Sub(begin) - last.At
			}
			continue
		}
		end = s.to
		windows = append(windows, stall{At: s.from.Sub(begin), Length: s.to.Sub(s.from), Requests: 1})
	}
	slices.SortFunc(windows, func(a, b stall) int { return cmp.Compare(b.Length, a.Length) })
	return windows
}
