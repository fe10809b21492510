package main

import (
	"math/bits"
	"time"
)

// histogram counts durations in buckets of less than one percent of their value each, from
// 1 ns to centuries, so that p99.99 is as exact as the median. It is for one goroutine;
// histograms of several are merged.
type histogram struct {
	counts   [57 * subBuckets]uint64
	total    uint64
	sum      time.Duration
	min, max time.Duration
}

// subBuckets is how many buckets there are between a power of two and the next.
const subBuckets = 128

func bucketOf(d time.Duration) int {
	v := uint64(max(d, 0))
	if v < subBuckets {
		return int(v)
	}
	shift := bits.Len64(v) - 8 // v>>shift is from 128 to 255
	return (shift+1)*subBuckets + int(v>>shift) - subBuckets
}

// upperEdge is the longest duration in a bucket.
func upperEdge(bucket int) time.Duration {
	if bucket < subBuckets {
		return time.Duration(bucket)
	}
	shift := bucket/subBuckets - 1
	return time.Duration((uint64(bucket%subBuckets+subBuckets)+1)<<shift - 1)
}

func (h *histogram) record(d time.Duration) {
	d = max(d, 0)
	h.counts[bucketOf(d)]++
	if h.total == 0 || d < h.min {
		h.min = d
	}
	h.max = max(h.max, d)
	h.total++
	h.sum += d
}

func (h *histogram) merge(other *histogram) {
	if other.total == 0 {
		return
	}
	for i, n := range other.counts {
		h.counts[i] += n
	}
	if h.total == 0 || other.min < h.min {
		h.min = other.min
	}
	h.max = max(h.max, other.max)
	h.total += other.total
	h.sum += other.sum
}

// quantile gives the duration that a share q of all does not exceed; 0 of nothing.
func (h *histogram) quantile(q float64) time.Duration {
	rank := uint64(q * float64(h.total))
	if rank >= h.total {
		return h.max
	}
	seen := uint64(0)
	for i, n := range h.counts {
		if seen += n; seen > rank {
			return min(upperEdge(i), h.max)
		}
	}
	return h.max
}

func (h *histogram) mean() time.Duration {
	if h.total == 0 {
		return 0
	}
	return h.sum / time.Duration(h.total)
}
