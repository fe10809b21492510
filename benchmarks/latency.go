package main

import (
	"math"
	"math/bits"
	"time"
)

// latencies is a histogram whose buckets are a 32nd of their value wide. It is for one
// goroutine; merge brings several together.
type latencies struct {
	counts [64 * 32]uint64
	total  uint64
	most   time.Duration
}

func (l *latencies) add(d time.Duration) {
	d = max(d, 0)
	l.counts[bucketOf(d)]++
	l.total++
	l.most = max(l.most, d)
}

// bucketOf: values below 32 ns have a bucket each; above, the five bits behind the first.
func bucketOf(d time.Duration) int {
	v := uint64(d)
	if v < 32 {
		return int(v)
	}
	shift := bits.Len64(v) - 6
	return 32*(shift+1) + int(v>>shift) - 32
}

// upper is the largest value of a bucket.
func upper(bucket int) time.Duration {
	if bucket < 32 {
		return time.Duration(bucket)
	}
	shift := bucket/32 - 1
	return time.Duration(uint64(bucket%32+33)<<shift - 1)
}

// quantile is no less than the q-th value, and at most a 32nd more. 0 for none.
func (l *latencies) quantile(q float64) time.Duration {
	rank := uint64(math.Ceil(q * float64(l.total)))
	for i, n := range l.counts {
		if n >= rank && n > 0 {
			return min(upper(i), l.most)
		}
		rank -= n
	}
	return l.most
}

func (l *latencies) merge(other *latencies) {
	for i, n := range other.counts {
		l.counts[i] += n
	}
	l.total += other.total
	l.most = max(l.most, other.most)
}
