package posture

import (
	"cmp"
	"slices"
	"strings"
	"sync/atomic"

	"vigil/authz"
)

// heard is when each source was heard last: a join, of which the newest instants are kept,
// and what of it counts here. The table is replaced whole when a source joins it or leaves
// it, so readers look a name up in a map that nobody changes. The instants in it only grow.
type heard struct {
	table atomic.Pointer[map[string]*lastWord]
}

// lastWord is when one source was heard last. Writers are serialized; neither instant orders
// anything else.
type lastWord struct {
	dated  atomic.Int64 // as the log has it: the same on all replicas that applied the same
	counts atomic.Int64 // as this replica counts it: no later than it learned of it
}

// Hear notes that source was heard at an instant, as "client:siem" and the append time of a
// record that it sent; at no later instant than before it does nothing. What is applied of
// the record must be in force already: who learns that a source is alive may rely on what
// it said.
//
// now is when this replica learns of it: the source counts as heard no later than that (see
// Heard), whatever the clock of the log says. Of what the log has dated ahead the digest
// and snapshots know, and no decision.
//
// At most 4096 sources are remembered, those heard last, whatever the order in which they
// came. One that was forgotten is as one that was never heard, which permits nothing, until
// it speaks again.
//
// It makes no record another one, so what was computed from records stays current: hearing
// a source can only put off what its silence would do.
func (s *Store) Hear(source string, at, now authz.Instant) {
	if last := (*s.heard.table.Load())[source]; last != nil && last.covers(at, now) {
		return // as of most records, which come in batches
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heard.note(source, at, now, s.caps.heard)
}

// Heard gives when source was heard last, no later than this store learned of it; 0 for
// never. It takes no lock and allocates nothing. It never goes back, but for a source that
// was forgotten.
func (s *Store) Heard(source string) authz.Instant {
	if last := (*s.heard.table.Load())[source]; last != nil {
		return authz.Instant(last.counts.Load())
	}
	return 0
}

// HeardByLog is Heard as the log dates it. It is later than Heard where the clock of the log
// was ahead of this replica's: what reads the log or a snapshot again learns of it then.
func (s *Store) HeardByLog(source string) authz.Instant {
	if last := (*s.heard.table.Load())[source]; last != nil {
		return authz.Instant(last.dated.Load())
	}
	return 0
}

// covers reports whether nothing is new in being heard at an instant, as is learned now.
func (w *lastWord) covers(at, now authz.Instant) bool {
	return authz.Instant(w.dated.Load()) >= at && authz.Instant(w.counts.Load()) >= min(at, now)
}

// note is for one writer at a time.
func (h *heard) note(source string, at, now authz.Instant, most int) {
	if at <= 0 || source == "" {
		return // 0 is never
	}
	if last := (*h.table.Load())[source]; last != nil {
		last.dated.Store(max(last.dated.Load(), int64(at)))
		last.counts.Store(max(last.counts.Load(), int64(min(at, now))))
		return
	}
	h.fill(append(h.all(), sourceHeard{source, at, min(at, now)}), most)
}

// fill makes the sources that were heard last, as many as most, the whole table: by the
// log's time, so that replicas forget the same. They are distinct. The names are copied.
func (h *heard) fill(all []sourceHeard, most int) {
	if len(all) > most {
		slices.SortFunc(all, func(a, b sourceHeard) int {
			return cmp.Or(cmp.Compare(b.at, a.at), strings.Compare(b.source, a.source))
		})
		all = all[:most]
	}
	next := make(map[string]*lastWord, len(all))
	for _, one := range all {
		last := new(lastWord)
		last.dated.Store(int64(one.at))
		last.counts.Store(int64(one.counts))
		next[strings.Clone(one.source)] = last
	}
	h.table.Store(&next)
}

// sourceHeard is a source and when it was heard last.
type sourceHeard struct {
	source string
	at     authz.Instant // as the log has it
	counts authz.Instant // as this replica counts it
}

// all gives every source that is remembered, by name.
func (h *heard) all() []sourceHeard {
	table := *h.table.Load()
	all := make([]sourceHeard, 0, len(table))
	for source, last := range table {
		all = append(all, sourceHeard{source, authz.Instant(last.dated.Load()), authz.Instant(last.counts.Load())})
	}
	slices.SortFunc(all, func(a, b sourceHeard) int { return strings.Compare(a.source, b.source) })
	return all
}
