package posture

import (
	"crypto/sha256"
	"encoding/binary"
	"math/bits"

	"vigil/authz"
)

// Digest covers the facts that are unexpired at now, and when each source was heard last by
// the log's time, if that is less than authz.MaxSilence ago.
// Stores that hold the same facts and have heard the same have the same digest, whatever
// the order in which they came. It is the sum, modulo 2^256, of the SHA-256 of each
// entity's key and facts, and of each source and its instant; it tells replicas apart that
// have drifted, and is no proof against somebody who chooses facts to make sums equal.
//
// What is applied meanwhile may or may not be covered.
func (s *Store) Digest(now authz.Instant) [32]byte {
	var sum [4]uint64
	var buf []byte
	add := func() {
		h := sha256.Sum256(buf)
		var carry uint64
		for i := range sum {
			sum[i], carry = bits.Add64(sum[i], binary.LittleEndian.Uint64(h[i*8:]), carry)
		}
	}
	s.walk(func(c *cell, r *Record) bool {
		key := s.keyOf(c)
		buf = appendString(buf[:0], key.Tenant)
		buf = append(buf, byte(key.Kind))
		buf = appendString(buf, key.ID)
		empty := len(buf)
		for c := r.eff.cursor(); c.next(); {
			if !c.fact.gone(now) {
				buf = AppendFact(buf, &c.fact)
			}
		}
		if len(buf) == empty {
			return true
		}
		add()
		return true
	})
	for _, h := range s.heard.all() {
		if h.at.Add(authz.MaxSilence) <= now {
			continue // as if it had never been heard, as by who has begun since
		}
		buf = append(appendString(buf[:0], ""), byte(authz.NoKind)) // which begins no entity
		buf = binary.BigEndian.AppendUint64(appendString(buf, h.source), uint64(h.at))
		add()
	}
	var out [32]byte
	for i := range sum {
		binary.LittleEndian.PutUint64(out[i*8:], sum[i])
	}
	return out
}
