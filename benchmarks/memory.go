package main

import (
	"context"
	"math/rand/v2"
)

// A row that waits for memory says little where memory is slow: the engine's working set is
// larger than that of what it is compared with. A guest whose host gives it memory in small
// pages, or whose neighbours use the processor's last cache, reads three times as slowly as
// the day before. So each run measures the memory too.

// chain is numbers in a circle, each the index of the next, in an order that neither a cache
// nor a prefetcher follows: every read waits for the one before.
type chain struct {
	next []uint32
	at   uint32
}

// chainBytes is more than the caches next to a processor hold, and more than its table of
// pages reaches.
const (
	chainBytes = 64 << 20
	lineWords  = 16 // of four bytes: a cache line
)

func newChain() *chain {
	c := &chain{next: make([]uint32, chainBytes/4)}
	order := rand.New(rand.NewPCG(9, chainBytes)).Perm(len(c.next) / lineWords)
	for i, line := range order {
		c.next[line*lineWords] = uint32(order[(i+1)%len(order)] * lineWords)
	}
	return c
}

func (c *chain) subject() subject {
	return subject{name: "read", run: func(n int) {
		at := c.at
		for range n {
			at = c.next[at]
		}
		c.at = at
	}}
}

// memoryProbe is the yardstick for the machine: what a read that misses costs, beside one raw
// evaluation, which finds all it needs in the nearest caches.
type memoryProbe struct {
	yardstick *raw
	worst     Row // of those measured
}

func newMemoryProbe() (*memoryProbe, error) {
	yardstick, err := newRaw()
	if err != nil {
		return nil, err
	}
	return &memoryProbe{yardstick: yardstick}, nil
}

// measure reads for a quarter of a second. It is done before and after each section, and the
// slowest time counts: what was measured in between may have waited as long. The chain does
// not stay: a larger heap is collected less often, which would be in what is measured next.
func (m *memoryProbe) measure(ctx context.Context) error {
	times, err := interleave(ctx, 31, newChain().subject(), m.yardstick.subject())
	if err != nil {
		return err
	}
	row := ratio("machine.read", "one read that misses the caches, the slowest of the run", "one raw cel-go evaluation", nanoseconds, times[0], times[1],
		"64 MiB, each read waits for the one before; measured before and after each section")
	if row.Value > m.worst.Value {
		m.worst = row
	}
	return nil
}
