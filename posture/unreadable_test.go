package posture

import (
	"fmt"
	"strings"
	"testing"

	"vigil/authz"
)

func unreadableFact(id, record string) Fact {
	return Fact{Facet: UnreadableSignal, Source: "client:soar", ID: id, Time: 1, Record: record}
}

// TestWhatIsReadAtLastTakesThePlaceOfTheRecord: and of nothing else, though it has the same
// source and id; afterwards the store is as if the record could have been read at once.
func TestWhatIsReadAtLastTakesThePlaceOfTheRecord(t *testing.T) {
	a, b := agent("a"), agent("b")
	revoke := []Fact{{Facet: Revoke, Source: "client:soar", ID: "1", Time: 1}}
	read := []Change{{a, revoke}, {b, revoke}}
	s := NewStore()
	s.Apply(1, []Change{{a, []Fact{unreadableFact("1", "r")}}})
	for _, res := range s.Replace(1, "r", read) {
		if res.Outcome != Applied {
			t.Errorf("%v: %v", res.Key, res.Outcome)
		}
	}
	atOnce := NewStore()
	atOnce.Apply(1, read)
	if s.Digest(1) != atOnce.Digest(1) || s.Get(a).At(1).Status != authz.Revoked {
		t.Errorf("a is %v, and the digests differ: %v", s.Get(a).At(1).Status, s.Digest(1) != atOnce.Digest(1))
	}
	s.Apply(1, []Change{{a, []Fact{unreadableFact("1", "another"), unreadableFact("1", "")}}})
	s.Replace(1, "r", read)
	if n := len(s.Get(a).At(1).all(UnreadableSignal)); n != 2 {
		t.Errorf("%d of 2 others are left", n)
	}
	s.Replace(1, "another", []Change{{a, []Fact{{Facet: IssuedBefore}}}}) // says nothing
	if n := len(s.Get(a).At(1).all(UnreadableSignal)); n != 2 {
		t.Errorf("a signal that says nothing ended the hold: %d are left", n)
	}
}

// TestARecordIsBounded: one that is too long is left out, and the hold stands.
func TestARecordIsBounded(t *testing.T) {
	s := NewStore()
	s.Apply(1, []Change{{agent("a"), []Fact{unreadableFact("1", strings.Repeat("r", MaxRecord+1))}}})
	if by := s.Get(agent("a")).At(1).RevokedBy(); by == nil || by.Record != "" {
		t.Errorf("%+v", by)
	}
}

// TestAPanicLeavesAllOrNothing injects one between any two steps of a change of several
// entities, births among them. Nothing waits for a commit that never comes, and what is
// applied afterwards is in force.
func TestAPanicLeavesAllOrNothing(t *testing.T) {
	keys := []authz.Key{agent("there"), agent("new"), agent("newer")}
	changes := func(f Fact) (all []Change) {
		for _, key := range keys {
			all = append(all, Change{key, []Fact{f}})
		}
		return all
	}
	for panicAt := 1; ; panicAt++ {
		s := NewStore()
		s.Apply(1, []Change{{keys[0], []Fact{risk(1, 10)}}})
		var v View
		v.Reset(s)
		for _, key := range keys {
			v.Read(key)
		}
		before, steps := stampOf(&v), 0
		s.paused = func() {
			if steps++; steps == panicAt {
				panic("a fault")
			}
		}
		panicked := func() (did bool) {
			defer func() { did = recover() != nil }()
			s.Apply(1, changes(Fact{Facet: Taint, Source: "client:a", ID: "t", Time: 1}))
			return false
		}()
		s.paused = nil
		if !panicked {
			if panicAt < 5 {
				t.Fatalf("only %d steps", panicAt)
			}
			return
		}
		tainted := 0
		for _, key := range keys {
			if s.Get(key).At(1).Tainted {
				tainted++
			}
			if r := s.Get(key); r != nil && r.pending.Load() != nil {
				t.Errorf("panic %d: %v waits for its commit", panicAt, key)
			}
		}
		if tainted != 0 && tainted != len(keys) {
			t.Errorf("panic %d: %d of %d are tainted", panicAt, tainted, len(keys))
		}
		if n := s.Len()[authz.KindAgent]; n != 1+tainted*2/3 {
			t.Errorf("panic %d: %d entities are counted", panicAt, n)
		}
		s.Apply(1, changes(Fact{Facet: Revoke, Source: "client:a", ID: "r", Time: 1}))
		for _, key := range keys {
			if s.Get(key).At(1).Status != authz.Revoked {
				t.Errorf("panic %d: %v is not revoked", panicAt, key)
			}
		}
		if n := s.Len()[authz.KindAgent]; n != 3 {
			t.Errorf("panic %d: %d entities are counted in the end", panicAt, n)
		}
		if before.Current() || v.Confirm() {
			t.Errorf("panic %d: what was read before still counts as current", panicAt)
		}
		var back strings.Builder
		if err := s.WriteSnapshot(&back, 1); err != nil {
			t.Error(err)
		}
		if again, err := ReadSnapshot(strings.NewReader(back.String()), 1); err != nil || again.Digest(1) != s.Digest(1) {
			t.Errorf("panic %d: %v", panicAt, fmt.Sprint(err))
		}
	}
}
