package posture

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"vigil/authz"
)

var smallCaps = caps{stand: 2, steps: 2, sources: 2, lifts: 2, heard: 2}

// TestCapsNeverGivePermission drives records far over small caps, in any order, and
// compares them with the twin, which has none: what the caps leave restricts at least
// as much at every instant, and is bounded.
func TestCapsNeverGivePermission(t *testing.T) {
	if raceEnabled {
		t.Skip("one goroutine, many steps")
	}
	for _, facet := range []Facet{Hold, Risk, Attest, Taint, ApprovalRequired, Narrow, UnreadableSignal, Waive} {
		t.Run(fmt.Sprint(facet), func(t *testing.T) { capsNeverGivePermission(t, facet) })
	}
}

func capsNeverGivePermission(t *testing.T, focus Facet) {
	rapid.Check(t, func(t *rapid.T) {
		s, plain := newStore(4, &smallCaps), twin{}
		a := agent("a")
		var now authz.Instant = 1
		sources := rapid.IntRange(1, 5).Draw(t, "sources")
		for range rapid.IntRange(1, 30).Draw(t, "facts") {
			f := drawFactOf(t, rapid.SampledFrom([]Facet{focus, focus, focus, focus, Lift}).Draw(t, "facet"))
			f.Source = fmt.Sprint("client:", rapid.IntRange(1, sources).Draw(t, "of"))
			if f.Lifts != nil {
				f.Lifts.Source = fmt.Sprint("client:", rapid.IntRange(1, sources).Draw(t, "of"))
			}
			f.Time = authz.Instant(rapid.IntRange(1, 30).Draw(t, "at"))
			f.Until = authz.Instant(rapid.IntRange(2, modelEnd).Draw(t, "end"))
			if focus == Waive && f.Facet == Lift {
				f.Time += 30 // it is dated after what it ends
			}
			changes := []Change{{a, []Fact{f}}}
			plain.apply(changes)
			s.Apply(now, changes)
			switch rapid.IntRange(0, 5).Draw(t, "between") {
			case 0:
				now = min(modelEnd, now+authz.Instant(rapid.IntRange(0, 5).Draw(t, "time")))
				s.Prune(now)
			case 1:
				s = reload(t, s, now)
			}
			for at := now + authz.Instant(len(plain[a])%4); at <= modelEnd; at += 4 {
				got, want := said(s.Get(a).At(at)), plain.at(a, at)
				if w := weaker(got, want); w != "" {
					t.Fatalf("at %d, now %d: %s\n%s\n%s", at, now, w, difference(got, want), dump(s))
				}
			}
			count := map[Facet]int{}
			for f := range s.Get(a).Facts() {
				count[f.Facet]++
			}
			for facet, n := range count {
				most := map[Facet]int{Hold: 2*2 + 1, Risk: 2*2 + 1, Attest: 2 + 1, Taint: 2 + 1, ApprovalRequired: 2 + 1,
					Narrow: 2 + 1, UnreadableSignal: 2 + 1, Waive: 2, Lift: 2}[facet]
				if n > max(most, 1) {
					t.Fatalf("%d facts of facet %d:\n%s", n, facet, dump(s))
				}
			}
		}
	})
}

// weaker says in what got restricts less than want.
func weaker(got, want saying) string {
	switch {
	case got.Registered != want.Registered || got.Class != want.Class || !slices.Equal(got.Scopes, want.Scopes):
		return "another registration"
	case got.Status < want.Status:
		return "status"
	case got.Risk < want.Risk:
		return "risk"
	case want.Standing.Tainted && !got.Standing.Tainted:
		return "taint"
	case got.Cutoff < want.Cutoff:
		return "cut-off"
	case got.Attested == authz.AttestPassed && (want.Attested != authz.AttestPassed || got.AttestedAt > want.AttestedAt),
		want.Attested == authz.AttestFailed && got.Attested != authz.AttestFailed:
		return "attestation"
	case got.Waived && !want.Waived:
		return "waiver"
	case want.Narrowed && !got.Narrowed:
		return "narrowing"
	}
	if got.Narrowed && want.Narrowed {
		for _, scope := range got.Left {
			if !slices.Contains(want.Left, scope) {
				return "scopes left"
			}
		}
	}
	if !slices.Equal(got.ApprovalFor, []string{"*"}) {
		for _, action := range want.ApprovalFor {
			if !slices.Contains(got.ApprovalFor, action) {
				return "approval"
			}
		}
	}
	return ""
}

