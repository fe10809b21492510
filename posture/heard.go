package posture

import (
	"cmp"
	"slices"
	"strings"
	"sync/atomic"

	"vigil/authz"
)

// heard is when each source was heard last: a join, of which the newest instants are kept.
// The table is replaced whole when a source joins it or leaves it, so readers look a name
// up in a map that nobody changes. The instants in it only grow.
type heard struct {
	table atomic.Pointer[map[string]*atomic.Int64]
}

// Hear notes that source was heard at an instant, as "client:siem" and the append time of a
// record that it sent; at no later instant than before it does nothing. What is applied of
// the record must be in force already: who learns that a source is alive may rely on what
// it said.
//
// At most 4096 sources are remembered, those heard last, whatever the order in which they
// came. One that was forgotten is as one that was never heard, which permits nothing, until
// it speaks again.
//
// It makes no record another one, so what was computed from records stays current: hearing
// a source can only put off what its silence would do.
func (s *Store) Hear(source string, at authz.Instant) {
	if s.Heard(source) >= at {
		return // as of most records, which come in batches
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heard.note(source, at, s.caps.heard)
}

// Heard gives when source was heard last; 0 for never. It takes no lock and allocates
// nothing. It never goes back, but for a source that was forgotten.
func (s *Store) Heard(source string) authz.Instant {
	if last := (*s.heard.table.Load())[source]; last != nil {
		return authz.Instant(last.Load())
	}
	return 0
}

// note is for one writer at a time.
func (h *heard) note(source string, at authz.Instant, most int) {
	if at <= 0 || source == "" {
		return // 0 is never
	}
	known := *h.table.Load()
	if last := known[source]; last != nil {
		if authz.Instant(last.Load()) < at {
			last.Store(int64(at))
		}
		return
	}
	h.fill(append(h.all(), sourceHeard{source, at}), most)
}

// fill makes the sources that were heard last, as many as most, the whole table. They are
// distinct. The names are copied.
func (h *heard) fill(all []sourceHeard, most int) {
	if len(all) > most {
		slices.SortFunc(all, func(a, b sourceHeard) int {
			return cmp.Or(cmp.Compare(b.at, a.at), strings.Compare(b.source, a.source))
		})
		all = all[:most]
	}
	next := make(map[string]*atomic.Int64, len(all))
	for _, one := range all {
		last := new(atomic.Int64)
		last.Store(int64(one.at))
		next[strings.Clone(one.source)] = last
	}
	h.table.Store(&next)
}

// sourceHeard is a source and when it was heard last.
type sourceHeard struct {
	source string
	at     authz.Instant
}

// all gives every source that is remembered, by name.
func (h *heard) all() []sourceHeard {
	table := *h.table.Load()
	all := make([]sourceHeard, 0, len(table))
	for source, last := range table {
		all = append(all, sourceHeard{source, authz.Instant(last.Load())})
	}
	slices.SortFunc(all, func(a, b sourceHeard) int { return strings.Compare(a.source, b.source) })
	return all
}
