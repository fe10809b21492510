package engine

import (
	"sync/atomic"

	"vigil/authz"
)

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
			s.Lookups[l] += e.counts.shards[i].lookups[l].Load()
		}
	}
	return s
}

// counters are spread over cache lines, chosen by the request's key, so that
// decisions about different agents do not contend for one.
type counters struct {
	shards [16]struct {
		lookups [6]atomic.Uint64
		_       [16]byte // fills a cache line of 64 bytes
	}
	mismatch atomic.Uint64
}

// lookup counts one look-up. The shard is taken from the middle of the key, where the
// agent's and the user's ids stand.
func (c *counters) lookup(key []byte, l authz.Lookup) {
	shard := 0
	if n := len(key); n > 0 {
		for _, b := range key[min(16, n-1):min(40, n)] {
			shard += int(b)
		}
	}
	c.shards[shard&15].lookups[l].Add(1)
}
