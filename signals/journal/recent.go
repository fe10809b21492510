package journal

import (
	"slices"

	"vigil/signals"
)

// recent is the newest records, in memory, for a follower that keeps up.
//
// Invariant: the records of groups are consecutive, and the last is the one before head.
type recent struct {
	groups []recentGroup
	bytes  int
}

type recentGroup struct {
	entries []signals.Entry
	bytes   int
}

// push adds records and drops the oldest while there are more than limit bytes.
func (r *recent) push(entries []signals.Entry, bytes, limit int) {
	r.groups = append(r.groups, recentGroup{entries, bytes})
	r.bytes += bytes
	n := 0
	for r.bytes > limit && n < len(r.groups) {
		r.bytes -= r.groups[n].bytes
		n++
	}
	r.groups = slices.Delete(r.groups, 0, n)
}

// from appends up to limit records to batch, from the one at offset on, and drops what
// lies before. It adds nothing if that record is no longer there.
func (r *recent) from(offset int64, batch []signals.Entry, limit int) []signals.Entry {
	n := 0
	for n < len(r.groups) && end(r.groups[n]) <= offset {
		r.bytes -= r.groups[n].bytes
		n++
	}
	r.groups = slices.Delete(r.groups, 0, n)
	for _, g := range r.groups {
		skip := offset - g.entries[0].Position.Offset
		if skip < 0 || len(batch) >= limit {
			break
		}
		take := g.entries[skip:]
		take = take[:min(len(take), limit-len(batch))]
		batch = append(batch, take...)
		offset += int64(len(take))
	}
	return batch
}

func end(g recentGroup) int64 { return g.entries[len(g.entries)-1].Position.Offset + 1 }
