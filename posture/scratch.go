package posture

import (
	"slices"

	"vigil/authz"
)

// Scratch gives a small store of its own that knows of keys what s knows, and has heard the
// sources that s has heard, so that it can
// be seen what facts would do: nothing that is applied to it shows in s. Each record is
// as it was at some instant during the call, not all at one. now is that of Apply. What
// Scratch gives shares no memory that s changes.
func (s *Store) Scratch(now authz.Instant, keys []authz.Key) *Store {
	scratch := newStore(scratchBirthBits, s.caps)
	scratch.PublishAsOf(s.AsOf())
	for _, key := range keys {
		if facts := slices.Collect(s.Get(key).Facts()); len(facts) > 0 {
			// Facts of a record are in canonical form, and joining is idempotent.
			scratch.Apply(now, []Change{{Key: key, Facts: facts}})
		}
	}
	scratch.heard.fill(s.heard.all(), s.caps.heard)
	return scratch
}

// scratchBirthBits is small: counters that collide cost a reader another look.
const scratchBirthBits = 6
