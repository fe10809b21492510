package engine

import "sync/atomic"

// Stats counts what the cache did since the start.
type Stats struct {
	Lookups  [6]uint64 // by authz.Lookup
	Mismatch uint64    // differences found by CacheVerify
}

// Stats reads the counters. Counters move while they are read.
func (e *Engine) Stats() Stats {
	s := Stats{Mismatch: e.counts.mismatch.Load()}
	for i := range e.counts.shards {
		for l := range s.Lookups {
			s.Lookups[l] += e.counts.shards[i].by[l].Load()
		}
	}
	return s
}

// counters are spread over cache lines. Each pooled inquiry has its own, so that
// decisions on different processors do not contend for one.
type counters struct {
	shards   [16]lookups
	mismatch atomic.Uint64
	next     atomic.Uint32 // deals out shards; orders nothing
}

// lookups counts by authz.Lookup.
type lookups struct {
	by [6]atomic.Uint64
	_  [16]byte // fills a cache line of 64 bytes
}

func (c *counters) shard() *lookups { return &c.shards[c.next.Add(1)%uint32(len(c.shards))] }
