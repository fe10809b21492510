package posture

import (
	"testing"

	"pgregory.net/rapid"

	"vigil/authz"
)

// TestScratchSaysTheSameAndKeepsItToItself: of every entity that it was made of a scratch
// store keeps the same facts, also those that stand for more than a cap allows, and what is
// applied to it then does the same there as it would here, and nothing here.
func TestScratchSaysTheSameAndKeepsItToItself(t *testing.T) {
	few := &caps{stand: 2, steps: 2, sources: 2, lifts: 2, heard: 2}
	rapid.Check(t, func(t *rapid.T) {
		c := rapid.SampledFrom([]*caps{few, &defaultCaps}).Draw(t, "caps")
		s, same := newStore(4, c), newStore(4, c)
		now := authz.Instant(3)
		for range rapid.IntRange(0, 12).Draw(t, "before") {
			changes := drawSignal(t)
			s.Apply(now, changes)
			same.Apply(now, changes)
		}
		var keys []authz.Key
		s.Walk(func(key authz.Key, _ *Record) bool { keys = append(keys, key); return true })
		scratch := s.Scratch(now, keys)
		digest := s.Digest(now)
		if scratch.Digest(now) != digest {
			t.Fatal("the scratch store says something else")
		}
		for range rapid.IntRange(1, 4).Draw(t, "then") {
			changes := drawSignal(t)
			would, did := scratch.Apply(now, changes), same.Apply(now, changes)
			for i := range did {
				if would[i].Outcome != did[i].Outcome || would[i].Known != did[i].Known {
					t.Fatalf("would be %v, is %v", would[i], did[i])
				}
			}
		}
		if scratch.Digest(now) != same.Digest(now) {
			t.Fatal("another end")
		}
		if s.Digest(now) != digest {
			t.Fatal("what was applied to the scratch store shows")
		}
	})
}