// TestOverflowOfStandingFactsDoesNotDependOnOrder: facts that all stand may overflow in
// any order and reach the same digest, as long as none that overflowed is lifted.
func TestOverflowOfStandingFactsDoesNotDependOnOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		facts := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Fact {
			f := drawFact(t)
			f.Facet = rapid.SampledFrom([]Facet{Taint, Narrow, ApprovalRequired, UnreadableSignal, Waive}).Draw(t, "standing")
			return f
		}), 1, 20).Draw(t, "facts")
		end := authz.Instant(rapid.IntRange(1, modelEnd).Draw(t, "end"))
		run := func(facts []Fact) *Store {
			s := newStore(4, &smallCaps)
			now := authz.Instant(1)
			for _, f := range facts {
				if now < end && rapid.Bool().Draw(t, "prune") {
					now++
					s.Prune(now)
				}
				s.Apply(now, []Change{{agent("a"), []Fact{f}}})
			}
			return s
		}
		straight := run(facts)
		other := run(rapid.Permutation(slices.Concat(facts, facts)).Draw(t, "order"))
		if straight.Digest(end) != other.Digest(end) {
			t.Fatalf("at %d\n%s\nand\n%s", end, dump(straight), dump(other))
		}
	})
}

// TestAFloodStaysBounded sends far more than the real caps allow and looks at what is
// kept and what it says.
func TestAFloodStaysBounded(t *testing.T) {
	a := agent("a")
	flood := func(n int, f func(i int) Fact) *Effective {
		s := newStore(4, &defaultCaps)
		for i := 0; i < n; i += 25 {
			facts := make([]Fact, 25)
			for j := range facts {
				facts[j] = f(i + j)
			}
			s.Apply(1, []Change{{a, facts}})
		}
		r := s.Get(a)
		kept := 0
		for range r.Facts() {
			kept++
		}
		if kept > 64*64+1 || n > 1024 && kept > 1024 {
			t.Errorf("%d facts kept of %d", kept, n)
		}
		return r.At(1)
	}
	number := func(i int) string { return fmt.Sprint(i) }
	if e := flood(200, func(i int) Fact {
		return Fact{Facet: Narrow, Source: "client:a", ID: number(i), Time: 1, Until: authz.Instant(10 + i), Scopes: []string{"r"}}
	}); !e.Narrowed || len(e.Left) != 0 {
		t.Error("narrowings that overflow leave scopes")
	}
	if e := flood(200, func(i int) Fact {
		return Fact{Facet: Risk, Source: "client:a", ID: number(i), Time: authz.Instant(i), Until: authz.Instant(1000 - i), Risk: 10}
	}); e.Risk != 10 || len(e.speakers(Risk)) != 1 {
		t.Error("a staircase that overflows says something else on top:", e.Risk)
	}
	if e := flood(200, func(i int) Fact {
		return Fact{Facet: Hold, Source: "client:" + number(i), ID: "q", Time: 1, Held: true}
	}); e.Status != authz.Quarantined || len(e.Holds()) != 65 {
		t.Error("holds of many sources:", e.Status, len(e.Holds()))
	}
	if e := flood(200, func(i int) Fact {
		return Fact{Facet: Hold, Source: "client:" + number(i), ID: "q", Time: 1}
	}); e.Status != authz.Active {
		t.Error("releases that overflow hold")
	}
	if e := flood(1500, func(i int) Fact {
		return Fact{Facet: Lift, Source: "client:a", ID: number(i), Time: authz.Instant(i), Lifts: &Target{Taint, "client:a", number(i)}}
	}); e.Tainted {
		t.Error("lifts taint")
	}
}

// TestASnapshotIsJoinedUnderTheCapsOfItsReader reads what was kept under wide caps into
// a store with narrow ones.
func TestASnapshotIsJoinedUnderTheCapsOfItsReader(t *testing.T) {
	a := agent("a")
	wide, plain := newStore(4, &defaultCaps), twin{}
	narrow := newStore(4, &smallCaps)
	for i := range 3 { // one more than stands: as many facts before as after
		changes := []Change{{a, []Fact{{
			Facet: Narrow, Source: "client:a", ID: fmt.Sprint(i), Time: 1, Until: authz.Instant(10 + i), Scopes: []string{"r", "s"},
		}}}}
		plain.apply(changes)
		wide.Apply(1, changes)
		narrow.Apply(1, changes)
	}
	var b bytes.Buffer
	if err := wide.WriteSnapshot(&b, 1); err != nil {
		t.Fatal(err)
	}
	read := newStore(4, &smallCaps)
	if err := read.restore(&b, 1); err != nil {
		t.Fatal(err)
	}
	if w := weaker(said(read.Get(a).At(1)), plain.at(a, 1)); w != "" {
		t.Error(w)
	}
	if read.Digest(1) != narrow.Digest(1) {
		t.Errorf("%s\nwant\n%s", dump(read), dump(narrow))
	}
}
